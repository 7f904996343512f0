"""Measures three ways to build the 1 x 1 convolutions of a block that see its input.

  python benchmarks/benchmark_branches.py

Prints a line for each block of Inception-v3, for training (forward and backward, batch 16) and
inference (batch 32, batch norm folded): the milliseconds of the block as the papers' figures draw
it, and the ratio of the other ways to that, as the median, smallest and largest of the rounds.
`nets/build.py` pools behind the convolution and keeps sibling convolutions apart.
"""

import functools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tensorflow as tf
from slim_inception.nets.convolution import convolve

from slim_inception.bench import timing

_ROUNDS = 10


class _Block(NamedTuple):
  name: str
  side: int
  channels: int
  filters: tuple[int, ...]  # of the 1 x 1 convolutions, the pooled one last


_BLOCKS = (
  _Block('Mixed_5c', 35, 256, (64, 48, 64, 64)),
  _Block('Mixed_6b', 17, 768, (192, 128, 128, 192)),
  _Block('Mixed_6e', 17, 768, (192, 192, 192, 192)),
  _Block('Mixed_7c', 8, 2048, (320, 384, 448, 192)),
)
Tensors = list[tf.Tensor]


def _convolve(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
  return convolve(images, tf.cast(weights, images.dtype), (1, 1), 'SAME', (1, 1), 'NHWC')


def _pool(images: tf.Tensor) -> tf.Tensor:
  return tf.nn.avg_pool2d(images, 3, 1, 'SAME')


def _end(outputs: tf.Tensor, beta: tf.Tensor, training: bool) -> tf.Tensor:
  """Batch norm, or what is left of it at inference, and the activation."""
  if training:
    ones = tf.ones_like(beta)
    outputs = tf.compat.v1.nn.fused_batch_norm(outputs, ones, beta, is_training=True)[0]
  else:
    outputs = tf.nn.bias_add(outputs, tf.cast(beta, outputs.dtype))
  return tf.nn.relu(outputs)


def _as_drawn(images: tf.Tensor, weights: Tensors, betas: Tensors, training: bool) -> Tensors:
  inputs = [images] * (len(weights) - 1) + [_pool(images)]
  outputs = map(_convolve, inputs, weights)
  return [_end(out, beta, training) for out, beta in zip(outputs, betas, strict=True)]


def _pool_behind(images: tf.Tensor, weights: Tensors, betas: Tensors, training: bool) -> Tensors:
  outputs = [_convolve(images, w) for w in weights]
  outputs[-1] = _pool(outputs[-1])
  return [_end(out, beta, training) for out, beta in zip(outputs, betas, strict=True)]


def _siblings_as_one(
  images: tf.Tensor, weights: Tensors, betas: Tensors, training: bool
) -> Tensors:
  together = _convolve(images, tf.concat(weights[:-1], 3))
  together = _end(together, tf.concat(betas[:-1], 0), training)
  pooled = _end(_pool(_convolve(images, weights[-1])), betas[-1], training)
  return [*tf.split(together, [w.shape[-1] for w in weights[:-1]], 3), pooled]


_WAYS = {
  'as drawn': _as_drawn,
  'pool behind': _pool_behind,
  'and siblings as one': _siblings_as_one,
}


def main() -> None:
  for training in (True, False):
    for dtype in (tf.bfloat16, tf.float32):
      for block in _BLOCKS:
        ways = [_make(way, block, dtype, training) for way in _WAYS.values()]
        times = timing.by_turns(ways, lambda result: result.numpy(), num_rounds=_ROUNDS)
        _report(block, dtype, training, times)


def _make(way: Callable, block: _Block, dtype: tf.DType, training: bool) -> Callable:
  """A call of it; the result is one number that needs all of them."""
  batch = 16 if training else 32
  shape = batch, block.side, block.side
  images = tf.cast(tf.random.normal((*shape, block.channels)), dtype)
  weights = [tf.Variable(tf.random.normal((1, 1, block.channels, n))) for n in block.filters]
  betas = [tf.Variable(tf.zeros(n)) for n in block.filters]
  upstream = [tf.cast(tf.random.normal((*shape, n)), dtype) for n in block.filters]

  def train() -> Tensors:
    with tf.GradientTape() as tape:
      tape.watch(images)
      outputs = way(images, weights, betas, training=True)
    return tape.gradient(outputs, [images, *weights, *betas], output_gradients=upstream)

  @functools.partial(tf.function, autograph=False)
  def call() -> tf.Tensor:
    results = train() if training else way(images, weights, betas, training=False)
    return tf.add_n([tf.cast(tf.reduce_max(result), tf.float32) for result in results])

  return call


def _report(block: _Block, dtype: tf.DType, training: bool, times: list[list[float]]) -> None:
  drawn = times[0]
  line = f'{"training" if training else "inference":9} {dtype.name:9} {block.name}'
  line += f'  {statistics.median(drawn) * 1e3:6.1f} ms as drawn'
  for name, seconds in list(zip(_WAYS, times, strict=True))[1:]:
    ratios = [new / old for new, old in zip(seconds, drawn, strict=True)]
    middle = statistics.median(ratios)
    line += f'  {name} {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
  print(line)


if __name__ == '__main__':
  main()
