"""A net with another preprocessing is trained, evaluated, classified with and exported the same.

VGG's means, 0..255, and its view, computed by hand with NumPy: everything that must know of them
knows of them by the net alone.
"""

import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import nets_factory

from slim_inception.classify import sources
from slim_inception.classify.classifier import Classifier
from slim_inception.classify.config import resolve as resolve_classify
from slim_inception.evaluate import during_training, run
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export import comparison
from slim_inception.export.config import resolve as resolve_export
from slim_inception.export.export import export
from slim_inception.train import trainer
from slim_inception.train.config import resolve as resolve_train
from tests import records, tiny
from tests.datasets.odd_images import encode
from tests.evaluate.test_views import centered, resized
from tests.preprocessing.test_inception_preprocessing import tf1_bilinear

pytestmark = pytest.mark.integration

NAME, COUNT, SIZE, SIDE = 'tiny_vgg', 9, 32, 37  # 256 of 224 are 37 of 32
MEANS = np.float32([123.68, 116.78, 103.94])


@pytest.fixture(scope='module', autouse=True)
def net():
  own = dataclasses.replace(nets_factory.get_net(tiny.NAME), name=NAME, preprocessing='vgg')
  yield nets_factory.register(own)
  del nets_factory.NETS[NAME]


def png(label: int, number: int) -> bytes:
  """Noise, without JPEG's freedom of decoding; the red of some images is that of others' blue."""
  pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
  return encode('PNG', pixels=pixels // (label + 1))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = records.write_set(tmp_path_factory.mktemp('data'), image_of=png)
  return records.write_set(directory, count=COUNT, split='validation', image_of=png)


@pytest.fixture(scope='module')
def train_dir(data, tmp_path_factory):
  """A run that evaluates itself; its net tells images apart."""
  directory = tmp_path_factory.mktemp('run')
  values = {
    'train_dir': directory, 'dataset_name': 'image_folder', 'dataset_dir': data, 'recipe': 'slim',
    'model_name': NAME, 'batch_size': 8, 'max_number_of_steps': 3, 'eval_interval_epochs': 1.0,
    'learning_rate': 1e-4, 'batch_norm_decay': 0.5, 'log_every_n_steps': 1,
  }  # fmt: skip
  config = resolve_train(values)
  trainer.train(config, during_training.evaluator_of(config))
  assert json.loads((directory / 'config.json').read_text())['preprocessing_name'] is None
  return directory


def pixels_of(i: int) -> np.ndarray:
  with Image.open(io.BytesIO(png(i % 3, i))) as image:
    return np.asarray(image)


def slims_view(i: int) -> np.ndarray:
  image = tf1_bilinear(pixels_of(i), SIDE, round(48 * SIDE / 40))
  top, left = ((length - SIZE) // 2 for length in image.shape[:2])
  return image[top : top + SIZE, left : left + SIZE].astype(np.float32) - MEANS


def pillows_view(i: int) -> np.ndarray:
  photo = resized(Image.fromarray(pixels_of(i)), SIDE, 'bilinear')
  return np.asarray(centered(photo, SIZE, SIZE)).astype(np.float32) - MEANS


@pytest.fixture(scope='module')
def by_hand(train_dir):
  """View -> {file name: probabilities}, of the net alone."""
  model = nets_factory.create_model(NAME, 3, create_aux_logits=False)
  model.restore(tf.train.latest_checkpoint(str(train_dir)))

  def probabilities(view) -> dict[str, np.ndarray]:
    images = np.stack([view(i) for i in range(COUNT)])
    rows = tf.nn.softmax(model(images)[0]).numpy()
    assert np.ptp(rows, axis=0).max() > 0.05  # the net tells the images apart
    return {f'{i}.jpg': row for i, row in enumerate(rows)}

  return probabilities


def predictions(train_dir, **flags):
  request = resolve_eval({'checkpoint_path': str(train_dir), 'batch_size': 4, **flags})
  outcome = Evaluation(request).evaluate([tf.train.latest_checkpoint(str(train_dir))])
  return {
    name: probabilities[np.argsort(top)]
    for name, top, probabilities in zip(
      outcome.predictions.filenames,
      outcome.predictions.top,
      outcome.predictions.probabilities,
      strict=True,
    )
  }


def assert_same(found, expected, tolerance=1e-4):
  assert found.keys() == expected.keys()
  for name, row in expected.items():
    np.testing.assert_allclose(found[name], row, atol=tolerance, err_msg=name)


def test_evaluation(train_dir, by_hand, tmp_path):
  assert_same(predictions(train_dir), by_hand(slims_view))
  assert_same(predictions(train_dir, resize='aspect'), by_hand(pillows_view))
  metrics = run.evaluate(
    resolve_eval({'checkpoint_path': str(train_dir), 'eval_dir': str(tmp_path)})
  )
  assert metrics['preprocessing'] == 'vgg'
  lines = (train_dir / 'metrics.jsonl').read_text().splitlines()
  itself = [json.loads(line) for line in lines if 'eval_top_1' in line]
  assert itself[-1]['eval_top_1'] == metrics['top_1']


def test_a_wrong_pairing_gives_others(train_dir, by_hand):
  """What would be seen if any of them took [-1, 1]."""
  wrong, right = predictions(train_dir, preprocessing_name='inception'), by_hand(slims_view)
  assert max(np.abs(wrong[name] - right[name]).max() for name in right) > 0.05


def test_classification_is_the_evaluation(train_dir, tmp_path):
  paths = [tmp_path / f'{i}.jpg' for i in range(COUNT)]
  for i, path in enumerate(paths):
    path.write_bytes(png(i % 3, i))
  request = resolve_classify({'checkpoint_path': str(train_dir), 'batch_size': 4})
  results = Classifier(request).classify(sources.expand(map(str, paths), io.BytesIO()))
  classified = {result.name.rsplit('/')[-1]: np.float32(result.probabilities) for result in results}
  assert_same(classified, predictions(train_dir), tolerance=0)


@pytest.fixture(scope='module')
def metadata(train_dir, tmp_path_factory):
  """Exports in a format; returns the folder and what its export.json says."""

  def make(name: str, **flags):
    folder = tmp_path_factory.mktemp('exports') / name
    export(
      resolve_export(
        {'checkpoint_path': str(train_dir), 'output': str(folder), 'format': name, **flags}
      )
    )
    described = json.loads((folder / 'export.json').read_text())
    assert described['preprocessing_name'] == 'vgg'
    np.testing.assert_allclose(described['mean'], MEANS)
    assert described['preprocessing'] == (
      'RGB; the shorter side resized to 37, bilinear as TF1 (no half pixels, not antialiased); '
      'the central 32 x 32; '
      'pixel - (123.68, 116.78, 103.94)'
    )
    return folder, described

  return make


def test_saved_model(metadata, by_hand):
  folder, described = metadata('saved_model')
  text = described['signatures']['images']['images']
  assert text == '[N, 32, 32, 3] float32, pixel - (123.68, 116.78, 103.94)'
  signatures = tf.saved_model.load(str(folder)).signatures
  expected = by_hand(slims_view)
  files = tf.constant([png(i % 3, i) for i in range(COUNT)])
  views = tf.constant(np.stack([slims_view(i) for i in range(COUNT)]))
  for outputs in (signatures['serving_default'](files), signatures['images'](views)):
    for i, (names, row) in enumerate(
      zip(outputs['names'].numpy(), outputs['probabilities'].numpy(), strict=True)
    ):
      labels = [int(name.decode().removeprefix('color ')) for name in names]
      np.testing.assert_allclose(row, expected[f'{i}.jpg'][labels], atol=1e-4)


def test_tflite_of_whole_numbers_takes_all_pixels(metadata, monkeypatch):
  pytest.importorskip('ai_edge_litert', reason='extra tflite')
  # After three steps the best class of noise is a matter of rounding.
  monkeypatch.setitem(comparison.ACCEPTED, 'int8', comparison.Accepted(0.3, 0.0, 0.0))
  _, described = metadata('tflite', quantize='int8')
  scale, zero_point = described['input']['scale'], described['input']['zero_point']
  assert -zero_point * scale == pytest.approx(-MEANS.max(), abs=scale)  # black
  assert (255 - zero_point) * scale == pytest.approx(255 - MEANS.min(), abs=scale)  # white
