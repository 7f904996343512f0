"""The algebra on layers, against NumPy in float64."""

import os

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import layers
from slim_inception.nets.convert import formats
from slim_inception.nets.convert.layers import Layer, Norm, fold_gamma, fold_normalization

EPSILON = 0.001  # of the nets' batch norm


def random_layer():
  rng = np.random.default_rng(0)
  gamma = np.array([1.5, -0.7, 0.0, 1.0, -2.0])
  return Layer(
    rng.standard_normal((3, 3, 3, 5)),
    norm=Norm(rng.standard_normal(5), rng.standard_normal(5), rng.uniform(0, 2, 5), gamma),
  )


def run(layer, patches):
  """[N, 3, 3, 3] -> [N, 5]: a VALID convolution at one place, then batch norm or biases."""
  net, norm = np.einsum('nhwi,hwio->no', patches, layer.weights), layer.norm
  if norm is None:
    return net + layer.biases
  gamma = 1.0 if norm.gamma is None else norm.gamma
  return (net - norm.mean) * gamma / np.sqrt(norm.variance + EPSILON) + norm.beta


def test_a_fifo_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'model.ckpt')
  with pytest.raises(ValueError, match=r'model.ckpt is neither a file nor a folder'):
    formats.recognise(str(tmp_path / 'model.ckpt'))


def test_gamma_folds_exactly_whatever_its_sign():
  patches = np.random.default_rng(1).standard_normal((4, 3, 3, 3))
  layer = random_layer()
  folded = fold_gamma(layer)
  assert folded.norm.gamma is None
  np.testing.assert_allclose(run(folded, patches), run(layer, patches), rtol=1e-12)
  np.testing.assert_array_equal(folded.norm.variance, layer.norm.variance)


@pytest.mark.parametrize(
  ('mean', 'std'),
  [
    ((127.5,), (127.5,)),
    ((127.5,), (128.0,)),
    ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ((123.68, 116.78, 103.94), (1.0,)),
  ],
)
@pytest.mark.parametrize('has_norm', [True, False])
def test_normalization_folds_exactly(mean, std, has_norm):
  layer = random_layer()
  if not has_norm:
    layer = Layer(layer.weights, biases=layer.norm.beta)
  pixels = np.random.default_rng(2).uniform(0, 255, (4, 3, 3, 3))
  expected = run(layer, (pixels - mean) / std)
  folded = run(fold_normalization(layer, mean, std), pixels / 127.5 - 1)
  tolerance = 1e-5 * np.abs(expected).max()  # rounded to float32
  np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=tolerance)
  own = np.array([120.0, 110.0, 100.0]), np.array([60.0])
  folded = run(fold_normalization(layer, mean, std, own), (pixels - own[0]) / own[1])
  np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=tolerance)


def test_normalization_of_other_channels():
  layer = random_layer()._replace(weights=np.zeros((3, 3, 1, 5)))
  with pytest.raises(ValueError, match='has 1 channels, the normalization is for 3'):
    fold_normalization(layer, (1.0, 2.0, 3.0), (1.0,))


def test_average_pools_that_count_the_padding():
  ones = tf.ones((1, 4, 4, 1))
  slims = layers.avg_pool2d(ones, 3, 1, 'SAME')
  np.testing.assert_allclose(slims, ones, rtol=1e-6)
  torchs = layers.avg_pool2d(ones, 3, 1, 'SAME', count_padding=True)[0, ..., 0]
  rows = np.array([2, 3, 3, 2]) / 3
  np.testing.assert_allclose(torchs, np.outer(rows, rows), rtol=1e-6)
