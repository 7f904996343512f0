"""Random samples as functions of seeds: the same whenever a run is resumed.

Each sample has a number of its own, so that none depends on which others are taken. Those of
`inception_preprocessing` are 0 to 7, of `mixing` from 100, of `rand_augment` from 200, of
`vgg_preprocessing` from 300, of `facenet_preprocessing` from 400, of `policies` from 500, of
`orientation` from 600.
"""

import tensorflow as tf

_VIEW = 0x2545F491  # an odd number, in the word that is the run's: far from seeds that runs have


def fold_in(seed: tf.Tensor, number: int) -> tf.Tensor:
  """The seed [2] int32 of a sample, for TensorFlow's stateless generators, from a seed [2]."""
  return tf.random.experimental.stateless_fold_in(seed, number)


def of_view(seeds: tf.Tensor, view: int) -> tf.Tensor:
  """Seeds [N, 2] int32 of another view of the same images; view 0 has those of the images."""
  return tf.bitwise.bitwise_xor(seeds, tf.constant([[view * _VIEW, 0]], tf.int32))


def uniform(seeds: tf.Tensor, number: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
  """One float32 in [low, high) per image, [N, 1, 1, 1], from its seed and the number alone.

  TensorFlow's stateless generators take one seed per call, not one per image. This is a 32-bit
  integer hash (xor-shift-multiply, constants by C. Wellons' hash prospector) of the two seed words
  and the number; int64 holds the products.
  """
  mask = 0xFFFFFFFF

  def xor_shift(x, bits):
    if isinstance(x, int):
      return x ^ x >> bits
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(bits, x.dtype)))

  def mix(x):
    x = xor_shift(x, 16) * 0x21F0AAAD & mask
    x = xor_shift(x, 15) * 0x735A2D97 & mask
    return xor_shift(x, 15)

  words = tf.cast(seeds, tf.int64) & mask
  bits = number + 1  # the first of all calls of `mix` is Python's, one node of a graph
  for word in (words[:, 0], words[:, 1]):
    bits = mix((mix(bits) + word) & mask)
  unit = tf.cast(bits // 256, tf.float32) * 2.0**-24  # 24 bits: exact in float32, never 1
  return tf.reshape(low + (high - low) * unit, [-1, 1, 1, 1])
