"""An independent proof: Keras Applications' nets give the same probabilities, both ways.

Keras has no auxiliary heads and no background class; here its conventions are ours: batch norm
without gamma, epsilon 0.001, images in [-1, 1].
"""

import re

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory
from tests import golden

KERAS = {
  'inception_v3': tf.keras.applications.InceptionV3,
  'inception_resnet_v2': tf.keras.applications.InceptionResNetV2,
}
SIDE = 107


def keras_layer(name: str, automatic: list[str]) -> str:
  """The Keras layer that has a variable of ours; `automatic`: our conv scopes in their order."""
  scope = name.split('/', 1)[1].rsplit('/', 1)[0]
  is_norm = scope.endswith('/BatchNorm')
  scope = scope.removesuffix('/BatchNorm')
  if scope.startswith('Logits'):
    return 'predictions'
  if scope == 'Conv2d_7b_1x1':
    return 'conv_7b_bn' if is_norm else 'conv_7b'
  if scope == 'Block8/Conv2d_1x1':
    return 'block8_10_conv'
  if match := re.fullmatch(r'Repeat\w*/(block\d+_\d+)/Conv2d_1x1', scope):
    return f'{match[1]}_conv'
  number = automatic.index(scope)
  kind = 'batch_normalization' if is_norm else 'conv2d'
  return kind if number == 0 else f'{kind}_{number}'


def pairs(model, keras_model) -> list[tuple[tf.Variable, tf.Variable]]:
  """Each variable of `model` with its counterpart."""
  normalized = [
    name.split('/', 1)[1].removesuffix('/BatchNorm/beta')
    for name in model.variables_by_name
    if name.endswith('BatchNorm/beta') and 'Conv2d_7b' not in name
  ]
  leaves = {
    'weights': 'kernel',
    'biases': 'bias',
    'beta': 'beta',
    'moving_mean': 'moving_mean',
    'moving_variance': 'moving_variance',
  }
  found = []
  for name, variable in model.variables_by_name.items():
    layer = keras_model.get_layer(keras_layer(name, normalized))
    found.append((variable, getattr(layer, leaves[name.rsplit('/', 1)[-1]])))
  assert len(found) == len(keras_model.weights)
  return found


@pytest.mark.parametrize('name', KERAS)
def test_same_probabilities(name):
  tf.keras.backend.clear_session()
  keras_model = KERAS[name](weights=None, classes=7, input_shape=(SIDE, SIDE, 3))
  model = nets_factory.create_model(name, 7, image_size=SIDE, create_aux_logits=False)
  images = golden.images(2, SIDE, SIDE)
  both = pairs(model, keras_model)

  for i, (ours, theirs) in enumerate(both):  # to Keras
    ours.assign(golden.weights(f'{i}/{ours.name.split("/")[-1][:-2]}', ours.shape))
    theirs.assign(tf.reshape(ours, theirs.shape))
  expected = keras_model(images, training=False).numpy()
  _, end_points = model(images)
  np.testing.assert_allclose(end_points['Predictions'], expected, rtol=1e-3, atol=1e-6)

  for i, (ours, theirs) in enumerate(both):  # from Keras
    value = golden.weights(f'{i}/{ours.name.split("/")[-1][:-2]}', ours.shape, seed=1)
    theirs.assign(value.reshape(theirs.shape))
    ours.assign(tf.reshape(theirs.value, ours.shape))
  again = keras_model(images, training=False).numpy()
  assert np.abs(again - expected).max() > 0.01  # other weights, other answers
  _, end_points = model(images)
  np.testing.assert_allclose(end_points['Predictions'], again, rtol=1e-3, atol=1e-6)
