"""What a checkpoint is worth: right answers counted, images of them."""
