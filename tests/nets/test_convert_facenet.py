"""deepface's and keras-facenet's nets of Keras give our embeddings, and ours theirs.

The net is built here from the names and sizes of their layers; those who have the packages compare
with the packages' own.
"""

import importlib

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, keras_applications

from tests import golden

pytestmark = pytest.mark.integration

NAME, SIDE = 'inception_resnet_v1', 80
LEAVES = {'kernel': 'weights', 'bias': 'biases'}
KERAS = tf.keras.layers


def scaled(images, scale):
  return images * scale


def _convolution(net, depth, kernel, name, stride=1, padding='same'):
  """Convolution, batch norm without gamma, ReLU."""
  net = KERAS.Conv2D(depth, kernel, stride, padding, use_bias=False, name=name)(net)
  norm = KERAS.BatchNormalization(
    momentum=0.995, epsilon=0.001, scale=False, name=f'{name}_BatchNorm'
  )
  return KERAS.Activation('relu', name=f'{name}_Activation')(norm(net))


def _block(net, kind, number, kernels, depth, scale, second, activate=True):
  """A residual block; `kernels` of each branch, all `depth` deep."""
  name, ends = f'{kind}_{number}', []
  for i, branch in enumerate(kernels):
    end, branch_name = net, f'{name}_Branch_{second if i == 1 else i}'
    for letter, kernel in zip('abc', branch, strict=False):
      stage = f'0{letter}_' if len(branch) > 1 else ''
      size = f'{kernel[0]}x{kernel[1]}'
      end = _convolution(end, depth, kernel, f'{branch_name}_Conv2d_{stage}{size}')
    ends.append(end)
  mixed = KERAS.Concatenate(name=f'{name}_Concatenate')(ends)
  up = KERAS.Conv2D(net.shape[-1], 1, name=f'{name}_Conv2d_1x1')(mixed)
  net = KERAS.Add()([net, KERAS.Lambda(scaled, arguments={'scale': scale})(up)])
  return KERAS.Activation('relu', name=f'{name}_Activation')(net) if activate else net


def _reduction(net, name, branches):
  """Branches of (depth, kernel, layer, stride), and a pooling."""
  ends = []
  for i, branch in enumerate(branches):
    end = net
    for depth, kernel, layer, stride in branch:
      padding = 'valid' if stride > 1 else 'same'
      end = _convolution(end, depth, kernel, f'{name}_Branch_{i}_Conv2d_{layer}', stride, padding)
    ends.append(end)
  pooled = KERAS.MaxPooling2D(3, 2, name=f'{name}_Branch_{len(ends)}_MaxPool_1a_3x3')(net)
  return KERAS.Concatenate(name=name)([*ends, pooled])


_1, _3 = (1, 1), (3, 3)
_35, _17, _8 = (
  ((_1,), (_1, _3), (_1, _3, _3)),
  ((_1,), (_1, (1, 7), (7, 1))),
  ((_1,), (_1, (1, 3), (3, 1))),
)


def keras_net(width, of_deepface=False):
  """Inception-ResNet-v1 with random weights."""
  images = net = KERAS.Input((SIDE, SIDE, 3))
  net = _convolution(net, 32, 3, 'Conv2d_1a_3x3', 2, 'valid')
  net = _convolution(net, 32, 3, 'Conv2d_2a_3x3', 1, 'valid')
  net = _convolution(net, 64, 3, 'Conv2d_2b_3x3')
  net = KERAS.MaxPooling2D(3, 2, name='MaxPool_3a_3x3')(net)
  net = _convolution(net, 80, 1, 'Conv2d_3b_1x1', 1, 'valid')
  net = _convolution(net, 192, 3, 'Conv2d_4a_3x3', 1, 'valid')
  net = _convolution(net, 256, 3, 'Conv2d_4b_3x3', 2, 'valid')
  for i in range(1, 6):
    net = _block(net, 'Block35', i, _35, 32, 0.17, 1)
  branch = [(192, 1, '0a_1x1', 1), (192, 3, '0b_3x3', 1), (256, 3, '1a_3x3', 2)]
  net = _reduction(net, 'Mixed_6a', [[(384, 3, '1a_3x3', 2)], branch])
  for i in range(1, 11):
    net = _block(net, 'Block17', i, _17, 128, 0.1, i if of_deepface else 1)
  first, last = (256, 1, '0a_1x1', 1), (256, 3, '1a_3x3', 2)
  branches = [[first, (384, *last[1:])], [first, last], [first, (256, 3, '0b_3x3', 1), last]]
  net = _reduction(net, 'Mixed_7a', branches)
  for i in range(1, 6):
    net = _block(net, 'Block8', i, _8, 192, 0.2, i if of_deepface else 1)
  net = _block(net, 'Block8', 6, _8, 192, 1.0, 1, activate=False)
  net = KERAS.Dropout(0.2)(KERAS.GlobalAveragePooling2D(name='AvgPool')(net))
  net = KERAS.Dense(width, use_bias=False, name='Bottleneck')(net)
  norm = KERAS.BatchNormalization(
    momentum=0.995, epsilon=0.001, scale=False, name='Bottleneck_BatchNorm'
  )
  return randomized(tf.keras.Model(images, norm(net)))


