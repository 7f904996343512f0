"""Looking for what is wrong with a set of images before a net is trained on it."""
