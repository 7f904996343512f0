"""Flags of an evaluation, and what the runs say."""

import json

import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.preprocessing_factory import INCEPTION

from slim_inception.evaluate.config import EnsembleRequest, Member, resolve
from slim_inception.evaluate.views import make_spec
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
  config, ensemble = resolve({'checkpoint_path': path})
  records = config.records
  assert (records.dataset_name, records.dataset_dir, records.loss) == ('digits', 'data', 'sigmoid')
  assert config.results.eval_dir == f'{path}/eval'
  assert ensemble == EnsembleRequest(
    (Member(path, tiny.NAME, make_spec(INCEPTION, 48), 1.0, 1, None, 1.0),),
    loss='sigmoid',
    calibrated=None,
  )


def test_nets_of_bce_choose_one_class(run_of):
  """And so they make an ensemble with those of softmax, but not with those of sigmoid."""
  paths = [run_of(name, loss=name) for name in ('bce', 'softmax', 'sigmoid')]
  for checkpoints_of in (paths[0], ','.join(paths[:2])):
    config, ensemble = resolve({'checkpoint_path': checkpoints_of})
    assert config.records.loss == ensemble.loss == 'softmax'
  with pytest.raises(ValueError, match='--loss must be given, for the runs differ: softmax in '):
    resolve({'checkpoint_path': f'{paths[0]},{paths[2]}'})
  with pytest.raises(ValueError, match='--loss=bce: choose one of sigmoid, softmax'):
    resolve({'checkpoint_path': paths[0], 'loss': 'bce'})


def test_members_have_their_own(run_of):
  first = run_of('a', labels_offset=1, run={'image_size': 48}, preprocessing_name='inception')
  second = run_of('b', model_name='inception_v3', depth_multiplier=0.5, input_channels=1)
  paths = f'{first},{second}'
  config, ensemble = resolve(
    {'checkpoint_path': paths, 'use_ema': 'true,false', 'ensemble_weights': '1,3'}
  )
  assert config.results.eval_dir == f'{first}/eval_ensemble'
  grey = preprocessing_factory.get('inception', channels=1)
  assert ensemble.members == (
    Member(first, tiny.NAME, make_spec(INCEPTION, 48), 1.0, 1, True, 1.0),
    Member(second, 'inception_v3', make_spec(grey, 299), 0.5, None, False, 3.0),
  )
  _, ensemble = resolve({'checkpoint_path': paths, 'eval_image_size': '75'})
  assert [member.spec.image_size for member in ensemble.members] == [75, 75]
  _, ensemble = resolve({'checkpoint_path': paths, 'preprocessing_name': 'inception_v4,vgg'})
  names = [member.spec.preprocessing.name for member in ensemble.members]
  assert names == ['inception', 'vgg']


def test_another_preprocessing_than_the_runs_is_told(run_of, caplog):
  """A wrong one gives plausible accuracies."""
  plain, vgg = run_of('a'), run_of('b', preprocessing_name='vgg')
  with caplog.at_level('WARNING', 'absl'):
    for path, flag, taken in (
      (plain, 'vgg', 'vgg'),
      (vgg, None, 'vgg'),
      (vgg, 'inception', 'inception'),
    ):
      _, ensemble = resolve({'checkpoint_path': path, 'preprocessing_name': flag})
      assert ensemble.members[0].spec.preprocessing.name == taken
  assert [line for line in caplog.messages if line.startswith('--')] == [
    f'--preprocessing_name=vgg, but {plain} was trained with inception',
    f'--preprocessing_name=inception, but {vgg} was trained with vgg',
  ]


def test_another_preprocessing_than_that_of_released_weights_is_told(tmp_path, caplog):
  """A checkpoint without a run is taken for a released one: of ResNet-v1, for VGG's images."""
  checkpoints.save(tmp_path / 'model.ckpt', {'a': tf.ones(1)})
  flags = {'checkpoint_path': str(tmp_path / 'model.ckpt'), 'dataset_name': 'digits'}
  flags |= {'dataset_dir': 'data', 'eval_dir': str(tmp_path)}
  with caplog.at_level('WARNING', 'absl'):
    for name, flag, taken, size in (
      ('resnet_v1_50', None, 'vgg', 224),
      ('resnet_v2_50', None, 'inception', 299),
      ('resnet_v1_5_50', None, 'torch', 224),
      ('resnet_v1_50', 'inception', 'inception', 224),
    ):
      _, ensemble = resolve({**flags, 'model_name': name, 'preprocessing_name': flag})
      spec = ensemble.members[0].spec
      assert (spec.preprocessing.name, spec.image_size) == (taken, size)
  assert [line for line in caplog.messages if line.startswith('--')] == [
    '--preprocessing_name=inception, but resnet_v1_50_2016_08_28 of TF-Slim takes vgg'
  ]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'model_name': 'inception_v9'}, '--model_name=inception_v9: choose one of inception_v1, '),
    ({'ensemble_weights': '1,0'}, '--ensemble_weights=1,0: must be a number'),
    ({'depth_multiplier': '0.5'}, '--depth_multiplier is for inception_v2, inception_v3, '),
    (
      {'model_name': 'inception_v4', 'activation_scale': 1},
      '--activation_scale is for incep',
    ),
    ({'preprocessing_name': 'x'}, "--preprocessing_name=x: unknown preprocessing 'x'; valid: inc"),
    ({'max_images': 3, 'max_num_batches': 2}, '--max_images and --max_num_batches say the same'),
    ({'follow': True}, '--follow is for one train_dir'),
    ({'follow_timeout_secs': 3.0}, '--follow_timeout_secs needs --follow'),
    ({'crop_fraction': 1.5}, '--crop_fraction=1.5: must be a number, greater than 0, at most 1'),
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


@pytest.mark.parametrize(
  ('variable', 'hint'),
  [
    ('resnet_v2_50/conv1/biases', '; the checkpoint has variables of resnet_v2_50'),
    ('InceptionV1/Logits/biases', '; the checkpoint has variables of inception_v1'),
    ('other/biases', ''),
  ],
)
def test_a_checkpoint_without_run_tells_the_net(tmp_path, variable, hint):
  checkpoints.save(tmp_path / 'model.ckpt', {variable: tf.zeros(1)})
  with pytest.raises(ValueError, match=f'--model_name must be given: .* that says it{hint}$'):
    resolve(
      {
        'checkpoint_path': str(tmp_path / 'model.ckpt'),
        'dataset_name': 'digits',
        'dataset_dir': str(tmp_path),
      }
    )
