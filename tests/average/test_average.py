"""slim-inception average against NumPy's means and evaluations of each average by itself."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.preprocessing import preprocessing_factory

from slim_inception import flags
from slim_inception.average import averaging
from slim_inception.average.config import AverageConfig, resolve
from slim_inception.evaluate import batch_norm_statistics
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.train.checkpoint_manager import write_checkpoint_state
from tests import records, tiny
from tests.cli.test_cli import run as command

pytestmark = pytest.mark.integration

AVERAGE = checkpoints.EMA_SUFFIX
LABELS = ['color 0', 'color 1', 'color 2']


@pytest.fixture(scope='module')
def dataset_dir(tmp_path_factory):
  folder = records.write_set(tmp_path_factory.mktemp('data'), count=24)
  return str(records.write_set(folder, count=23, split='validation'))


def write_config(folder, dataset_dir, **values):
  config = {
    'model_name': tiny.NAME,
    'preprocessing_name': 'inception',
    'dataset_name': 'image_folder',
    'dataset_dir': dataset_dir,
    'run': {'image_size': 32, 'labels': LABELS},
  }
  (folder / 'config.json').write_text(json.dumps({**config, **values}))


@pytest.fixture(scope='module')
def train_dir(tmp_path_factory, dataset_dir):
  """A run of four checkpoints, which have what a run's have beside the weights."""
  folder = tmp_path_factory.mktemp('run')
  model = nets_factory.create_model(tiny.NAME, 3)
  for step in range(4):
    rng = np.random.default_rng(step)
    values = {
      name: rng.normal(scale=0.3, size=variable.shape).astype(np.float32) ** (1 + ('var' in name))
      for name, variable in model.variables_by_name.items()
    }
    slots = {f'{name}/Momentum': np.full_like(value, 9.0) for name, value in values.items()}
    tensors = {**values, **slots, 'global_step': tf.constant(step, tf.int64)}
    checkpoints.save(folder / f'model.ckpt-{step}', tensors)
  write_config(folder, dataset_dir)
  write_checkpoint_state(str(folder), [str(folder / f'model.ckpt-{step}') for step in range(4)])
  return folder


def stored(prefix, suffix=''):
  """The net's own tensors in a checkpoint."""
  reader = tf.train.load_checkpoint(str(prefix))
  names = nets_factory.create_model(tiny.NAME, 3).variables_by_name
  return {name: reader.get_tensor(name + suffix) for name in names}


def mean_of(*tensors):
  return {
    name: np.mean([each[name].astype(np.float64) for each in tensors], axis=0)
    for name in tensors[0]
  }


