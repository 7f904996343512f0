"""From the file of a picture to what a net takes: pure functions."""
