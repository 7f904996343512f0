"""Inception preprocessing, as TF-Slim's, in two halves.

The host half decodes, crops and resizes one image to uint8, which is a quarter of the memory
and of the traffic of float32. The device half flips, recolours and scales a whole batch inside the
training step. All randomness is a function of a seed per image: the same seed gives the same
image wherever it stands in a batch and whenever a run is resumed.

Differs from slim: the aspect ratio reaches 4/3 as the paper has it (slim: 1.33), and the resized
crop is rounded to uint8 before the colours change.
"""

import dataclasses
import functools
from collections.abc import Sequence

import tensorflow as tf

from .normalization import INCEPTION, Normalization
from .sampling import fold_in, uniform

# The numbers of an image's random samples; none depends on which others are taken.
_CROP, _METHOD, _FLIP, _ORDERING, _BRIGHTNESS, _SATURATION, _HUE, _CONTRAST = range(8)

# A crop is converted to float32 to be resized if it has at most so many times the result's pixels.
_MAX_COPIES = 16


_Method = tf.compat.v1.image.ResizeMethod
_METHODS = (_Method.BILINEAR, _Method.NEAREST_NEIGHBOR, _Method.BICUBIC, _Method.AREA)


@dataclasses.dataclass(frozen=True)
class Distortion:
  """How training images are distorted.

  Attributes:
    min_object_covered: least share of some box that a crop must show.
    aspect_ratio_range: of the crop, width over height.
    area_range: of the crop, as a share of the image.
    random_flip: mirror half of the images.
    color: change colours.
    fast_mode: bilinear resizing, and brightness and saturation only; otherwise one of four resize
      methods and one of four orderings of brightness, saturation, hue and contrast.
  """

  min_object_covered: float = 0.1
  aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3)
  area_range: tuple[float, float] = (0.05, 1.0)
  random_flip: bool = True
  color: bool = True
  fast_mode: bool = True


# Host: one image


def decode(encoded: tf.Tensor, channels: int = 3, accurate: bool = False) -> tf.Tensor:
  """Decodes JPEG, PNG, GIF (first frame) or BMP to uint8 [height, width, channels].

  Args:
    encoded: string scalar, the file of the image.
    channels: 3 for RGB, where grey becomes three equal channels; 1 for grey, which of colours is
      the luma (ITU-R 601-2).
    accurate: decode JPEGs as Pillow does, and thus PyTorch's libraries, rather than by
      TensorFlow's faster default, which slim has, and which is 0.8 levels darker.
  """
  dct_method = 'INTEGER_ACCURATE' if accurate else ''
  image = tf.cond(
    tf.io.is_jpeg(encoded),
    lambda: tf.io.decode_jpeg(encoded, channels, dct_method=dct_method),  # of grey, luma alone
    lambda: _decode_other(encoded, channels),
  )
  return tf.ensure_shape(image, [None, None, channels])


def _decode_other(encoded: tf.Tensor, channels: int) -> tf.Tensor:
  image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
  return to_grey(image) if channels == 1 else image


def to_grey(images: tf.Tensor) -> tf.Tensor:
  """[..., 3] in 0..255 to the luma, uint8 [..., 1], as Pillow's convert('L') rounds it."""
  weighted = tf.reduce_sum(tf.cast(images, tf.int32) * [19595, 38470, 7471], -1, keepdims=True)
  return tf.cast(tf.bitwise.right_shift(weighted + 0x8000, 16), tf.uint8)


