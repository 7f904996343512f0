"""Every optimizer against the one of its name: in tf.compat.v1.train, in Keras, or by NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from slim_inception import flags
from slim_inception.train.flag_groups import OptimizerConfig
from slim_inception.train.optimizers import Optimizer, layer_scales
from tests import golden

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


def config(optimizer: str, **kwargs):
  return flags.build(OptimizerConfig, {'optimizer': optimizer, **kwargs})


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


@pytest.mark.parametrize('name', TF1)
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


def ours(settings, start=START, decayed=('Net/weights',), rate=RATE) -> np.ndarray:
  """A variable after all gradients."""
  variable = tf.Variable(start)
  optimizer = Optimizer(settings, {'Net/weights': variable}, decayed)
  for step, gradient in enumerate(GRADIENTS):
    optimizer.apply([tf.constant(gradient)], tf.constant(step, tf.int64), tf.constant(rate))
  return variable.numpy()


def by_keras(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
  variable = keras.Variable(START)
  for gradient in GRADIENTS:
    optimizer.apply([tf.constant(gradient)], [variable])
  return variable.numpy()


def test_adamw_is_keras():
  expected = by_keras(keras.optimizers.AdamW(RATE, weight_decay=0.3, epsilon=1e-6))
  settings = config('adamw', weight_decay=0.3, adamw_epsilon=1e-6)
  np.testing.assert_allclose(ours(settings), expected, rtol=1e-5)
  plain = by_keras(keras.optimizers.Adam(RATE, epsilon=1e-6))
  np.testing.assert_allclose(ours(settings, decayed=()), plain, rtol=1e-5)


def test_lamb_without_decay_is_keras():
  expected = by_keras(keras.optimizers.Lamb(RATE, epsilon=1e-6))
  settings = config('lamb', weight_decay=0.0, adamw_epsilon=1e-6)
  np.testing.assert_allclose(ours(settings), expected, rtol=1e-5)


def lamb_by_numpy(decay: float) -> np.ndarray:
  x, m, v = START.astype(np.float64), np.zeros(3), np.zeros(3)
  for t, g in enumerate(GRADIENTS.astype(np.float64), 1):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    r = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * x
    x = x - RATE * np.linalg.norm(x) / np.linalg.norm(r) * r
  return x


def test_lamb_decays_inside_the_ratio():
  settings = config('lamb', weight_decay=0.3, adamw_epsilon=1e-6)
  np.testing.assert_allclose(ours(settings), lamb_by_numpy(0.3), rtol=1e-5)
  adam = by_keras(keras.optimizers.Adam(RATE, epsilon=1e-6))
  np.testing.assert_allclose(ours(settings, decayed=()), adam, rtol=1e-4)  # biases: Adam's step


def test_lars():
  x, v = START.astype(np.float64), np.zeros(3)
  for g in GRADIENTS.astype(np.float64):
    norm = np.linalg.norm(x)
    rate = 5.0 * 0.02 * norm / (np.linalg.norm(g) + 0.3 * norm)
    v = 0.8 * v + rate * (g + 0.3 * x)
    x = x - v
  flags = {'weight_decay': 0.3, 'momentum': 0.8, 'lars_trust_coefficient': 0.02}
  np.testing.assert_allclose(ours(config('lars', **flags), rate=5.0), x, rtol=1e-5)
  plain = ours(config('momentum', momentum=0.8))
  np.testing.assert_allclose(ours(config('lars', **flags), decayed=()), plain, rtol=1e-5)


@pytest.mark.parametrize('name', ['lamb', 'lars'])
def test_weights_that_are_zero_move(name):
  moved = ours(config(name), start=np.zeros(3, np.float32))
  assert np.all(np.isfinite(moved)) and np.all(moved != 0)


def test_learning_rates_by_scope():
  names = ('Net/Logits/weights', 'Net/Logits/biases', 'Net/Conv2d_1a/weights', 'Net/Mixed/weights')
  variables = {name: tf.Variable(START) for name in names}
  settings = config('sgd', learning_rate_scales='Net/Logits/biases:0, Net/Logits:10,Net/Conv2d:0.1')
  optimizer = Optimizer(settings, variables)
  gradients = [tf.ones(3)] * len(names)
  optimizer.apply(gradients, tf.constant(0, tf.int64), tf.constant(RATE))
  moved = [float((START - variable.numpy())[0]) for variable in variables.values()]
  assert moved == pytest.approx([1.0, 0.0, 0.01, 0.1], abs=1e-6)
  with pytest.raises(
    ValueError, match='Net/Logit has no|scopes are Net/Conv2d_1a, Net/Logits, Net'
  ):
    Optimizer(config('sgd', learning_rate_scales='Net/Logits:1,Nett:2'), variables)


def test_learning_rates_by_row():
  rows = ['Net/block1/', 'Net/block10/', 'Net/Pool/', 'Net/Mixed/']
  layers = ('block1', 'block10', 'Mixed', 'Logits')
  variables = {f'Net/{layer}/weights': tf.Variable(START) for layer in layers}

  def moved(**flags):
    for variable in variables.values():
      variable.assign(START)
    optimizer = Optimizer(config('sgd', **flags), variables, rows=rows)
    optimizer.apply([tf.ones(3)] * 4, tf.constant(0, tf.int64), tf.constant(1.0))
    return [float((START - variable.numpy())[0]) for variable in variables.values()]

  assert moved(layer_decay=0.5) == pytest.approx([0.125, 0.25, 0.5, 1.0])
  assert moved() == pytest.approx([1.0] * 4)
  by_hand = moved(layer_decay=0.5, learning_rate_scales='Net/Logits:2,Net/block10:0')
  assert by_hand == pytest.approx([0.125, 0.0, 0.5, 2.0])


@pytest.mark.parametrize(
  ('name', 'elsewhere'),
  [
    ('inception_v3', {'Logits', 'AuxLogits'}),
    ('inception_v4', {'Logits', 'AuxLogits'}),
    ('inception_resnet_v2', {'Logits', 'AuxLogits'}),
    ('resnet_v2_50', {'logits'}),
  ],
)
def test_rows_have_all_variables_but_the_heads(name, elsewhere):
  net = nets_factory.get_net(name)
  rows = tuple(f'{net.scope}/{unit.scope}/' for unit in net.body)
  names = [name for name, *_ in golden.reference(name)['variables']]
  outside = {name.split('/')[1] for name in names if not name.startswith(rows)}
  assert outside == elsewhere
  scales = layer_scales(config('sgd', layer_decay=0.9), names, rows)
  assert scales[-1] == (rows[-1], 0.9)
  with_variables = [row for row in rows if any(name.startswith(row) for name in names)]
  assert [row for row, _ in scales] == with_variables
  np.testing.assert_allclose(np.diff(np.log([factor for _, factor in scales])), -np.log(0.9))


@pytest.mark.parametrize('name', ['rmsprop', 'sgd', 'adamw', 'lamb'])
def test_mirrored_replicas_stay_equal(name, mirrored):
  with mirrored.scope():
    variable = tf.Variable(START)
    optimizer = Optimizer(config(name), {'Net/weights': variable}, ['Net/weights'])

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
  Optimizer(config(name), {'Net/weights': single}, ['Net/weights']).apply(
    [tf.constant(3 * GRADIENTS[0])], tf.constant(0, tf.int64), tf.constant(RATE)
  )
  for copy in mirrored.experimental_local_results(variable):
    np.testing.assert_allclose(copy, single, rtol=1e-6)
