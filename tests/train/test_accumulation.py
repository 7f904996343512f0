"""Gradient accumulation, float16 with loss scaling, XLA: the step by other ways."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.train import train_state
from slim_inception.train.augmentation import Augmentation
from slim_inception.train.plan import make_plan
from slim_inception.train.train_state import Counters, TrainState, read_counters
from tests import tiny
from tests.train import steps

pytestmark = pytest.mark.integration

INCEPTION = preprocessing_factory.get('inception')
SIDE = 16
RATE = 0.1


def config(**kwargs):
  defaults = {'optimizer': 'momentum', 'train_image_size': SIDE, 'batch_size': 4}
  return tiny.config(**{**defaults, 'batch_norm_decay': 0.5, **kwargs})


def batch(count: int) -> dict[str, tf.Tensor]:
  return steps.batch(count, SIDE)


class Linear(tf.Module):
  """A net without batch norm and dropout, by the interface of `nets.model.Model`."""

  config = types.SimpleNamespace(net=types.SimpleNamespace(scope='Net', body=()))

  def __init__(self):
    super().__init__()
    start = np.random.default_rng(1).standard_normal((SIDE * SIDE * 3, 3)).astype(np.float32)
    self.variables_by_name = {'Net/weights': tf.Variable(start / SIDE, name='Net/weights')}
    self.regularized_names = frozenset(self.variables_by_name)

  def __call__(self, images, training, dropout_seed):
    assert training
    weights = self.variables_by_name['Net/weights']
    flat = tf.reshape(images, (images.shape[0], -1))
    logits = tf.linalg.matmul(flat, tf.cast(weights, images.dtype))
    return tf.cast(logits, tf.float32), {}

  def regularization_loss(self):
    return 0.001 * tf.nn.l2_loss(self.variables_by_name['Net/weights'])


def make(settings, model=None, strategy=None):
  augmentation = Augmentation(settings.augment, INCEPTION, Distortion())
  augmentation = dataclasses.replace(augmentation, dtype=tf.as_dtype(settings.devices.precision))
  return steps.make(settings, strategy, model, augmentation)


def run(train_step, value, number: int = 1):
  return steps.run(train_step, value, number, RATE)


def assert_equal(one: TrainState, other: TrainState, **tolerance):
  for name, variable in one.named_variables().items():
    np.testing.assert_allclose(
      variable, other.named_variables()[name].read_value(), err_msg=name, **tolerance
    )


def test_small_batches_equal_a_large_one():
  flags = {'clip_gradient_norm': 1.0, 'moving_average_decay': 0.9}
  large, large_step = make(config(batch_size=12, **flags), Linear)
  small, small_step = make(config(batch_size=4, accumulate_steps=3, **flags), Linear)
  expected, results = run(large_step, batch(12), 3), run(small_step, batch(12), 3)
  assert results == pytest.approx(expected, rel=1e-4)
  assert results['last_index'] == 11
  assert_equal(small, large, rtol=1e-4, atol=1e-5)


def test_batch_norm_moves_with_every_small_batch():
  """Twice the same images, without distortion of them or dropout."""
  settings = config(accumulate_steps=2, dropout_keep_prob=1.0)
  state, train_step = make(settings)
  half = batch(4)
  run(train_step, {name: tf.concat([value, value], 0) for name, value in half.items()})
  once, single_step = make(config(dropout_keep_prob=1.0))
  run(single_step, half)
  name = 'InceptionTiny/Conv2d_1a_3x3/BatchNorm/moving_mean'
  mean = once.model.variables_by_name[name].numpy()  # from 0 with decay 0.5: half of the batch's
  np.testing.assert_allclose(state.model.variables_by_name[name], 1.5 * mean, rtol=1e-4, atol=1e-6)
  for name, variable in once.trained.items():
    np.testing.assert_allclose(state.trained[name], variable, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_global_batch_counts_the_small_ones():
  plan = make_plan(config(accumulate_steps=3, num_epochs=2.0), 120, 3, 2)
  assert (plan.global_batch_size, plan.steps_per_epoch, plan.total_steps) == (24, 5, 10)


def test_a_batch_of_another_size_is_refused():
  _, train_step = make(config(accumulate_steps=3), Linear)
  message = '--accumulate_steps=3: a batch of 8 images cannot be divided into as many parts'
  with pytest.raises(ValueError, match=message):
    run(train_step, batch(8))


@pytest.mark.parametrize(
  ('flags', 'model'),
  [
    ({'accumulate_steps': 2}, None),
    ({'precision': 'float16'}, Linear),
    ({'jit_compile': True}, Linear),
    pytest.param({'jit_compile': True}, None, marks=pytest.mark.slow),
  ],
)
def test_replicas(mirrored, flags, model):
  """The same images on both replicas are one."""
  count = 4 * flags.get('accumulate_steps', 1)
  settings = config(mixup_alpha=0.2, **flags)
  single, single_step = make(settings, model)
  both, step_of_both = make(settings, model, mirrored)
  for name, variable in both.named_variables().items():
    variable.assign(single.named_variables()[name].read_value())
  expected = run(single_step, batch(count))
  assert run(step_of_both, steps.mirror(mirrored, batch(count))) == pytest.approx(
    expected, rel=1e-3
  )
  assert_equal(single, both, rtol=1e-2, atol=1e-3)
  for variable in both.trained.values():
    copies = mirrored.experimental_local_results(variable)
    np.testing.assert_array_equal(copies[0], copies[1])


def test_replicas_drop_what_passes_of_their_images_drop(mirrored):
  """Dropout and stochastic depth are a function of the seeds of the images of each replica."""
  flags = {'drop_path_rate': 0.5, 'dropout_keep_prob': 0.5}
  passes, step_of_passes = make(config(accumulate_steps=2, **flags))
  both, step_of_both = make(config(**flags), None, mirrored)
  for name, variable in both.named_variables().items():
    variable.assign(passes.named_variables()[name].read_value())
  whole = batch(8)

  def half(value):
    return lambda context: tf.split(value, 2)[context.replica_id_in_sync_group]

  halves = {
    name: mirrored.experimental_distribute_values_from_function(half(value))
    for name, value in whole.items()
  }
  results, expected = run(step_of_both, halves), run(step_of_passes, whole)
  assert results == pytest.approx(expected, rel=1e-4)
  for name, variable in passes.trained.items():
    np.testing.assert_allclose(
      both.trained[name].read_value(), variable, rtol=1e-3, atol=1e-5, err_msg=name
    )
  _, step_of_whole = make(config(accumulate_steps=2, dropout_keep_prob=0.5))
  assert run(step_of_whole, whole)['loss'] != pytest.approx(expected['loss'], rel=1e-3)


def test_float16_is_float32_within_rounding():
  half, half_step = make(config(precision='float16', dropout_keep_prob=1.0))
  full, full_step = make(config(dropout_keep_prob=1.0))
  results, expected = run(half_step, batch(4)), run(full_step, batch(4))
  assert results.pop('overflow_steps') == 0
  assert results.pop('loss_scale') == 2**15
  assert results == pytest.approx(expected, rel=0.02)
  for name, slot in full.optimizer.slots.items():  # momentum after one step is the gradient
    error = np.linalg.norm(half.optimizer.slots[name].numpy() - slot.numpy())
    assert error <= 0.05 * np.linalg.norm(slot.numpy()) + 1e-3, name


def test_overflow_skips_the_update_and_halves_the_scale(tmp_path):
  settings = config(precision='float16', clip_gradient_norm=1.0)
  state, train_step = make(settings, Linear)
  state.loss_scale.scale.assign(2.0**100)
  before = steps.arrays(state.named_variables())
  results = run(train_step, batch(4), 3)
  assert np.isfinite(results['loss'])
  assert (results['overflow_steps'], results['loss_scale']) == (3, 2.0**97)
  for name in ('Net/weights', 'Net/weights/Momentum'):
    np.testing.assert_array_equal(before[name], state.named_variables()[name])
  state.loss_scale.scale.assign(1024.0)
  results = run(train_step, batch(4))
  assert (results['overflow_steps'], results['loss_scale']) == (3, 1024)
  assert np.any(before['Net/weights'] != state.trained['Net/weights'].numpy())
  prefix = str(tmp_path / 'model.ckpt-4')
  state.save(prefix, Counters(4, 16, 15))
  other, _ = make(settings, Linear)
  assert other.restore(prefix) == ()
  assert read_counters(prefix, 5) == (4, 16, 15)
  numbers = [int(v) for v in other.loss_scale.named_variables().values()]
  assert numbers == [1024, 1, 3]
  assert 'loss_scale' in checkpoints.shapes(prefix)


def test_a_loss_that_overflows_without_the_scale_is_not_skipped():
  """Batch norm's averages would be lost, and the next loss as good as if nothing had been."""
  state, train_step = make(config(precision='float16', weight_decay=0.0), Linear)
  weights = state.trained['Net/weights']
  weights.assign(1e5 * weights)
  results = run(train_step, batch(4))
  assert not np.isfinite(results['loss'])
  assert (results['overflow_steps'], results['loss_scale']) == (0, 2**15)
  assert not np.isfinite(weights.numpy()).all()
  assert not state.is_finite()


