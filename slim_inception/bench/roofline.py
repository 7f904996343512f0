"""What the machine can do at best: the rates of one large convolution and one matrix product."""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from slim_inception.bench import timing

# Larger than any of the nets' at the usual batch sizes: 46 and 34 GFLOP.
_IMAGES, _FILTERS = (32, 35, 35, 256), (3, 3, 256, 256)
_LEFT, _RIGHT = (4096, 2048), (2048, 2048)


def convolution_rate(precision: str) -> float:
  """FLOP/s of a 3 x 3 convolution on the first device."""
  flop = 2 * math.prod(_IMAGES) * math.prod(_FILTERS) // _FILTERS[2]
  return flop / _seconds(lambda x, w: tf.nn.conv2d(x, w, 1, 'SAME'), _IMAGES, _FILTERS, precision)


def product_rate(precision: str) -> float:
  """FLOP/s of a matrix product on the first device."""
  flop = 2 * math.prod(_LEFT) * _RIGHT[1]
  return flop / _seconds(tf.matmul, _LEFT, _RIGHT, precision)


def _seconds(
  function: Callable, left: Sequence[int], right: Sequence[int], precision: str
) -> float:
  compute = tf.function(function, autograph=False)
  arguments = [
    tf.cast(tf.random.stateless_normal(shape, (0, i)), precision)
    for i, shape in enumerate((left, right))
  ]
  times = timing.measure(
    lambda: compute(*arguments),
    lambda result: result[0].numpy(),
    warmup_steps=3,
    num_rounds=5,
  )
  return times.median
