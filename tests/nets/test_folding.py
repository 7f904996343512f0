"""A net with batch norm folded into its weights, against the same net as it is."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, layers, nets_factory
from slim_inception.nets.model import Model

from tests import tiny

pytestmark = pytest.mark.integration


def _disturb(model: Model, seed: int) -> None:
  """Statistics and parameters of batch norm as after training: nothing is 0 or 1."""
  random = np.random.default_rng(seed)
  for name, variable in model.variables_by_name.items():
    if '/BatchNorm/' in name:
      low, high = (0.5, 1.5) if name.endswith(('gamma', 'variance')) else (-0.3, 0.3)
      variable.assign(random.uniform(low, high, variable.shape))


@pytest.mark.parametrize(
  ('name', 'arguments'),
  [
    ('inception_v3', {'depth_multiplier': 0.25}),
    pytest.param('inception_v4', {}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v1', {'bottleneck_layer_size': 16}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v2', {}, marks=pytest.mark.slow),
  ],
)
def test_gives_the_same_and_follows_the_weights_when_asked(name: str, arguments: dict):
  net = nets_factory.get_net(name)
  scope = net.arg_scope(batch_norm_scale=True, batch_norm_epsilon=0.01)
  model = nets_factory.create_model(name, 7, image_size=107, arg_scope=scope, **arguments)
  _disturb(model, seed=0)
  folded = model.fold_batch_norm()
  assert not any('BatchNorm' in name for name in folded.variables_by_name)
  images = tf.random.stateless_uniform((2, 107, 107, 3), (1, 1), -1, 1)
  expected, end_points = model(images)
  outputs, folded_end_points = folded(images)
  _assert_close(outputs, expected)
  assert list(folded_end_points) == list(end_points)
  for end_point, value in end_points.items():
    _assert_close(folded_end_points[end_point], value)

  _disturb(model, seed=1)
  assert np.abs(model(images)[0] - expected).max() > 1e-3
  assert model.fold_batch_norm(into=folded) is folded
  _assert_close(folded(images)[0], model(images)[0])


def _assert_close(tensor: tf.Tensor, expected: tf.Tensor) -> None:
  np.testing.assert_allclose(tensor, expected, atol=1e-4 * np.abs(expected).max())


def test_batch_norm_of_its_own_is_refused():
  def network_fn(images, is_training):
    return layers.batch_norm(images, is_training=is_training, scope='Norm/BatchNorm'), {}

  model = tiny.model_of(network_fn, inception.inception_v3_arg_scope(), 8)
  with pytest.raises(ValueError, match=r'there are no Norm/weights to fold it into'):
    model.fold_batch_norm()