def train_host(
  encoded: tf.Tensor,
  height: int,
  width: int,
  bbox: tf.Tensor,
  seed: tf.Tensor,
  distortion: Distortion,
  channels: int = 3,
) -> tf.Tensor:
  """Decodes a random crop of an image and resizes it, ignoring its aspect ratio.

  Args:
    encoded: string scalar, the file of the image.
    height: of the result.
    width: of the result.
    bbox: [num_boxes, 4] float32, ymin, xmin, ymax, xmax in [0, 1]; the whole image if none.
    seed: [2] int32.
    distortion: see there.
    channels: 3 or 1, see `decode`.

  Returns:
    uint8 [height, width, channels].
  """

  def decode_jpeg_crop():  # decodes no more than the crop needs
    window = _crop_window(tf.io.extract_jpeg_shape(encoded), bbox, seed, distortion)
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=channels)

  crop = tf.cond(
    tf.io.is_jpeg(encoded),
    decode_jpeg_crop,
    lambda: _random_crop(decode(encoded, channels), bbox, seed, distortion),
  )
  return _resize(crop, height, width, seed, distortion)


def _random_crop(image, bbox, seed, distortion):
  top, left, height, width = tf.unstack(_crop_window(tf.shape(image), bbox, seed, distortion))
  return image[top : top + height, left : left + width]


def _crop_window(shape, bbox, seed, distortion):
  """Samples [top, left, height, width] for an image of shape [height, width, channels]."""
  begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
    shape,
    bbox[tf.newaxis],
    fold_in(seed, _CROP),
    min_object_covered=distortion.min_object_covered,
    aspect_ratio_range=distortion.aspect_ratio_range,
    area_range=distortion.area_range,
    max_attempts=100,
    use_image_if_no_bounding_boxes=True,
  )
  return tf.concat([begin[:2], size[:2]], axis=0)


def _resize(image, height, width, seed, distortion):
  """Resizes with TensorFlow 1's kernels, which released checkpoints were trained on."""
  # These kernels convert each value of uint8 up to four times: on float32 the whole host's work is
  # 10 to 20 % less. Of images far larger than the result they leave most out; no copy of those.
  is_small = tf.size(image) <= _MAX_COPIES * height * width * image.shape[2]

  def kernel(method, pixels):
    return tf.cast(tf.compat.v1.image.resize(pixels, [height, width], method), tf.float32)

  def resized(method):
    values = tf.cond(
      is_small, lambda: kernel(method, tf.cast(image, tf.float32)), lambda: kernel(method, image)
    )
    # Bicubic alone overshoots; to clip the others too takes 8 % more of a processor.
    cast = tf.saturate_cast if method == _Method.BICUBIC else tf.cast
    return cast(tf.round(values), tf.uint8)

  if distortion.fast_mode:
    result = resized(_Method.BILINEAR)
  else:
    method = tf.random.stateless_uniform([], fold_in(seed, _METHOD), 0, 4, tf.int32)
    result = tf.switch_case(method, [functools.partial(resized, m) for m in _METHODS])
  return tf.ensure_shape(result, [height, width, image.shape[2]])


# Device: a batch


def train_device(
  images: tf.Tensor,
  seeds: tf.Tensor,
  distortion: Distortion,
  dtype: tf.DType = tf.float32,
  normalization: Normalization = INCEPTION,
) -> tf.Tensor:
  """Flips, recolours and normalizes a batch, each image by its own seed.

  Args:
    images: [N, height, width, 3] uint8 from `train_host`, or [N, height, width, 1].
    seeds: [N, 2] int32.
    distortion: see there.
    dtype: of the result; the arithmetic is float32.
    normalization: of the result.

  Returns:
    The same shape, as the net is given it.
  """
  if distortion.random_flip:
    images = random_flip(images, seeds)
  planes: Planes = [tf.cast(plane, tf.float32) / 255.0 for plane in tf.unstack(images, axis=-1)]
  if distortion.color:
    planes = _distort_color(planes, seeds, distortion.fast_mode)
  planes = [
    normalization.of_channel(i).normalize(plane, dtype, white=1.0) for i, plane in enumerate(planes)
  ]
  return tf.transpose(tf.stack(planes), [1, 2, 3, 0])  # a third of the time of stacking them last


def random_flip(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """Mirrors half of the images [N, H, W, C], each by its own seed of [N, 2]."""
  return _choose(uniform(seeds, _FLIP) < 0.5, _mirror(images), images)


def random_seed() -> tf.Tensor:
  """[2] int32 from TensorFlow's global generator."""
  return tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)


