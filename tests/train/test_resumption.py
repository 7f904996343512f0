"""--resume_from: another train_dir goes on as the run itself would have."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from slim_inception.datasets import conversion, image_folder
from slim_inception.nets import checkpoints

from slim_inception.train import config_json, trainer
from slim_inception.train.config import resolve
from tests import records
from tests.train import processes

pytestmark = pytest.mark.integration

# An epoch is no multiple of the batch, and weights are averaged.
FLAGS = {
  'optimizer': 'adam',
  'learning_rate': 0.01,
  'moving_average_decay': 0.9,
  'dropout_keep_prob': 0.5,
  'max_number_of_steps': 5,
  'save_interval_steps': 2,
}


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=22)


def config(data, train_dir, **kwargs):
  return processes.config(train_dir, data, **{**FLAGS, **kwargs})


@pytest.fixture(scope='module')
def finished(data, tmp_path_factory):
  """A run that came to its end, of five steps."""
  train_dir = tmp_path_factory.mktemp('finished')

  def evaluate(prefix):
    return {'num_images': 22, 'top_1': 0.5, 'top_5': 1.0}

  trainer.train(config(data, train_dir, eval_interval_epochs=0.5), evaluate)
  return train_dir


@pytest.fixture(autouse=True)
def _log(caplog):
  caplog.set_level('INFO', 'absl')


def resumed(source, train_dir, **flags):
  return resolve({'resume_from': str(source), 'train_dir': str(train_dir), **flags})


def contents(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob('*')
    if path.is_file()
  }


def losses(train_dir):
  return [(e['step'], e['loss'], e['epoch']) for e in processes.metrics(train_dir) if 'loss' in e]


def test_it_goes_on_as_one_that_was_longer_from_the_start(finished, data, tmp_path, caplog):
  """Also when it is stopped itself and started again."""
  caplog.set_level('INFO', 'absl')
  before = contents(finished)
  whole, longer = tmp_path / 'whole', tmp_path / 'longer'
  trainer.train(config(data, whole, max_number_of_steps=9))
  trainer.train(resumed(finished, longer, max_number_of_steps=7))
  trainer.train(resumed(finished, longer, max_number_of_steps=9))
  assert contents(finished) == before
  assert len(losses(longer)) == len(losses(whole)) == 9
  for there, here in zip(losses(whole), losses(longer), strict=True):
    assert here == pytest.approx(there, rel=1e-4)
  names = list(checkpoints.shapes(whole))
  assert 'global_step' in names and any('/Adam_1' in name for name in names)
  expected, taken = (checkpoints.read(train_dir, names) for train_dir in (whole, longer))
  for name in names:
    np.testing.assert_allclose(taken[name], expected[name], 1e-3, 1e-4, err_msg=name)
  # What the other run was is there too: its evaluations and its best checkpoint.
  assert [e['step'] for e in processes.metrics(longer) if 'eval_top_1' in e][:2] == [3, 5]
  assert (longer / 'best' / 'model.ckpt-3.index').exists()
  facts = config_json.read(str(longer))['run']
  assert facts['resumed_from']['step'] == 5
  assert facts['resumed_from']['checkpoint'] == str(finished / 'model.ckpt-5')
  assert 'Changed since the last start: --max_number_of_steps from 5 to 7' in caplog.text
  assert 'The learning rate of step' not in caplog.text
  assert f'Going on from {longer}/model.ckpt-7' in caplog.text


def test_a_checkpoint_in_the_middle_another_schedule_and_what_a_killed_start_left(
  finished, tmp_path, caplog
):
  """The lines of later steps do not come along; nor does a copy count that was not finished."""
  caplog.set_level('INFO', 'absl')
  train_dir = tmp_path / 'branch'
  train_dir.mkdir()
  shutil.copy(finished / 'config.json', train_dir)
  shutil.copy(finished / 'model.ckpt-4.data-00000-of-00001', train_dir)
  source = finished / 'model.ckpt-4.index'
  flags = {'learning_rate_decay_type': 'cosine', 'end_learning_rate': 0, 'max_number_of_steps': 8}
  trainer.train(resumed(source, train_dir, **flags))
  assert [step for step, *_ in losses(train_dir)] == [*range(1, 9)]
  rates = [e['learning_rate'] for e in processes.metrics(train_dir) if 'loss' in e]
  assert rates[3:5] == pytest.approx([0.01, 0.005])  # half of the cosine is over
  assert 'The learning rate of step 5 is 0.005; by the schedule of before it would be 0.01' in (
    caplog.text
  )


def test_epochs_take_the_place_of_the_old_number_of_steps(finished):
  config = resumed(finished, 'elsewhere', num_epochs=3)
  assert config.schedule.max_number_of_steps is None and config.schedule.num_epochs == 3
  assert config.optimizer.optimizer == 'adam' and config.run.train_dir == 'elsewhere'


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'optimizer': 'sgd'}, 'keeps the optimizer: .*/model.ckpt-5 has --optimizer=adam, not sgd'),
    ({'model_name': 'inception_v3'}, 'keeps the net: .* has --model_name=inception_tiny, not'),
    ({'seed': 1}, 'keeps the order of the records: .* has --seed=0, not 1'),
    ({'dataset_split_name': 'validation'}, 'keeps the data: .* has --dataset_split_name=train'),
  ],
)
def test_what_cannot_change_is_one_line(flags, message, finished, data, tmp_path):
  records.write_set(data, count=22, split='validation')
  train_dir = tmp_path / 'new'
  with pytest.raises(ValueError, match=message) as error:
    trainer.train(resumed(finished, train_dir, **flags))
  assert '\n' not in str(error.value)
  assert not list(train_dir.glob('model*')) and not (train_dir / 'config.json').exists()


def test_other_records_are_refused(finished, tmp_path):
  other = records.write_set(tmp_path / 'other', count=24)
  with pytest.raises(ValueError, match=r'keeps the data: .*/other has other records than .*ckpt-5'):
    trainer.train(resumed(finished, tmp_path / 'new', dataset_dir=str(other)))


def converted(folder, first):
  """Records with dataset.json, which has a hash that config.json keeps."""
  for number in range(first, first + 9):
    path = folder / 'images' / f'color {number % 3}' / f'{number}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(records.image(number % 3, number))
  options = conversion.Options(validation_fraction=0.0, num_processes=1)
  image_folder.convert(str(folder / 'images'), folder / 'records', options)
  return folder / 'records'


def test_a_run_of_several_sets(data, tmp_path):
  first, second, third = (converted(tmp_path / str(i), 9 * i) for i in range(3))
  flags = {'dataset_dir': f'{first},{second}', 'mixture': '0.7,0.3', 'max_number_of_steps': 1}
  trainer.train(config(data, tmp_path / 'run', **flags))
  trainer.train(resumed(tmp_path / 'run', tmp_path / 'longer', max_number_of_steps=2))
  assert [step for step, *_ in losses(tmp_path / 'longer')] == [1, 2]
  with pytest.raises(ValueError, match='keeps the data'):
    trainer.train(resumed(tmp_path / 'run', tmp_path / 'new', dataset_dir=f'{first},{third}'))


def test_what_is_no_run_is_one_line(finished, data, tmp_path):
  with pytest.raises(ValueError, match='is of --train_dir itself, which goes on without it'):
    trainer.train(resumed(finished, finished))
  with pytest.raises(ValueError, match='choose one'):
    resumed(finished, tmp_path, checkpoint_path=str(finished))
  with pytest.raises(FileNotFoundError, match='config.json is not there; expected the train_dir'):
    resumed(tmp_path, tmp_path / 'new')
  with pytest.raises(ValueError, match='--find_learning_rate begins with fresh weights'):
    resumed(finished, tmp_path, find_learning_rate='curve')
  weights = tmp_path / 'weights'
  weights.mkdir()
  shutil.copy(finished / 'config.json', weights)
  names = [n for n in checkpoints.shapes(finished) if '/Adam' not in n and n != 'global_step']
  checkpoints.save(str(weights / 'net.ckpt'), checkpoints.read(finished, names))
  with pytest.raises(ValueError, match='net.ckpt is not what a run saves to go on from: it needs'):
    trainer.train(resumed(weights / 'net.ckpt', tmp_path / 'new'))
  shutil.copytree(finished, tmp_path / 'own')
  with pytest.raises(ValueError, match='own holds a run that began without --resume_from: choose'):
    trainer.train(resumed(finished, tmp_path / 'own', max_number_of_steps=9))


def test_a_damaged_checkpoint_is_not_copied(finished, tmp_path):
  damaged = tmp_path / 'damaged'
  shutil.copytree(finished, damaged)
  path = damaged / 'model.ckpt-5.data-00000-of-00001'
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match='model.ckpt-5 is damaged'):
    trainer.train(resumed(damaged / 'model.ckpt-5', tmp_path / 'new'))
  assert not json.loads((damaged / 'config.json').read_text()).get('resume_from')
