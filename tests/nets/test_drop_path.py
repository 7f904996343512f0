"""Stochastic depth: which residuals an image loses, and what is left of the others."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception_utils, layers, nets_factory, resnet_utils
from slim_inception.nets.config import ModelConfig

from tests import golden, tiny

RATE = 0.6
SEED = tf.constant([3, 4], tf.int32)
IMAGES = tf.zeros((20000, 2))


@pytest.mark.parametrize(('number', 'count', 'rate'), [(1, 5, 0.15), (4, 5, 0.6), (0, 1, 0.6)])
def test_losses_grow_evenly_and_the_mean_stays(number, count, rate):
  factors = layers.drop_path(IMAGES, number, count, RATE, True, SEED).numpy()
  assert factors.shape == (20000, 1, 1, 1)
  np.testing.assert_allclose(np.unique(factors), [0, 1 / (1 - rate)], rtol=1e-6)
  assert np.mean(factors == 0) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 20000) ** 0.5)


def test_nothing_is_done_where_nothing_is_dropped():
  assert layers.drop_path(IMAGES, 0, 5, RATE) is None  # the first residual stays
  assert layers.drop_path(IMAGES, 4, 5, 0.0) is None
  assert layers.drop_path(IMAGES, 4, 5, RATE, is_training=False) is None
  outside = layers.drop_path(IMAGES, 4, 5, RATE, is_training=tf.constant(False))
  np.testing.assert_array_equal(outside, tf.ones((20000, 1, 1, 1)))


def test_samples_are_a_function_of_seed_and_residual():
  one, again, other_residual, other_seed = (
    layers.drop_path(IMAGES, number, 9, RATE, tf.constant(True), seed).numpy() > 0
    for number, seed in ((8, SEED), (8, SEED), (7, SEED), (8, SEED + 1))
  )
  np.testing.assert_array_equal(one, again)
  assert 0.3 < np.mean(one != other_residual) < 0.6  # of independent ones: 0.49
  assert 0.3 < np.mean(one != other_seed) < 0.6


@pytest.mark.parametrize('rate', [-0.1, 1.0, float('nan')])
def test_impossible_rates(rate):
  with pytest.raises(ValueError, match=f'rate is {rate}; it must be at least 0 and below 1'):
    inception_utils.with_stochastic_depth({}, rate)


@pytest.mark.integration
def test_what_the_units_of_a_resnet_add():
  """Each output is that of its short cut and of its last convolution, whole and larger, or not."""
  scope = inception_utils.with_stochastic_depth(resnet_utils.resnet_arg_scope(), RATE)
  model = nets_factory.create_model(
    'resnet_v1_50', 3, image_size=33, depth_multiplier=0.0625, arg_scope=scope
  )
  images = golden.images(16, 33, 33).astype(np.float32)
  _, end_points = model(images, training=True, dropout_seed=SEED)
  units = [unit for unit in nets_factory.get_net('resnet_v1_50').body if unit.join == 'add']
  net = None  # slim keeps no end point of the pooling before the first unit
  lost = []
  for k, unit in enumerate(units):
    stride = unit.reduction  # where the short cut is no convolution
    short_cut = end_points.get(
      f'{unit.end_point}/shortcut', None if net is None else net[:, ::stride, ::stride]
    )
    factors = np.where(np.arange(2) == 0, 0.0, 1 / (1 - RATE * k / 15)).reshape(2, 1, 1, 1, 1)
    choices = np.maximum(0, short_cut + factors * end_points[f'{unit.end_point}/conv3'])
    net = end_points[unit.end_point].numpy()
    off = np.abs(choices - net).max((2, 3, 4)) / np.abs(net).max()
    assert np.all(off.min(0) < 1e-5)
    lost.append(np.mean(off.argmin(0) == 0))
  assert lost[0] == 0 and 0.2 < np.mean(lost) < 0.4  # of 256 samples with a mean of 0.3


@pytest.mark.integration
@pytest.mark.parametrize('seed', [SEED, None])
def test_what_is_computed_anew_loses_the_same(seed):
  """Gradients with --recompute are those without it, also where the samples are TensorFlow's."""
  images = golden.images(8, 32, 32).astype(np.float32)
  scope = inception_utils.inception_arg_scope(batch_norm_decay=0.9)
  scope = inception_utils.with_stochastic_depth(scope, RATE)
  plain = nets_factory.create_model(tiny.NAME, 3, image_size=32, arg_scope=scope)
  recomputed = plain.clone(arg_scope=inception_utils.with_recomputed_gradients(scope))
  whole = plain.clone(arg_scope=inception_utils.inception_arg_scope())
  assert ModelConfig.from_json(recomputed.config.to_json()) == recomputed.config
  for name, variable in plain.variables_by_name.items():
    recomputed.variables_by_name[name].assign(variable)
    whole.variables_by_name[name].assign(variable)
  np.testing.assert_array_equal(whole(images)[0], plain(images)[0])  # at evaluation

  def gradients(model):
    tf.random.set_seed(5)
    with tf.GradientTape() as tape:
      _, end_points = model(images, training=True, dropout_seed=seed)
      loss = tf.reduce_sum(end_points['Mixed_3a'] ** 2)
    trained = [v for v in model.trainable_variables if 'ogits' not in v.name]
    return end_points['Block'].numpy(), tape.gradient(loss, trained)

  (output, right), (other, own) = gradients(plain), gradients(recomputed)
  np.testing.assert_allclose(other, output, rtol=1e-5, atol=1e-6)
  for gradient, expected in zip(own, right, strict=True):
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
  below = whole(images, training=True)[1]['Mixed_2a'].numpy()
  kept = np.any(np.abs(output - below) > 1e-6, (1, 2, 3))
  assert 0 < kept.sum() < 8
