"""The nets as ONNX, against themselves through ONNX Runtime."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from slim_inception.export.onnx import convert
from tests import tiny

onnx = pytest.importorskip('onnx', reason='extra onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='extra onnx')


def traced(network, size=32):
  return tf.function(
    network, [tf.TensorSpec([None, size, size, 3], tf.float32, 'images')], autograph=False
  ).get_concrete_function()


def answer(model, images):
  session = onnxruntime.InferenceSession(model.SerializeToString())
  return session.run(None, {'images': images})[0]


@pytest.mark.parametrize(
  ('name', 'size', 'arguments'),
  [
    (tiny.NAME, 33, {}),
    pytest.param('inception_v3', 75, {'depth_multiplier': 0.25}, marks=pytest.mark.slow),
    pytest.param('inception_v4', 107, {}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v1', 107, {}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v2', 107, {}, marks=pytest.mark.slow),
  ],
)
def test_gives_the_same(name, size, arguments):
  model = nets_factory.create_model(
    name, 7, image_size=size, create_aux_logits=False, **arguments
  ).fold_batch_norm()
  found = convert(traced(lambda images: tf.nn.softmax(model(images)[0] * 5.0), size))
  kinds = {node.op_type for node in found.graph.node}
  assert 'Conv' in kinds and not kinds & {'BatchNormalization', 'Reshape'}
  assert sum(node.op_type == 'Transpose' for node in found.graph.node) == 1
  images = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
  expected = tf.nn.softmax(model(tf.constant(images))[0] * 5.0).numpy()
  assert np.ptp(expected, axis=0).max() > 1e-3  # the images are told apart
  np.testing.assert_allclose(answer(found, images), expected, atol=1e-4)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize(('window', 'stride'), [((3, 2), 2), ((1, 7), 1), ((2, 2), 3)])
def test_windows_lie_where_they_do_in_tensorflow(padding, window, stride):
  kernel = tf.Variable(tf.random.stateless_normal((*window, 3, 5), (1, 2)))
  bias = tf.Variable(tf.zeros([5]))

  def network(images):
    net = tf.nn.bias_add(tf.nn.conv2d(images, kernel, stride, padding), bias)
    most = tf.nn.max_pool2d(net, window, stride, padding)
    mean = tf.nn.avg_pool2d(net, window, stride, padding)
    net = tf.concat([most, mean], 3)
    return tf.squeeze(tf.nn.avg_pool2d(net, net.shape[1:3], 1, 'VALID'), [1, 2])

  images = np.random.default_rng(0).normal(size=(2, 31, 31, 3)).astype(np.float32)
  found = answer(convert(traced(network, 31)), images)
  np.testing.assert_allclose(found, network(images), rtol=1e-5, atol=1e-5)


def test_unknown_operations_are_named():
  with pytest.raises(ValueError, match=r'Tanh: Tanh is not written as ONNX; known: Conv2D'):
    convert(traced(lambda images: tf.tanh(images)[:, 0, 0]))
  with pytest.raises(ValueError, match=r'makes \(None, 32, 96\) of \(None, 32, 32, 3\)'):
    convert(traced(lambda images: tf.reshape(images, [-1, 32, 96])))


def test_flattened_places_keep_their_order():
  weights = tf.Variable(tf.random.stateless_normal((8 * 8 * 3, 4), (1, 2)))
  biases = tf.Variable(tf.range(4.0))

  def network(images):
    rows = tf.reshape(images, (-1, 8 * 8 * 3))
    product = tf.reshape(tf.matmul(rows, weights * 0.5), (-1, 1, 1, 4))
    return tf.squeeze(tf.nn.bias_add(product, biases), (1, 2))

  images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  found = answer(convert(traced(network, 8)), images)
  np.testing.assert_allclose(found, network(images), rtol=1e-5, atol=1e-5)
