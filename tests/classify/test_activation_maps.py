"""Class activation maps are the logits, pixel by pixel."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from slim_inception.classify import activation_maps
from tests import tiny

pytestmark = pytest.mark.integration

_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  ('name', 'size', 'places'),
  [
    (tiny.NAME, 32, 7),
    pytest.param('inception_v3', 139, 3, marks=_SLOW),
    pytest.param('inception_v4', 139, 3, marks=_SLOW),
    pytest.param('inception_resnet_v1', 139, 3, marks=_SLOW),
    pytest.param('inception_resnet_v2', 139, 3, marks=_SLOW),
    pytest.param('inception_v3', 299, 8, marks=_SLOW),
  ],
)
def test_mean_and_bias_are_the_logit(name, size, places):
  net = nets_factory.get_net(name)
  model = nets_factory.create_model(name, 7, image_size=size, create_aux_logits=False)
  biases = model.variables_by_name[f'{net.logits_scope}/biases']
  biases.assign(tf.range(7.0))
  images = tf.random.uniform((2, size, size, 3), -1, 1, seed=1)
  logits, more = activation_maps.logits_and_maps(model, net, images)
  maps = more['maps'].numpy()
  assert maps.shape == (2, places, places, 7)
  expected, _ = model(images)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(maps.mean((1, 2)) + np.arange(7.0), expected, rtol=1e-4, atol=1e-4)
  assert maps.std(axis=(1, 2)).min() > 0
  activation_maps.check(logits[0].numpy(), maps[0], biases.numpy(), size)


def test_a_map_shows_where(monkeypatch):
  """The part of a pixel changes where the image does, and hardly anywhere else."""
  net = nets_factory.get_net(tiny.NAME)
  model = nets_factory.create_model(tiny.NAME, 7, create_aux_logits=False)
  plain = tf.zeros((1, 32, 32, 3))
  corner = plain + tf.pad(tf.ones((1, 6, 6, 3)), ((0, 0), (26, 0), (0, 26), (0, 0)))
  _, more = activation_maps.logits_and_maps(model, net, tf.concat([plain, corner], 0))
  before, after = more['maps'].numpy()
  changed = np.abs(after - before).sum(-1)
  assert changed[-1, 0] > 0
  np.testing.assert_allclose(changed[:3, 4:], 0, atol=1e-5)


def test_maps_that_are_not_the_logits():
  logits, maps, biases = np.ones(2), np.ones((9, 9, 2)), np.zeros(2)
  activation_maps.check(logits, maps, biases, 331)
  maps[8, 8] = 3
  with pytest.raises(
    ValueError, match='--explain_method=cam cannot be exact at 331 pixels: .* 9 x 9 pixels'
  ):
    activation_maps.check(logits, maps, biases, 331)


@pytest.mark.slow
def test_a_bottleneck_is_refused():
  net = nets_factory.get_net('inception_resnet_v1')
  model = nets_factory.create_model(
    'inception_resnet_v1', 7, image_size=75, bottleneck_layer_size=8
  )
  with pytest.raises(
    ValueError, match='--explain_method=cam needs logits that are made of the pooled'
  ):
    activation_maps.logits_and_maps(model, net, tf.zeros((1, 75, 75, 3)))
