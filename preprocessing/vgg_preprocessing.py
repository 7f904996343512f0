"""VGG preprocessing, as TF-Slim's: what its ResNet-v1 and VGG checkpoints were trained on.

Training resizes the shorter side to a random length, cuts a random window out, mirrors half of the
images and subtracts the mean colour of ImageNet; evaluation cuts out the centre. Slim's lengths are
those for windows of 224 pixels; for others they grow or shrink with the window.
"""

import tensorflow as tf

from . import inception_preprocessing
from .inception_preprocessing import Distortion, decode, random_flip
from .normalization import VGG, Normalization
from .sampling import fold_in

__all__ = ['decode', 'eval_view', 'preprocess_image', 'train_device', 'train_host']

_SIDE, _TOP, _LEFT = range(300, 303)
_SIDES, _WINDOW = (256, 512), 224  # shorter sides in training, for windows of so many pixels
_EVAL_SIDE = 256


def train_host(
  encoded: tf.Tensor,
  height: int,
  width: int,
  bbox: tf.Tensor,
  seed: tf.Tensor,
  distortion: Distortion,
  channels: int = 3,
) -> tf.Tensor:
  """Decodes and resizes an image and cuts a random window out: uint8 [height, width, channels].

  Arguments as `inception_preprocessing.train_host`; boxes and areas do not matter here.
  """
  del bbox, distortion
  sides = [round(side * max(height, width) / _WINDOW) for side in _SIDES]
  return _random_window(decode(encoded, channels), height, width, seed, *sides)


def _random_window(image, height, width, seed, least_side, greatest_side):
  def sample(number: int, low: int | tf.Tensor, high: int | tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], fold_in(seed, number), low, high + 1, tf.int32)

  image = _resize_shorter_side(image, sample(_SIDE, least_side, greatest_side))
  room = tf.shape(image)[:2] - [height, width]
  top, left = sample(_TOP, 0, room[0]), sample(_LEFT, 0, room[1])
  window = image[top : top + height, left : left + width]
  return tf.ensure_shape(tf.cast(tf.round(window), tf.uint8), [height, width, image.shape[2]])


def train_device(
  images: tf.Tensor,
  seeds: tf.Tensor,
  distortion: Distortion,
  dtype: tf.DType = tf.float32,
  normalization: Normalization = VGG,
) -> tf.Tensor:
  """Mirrors and normalizes a batch; arguments as `inception_preprocessing.train_device`."""
  if distortion.random_flip:
    images = random_flip(images, seeds)
  return normalization.normalize(images, dtype)


def eval_view(
  image: tf.Tensor,
  height: int,
  width: int,
  crop_fraction: float,
  normalization: Normalization = VGG,
) -> tf.Tensor:
  """Resizes the shorter side to max(height, width) / crop_fraction and cuts out the centre.

  Args:
    image: [h, w, C], uint8 or float in 0..255.
    height: of the result, float32 [height, width, C].
    width: likewise.
    crop_fraction: 0.875 makes slim's 256 of 224.
    normalization: of the result.
  """
  side = round(max(height, width) / crop_fraction)
  return _central_window(image, height, width, side, normalization)


def _central_window(image, height, width, side, normalization):
  image = _resize_shorter_side(image, side)
  top, left = tf.unstack((tf.shape(image)[:2] - [height, width]) // 2)
  window = image[top : top + height, left : left + width]
  return normalization.normalize(tf.ensure_shape(window, [height, width, image.shape[2]]))


def _resize_shorter_side(image: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
  """float32, by TensorFlow 1's bilinear kernel; the longer side is rounded."""
  size = tf.cast(tf.shape(image)[:2], tf.float32)
  size = tf.math.rint(size * (tf.cast(side, tf.float32) / tf.reduce_min(size)))
  return tf.compat.v1.image.resize(tf.cast(image, tf.float32), tf.cast(size, tf.int32))


def preprocess_image(
  image: tf.Tensor,
  output_height: int,
  output_width: int,
  is_training: bool = False,
  resize_side_min: int = _SIDES[0],
  resize_side_max: int = _SIDES[1],
  seed: tf.Tensor | None = None,
) -> tf.Tensor:
  """Slim's entry: preprocesses one decoded image for training or evaluation.

  Args:
    image: [height, width, 3], uint8 or float in 0..255.
    output_height: of the result.
    output_width: likewise.
    is_training: a random window, mirrored or not, rather than the centre.
    resize_side_min: least shorter side in training; the shorter side in evaluation.
    resize_side_max: greatest shorter side in training.
    seed: [2] int32; None takes one from TensorFlow's global generator.

  Returns:
    float32 [output_height, output_width, 3], the mean colour subtracted.
  """
  if not is_training:
    return _central_window(image, output_height, output_width, resize_side_min, VGG)
  if seed is None:
    seed = inception_preprocessing.random_seed()
  window = _random_window(
    image, output_height, output_width, seed, resize_side_min, resize_side_max
  )
  return train_device(window[tf.newaxis], seed[tf.newaxis], Distortion())[0]
