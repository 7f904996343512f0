"""Batch norm over the batches of all replicas: R of b images are as one of R * b."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception_utils, layers, slim

from slim_inception.train import trainer
from slim_inception.train.config import resolve
from tests import records, tiny
from tests.train import processes, steps

pytestmark = pytest.mark.integration

EPSILON = 0.001
DECAY = 0.5


def model_of(network_fn, channels, image_size=3):
  scope = inception_utils.with_synchronized_batch_norm(inception_utils.inception_arg_scope())
  return tiny.model_of(network_fn, scope, image_size, channels)


def by_numpy(images, factors, gamma, beta):
  """Output, gradients by images, gamma and beta of sum(output * factors), mean and variance."""
  images, factors = images.astype(np.float64), factors.astype(np.float64)
  axes, number = (0, 1, 2), images[..., 0].size
  mean, variance = images.mean(axes), images.var(axes)
  deviation = np.sqrt(variance + EPSILON)
  normal = (images - mean) / deviation
  by_normal = factors * gamma
  by_images = by_normal - by_normal.mean(axes) - normal * (by_normal * normal).mean(axes)
  return {
    'outputs': normal * gamma + beta,
    'images': by_images / deviation,
    'gamma': (factors * normal).sum(axes),
    'beta': factors.sum(axes),
    'moving_mean': (1 - DECAY) * mean,
    'moving_variance': DECAY + (1 - DECAY) * variance * number / (number - 1),
  }


def by_two_replicas(mirrored, images, factors, gamma, beta, **kwargs):
  def network_fn(images, is_training):
    return layers.batch_norm(images, DECAY, scale=True, is_training=is_training, **kwargs), {}

  with mirrored.scope():
    model = model_of(network_fn, images.shape[-1])
  variables = {name.split('/')[-1]: v for name, v in model.variables_by_name.items()}
  variables['gamma'].assign(gamma)
  variables['beta'].assign(beta)

  def replica():
    context = tf.distribute.get_replica_context()
    own, factor = (
      tf.constant(np.stack(np.split(t, 2)))[context.replica_id_in_sync_group]
      for t in (images, factors)
    )
    with tf.GradientTape() as tape:
      tape.watch(own)
      outputs, _ = model(own, training=True)
      loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * factor)
    sources = {'images': own, 'gamma': variables['gamma'], 'beta': variables['beta']}
    found = tape.gradient(loss, sources)
    return {'outputs': outputs, **found}

  results = tf.function(lambda: mirrored.run(replica), autograph=False)()
  parts = {name: mirrored.experimental_local_results(value) for name, value in results.items()}
  return {
    'outputs': np.concatenate(parts['outputs']),
    'images': np.concatenate(parts['images']),
    'gamma': sum(p.numpy() for p in parts['gamma']),
    'beta': sum(p.numpy() for p in parts['beta']),
    **{name: variables[name].read_value().numpy() for name in ('moving_mean', 'moving_variance')},
  }


@pytest.mark.parametrize(
  ('mean', 'tolerance'), [(0.0, 1e-5), (3.0, 2e-5), (100.0, 2e-3)], ids=['0', '3', '100']
)
def test_two_replicas_are_one_batch(mirrored, mean, tolerance):
  """Against NumPy's float64; the replicas' own statistics differ. `mean` in deviations."""
  rng = np.random.default_rng(0)
  images = rng.normal(mean, 1.0, (6, 3, 3, 4)).astype(np.float32)
  images[:3] += 1.0
  factors = rng.normal(size=images.shape).astype(np.float32)
  gamma, beta = (rng.normal(1.0, 0.2, 4).astype(np.float32) for _ in range(2))
  found = by_two_replicas(mirrored, images, factors, gamma, beta)
  for name, value in by_numpy(images, factors, gamma, beta).items():
    np.testing.assert_allclose(
      found[name], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=name
    )


def test_bfloat16_and_the_biased_variance(mirrored):
  rng = np.random.default_rng(0)
  images = rng.integers(-8, 9, (4, 3, 3, 2)).astype(np.float32)  # exact in bfloat16
  images[:2] += 4.0
  ones = np.ones(2, np.float32)
  expected = by_numpy(images, np.ones_like(images), ones, 0 * ones)
  found = by_two_replicas(
    mirrored, images.astype(tf.bfloat16.as_numpy_dtype), np.ones_like(images), ones, 0 * ones
  )
  assert found['outputs'].dtype == tf.bfloat16.as_numpy_dtype
  np.testing.assert_allclose(found['outputs'].astype(np.float32), expected['outputs'], atol=0.02)
  np.testing.assert_allclose(found['moving_variance'], expected['moving_variance'], rtol=1e-5)
  found = by_two_replicas(
    mirrored, images, np.ones_like(images), ones, 0 * ones, fused=False, data_format='NHWC'
  )
  biased = DECAY + (1 - DECAY) * images.var((0, 1, 2))
  np.testing.assert_allclose(found['moving_variance'], biased, rtol=1e-5)


def test_arg_scopes_stay_with_their_replica(mirrored):
  """What an arg scope says after a collective is the thread's own: the seed of dropout, say."""

  def network_fn(images, is_training):
    with slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training):
      net = layers.batch_norm(images)
      with slim.arg_scope([layers.dropout], keep_prob=0.5):
        net = layers.batch_norm(net)
        net = tf.ones_like(net)
        return layers.dropout(net), {}

  with mirrored.scope():
    model = model_of(network_fn, 4)
  images = tf.random.stateless_normal((2, 3, 3, 4), (1, 2))

  def replica():
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    seed = tf.stack([7, number])
    dropped = model(images, training=True, dropout_seed=seed)[0]
    own = tf.nn.experimental.stateless_dropout(tf.ones_like(images), 0.5, seed)
    return dropped, own

  before = slim.current_arg_scope()
  for run in (tf.function(lambda: mirrored.run(replica), autograph=False), None):
    dropped, own = run() if run else mirrored.run(replica)
    pairs = zip(*map(mirrored.experimental_local_results, (dropped, own)), strict=True)
    for found, expected in pairs:
      np.testing.assert_array_equal(found, expected)
    assert slim.current_arg_scope() is before


