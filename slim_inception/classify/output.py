"""The results, for people and for programs: a text, CSV and JSON, written as it comes."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from slim_inception import files
from slim_inception.classify.sources import STANDARD_INPUT

_DIGITS = 6  # of a probability, where programs read it


class Prediction(NamedTuple):
  """A class that an image may show."""

  label: int
  name: str
  probability: float


class Row(NamedTuple):
  """What became of an image.

  Attributes:
    file: as the user knows it.
    predictions: most probable first; () where there is an error.
    explained: path of the heat map; '' without.
    error: why there are no predictions; ''.
  """

  file: str
  predictions: tuple[Prediction, ...] = ()
  explained: str = ''
  error: str = ''


Writer = Callable[[Row], None]


def lines(predictions: tuple[Prediction, ...]) -> list[str]:
  """A line for each class: probability, label, name."""
  return [
    f'{each.probability:.4f}  {each.label:4d}'
    + ('' if each.name == str(each.label) else f'  {files.printable(each.name)}')
    for each in predictions
  ]


def write_text(row: Row) -> None:
  """Prints an image with its classes below."""
  if not row.error:
    print(files.printable(row.file), *(f'  {line}' for line in lines(row.predictions)), sep='\n')
  if row.explained:
    print(f'  heat map: {files.printable(row.explained)}')


@contextlib.contextmanager
def csv_writer(path: str, top_k: int) -> Iterator[Writer]:
  """Writes a table (RFC 4180, UTF-8): file, label_1, name_1, probability_1, ..., explained, error.

  Args:
    path: of the file, which is there when all is written; '-' is standard output.
    top_k: classes of an image.
  """
  ranks = range(1, top_k + 1)
  best = [f'{what}_{rank}' for rank in ranks for what in Prediction._fields]
  with _open(path) as file:
    table = csv.writer(file)
    table.writerow(['file', *best, 'explained', 'error'])

    def write(row: Row) -> None:
      cells = [
        cell
        for label, name, probability in row.predictions
        for cell in (label, name, f'{probability:.{_DIGITS}g}')
      ]
      cells += [''] * (len(best) - len(cells))
      table.writerow(files.csv_row([row.file, *cells, row.explained, row.error]))

    yield write


@contextlib.contextmanager
def json_writer(path: str) -> Iterator[Writer]:
  """Writes a JSON list, in each line the object of an image.

  {"file": ..., "predictions": [{"label": ..., "name": ..., "probability": ...}, ...]}, with
  "explained" where a heat map was drawn; or {"file": ..., "error": ...}.

  Args:
    path: of the file, which is there when all is written; '-' is standard output.
  """
  with _open(path) as file:
    separator = '['

    def write(row: Row) -> None:
      nonlocal separator
      predictions = [
        {**each._asdict(), 'probability': float(f'{each.probability:.{_DIGITS}g}')}
        for each in row.predictions
      ]
      content: dict[str, object] = {'file': row.file}
      content |= {'error': row.error} if row.error else {'predictions': predictions}
      if row.explained:
        content['explained'] = row.explained
      file.write(f'{separator}\n{files.json_text(content)}')
      separator = ','

    yield write
    file.write('\n]\n' if separator == ',' else '[]\n')


def _open(path: str) -> contextlib.AbstractContextManager[TextIO]:
  if path == STANDARD_INPUT:
    return contextlib.nullcontext(sys.stdout)
  files.make_folder_of(path)
  return files.atomic_text(path)
