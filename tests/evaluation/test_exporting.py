"""Exported classifiers, read back and compared with the net."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from evaluation import exporting
from evaluation.config import resolve as resolve_eval
from evaluation.evaluator import Evaluation
from nets import nets_factory
from tests import records, tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = records.write_set(tmp_path_factory.mktemp('data'))
  return records.write_set(directory, count=11, split='validation')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp('net')
  nets_factory.create_model(tiny.NAME, 3).save(str(directory / 'model.ckpt'))
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  (directory / 'config.json').write_text(json.dumps(config))
  return str(directory / 'model.ckpt')


def flags(data, checkpoint):
  return {
    'checkpoint_path': checkpoint,
    'dataset_name': 'image_folder',
    'dataset_dir': str(data),
    'batch_size': 8,
  }


def export(data, checkpoint, output, **more):
  given = {**flags(data, checkpoint), **more, 'output': str(output)}
  return exporting.export(exporting.resolve(given))


def evaluated(data, checkpoint, **more):
  """{file name: (names, probabilities)} as the evaluation finds them."""
  found = (
    Evaluation(resolve_eval({**flags(data, checkpoint), **more})).evaluate([checkpoint]).predictions
  )
  names = [[f'color {label}' for label in row] for row in found.top.tolist()]
  rows = zip(names, found.probabilities, strict=True)
  return dict(zip(found.filenames, rows, strict=True))


@pytest.mark.parametrize('more', [{}, {'calibrate_batches': 2}], ids=['stored', 'calibrated'])
def test_says_what_the_evaluation_says(data, checkpoint, tmp_path, more):
  assert export(data, checkpoint, tmp_path / 'models' / '1', **more) < 1e-4
  classify = tf.saved_model.load(str(tmp_path / 'models' / '1')).signatures['serving_default']
  expected = evaluated(data, checkpoint, **more)
  found = classify(tf.constant([records.picture(i % 3, i) for i in range(11)]))
  for i in range(11):
    names, probabilities = expected[f'{i}.jpg']
    np.testing.assert_allclose(found['probabilities'][i], probabilities, atol=1e-4)
    assert [name.decode() for name in found['names'][i].numpy()] == names
  if more:
    stored = evaluated(data, checkpoint)
    assert not np.allclose(stored['0.jpg'][1], expected['0.jpg'][1], atol=1e-3)


def test_takes_pictures_of_any_size_and_arrays(data, checkpoint, tmp_path):
  export(data, checkpoint, tmp_path / '1')
  loaded = tf.saved_model.load(str(tmp_path / '1'))
  files = []
  for size, form in (((300, 20), 'PNG'), ((1, 1), 'JPEG'), ((33, 90), 'BMP')):
    file = io.BytesIO()
    Image.new('RGB', size, (200, 10, 10)).save(file, form)
    files.append(file.getvalue())
  found = loaded.signatures['serving_default'](tf.constant(files))
  assert found['names'].shape == (3, 3)
  np.testing.assert_allclose(tf.reduce_sum(found['probabilities'], -1), 1, rtol=1e-5)
  red = np.broadcast_to(np.array([200, 10, 10], np.float32) / 127.5 - 1, (1, 32, 32, 3))
  same = loaded.signatures['images'](tf.constant(red))
  np.testing.assert_allclose(same['probabilities'][0], found['probabilities'][1], atol=0.02)


def test_what_is_there_is_not_overwritten(data, checkpoint, tmp_path):
  (tmp_path / '1').mkdir()
  with pytest.raises(FileExistsError, match=r'--output=.*1 exists: choose another folder'):
    export(data, checkpoint, tmp_path / '1')


def test_a_net_that_reads_back_otherwise_is_not_delivered(data, checkpoint, tmp_path, monkeypatch):
  monkeypatch.setattr(exporting, '_TOLERANCE', -1.0)
  with pytest.raises(ValueError, match='does not agree with the checkpoint'):
    export(data, checkpoint, tmp_path / '1')
  assert list(tmp_path.iterdir()) == []


def test_refused(data, checkpoint):
  with pytest.raises(ValueError, match='--output must be given'):
    exporting.resolve(flags(data, checkpoint))
  two = {**flags(data, checkpoint), 'checkpoint_path': f'{checkpoint},{checkpoint}'}
  with pytest.raises(ValueError, match='--checkpoint_path must be one checkpoint'):
    exporting.resolve({**two, 'output': 'out'})
