"""Evaluations that follow a run."""

import json
import shutil
import threading

import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from slim_inception.evaluate import following, run
from slim_inception.evaluate.config import resolve
from tests import records, tiny

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return records.write_set(tmp_path_factory.mktemp('data'), count=9, split='validation')


@pytest.fixture
def add_checkpoint(tmp_path):
  """Writes model.ckpt-<step> of a run, as training does."""
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  config |= {'dataset_name': 'image_folder', 'run': {'total_steps': 30}}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  model = nets_factory.create_model(tiny.NAME, 3)

  def add(step, value=None):
    biases = model.variables_by_name['InceptionTiny/Logits/Logits/biases']
    biases.assign([value or float(step), 0.0, 0.0])
    model.save(str(tmp_path / f'model.ckpt-{step}'))

  return add


def follow(train_dir, data, timeout_secs):
  flags = {'checkpoint_path': str(train_dir), 'follow': True, 'follow_timeout_secs': timeout_secs}
  return list(following.follow(resolve({**flags, 'dataset_dir': str(data)})))


def test_each_checkpoint_once_until_the_last(tmp_path, data, add_checkpoint, monkeypatch):
  monkeypatch.setattr(following, '_POLL_SECS', 0.05)
  add_checkpoint(10)
  training = threading.Timer(1.0, add_checkpoint, [30])
  training.start()
  found = follow(tmp_path, data, 60.0)
  training.join()
  assert [metrics['checkpoint'][-2:] for metrics in found] == ['10', '30']
  history = following.read_history(str(tmp_path / 'eval'))
  assert [(e['step'], e['num_images'], e['top_1']) for e in history] == [
    (step, 9, metrics['top_1']) for step, metrics in zip((10, 30), found, strict=True)
  ]
  assert follow(tmp_path, data, 60.0) == []  # the run has ended, and all is known
  (events,) = (tmp_path / 'eval').glob('events*')
  steps = [
    event.step
    for event in tf.compat.v1.train.summary_iterator(str(events))
    for value in event.summary.value
    if value.tag == 'eval/top_1'
  ]
  assert steps == [10, 30]


def test_a_restart_goes_on(tmp_path, data, add_checkpoint):
  add_checkpoint(10)
  assert len(follow(tmp_path, data, 0.2)) == 1
  add_checkpoint(20)
  shutil.copy(tmp_path / 'model.ckpt-20.index', tmp_path / 'model.ckpt-25.index')  # half of one
  found = follow(tmp_path, data, 0.2)
  assert [metrics['checkpoint'][-2:] for metrics in found] == ['20']


def test_a_run_that_goes_back(tmp_path, data, add_checkpoint):
  """Its own checkpoints are evaluated, of the same step too; the branch that it left is not."""
  for step in (10, 20, 30):
    add_checkpoint(step)
  assert len(follow(tmp_path, data, 0.1)) == 3
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-10"')
  assert follow(tmp_path, data, 0.1) == []
  add_checkpoint(20, value=0.5)
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"')
  assert [metrics['checkpoint'][-2:] for metrics in follow(tmp_path, data, 0.1)] == ['20']
  assert [entry['step'] for entry in following.read_history(str(tmp_path / 'eval'))] == [10, 20]
  add_checkpoint(17)
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-17"')
  assert [metrics['checkpoint'][-2:] for metrics in follow(tmp_path, data, 0.1)] == ['17']
  assert [entry['step'] for entry in following.read_history(str(tmp_path / 'eval'))] == [10, 17]


def test_one_evaluation_at_a_time_in_an_eval_dir(tmp_path, data, add_checkpoint):
  add_checkpoint(10)
  flags = {'checkpoint_path': str(tmp_path), 'dataset_dir': str(data)}
  following_one = following.follow(resolve({**flags, 'follow': True}))
  next(following_one)
  with pytest.raises(BlockingIOError, match='another evaluation writes there: host'):
    run.evaluate(resolve(flags))
  elsewhere = run.evaluate(resolve({**flags, 'eval_dir': str(tmp_path / 'elsewhere')}))
  assert elsewhere['num_images'] == 9
  shutil.rmtree(tmp_path / 'eval')
  add_checkpoint(20)
  with pytest.raises(FileNotFoundError, match='removed or replaced while this evaluation wrote'):
    next(following_one)
  assert not (tmp_path / 'eval').exists()


def test_nothing_to_follow(tmp_path, data, add_checkpoint):
  with pytest.raises(TimeoutError, match=r'had no checkpoint in 0.1 s \(--follow_timeout_secs\)'):
    follow(tmp_path, data, 0.1)
  with pytest.raises(TimeoutError, match=r'config.json has not appeared in 0.1 s'):
    following.wait_for_run(str(tmp_path / 'elsewhere'), 0.1)


def test_a_damaged_checkpoint_is_an_error(tmp_path, data, add_checkpoint):
  add_checkpoint(10)
  (tmp_path / 'model.ckpt-10.data-00000-of-00001').write_bytes(b'')
  with pytest.raises(ValueError, match=r'model.ckpt-10 .*'):
    follow(tmp_path, data, 0.1)
