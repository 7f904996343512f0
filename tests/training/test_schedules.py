"""Learning rates against TF1's own schedules."""

import pytest
import tensorflow as tf

from training.config import resolve
from training.schedules import learning_rate

GIVEN = {'train_dir': 'run', 'dataset_dir': 'data', 'recipe': 'slim'}


@pytest.mark.parametrize('step', [0, 1, 49, 50, 51, 123, 1000])
@pytest.mark.parametrize('kind', ['exponential', 'polynomial'])
def test_slims_schedules_are_tf1s(kind, step):
  config = resolve({**GIVEN, 'learning_rate_decay_type': kind, 'num_epochs_per_decay': 2.5})
  train = tf.compat.v1.train
  if kind == 'exponential':
    expected = train.exponential_decay(0.01, step, 50, 0.94, staircase=True)
  else:
    expected = train.polynomial_decay(0.01, step, 50, 0.0001, power=1.0, cycle=False)
  assert learning_rate(config, step, 20.0, None) == pytest.approx(float(expected()), rel=1e-5)


def test_fixed():
  assert learning_rate(resolve({**GIVEN, 'learning_rate_decay_type': 'fixed'}), 99, 1.0, 9) == 0.01


def test_warm_up_then_cosine():
  config = resolve(
    {
      **GIVEN,
      'learning_rate_decay_type': 'cosine',
      'max_number_of_steps': 110,
      'warmup_epochs': 1.0,
      'end_learning_rate': 0.002,
      'learning_rate': 0.01,
    }
  )
  rates = [learning_rate(config, step, 10.0, 110) for step in range(111)]
  assert rates[0] == pytest.approx(0.001)
  assert rates[9] == rates[10] == pytest.approx(0.01)
  assert rates[60] == pytest.approx(0.006)  # half way down
  assert rates[110] == pytest.approx(0.002)
  assert rates[:10] == sorted(rates[:10])
  assert rates[10:] == sorted(rates[10:], reverse=True)