def test_the_scale_grows_after_good_steps():
  scaling = train_state.LossScale()
  scaling.good_steps.assign(train_state.GROWTH_STEPS - 2)
  found = []
  for is_finite in (True, True, True, False, True):
    scaling.update(tf.constant(is_finite))
    found.append([int(v) for v in scaling.named_variables().values()])
  assert found == [[2**15, 1999, 0], [2**16, 0, 0], [2**16, 1, 0], [2**15, 0, 1], [2**15, 1, 1]]
  scaling.scale.assign(1.0)
  scaling.update(tf.constant(False))
  assert float(scaling.scale) == 1.0


AUGMENTED = {
  'mixup_alpha': 0.2,
  'cutmix_alpha': 1.0,
  'random_erasing': 1e-9,  # compiled; but noise is another generator's under XLA
  'randaugment_layers': 1,
}


@pytest.mark.parametrize(
  ('flags', 'model', 'op'),
  [
    (AUGMENTED, Linear, 'MatMul'),
    pytest.param(
      *({'accumulate_steps': 2, 'precision': 'float16'}, None, 'Conv2D'), marks=pytest.mark.slow
    ),
  ],
)
def test_compiled_by_xla(flags, model, op):
  """The same numbers; dropout, whose bits are another generator's under XLA, is off."""
  count = 4 * flags.get('accumulate_steps', 1)
  plain, plain_step = make(config(dropout_keep_prob=1.0, **flags), model)
  compiled, compiled_step = make(config(dropout_keep_prob=1.0, jit_compile=True, **flags), model)
  expected, results = run(plain_step, batch(count)), run(compiled_step, batch(count))
  assert results == pytest.approx(expected, rel=1e-2)
  assert_equal(compiled, plain, rtol=0.05, atol=0.01)
  graph = compiled_step.trace(batch(count)).graph.as_graph_def()
  functions = [f for f in graph.library.function if '_XlaMustCompile' in f.attr]
  assert functions and any(node.op == op for f in functions for node in f.node_def)
