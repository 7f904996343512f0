"""How the network of FID is given images, as the programs that people compare with do it.

The whole image becomes a square, without regard to its aspect ratio. How it is resized changes FID
(arXiv:2104.11222, section 3): statistics are compared with those of the same way.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from slim_inception.evaluate import views
from slim_inception.evaluate.views import ViewSpec
from slim_inception.preprocessing import inception_preprocessing, normalization
from slim_inception.preprocessing.preprocessing_factory import INCEPTION_2015, Preprocessing

SIDE = 299  # pixels


def _legacy_tensorflow(image: tf.Tensor, side: int) -> tf.Tensor:
  """The graph's own: bilinear without half-pixel centres and without antialiasing."""
  images = tf.cast(image, tf.float32)[tf.newaxis]
  return tf.compat.v1.image.resize_bilinear(images, (side, side))[0]


def _legacy_pytorch(image: tf.Tensor, side: int) -> tf.Tensor:
  """pytorch-fid's: bilinear with half-pixel centres, without antialiasing."""
  return tf.image.resize(tf.cast(image, tf.float32), (side, side))


def _clean(image: tf.Tensor, side: int) -> tf.Tensor:
  """clean-fid's: Pillow's antialiased bicubic on floats, a channel at a time, clipped to 0..255."""
  resized = tf.image.resize(tf.cast(image, tf.float32), (side, side), 'bicubic', antialias=True)
  return tf.clip_by_value(resized, 0.0, 255.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resizing(Preprocessing):
  """Images decoded as Pillow decodes them, and resized in a named way.

  Attributes:
    resize: uint8 [h, w, C] and a side to float32 [side, side, C] in 0..255.
  """

  resize: Callable[[tf.Tensor, int], tf.Tensor]

  def decode(self, encoded: tf.Tensor, accurate: bool = True) -> tf.Tensor:
    del accurate  # always: what it is compared with was decoded by Pillow
    return super().decode(encoded, accurate=True)

  def eval_view(
    self, image: tf.Tensor, height: int, width: int, crop_fraction: float | None = None
  ) -> tf.Tensor:
    del width, crop_fraction  # a square of the whole image
    resized = tf.ensure_shape(self.resize(image, height), (height, height, self.channels))
    return self.normalize(resized)


def _named(name: str, resize: Callable, values: normalization.Normalization) -> Resizing:
  name = f'{INCEPTION_2015.name}_{name}'  # a variant of that preprocessing, as slim names them
  return Resizing(name, inception_preprocessing, values, crop_fraction=1.0, resize=resize)


# clean-fid gives its network what the graph is given, pytorch-fid [-1, 1].
RESIZINGS = {
  name: _named(name, resize, values)
  for name, resize, values in (
    ('legacy_pytorch', _legacy_pytorch, normalization.INCEPTION),
    ('legacy_tensorflow', _legacy_tensorflow, normalization.INCEPTION_2015),
    ('clean', _clean, normalization.INCEPTION_2015),
  )
}


def make_spec(name: str) -> ViewSpec:
  """The one view that the network has of an image, resized as `RESIZINGS[name]`."""
  return views.make_spec(RESIZINGS[name], SIDE)
