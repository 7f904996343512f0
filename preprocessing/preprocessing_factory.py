"""Preprocessing by name: one entry owns training, evaluation and the values that a net is given."""

import dataclasses
import functools
from collections.abc import Callable
from types import ModuleType

import tensorflow as tf

from . import facenet_preprocessing, inception_preprocessing, normalization, vgg_preprocessing
from .inception_preprocessing import Distortion
from .normalization import Normalization

# Families that branch by tf.cond alone. The input pipeline does without AutoGraph, which is four
# fifths of its start; functions of other families have it all the same.
_WITHOUT_AUTOGRAPH = (facenet_preprocessing, inception_preprocessing, vgg_preprocessing)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """One way from the files of images to what a net is given, for training and for evaluation.

  Attributes:
    name: its key in `PREPROCESSING`.
    family: the module with `decode`, `train_host`, `train_device`, `eval_view` and
      `preprocess_image`, which `inception_preprocessing` documents.
    normalization: what the net is given of pixels.
    keeps_aspect_ratio: whether the single view of evaluation is cut out of the resized image;
      otherwise what is cut out of the image is resized, without regard to its aspect ratio.
    crop_fraction: of evaluation: the share of a side, or of the shorter side, that is seen.
    interpolation: of evaluation by other views than slim's.
    channels: that images are decoded to: 3 for RGB, 1 for grey.
  """

  name: str
  family: ModuleType
  normalization: Normalization
  keeps_aspect_ratio: bool = False
  crop_fraction: float = 0.875
  interpolation: str = 'bilinear'
  channels: int = 3

  def decode(self, encoded: tf.Tensor, accurate: bool = False) -> tf.Tensor:
    """The file of an image to uint8 [h, w, channels]; `accurate`: JPEGs as Pillow decodes them."""
    return self._function('decode')(encoded, self.channels, accurate)

  def train_host(
    self,
    encoded: tf.Tensor,
    height: int,
    width: int,
    bbox: tf.Tensor,
    seed: tf.Tensor,
    distortion: Distortion,
  ) -> tf.Tensor:
    """The file of a training image to uint8 [height, width, channels], on the host.

    Arguments are those of `inception_preprocessing.train_host`.
    """
    train_host = self._function('train_host')
    return train_host(encoded, height, width, bbox, seed, distortion, self.channels)

  def train_device(
    self, images: tf.Tensor, seeds: tf.Tensor, distortion: Distortion, dtype: tf.DType = tf.float32
  ) -> tf.Tensor:
    """A batch [N, h, w, C] uint8 from `train_host`, with seeds [N, 2], to what the net is given."""
    return self.family.train_device(images, seeds, distortion, dtype, self.normalization)

  def eval_view(
    self, image: tf.Tensor, height: int, width: int, crop_fraction: float | None = None
  ) -> tf.Tensor:
    """Slim's single view of a decoded image, [height, width, C] float32 as the net is given it."""
    fraction = crop_fraction or self.crop_fraction
    return self._function('eval_view')(image, height, width, fraction, self.normalization)

  def eval_image(self, encoded: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Slim's single view of the file of an image."""
    return self.eval_view(self.decode(encoded), height, width)

  def _function(self, name: str) -> Callable[..., tf.Tensor]:
    """A function of the family, by which Python's branches on tensors are TensorFlow's."""
    function = getattr(self.family, name)
    if self.family in _WITHOUT_AUTOGRAPH or tf.executing_eagerly():
      return function
    return tf.function(function)

  def normalize(self, images: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """What the net is given of pixels in 0..255."""
    return self.normalization.normalize(images, dtype)

  def denormalize(self, images: tf.Tensor) -> tf.Tensor:
    """The pixels, uint8, of what the net is given."""
    return self.normalization.denormalize(images)

  def describe(self, image_size: int) -> str:
    """Slim's single view of `image_size` pixels a side in words."""
    square = f'{image_size} x {image_size}'
    resized = 'bilinear as TF1 (no half pixels, not antialiased)'
    if self.keeps_aspect_ratio:
      side = round(image_size / self.crop_fraction)
      view = f'the shorter side resized to {side}, {resized}; the central {square}'
    else:
      view = f'the central {self.crop_fraction} of each side; resized to {square}, {resized}'
    return f'{"RGB" if self.channels == 3 else "grey"}; {view}; {self.normalization}'


PREPROCESSING: dict[str, Preprocessing] = {}


def register(preprocessing: Preprocessing) -> Preprocessing:
  """Makes a way of preprocessing known by its name, and returns it.

  Raises:
    ValueError: another has the name.
  """
  if PREPROCESSING.setdefault(preprocessing.name, preprocessing) != preprocessing:
    raise ValueError(f'there is another preprocessing {preprocessing.name!r}')
  return preprocessing


INCEPTION = register(Preprocessing('inception', inception_preprocessing, normalization.INCEPTION))
# That of the graph of December 2015, and of the Frechet Inception Distance: whole images.
INCEPTION_2015 = register(
  Preprocessing(
    'inception_2015', inception_preprocessing, normalization.INCEPTION_2015, crop_fraction=1.0
  )
)
VGG = register(Preprocessing('vgg', vgg_preprocessing, normalization.VGG, keeps_aspect_ratio=True))
# torchvision's and timm's values of pixels; the views are VGG's.
TORCH = register(
  Preprocessing('torch', vgg_preprocessing, normalization.TORCHVISION, keeps_aspect_ratio=True)
)
# facenet's of faces, and that of its older models.
FACENET = register(
  Preprocessing('facenet', facenet_preprocessing, normalization.FACENET, crop_fraction=1.0)
)
FACENET_WHITENED = register(
  dataclasses.replace(
    FACENET, name='facenet_whitened', normalization=normalization.FACENET_WHITENED
  )
)


def canonical_name(name: str) -> str:
  """The key in `PREPROCESSING` of a name, which may be slim's for a net: inception_v3: inception.

  Raises:
    ValueError: `name` is none of those there are; lists them.
  """
  names = [key for key in PREPROCESSING if name == key or name.startswith(f'{key}_')]
  if not names:
    raise ValueError(f'unknown preprocessing {name!r}; valid: {", ".join(PREPROCESSING)}')
  return max(names, key=len)


def get(name: str, channels: int = 3) -> Preprocessing:
  """A way of preprocessing that decodes images to `channels`: 3 for RGB, 1 for grey.

  Raises:
    ValueError: `name` is none of those there are; lists them.
  """
  preprocessing = PREPROCESSING[canonical_name(name)]
  return dataclasses.replace(
    preprocessing,
    channels=channels,
    normalization=preprocessing.normalization.of_channels(channels),
  )


def get_preprocessing(name: str, is_training: bool = False) -> Callable[..., tf.Tensor]:
  """Slim's signature: returns fn(image, height, width, **kwargs) on one decoded image."""
  return functools.partial(get(name).family.preprocess_image, is_training=is_training)
