"""Layers against NumPy, Keras and slim's documented behaviour."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import layers, slim

tf1 = tf.compat.v1
tf_slim = slim.tf_slim  # what users import


@pytest.fixture
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def run(*fetches, feed=None):
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    return session.run(fetches if len(fetches) > 1 else fetches[0], feed)


def noise(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def names() -> list[str]:
  return [variable.op.name for variable in tf1.global_variables()]


def test_conv2d_equals_keras():
  images = noise(2, 9, 8, 3)
  with tf.Graph().as_default():
    net = layers.conv2d(images, 4, [3, 5], 2, 'VALID', activation_fn=None, scope='c')
    assert names() == ['c/weights', 'c/biases']
    value, weights = run(net, tf1.global_variables()[0])
  keras = tf.keras.layers.Conv2D(4, (3, 5), strides=2, use_bias=False)
  keras.build(images.shape)
  keras.set_weights([weights])
  np.testing.assert_allclose(value, keras(images), rtol=1e-4, atol=1e-5)


def test_conv2d_scales_its_output_and_not_its_variables(graph):
  images = noise(1, 6, 6, 3)
  kwargs = {'scope': 'c', 'biases_initializer': tf1.constant_initializer(0.5)}
  scaled = layers.conv2d(images, 4, 3, activation_fn=None, scale=0.17, **kwargs)
  plain = layers.conv2d(images, 4, 3, activation_fn=None, reuse=True, **kwargs)
  found, expected, biases = run(scaled, plain, tf1.global_variables()[1])
  np.testing.assert_array_equal(biases, [0.5] * 4)
  np.testing.assert_allclose(found, 0.17 * expected, rtol=1e-5, atol=1e-6)


def test_fully_connected_equals_numpy(graph):
  inputs = noise(3, 5)
  net = layers.fully_connected(inputs, 4, scope='f')
  value, weights = run(net, tf1.global_variables()[0])
  np.testing.assert_allclose(value, np.maximum(inputs @ weights, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('fused', [None, False])
@pytest.mark.parametrize('shape', [(4, 3, 5, 2), (6, 2)])
def test_batch_norm_training_equals_numpy(graph, fused, shape):
  inputs = noise(*shape) * 3 + 1
  net = layers.batch_norm(inputs, decay=0.9, scale=True, fused=fused, scope='BatchNorm')
  with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
    net = tf.identity(net)
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    value = session.run(net)
    moving = {v.op.name: session.run(v) for v in tf1.global_variables()}
  rows = inputs.reshape(-1, 2).astype(np.float64)
  mean, variance = rows.mean(0), rows.var(0)
  np.testing.assert_allclose(value, (inputs - mean) / np.sqrt(variance + 0.001), atol=1e-4)
  np.testing.assert_allclose(moving['BatchNorm/moving_mean'], 0.1 * mean, rtol=1e-4)
  unbiased = 1 if fused is False else len(rows) / (len(rows) - 1)
  expected = 0.9 + 0.1 * variance * unbiased
  np.testing.assert_allclose(moving['BatchNorm/moving_variance'], expected, rtol=1e-4)


def test_batch_norm_inference_uses_the_moving_averages(graph):
  inputs = noise(4, 3, 3, 2)
  initializers = {
    'moving_mean': tf1.constant_initializer(2.0),
    'moving_variance': tf1.constant_initializer(4.0),
    'beta': tf1.constant_initializer(0.5),
  }
  net = layers.batch_norm(inputs, is_training=False, param_initializers=initializers)
  assert not tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
  np.testing.assert_allclose(run(net), (inputs - 2) / np.sqrt(4.001) + 0.5, atol=1e-5)


def test_batch_norm_in_place_updates(graph):
  net = layers.batch_norm(noise(4, 3, 3, 2), updates_collections=None, scope='b')
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    session.run(net)
    assert np.all(session.run(tf1.global_variables('b/moving_variance')[0]) != 1.0)
  assert not tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)


def test_is_training_may_be_a_tensor(graph):
  is_training = tf1.placeholder(tf.bool, ())
  inputs = noise(4, 3, 3, 2) + 5
  with slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training):
    net = layers.dropout(layers.batch_norm(inputs, decay=0.5, scope='b'), keep_prob=0.5)
  with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
    net = tf.identity(net)
  mean = tf1.global_variables('b/moving_mean')[0]
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    outside = session.run(net, {is_training: False})
    assert np.all(session.run(mean) == 0)
    inside = session.run(net, {is_training: True})
    np.testing.assert_allclose(session.run(mean), inputs.mean((0, 1, 2)) / 2, rtol=1e-4)
  np.testing.assert_allclose(outside, inputs / np.sqrt(1.001), rtol=1e-4)
  assert 0.2 < np.mean(inside == 0) < 0.8


def test_nchw_batch_norm(graph):
  inputs = noise(4, 3, 5, 2)
  nhwc = layers.batch_norm(inputs, scope='a', fused=False)
  nchw = layers.batch_norm(inputs.transpose(0, 3, 1, 2), scope='b', fused=False, data_format='NCHW')
  a, b = run(nhwc, nchw)
  np.testing.assert_allclose(a, b.transpose(0, 2, 3, 1), atol=1e-6)


def test_dropout_by_seed_is_a_function_of_the_seed():
  ones = tf.ones((4, 100))
  first, again, other = (
    layers.dropout(ones, 0.8, seed=tf.constant([1, step])).numpy() for step in (1, 1, 2)
  )
  np.testing.assert_array_equal(first, again)
  assert np.any(first != other)
  np.testing.assert_allclose(np.unique(first), [0, 1 / 0.8], rtol=1e-6)


def test_pools_have_slims_defaults(graph):
  images = noise(1, 7, 7, 1)
  largest, mean = run(layers.max_pool2d(images, 3), layers.avg_pool2d(images, 3, 1, 'SAME'))
  windows = np.lib.stride_tricks.sliding_window_view(images[0, :, :, 0], (3, 3))
  np.testing.assert_array_equal(largest[0, :, :, 0], windows[::2, ::2].max((2, 3)))
  np.testing.assert_allclose(mean[0, 0, 0, 0], images[0, :2, :2, 0].mean(), rtol=1e-5)


def test_softmax_and_flatten(graph):
  logits = noise(2, 3, 4)
  exponents = np.exp(logits)
  predictions, flat = run(layers.softmax(logits, scope='Predictions'), layers.flatten(logits))
  np.testing.assert_allclose(predictions, exponents / exponents.sum(-1, keepdims=True), rtol=1e-5)
  np.testing.assert_array_equal(flat, logits.reshape(2, 12))
  assert graph.get_operation_by_name('Predictions/Reshape_1')


def test_arg_scopes_of_slim_reach_ours_and_the_other_way_round(graph):
  with slim.arg_scope([tf_slim.conv2d], activation_fn=None, normalizer_fn=tf_slim.batch_norm):
    layers.conv2d(noise(1, 8, 8, 3), 4, 3, scope='Conv')
  assert names() == [
    'Conv/weights',
    'Conv/BatchNorm/beta',
    'Conv/BatchNorm/moving_mean',
    'Conv/BatchNorm/moving_variance',
  ]
  with slim.arg_scope([layers.conv2d], stride=2) as scope:
    assert scope[slim.key_of(tf_slim.conv2d)]['stride'] == 2


def test_slims_variable_scopes_place_and_collect_variables(graph):
  with (
    slim.arg_scope([slim.model_variable], device='/cpu:1'),
    slim.arg_scope([tf_slim.conv2d], variables_collections={'weights': ['mine']}),
    slim.arg_scope([tf_slim.conv2d, tf_slim.max_pool2d], outputs_collections='end_points'),
  ):
    net = layers.conv2d(noise(1, 8, 8, 3), 4, 3, scope='Conv')
    layers.max_pool2d(net, 2, scope='Pool')
  assert {v.device for v in tf1.global_variables()} == {'/device:CPU:1'}
  assert [v.op.name for v in tf1.get_collection('mine')] == ['Conv/weights']
  assert list(tf_slim.utils.convert_collection_to_dict('end_points')) == ['Conv', 'Pool']
  assert len(tf1.get_collection(tf1.GraphKeys.MODEL_VARIABLES)) == 2


def test_slims_other_ways_to_ask_for_batch_norm(graph):
  params = {'zero_debias_moving_mean': False, 'renorm': False, 'scope': 'bn'}
  normalizer_fn = functools.partial(tf_slim.batch_norm, scale=True)
  with tf1.variable_scope('net', partitioner=tf1.fixed_size_partitioner(2)):
    layers.conv2d(noise(2, 8, 8, 3), 4, 3, normalizer_fn=normalizer_fn, normalizer_params=params)
  moving = [name for name in names() if 'moving' in name]
  assert moving == ['net/Conv/bn/moving_mean', 'net/Conv/bn/moving_variance']
  assert 'net/Conv/bn/gamma/part_0' in names()
  with pytest.raises(ValueError, match='batch_norm has no batch_weights'):
    layers.batch_norm(noise(2, 3), renorm=True)


def test_clear_errors(graph):
  with pytest.raises(ValueError, match='cannot both differ from 1'):
    layers.conv2d(noise(1, 8, 8, 3), 4, 3, stride=2, rate=2)
  with pytest.raises(ValueError, match="data_format is 'NWHC'; choose 'NHWC' or 'NCHW'"):
    layers.conv2d(noise(1, 8, 8, 3), 4, 3, data_format='NWHC')
  with pytest.raises(ValueError, match=r'stride \(2, 2\) .* need stride 1 and NHWC'):
    layers.avg_pool2d(noise(1, 8, 8, 3), 3, 2, 'SAME', count_padding=True)
  with pytest.raises(ValueError, match='2 or 4 dimensions'):
    layers.batch_norm(noise(2, 3, 4))
  with pytest.raises(ValueError, match='number of channels must be known'):
    layers.fully_connected(tf1.placeholder(tf.float32, (2, None)), 4)
