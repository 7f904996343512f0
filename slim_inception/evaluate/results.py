"""What an evaluation leaves for other programs: `metrics.json` and three tables."""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slim_inception import constants, files
from slim_inception.evaluate import metrics as figures
from slim_inception.evaluate.metrics import Predictions, name_of

PREDICTIONS_FILE = 'predictions.csv'
CLASSES_FILE = 'per_class.csv'
CONFUSION_FILE = 'confusion.csv'
SEPARATOR = ' | '  # between the right labels of one image; ImageNet's names have commas in them


def write(
  eval_dir: str | os.PathLike,
  metrics: Mapping[str, object],
  predictions: Predictions,
  num_classes: int,
  names: Mapping[int, str],
  ranking: figures.Ranking | None = None,
) -> None:
  """Writes the four files, each whole or not at all; `metrics.json` is the last.

  Tables are RFC 4180 in UTF-8: commas, CRLF at the end of a line, quotes where needed. A quotient
  that has nothing below it is null there, and an empty cell here.

  Args:
    eval_dir: is made where it is missing.
    metrics: `metrics.summary` and whatever else is to be in `metrics.json`.
    predictions: of all images that count.
    num_classes: labels are 0 .. num_classes - 1.
    names: {label: name}.
    ranking: of the classes, with --loss=sigmoid: two more columns of `per_class.csv`.

  Raises:
    OSError: the disk is full or not writable.
  """
  folder = Path(eval_dir)
  folder.mkdir(parents=True, exist_ok=True)
  files.write_csv(
    folder / PREDICTIONS_FILE,
    _prediction_header(predictions.top.shape[1]),
    _prediction_rows(predictions, names),
  )
  table = figures.per_class(predictions, num_classes)._asdict()
  table |= ranking._asdict() if ranking else {}
  files.write_csv(
    folder / CLASSES_FILE,
    ('label', 'name', *table),
    (
      (label, name_of(names, label), *map(_cell, row))
      for label, row in enumerate(zip(*(column.tolist() for column in table.values()), strict=True))
    ),
  )
  confusion = figures.confusion(predictions, num_classes)
  files.write_csv(
    folder / CONFUSION_FILE,
    ('true', 'true_name', 'predicted', 'predicted_name', 'count'),
    (
      (true, name_of(names, true), predicted, name_of(names, predicted), count)
      for true, predicted, count in zip(*(column.tolist() for column in confusion), strict=True)
    ),
  )
  files.write_json(folder / constants.EVALUATION_METRICS_FILE, plain(dict(metrics)))


def read_predictions(path: str | os.PathLike) -> tuple[Predictions, dict[int, str]]:
  """Reads a table of predictions as `write` wrote it.

  Args:
    path: of the table.

  Returns:
    What is predicted of each image, file names as they stand in the table; {label: name} of the
    classes that occur.

  Raises:
    ValueError: it is no such table, or is damaged; names the file and the line.
    OSError: it cannot be read.
  """
  path = os.fspath(path)
  text = files.read_text(path)
  names: dict[int, str] = {}
  line, columns = 1, []
  try:
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    header = next(reader, [])
    most = (len(header) - len(_prediction_header(0))) // 3
    if most < 1 or tuple(header) != _prediction_header(most):
      raise ValueError('the columns are not those of the predictions of slim-inception eval')
    for row in reader:
      line = reader.line_num
      columns.append(_image(row, names, len(header)))
  except (csv.Error, ValueError) as error:
    raise ValueError(f'{path}, line {line}: {error}') from error
  if not columns:
    raise ValueError(f'{path} has no image')
  filenames, indices, labels, top, probabilities = zip(*columns, strict=True)
  width = max(map(len, labels))
  padded = [[*each, *[-1] * (width - len(each))] for each in labels]
  arrays = (
    np.array(padded, np.int32),
    np.array(top, np.int32),
    np.array(probabilities, np.float32),
  )
  if len(set(indices)) < len(indices):
    raise ValueError(f'{path} has a record twice')
  return Predictions(np.array(indices, np.int64), list(filenames), *arrays), names


_Image = tuple[str, int, list[int], list[int], list[float]]


def _image(row: list[str], names: dict[int, str], width: int) -> _Image:
  """A row of the table; adds the names of its classes to `names`."""
  if len(row) != width:
    raise ValueError(f'{len(row)} cells, expected {width}')
  filename, index, true, true_names, _, *best = row
  labels = [int(label) for label in true.split(SEPARATOR)]
  top = [int(label) for label in best[::3]]
  if min(*labels, *top) < 0:
    raise ValueError('a label is less than 0')
  names |= zip(top, best[1::3], strict=True)
  if len(labels) == 1:  # else a name with a separator in it would be two
    names[labels[0]] = true_names
  return filename, int(index), labels, top, [float(cell or 'nan') for cell in best[2::3]]


def plain(value: Any) -> Any:
  """What JSON can hold: NumPy's numbers and arrays as Python's, None for what is not finite."""
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, np.ndarray | np.generic):
    return plain(value.tolist())
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _prediction_header(most: int) -> tuple[str, ...]:
  ranks = range(1, most + 1)
  best = (f'{what}_{rank}' for rank in ranks for what in ('label', 'name', 'probability'))
  return ('filename', 'record_index', 'true', 'true_names', 'right', *best)


def _prediction_rows(predictions: Predictions, names: Mapping[int, str]) -> Iterator[list[object]]:
  columns = zip(
    predictions.filenames,
    predictions.record_indices.tolist(),
    predictions.labels.tolist(),
    predictions.right.tolist(),
    predictions.top.tolist(),
    predictions.probabilities.tolist(),
    strict=True,
  )
  for filename, record_index, padded, right, top, probabilities in columns:
    labels = [label for label in padded if label >= 0]
    row = [
      filename,
      record_index,
      SEPARATOR.join(map(str, labels)),
      SEPARATOR.join(name_of(names, label) for label in labels),
      'yes' if right else 'no',
    ]
    for label, probability in zip(top, probabilities, strict=True):
      row += [label, name_of(names, label), _cell(probability)]
    yield row


def _cell(value: float) -> object:
  """A number as a table has it: six digits, empty where it is not finite."""
  if isinstance(value, float):
    return f'{value:.6g}' if math.isfinite(value) else ''
  return value
