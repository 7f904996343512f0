"""Grey images from records to the exported net: --input_channels=1."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import checkpoints, nets_factory

from slim_inception.evaluate import run
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export import config as export_config
from slim_inception.export import export
from slim_inception.train import trainer
from tests import records, tiny
from tests.train import processes

pytestmark = pytest.mark.integration

FIRST = 'InceptionTiny/Conv2d_1a_3x3/weights'


def grey_image(label: int, number: int) -> bytes:
  """Stripes whose width tells the label; JPEG and PNG in turn."""
  rng = np.random.default_rng(number)
  columns = np.arange(48) // (label * 3 + 1) % 2 * 180
  file = io.BytesIO()
  pixels = (columns + rng.integers(0, 60, (40, 48))).astype(np.uint8)
  Image.fromarray(pixels).save(file, 'PNG' if number % 2 else 'JPEG')
  return file.getvalue()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = records.write_set(tmp_path_factory.mktemp('grey'), image_of=grey_image)
  return records.write_set(directory, count=11, split='validation', image_of=grey_image)


@pytest.fixture(scope='module')
def three(tmp_path_factory):
  """A checkpoint of a net of three channels, with a config.json of before the flag."""
  directory = tmp_path_factory.mktemp('three')
  nets_factory.create_model(tiny.NAME, 3).save(str(directory / 'model.ckpt'))
  said = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  (directory / 'config.json').write_text(json.dumps(said))
  return str(directory / 'model.ckpt')


def train(data, train_dir, **kwargs):
  defaults = {'recipe': 'slim', 'batch_size': 8, 'max_number_of_steps': 1, 'input_channels': 1}
  trainer.train(processes.config(train_dir, data, **{**defaults, **kwargs}))


def flags(data, checkpoint, **kwargs):
  where = {'dataset_name': 'image_folder', 'dataset_dir': str(data)}
  return {'checkpoint_path': str(checkpoint), **where, 'batch_size': 8, **kwargs}


@pytest.fixture(scope='module')
def finetuned(data, three, tmp_path_factory):
  """A step of no length, so that the weights are those that it started from."""
  directory = tmp_path_factory.mktemp('one')
  train(data, directory, checkpoint_path=three, learning_rate=0.0, end_learning_rate=0.0)
  return directory


def test_a_run_starts_from_three_channels(finetuned, three):
  assert json.loads((finetuned / 'config.json').read_text())['input_channels'] == 1
  expected = checkpoints.read(three, [FIRST])[FIRST].numpy().sum(2, keepdims=True)
  np.testing.assert_allclose(checkpoints.read(finetuned, [FIRST])[FIRST], expected, atol=1e-6)


def test_the_log_says_what_is_done(data, three, tmp_path, caplog):
  caplog.set_level('INFO', 'absl')
  train(data, tmp_path, checkpoint_path=three)
  with pytest.raises(ValueError, match='holds a run with input_channels 1, not 3'):
    train(data, tmp_path, input_channels=3)
  assert f'{FIRST}: the sum over the 3 input channels' in caplog.text
  assert 'Images are grey (--input_channels=1): colours are changed in brightness alone' in (
    caplog.text
  )


@pytest.mark.parametrize(
  'crops', ['1', *(pytest.param(crops, marks=pytest.mark.slow) for crops in ('12', 'dense'))]
)
def test_evaluation_sees_what_three_equal_channels_show(data, finetuned, three, crops, tmp_path):
  """Moving averages went on for a step, so both get those of the same images."""
  kwargs = {'crops': crops, 'eval_dir': str(tmp_path), 'batch_norm_batches': 2}
  one, other = (
    Evaluation(resolve_eval(flags(data, checkpoint, **kwargs))).evaluate([prefix]).predictions
    for checkpoint, prefix in ((finetuned, str(finetuned / 'model.ckpt-1')), (three, three))
  )
  np.testing.assert_array_equal(one.true, other.true)
  np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


def test_an_ensemble_of_both(data, finetuned, three, tmp_path):
  both = flags(data, f'{finetuned},{three}', eval_dir=str(tmp_path))
  found = run.evaluate(resolve_eval(both))
  assert [member['input_channels'] for member in found['members']] == [1, 3]


def test_exported_net_takes_grey(data, finetuned, tmp_path):
  output = str(tmp_path / '1')
  wanted = export_config.resolve({**flags(data, finetuned), 'output': output})
  (exported,) = export.export(wanted).exports
  assert exported.comparison.difference < 1e-4
  signatures = tf.saved_model.load(output).signatures
  assert signatures['images'].structured_input_signature[1]['images'].shape == (None, 32, 32, 1)
  files = tf.constant([grey_image(0, 0), records.image(1, 1)])  # colours become grey
  assert signatures['serving_default'](files)['names'].shape == (2, 3)
