"""The views of an image that a net looks at: one, ten, twelve, 144, or all of it.

GoogLeNet (arXiv:1409.4842, section 7) resizes the shorter side of an image to four scales, takes
three squares of each (left, centre, right; of upright images top, centre, bottom), of each square
the four corners, the centre and the whole square resized, and of each its mirror image: 4 x 3 x 6 x
2 = 144 views. The 12 views of arXiv:1512.00567 are those of one square. The 10 views are AlexNet's:
it cuts the central square out first and takes corners and centre of it, so they are the 12 without
the whole square (torchvision's TenCrop takes its corners from the whole image instead).

All but `to_float` runs on the host, in `tf.data`. Views are uint8, except slim's single one, which
is the preprocessing's own.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.input import pipeline as input_pipeline
from slim_inception.preprocessing import resizing
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

_GOOGLENET_SCALES = (256, 288, 320, 352)  # shorter sides, for views of 224 x 224 pixels
_GOOGLENET_SIZE = 224
_FIRST, _CENTER, _LAST = 0.0, 0.5, 1.0  # where in an image: share of the room that is left before
_CORNERS_AND_CENTER = (*itertools.product((_FIRST, _LAST), repeat=2), (_CENTER, _CENTER))
# An image longer than this is cut to its centre by --crops=dense: at 342 pixels of the shorter
# side an image of 1 x 2000 would be a map of 684,000 columns.
MAX_DENSE_ASPECT = 8
# Of 27 MB for 100 views of 299 x 299; tf.data's own choice may grow to any number.
_BATCHES_AHEAD = 2


class _Layout(NamedTuple):
  """What `crops` means."""

  num_views: int | None
  num_scales: int = 1
  squares: tuple[float, ...] = ()  # where along the longer side; none: the view is no part of one
  whole_square: bool = False


_LAYOUTS = {
  '1': _Layout(1),
  '10': _Layout(10, 1, (_CENTER,)),
  '12': _Layout(12, 1, (_CENTER,), whole_square=True),
  '144': _Layout(144, 4, (_FIRST, _CENTER, _LAST), whole_square=True),
  'dense': _Layout(None),
}


def default_scales(image_size: int, crops: str) -> tuple[int, ...]:
  """The shorter sides that images are resized to.

  The papers of the 299-pixel nets do not restate GoogLeNet's scales: we keep their ratio to the
  view, 342, 384, 427 and 470 for 299. Where one is needed it is the first, the usual 8/7.

  Args:
    image_size: pixels a side of the view.
    crops: one of `choices.CROPS`.
  """
  scales = _GOOGLENET_SCALES[: _LAYOUTS[crops].num_scales]
  return tuple(round(scale * image_size / _GOOGLENET_SIZE) for scale in scales)


@dataclasses.dataclass(frozen=True)
class ViewSpec:
  """Which views to make of an image; `make_spec` makes one.

  Attributes:
    preprocessing: of the net.
    image_size: pixels a side of a view.
    crops: how many views; 'dense' is the whole image at one scale.
    resize: of the only view: 'slim' is that of the preprocessing, 'aspect' keeps the aspect ratio
      and is antialiased, as all other views are.
    interpolation: 'bilinear' or 'bicubic'.
    crop_fraction: of the only view: 'slim' see the preprocessing; 'aspect' resizes the shorter side
      to image_size / crop_fraction, rounded (342 for 299, as torchvision; timm, which cuts off the
      fraction, has 341), and cuts out the centre.
    scales: shorter sides, rising or not; see `default_scales`.
  """

  preprocessing: Preprocessing
  image_size: int
  crops: str
  resize: str
  interpolation: str
  crop_fraction: float
  scales: tuple[int, ...]

  @property
  def num_views(self) -> int | None:
    """Views an image; None for 'dense', where it depends on the image."""
    return _LAYOUTS[self.crops].num_views

  def decode(self, encoded: tf.Tensor) -> tf.Tensor:
    """The file of an image to uint8 [h, w, C]: as slim for slim's view, as Pillow for all others.

    Those are resized as Pillow resizes: what they are compared with was decoded by it too.
    """
    return self.preprocessing.decode(encoded, accurate=self.resize != 'slim')


def make_spec(
  preprocessing: Preprocessing,
  image_size: int,
  crops: str = '1',
  resize: str | None = None,
  interpolation: str | None = None,
  crop_fraction: float | None = None,
  crop_scales: tuple[int, ...] = (),
) -> ViewSpec:
  """The views that flags ask for; what is None or empty is the preprocessing's, or GoogLeNet's.

  Raises:
    ValueError: the values do not go together; names the flag.
  """
  single = crops == '1'
  resize = resize or ('slim' if single else 'aspect')
  if resize == 'slim' and not single:
    raise ValueError(f'--resize=slim is for --crops=1; --crops={crops} takes aspect')
  if resize == 'slim' and interpolation not in (None, 'bilinear'):
    raise ValueError(f'--interpolation={interpolation} is for --resize=aspect; slim is bilinear')
  if not single and crop_fraction is not None:
    raise ValueError(f'--crop_fraction is for --crops=1; --crops={crops} has --crop_scales')
  if single and crop_scales:
    raise ValueError('--crop_scales is not for --crops=1, which has --crop_fraction')
  crop_fraction = crop_fraction or preprocessing.crop_fraction
  one_scale = (round(image_size / crop_fraction),)
  scales = one_scale if single else crop_scales or default_scales(image_size, crops)
  text, count = ','.join(map(str, scales)), _LAYOUTS[crops].num_scales
  if len(scales) != count:
    raise ValueError(f'--crop_scales={text}: --crops={crops} takes {count}, not {len(scales)}')
  if min(scales) < image_size:
    raise ValueError(
      f'--crop_scales={text}: a shorter side must have the {image_size} pixels of a view'
    )
  if interpolation is None:
    interpolation = 'bilinear' if resize == 'slim' else preprocessing.interpolation
  return ViewSpec(preprocessing, image_size, crops, resize, interpolation, crop_fraction, scales)


# The stream


def view_stream(
  records: tf.data.Dataset,
  decode: Callable[..., dict[str, tf.Tensor]],
  spec: ViewSpec,
  batch_size: int,
  num_threads: int | None = None,
  task_size: int = input_pipeline.TASK,
) -> tf.data.Dataset:
  """The views of all images one after the other, in batches that pay no heed to images.

  An image is decoded once. Its views are made a square (12 of them) at a time, as many squares at
  once as there are threads: memory does not grow with the number of views.

  Args:
    records: anything.
    decode: makes of an element of it {'image': uint8 [h, w, C], ...}; images where it fails are
      missing from the stream, all of their views.
    spec: which views.
    batch_size: views a batch; the last is as small as it comes. 'dense' has images of all sizes,
      so there it is always 1.
    num_threads: of decoding and of cutting views; None: as many as there are cores.
    task_size: images that are decoded in one go, where an image is one view of a given size.

  Returns:
    A data set of {'image': [n, image_size, image_size, C] uint8, ...}: the other keys are repeated
    for each view of their image. The views of an image are contiguous, `spec.num_views` of
    them, and the order is always the same. slim's single view is float32, bit for bit that of
    `Preprocessing.eval_view`. 'dense' has [1, h, w, C] uint8, the shorter side
    at `spec.scales[0]`, the longer at most `MAX_DENSE_ASPECT` times that.
  """
  if positions := _LAYOUTS[spec.crops].squares:
    decoded = input_pipeline.map_skipping_broken(records, decode, num_threads, task_size=1)
    scales = np.repeat(np.array(spec.scales, np.int32), len(positions))
    of_image = tf.data.Dataset.from_tensor_slices((scales, np.tile(positions, len(spec.scales))))
    squares = decoded.flat_map(lambda element: of_image.map(lambda *square: (element, *square)))

    @tf.autograph.experimental.do_not_convert
    def cut(element: dict[str, tf.Tensor], scale: tf.Tensor, position: tf.Tensor):
      views = square_views(element['image'], spec, scale, position)
      tags = {key: value for key, value in element.items() if key != 'image'}
      tags = {
        key: tf.repeat(value[tf.newaxis], tf.shape(views)[0], 0) for key, value in tags.items()
      }
      return {**tags, 'image': views}

    views = squares.map(cut, num_threads or tf.data.AUTOTUNE, deterministic=True)
    return input_pipeline.without_tuner(views.rebatch(batch_size).prefetch(_BATCHES_AHEAD))

  dense = spec.crops == 'dense'
  view = dense_view if dense else single_view

  def decode_view(*record: tf.Tensor) -> dict[str, tf.Tensor]:
    element = decode(*record)
    return {**element, 'image': view(element['image'], spec)}

  task_size = 1 if dense else task_size
  views = input_pipeline.map_skipping_broken(records, decode_view, num_threads, task_size)
  batches = views.batch(1 if dense else batch_size).prefetch(_BATCHES_AHEAD)
  return input_pipeline.without_tuner(batches)


def to_float(images: tf.Tensor, spec: ViewSpec, dtype: tf.DType = tf.float32) -> tf.Tensor:
  """On the device: views as the net is given them; slim's, which is that already, only cast."""
  if images.dtype == tf.uint8:
    return spec.preprocessing.normalize(images, dtype)
  return tf.cast(images, dtype)


