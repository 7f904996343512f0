"""From pixels to what a net is given, and back: data that whoever needs it shares."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_WHITE = 255.0
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2


@dataclasses.dataclass(frozen=True)
class Normalization:
  """A net is given (pixel - mean) / std.

  Attributes:
    mean: of pixels in 0..255; one for all channels, or one for each of red, green and blue.
    std: likewise.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...] = (1.0,)

  def normalize(
    self, images: tf.Tensor, dtype: tf.DType = tf.float32, white: float = _WHITE
  ) -> tf.Tensor:
    """What a net is given, of type `dtype`; the arithmetic is float32.

    Args:
      images: [..., C] in 0..`white`, uint8 or float.
      dtype: of the result.
      white: 255, or 1 of images in [0, 1].
    """
    std, mean = np.array(self.std), np.array(self.mean)
    images = tf.cast(images, tf.float32) / _constant(std * white / _WHITE) - _constant(mean / std)
    return tf.cast(images, dtype)

  def denormalize(self, images: tf.Tensor) -> tf.Tensor:
    """The pixels, uint8, of images of any float type as a net is given them."""
    return tf.saturate_cast(tf.round(self.to_pixels(images)), tf.uint8)

  def to_pixels(self, images: tf.Tensor) -> tf.Tensor:
    """As `denormalize`, float32 that is neither rounded nor clipped to 0..255."""
    std, mean = np.array(self.std), np.array(self.mean)
    return tf.cast(images, tf.float32) * _constant(std) + _constant(mean)

  @property
  def value_range(self) -> tuple[np.ndarray, np.ndarray]:
    """What black and white become, float32 of one value, or one for each channel."""
    low, high = ((pixel - np.array(self.mean)) / np.array(self.std) for pixel in (0, _WHITE))
    return low.astype(np.float32), high.astype(np.float32)

  @property
  def constants(self) -> dict[str, tuple[float, ...] | None]:
    """'mean' and 'std' for programs that know no others; None where these are each image's own."""
    return {'mean': self.mean, 'std': self.std}

  def of_channel(self, channel: int) -> 'Normalization':
    """The normalization of one channel alone."""
    mean, std = (
      values if len(values) == 1 else values[channel : channel + 1]
      for values in (self.mean, self.std)
    )
    return Normalization(mean, std)

  def of_channels(self, channels: int) -> 'Normalization':
    """The normalization of images of 3 channels or 1, whose mean and std are the luma of three."""
    if channels == 3:
      return self
    mean, std = (v if len(v) == 1 else (float(_LUMA @ v),) for v in (self.mean, self.std))
    return Normalization(mean, std)

  def __str__(self) -> str:
    std = '' if self.std == (1.0,) else f' / {_text(self.std)}'
    return (f'(pixel - {_text(self.mean)})' if std else f'pixel - {_text(self.mean)}') + std


@dataclasses.dataclass(frozen=True)
class Whitening(Normalization):
  """A net is given (pixel - m) / s with mean and deviation of each image, of all its channels.

  As facenet's prewhiten and tf.image.per_image_standardization s is at least 1 over the root of the
  number of values. `mean` and `std` stand for those of an image where that is not at hand: they
  say what black and white become, and what `denormalize` gives, which can be no more than similar.
  """

  def normalize(
    self, images: tf.Tensor, dtype: tf.DType = tf.float32, white: float = _WHITE
  ) -> tf.Tensor:
    """As `Normalization.normalize`, of whole images, [..., h, w, C]."""
    images = tf.cast(images, tf.float32) * np.float32(_WHITE / white)
    return tf.cast(tf.image.per_image_standardization(images), dtype)

  def of_channel(self, channel: int) -> Normalization:
    """Raises ValueError: no channel has a normalization of its own."""
    raise ValueError(f'{self} is of whole images, not of channel {channel} alone')

  def of_channels(self, channels: int) -> 'Whitening':
    """Itself: mean and deviation are those of the image, grey or RGB."""
    return self

  @property
  def constants(self) -> dict[str, tuple[float, ...] | None]:
    """Of 'mean' and 'std', which are each image's own."""
    return {'mean': None, 'std': None}

  def __str__(self) -> str:
    return '(pixel - mean) / deviation of the image'


def _constant(values: np.ndarray) -> np.ndarray:
  """float32; a scalar, with which TensorFlow is faster, where there is one value."""
  return values.astype(np.float32).reshape(() if len(values) == 1 else values.shape)


def _text(values: Sequence[float]) -> str:
  texts = ', '.join(f'{value:.7g}' for value in values)
  return texts if len(values) == 1 else f'({texts})'


INCEPTION = Normalization((127.5,), (127.5,))  # [-1, 1]
ZERO_TO_ONE = Normalization((0.0,), (255.0,))
VGG = Normalization((123.68, 116.78, 103.94))  # slim's, of ImageNet
TORCHVISION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # of ImageNet too
INCEPTION_2015 = Normalization((128.0,), (128.0,))  # of the graph of December 2015
FACENET = Normalization((127.5,), (128.0,))  # of its models of 2018; of those of 2017:
FACENET_WHITENED = Whitening((127.5,), (64.0,))
