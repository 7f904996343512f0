"""The synchronous step, alone and over two logical processors."""

import re

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from slim_inception.train import description, losses
from slim_inception.train.train_state import averaging_decay, trained_variables
from slim_inception.train.train_step import regularization_loss
from tests import records, tiny
from tests.train import steps
from tests.train.steps import batch, run

pytestmark = pytest.mark.integration


def config(**kwargs):
  return tiny.config(**{'optimizer': 'momentum', 'batch_norm_decay': 0.5, **kwargs})


def make(strategy: tf.distribute.Strategy, settings):
  return steps.make(settings, strategy)


@pytest.fixture(scope='module')
def single():
  """A step on one device, with averages; the state before and after, the last results."""
  settings = config(moving_average_decay=0.9, clip_gradient_norm=2.0)
  state, train_step = make(tf.distribute.get_strategy(), settings)
  before = steps.arrays(state.named_variables())
  results = run(train_step, batch())
  return state, before, steps.arrays(state.named_variables()), results


@pytest.mark.usefixtures('seed')
def test_two_replicas_on_the_same_images_are_one(single, mirrored):
  """The same batch on both: sums, means, clipping and statistics come out as on one device."""
  settings = config(moving_average_decay=0.9, clip_gradient_norm=2.0)
  state, train_step = make(mirrored, settings)
  _, before, after, expected = single
  for name, variable in state.named_variables().items():
    variable.assign(before[name])
  results = run(train_step, steps.mirror(mirrored, batch()))
  assert results == pytest.approx(expected, rel=1e-4)
  for name, variable in state.named_variables().items():
    np.testing.assert_allclose(
      variable.read_value(), after[name], rtol=1e-3, atol=1e-4, err_msg=name
    )
    if variable.trainable:
      copies = [copy.numpy() for copy in mirrored.experimental_local_results(variable)]
      np.testing.assert_array_equal(copies[0], copies[1])


@pytest.mark.usefixtures('seed')
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_a_step_has_the_bits_that_the_whole_of_grappler_gives(precision):
  """A step leaves out passes that change nothing; TensorFlow's own call of it has them all."""
  settings = config(optimizer='rmsprop', moving_average_decay=0.9, precision=precision)
  results = []
  for own in (True, False):
    state, train_step = make(tf.distribute.get_strategy(), settings)
    take = train_step if own else train_step.trace(batch())
    for number in range(2):
      result = take(batch(), tf.constant(number, tf.int64), tf.constant(0.01))
    metrics = {name: value.numpy() for name, value in result.metrics.items()}
    results.append({**steps.arrays(state.named_variables()), **metrics})
  for name, value in results[0].items():
    np.testing.assert_array_equal(value, results[1][name], err_msg=name)


@pytest.mark.usefixtures('seed')
def test_layers_share_constants():
  """Each of a hundred layers would have three of its own to trace and to optimize."""
  _, train_step = make(tf.distribute.get_strategy(), config())
  operations = train_step.trace(batch()).graph.get_operations()
  norms = [x for x in operations if x.type == 'FusedBatchNormV3']
  assert len(norms) == 9
  assert len({x.inputs[3].op.name for x in norms}) == 1  # no mean: that of the batch
  gammas = {x.inputs[1].op.name: x.inputs[1].shape[0] for x in norms}
  assert len(gammas) == len(set(gammas.values())) < len(norms)


def test_loss_has_all_its_terms(single):
  _, _, _, results = single
  auxiliary = results['loss'] - results['cross_entropy'] - results['regularization_loss']
  assert 0.4 * np.log(3) * 0.5 < auxiliary < 0.4 * np.log(3) * 3  # its weight is 0.4
  assert results['last_index'] == 3
  assert np.log(3) * 0.5 < results['cross_entropy'] < np.log(3) * 3


@pytest.mark.parametrize('loss', ['softmax', 'sigmoid'])
def test_both_heads_have_the_loss_of_the_flags(loss):
  settings = config(loss=loss, label_smoothing=0.1, aux_loss_weight=0.5)
  rng = np.random.default_rng(0)
  main, auxiliary = (tf.constant(rng.standard_normal((4, 3)), tf.float32) for _ in range(2))
  labels, weights = tf.constant([0, 1, 2, 0]), [1.0, 2.0, 0.5]
  results = losses.batch_losses(settings.loss, main, {'AuxLogits': auxiliary}, labels, weights)
  expected, other = (
    float(losses.LOSSES[loss](logits, labels, 0.1, tf.constant(weights)))
    for logits in (main, auxiliary)
  )
  assert float(results['cross_entropy']) == pytest.approx(expected)
  assert float(results['loss']) == pytest.approx(expected + 0.5 * other)


