"""The nets against the original code: names, shapes, trainability, end points, outputs."""

import collections
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory, slim, summary

from tests import golden, operations

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1


class Built(NamedTuple):
  name: str
  variables: list[tf.Variable]
  regularization_losses: list[tf.Tensor]
  update_ops: list
  logits: tf.Tensor
  end_points: dict[str, tf.Tensor]
  values: tuple[np.ndarray, dict[str, np.ndarray]]  # of logits and end points


@pytest.fixture(scope='module', params=golden.ALL_OR_SLOW)
def built(request) -> Built:
  """One net in a TF1 graph at the size of its golden, run with the golden weights."""
  net = nets_factory.get_net(request.param)
  with tf.Graph().as_default(), tf1.Session() as session:
    with slim.arg_scope(net.arg_scope()):
      logits, end_points = net.network_fn(
        tf.constant(golden.images(*golden.reference(request.param)['input'][:3])),
        is_training=False,
        **golden.ARGUMENTS[request.param],
      )
    variables = tf1.global_variables()
    placeholders = [tf1.placeholder(tf.float32, variable.shape) for variable in variables]
    values = [golden.weights(v.op.name, v.shape.as_list()) for v in variables]
    session.run(
      [v.assign(p) for v, p in zip(variables, placeholders, strict=True)],
      dict(zip(placeholders, values, strict=True)),
    )
    return Built(
      request.param,
      variables,
      tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES),
      tf1.get_collection(tf1.GraphKeys.UPDATE_OPS),
      logits,
      end_points,
      session.run((logits, end_points)),
    )


def test_variables(built):
  mine = [[v.op.name, v.shape.as_list(), v.trainable] for v in built.variables]
  assert sorted(mine) == sorted(golden.reference(built.name)['variables'])


def test_trainable_parameters(built):
  count = sum(v.shape.num_elements() for v in built.variables if v.trainable)
  assert count == golden.reference(built.name)['trainable_parameters']


def test_end_points(built):
  reference = golden.reference(built.name)
  assert list(built.end_points) == reference['end_points_order']
  shapes = {name: tensor.shape.as_list() for name, tensor in built.end_points.items()}
  assert shapes == reference['end_points']


def test_outputs(built):
  if not golden.has_outputs(built.name):
    pytest.skip("the original's outputs are stored for two depths of each ResNet")
  expected = golden.outputs(built.name)
  logits, end_points = built.values
  assert golden.relative_error(logits, expected['logits']) < 1e-4
  for key in (key for key in expected if key.startswith('ep/')):
    assert golden.relative_error(end_points[key.removeprefix('ep/')], expected[key]) < 1e-4
  for name, value in end_points.items():
    summary = np.array([value.mean(), value.std(), np.abs(value).max()])
    assert golden.relative_error(summary, expected[f'sum/{name}']) < 1e-4, name


def test_regularization_losses(built):
  regularized = [v for v in built.variables if v.op.name.endswith('/weights')]
  if built.name == 'inception_resnet_v2':
    regularized += [v for v in built.variables if v.op.name.endswith('biases')]
  assert len(built.regularization_losses) == len(regularized)


def variable_of(tensor: tf.Tensor) -> str:
  """The name of the variable that is read."""
  op = tensor.op
  while op.inputs:
    op = op.inputs[0].op
  return op.name


def scope_of(variable: str) -> str:
  """That of the layer."""
  return variable.rpartition('/')[0].removesuffix('/BatchNorm')


def test_summary_of_the_tables_is_that_of_the_graph(built):
  """Layer by layer: parameters, multiply-adds; and the end points with their shapes."""
  described = summary.summarize(built.name, golden.reference(built.name)['input'][1])
  trained = collections.Counter()
  for v in built.variables:
    if v.trainable:
      trained[scope_of(v.op.name)] += v.shape.num_elements()
  counted = collections.Counter()
  for op in built.logits.graph.get_operations():
    if adds := operations.multiply_adds_of(op):
      counted[scope_of(variable_of(op.inputs[1]))] += adds // 2  # of two images
  layers = {
    layer.scope: layer for block in described.blocks for layer in block.layers if layer.parameters
  }
  if built.name == 'inception_resnet_v1':  # facenet's ends in an embedding, ours has logits
    del layers['InceptionResnetV1/Logits/Logits']
    del trained['InceptionResnetV1/Bottleneck'], counted['InceptionResnetV1/Bottleneck']
  assert {scope: layer.parameters for scope, layer in layers.items()} == trained
  adds = {scope: layer.multiply_adds for scope, layer in layers.items() if layer.multiply_adds}
  assert adds == counted
  ours = {name: [2, *shape] for name, shape in summary.end_points(described).items()}
  expected = {name: tensor.shape.as_list() for name, tensor in built.end_points.items()}
  assert {name: ours[name] for name in expected} == expected
  assert set(ours) - set(expected) <= {'global_pool', 'Logits', 'Predictions'}
  if built.name != 'inception_resnet_v1':
    assert list(ours) == list(expected)
    assert described.parameters == golden.reference(built.name)['trainable_parameters']


def test_no_updates_outside_training(built):
  assert built.update_ops == []


@pytest.fixture(scope='module', params=[*golden.FIRST_OR_SLOW, 'resnet_v2_50', 'inception_v2'])
def model(request):
  """One net as a Model with the golden weights."""
  model = nets_factory.create_model(request.param, **golden.ARGUMENTS[request.param])
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, variable.shape.as_list()))
  return model


def test_model_has_the_same_variables(model):
  mine = [[name, v.shape.as_list(), v.trainable] for name, v in model.variables_by_name.items()]
  assert sorted(mine) == sorted(golden.reference(model.name)['variables'])


def test_model_outputs_eagerly(model):
  reference = golden.reference(model.name)
  logits, end_points = model(tf.constant(golden.images(*reference['input'][:3])))
  assert list(end_points) == reference['end_points_order']
  assert golden.relative_error(logits.numpy(), golden.outputs(model.name)['logits']) < 1e-4


def test_model_in_bfloat16_keeps_float32_logits(model):
  images = tf.constant(golden.images(*golden.reference(model.name)['input'][:3]), tf.bfloat16)
  logits, end_points = model(images)
  assert logits.dtype == tf.float32
  assert next(iter(end_points.values())).dtype == tf.bfloat16
  # bfloat16 has 8 bits of mantissa; the error after a hundred layers stays at a few of its steps.
  assert golden.relative_error(logits.numpy(), golden.outputs(model.name)['logits']) < 0.03
