"""The results, for people and for programs: a text, CSV and JSON, written as it comes."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from slim_inception import files
from slim_inception.classify.sources import STANDARD_INPUT
from slim_inception.evaluate.results import SEPARATOR

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
    in_set: the classes of the set that has the right one with the coverage of the calibration; None
      without.
    abstains: whether the net is too unsure for the error rate of the calibration; None without.
  """

  file: str
  predictions: tuple[Prediction, ...] = ()
  explained: str = ''
  error: str = ''
  in_set: tuple[Prediction, ...] | None = None
  abstains: bool | None = None


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
  if row.in_set is not None:
    print(f'  set: {files.printable(", ".join(each.name for each in row.in_set)) or "empty"}')
  if row.abstains:
    print('  abstains: too unsure')
  if row.explained:
    print(f'  heat map: {files.printable(row.explained)}')


def columns(has_sets: bool, abstains: bool) -> tuple[str, ...]:
  """Those of a table that a calibration adds, which keep the others where they are."""
  sets = ('set_labels', 'set_names') if has_sets else ()
  return (*sets, 'abstains') if abstains else sets


@contextlib.contextmanager
def csv_writer(path: str, top_k: int, columns: tuple[str, ...] = ()) -> Iterator[Writer]:
  """Writes a table (RFC 4180, UTF-8): file, label_1, name_1, probability_1, ..., explained, error.

  Args:
    path: of the file, which is there when all is written; '-' is standard output.
    top_k: classes of an image.
    columns: further ones, see `columns`.
  """
  ranks = range(1, top_k + 1)
  best = [f'{what}_{rank}' for rank in ranks for what in Prediction._fields]
  with _open(path) as file:
    table = csv.writer(file)
    table.writerow(['file', *best, 'explained', 'error', *columns])

    def write(row: Row) -> None:
      cells = [
        cell
        for label, name, probability in row.predictions
        for cell in (label, name, f'{probability:.{_DIGITS}g}')
      ]
      cells += [''] * (len(best) - len(cells))
      in_set = row.in_set or ()
      more = {
        'set_labels': SEPARATOR.join(str(each.label) for each in in_set),
        'set_names': SEPARATOR.join(each.name for each in in_set),
        'abstains': '' if row.abstains is None else ('no', 'yes')[row.abstains],
      }
      cells += [row.explained, row.error, *(more[name] for name in columns)]
      table.writerow(files.csv_row([row.file, *cells]))

    yield write


@contextlib.contextmanager
def json_writer(path: str) -> Iterator[Writer]:
  """Writes a JSON list, in each line the object of an image.

  {"file": ..., "predictions": [{"label": ..., "name": ..., "probability": ...}, ...]}, with
  "explained" where a heat map was drawn, "set" (labels and names) and "abstains" where there is a
  calibration with them; or {"file": ..., "error": ...}.

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
      if row.in_set is not None:
        content['set'] = [{'label': each.label, 'name': each.name} for each in row.in_set]
      if row.abstains is not None:
        content['abstains'] = row.abstains
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
