"""Sums over replicas, beside NumPy's."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets.replicas import SharedFunction, sum_over_replicas

_VALUES = np.float32([[1.0, 2.0], [10.0, 20.0]])  # of the replicas


def _own_values() -> tf.Tensor:
  replica = tf.distribute.get_replica_context().replica_id_in_sync_group
  return tf.gather(tf.constant(_VALUES), replica)


def _results(strategy: tf.distribute.Strategy, replica_step) -> list:
  step = tf.function(lambda: strategy.run(replica_step), autograph=False)
  values = tf.nest.map_structure(strategy.experimental_local_results, step())
  return [np.stack(value) for value in values]


def test_every_replica_gets_the_sums(mirrored):
  def replica_step():
    own = _own_values()
    return sum_over_replicas([own, own[0]])

  sums, first = _results(mirrored, replica_step)
  np.testing.assert_array_equal(sums, [_VALUES.sum(0)] * 2)
  np.testing.assert_array_equal(first, [_VALUES.sum(0)[0]] * 2)


def test_gradient_is_the_sum_of_what_replicas_make_of_the_sum(mirrored):
  def replica_step():
    own = _own_values()
    with tf.GradientTape() as tape:
      tape.watch(own)
      (total,) = sum_over_replicas([own])
      loss = tf.reduce_sum(total**2 * own[0])
    return [tape.gradient(loss, own)]

  (gradients,) = _results(mirrored, replica_step)
  total, factors = _VALUES.sum(0), _VALUES[:, 0]
  wanted = np.tile(2 * total * factors.sum(), (2, 1))
  wanted[:, 0] += (total**2).sum()  # by own[0] itself
  np.testing.assert_allclose(gradients, wanted, rtol=1e-6)


def test_graph_of_other_replicas_is_out_of_reach(mirrored):
  """Else tf.custom_gradient walks through it: six minutes before the first step of 8 replicas."""
  kinds = set()

  def replica_step():
    (total,) = sum_over_replicas([_own_values()])
    kinds.add(total.op.inputs[0].op.type)
    return [total]

  _results(mirrored, replica_step)
  assert kinds == {'StopGradient'}


@pytest.mark.parametrize(('known', 'apart'), [(True, False), (True, True), (False, True)])
def test_a_shared_function_changes_each_replicas_own_variables(mirrored, known, apart):
  """It is traced once, unless it has variables of which it was told nothing."""
  with mirrored.scope():
    weights = tf.Variable([1.0, 2.0])
    mean = tf.Variable(
      0.0,
      trainable=False,
      synchronization=tf.VariableSynchronization.ON_READ,
      aggregation=tf.VariableAggregation.MEAN,
    )
  replicas = []

  def compute(batch, nothing):
    replicas.append(nothing)
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(weights**2 * batch['own']) + batch['offset']
    mean.assign_sub(-loss)
    return [tape.gradient(loss, weights)], {'loss': loss}

  variables = {'mean': mean, **({'weights': weights} if known else {})}
  shared = SharedFunction(compute, variables, apart)

  def replica_step():
    batch = {'own': _own_values(), 'offset': tf.constant(5.0)}
    (gradient,), metrics = shared(batch, None)
    return gradient, metrics['loss']

  gradients, losses = _results(mirrored, replica_step)
  np.testing.assert_array_equal(gradients, 2 * np.float32([1, 2]) * _VALUES)
  expected = (np.float32([1, 4]) * _VALUES).sum(1) + 5
  np.testing.assert_array_equal(losses, expected)
  assert [float(own) for own in mirrored.experimental_local_results(mean)] == expected.tolist()
  assert len(replicas) == (1 if known else 3)


def test_calls_apart_stay_calls_of_one_function(mirrored):
  """Inlined, they would be optimized as often as there are replicas, in one graph."""
  with mirrored.scope():
    weights = tf.Variable([1.0, 2.0])
  shared = SharedFunction(lambda x: [x * weights], {'weights': weights}, apart=True)

  @tf.function(autograph=False)
  def step():
    return mirrored.run(lambda: shared(_own_values()))

  nodes = step.get_concrete_function().graph.as_graph_def().node
  calls = [node.attr['f'].func.name for node in nodes if node.op == 'StatefulPartitionedCall']
  (traced,) = shared._traced.values()
  assert calls == [traced.concrete.function_def.signature.name] * 2
  assert traced.concrete.function_def.attr['_noinline'].b
