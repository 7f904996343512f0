"""--class_weights: files and dataset.json."""

import numpy as np
import pytest
from slim_inception.datasets import dataset_info

from slim_inception.train import losses
from slim_inception.train.config import resolve
from tests import records


def load(settings):
  return losses.load_class_weights(settings.loss, settings.data)


NAMES = ['background', 'a:b', 'crane', 'dog', 'crane']


def config(directory, **kwargs):
  return resolve(
    {
      'train_dir': 'run',
      'dataset_dir': str(directory),
      'dataset_name': 'image_folder',
      'recipe': 'slim',
      **kwargs,
    }
  )


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return records.write_set(tmp_path_factory.mktemp('records'))


def test_names_and_labels():
  text = '\ndog: 3\na:b:0.5\n2:0\n'
  assert losses.parse_class_weights(text, 'file', NAMES) == [1.0, 0.5, 0.0, 3.0, 1.0]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (
      'dog:1\ncat:2',
      "file line 2: 'cat:2' is no class:weight; classes are labels 0..4 or names: b",
    ),
    ('dog', "file line 1: 'dog' is no class:weight"),
    ('5:1', "'5:1' is no class:weight"),
    ('crane:1', 'more than one class is called crane: give its label'),
    ('dog:1\n3:2', 'line 2: 3 comes a second time'),
    ('dog:-1', "the weight '-1' must be a number of at least 0"),
    ('dog:much', "the weight 'much' must be"),
    ('dog:inf', "the weight 'inf' must be"),
  ],
)
def test_bad_lines_are_named(text, message):
  with pytest.raises(ValueError, match=message):
    losses.parse_class_weights(text, 'file', NAMES)


def test_of_a_run(directory, tmp_path):
  assert load(config(directory)) is None
  path = tmp_path / 'weights.txt'
  path.write_text('color 1:2\n2:3\n')
  assert load(config(directory, class_weights=str(path))) == [1.0, 2.0, 3.0]
  with_offset = config(directory, class_weights=str(path), labels_offset=1)
  assert load(with_offset) == [2.0, 3.0]
  with pytest.raises(FileNotFoundError):
    load(config(directory, class_weights=str(tmp_path / 'nowhere')))


def test_balanced(directory, tmp_path):
  balanced = config(directory, class_weights='balanced')
  with pytest.raises(ValueError, match='--class_weights=balanced counts labels by dataset.json'):
    load(balanced)
  counts = (0, 10, 30)
  info = dataset_info.DatasetInfo(
    'image_folder', {'train': dataset_info.Split(40, 0, counts, ())}, 3, ('none', 'a', 'b'), 1
  )
  dataset_info.write_info(tmp_path, info)
  weights = load(config(tmp_path, class_weights='balanced'))
  assert weights == [1.0, 2.0, pytest.approx(2 / 3)]
  assert np.dot(weights, counts) == pytest.approx(sum(counts))  # the mean over images is 1
  offset = config(tmp_path, class_weights='balanced', labels_offset=1)
  assert load(offset) == weights[1:]
  other = config(tmp_path, class_weights='balanced', dataset_split_name='test')
  with pytest.raises(ValueError, match='has no split test; it has train'):
    load(other)
