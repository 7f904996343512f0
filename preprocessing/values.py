"""What arguments of the preprocessing may be, for who needs no more of it: no TensorFlow."""

CHANNELS = (1, 3)  # of decoded images: grey, RGB
INTERPOLATIONS = ('bilinear', 'bicubic')
