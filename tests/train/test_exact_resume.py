"""Killed at any moment and started again, a run comes to the same bits."""

import signal

import numpy as np
import pytest
from slim_inception.nets import checkpoints

from tests import records
from tests.train import processes

pytestmark = pytest.mark.integration


DRAWN = {'sampling': 'balanced', 'mixture': '0.6,0.4'}
DISTORTED = {'repeated_augmentation': 3, 'augment_policy': 'augmix', 'random_rotation': True}
DISTORTED |= {'mixup_alpha': 0.2, 'loss': 'bce', 'bce_target_threshold': 0.2}


@pytest.mark.parametrize(
  'drawn', [{}, *(pytest.param(flags, marks=pytest.mark.slow) for flags in (DRAWN, DISTORTED))]
)
def test_killed_and_started_again_it_comes_to_the_same_bits(tmp_path, drawn):
  """With dropout, stochastic depth, distortions and an epoch of which the batch is no part."""
  data = records.write_set(tmp_path / 'data', count=22)
  if drawn is DRAWN:
    data = f'{data},{records.write_set(tmp_path / "more", count=7)}'
  flags = {
    'deterministic': True,
    'max_number_of_steps': 40,
    'save_interval_steps': 3,
    'dropout_keep_prob': 0.5,
    'drop_path_rate': 0.5,
    'moving_average_decay': 0.9,
    **drawn,
  }
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  first = processes.start(whole, data, **flags)
  second = processes.start(killed, data, **flags)
  processes.wait_until(lambda: list(killed.glob('model.ckpt-6.index')), second)
  second.send_signal(signal.SIGKILL)
  ((status, _),) = processes.finish(second)
  assert status == -signal.SIGKILL
  (status, output), (resumed, said) = processes.finish(
    first, processes.start(killed, data, **flags)
  )
  assert status == 0, output
  assert resumed == 0, said
  assert 'Going on from' in said
  losses = [[(e['step'], e['loss']) for e in processes.metrics(run)] for run in (whole, killed)]
  assert len(losses[0]) == 40
  assert losses[0] == losses[1]
  names = list(checkpoints.shapes(whole))
  expected, found = (checkpoints.read(run, names) for run in (whole, killed))
  for name in names:
    np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