def test_a_failing_replica_leaves_nets_usable(mirrored):
  """Neither a lock is kept nor an arg scope left behind."""

  replicas = []

  def network_fn(images, is_training):
    net = layers.batch_norm(images, is_training=is_training)
    replicas.extend([is_training] * is_training)
    if is_training and len(replicas) == 2:
      raise ValueError('this replica fails')
    return layers.batch_norm(net, is_training=is_training), {}

  with mirrored.scope():
    model = model_of(network_fn, 4)
  images, before = tf.ones((2, 3, 3, 4)), slim.current_arg_scope()
  with pytest.raises(ValueError, match='this replica fails'):
    tf.function(lambda: mirrored.run(lambda: model(images, training=True)), autograph=False)()
  assert slim.current_arg_scope() is before
  other = threading.Thread(target=lambda: model(images), daemon=True)
  other.start()
  other.join(30)
  assert not other.is_alive()


def test_what_can_not_be_synchronized_is_refused(mirrored):
  images = tf.ones((2, 3, 3, 4))
  with pytest.raises(ValueError, match='takes a bool as is_training'):
    layers.batch_norm(images, is_training=tf.constant(True), synchronized=True)


SIDE = 32
SETTINGS = {
  'optimizer': 'momentum',
  'batch_norm_decay': 0.5,
  'dropout_keep_prob': 1.0,
  'moving_average_decay': 0.9,
  'clip_gradient_norm': 2.0,
  'label_smoothing': 0.1,
}


