"""What goes wrong around a run: disks fill, files break and vanish; nothing good is lost."""

import contextlib
import os
import pathlib
import platform
import re
import shutil
import signal

import numpy as np
import pytest
from slim_inception.datasets import shards
from slim_inception.nets import checkpoint_files, checkpoints

from slim_inception.train import trainer
from tests import records
from tests.train import overflow, processes

pytestmark = pytest.mark.integration


def config(data, train_dir, steps, **kwargs):
  defaults = {'recipe': 'slim', 'batch_size': 8, 'max_number_of_steps': steps}
  return processes.config(train_dir, data, **{**defaults, **kwargs})


def steps_of(train_dir) -> list[int]:
  return [entry['step'] for entry in processes.metrics(train_dir)]


def saved(train_dir) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in train_dir.glob('model.ckpt-*')}


@pytest.fixture(scope='module')
def two_steps(data, tmp_path_factory) -> pathlib.Path:
  """A run that has saved after both; to be copied."""
  run = tmp_path_factory.mktemp('two_steps')
  trainer.train(config(data, run, 2, save_interval_steps=1))
  return run


@pytest.fixture
def run(two_steps, tmp_path) -> pathlib.Path:
  return shutil.copytree(two_steps, tmp_path / 'run')


def test_full_disk_while_saving(data, two_steps, small_disk):
  """The checkpoint before stays whole, and with room again the run goes on from it."""
  run = shutil.copytree(two_steps, small_disk / 'run')
  before = saved(run)
  free = shutil.disk_usage(small_disk).free
  size = sum(map(len, before.values())) // 2  # of one of the two
  (small_disk / 'others').write_bytes(b'x' * (free - size // 2))
  with pytest.raises(OSError, match='No space left on device') as error:
    trainer.train(config(data, run, 3))
  assert error.value.filename == str(run / 'model.ckpt-3')
  assert saved(run) == before
  (small_disk / 'others').unlink()
  trainer.train(config(data, run, 3))
  assert steps_of(run) == [1, 2, 3]
  assert checkpoint_files.latest(run) == str(run / 'model.ckpt-3')


def test_a_second_training_is_refused_and_an_evaluation_is_not(data, tmp_path):
  """Until the first is killed; then the next goes on."""
  run, steps = tmp_path / 'run', {'save_interval_steps': 5, 'max_to_keep': 1000}
  first = processes.start(data=data, train_dir=run, max_number_of_steps=10**6, **steps)
  with contextlib.closing(first):
    processes.wait_for_step(run, 11, first)
    first.send_signal(signal.SIGSTOP)
    others = [
      processes.start(data=data, train_dir=run, max_number_of_steps=10**6, **steps),
      processes.command('eval', checkpoint_path=run, dataset_split_name='train'),
    ]
    (status, said), (evaluated, figures) = processes.finish(*others)
    who = rf'host {re.escape(platform.node())}, process {first.pid}, since '
    assert status == 1
    assert re.search(rf'slim-inception train: {run}: another training writes there: {who}', said)
    assert evaluated == 0 and 'num_images 24' in figures, figures
    first.send_signal(signal.SIGCONT)
    reached = processes.metrics(run)[-1]['step']
    processes.wait_for_step(run, reached + 5, first)
  assert (run / '.training.lock').exists()
  last = processes.metrics(run)[-1]['step'] + 1
  trainer.train(config(data, run, last, batch_size=4, **steps))
  assert steps_of(run)[-1] == last
  assert not (run / '.training.lock').exists()


def test_full_disk_at_the_start_and_on_going_on(data, full_disk, two_steps):
  run = full_disk / 'run'
  with pytest.raises(OSError, match='No space left on device') as error:
    trainer.train(config(data, run, 1))
  assert error.value.filename == str(run)
  (full_disk.parent / 'others').unlink()
  shutil.copytree(two_steps, run, dirs_exist_ok=True)
  before = saved(run)
  with pytest.raises(OSError), open(full_disk.parent / 'others', 'wb', buffering=0) as others:
    while others.write(b'x' * 4096):
      pass
  with pytest.raises(OSError, match='No space left on device') as error:
    trainer.train(config(data, run, 3))
  assert error.value.filename == str(run)
  assert saved(run) == before


@pytest.mark.parametrize('again', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_train_dir_that_is_removed_ends_the_run(data, tmp_path, again):
  """No checkpoint stands alone, without config.json, in a folder that was made anew."""
  run = tmp_path / 'run'
  process = processes.start(
    data=data, train_dir=run, max_number_of_steps=10**6, save_interval_steps=10
  )
  with contextlib.closing(process):
    processes.wait_for_step(run, 11, process)
    run.rename(tmp_path / 'removed')  # at once: rm -r would be a race with what it writes
    if again:
      run.mkdir()
    ((status, said),) = processes.finish(process)
  assert status == 1
  message = f'slim-inception train: {run}: removed or replaced while this training wrote into it'
  assert said.splitlines()[-1] == message
  assert (list(run.iterdir()) == []) if again else not run.exists()


def flip(path, position):
  content = bytearray(path.read_bytes())
  content[position] ^= 0x10
  path.write_bytes(content)


def flip_in_the_middle(path):
  flip(path, path.stat().st_size // 2)


def cut_short(path):
  os.truncate(path, min(30, path.stat().st_size // 2))


@pytest.mark.parametrize(
  ('suffix', 'damage'),
  [
    ('.data-00000-of-00001', flip_in_the_middle),
    pytest.param('.data-00000-of-00001', cut_short, marks=pytest.mark.slow),
    pytest.param('.index', flip_in_the_middle, marks=pytest.mark.slow),
    pytest.param('.index', cut_short, marks=pytest.mark.slow),
  ],
)
def test_damaged_checkpoint_falls_back_to_the_one_before(data, run, caplog, suffix, damage):
  damage(run / f'model.ckpt-2{suffix}')
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, run, 3))
  assert 'model.ckpt-2 is damaged' in caplog.text
  assert f'Going on from {run}/model.ckpt-1' in caplog.text
  assert steps_of(run) == [1, 2, 3]


def test_all_checkpoints_damaged(data, run):
  """A run is not begun anew over the remains of another."""
  for step in (1, 2):
    flip(run / f'model.ckpt-{step}.data-00000-of-00001', 1000)
  with pytest.raises(ValueError, match=r'model.ckpt-. is damaged.*no other checkpoint'):
    trainer.train(config(data, run, 3))
  assert (run / 'model.ckpt-2.index').exists()


@pytest.fixture(scope='module')
def many(tmp_path_factory) -> pathlib.Path:
  """More records than tf.data reads ahead of the first steps."""
  return records.write_set(tmp_path_factory.mktemp('many'), count=3000, num_shards=6)


def test_records_that_break_during_a_run(many, tmp_path):
  data, run = shutil.copytree(many, tmp_path / 'data'), tmp_path / 'run'
  settings = {'shuffle_buffer': 1, 'num_readers': 1, 'save_interval_secs': 0.0}
  trainer.train(config(data, run, 1, **settings))
  for path in sorted(data.glob('train-*')):
    (*_, (offset, _)) = shards.walk_shard(path)
    flip(path, offset + 20)
  with pytest.raises(
    ValueError, match=r'train-0000\d-of-00006: record 499 at byte \d+ does not mat'
  ):
    trainer.train(config(data, run, 400, batch_size=16, **settings))
  assert checkpoint_files.latest(run) is not None
  assert np.isfinite([entry['loss'] for entry in processes.metrics(run)]).all()


@pytest.mark.slow
def test_records_that_vanish_during_a_run(many, tmp_path, monkeypatch):
  data, run = shutil.copytree(many, tmp_path / 'data'), tmp_path / 'run'

  class LosesTheDisk(trainer.TrainStep):
    def __call__(self, *args):
      for path in data.glob('train-*'):
        path.unlink()
      return super().__call__(*args)

  monkeypatch.setattr(trainer, 'TrainStep', LosesTheDisk)
  settings = {'shuffle_buffer': 1, 'num_readers': 1, 'save_interval_secs': 0.0}
  with pytest.raises((ValueError, OSError), match=r'train-0000\d-of-00006'):
    trainer.train(config(data, run, 400, batch_size=16, **settings))
  assert checkpoint_files.latest(run) is not None


@pytest.mark.slow
def test_a_image_that_makes_the_loss_not_finite(tmp_path, caplog):
  """It stops the run, which names what is known; or its batch is skipped. Grey ones do no harm."""
  data, run = tmp_path / 'data', tmp_path / 'run'
  flags = overflow.flags(overflow.write_checkpoint(tmp_path / 'loud.ckpt'))
  overflow.write_set(data, ())
  trainer.train(config(data, run, 2, **flags))
  overflow.write_set(data, (5,))
  with pytest.raises(ValueError) as error:
    trainer.train(config(data, run, 8, **flags))
  (step, good) = re.fullmatch(
    r'The loss is nan at step (\d) \(learning rate 0.01\): try .*; the last good checkpoint is '
    r'(.*); --on_nan=rollback goes back there and skips these batches',
    str(error.value),
  ).groups()
  assert good == checkpoint_files.latest(run) == str(run / f'model.ckpt-{int(step) - 1}')
  assert steps_of(run) == list(range(1, int(step)))

  with caplog.at_level('WARNING', 'absl'):
    trainer.train(config(data, run, 8, **flags, on_nan='rollback'))
  skipped = caplog.text.count('and skipping the batches since')
  assert skipped
  assert steps_of(run) == list(range(1, 9))
  assert np.isfinite([entry['loss'] for entry in processes.metrics(run)]).all()
  stored = checkpoints.read(run, checkpoints.shapes(run))
  assert int(stored['input_position']) == 8 * (8 + skipped)
  assert all(np.isfinite(value).all() for value in stored.values())


def test_weights_that_are_not_finite_are_not_saved(data, tmp_path):
  """The loss is that of before the update: the first step's is good, what it leads to is not."""
  run = tmp_path / 'run'
  settings = {'optimizer': 'sgd', 'learning_rate': 1e39}
  with pytest.raises(
    ValueError, match=r'Weights are not finite at step 1 \(learning rate 1e\+39\)'
  ):
    trainer.train(config(data, run, 1, **settings))
  assert checkpoint_files.latest(run) is None


@pytest.mark.slow
def test_a_learning_rate_that_explodes(data, tmp_path):
  run = tmp_path / 'run'
  settings = {'optimizer': 'sgd', 'save_interval_steps': 1}
  trainer.train(config(data, run, 2, **settings))
  before = saved(run)
  settings |= {'learning_rate': 1e12, 'save_interval_steps': 100}
  expected = (
    r'at step [34] \(learning rate 1e\+12\): try .*; the last good checkpoint is .*ckpt-2; '
  )
  with pytest.raises(ValueError, match=expected):
    trainer.train(config(data, run, 6, **settings))
  with pytest.raises(ValueError, match='went back to .*model.ckpt-2 3 times without help'):
    trainer.train(config(data, run, 40, **settings, on_nan='rollback'))
  assert saved(run) == before
