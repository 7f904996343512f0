"""Images without an up: turned upside down, and by quarters, as satellites and microscopes see.

Both run on the device and are functions of the seed of each image.
"""

import numpy as np
import tensorflow as tf

from .sampling import uniform

_VERTICAL, _QUARTERS = range(600, 602)


def flip_vertically(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """Turns half of the images [N, H, W, C] upside down, each by its own seed of [N, 2]."""
  return tf.where(uniform(seeds, _VERTICAL) < 0.5, tf.reverse(images, [1]), images)


def rotate_by_quarters(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """Rotates images [N, S, S, C] by 0, 90, 180 or 270 degrees, each by its own seed of [N, 2].

  Raises:
    ValueError: they are not square.
  """
  if images.shape[1] != images.shape[2]:
    raise ValueError(f'images are {images.shape[1]} x {images.shape[2]}; expected squares')
  quarters = tf.cast(4.0 * uniform(seeds, _QUARTERS), tf.int32)
  side, channels = images.shape[1], images.shape[3]
  places = np.arange(side * side).reshape(side, side)
  # A transposition of uint8 would have TensorFlow complain of oneDNN on stderr.
  turned = np.stack([np.rot90(places, count).ravel() for count in range(4)])
  indices = tf.gather(tf.constant(turned, tf.int32), tf.reshape(quarters, (-1,)))
  pixels = tf.gather(tf.reshape(images, (-1, side * side, channels)), indices, batch_dims=1)
  return tf.reshape(pixels, (-1, side, side, channels))