def batch(count):
  rng = np.random.default_rng(0)
  # Darker images first: the replicas' own statistics would differ.
  highest = np.linspace(40, 256, count).reshape(-1, 1, 1, 1)
  images = tf.constant(rng.uniform(0, highest, (count, SIDE, SIDE, 3)), tf.uint8)
  return {**steps.batch(count, SIDE), 'image': images}


def train(strategy, settings, start):
  """Results of the last step, and all variables after it; from `start` where that is given."""
  state, train_step = steps.make(settings, strategy)
  for name, value in (start or {}).items():
    state.named_variables()[name].assign(value)
  before = steps.arrays(state.named_variables())
  replicas, whole = strategy.num_replicas_in_sync, batch(8)
  values = {
    name: strategy.experimental_distribute_values_from_function(
      lambda context, v=value: tf.split(v, replicas)[context.replica_id_in_sync_group]
    )
    for name, value in whole.items()
  }
  results = steps.run(train_step, values, 2, 0.1)
  return results, steps.arrays(state.named_variables()), before


def test_steps_of_two_replicas_are_those_of_one(mirrored):
  """Loss, norm of the gradients, weights, averages of both, statistics."""
  settings = tiny.config(**SETTINGS)
  expected, wanted, start = train(tf.distribute.OneDeviceStrategy('/cpu:0'), settings, None)
  results, found, _ = train(mirrored, tiny.config(**SETTINGS, sync_batch_norm=True), start)
  assert results == pytest.approx(expected, rel=1e-4)
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_runs_of_two_replicas_and_two_workers_are_that_of_one(tmp_path):
  data = records.write_set(tmp_path / 'data')
  flags = {'dropout_keep_prob': 1.0, 'max_number_of_steps': 3, 'optimizer': 'momentum'}
  sync = {**flags, 'sync_batch_norm': True}
  with processes.cluster(tmp_path / 'workers', data, **sync) as workers:
    one = processes.flags_of(tmp_path / 'one', data, **{**flags, 'batch_size': 8})
    trainer.train(resolve(one))
    two = processes.flags_of(tmp_path / 'replicas', data, num_clones=2, **sync)
    trainer.train(resolve(two))
    for status, output in processes.finish(*workers):
      assert status == 0, output
  expected = processes.weights(tmp_path / 'one')
  for name in ('replicas', 'workers'):
    for a, b in zip(*map(processes.metrics, (tmp_path / name, tmp_path / 'one')), strict=True):
      assert a['loss'] == pytest.approx(b['loss'], rel=1e-3)
    found = processes.weights(tmp_path / name)
    for variable, value in expected.items():
      np.testing.assert_allclose(found[variable], value, rtol=5e-3, atol=1e-3, err_msg=variable)


@pytest.mark.slow
def test_drawn_images_of_two_replicas_are_those_of_one(tmp_path):
  """Of two sets and balanced classes: the same images, distorted in the same way, in each step."""
  sets = [records.write_set(tmp_path / name, count=count) for name, count in (('a', 24), ('b', 9))]
  flags = {'dropout_keep_prob': 1.0, 'max_number_of_steps': 4, 'optimizer': 'momentum'}
  flags |= {'sampling': 'balanced', 'mixture': '0.6,0.4', 'deterministic': True}
  data = ','.join(map(str, sets))
  one = processes.start(tmp_path / 'one', data, **{**flags, 'batch_size': 8})
  two = processes.start(tmp_path / 'two', data, num_clones=2, sync_batch_norm=True, **flags)
  for status, output in processes.finish(one, two):
    assert status == 0, output
  losses = [
    [entry['loss'] for entry in processes.metrics(tmp_path / name)] for name in ('one', 'two')
  ]
  assert len(losses[0]) == 4
  assert losses[1] == pytest.approx(losses[0], rel=1e-3)
  assert np.ptp(losses[0]) > 0.05  # so other images would have shown
  found, expected = (processes.weights(tmp_path / name) for name in ('two', 'one'))
  for variable, value in expected.items():
    np.testing.assert_allclose(found[variable], value, rtol=5e-3, atol=1e-3, err_msg=variable)