def _mirror(images: tf.Tensor) -> tf.Tensor:
  """[N, H, W, C] from right to left; as rows of pixels, which takes a quarter of the time."""
  rows = tf.reshape(images, [-1, *images.shape[2:]])
  return tf.reshape(tf.reverse(rows, axis=[1]), tf.shape(images))


def _choose(condition: tf.Tensor, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
  """tf.where of whole images, by a condition of N values; copies them, which is faster."""
  return tf.compat.v1.where(tf.reshape(condition, [-1]), images, others)


# Slim's four orderings, one of which an image takes:
#   0 brightness saturation hue contrast    1 saturation brightness contrast hue
#   2 contrast hue brightness saturation    3 hue saturation contrast brightness
# Laid over each other: step, and the orderings that take it there. Every image is computed along
# the whole table, so shapes stay static and hue, the dearest step, is computed once.
_ALL = (0, 1, 2, 3)
_STEPS = (
  ('brightness', (0,)),
  ('saturation', (0, 1)),
  ('brightness', (1,)),
  ('contrast', (1, 2)),
  ('hue', _ALL),
  ('brightness', (2,)),
  ('saturation', (2, 3)),
  ('contrast', (0, 3)),
  ('brightness', (3,)),
)
_FAST_STEPS = (('brightness', _ALL), ('saturation', _ALL))
_OF_COLORS = ('saturation', 'hue')


# A batch of images by colours: [N, H, W] each, of grey one. Arithmetic between a pixel's colours is
# several times faster on these than on [N, H, W, 3].
Planes = Sequence[tf.Tensor]


def _distort_color(planes: Planes, seeds: tf.Tensor, fast_mode: bool) -> Planes:
  """Slim's colour distortion of float32 in [0, 1], clipped to [0, 1] at the end.

  Grey becomes what each colour of three equal ones becomes: saturation and hue leave it as it is.
  """

  @functools.cache  # what no step asks for is not sampled
  def sample(number: int, low: float, high: float) -> tf.Tensor:
    return tf.squeeze(uniform(seeds, number, low, high), axis=-1)

  adjust = {
    'brightness': (adjust_brightness, (_BRIGHTNESS, -32 / 255, 32 / 255)),
    'saturation': (adjust_saturation, (_SATURATION, 0.5, 1.5)),
    'hue': (adjust_hue, (_HUE, -0.2, 0.2)),
    'contrast': (adjust_contrast, (_CONTRAST, 0.5, 1.5)),
  }
  for name, orderings in _FAST_STEPS if fast_mode else _STEPS:
    if len(planes) == 1 and name in _OF_COLORS:
      continue
    step, amount = adjust[name]
    adjusted = step(planes, sample(*amount))
    if orderings != _ALL:
      ordering = tf.floor(sample(_ORDERING, 0.0, 4.0))
      taken = tf.reduce_any(tf.equal(ordering, orderings), axis=-1)
      adjusted = [_choose(taken, *pair) for pair in zip(adjusted, planes, strict=True)]
    planes = adjusted
  return [tf.clip_by_value(plane, 0.0, 1.0) for plane in planes]


# tf.image.adjust_* take one amount for the whole batch; these take one per image, [N, 1, 1],
# and agree with them within rounding, values outside [0, 1] included.


def adjust_brightness(planes: Planes, delta: tf.Tensor) -> Planes:
  """Adds `delta` to each colour."""
  return [plane + delta for plane in planes]


def adjust_saturation(planes: Planes, factor: tf.Tensor) -> Planes:
  """Scales the saturation of HSV: moves each colour from the largest of its pixel."""
  largest, smallest = _extremes(planes)
  saturation = tf.where(
    largest > 0.0, tf.math.divide_no_nan(largest - smallest, largest), tf.zeros_like(largest)
  )
  ratio = tf.math.divide_no_nan(tf.clip_by_value(saturation * factor, 0.0, 1.0), saturation)
  return [largest - (largest - plane) * ratio for plane in planes]


def adjust_hue(planes: Planes, delta: tf.Tensor) -> Planes:
  """Adds `delta` turns to the hue; a pixel's largest and smallest value stay."""
  red, green, blue = planes
  largest, smallest = _extremes(planes)
  chroma = largest - smallest
  hue = tf.where(  # in sixths of a turn
    largest == red,
    tf.math.divide_no_nan(green - blue, chroma),
    tf.where(
      largest == green,
      2.0 + tf.math.divide_no_nan(blue - red, chroma),
      4.0 + tf.math.divide_no_nan(red - green, chroma),
    ),
  )
  hue = tf.math.floormod(hue + 6.0 * delta, 6.0)
  shares = tf.abs(hue - 3.0) - 1.0, 2.0 - tf.abs(hue - 2.0), 2.0 - tf.abs(hue - 4.0)
  return [smallest + chroma * tf.clip_by_value(share, 0.0, 1.0) for share in shares]


def adjust_contrast(planes: Planes, factor: tf.Tensor) -> Planes:
  """Scales the distance of each colour from its mean over the image."""
  means = [tf.reduce_mean(plane, axis=[1, 2], keepdims=True) for plane in planes]
  return [mean + (plane - mean) * factor for plane, mean in zip(planes, means, strict=True)]


def _extremes(planes: Planes) -> tuple[tf.Tensor, tf.Tensor]:
  """The largest and the smallest value of each pixel."""
  return functools.reduce(tf.maximum, planes), functools.reduce(tf.minimum, planes)


# Evaluation


def eval_view(
  image: tf.Tensor,
  height: int | None,
  width: int | None,
  crop_fraction: float | None = 0.875,
  normalization: Normalization = INCEPTION,
) -> tf.Tensor:
  """Crops the centre and resizes it, as slim evaluates.

  Args:
    image: [h, w, C], uint8, or float in [0, 1].
    height: of the result, whatever the aspect ratio; None keeps that of the crop.
    width: likewise.
    crop_fraction: share of each side that the crop keeps; None keeps all.
    normalization: of the result.

  Returns:
    float32 [height, width, C] as the net is given it.
  """
  image = tf.image.convert_image_dtype(image, tf.float32)
  if crop_fraction:
    image = tf.image.central_crop(image, crop_fraction)
  if height and width:
    image = tf.compat.v1.image.resize(image, [height, width])  # bilinear
  return normalization.normalize(image, white=1.0)


def preprocess_image(
  image: tf.Tensor,
  height: int | None,
  width: int | None,
  is_training: bool = False,
  bbox: tf.Tensor | None = None,
  fast_mode: bool = True,
  seed: tf.Tensor | None = None,
  crop_image: bool = True,
) -> tf.Tensor:
  """Slim's entry: preprocesses one decoded image for training or evaluation.

  Args:
    image: [height, width, 3 or 1], uint8, or float in [0, 1].
    height: of the result; None keeps that of the crop in evaluation.
    width: likewise.
    is_training: distort, or crop the centre.
    bbox: [num_boxes, 4] or, as in slim, [1, num_boxes, 4]; the whole image if None.
    fast_mode: see Distortion.
    seed: [2] int32; None takes one from TensorFlow's global generator.
    crop_image: False resizes the whole image.

  Returns:
    float32 [height, width, 3 or 1] in [-1, 1].
  """
  if not is_training:
    return eval_view(image, height, width, 0.875 if crop_image else None)
  if seed is None:
    seed = random_seed()
  distortion = Distortion(fast_mode=fast_mode)
  image = tf.image.convert_image_dtype(image, tf.uint8, saturate=True)
  if crop_image:
    boxes = tf.zeros([0, 4]) if bbox is None else tf.reshape(bbox, [-1, 4])
    image = _random_crop(image, boxes, seed, distortion)
  image = _resize(image, height, width, seed, distortion)
  return train_device(image[tf.newaxis], seed[tf.newaxis], distortion)[0]
