"""`slim-inception average`: one checkpoint of the averaged weights of several."""