def randomized(model):
  for variable in model.variables:
    layer, leaf = variable.path.split('/')[-2:]
    name = f'{layer}/{LEAVES.get(leaf, leaf)}'
    variable.assign(golden.weights(name, tuple(variable.shape)))
  return model


@pytest.fixture(scope='module')
def theirs():
  return keras_net(128)


def embeddings(model, images):
  return model(images, training=False).numpy()


def test_both_ways(theirs, tmp_path):
  theirs.save(tmp_path / 'facenet_keras.h5')  # Keras 2's layout, the configuration in it
  images = golden.images(2, SIDE, SIDE)
  expected = embeddings(theirs, images)
  ours = nets_factory.create_model(NAME, weights=tmp_path / 'facenet_keras.h5')
  assert ours.config.arguments == {'bottleneck_layer_size': 128}
  assert golden.relative_error(ours(images)[0], expected) < 1e-4

  theirs.save_weights(tmp_path / 'a.weights.h5')
  with_names = conversion.read(tmp_path / 'a.weights.h5', NAME)
  weights = conversion.read(tmp_path / 'facenet_keras.h5', NAME)
  assert weights.layers.keys() == with_names.layers.keys()
  assert not weights.left_out
  for scope, layer in weights.layers.items():
    np.testing.assert_array_equal(layer.weights, with_names.layers[scope].weights)

  for variable_name, variable in ours.variables_by_name.items():
    variable.assign(golden.weights(variable_name, tuple(variable.shape), seed=2))
  ours.save(tmp_path / 'ours.ckpt')
  weights = conversion.read(tmp_path / 'ours.ckpt', NAME)
  assert conversion.write_keras(tmp_path / 'back.h5', weights) == []
  theirs.load_weights(tmp_path / 'back.h5')
  expected = ours(images)[0].numpy()
  assert golden.relative_error(embeddings(theirs, images), expected) < 1e-4


def test_deepfaces_names_of_branches(theirs, tmp_path):
  """A file of names alone: the second branch of its block i is called Branch_i."""
  theirs.save_weights(tmp_path / 'a.weights.h5')
  arrays = keras_applications.read_h5(tmp_path / 'a.weights.h5', NAME).arrays
  renamed = {}
  for name, array in arrays.items():
    block, _, rest = name.partition('_Branch_1_')
    kind, _, number = block.partition('_')
    is_renamed = rest and kind in ('Block17', 'Block8') and number != '6'
    renamed[f'{block}_Branch_{number}_{rest}' if is_renamed else name] = array
  assert sum(a != b for a, b in zip(arrays, renamed, strict=True)) > 100
  layers, left_out, unknown = keras_applications.layers(renamed, NAME)
  assert not left_out
  assert not unknown
  expected = keras_applications.layers(arrays, NAME).layers
  assert layers.keys() == expected.keys()
  for scope, layer in layers.items():
    assert layer.weights is expected[scope].weights


def test_without_embedding_and_of_another_net(theirs, tmp_path):
  body = tf.keras.Model(theirs.input, theirs.get_layer('AvgPool').output)
  body.save_weights(tmp_path / 'a.weights.h5')
  weights = conversion.read(tmp_path / 'a.weights.h5', NAME)
  assert weights.arguments == {}
  assert weights.num_classes is None
  with pytest.raises(ValueError, match='InceptionV3 of Keras Applications has 94 unnamed'):
    conversion.read(tmp_path / 'a.weights.h5', 'inception_v3')
  head = tf.keras.layers.Dense(3, name='people')(theirs.output)
  tf.keras.Model(theirs.input, head).save_weights(tmp_path / 'b.weights.h5')
  with pytest.raises(ValueError, match='it also has people: num_classes=None of create_model'):
    conversion.read(tmp_path / 'b.weights.h5', NAME)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('package', 'module', 'arguments'),
  [
    ('deepface', 'deepface.models.facial_recognition.tf.Facenet', {'dimension': 512}),
    ('keras-facenet', 'keras_facenet.inception_resnet_v1', {'classes': 512}),
  ],
)
def test_the_packages_own_nets(package, module, arguments, tmp_path):
  pytest.importorskip(module, reason=f'{package} is not installed')
  model = randomized(importlib.import_module(module).InceptionResNetV1(**arguments))
  layers = [layer.name for layer in model.layers]
  images = golden.images(2, 160, 160)
  expected = embeddings(model, images)
  model.save(tmp_path / 'theirs.h5')
  weights = conversion.read(tmp_path / 'theirs.h5', NAME)
  ours = nets_factory.create_model(NAME, None, **weights.arguments)
  assert not conversion.fill(ours.variables_by_name, weights, ()).fresh
  embedding = ours(images)[0].numpy()
  if 'normalize' in layers:
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
  assert golden.relative_error(embedding, expected) < 1e-4

  conversion.write_keras(tmp_path / 'back.h5', weights)
  for variable in model.variables:
    variable.assign(tf.zeros_like(variable))
  model.load_weights(tmp_path / 'back.h5')
  np.testing.assert_array_equal(embeddings(model, images), expected)
