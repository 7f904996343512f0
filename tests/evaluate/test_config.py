"""Flags of an evaluation, and what the runs say."""

import json

import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints

from slim_inception.evaluate.config import resolve
from tests import tiny


@pytest.fixture
def run_of(tmp_path):
  def make(name, **values):
    directory = tmp_path / name
    directory.mkdir()
    checkpoints.save(directory / 'model.ckpt-1', {'a': tf.ones(1)})
    values = {'model_name': tiny.NAME, 'dataset_name': 'digits', 'dataset_dir': 'data', **values}
    (directory / 'config.json').write_text(json.dumps(values))
    return str(directory)

  return make


def test_a_run_says_it_all(run_of):
  path = run_of(
    'a', labels_offset=1, preprocessing_name='inception', loss='sigmoid', run={'image_size': 48}
  )
  config, (member,) = resolve({'checkpoint_path': path})
  assert (config.dataset_name, config.dataset_dir, config.loss) == ('digits', 'data', 'sigmoid')
  assert config.eval_dir == f'{path}/eval'
  assert member == (path, tiny.NAME, 1.0, 'inception', 48, 1, 'auto', 1.0, 3)


def test_members_have_their_own(run_of):
  first = run_of('a', labels_offset=1, run={'image_size': 48}, preprocessing_name='inception')
  second = run_of('b', model_name='inception_v3', depth_multiplier=0.5, input_channels=1)
  config, members = resolve(
    {'checkpoint_path': f'{first},{second}', 'weights': 'ema,plain', 'member_weights': '1,3'}
  )
  assert config.eval_dir == f'{first}/eval_ensemble'
  assert [tuple(member)[1:] for member in members] == [
    (tiny.NAME, 1.0, 'inception', 48, 1, 'ema', 1.0, 3),
    ('inception_v3', 0.5, 'inception_v3', 299, None, 'plain', 3.0, 1),
  ]
  _, members = resolve({'checkpoint_path': f'{first},{second}', 'eval_image_size': '75'})
  assert [member.image_size for member in members] == [75, 75]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'weights': 'ema,plain,ema'}, '--weights=ema,plain,ema: give one value, or one for each of 2'),
    ({'model_name': 'inception_v9'}, '--model_name=inception_v9: choose one of inception_v3, '),
    ({'eval_image_size': '299,x'}, '--eval_image_size=299,x: must be a whole number of at least 1'),
    ({'input_channels': '4'}, '--input_channels=4: choose one of 1, 3'),
    ({'labels_offset': '1.5'}, '--labels_offset=1.5: must be a whole number'),
    ({'member_weights': '1,0'}, '--member_weights=1,0: must be a number'),
    ({'depth_multiplier': '0.5'}, '--depth_multiplier is for inception_v3; inception_tiny has'),
    ({'max_images': 3, 'max_num_batches': 2}, '--max_images and --max_num_batches say the same'),
    ({'resize': 'slim', 'crops': '12'}, '--resize=slim is for --crops=1'),
    ({'crops': '144', 'crop_scales': 'a,b'}, '--crop_scales=a,b: whole numbers with commas'),
    ({'follow': True}, '--follow is for one train_dir'),
    ({'follow_timeout_secs': 3.0}, '--follow_timeout_secs needs --follow'),
    ({'max_images': 0}, '--max_images=0: must be at least 1'),
    ({'crop_fraction': 1.5}, '--crop_fraction=1.5: it must be above 0, at most 1'),
  ],
)
def test_refused(run_of, flags, message):
  with pytest.raises(ValueError) as raised:
    resolve({'checkpoint_path': f'{run_of("a")},{run_of("b")}', **flags})
  assert str(raised.value).startswith(message)


def test_runs_of_other_data(run_of):
  first, second = run_of('a'), run_of('b', dataset_name='flowers')
  message = f'--dataset_name must be given, for the runs differ: digits in {first}, flowers in'
  with pytest.raises(ValueError) as raised:
    resolve({'checkpoint_path': f'{first},{second}'})
  assert str(raised.value).startswith(message)
  assert resolve({'checkpoint_path': first + ',' + second, 'dataset_name': 'digits'})
