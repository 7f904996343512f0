"""Every optimizer against the one of its name in tf.compat.v1.train."""

import numpy as np
import pytest
import tensorflow as tf

from training.config import resolve
from training.optimizers import RULES, Optimizer

tf1 = tf.compat.v1
START = np.array([1.0, -2.0, 0.5], np.float32)
GRADIENTS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
RATE = 0.1

TF1 = {
  'adadelta': lambda: tf1.train.AdadeltaOptimizer(RATE, rho=0.95, epsilon=1.0),
  'adagrad': lambda: tf1.train.AdagradOptimizer(RATE, initial_accumulator_value=0.1),
  'adam': lambda: tf1.train.AdamOptimizer(RATE, beta1=0.9, beta2=0.999, epsilon=1.0),
  'ftrl': lambda: tf1.train.FtrlOptimizer(RATE),
  'momentum': lambda: tf1.train.MomentumOptimizer(RATE, momentum=0.9),
  'rmsprop': lambda: tf1.train.RMSPropOptimizer(RATE, decay=0.9, momentum=0.9, epsilon=1.0),
  'sgd': lambda: tf1.train.GradientDescentOptimizer(RATE),
}


def config(optimizer: str):
  return resolve(
    {'train_dir': 'run', 'dataset_dir': 'data', 'recipe': 'slim', 'optimizer': optimizer}
  )


def by_tf1(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  with tf.Graph().as_default(), tf1.Session() as session:
    variable = tf1.get_variable('Net/weights', initializer=START)
    gradient = tf1.placeholder(tf.float32, (3,))
    update = TF1[name]().apply_gradients([(gradient, variable)])
    session.run(tf1.global_variables_initializer())
    for value in GRADIENTS:
      session.run(update, {gradient: value})
    slots = [v for v in tf1.global_variables() if v.op.name.startswith('Net/weights/')]
    return session.run(variable), {v.op.name: session.run(v) for v in slots}


@pytest.mark.parametrize('name', RULES)
def test_equals_tf1(name):
  expected, expected_slots = by_tf1(name)
  variable = tf.Variable(START)
  optimizer = Optimizer(config(name), {'Net/weights': variable})
  for step, gradient in enumerate(GRADIENTS):
    optimizer.apply([tf.constant(gradient)], tf.constant(step, tf.int64), tf.constant(RATE))
  np.testing.assert_allclose(variable, expected, rtol=1e-5)
  assert set(optimizer.slots) == set(expected_slots)
  for slot, value in expected_slots.items():
    np.testing.assert_allclose(optimizer.slots[slot], value, rtol=1e-5)


@pytest.mark.parametrize('name', ['rmsprop', 'sgd'])
def test_mirrored_replicas_stay_equal(name, mirrored):
  with mirrored.scope():
    variable = tf.Variable(START)
    optimizer = Optimizer(config(name), {'Net/weights': variable})

  @tf.function(autograph=False)
  def step():
    def replica():
      context = tf.distribute.get_replica_context()
      share = tf.constant(GRADIENTS[0]) * tf.cast(context.replica_id_in_sync_group + 1, tf.float32)
      (gradient,) = context.all_reduce(tf.distribute.ReduceOp.SUM, [share])
      optimizer.apply([gradient], tf.constant(0, tf.int64), tf.constant(RATE))

    mirrored.run(replica)

  step()
  single = tf.Variable(START)
  Optimizer(config(name), {'Net/weights': single}).apply(
    [tf.constant(3 * GRADIENTS[0])], tf.constant(0, tf.int64), tf.constant(RATE)
  )
  for copy in mirrored.experimental_local_results(variable):
    np.testing.assert_allclose(copy, single, rtol=1e-6)
