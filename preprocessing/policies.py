"""Ways to distort a batch that have no strength to choose: TrivialAugment, AugMix, 3-Augment.

They run on the device, on what the host gives: [N, H, W, 3] uint8, or [N, H, W, 1]. All that is
random is a function of the seed of each image. Operations are those of `rand_augment`.
"""

from collections.abc import Callable

import tensorflow as tf

from . import rand_augment
from .inception_preprocessing import to_grey
from .rand_augment import OPS, Strengths
from .sampling import uniform

Policy = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_OP, _AMOUNT, _SIGN, _WHICH, _SIGMA, _BRIGHTNESS, _CONTRAST, _SATURATION = range(500, 508)
_CHAIN, _DEPTH, _WEIGHT, _SHARE = 510, 550, 560, 570  # of AugMix: up to 3 x 3 x 3 numbers each


def trivial_augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """TrivialAugmentWide (arXiv:2103.10158, table 1): one operation of any strength.

  The strength is one of 31, evenly spread, as there; translations are of up to 32 pixels whatever
  the size. What a warp brings into the image is grey, not black.

  Args:
    images: [N, H, W, C] uint8.
    seeds: [N, 2] int32.

  Returns:
    The same shape, uint8.
  """
  op = tf.cast(len(OPS) * uniform(seeds, _OP), tf.int32)
  amount = tf.floor(31.0 * uniform(seeds, _AMOUNT)) / 30.0
  amount = tf.where(uniform(seeds, _SIGN) < 0.5, -amount, amount)
  return rand_augment.apply(images, op, amount, wide_strengths(images.shape[1]))


def wide_strengths(image_size: int) -> Strengths:
  """Of TrivialAugmentWide, for images of a side in pixels."""
  return Strengths(135.0, 0.99, 32 / image_size, 0.99, (7.5, 6.0), 255.0)


# AugMix

MIXED_OPS = (
  'autocontrast', 'equalize', 'posterize', 'rotate', 'solarize', 'shear_x', 'shear_y',
  'translate_x', 'translate_y',
)  # fmt: skip
MIXED_STRENGTHS = Strengths(translation=1 / 3, bits=(4.0, 4.0))
_WIDTH, _MOST_DEEP, _SEVERITY = 3, 3, 3.0


def aug_mix(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """AugMix (arXiv:1912.02781, algorithm 1): three chains of operations, mixed with the image.

  As there the severity is 3 of 10, a chain has one operation to three, the chains are mixed in
  shares of Dirichlet(1, 1, 1) and their mixture with the image in one of Beta(1, 1), which is even.
  The loss there also compares three versions of each image: see `train.losses.jensen_shannon`.

  Args:
    images: [N, H, W, C] uint8.
    seeds: [N, 2] int32.

  Returns:
    The same shape, uint8.
  """
  weights = [-tf.math.log(1.0 - uniform(seeds, _WEIGHT + i)) for i in range(_WIDTH)]
  total = tf.add_n(weights)
  mixed = tf.zeros(tf.shape(images), tf.float32)
  known = tf.constant([OPS.index(name) for name in MIXED_OPS])
  for i, weight in enumerate(weights):
    chain = images
    depth = tf.cast(_MOST_DEEP * uniform(seeds, _DEPTH + i), tf.int32) + 1
    for j in range(_MOST_DEEP):
      number = _CHAIN + 3 * (_MOST_DEEP * i + j)
      op = tf.gather(known, tf.cast(len(MIXED_OPS) * uniform(seeds, number), tf.int32))
      amount = uniform(seeds, number + 1, 0.1, _SEVERITY) / 10.0
      amount = tf.where(uniform(seeds, number + 2) < 0.5, -amount, amount)
      op = tf.where(j < depth, op, OPS.index('identity'))
      chain = rand_augment.apply(chain, op, amount, MIXED_STRENGTHS)
    mixed += weight / total * tf.cast(chain, tf.float32)
  share = uniform(seeds, _SHARE)
  result = share * tf.cast(images, tf.float32) + (1.0 - share) * mixed
  return tf.cast(tf.round(result), tf.uint8)


# 3-Augment

_SIGMAS = (0.1, 2.0)  # pixels
_TAPS = 8  # to each side: four times the largest sigma
_JITTER = 0.3


def three_augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """3-Augment (arXiv:2204.07118, section 3): grey, solarized or blurred; then colours change.

  Blur is Gaussian with a sigma of 0.1 to 2 pixels, solarizing inverts from 128 on. Brightness,
  contrast and saturation have factors of 0.7 to 1.3, in this order (there: in any).

  Args:
    images: [N, H, W, C] uint8, at least 8 x 8.
    seeds: [N, 2] int32.

  Returns:
    The same shape, uint8.

  Raises:
    ValueError: they are smaller.
  """
  which = tf.cast(3.0 * uniform(seeds, _WHICH), tf.int32)
  values = tf.cast(images, tf.int32)
  solarized = tf.where(values < 128, values, 255 - values)
  blurred = blur(images, uniform(seeds, _SIGMA, *_SIGMAS))
  changed = tf.where(which == 0, tf.broadcast_to(_luma(values), tf.shape(values)), solarized)
  changed = tf.where(which == 2, tf.cast(blurred, tf.int32), changed)
  return tf.cast(_jitter(changed, seeds), tf.uint8)


def blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
  """Blurs each image of [N, H, W, C] uint8 by a Gaussian of its own; edges are mirrored.

  Args:
    images: of at least 8 pixels a side.
    sigma: [N, 1, 1, 1] float32, in pixels, at most 2.

  Raises:
    ValueError: they are smaller.
  """
  _, height, width, _ = images.shape
  if min(height, width) < _TAPS:
    raise ValueError(
      f'three_augment needs images of at least {_TAPS} x {_TAPS} pixels for its blur; these have '
      f'{height} x {width}'
    )
  weights = [tf.exp(-0.5 * tf.square(i / sigma)) for i in range(_TAPS + 1)]
  total = weights[0] + 2.0 * tf.add_n(weights[1:])
  padding = [[0, 0], [_TAPS, _TAPS], [_TAPS, _TAPS], [0, 0]]
  values = tf.pad(tf.cast(images, tf.float32), padding, 'SYMMETRIC')
  weights = [weight / total for weight in weights]
  rows = [weights[abs(i - _TAPS)] * values[:, i : i + height] for i in range(2 * _TAPS + 1)]
  values = tf.add_n(rows)
  columns = [weights[abs(i - _TAPS)] * values[:, :, i : i + width] for i in range(2 * _TAPS + 1)]
  return tf.cast(tf.round(tf.clip_by_value(tf.add_n(columns), 0.0, 255.0)), tf.uint8)


def _jitter(values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
  """Brightness, contrast and saturation of [N, H, W, C] int32, as Pillow's ImageEnhance."""
  factors = [
    uniform(seeds, number, 1.0 - _JITTER, 1.0 + _JITTER)
    for number in (_BRIGHTNESS, _CONTRAST, _SATURATION)
  ]
  values = rand_augment.blend(0.0, values, factors[0])
  luma = tf.cast(_luma(values), tf.float32)
  values = rand_augment.blend(
    tf.floor(tf.reduce_mean(luma, (1, 2), keepdims=True) + 0.5), values, factors[1]
  )
  return rand_augment.blend(_luma(values), values, factors[2])


def _luma(values: tf.Tensor) -> tf.Tensor:
  return values if values.shape[-1] == 1 else tf.cast(to_grey(values), tf.int32)


POLICIES: dict[str, Policy] = {
  'augmix': aug_mix,
  'three_augment': three_augment,
  'trivial_augment': trivial_augment,
}
