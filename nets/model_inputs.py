"""What a model is called with: images and `training`, checked, with the hint that each needs."""

from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

# The nets' images are in [-1, 1]; standardized ones of other libraries reach 2.7. 0 to 255 are a
# hundred times more.
_LARGEST = 10.0


def as_images(images: Any, channels: int, preprocessing: str) -> tf.Tensor:
  """The images as a tensor [N, H, W, C] of a type that batch norm knows, C known.

  Args:
    images: [N, H, W, C], any float type; N, H and W may be unknown. Where the number of dimensions
      or C is unknown, it is checked when they are there.
    channels: C.
    preprocessing: what images the net is for, `Net.preprocessing`.

  Raises:
    ValueError: they are of another shape or type.
  """
  images = tf.convert_to_tensor(images)
  if not images.dtype.is_floating:
    raise ValueError(f'The images are {images.dtype.name}; {_type_hint(images, preprocessing)}')
  rank = images.shape.rank
  if rank is not None and (rank != 4 or images.shape[3] not in (None, channels)):
    raise ValueError(
      f'The images have shape {images.shape}; this net takes [N, H, W, {channels}]: '
      f'{_shape_hint(images.shape, channels)}'
    )
  if rank is None or images.shape[3] is None:
    shape = tf.shape(images)
    is_right = tf.logical_and(tf.equal(tf.size(shape), 4), tf.equal(shape[-1], channels))
    text = f'This net takes images [N, H, W, {channels}]; these have shape'
    with tf.control_dependencies([tf.debugging.Assert(is_right, [text, shape])]):
      images = tf.ensure_shape(images, (None, None, None, channels))
  return tf.cast(images, tf.float32) if images.dtype == tf.float64 else images


def _type_hint(images: tf.Tensor, preprocessing: str) -> str:
  if images.dtype == tf.string:
    return 'files must be decoded, e.g. by tf.io.decode_jpeg'
  if preprocessing != 'inception':
    return f'the net takes floats: the preprocessing {preprocessing!r} makes them'
  return 'the net takes floats in [-1, 1]: tf.cast(images, tf.float32) / 127.5 - 1'


def _shape_hint(shape: tf.TensorShape, channels: int) -> str:
  if shape.rank == 3 and shape[2] == channels:
    return 'one image needs a batch around it, images[tf.newaxis]'
  if shape.rank == 4 and shape[1] == channels:
    return 'channels come last, tf.transpose(images, (0, 2, 3, 1))'
  if shape.rank == 3 and shape[0] == channels:
    return 'channels come last in a batch, tf.transpose(image, (1, 2, 0))[tf.newaxis]'
  if shape.rank == 3 and channels == 1:
    return 'grey images need their channel, images[..., tf.newaxis]'
  if shape.rank == 4:
    return f'create_model(..., input_channels={shape[3]}) takes these'
  return 'a batch, height, width and channels'


def warn_of_range(images: tf.Tensor, preprocessing: str) -> None:
  """Logs a warning of images that seem to be in [0, 255] where the net takes [-1, 1].

  Only a warning: what is no photograph may have other values. It costs a pass over the images.
  """
  largest = float(tf.reduce_max(tf.abs(tf.cast(images, tf.float32)))) if tf.size(images) else 0.0
  if preprocessing == 'inception' and largest > _LARGEST:
    logging.warning(
      'The images have values up to %g; the net is for values in [-1, 1]: images / 127.5 - 1',
      largest,
    )


def as_training(training: Any) -> bool | tf.Tensor:
  """`training` as a bool, or the bool tensor that it is.

  Raises:
    ValueError: it is neither.
  """
  if tf.is_tensor(training):
    if training.dtype == tf.bool and training.shape.rank in (None, 0):
      return training
  elif training is None or (isinstance(training, int | np.bool_) and training in (0, 1)):
    return bool(training)
  raise ValueError(f'training is {training!r}; it must be True, False or a bool tensor of no shape')
