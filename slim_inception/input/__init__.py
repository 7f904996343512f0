"""Records to batches of images: order, decoding, the tf.data service, noise."""
