"""facenet's preprocessing of faces, which other programs have found, cut out and aligned.

Training cuts a random window out and mirrors half of the images; evaluation takes the whole image.
facenet stores faces of 182 pixels a side for windows of 160: all images are resized to that ratio,
in training, or to the window, without regard to their aspect ratio. Where they have that size
already nothing changes but the values of pixels.
"""

import tensorflow as tf

from . import inception_preprocessing
from .inception_preprocessing import Distortion, decode, random_flip
from .normalization import FACENET, Normalization
from .sampling import fold_in

__all__ = ['decode', 'eval_view', 'preprocess_image', 'train_device', 'train_host']

_TOP, _LEFT = range(400, 402)
_STORED, _WINDOW = 182, 160  # pixels a side of stored faces, and of windows in training


def train_host(
  encoded: tf.Tensor,
  height: int,
  width: int,
  bbox: tf.Tensor,
  seed: tf.Tensor,
  distortion: Distortion,
  channels: int = 3,
) -> tf.Tensor:
  """Decodes and resizes a face and cuts a random window out: uint8 [height, width, channels].

  Arguments as `inception_preprocessing.train_host`; boxes and areas do not matter here.
  """
  del bbox, distortion
  return _random_window(decode(encoded, channels), height, width, seed)


def _random_window(image: tf.Tensor, height: int, width: int, seed: tf.Tensor) -> tf.Tensor:
  sides = [round(side * _STORED / _WINDOW) for side in (height, width)]
  resized = tf.compat.v1.image.resize(tf.cast(image, tf.float32), sides)
  top, left = (
    tf.random.stateless_uniform([], fold_in(seed, number), 0, side - window + 1, tf.int32)
    for number, side, window in zip((_TOP, _LEFT), sides, (height, width), strict=True)
  )
  window = resized[top : top + height, left : left + width]
  return tf.ensure_shape(tf.cast(tf.round(window), tf.uint8), [height, width, image.shape[2]])


def train_device(
  images: tf.Tensor,
  seeds: tf.Tensor,
  distortion: Distortion,
  dtype: tf.DType = tf.float32,
  normalization: Normalization = FACENET,
) -> tf.Tensor:
  """Mirrors and normalizes a batch; arguments as `inception_preprocessing.train_device`."""
  if distortion.random_flip:
    images = random_flip(images, seeds)
  return normalization.normalize(images, dtype)


def eval_view(
  image: tf.Tensor,
  height: int,
  width: int,
  crop_fraction: float = 1.0,
  normalization: Normalization = FACENET,
) -> tf.Tensor:
  """Crops the centre and resizes it; arguments as `inception_preprocessing.eval_view`."""
  return inception_preprocessing.eval_view(image, height, width, crop_fraction, normalization)


def preprocess_image(
  image: tf.Tensor,
  output_height: int,
  output_width: int,
  is_training: bool = False,
  seed: tf.Tensor | None = None,
) -> tf.Tensor:
  """Preprocesses one decoded image for training or evaluation, in the form of slim's entries.

  Args:
    image: [height, width, 3], uint8.
    output_height: of the result.
    output_width: likewise.
    is_training: a random window, mirrored or not, rather than the whole image.
    seed: [2] int32; None takes one from TensorFlow's global generator.

  Returns:
    float32 [output_height, output_width, 3], (pixel - 127.5) / 128.
  """
  if not is_training:
    return eval_view(image, output_height, output_width)
  if seed is None:
    seed = inception_preprocessing.random_seed()
  window = _random_window(image, output_height, output_width, seed)
  return train_device(window[tf.newaxis], seed[tf.newaxis], Distortion())[0]
