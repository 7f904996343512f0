"""The gradient of a convolution as a product, against TensorFlow's own kernel."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import convolution, processor

_SHAPES = {  # [N, H, W, C], kernel, padding
  '1x1': ((2, 9, 7, 5), (1, 1, 5, 4), 'SAME'),
  '3x3': ((2, 8, 8, 5), (3, 3, 5, 4), 'SAME'),
  '3x3 without padding': ((2, 8, 8, 5), (3, 3, 5, 4), 'VALID'),
  '1x3': ((2, 8, 8, 5), (1, 3, 5, 4), 'SAME'),
  'even': ((2, 6, 7, 3), (2, 4, 3, 4), 'SAME'),
  'all of it': ((2, 5, 5, 3), (5, 5, 3, 4), 'VALID'),
}


def _random(shape: tuple[int, ...], seed: int) -> tf.Tensor:
  return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


@pytest.mark.parametrize('name', _SHAPES)
def test_bfloat16_gradients_are_those_of_float32_but_for_rounding(monkeypatch, name: str):
  monkeypatch.setattr(processor, 'read_flags', lambda: {'amx_bf16'})  # which has products
  shape, kernel, padding = _SHAPES[name]
  # Few digits, so that bfloat16 holds them and the sums are all that is rounded.
  inputs, weights = (tf.round(8 * _random(s, i)) / 8 for i, s in enumerate((shape, kernel)))

  def gradients(dtype: tf.DType) -> list[tf.Tensor]:
    x, w = tf.cast(inputs, dtype), tf.cast(weights, dtype)
    with tf.GradientTape() as tape:
      tape.watch([x, w])
      outputs = convolution.convolve(x, w, (1, 1), padding, (1, 1), 'NHWC')
    return [tf.cast(g, tf.float32) for g in tape.gradient(outputs, [x, w])]

  for found, expected in zip(gradients(tf.bfloat16), gradients(tf.float32), strict=True):
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(('side', 'padding'), [(5, 'VALID'), (1, 'VALID'), (1, 'SAME')])
def test_a_kernel_that_sees_all_is_a_product(side: int, padding: str):
  images, weights = _random((3, side, side, 6), 0), _random((side, side, 6, 4), 1)

  @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, side, side, 6))])
  def convolve(images: tf.Tensor) -> tf.Tensor:
    return convolution.convolve(images, weights, (1, 1), padding, (1, 1), 'NHWC')

  expected = tf.nn.conv2d(images, weights, 1, padding)
  np.testing.assert_allclose(convolve(images), expected, rtol=1e-5, atol=1e-5)
  graph = convolve.get_concrete_function().graph
  assert 'Conv2D' not in {op.type for op in graph.get_operations()}


def test_only_what_pays_is_a_product(monkeypatch):
  def gradient_ops(places: int, kernel: int, dtype: tf.DType) -> set[str]:
    @tf.function(autograph=False)
    def gradient(images, weights):
      with tf.GradientTape() as tape:
        tape.watch(weights)
        outputs = convolution.convolve(images, weights, (1, 1), 'SAME', (1, 1), 'NHWC')
      return tape.gradient(outputs, weights)

    graph = gradient.get_concrete_function(
      tf.TensorSpec((None, places, places, 4), dtype),
      tf.TensorSpec((kernel, kernel, 4, 4), dtype),
    ).graph
    return {op.type for op in graph.get_operations()}

  has_amx, has_none = {'avx512_bf16', 'amx_bf16'}, {'avx512_bf16'}
  monkeypatch.setattr(processor, 'read_flags', lambda: has_none)
  assert 'MatMul' not in gradient_ops(35, 1, tf.bfloat16)
  monkeypatch.setattr(processor, 'read_flags', lambda: has_amx)
  with convolution.compiled_for_gpu():
    assert 'MatMul' not in gradient_ops(35, 1, tf.bfloat16)
  assert 'MatMul' in gradient_ops(35, 1, tf.bfloat16)
  assert 'MatMul' in gradient_ops(8, 3, tf.bfloat16)
  for case in ((17, 3, tf.bfloat16), (35, 1, tf.float32), (8, 3, tf.float32)):
    assert 'Conv2DBackpropFilter' in gradient_ops(*case)
    assert 'MatMul' not in gradient_ops(*case)


def test_float32_gradients_of_biases_in_training():
  upstream, outputs = _random((4, 35, 35, 8), 0), _random((4, 35, 35, 8), 1)

  @tf.function(autograph=False)
  def gradient(biases: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
      tape.watch(biases)
      added = convolution.add_biases(outputs, biases, 'NHWC')
    return tape.gradient(added, biases, upstream)

  biases = tf.zeros(8)
  for is_training in (False, True):
    with convolution.training(is_training):
      graph = gradient.get_concrete_function(biases).graph
      np.testing.assert_allclose(gradient(biases), np.sum(upstream, (0, 1, 2)), rtol=1e-4)
    kinds = {op.type for op in graph.get_operations()}
    assert ('BiasAddGrad' in kinds) != is_training
    assert ('MatMul' in kinds) == is_training
    gradient = tf.function(gradient.python_function, autograph=False)  # traced anew


def test_bfloat16_gradients_of_biases_are_summed_in_float32():
  """TensorFlow's own are off by a tenth of the largest here."""
  upstream = tf.cast(_random((4, 35, 35, 8), 0), tf.bfloat16)
  biases = tf.zeros(8, tf.bfloat16)
  outputs = tf.zeros((4, 35, 35, 8), tf.bfloat16)
  with tf.GradientTape() as tape:
    tape.watch([outputs, biases])
    added = convolution.add_biases(outputs, biases + 1, 'NHWC')
  np.testing.assert_array_equal(added, np.ones(added.shape))
  of_outputs, of_biases = tape.gradient(added, [outputs, biases], output_gradients=upstream)
  np.testing.assert_array_equal(of_outputs, upstream)
  expected = np.sum(np.float64(upstream), (0, 1, 2))
  np.testing.assert_allclose(np.float64(of_biases), expected, atol=0.01 * np.abs(expected).max())
