"""RandAugment (arXiv:1909.13719) of a batch, on the device.

A map of single images would run one operation each; a batch runs all, so they are grouped into
four that are cheap together: a warp by a matrix per image, a table of 256 values per image and
channel, and blends with a grey and with a smoothed image. Arithmetic is Pillow's.

Differs from the paper's code: solarize and posterize grow stronger with the magnitude (there:
weaker), and colour, contrast, brightness and sharpness move from 1 in both directions by 0.09 a
unit of magnitude (there: from 0.1 to 1.9, so that 5 changes nothing), as timm has them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from .inception_preprocessing import to_grey
from .sampling import uniform

OPS = (
  'identity', 'autocontrast', 'equalize', 'rotate', 'solarize', 'color', 'posterize', 'contrast',
  'brightness', 'sharpness', 'shear_x', 'shear_y', 'translate_x', 'translate_y',
)  # fmt: skip
_FIRST_NUMBER, _MOST_LAYERS = 200, 20
_STD, _GAUSSIAN, _SKIP = range(_FIRST_NUMBER + 2 * _MOST_LAYERS, 243)
_FILL = 128  # what a warp brings into the image


class Strengths(NamedTuple):
  """What operations do at an amount of 1.

  Attributes:
    rotation: degrees.
    shear: pixels sideways for each pixel along.
    translation: of the side of the image.
    blend: what is added to the factor 1 of colour, contrast, brightness and sharpness.
    bits: that posterize keeps at 0, and how many fewer at 1; what it keeps is rounded up.
    threshold: from which solarize inverts at 0; 0 at 1.
  """

  rotation: float = 30.0
  shear: float = 0.3
  translation: float = 0.45
  blend: float = 0.9
  bits: tuple[float, float] = (8.0, 4.0)
  threshold: float = 256.0


RAND_AUGMENT = Strengths()


def rand_augment(
  images: tf.Tensor,
  seeds: tf.Tensor,
  layers: int,
  magnitude: float,
  std: float = 0.0,
  probability: float = 1.0,
) -> tf.Tensor:
  """Applies `layers` operations, sampled for each image from `OPS`, one after the other.

  Args:
    images: [N, H, W, 3] uint8, or [N, H, W, 1], which become what each of three equal channels
      would.
    seeds: [N, 2] int32.
    layers: the paper's N, at most 20.
    magnitude: the paper's M, 0 to 30; at 10 a rotation is of 30 degrees. What has a direction has
      either for half of the images.
    std: of a normal distribution, in whose place each operation takes its magnitude; timm's mstd.
    probability: that an operation is done.

  Returns:
    The same shape, uint8.
  """
  for layer in range(layers):
    number = _FIRST_NUMBER + 2 * layer
    op = tf.cast(len(OPS) * uniform(seeds, number), tf.int32)
    own = magnitude
    if std:
      own = tf.clip_by_value(magnitude + std * _normal(_of_layer(seeds, layer)), 0.0, 30.0)
    if probability < 1:
      op = tf.where(uniform(_of_layer(seeds, layer), _SKIP) < probability, op, _IDENTITY)
    amount = tf.where(uniform(seeds, number + 1) < 0.5, -own, own) / 10.0
    images = apply(images, op, amount)
  return images


_IDENTITY = OPS.index('identity')


def _of_layer(seeds: tf.Tensor, layer: int) -> tf.Tensor:
  """Other seeds for each layer: [N, 2]."""
  return seeds + tf.constant([0, layer * 0x10001], seeds.dtype)


def _normal(seeds: tf.Tensor) -> tf.Tensor:
  """[N, 1, 1, 1] of a normal distribution, by Box and Muller."""
  radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniform(seeds, _STD)))
  return radius * tf.cos(2.0 * math.pi * uniform(seeds, _GAUSSIAN))


def apply(
  images: tf.Tensor, op: tf.Tensor, amount: tf.Tensor, strengths: Strengths = RAND_AUGMENT
) -> tf.Tensor:
  """Applies one operation to each image.

  Args:
    images: [N, H, W, 3] or [N, H, W, 1] uint8.
    op: [N, 1, 1, 1] int32, index into `OPS`.
    amount: [N, 1, 1, 1] float32, with the sign of the direction; of RandAugment magnitude / 10.
    strengths: what an amount of 1 is.
  """
  values = tf.cast(images, tf.int32)
  luma = _luma(values)
  factor = tf.maximum(1.0 + strengths.blend * amount, 0.0)
  changed = _look_up(values, _tables(values, luma, op, tf.abs(amount), factor, strengths))
  changed = tf.where(_is(op, _GEOMETRY), _warp(values, op, amount, strengths), changed)
  degenerate = tf.where(_is(op, ('sharpness',)), _smoothed(values), luma)
  blended = blend(degenerate, values, factor)
  changed = tf.where(_is(op, ('color', 'sharpness')), blended, changed)
  return tf.cast(changed, tf.uint8)


def _is(op: tf.Tensor, names) -> tf.Tensor:
  return tf.reduce_any(tf.equal(op, [OPS.index(name) for name in names]), -1, keepdims=True)


def _select(op: tf.Tensor, choices: dict[str, tf.Tensor], otherwise: tf.Tensor) -> tf.Tensor:
  for name, value in choices.items():
    otherwise = tf.where(tf.equal(op, OPS.index(name)), value, otherwise)
  return otherwise


# Warps: x' = a (x + 1/2) + b (y + 1/2) + c, y' = d (x + 1/2) + e (y + 1/2) + f, nearest pixel


def _rotation(amount, height, width):
  angle = -math.pi / 180.0 * amount
  cos, sin = tf.cos(angle), tf.sin(angle)
  x, y = width / 2.0, height / 2.0
  return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


# Of degrees, of a shear, or of a share of the side.
_GEOMETRY: dict[str, Callable] = {
  'rotate': _rotation,
  'shear_x': lambda amount, height, width: (1.0, amount, 0.0, 0.0, 1.0, 0.0),
  'shear_y': lambda amount, height, width: (1.0, 0.0, 0.0, amount, 1.0, 0.0),
  'translate_x': lambda amount, height, width: (1.0, 0.0, amount * width, 0.0, 1.0, 0.0),
  'translate_y': lambda amount, height, width: (1.0, 0.0, 0.0, 0.0, 1.0, amount * height),
}


def _warp(values: tf.Tensor, op: tf.Tensor, amount: tf.Tensor, strengths: Strengths) -> tf.Tensor:
  """Moves the pixels of [N, H, W, C]; what comes from outside is grey."""
  _, height, width, channels = values.shape
  largest = (strengths.rotation, *[strengths.shear] * 2, *[strengths.translation] * 2)
  matrices = {
    name: tf.concat(
      [tf.ones_like(amount) * part for part in geometry(strength * amount, height, width)], -1
    )
    for (name, geometry), strength in zip(_GEOMETRY.items(), largest, strict=True)
  }
  identity = tf.constant([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
  a, b, c, d, e, f = tf.split(_select(op, matrices, identity), 6, axis=-1)
  y = tf.reshape(tf.range(height, dtype=tf.float32) + 0.5, (1, height, 1, 1))
  x = tf.reshape(tf.range(width, dtype=tf.float32) + 0.5, (1, 1, width, 1))
  columns = tf.cast(tf.floor(a * x + b * y + c), tf.int32)
  rows = tf.cast(tf.floor(d * x + e * y + f), tf.int32)
  inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
  indices = tf.where(inside, rows * width + columns, 0)
  pixels = tf.reshape(values, (-1, height * width, channels))
  moved = tf.gather(pixels, tf.reshape(indices, (-1, height * width)), batch_dims=1)
  return tf.where(inside, tf.reshape(moved, (-1, height, width, channels)), _FILL)


# Tables: for each image and channel what becomes of the values 0 to 255, [N, 1, C, 256] int32


def _tables(values, luma, op, strength, factor, strengths):
  histogram = _histogram(values)
  every = tf.range(256)
  level = tf.cast(every, tf.float32)
  mean = tf.floor(
    tf.cast(tf.reduce_sum(luma, (1, 2), keepdims=True), tf.float32)
    / (values.shape[1] * values.shape[2])
    + 0.5
  )
  kept, taken = strengths.bits
  bits = tf.cast(tf.maximum(tf.math.ceil(kept - taken * strength), 1.0), tf.int32)
  tables = {
    'autocontrast': _autocontrast(histogram),
    'equalize': _equalize(histogram),
    'solarize': tf.where(level < strengths.threshold * (1.0 - strength), every, 255 - every),
    'posterize': tf.bitwise.bitwise_and(every, 256 - tf.bitwise.left_shift(1, 8 - bits)),
    'contrast': blend(mean, level, factor),
    'brightness': blend(0.0, level, factor),
  }
  return _select(op, tables, tf.broadcast_to(every, tf.shape(histogram)))


def _histogram(values: tf.Tensor) -> tf.Tensor:
  """How often each value is there, [N, 1, C, 256] int32."""
  channels = values.shape[-1]
  rows = tf.range(tf.shape(values)[0] * channels)
  ids = 256 * tf.reshape(rows, (-1, 1, 1, channels)) + values
  total = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, tf.size(rows) * 256)
  return tf.reshape(total, (-1, 1, channels, 256))


def _autocontrast(histogram: tf.Tensor) -> tf.Tensor:
  every = tf.range(256)
  low = tf.reduce_min(tf.where(histogram > 0, every, 255), -1, keepdims=True)
  high = tf.reduce_max(tf.where(histogram > 0, every, 0), -1, keepdims=True)
  stretched = (every - low) * 255 // tf.maximum(high - low, 1)
  return tf.where(high > low, tf.clip_by_value(stretched, 0, 255), every)


def _equalize(histogram: tf.Tensor) -> tf.Tensor:
  """Pillow's: the pixels of the largest value are not counted in the step."""
  every = tf.range(256)
  highest = tf.reduce_max(tf.where(histogram > 0, every, 0), -1, keepdims=True)
  last = tf.reduce_sum(tf.where(tf.equal(every, highest), histogram, 0), -1, keepdims=True)
  step = (tf.reduce_sum(histogram, -1, keepdims=True) - last) // 255
  below = tf.cumsum(histogram, axis=-1, exclusive=True)
  equalized = (step // 2 + below) // tf.maximum(step, 1)
  return tf.where(step > 0, tf.minimum(equalized, 255), every)


def _look_up(values: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
  _, height, width, channels = values.shape
  indices = tf.reshape(values + 256 * tf.range(channels), (-1, height * width * channels))
  looked_up = tf.gather(tf.reshape(tables, (-1, channels * 256)), indices, batch_dims=1)
  return tf.reshape(looked_up, (-1, height, width, channels))


# Blends


def blend(degenerate: tf.Tensor | float, values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Between two images, or beyond the second, int32 in 0..255."""
  degenerate, values = tf.cast(degenerate, tf.float32), tf.cast(values, tf.float32)
  blended = degenerate + factor * (values - degenerate)
  return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.int32)


def _luma(values: tf.Tensor) -> tf.Tensor:
  """Grey by ITU-R 601-2, [N, H, W, 1] int32."""
  if values.shape[-1] == 1:
    return values
  return tf.cast(to_grey(values), tf.int32)


def _smoothed(values: tf.Tensor) -> tf.Tensor:
  """Pillow's SMOOTH: the mean of 3 x 3 pixels, that in the middle counting five; edges stay."""
  _, height, width, _ = values.shape
  inner = 4 * values[:, 1:-1, 1:-1]
  for top in range(3):
    for left in range(3):
      inner += values[:, top : height - 2 + top, left : width - 2 + left]
  inner = (2 * inner + 13) // 26  # rounded
  middle = tf.concat([values[:, 1:-1, :1], inner, values[:, 1:-1, -1:]], axis=2)
  return tf.concat([values[:, :1], middle, values[:, -1:]], axis=1)
