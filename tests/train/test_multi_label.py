"""Images with any number of labels, from a list to average precision."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from slim_inception.datasets import conversion, formats

from slim_inception.evaluate import run
from slim_inception.evaluate.config import resolve as resolve_evaluation
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.train import config as config_lib
from slim_inception.train import trainer
from tests import tiny

pytestmark = pytest.mark.integration

COLORS = 'blue', 'green', 'red'  # in the order of their labels


def write_source(root):
  """A list of images, each with the colours that it has; every eighth has none."""
  root.mkdir()
  rows = [['path', 'labels', 'split']]
  for number in range(64):
    has = [color for i, color in enumerate(COLORS) if number >> i & 1]
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 60, (40, 48, 3))
    pixels += np.array([190 * (color in has) for color in reversed(COLORS)])
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, 'JPEG')
    (root / f'{number}.jpg').write_bytes(file.getvalue())
    rows.append([f'{number}.jpg', '|'.join(has), 'train' if number < 40 else 'val'])
  with open(root / 'images.csv', 'w', newline='') as table:
    csv.writer(table).writerows(rows)
  return str(root / 'images.csv')


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  folder = tmp_path_factory.mktemp('several')
  options = conversion.Options(label_separator='|')
  info = formats.convert(write_source(folder / 'source'), folder / 'records', options).info
  assert info.multi_label and info.labels == COLORS
  assert {name: split.num_images for name, split in info.splits.items()} == {
    'train': 40,
    'validation': 24,
  }
  return folder / 'records'


def configuration(records, train_dir, **values):
  flags = {
    'train_dir': str(train_dir),
    'dataset_name': 'manifest',
    'dataset_dir': str(records),
    'model_name': tiny.NAME,
    'train_image_size': 32,
    'batch_size': 8,
    'max_number_of_steps': 40,
    'loss': 'sigmoid',
    'optimizer': 'momentum',
    'learning_rate': 0.1,
    'batch_norm_decay': 0.8,
    'distort_color': False,
    'min_crop_area': 0.5,
  }
  return config_lib.resolve(flags | values)


def test_from_a_list_to_average_precision(records, tmp_path):
  scikit_learn = pytest.importorskip('sklearn.metrics', reason='extra demo')
  trainer.train(configuration(records, tmp_path / 'run'))
  request = resolve_evaluation({'checkpoint_path': str(tmp_path / 'run'), 'report': True})
  metrics = run.evaluate(request)

  predictions = Evaluation(request).evaluate([metrics['checkpoint']]).predictions
  assert metrics['num_images'] == 21 and metrics['unlabelled_images'] == 3
  assert len(predictions.record_indices) == 21 and metrics['skipped_images'] == 0
  with open(tmp_path / 'run' / 'eval' / 'per_class.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [(row['name'], row['positives']) for row in rows] == [(color, '12') for color in COLORS]

  # By another way to the scores: all images of the split, one by one, as scikit-learn has it.
  evaluation = Evaluation(request)
  evaluation._ensemble.load([metrics['checkpoint']])
  scores, truth = [], []
  for prediction in evaluation._ensemble.predict(evaluation._records({})):
    number = int(prediction.tags['filename'].decode().rpartition('/')[2].partition('.')[0])
    scores.append(prediction.probabilities)
    truth.append([number >> i & 1 for i in range(3)])
  expected = scikit_learn.average_precision_score(truth, np.array(scores, np.float32), average=None)
  actual = [float(row['average_precision']) for row in rows]
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  assert metrics['mean_average_precision'] == pytest.approx(np.mean(expected), abs=1e-6)
  assert metrics['mean_average_precision'] > 0.8
  assert np.sum(scores, -1).std() > 0.1  # sigmoids, which do not add up to 1
  stored = json.loads((tmp_path / 'run' / 'eval' / 'metrics.json').read_text())
  assert stored['mean_average_precision'] == metrics['mean_average_precision']
  page = (tmp_path / 'run' / 'eval' / 'report.html').read_text()
  assert 'Mean average precision' in page and 'With this label' in page


def test_a_loss_for_one_label_is_refused_at_once(records, tmp_path):
  message = 'have any number of labels .* need --loss=sigmoid, not softmax'
  with pytest.raises(ValueError, match=message):
    trainer.train(configuration(records, tmp_path / 'run', loss='softmax'))
  tiny.random_net(3, seed=0).save(str(tmp_path / 'model.ckpt'))
  flags = {'model_name': tiny.NAME, 'checkpoint_path': str(tmp_path / 'model.ckpt')}
  flags |= {'dataset_name': 'manifest', 'dataset_dir': str(records)}
  with pytest.raises(ValueError, match=message):
    Evaluation(resolve_evaluation(flags))