def test_the_step_takes_several_labels_and_class_weights(tmp_path):
  """Classes of weight 0 do not move."""
  path = tmp_path / 'weights.txt'
  path.write_text('1:0\n2:0\n')
  records.write_set(tmp_path / 'data')
  flags = {'loss': 'sigmoid', 'class_weights': str(path), 'optimizer': 'sgd', 'weight_decay': 0.0}
  where = {'dataset_name': 'image_folder', 'dataset_dir': str(tmp_path / 'data')}
  settings = config(**flags, **where)
  state, train_step = make(tf.distribute.get_strategy(), settings)
  biases = state.model.variables_by_name['InceptionTiny/Logits/Logits/biases']
  targets = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]], np.float32)
  results = run(train_step, {**batch(), 'label': tf.constant(targets)}, 1)
  assert np.isfinite(results['loss'])
  moved = biases.numpy() != 0
  np.testing.assert_array_equal(moved, [True, False, False])


def test_averages_follow_tf1s_formula(single):
  _, before, after, _ = single
  decay = min(0.9, 1 / 10)
  for leaf in ('weights', 'BatchNorm/moving_mean'):
    name = f'InceptionTiny/Conv2d_1a_3x3/{leaf}'
    expected = decay * before[name] + (1 - decay) * after[name]
    average = after[f'{name}/ExponentialMovingAverage']
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6)
  assert float(averaging_decay(0.9999, tf.constant(90))) == pytest.approx(91 / 100)
  assert float(averaging_decay(0.9999, tf.constant(10**6))) == pytest.approx(0.9999)


def test_clipping_bounds_the_step(single):
  """Momentum's first step is learning rate x gradient, whose norm is at most 2."""
  state, before, after, _ = single
  moved = [after[name] - before[name] for name in state.trained]
  assert np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in moved)) <= 0.01 * 2.0 * 1.001


def test_gradient_norm_is_that_before_clipping():
  """Plain gradient descent moves by learning rate x clipped gradient."""
  state, train_step = make(tf.distribute.OneDeviceStrategy('/CPU:0'), config(optimizer='sgd'))
  before = steps.arrays(state.trained)
  results = run(train_step, batch())
  moved = [(variable.numpy() - before[name]) / 0.01 for name, variable in state.trained.items()]
  norm = np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in moved))
  assert results['gradient_norm'] == pytest.approx(norm, rel=1e-3)


def test_batch_norm_statistics_move(single):
  _, before, after, _ = single
  name = 'InceptionTiny/Conv2d_1a_3x3/BatchNorm/moving_variance'
  assert np.all(before[name] == 1)
  assert np.all(after[name] != 1)


@pytest.mark.parametrize(
  ('recipe', 'optimizer'),
  [('modern', 'momentum'), pytest.param('a2', 'lamb', marks=pytest.mark.slow)],
)
def test_recipes_step(recipe, optimizer):
  """All of a recipe at once, its weight decay for weights alone."""
  settings = config(recipe=recipe, optimizer=optimizer, train_image_size=32, warmup_epochs=0.0)
  state, train_step = make(tf.distribute.get_strategy(), settings)
  weights = {name for name in state.trained if name.endswith('/weights')}
  assert state.model.regularized_names == weights
  assert len(weights) < len(state.trained)
  before = steps.arrays(state.trained)
  results = run(train_step, batch(), 2)
  assert all(np.isfinite(value) for value in results.values())
  assert (results['regularization_loss'] > 0) == (optimizer == 'momentum')  # LAMB decays by itself
  for name, variable in state.trained.items():
    assert np.any(variable.numpy() != before[name]), name


@pytest.mark.parametrize('optimizer', ['momentum', 'adamw', 'lamb'])
def test_weight_decay_is_for_weights_alone(optimizer):
  """Without gradients: the rate x decay of each weight is gone, biases and batch norm stay."""
  settings = config(optimizer=optimizer, weight_decay=0.5)
  state, _ = steps.make(settings)
  for variable in state.trained.values():
    variable.assign(tf.ones_like(variable))
  with tf.GradientTape() as tape:
    loss = regularization_loss(settings.optimizer, state.model)
  gradients = tape.gradient(loss, list(state.trained.values()), unconnected_gradients='zero')
  state.optimizer.apply(gradients, tf.constant(0, tf.int64), tf.constant(0.1))
  # LAMB's step is the rate x the weight, whatever the decay.
  kept = 0.9 if optimizer == 'lamb' else 0.95
  for name, variable in state.trained.items():
    expected = kept if name.endswith('/weights') else 1.0
    np.testing.assert_allclose(variable, np.full(variable.shape, expected), rtol=1e-5, err_msg=name)


