"""The files of an evaluation, as other programs read them."""

import csv
import json
import pathlib

import numpy as np
import pytest

from slim_inception.evaluate import metrics, results
from slim_inception.evaluate.metrics import Predictions

NAMES = {0: 'crane, "big"', 1: 'naïve | 猫', 2: 'two\nlines'}
CELLS = [NAMES[0], NAMES[1], r'two\x0alines']  # see `files.csv_cell`
PREDICTIONS = Predictions(
  record_indices=np.array([0, 2, 5]),
  filenames=['a, b.jpg', '', 'bad\udcff.jpg'],
  labels=np.array([[0, -1], [1, 2], [2, -1]], np.int32),
  top=np.array([[0, 1, 2], [2, 1, 0], [0, 2, 1]], np.int32),
  probabilities=np.array([[0.5, 0.25, 0.125], [1, 0, 0], [np.nan] * 3], np.float32),
)


def read(path: pathlib.Path) -> list[list[str]]:
  content = path.read_bytes()
  assert content.count(b'\r\n') >= 4 and content.endswith(b'\r\n')
  with open(path, encoding='utf-8', newline='') as file:
    return list(csv.reader(file, strict=True))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('run') / 'eval'
  summary = metrics.summary(PREDICTIONS, 4, NAMES)
  results.write(path, summary | {'checkpoint': 'bad\udcff/model.ckpt'}, PREDICTIONS, 4, NAMES)
  return path


def test_metrics_are_valid_json(folder):
  def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')

  content = json.loads((folder / 'metrics.json').read_text('utf-8'), parse_constant=refuse)
  assert content['num_images'] == 3 and content['top_1'] == 2 / 3
  assert content['expected_calibration_error'] is None
  assert content['checkpoint'] == 'bad\udcff/model.ckpt'
  plain = results.plain({'a': (np.float32(0.5), np.nan), 1: np.array([1, 2]), 'b': np.inf})
  assert plain == {'a': [0.5, None], '1': [1, 2], 'b': None}


def test_predictions_have_a_line_each(folder):
  header, *rows = read(folder / 'predictions.csv')
  assert header[:6] == ['filename', 'record_index', 'true', 'true_names', 'right', 'label_1']
  assert header[6:8] == ['name_1', 'probability_1'] and header[-1] == 'probability_3'
  assert rows[0][:8] == ['a, b.jpg', '0', '0', CELLS[0], 'yes', '0', CELLS[0], '0.5']
  assert rows[1][:7] == ['', '2', '1 | 2', f'{CELLS[1]} | {CELLS[2]}', 'yes', '2', CELLS[2]]
  assert rows[2][0] == r'bad\udcff.jpg' and rows[2][4] == 'no' and rows[2][7] == ''
  assert len(rows) == 3 and {len(row) for row in rows} == {len(header)}


def test_classes_and_confusion(folder):
  header, *rows = read(folder / 'per_class.csv')
  assert header == ['label', 'name', 'count', 'predicted', 'right', 'precision', 'recall', 'f1']
  assert rows == [
    ['0', CELLS[0], '1', '2', '1', '0.5', '1', '0.666667'],
    ['1', CELLS[1], '0', '0', '0', '', '', ''],
    ['2', CELLS[2], '2', '1', '1', '1', '0.5', '0.666667'],
    ['3', '3', '0', '0', '0', '', '', ''],
  ]
  header, *rows = read(folder / 'confusion.csv')
  assert header == ['true', 'true_name', 'predicted', 'predicted_name', 'count']
  assert [row[::2] for row in rows] == [['0', '0', '1'], ['2', '0', '1'], ['2', '2', '1']]


def test_a_full_disk_leaves_what_was_there(small_disk):
  results.write(small_disk, {'top_1': 0.5}, PREDICTIONS, 4, NAMES)
  before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
  assert sorted(before) == ['confusion.csv', 'metrics.json', 'per_class.csv', 'predictions.csv']
  _, _, *arrays = vars(PREDICTIONS).values()
  arrays = [np.repeat(array, 30_000, axis=0) for array in arrays]
  many = Predictions(np.arange(90_000), ['a'] * 90_000, *arrays)
  with pytest.raises(OSError, match='No space left') as error:
    results.write(small_disk, {'top_1': 0.6}, many, 4, NAMES)
  assert error.value.filename == str(small_disk / 'predictions.csv')
  assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
