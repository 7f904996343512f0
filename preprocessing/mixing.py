"""Images of a batch mixed with each other or blotted out: mixup, cutmix, random erasing.

All of it runs on the device, on what `train_device` returns. The partner of an image is the one as
far from the end of the batch of its replica as it is from the start. What is sampled for a batch is
a function of the seed of its first image.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from .normalization import Normalization
from .sampling import fold_in, uniform

_GAMMA, _POWER, _KIND, _CENTRE, _ERASE, _AREA, _RATIO, _TOP, _LEFT, _NOISE = range(100, 110)

# arXiv:1708.04896 section 4: share of the image, and height over width.
_ERASED_AREA = (0.02, 0.4)
_ERASED_RATIO = (0.3, 1 / 0.3)


class Mix(NamedTuple):
  """How one batch is mixed."""

  share: tf.Tensor  # of an image in its mixture, float32 scalar
  is_cut: tf.Tensor  # cutmix rather than mixup, bool scalar
  centre: tf.Tensor  # of the window that is cut, [2] float32 y, x in [0, 1)


def sample(seed: tf.Tensor, mixup_alpha: float, cutmix_alpha: float) -> Mix:
  """Samples how to mix a batch: by mixup (arXiv:1710.09412) or cutmix (1905.04899).

  Args:
    seed: [2] int32.
    mixup_alpha: the share is a sample of Beta(alpha, alpha); 0 turns mixup off.
    cutmix_alpha: likewise of cutmix. With both, each is taken for half of the batches.
  """
  kind = tf.random.stateless_uniform([], fold_in(seed, _KIND))
  is_cut = kind < (0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0))
  alpha = tf.where(is_cut, float(cutmix_alpha), float(mixup_alpha))
  centre = tf.random.stateless_uniform([2], fold_in(seed, _CENTRE))
  return Mix(_beta(seed, alpha), is_cut, centre)


def _beta(seed: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
  """A sample of Beta(alpha, alpha): X / (X + Y) of two of Gamma(alpha).

  Gamma(alpha) is Gamma(alpha + 1) U^(1 / alpha), which for small alphas leaves the range of
  float32; its logarithm does not.
  """
  gammas = tf.random.stateless_gamma([2], fold_in(seed, _GAMMA), alpha + 1.0)
  uniforms = 1.0 - tf.random.stateless_uniform([2], fold_in(seed, _POWER))  # never 0
  logs = tf.math.log(gammas) + tf.math.log(uniforms) / alpha
  return tf.sigmoid(logs[0] - logs[1])


def mix(images: tf.Tensor, how: Mix) -> tuple[tf.Tensor, tf.Tensor]:
  """Mixes each image with its partner.

  Args:
    images: [N, H, W, C], any float type.
    how: from `sample`.

  Returns:
    The mixed images, and the share of each in its mixture, float32 scalar: where a window was
    cut, what is left of the area.
  """
  window = _window(images.shape[1], images.shape[2], how)
  kept = tf.where(how.is_cut, 1.0 - window, how.share)  # [1, H, W, 1]
  share = tf.reduce_mean(kept)
  kept = tf.cast(kept, images.dtype)
  return kept * images + (1.0 - kept) * tf.reverse(images, [0]), share


def mix_targets(targets: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
  """Mixes targets [N, K] as `mix` mixed their images."""
  return share * targets + (1.0 - share) * tf.reverse(targets, [0])


def _window(height: int, width: int, how: Mix) -> tf.Tensor:
  """1 inside the window of 1 - share of the area, [1, H, W, 1]; the edges may cut it off."""
  side = tf.sqrt(1.0 - how.share)
  inside = []
  for length, centre in ((height, how.centre[0]), (width, how.centre[1])):
    half = tf.floor(tf.floor(length * side) / 2.0)
    middle = tf.floor(length * centre)
    positions = tf.range(length, dtype=tf.float32)
    inside.append(tf.logical_and(positions >= middle - half, positions < middle + half))
  window = tf.logical_and(inside[0][:, tf.newaxis], inside[1])
  return tf.cast(window, tf.float32)[tf.newaxis, :, :, tf.newaxis]


def erase(
  images: tf.Tensor, seeds: tf.Tensor, probability: float, normalization: Normalization
) -> tf.Tensor:
  """Fills a random rectangle of some images with noise (arXiv:1708.04896, variant RE-R).

  Differs from the paper: a rectangle that does not fit is cut to the image's side, not sampled
  again, and the logarithm of its ratio is what is uniform, so that tall and wide are alike.

  Args:
    images: [N, H, W, C] as the net is given them, any float type.
    seeds: [N, 2] int32; each image has its own rectangle.
    probability: that an image has one.
    normalization: of the images; the noise is evenly spread from black to white.
  """
  _, height, width, _ = images.shape
  area = uniform(seeds, _AREA, *_ERASED_AREA)
  ratio = tf.exp(uniform(seeds, _RATIO, *map(math.log, _ERASED_RATIO)))
  inside = uniform(seeds, _ERASE) < probability  # [N, 1, 1, 1]
  for length, share, start_number, shape in (
    (height, tf.sqrt(area * ratio), _TOP, (1, height, 1, 1)),
    (width, tf.sqrt(area / ratio), _LEFT, (1, 1, width, 1)),
  ):
    size = tf.round(length * tf.minimum(share, 1.0))
    start = tf.floor(uniform(seeds, start_number) * (length - size + 1.0))
    positions = tf.reshape(tf.range(length, dtype=tf.float32), shape)
    inside = tf.logical_and(inside, tf.logical_and(positions >= start, positions < start + size))
  low, high = normalization.value_range
  noise = tf.random.stateless_uniform(tf.shape(images), fold_in(seeds[0], _NOISE))
  noise = noise * (high - low) + low
  return tf.where(inside, tf.cast(noise, images.dtype), images)
