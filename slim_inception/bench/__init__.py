"""How fast it is: the measurements of slim-inception benchmark."""
