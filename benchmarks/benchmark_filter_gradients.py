"""Compares TensorFlow's kernel for filter gradients with a matrix product, for Inception-v3.

  python benchmarks/benchmark_filter_gradients.py

Prints a line for each shape: the milliseconds of both (median of 12 rounds, in turns) and their
ratio, with its smallest and largest value in a round. `nets/convolution.py` chooses by these
figures.
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tensorflow as tf
from slim_inception.nets import convolution

from slim_inception.bench import timing

_BATCH = 16
_ROUNDS = 12
# (places a side, kernel, channels, filters)
_CONVOLUTIONS = (
  (73, (1, 1), 64, 80),
  (35, (1, 1), 288, 64),
  (17, (1, 1), 768, 192),
  (8, (1, 1), 2048, 384),
  (8, (1, 3), 384, 384),
  (8, (3, 3), 448, 384),
  (17, (1, 7), 192, 192),
  (17, (3, 3), 128, 128),
  (35, (3, 3), 96, 96),
)


def main() -> None:
  for dtype in (tf.bfloat16, tf.float32):
    for side, kernel, channels, filters in _CONVOLUTIONS:
      images = tf.cast(tf.random.normal((_BATCH, side, side, channels)), dtype)
      upstream = tf.cast(tf.random.normal((_BATCH, side, side, filters)), dtype)
      times = _by_turns(images, upstream, tf.TensorShape((*kernel, channels, filters)))
      ratios = [product / own for own, product in zip(*times, strict=True)]
      own, product = (statistics.median(rounds) * 1e3 for rounds in times)
      print(
        f'{dtype.name:9} {side:3} x {side:<3} {kernel[0]} x {kernel[1]} {channels:5} -> '
        f'{filters:<4} kernel {own:6.2f} ms  product {product:6.2f} ms  '
        f'ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
      )


def _by_turns(images: tf.Tensor, upstream: tf.Tensor, shape: tf.TensorShape) -> list[list[float]]:
  def own() -> tf.Tensor:
    return tf.raw_ops.Conv2DBackpropFilter(
      input=images, filter_sizes=shape, out_backprop=upstream, strides=[1] * 4, padding='SAME'
    )

  def product() -> tf.Tensor:
    return convolution.filter_gradient(images, upstream, shape, 'SAME')

  ways = [tf.function(way, autograph=False) for way in (own, product)]
  return timing.by_turns(ways, lambda result: result.numpy(), num_rounds=_ROUNDS)


if __name__ == '__main__':
  main()