def test_gradients_of_weight_decay_come_last():
  """Computed at once, they would lie in memory beside all that is kept for the net's gradients."""
  state, train_step = steps.make(config(optimizer='momentum', weight_decay=0.1))
  operations = train_step.trace(batch()).graph.get_operations()
  of_decay = [x for x in operations if re.match(r'gradient_tape/l2_regularizer\w*/mul', x.name)]
  weights = {tuple(variable.shape) for variable in state.trained.values()}
  of_decay = [x for x in of_decay if tuple(x.outputs[0].shape) in weights]
  of_filters = [x for x in operations if x.type == 'Conv2DBackpropFilter']
  assert of_decay and of_filters
  for operation in of_decay:
    assert _all_before(operation).issuperset(of_filters), operation.name


def _all_before(operation) -> set:
  """The operations that must have run."""
  before, left = set(), [operation]
  while left:
    one = left.pop()
    more = {tensor.op for tensor in one.inputs} | set(one.control_inputs)
    left += more - before
    before |= more
  return before


def test_layer_decay_and_what_is_said_of_it():
  """With gradients of 1 and a rate of 1 SGD moves a variable by its factor."""
  settings = config(
    optimizer='sgd', layer_decay=0.5, learning_rate_scales=f'{tiny.SCOPE}/Mixed_2a/Branch_0:0.125'
  )
  state, _ = steps.make(settings)
  before = steps.arrays(state.trained)
  ones = [tf.ones_like(variable) for variable in state.trained.values()]
  state.optimizer.apply(ones, tf.constant(0, tf.int64), tf.constant(1.0))
  moved = {
    name: round(float(np.mean(before[name] - v.numpy())), 4) for name, v in state.trained.items()
  }
  table = {}
  for name, factor in moved.items():
    table.setdefault(name.split('/')[1], set()).add(factor)
  assert table == {
    'Conv2d_1a_3x3': {0.0625},
    'Mixed_2a': {0.125},
    'Block': {0.25},
    'Mixed_3a': {0.5},
    'AuxLogits': {1.0},
    'Logits': {1.0},
  }
  assert description.describe_layer_decay(settings.optimizer, state) == [
    'Factors of the learning rate (--layer_decay=0.5):',
    '  InceptionTiny/Conv2d_1a_3x3  0.0625',
    '  InceptionTiny/Mixed_2a        0.125',
    '  InceptionTiny/Block            0.25',
    '  InceptionTiny/Mixed_3a          0.5',
    '  heads                             1',
  ]
  assert description.describe_layer_decay(config().optimizer, state) == []


@pytest.mark.parametrize(
  'flags',
  [{}, {'accumulate_steps': 2}, pytest.param({'jit_compile': True}, marks=pytest.mark.slow)],
  ids=str,
)
def test_recomputed_steps_are_the_same(flags):
  """Weights, slots, and batch norm's averages, which move once."""
  plain, plain_step = steps.make(config(**flags))
  recomputed, recomputed_step = steps.make(config(recompute=True, **flags))
  start = steps.arrays(plain.named_variables())
  for name, variable in recomputed.named_variables().items():
    variable.assign(start[name])
  results = [run(step, batch(), steps=2) for step in (plain_step, recomputed_step)]
  assert results[0] == pytest.approx(results[1], rel=1e-4)
  for name, variable in plain.named_variables().items():
    np.testing.assert_allclose(
      recomputed.named_variables()[name], variable, rtol=1e-3, atol=1e-5, err_msg=name
    )
  concrete = [step.trace(batch()) for step in (plain_step, recomputed_step)]
  assert _convolutions(concrete[1]) > _convolutions(concrete[0])


def _convolutions(function) -> int:
  """How many there are, in functions within too."""
  return str(function.graph.as_graph_def()).count('op: "Conv2D"')


def test_trainable_scopes():
  model = nets_factory.create_model(tiny.NAME, 3)
  assert list(trained_variables(('InceptionTiny/Logits',), model)) == [
    'InceptionTiny/Logits/Logits/weights',
    'InceptionTiny/Logits/Logits/biases',
  ]
  with pytest.raises(ValueError, match='--trainable_scopes: Logit has no variable; scopes are'):
    trained_variables(('InceptionTiny/Logits', 'Logit'), model)
