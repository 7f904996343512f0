"""Learning rates against TF1's own schedules."""

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies

from slim_inception import flags as flags_lib
from slim_inception.train import schedules
from slim_inception.train.config import resolve
from slim_inception.train.plan import make_plan


def config(kind, **flags):
  where = {'train_dir': 'run', 'dataset_dir': 'data', 'recipe': 'slim'}
  return resolve({**where, 'learning_rate_decay_type': kind, **flags})


def learning_rate(settings, step, steps_per_epoch):
  """Of a run whose steps were all alike."""
  return schedules.learning_rate(settings.schedule, step, step / steps_per_epoch, steps_per_epoch)


@pytest.mark.parametrize('step', [0, 1, 49, 50, 51, 123, 1000])
@pytest.mark.parametrize('kind', ['exponential', 'polynomial'])
def test_slims_schedules_are_tf1s(kind, step):
  settings = config(kind, num_epochs_per_decay=2.5)
  train = tf.compat.v1.train
  if kind == 'exponential':
    expected = train.exponential_decay(0.01, step, 50, 0.94, staircase=True)
  else:
    expected = train.polynomial_decay(0.01, step, 50, 0.0001, power=1.0, cycle=False)
  assert learning_rate(settings, step, 20.0) == pytest.approx(float(expected()), rel=1e-5)


def test_fixed():
  assert learning_rate(config('fixed'), 99, 1.0) == 0.01


@pytest.mark.parametrize('length', [{'max_number_of_steps': 110}, {'num_epochs': 11.0}])
def test_warm_up_then_cosine(length):
  rates = {'end_learning_rate': 0.002, 'learning_rate': 0.01}
  settings = config('cosine', warmup_epochs=1.0, **rates, **length)
  rates = [learning_rate(settings, step, 10.0) for step in range(111)]
  assert rates[0] == pytest.approx(0.001)
  assert rates[9] == rates[10] == pytest.approx(0.01)
  assert rates[60] == pytest.approx(0.006)  # half way down
  assert rates[110] == pytest.approx(0.002)


@pytest.mark.parametrize('warmup', [0.0, 1.0])
def test_stairs_at_given_epochs(warmup):
  stairs = {'learning_rate_steps': '2, 4,4.5', 'learning_rate_decay_factor': 0.1}
  settings = config('step', learning_rate=1.0, warmup_epochs=warmup, **stairs)
  rates = [learning_rate(settings, step, 10.0) for step in range(60)]
  expected = [1.0] * 20 + [0.1] * 20 + [0.01] * 5 + [0.001] * 15
  first = int(10 * warmup)
  assert rates[first:] == pytest.approx(expected[first:])
  # The global batch does not divide the split: the first step that begins in the epoch or later.
  assert learning_rate(settings, 20, 10.4) == pytest.approx(1.0)
  assert learning_rate(settings, 21, 10.4) == pytest.approx(0.1)


def test_rates_in_proportion_to_the_batch():
  """All of the schedule: the warm-up, the rate, and where a cosine ends."""
  flags = {'warmup_epochs': 2.0, 'num_epochs': 9.0, 'end_learning_rate': 0.01}
  plain = config('cosine', learning_rate=0.1, **flags)
  per = config('cosine', learning_rate=0.1, learning_rate_per=256, batch_size=8, **flags)
  assert schedules.scaled(plain.schedule, 96) == plain.schedule
  for replicas, accumulate, batch in ((1, 1, 8), (3, 1, 24), (3, 4, 96), (4, 16, 512)):
    chosen = flags_lib.replace(per, accumulate_steps=accumulate)
    plan = make_plan(chosen, 1000, 10, replicas)
    assert plan.global_batch_size == batch
    schedule = schedules.scaled(chosen.schedule, plan.global_batch_size)
    for epoch in (0.0, 0.7, 2.0, 5.0, 9.0):
      expected = schedules.learning_rate(plain.schedule, 0, epoch, 10.0) * batch / 256
      assert schedules.learning_rate(schedule, 0, epoch, 10.0) == pytest.approx(expected)


@hypothesis.settings(derandomize=True, database=None, deadline=None)
@hypothesis.given(
  kind=strategies.sampled_from(sorted(schedules._SCHEDULES)),
  warmup=strategies.floats(0, 3),
  epochs=strategies.floats(3.5, 20),
  decay=strategies.floats(0.1, 1),
  stairs=strategies.lists(strategies.floats(0.1, 20), min_size=1, max_size=4, unique=True),
  steps_per_epoch=strategies.floats(0.3, 50),
)
def test_rates_rise_in_the_warm_up_and_never_after(
  kind, warmup, epochs, decay, stairs, steps_per_epoch
):
  settings = config(
    kind,
    learning_rate_steps=sorted(stairs) if kind == 'step' else None,
    learning_rate_decay_factor=decay,
    learning_rate=0.1,
    end_learning_rate=0.01,
    num_epochs=epochs,
    num_epochs_per_decay=epochs / 2,
    warmup_epochs=warmup,
  )
  steps = range(int(epochs * steps_per_epoch) + 2)
  rates = [learning_rate(settings, step, steps_per_epoch) for step in steps]
  first = sum(step / steps_per_epoch < warmup for step in steps)
  assert rates[:first] == sorted(rates[:first])
  assert rates[first:] == sorted(rates[first:], reverse=True)
  assert 0 < min(rates) <= max(rates) <= 0.1
  assert kind not in ('cosine', 'polynomial') or min(rates[first:], default=1) >= 0.01 * (1 - 1e-9)


@pytest.mark.parametrize('kind', schedules._SCHEDULES)
def test_rates_go_on_where_they_were_with_another_batch(kind):
  """After 600 images of 100 an epoch the batch doubles: a function of the images alone."""
  schedule = config(
    kind,
    learning_rate_steps='3,6,9' if kind == 'step' else None,
    num_epochs=12.0,
    num_epochs_per_decay=12.0 if kind == 'polynomial' else 1.5,
    warmup_epochs=2.0,
  ).schedule
  rate, images = schedules.learning_rate, range(0, 1200, 10)
  small = [rate(schedule, n // 5, n / 100, 20.0) for n in images]
  large = [rate(schedule, 120 + (n - 600) // 10, n / 100, 10.0) for n in images[60:]]
  assert large == small[60:]
  assert kind == 'fixed' or small[-1] < small[60]