def assert_close(actual, expected):
  assert actual.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(actual[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def average(paths, output, **values):
  return averaging.average(resolve({'output': str(output), **values}), [*map(str, paths)])


def test_the_last_checkpoints_of_a_run(train_dir, tmp_path):
  output = tmp_path / 'new' / 'mean.ckpt'
  code, errors, text = command('average', str(train_dir), '--last=3', f'--output={output}')
  assert (code, errors) == (0, [])
  newest_first = [train_dir / f'model.ckpt-{step}' for step in (3, 2, 1)]
  assert text.splitlines() == [
    *(f'{prefix}: plain weights' for prefix in newest_first),
    'the average of 3 of 3 checkpoints; batch norm statistics averaged too',
    f'written to {output}',
  ]
  assert_close(stored(output), mean_of(*map(stored, newest_first)))
  written = tf.train.load_checkpoint(str(output)).get_variable_to_shape_map()
  assert written.keys() == nets_factory.create_model(tiny.NAME, 3).variables_by_name.keys()
  config = json.loads((tmp_path / 'new' / 'mean.ckpt.json').read_text())
  assert config['run']['labels'] == LABELS
  went_in = config['run']['averaged']['checkpoints']
  assert [each['checkpoint'] for each in went_in] == [*map(str, newest_first)]


def test_evaluation_reads_an_average(train_dir, tmp_path):
  average([train_dir], tmp_path / 'mean.ckpt')
  request = eval_config.resolve({'checkpoint_path': str(tmp_path / 'mean.ckpt')})
  model = nets_factory.create_model(tiny.NAME, 3)
  model.restore(tmp_path / 'mean.ckpt')
  predictions = Evaluation(request).evaluate([str(tmp_path / 'mean.ckpt')]).predictions
  assert len(predictions.record_indices) == 23
  assert request.ensemble.members[0].trained_on.labels == dict(enumerate(LABELS))


def test_moving_averages_are_what_is_averaged(train_dir, tmp_path):
  for number in range(2):
    values = stored(train_dir / f'model.ckpt-{number}')
    moving = {name + AVERAGE: value + 1.0 for name, value in values.items()}
    checkpoints.save(tmp_path / f'model.ckpt-{number}', {**values, **moving})
  write_config(tmp_path, 'none')
  right = [tmp_path / f'model.ckpt-{number}' for number in range(2)]
  average([tmp_path], tmp_path / 'moving.ckpt')
  assert_close(stored(tmp_path / 'moving.ckpt'), mean_of(*(stored(p, AVERAGE) for p in right)))
  average([tmp_path], tmp_path / 'plain.ckpt', use_ema='false')
  assert_close(stored(tmp_path / 'plain.ckpt'), mean_of(*map(stored, right)))


def test_greedy_keeps_what_makes_it_better(train_dir, dataset_dir, tmp_path):
  """The rule of arXiv:2203.05482, with the evaluations made one by one."""
  paths = [train_dir / f'model.ckpt-{step}' for step in range(4)]
  evaluation = Evaluation(eval_config.resolve({'checkpoint_path': str(paths[0])}))

  def top_1(*prefixes):
    checkpoints.save(tmp_path / 'model.ckpt', mean_of_float32(*map(stored, prefixes)))
    return evaluation.evaluate([str(tmp_path / 'model.ckpt')]).metrics['top_1']

  alone = {path: top_1(path) for path in paths}
  assert len(set(alone.values())) > 1
  first, *others = sorted(paths, key=alone.__getitem__, reverse=True)
  kept, best = [first], alone[first]
  for path in others:
    result = top_1(*kept, path)
    if result > best:
      kept, best = [*kept, path], result
  lines = average(paths, tmp_path / 'soup.ckpt', method='greedy')
  assert [line.split(':')[0] for line in lines if line.endswith(': kept')] == [*map(str, kept)]
  assert len([line for line in lines if line.endswith(': left out')]) == 4 - len(kept)
  assert_close(stored(tmp_path / 'soup.ckpt'), mean_of(*map(stored, kept)))
  assert evaluation.evaluate([str(tmp_path / 'soup.ckpt')]).metrics['top_1'] == best


def test_greedy_measures_on_any_source(train_dir, tmp_path):
  """A folder of class folders: a share of it is held out."""
  for number in range(12):
    path = tmp_path / 'photos' / LABELS[number % 3] / f'{number}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(records.image(number % 3, number))
  options = {'dataset_dir': str(tmp_path / 'photos'), 'cache_dir': str(tmp_path / 'cache')}
  paths = [train_dir / f'model.ckpt-{step}' for step in range(2)]
  lines = average(paths, tmp_path / 'soup.ckpt', method='greedy', **options)
  assert lines[-1] == f'written to {tmp_path / "soup.ckpt"}'
  assert [*(tmp_path / 'cache').glob('photos-*/dataset.json')]


def mean_of_float32(*tensors):
  return {name: value.astype(np.float32) for name, value in mean_of(*tensors).items()}


def test_the_greedy_rule():
  """By numbers whose measure is how near they are to 10."""
  values = [4.0, 12.0, 9.0, 30.0, 9.5]

  def load(i):
    return {'a': np.float32([values[i]])}

  mean, tried = averaging.greedy(load, 5, lambda v: -abs(float(v['a'][0]) - 10.0))
  # 9.5 is the best; with 9: 9.25, worse; with 12: 10.75, worse; with 4 and 30: worse.
  assert [(each.number, each.is_kept) for each in tried] == [
    (4, True), (2, False), (1, False), (0, False), (3, False),
  ]  # fmt: skip
  assert mean['a'] == 9.5
  values[1] = 10.6
  mean, tried = averaging.greedy(load, 5, lambda v: -abs(float(v['a'][0]) - 10.0))
  assert [each.number for each in tried if each.is_kept] == [4, 1]
  np.testing.assert_allclose(mean['a'], 10.05)


def test_statistics_estimated_anew(train_dir, dataset_dir, tmp_path):
  average([train_dir], tmp_path / 'mean.ckpt')
  average([train_dir], tmp_path / 'anew.ckpt', batch_norm_batches=2, batch_size=8)
  arg_scope = nets_factory.get_net(tiny.NAME).arg_scope(batch_norm_decay=0.0)
  model = nets_factory.create_model(tiny.NAME, 3, arg_scope=arg_scope)
  model.restore(tmp_path / 'mean.ckpt')
  dataset = dataset_factory.get_dataset('image_folder', 'train', dataset_dir)
  preprocessing = preprocessing_factory.get('inception')
  batch_norm_statistics.estimate(model, dataset, preprocessing, 2, batch_size=8)
  expected = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  for name, value in stored(tmp_path / 'anew.ckpt').items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
  moved = [name for name in expected if name.endswith('moving_mean')]
  before = stored(tmp_path / 'mean.ckpt')
  assert all(np.abs(before[name] - expected[name]).max() > 0.01 for name in moved)
  config = json.loads((tmp_path / 'anew.ckpt.json').read_text())
  assert config['run']['averaged']['batch_norm_batches'] == 2


@pytest.mark.parametrize(
  ('values', 'classes', 'message'),
  [
    ({}, 4, r'number of outputs 4, not 3$'),
    ({'preprocessing_name': 'vgg'}, 3, r'preprocessing vgg, not inception$'),
    (
      {'run': {'image_size': 32, 'labels': ['color 0', 'color 2', 'color 1']}},
      3,
      r"of its classes label 1 was 'color 1' and is 'color 2'",
    ),
    ({'activation_scale': 0.5}, 3, r"arguments \{'activation_scale': 0.5\}, not \{\}$"),
    ({'model_name': 'inception_v3'}, 3, r'net inception_v3, not inception_tiny$'),
  ],
)
def test_checkpoints_of_another_kind(train_dir, tmp_path, values, classes, message):
  if 'model_name' in values:
    biases = {'InceptionV3/Logits/Conv2d_1c_1x1/biases': tf.zeros(classes)}
    checkpoints.save(tmp_path / 'model.ckpt-7', biases)
  else:
    nets_factory.create_model(tiny.NAME, classes).save(tmp_path / 'model.ckpt-7')
  write_config(tmp_path, 'none', **values)
  with pytest.raises(ValueError, match=message) as error:
    average([train_dir, tmp_path], tmp_path / 'mean.ckpt')
  assert str(error.value).startswith(
    f'{tmp_path}/model.ckpt-7 cannot be averaged with {train_dir}/'
  )
  assert not os.path.exists(tmp_path / 'mean.ckpt.index')


def test_what_is_refused(train_dir, tmp_path):
  path = train_dir / 'model.ckpt-1'
  with pytest.raises(ValueError, match='model.ckpt-1 is one checkpoint: expected two or more'):
    average([path, path], tmp_path / 'mean.ckpt')
  with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
    average([train_dir, tmp_path / 'nowhere'], tmp_path / 'mean.ckpt')
  (tmp_path / 'mean.ckpt.index').write_text('there')
  with pytest.raises(ValueError, match='mean.ckpt.index exists: --overwrite replaces it'):
    average([train_dir], tmp_path / 'mean.ckpt')
  for values, message in (
    ({'max_images': 3}, '--max_images is for --method=greedy'),
    ({'dataset_dir': 'data'}, '--dataset_dir is for --method=greedy or --batch_norm_batches'),
  ):
    with pytest.raises(ValueError, match=message):
      resolve({'output': 'mean.ckpt', **values})


def test_an_average_without_a_run_says_what_it_needs(train_dir, tmp_path):
  """Weights of no run are taken for the net's own; what comes of them must say the same."""
  for number in range(2):
    values = stored(train_dir / f'model.ckpt-{number}')
    checkpoints.save(tmp_path / f'{number}.ckpt', values)
  average([tmp_path / '0.ckpt', tmp_path / '1.ckpt'], tmp_path / 'mean.ckpt', model_name=tiny.NAME)
  config = json.loads((tmp_path / 'mean.ckpt.json').read_text())
  net = nets_factory.get_net(tiny.NAME)
  assert config['model_name'] == tiny.NAME
  assert config['preprocessing_name'] == net.preprocessing
  assert config['run']['image_size'] == net.default_image_size
  assert flags.flatten(flags.build(AverageConfig, {'output': 'a'}))['last'] == 5
