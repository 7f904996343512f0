"""Keras Applications' own models give our logits, and ours theirs, on random weights
and statistics.

An independent proof of the nets too: Keras has no auxiliary heads and no background class, but its
conventions are ours: batch norm without gamma, epsilon 0.001, images in [-1, 1].
"""

import functools

import h5py
import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion

from tests import golden

pytestmark = pytest.mark.integration

KERAS = {
  'inception_v3': tf.keras.applications.InceptionV3,
  'inception_resnet_v2': tf.keras.applications.InceptionResNetV2,
}
LEAVES = {'kernel': 'weights', 'bias': 'biases'}
SIDE = 96


@pytest.fixture(scope='module')
def keras_model():
  """Makes Keras' own nets with random weights, each once, as not the first of a session."""
  tf.keras.layers.Conv2D(1, 1), tf.keras.layers.BatchNormalization()  # the nets' begin at _1

  @functools.cache
  def make(name):
    model = KERAS[name](
      weights=None, classes=7, input_shape=(SIDE, SIDE, 3), classifier_activation=None
    )
    for i, variable in enumerate(model.variables):
      leaf = variable.path.split('/')[-1]
      variable_name = f'{i}/{LEAVES.get(leaf, leaf)}'
      variable.assign(golden.weights(variable_name, tuple(variable.shape)))
    return model

  return make


def assert_same(weights, expected):
  assert weights.layers.keys() == expected.layers.keys()
  for scope, layer in weights.layers.items():
    np.testing.assert_array_equal(layer.weights, expected.layers[scope].weights)
    if layer.norm is not None:
      np.testing.assert_array_equal(layer.norm.mean, expected.layers[scope].norm.mean)
      np.testing.assert_array_equal(layer.norm.variance, expected.layers[scope].norm.variance)


@pytest.mark.parametrize(
  'name', ['inception_v3', pytest.param('inception_resnet_v2', marks=pytest.mark.slow)]
)
def test_from_keras_and_back(name, keras_model, tmp_path):
  theirs, path = keras_model(name), tmp_path / 'theirs.weights.h5'
  theirs.save_weights(path)
  ours = nets_factory.create_model(name, weights=path, create_aux_logits=False)
  images = golden.images(2, SIDE, SIDE)
  expected = theirs(images, training=False)
  assert golden.relative_error(ours(images)[0].numpy(), expected.numpy()) < 1e-4

  for variable_name, variable in ours.variables_by_name.items():
    variable.assign(golden.weights(variable_name, tuple(variable.shape), seed=2))
  ours.save(str(tmp_path / 'ours.ckpt'))
  weights = conversion.read(tmp_path / 'ours.ckpt', name)
  assert not weights.ignored
  assert conversion.write_keras(path, weights) == []
  assert sorted(p.name for p in tmp_path.glob('theirs*')) == [path.name]
  theirs.load_weights(path)
  expected = ours(images)[0].numpy()
  assert golden.relative_error(theirs(images, training=False).numpy(), expected) < 1e-4


def test_every_format_of_keras_reads_alike(keras_model, tmp_path):
  name = 'inception_v3'
  theirs = keras_model(name)
  paths = [tmp_path / file for file in ('a.weights.h5', 'b.h5', 'c.keras', 'd.weights.h5')]
  theirs.save_weights(paths[0])
  theirs.save(paths[1])
  theirs.save(paths[2])
  paths[3].write_bytes(paths[0].read_bytes())
  with h5py.File(paths[3], 'a') as file:  # as the first versions of Keras 3 wrote it
    for group in file['layers'].values():
      if 'vars' in group:
        group['vars'].attrs.pop('name', None)
  expected = conversion.read(paths[0], name)
  assert expected.num_classes == 7
  assert not expected.ignored
  for path in paths[1:]:
    assert_same(conversion.read(path, name), expected)

  with pytest.raises(ValueError, match='not of inception_resnet_v2: .* 203 unnamed .* one 94'):
    conversion.read(paths[0], 'inception_resnet_v2')
  with pytest.raises(ValueError, match='Keras Applications has no inception_v4; it has '):
    conversion.read(paths[0], 'inception_v4')


def test_without_top_and_within_another_model(keras_model, tmp_path):
  theirs = keras_model('inception_v3')
  body = tf.keras.Model(theirs.input, theirs.layers[-2].output)
  body.save_weights(tmp_path / 'notop.weights.h5')
  assert conversion.read(tmp_path / 'notop.weights.h5', 'inception_v3').num_classes is None
  mine = tf.keras.Sequential([body, tf.keras.layers.Dense(5, name='flowers')])
  mine.save_weights(tmp_path / 'mine.weights.h5')
  assert conversion.read(tmp_path / 'mine.weights.h5', 'inception_v3').num_classes == 5
