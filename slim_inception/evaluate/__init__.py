"""What a checkpoint is worth: right answers counted, pictures of them."""
