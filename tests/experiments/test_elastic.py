"""Runs that are killed and go on with other replicas: what is said of them, and real ones."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('matplotlib', reason='extra plots')

from experiments import elastic
from slim_inception import flags
from tests import records, tiny

ROOT = Path(__file__).resolve().parents[2]
# The worker, in a process that knows the net of test size.
WORKER = (
  sys.executable,
  '-c',
  'import sys; from tests import tiny; tiny.register()\n'
  'from experiments import elastic_worker; elastic_worker.main(sys.argv[1:])',
)


def steps(*rows):
  return [{'step': s, 'replicas': r, 'record_indices': [*indices]} for s, r, indices in rows]


WHOLE = steps((1, 1, [0, 1]), (2, 1, [2, 3]), (3, 1, [4, 5]), (4, 1, [6, 7]))
LOSSES = {1: 4.0, 2: 2.0, 3: 1.0, 4: 0.5}


def test_the_same_batches_with_a_step_taken_twice():
  killed = steps((1, 2, [0, 1]), (2, 2, [2, 3]), (2, 4, [2, 3]), (3, 4, [4, 5]), (4, 4, [6, 7]))
  off = elastic.compare(WHOLE, killed, LOSSES, {**LOSSES, 3: 1.01})
  assert off == elastic.Difference(4, 5, [(1, 2), (2, 4)], [], 0.0, pytest.approx(0.01), 0.0)
  (said,) = elastic.statements_of({elastic.SYNCHRONIZED: off})
  assert said.startswith('Killed, batch norm over all replicas: 1 kills, 2 starts with 2, 4 rep')
  assert 'All 5 steps that it took had the records of the unbroken run, also the 1 that' in said
  assert (
    'by 0 of it in the first step with other replicas, by at most 0.01 in any of 4 steps,' in said
  )


def test_other_batches_are_told():
  killed = steps((1, 1, [0, 1]), (2, 2, [2, 4]), (3, 2, [3, 5]), (4, 2, [6, 7]))
  off = elastic.compare(WHOLE, killed, LOSSES, LOSSES)
  assert off.other_batches == [2, 3] and off.starts == [(1, 1), (2, 2)]
  (said,) = elastic.statements_of({elastic.PLAIN: off})
  assert '2 of the 4 steps that it took had other records than' in said and 'is step' not in said
  assert 'the first of them step 2.' in said


def small(output_dir, data, **values):
  shared = {
    'output_dir': str(output_dir),
    'dataset_name': 'image_folder',
    'dataset_dir': str(data),
    'train_image_size': 32,
    'batch_size': 8,
    'num_epochs': 2,
    'config': values.pop('config', None),
  }
  return flags.build(elastic.ElasticConfig, {**shared, **values})


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'replicas': '2'}, '--replicas=2: expected two different numbers or more'),
    ({'replicas': '1,3'}, '--batch_size=8 cannot be divided among 3 replicas'),
    ({'kills': 0}, '--kills=0: must be a whole number, at least 1'),
  ],
)
def test_bad_flags_are_one_line(values, message, tmp_path, data):
  with pytest.raises((ValueError, flags.Error), match=message):
    elastic.configs_of(small(tmp_path, data, **values))


@pytest.mark.parametrize('setting', elastic.config_lib.SETTINGS)
def test_settings_are_configurations(setting, tmp_path):
  values = {'output_dir': str(tmp_path), 'setting': setting, 'dataset_dir': str(tmp_path)}
  configs = elastic.configs_of(flags.build(elastic.ElasticConfig, values))
  assert [each.model.sync_batch_norm for each in configs.values()] == [False, True, False]
  assert {each.batch.global_batch_size for each in configs.values()} == {
    {'small': 32, 'full': 256}[setting]
  }


@pytest.mark.slow
@pytest.mark.integration
def test_killed_twice_it_sees_the_same_batches(tmp_path, data, monkeypatch):
  """With 1, 2 and 4 replicas, an epoch of which the batch is no part, and distortions."""
  data = records.write_set(data, count=60)
  (tmp_path / 'mine.toml').write_text(
    f'model_name = "{tiny.NAME}"\npreprocessing_name = "inception"\nsave_interval_steps = 2\n'
    'learning_rate = 0.001\ndropout_keep_prob = 1.0\n'
  )
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
  config = small(tmp_path / 'out', data, config=str(tmp_path / 'mine.toml'), kills=2)
  elastic.run(config, 'the command', WORKER)
  results = json.loads((tmp_path / 'out' / 'results.json').read_text())['runs']
  for each in results.values():
    assert [replicas for _, replicas in each['starts']] == [1, 2, 4]
    assert each['other_batches'] == [] and each['steps'] == 15
  assert results[elastic.SYNCHRONIZED]['at_change'] < 1e-4 < results[elastic.PLAIN]['at_change']
  # Independently of what compares them: an epoch's batches have each of its records once.
  lines = elastic.read_steps(str(tmp_path / 'out' / 'runs' / elastic.PLAIN))
  taken = {line['step']: line['record_indices'] for line in lines}
  np.testing.assert_array_equal(np.sort(np.concatenate([*taken.values()])), np.arange(15 * 8))
  page = (tmp_path / 'out' / 'page.html').read_text()
  assert 'had the records of the unbroken run' in page
