"""The training script, killed with no chance to tidy up, and started again."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import records

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 8


def start(data: pathlib.Path, train_dir: pathlib.Path) -> subprocess.Popen:
  """A process that imports everything itself, unlike those of `tests.zygote`."""
  flags = {
    'dataset_name': 'image_folder',
    'dataset_dir': data,
    'train_dir': train_dir,
    'train_image_size': 75,
    'depth_multiplier': 0.1,
    'batch_size': 8,
    'max_number_of_steps': STEPS,
    'log_every_n_steps': 1,
    'save_interval_secs': 0,
    'batch_norm_decay': 0.5,
  }
  command = [sys.executable, '-m', 'slim_inception', 'train', '--clone_on_cpu']
  return subprocess.Popen(
    [*command, *(f'--{name}={value}' for name, value in flags.items())],
    stderr=subprocess.PIPE,
    text=True,
  )


def metrics(train_dir: pathlib.Path) -> list[dict]:
  path = train_dir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith('}')]


@pytest.mark.slow
def test_killed_and_started_again_it_sees_the_same_batches(tmp_path):
  data = records.write_set(tmp_path / 'data')
  undisturbed = start(data, tmp_path / 'undisturbed')
  _, errors = undisturbed.communicate(timeout=300)
  assert undisturbed.returncode == 0, errors

  killed = start(data, tmp_path / 'killed')
  deadline = time.monotonic() + 300
  while len(metrics(tmp_path / 'killed')) < 4 and time.monotonic() < deadline:
    time.sleep(0.05)
  killed.send_signal(signal.SIGKILL)
  killed.communicate()
  assert killed.returncode == -signal.SIGKILL
  resumed = start(data, tmp_path / 'killed')
  _, errors = resumed.communicate(timeout=300)
  assert resumed.returncode == 0, errors
  assert 'Going on from' in errors

  expected, found = metrics(tmp_path / 'undisturbed'), metrics(tmp_path / 'killed')
  assert [entry['step'] for entry in found] == list(range(1, STEPS + 1))
  for a, b in zip(expected, found, strict=True):
    assert b['loss'] == pytest.approx(a['loss'], rel=0.01), a['step']
