"""Gradients with less memory: the same, and what is kept for them."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, inception_utils, layers, nets_factory, recompute

from tests import golden, tiny

pytestmark = pytest.mark.integration

_SEED = tf.constant([0, 1])


def pair(scope=None, model_name=tiny.NAME, num_classes=3, **arguments):
  """A model, and one with the same values that computes again."""
  scope = scope or inception.inception_v3_arg_scope(batch_norm_decay=0.9)
  plain = nets_factory.create_model(model_name, num_classes, arg_scope=scope, **arguments)
  recomputed = plain.clone(arg_scope=inception_utils.with_recomputed_gradients(scope))
  copy_values(plain, recomputed)
  return plain, recomputed


def copy_values(one, other):
  for name, variable in one.variables_by_name.items():
    other.variables_by_name[name].assign(variable.read_value())


def step_of(model, images):
  def step(upstream=None):
    with tf.GradientTape() as tape:
      logits, end_points = model(images, training=True, dropout_seed=_SEED)
      loss = tf.reduce_sum(logits**2) + tf.reduce_sum(end_points.get('AuxLogits', 0.0) ** 2)
    return tape.gradient(loss, model.trainable_variables, upstream)

  return step


def assert_same_step(models, steps):
  copy_values(*models)
  for gradient, right in zip(*(step() for step in steps), strict=True):
    np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-4)
  for variable, right in zip(*(model.variables for model in models), strict=True):
    np.testing.assert_allclose(variable, right, rtol=1e-5, atol=1e-6)


def slow(*values):
  return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ('kind', 'products'),  # 0: all convolutions of this net are kept; 256: none is
  [
    ('float32', 0),
    ('float32', 256),
    *(
      slow(kind, products)
      for kind in ('bfloat16', 'unfused batch norm', 'frozen batch norm', 'relu6', 'no norm')
      for products in (0, 256)
    ),
  ],
)
def test_gradients_are_the_same_and_averages_move_once(monkeypatch, kind, products):
  monkeypatch.setattr(layers, '_MOST_PRODUCTS_AGAIN', products)
  scope = {
    'unfused batch norm': lambda scope: inception_utils._with(
      scope, layers.batch_norm, fused=False
    ),
    'frozen batch norm': inception_utils.with_frozen_batch_norm,
  }.get(kind, lambda scope: scope)(
    inception.inception_v3_arg_scope(
      batch_norm_decay=0.9,
      use_batch_norm=kind != 'no norm',
      activation_fn=tf.nn.relu6 if kind == 'relu6' else tf.nn.relu,
    )
  )
  models = pair(scope)
  images = golden.images(4, 32, 32).astype(np.float32)
  if kind == 'bfloat16':
    images = tf.cast(images, tf.bfloat16)
  steps = [step_of(model, images) for model in models]
  assert_same_step(models, [tf.function(step, autograph=False) for step in steps])
  if (kind, products) == ('float32', 0):
    assert_same_step(models, steps)
    moved = models[1].variables_by_name['InceptionTiny/Conv2d_1a_3x3/BatchNorm/moving_mean']
    assert np.abs(moved).max() > 0.001


@pytest.mark.parametrize('name', ['resnet_v1_50', 'resnet_v2_50', 'inception_resnet_v2'])
@pytest.mark.slow
def test_gradients_of_whole_nets_are_the_same(name):
  models = pair(nets_factory.get_net(name).arg_scope(), name, image_size=96)
  images = golden.images(2, 96, 96).astype(np.float32)
  steps = [tf.function(step_of(model, images), autograph=False) for model in models]
  for gradient, right in zip(*(step() for step in steps), strict=True):
    np.testing.assert_allclose(gradient, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize('synchronized', [False, True])
def test_gradients_of_replicas(mirrored, synchronized):
  images = golden.images(4, 40, 40).astype(np.float32)
  scope = inception.inception_v3_arg_scope(batch_norm_decay=0.9)
  if synchronized:
    scope = inception_utils.with_synchronized_batch_norm(scope)
  with mirrored.scope():
    plain, recomputed = pair(scope, create_aux_logits=False)

  def run(model):
    def step():
      replica = tf.distribute.get_replica_context().replica_id_in_sync_group
      own = tf.gather(images, tf.range(2) + 2 * replica)
      return step_of(model, own)()

    gradients = tf.function(lambda: mirrored.run(step), autograph=False)()
    return [mirrored.experimental_local_results(gradient) for gradient in gradients]

  for gradient, right in zip(run(recomputed), run(plain), strict=True):
    for of_replica, expected in zip(gradient, right, strict=True):
      np.testing.assert_allclose(of_replica, expected, rtol=1e-4, atol=1e-4)
  for variable, expected in zip(recomputed.variables, plain.variables, strict=True):
    np.testing.assert_allclose(variable.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def kept_values(model, size, count=4) -> dict[str, int]:
  """How many values of maps the gradients read that were there before them, by operation."""
  images = tf.zeros((count, size, size, 3))
  signature = [tf.TensorSpec((), tf.float32)]
  step = tf.function(step_of(model, images), input_signature=signature, autograph=False)
  graph = step.get_concrete_function().graph
  upstream = graph.inputs[0].op
  after, live = {upstream.name}, {tensor.op.name for tensor in graph.outputs}
  operations = graph.get_operations()  # in the order of building
  for operation in operations:
    if any(tensor.op.name in after for tensor in operation.inputs):
      after.add(operation.name)
  for operation in reversed(operations):
    if operation.name in live:
      live.update(tensor.op.name for tensor in operation.inputs)
  kept = {}
  for operation in operations:
    if operation.name in after and operation.name in live and operation is not upstream:
      for tensor in operation.inputs:
        while tensor.op.type in ('Identity', 'IdentityN'):
          tensor = tensor.op.inputs[tensor.op.outputs.index(tensor)]
        if tensor.shape.rank == 4 and tensor.shape[0] == count and tensor.op.name not in after:
          kept[tensor.name] = tensor
  sizes: dict[str, int] = {}
  for tensor in kept.values():
    sizes[tensor.op.type] = sizes.get(tensor.op.type, 0) + tensor.shape.num_elements()
  return sizes


def test_what_is_kept(monkeypatch):
  monkeypatch.setattr(layers, '_MOST_PRODUCTS_AGAIN', 0)
  plain, recomputed = (kept_values(model, 32) for model in pair(create_aux_logits=False))
  maps = {'FusedBatchNormV3', 'Relu', 'ConcatV2', 'MaxPool'}
  assert maps & set(plain) >= {'Relu', 'ConcatV2'}
  # The activation after a residual sum is kept, for it would need the whole net before it again,
  # and a pool of it as well.
  assert maps & set(recomputed) == {'Relu', 'MaxPool'}
  block = 4 * 15 * 15 * 24
  assert recomputed['Relu'] == block < plain['Relu']
  assert recomputed['Conv2D'] <= plain['Conv2D']
  assert sum(recomputed.values()) < 0.6 * sum(plain.values())


@pytest.mark.parametrize(('name', 'share'), [('inception_v3', 0.4), ('resnet_v1_50', 0.45)])
@pytest.mark.slow
def test_at_most_half_is_kept_of_whole_nets(name, share):
  models = pair(nets_factory.get_net(name).arg_scope(), name, num_classes=1001)
  plain, recomputed = (kept_values(model, model.image_size) for model in models)
  assert sum(recomputed.values()) < share * sum(plain.values())


def test_inference_and_other_functions_are_left_alone():
  calls = []

  def double(x):
    calls.append(x)
    return 2.0 * x

  x = tf.constant([1.0, 2.0])
  with recompute.forgetting(), tf.GradientTape() as tape:
    tape.watch(x)
    kept = recompute.run(double, [x])  # it has no parameter that could wait
    again = recompute.run(lambda x, y: double(x * y), [x], [tf.constant([3.0, 3.0])])
    product = recompute.run_activation(double, again)  # may have variables
    total = kept + product
  assert len(calls) == 3
  np.testing.assert_array_equal(tape.gradient(total, x), [14.0, 14.0])
  assert len(calls) == 4