# Views of one image


def square_views(
  image: tf.Tensor, spec: ViewSpec, scale: tf.Tensor, position: tf.Tensor
) -> tf.Tensor:
  """The views of one square of an image.

  Args:
    image: uint8 [h, w, C].
    spec: which views.
    scale: int32, the shorter side to resize the image to, and the side of the square.
    position: float64, where along the longer side: 0 is left or top, 1 right or bottom.

  Returns:
    uint8 [n, image_size, image_size, C]: top left, top right, bottom left, bottom right, centre,
    the whole square resized (not for '10'); then the mirror images of these.
  """
  size = spec.image_size
  square = _cut(image, scale, (position, position), (scale, scale), spec.interpolation)
  views = []
  for shares in _CORNERS_AND_CENTER:
    top, left = (_begin(share, scale, size) for share in shares)
    views.append(square[top : top + size, left : left + size])
  if _LAYOUTS[spec.crops].whole_square:
    whole = (size, size)
    views.append(resizing.resize_window(square, whole, (0, 0), whole, spec.interpolation))
  views = tf.ensure_shape(tf.stack(views), [None, size, size, image.shape[2]])
  return tf.concat([views, tf.reverse(views, axis=[2])], axis=0)


def single_view(image: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
  """The only view of a uint8 image [h, w, C]: for 'slim' as the net is given it, else uint8."""
  size = spec.image_size
  if spec.resize == 'slim':
    return spec.preprocessing.eval_view(image, size, size, spec.crop_fraction)
  center = (_CENTER, _CENTER)
  view = _cut(image, spec.scales[0], center, (size, size), spec.interpolation)
  return tf.ensure_shape(view, [size, size, image.shape[2]])


def single_window(spec: ViewSpec, height: int, width: int) -> tuple[float, float, float, float]:
  """What `single_view` shows of an image, in shares of its sides: top, left, bottom, right."""
  if spec.resize == 'slim' and not spec.preprocessing.keeps_aspect_ratio:
    shares = [spec.crop_fraction, spec.crop_fraction]
  else:
    shorter = min(height, width)
    shares = [spec.image_size / (spec.scales[0] * side // shorter) for side in (height, width)]
  before = [(1 - share) / 2 for share in shares]
  return before[0], before[1], 1 - before[0], 1 - before[1]


def dense_view(image: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
  """uint8 [h, w, C]: the whole image, its shorter side `spec.scales[0]`.

  Of an image (uint8 [h, w, C]) longer than `MAX_DENSE_ASPECT` the centre is taken.
  """
  scale = spec.scales[0]
  window = tf.minimum(_scaled(image, scale), scale * MAX_DENSE_ASPECT)
  return _cut(image, scale, (_CENTER, _CENTER), tf.unstack(window), spec.interpolation)


def _scaled(image: tf.Tensor, scale: int | tf.Tensor) -> tf.Tensor:
  """Height and width, int32, once the shorter is `scale`; of the longer the fraction is cut off.

  torchvision's Resize does the same.
  """
  size = tf.cast(tf.shape(image)[:2], tf.int64)
  return tf.cast(tf.cast(scale, tf.int64) * size // tf.reduce_min(size), tf.int32)


def _begin(share: float | tf.Tensor, size: int | tf.Tensor, window: int | tf.Tensor) -> tf.Tensor:
  """Where a window begins, int32: `share` of the room before it, halves to the even number.

  torchvision's CenterCrop rounds so too.
  """
  room = tf.cast(size - window, tf.float64)
  return tf.cast(tf.round(tf.cast(share, tf.float64) * room), tf.int32)


def _cut(image, scale, shares, window, interpolation):
  """A window (height, width) at `shares` of the image, its shorter side resized to `scale`."""
  size = tf.unstack(_scaled(image, scale))
  begin = [_begin(*sides) for sides in zip(shares, size, window, strict=True)]
  return resizing.resize_window(image, size, begin, window, interpolation)
