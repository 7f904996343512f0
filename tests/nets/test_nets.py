"""What research code does with the nets, in TF1 graphs and as Models; small images throughout."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import (
  build,
  geometry,
  inception,
  inception_resnet_v2,
  inception_v3,
  layers,
  nets_factory,
  slim,
)
from slim_inception.nets.blocks import avg_pool, conv, row
from slim_inception.nets.build import Variant

from tests import golden, zygote

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1


@pytest.fixture
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def images(side: int = 75, batch: int | None = 2, width: int | None = None) -> tf.Tensor:
  return tf1.placeholder(tf.float32, (batch, side, side if width is None else width, 3))


def thin_v3(inputs, num_classes=5, **kwargs):
  """Inception-v3 with few filters."""
  return inception.inception_v3(inputs, num_classes, depth_multiplier=0.1, min_depth=4, **kwargs)


# Inception-v3 stands for all where the code is shared.


def test_base_stops_at_every_end_point(graph):
  for r in inception_v3.BODY[:12]:
    with tf1.variable_scope(r.end_point):
      net, end_points = inception.inception_v3_base(
        images(), r.end_point, min_depth=2, depth_multiplier=0.01
      )
    assert list(end_points)[-1] == r.end_point
    assert net is end_points[r.end_point]


def test_unknown_final_endpoint_lists_the_choices(graph):
  with pytest.raises(ValueError, match="'Mixed_9z'; choose one of Conv2d_1a_3x3, .*Mixed_7c"):
    inception.inception_v3_base(images(), 'Mixed_9z')


@pytest.mark.parametrize('name', golden.NAMES)
def test_smallest_images_are_75_pixels_and_smaller_are_refused(name, graph):
  body = __import__(f'slim_inception.nets.{name}', fromlist=['BODY']).BODY
  assert geometry.smallest_input(body) == 75
  assert geometry.output_size(body, 75) == 1
  base = getattr(inception, f'{name}_base')
  with pytest.raises(ValueError, match=r'74 x 80 pixels are too small .* smallest .* 75 x 75'):
    base(images(74, width=80))
  assert base(images(16), 'Conv2d_2b_3x3')[0].shape.as_list() == [2, 5, 5, 64]


def test_auxiliary_head_is_left_out_of_small_images_and_said_so(graph, caplog):
  caplog.set_level('WARNING', 'absl')
  _, end_points = thin_v3(images(106), is_training=False, scope='Quiet')
  assert caplog.text == ''
  _, end_points = thin_v3(images(106))
  assert 'AuxLogits' not in end_points
  assert 'InceptionV3: features of 4 x 4 are too small for the auxiliary head' in caplog.text
  _, end_points = thin_v3(images(107), scope='Larger')
  assert end_points['AuxLogits'].shape.as_list() == [2, 5]
  assert 'Larger/AuxLogits/Conv2d_2a_1x1/weights' in [v.op.name for v in tf1.global_variables()]


def test_depth_multiplier(graph):
  _, end_points = inception.inception_v3_base(images(), depth_multiplier=0.5)
  assert end_points['Mixed_7c'].shape[3] == 1024
  with tf1.variable_scope('wide'):
    _, end_points = inception.inception_v3_base(images(), 'Conv2d_2b_3x3', depth_multiplier=2.0)
  assert end_points['Conv2d_2b_3x3'].shape[3] == 128
  with pytest.raises(ValueError, match='depth_multiplier is 0; it must be greater than zero'):
    inception.inception_v3(images(), depth_multiplier=0)


def test_reuse_shares_variables(graph):
  train, _ = thin_v3(images(), is_training=True)
  count = len(tf1.global_variables())
  evaluate, _ = thin_v3(images(), is_training=False, reuse=True)
  assert len(tf1.global_variables()) == count
  assert train is not evaluate
  with pytest.raises(ValueError, match='already exists'):
    thin_v3(images())


def test_num_classes_none_gives_features(graph):
  for name, base_depth in (('inception_v3', 2048), ('inception_resnet_v1', 1792)):
    network_fn = nets_factory.get_network_fn(name, num_classes=None)
    net, end_points = network_fn(images())
    assert net.shape.as_list() == [2, 1, 1, base_depth]
    assert 'Logits' not in end_points
    assert 'AuxLogits' not in end_points


def test_spatial_squeeze_prediction_fn_and_global_pool(graph):
  logits, end_points = thin_v3(images(), spatial_squeeze=False, scope='A')
  assert logits.shape.as_list() == [2, 1, 1, 5]
  assert end_points['Predictions'].shape.as_list() == [2, 1, 1, 5]

  def sigmoid(logits, scope):
    return tf.sigmoid(logits, name=scope)

  _, end_points = thin_v3(images(), prediction_fn=sigmoid, scope='B')
  assert end_points['Predictions'].op.type == 'Sigmoid'
  _, end_points = thin_v3(images(), global_pool=True, scope='C')
  assert 'global_pool' in end_points
  assert 'AvgPool_1a' not in end_points


def test_images_too_large_to_squeeze_are_refused(graph):
  with pytest.raises(ValueError, match='2 x 2 places of the logits: give global_pool=True'):
    thin_v3(images(363), create_aux_logits=False)
  with pytest.raises(ValueError, match='2 x 2 places of AuxLogits: give create_aux_logits=False'):
    thin_v3(images(347), scope='Other')
  # slim's head pools windows of 8 x 8 with stride 2.
  logits, _ = thin_v3(images(363), spatial_squeeze=False, create_aux_logits=False, scope='Kept')
  assert logits.shape.as_list() == [2, 2, 2, 5]


@pytest.mark.parametrize('name', golden.FIRST_OR_SLOW)
def test_unknown_batch_and_image_size(name, graph):
  network_fn = nets_factory.get_network_fn(name, num_classes=5)
  inputs = tf1.placeholder(tf.float32, (None, None, None, 3))
  kwargs = {'global_pool': True, 'create_aux_logits': False} if name == 'inception_v3' else {}
  logits, _ = network_fn(inputs, **kwargs)
  assert logits.shape.as_list() == [None, 5]
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    for shape in ((1, 75, 90, 3), (3, 139, 120, 3)):
      assert session.run(logits, {inputs: np.zeros(shape)}).shape == (shape[0], 5)


def test_collections_in_training(graph):
  with slim.arg_scope(inception.inception_v3_arg_scope()):
    thin_v3(images(), is_training=True)
  variables = tf1.global_variables()
  norms = [v for v in variables if v.op.name.endswith('moving_mean')]
  weights = [v for v in variables if v.op.name.endswith('weights')]
  assert len(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)) == 2 * len(norms)
  assert len(tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES)) == len(weights)
  assert set(tf1.get_collection(tf1.GraphKeys.MODEL_VARIABLES)) == set(variables)
  assert len(tf1.trainable_variables()) == len(variables) - 2 * len(norms)


def test_arg_scope_values(graph):
  scope = inception.inception_v4_arg_scope(
    weight_decay=0.1,
    batch_norm_decay=0.5,
    batch_norm_epsilon=0.01,
    activation_fn=tf.nn.relu6,
    batch_norm_updates_collections='updates',
    batch_norm_scale=True,
  )
  with slim.arg_scope(scope), slim.arg_scope([layers.conv2d], trainable=False):
    inception.inception_v4_base(images(), 'Conv2d_1a_3x3')
  names = [f'InceptionV4/Conv2d_1a_3x3/BatchNorm/{leaf}' for leaf in ('beta', 'gamma')]
  assert [v.op.name for v in tf1.global_variables()][1:3] == names
  assert [v.op.name for v in tf1.trainable_variables()] == names
  operations = {op.type for op in graph.get_operations()}
  assert 'Relu6' in operations and 'Relu' not in operations
  fused = next(op for op in graph.get_operations() if op.type == 'FusedBatchNormV3')
  assert fused.get_attr('epsilon') == pytest.approx(0.01)
  assert len(tf1.get_collection('updates')) == 2
  (loss,) = tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES)
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    weights, value = session.run((tf1.global_variables()[0], loss))
  assert value == pytest.approx(0.1 * (weights**2).sum() / 2, rel=1e-4)


@pytest.mark.parametrize('name', golden.NAMES)
def test_arg_scope_without_batch_norm(name, graph):
  scope = getattr(inception, f'{name}_arg_scope')(use_batch_norm=False)
  with slim.arg_scope(scope):
    getattr(inception, f'{name}_base')(images(), 'Conv2d_2a_3x3')
  leaves = {v.op.name.rsplit('/', 1)[-1] for v in tf1.global_variables()}
  assert leaves == {'weights', 'biases'}


def test_op_names_that_deployed_graphs_fetch(graph):
  thin_v3(images())
  for name in (
    'InceptionV3/Conv2d_1a_3x3/Conv2D',
    'InceptionV3/MaxPool_5a_3x3/MaxPool',
    'InceptionV3/Mixed_5b/Branch_3/AvgPool_0a_3x3/AvgPool',
    'Logits/AvgPool_1a_1x1/AvgPool',
    'Predictions/Reshape_1',
  ):
    assert graph.get_operation_by_name(f'InceptionV3/{name}')
  nets_factory.get_network_fn('inception_resnet_v1', 5)(images())
  assert graph.get_operation_by_name('InceptionResnetV1/Logits/Flatten/flatten/Reshape')


# Inception-ResNet-v2 as a back-bone.


@pytest.mark.slow
def test_output_stride_8_keeps_the_values_of_the_classifier(graph):
  inputs = tf.constant(golden.images(1, 107, 123))
  outputs = {}
  for stride in (16, 8):
    with (
      slim.arg_scope(inception.inception_resnet_v2_arg_scope()),
      slim.arg_scope([layers.batch_norm], is_training=False),
    ):
      _, outputs[stride] = inception.inception_resnet_v2_base(
        inputs, output_stride=stride, scope=tf1.VariableScope(tf1.AUTO_REUSE, 'InceptionResnetV2')
      )
  assert outputs[8]['Mixed_6a'].shape.as_list() == [1, 9, 11, 1088]
  assert outputs[8]['Conv2d_7b_1x1'].shape.as_list() == [1, 5, 7, 1536]
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    dense, sparse = session.run((outputs[8], outputs[16]))
  for name, step in (('Mixed_5b', 1), ('PreAuxLogits', 2), ('Mixed_7a', 4), ('Conv2d_7b_1x1', 4)):
    assert golden.relative_error(dense[name][:, ::step, ::step], sparse[name]) < 1e-4, name


def test_align_feature_maps(graph):
  _, end_points = inception.inception_resnet_v2_base(
    images(65), 'PreAuxLogits', align_feature_maps=True
  )
  sides = [tensor.shape[1] for tensor in end_points.values()]
  assert sides == [33, 33, 33, 17, 17, 17, 9, 9, 5, 5]
  with pytest.raises(ValueError, match='output_stride is 32; choose 8 or 16'):
    inception.inception_resnet_v2_base(images(), output_stride=32)


def test_relu6_clips_the_residuals_but_the_last(graph):
  inception.inception_resnet_v2_base(images(), activation_fn=tf.nn.relu6)
  clipped = [op for op in graph.get_operations() if op.type == 'Minimum']
  assert len(clipped) == 10 + 20 + 9  # Block8 is linear


def test_blocks_are_functions_too(graph):
  """The Object Detection API builds the second stage of Faster R-CNN of them."""
  net = tf1.placeholder(tf.float32, (1, 4, 4, 32))
  net = slim.tf_slim.repeat(net, 2, inception_resnet_v2.block8, scale=0.20)
  net = inception_resnet_v2.block8(net, activation_fn=None)
  assert net.shape.as_list() == [1, 4, 4, 32]
  scopes = {v.op.name.split('/Branch')[0] for v in tf1.global_variables() if 'Branch' in v.op.name}
  assert scopes == {'Repeat/block8_1', 'Repeat/block8_2', 'Block8'}


@pytest.mark.parametrize('variant', [Variant(), Variant(rate=2)], ids=['plain', 'dilated'])
@pytest.mark.parametrize('pooling', [{}, {'count_padding': True}], ids=['excluded', 'counted'])
def test_pooling_behind_the_convolution_is_pooling_before_it(variant, pooling, graph):
  """Borders, where windows are cut off, and the normalizer and biases included."""
  unit = row('Mixed', ([avg_pool(3), conv(4, 1)],))
  net = tf.constant(np.random.default_rng(0).normal(size=(2, 9, 7, 24)), tf.float32)
  for biases in (False, True):
    ends = {'biases_initializer': tf1.constant_initializer(0.5)} if biases else {}
    ends['normalizer_fn'] = None if biases else layers.batch_norm
    with (
      slim.arg_scope([layers.conv2d], **ends),
      slim.arg_scope([layers.avg_pool2d], **pooling),
      tf1.variable_scope('net', reuse=tf1.AUTO_REUSE),
    ):
      ours = build.run_branches(net, unit, variant)
      with tf1.variable_scope('Branch_0'):
        drawn = net
        for cell in unit.cells:
          drawn = build.run_cell(drawn, cell, variant)
    with tf1.Session() as session:
      session.run(tf1.global_variables_initializer())
      values, expected = session.run([ours, drawn])
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_branches_of_different_strides_are_refused():
  with pytest.raises(ValueError, match=r'Mixed_6a: its branches have strides \[2, 1\]'):
    row('Mixed_6a', ([conv(8, 3, stride=2)], [conv(8, 3)]))


SLIM_ERA_SCRIPT = """
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import numpy as np
import tf_slim as slim
from slim_inception.nets import inception

images = tf.placeholder(tf.float32, [None, None, None, 3])
is_training = tf.placeholder(tf.bool)
with slim.arg_scope(inception.inception_v3_arg_scope()):
  logits, end_points = inception.inception_v3(
      images, 5, is_training=is_training, depth_multiplier=0.1, min_depth=4)
loss = tf.losses.softmax_cross_entropy([[1, 0, 0, 0, 0]] * 2, logits) + tf.losses.get_total_loss()
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
  step = tf.train.RMSPropOptimizer(0.1).minimize(loss)
with tf.Session() as session:
  session.run(tf.global_variables_initializer())
  feed = {images: np.zeros((2, 299, 299, 3)), is_training: True}
  session.run(step, feed)
  print(sorted(end_points)[0], session.run(logits, feed).shape)
"""


@pytest.mark.slow
def test_a_script_of_slims_days_runs():
  done = zygote.run(code=SLIM_ERA_SCRIPT)
  assert done.stdout.strip() == 'AuxLogits (2, 5)', done.stderr


def test_get_network_fn_has_slims_attribute(graph):
  network_fn = nets_factory.get_network_fn('inception_v4', 10, weight_decay=0.1, is_training=True)
  assert network_fn.default_image_size == inception.inception_v4.default_image_size == 299
