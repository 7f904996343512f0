"""Reading and writing JSON, JSON lines, CSV and tables of text; files are replaced as a whole.

Import-light: no TensorFlow.
"""

import contextlib
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypedDict

from slim_inception.datasets.files import atomic_path as atomic_path
from slim_inception.datasets.files import is_disk_full as is_disk_full
from slim_inception.datasets.files import json_text as json_text
from slim_inception.datasets.files import naming_full_disk as naming_full_disk
from slim_inception.datasets.files import printable as printable
from slim_inception.datasets.files import read_json as read_json
from slim_inception.datasets.files import readable as readable
from slim_inception.datasets.files import some as some
from slim_inception.datasets.files import sweep as sweep
from slim_inception.datasets.files import system_error as system_error
from slim_inception.datasets.files import temporary_path as temporary_path
from slim_inception.datasets.files import write_json as write_json
from slim_inception.datasets.folder_lock import FolderLock as FolderLock
from slim_inception.datasets.folder_lock import locked_folder as locked_folder
from slim_inception.datasets.typed import typed


@contextlib.contextmanager
def atomic_text(path: str | os.PathLike) -> Iterator[TextIO]:
  """Yields a text file (UTF-8) that is there under its name when all is written; see `atomic_path`.

  Bytes of names that are no UTF-8 are written as \\udcff; ends of lines stay as they are written.
  """
  with (
    atomic_path(path) as temporary,
    open(temporary, 'w', encoding='utf-8', errors='backslashreplace', newline='') as file,
  ):
    yield file


def append_text(path: str | os.PathLike, text: str, header: str = '') -> None:
  """Adds text after the last whole line of a file; a new file begins with `header`."""
  path = Path(path)
  before = path.read_bytes().decode() if path.exists() else ''  # ends of lines as they are
  if before and not before.endswith('\n'):
    before += '\n'
  with atomic_text(path) as file:
    file.write((before or header) + text)


# JSON lines: an object a line


class StepLine(TypedDict):
  """A line of a log that counts steps."""

  step: int


def read_json_lines(path: str | os.PathLike, kind: Any = dict[str, Any]) -> list[Any]:
  """The objects of a JSON-lines file; [] where there is none.

  Lines that are damaged, of another kind or were cut off, by a killed process for example, are left
  out.

  Args:
    path: of the file.
    kind: of a line, see `datasets.typed.typed`.
  """
  if not os.path.exists(path):
    return []
  objects = []
  with open(path, 'rb') as file:
    for line in file:
      with contextlib.suppress(ValueError, RecursionError):
        objects.append(typed(json.loads(line.decode('utf-8-sig')), kind))
  return objects


def write_json_lines(path: str | os.PathLike, objects: Iterable[Mapping[str, Any]]) -> None:
  with atomic_text(path) as file:
    file.writelines(map(_json_line, objects))


def append_json_lines(path: str | os.PathLike, objects: Iterable[Mapping[str, Any]]) -> None:
  append_text(path, ''.join(map(_json_line, objects)))


def _json_line(content: Mapping[str, Any]) -> str:
  return json.dumps(content) + '\n'


# Tables


def write_csv(
  path: str | os.PathLike,
  header: Sequence[str],
  rows: Iterable[Sequence[object]],
  line_end: str = '\r\n',
) -> None:
  """Writes a table (RFC 4180, UTF-8); None is an empty cell, text is as `csv_cell` gives it."""
  with atomic_text(path) as file:
    writer = csv.writer(file, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(map(csv_row, rows))


def csv_row(cells: Iterable[object]) -> list[object]:
  """A row for `csv.writer`: its text as `csv_cell` gives it."""
  return [csv_cell(cell) if isinstance(cell, str) else cell for cell in cells]


_NUMBER = re.compile(r'[+-]?\d+(\.\d*)?([eE][+-]?\d+)?')
_FORMULA = re.compile(r"'*[=+\-@\uff1d\uff0b\uff0d\uff20]")  # the last four are wide ones


def csv_cell(text: str) -> str:
  """Text that a spreadsheet shows and does not compute: one line, see `printable`.

  What begins like a formula, with = + - or @, and is no number gets an apostrophe in front, as
  https://owasp.org/www-community/attacks/CSV_Injection has it. So does what has apostrophes before
  that: taking one away gives the text in all cases.
  """
  text = printable(text)
  return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text_table(rows: Sequence[Sequence[str]], left: Iterable[int] = (0,)) -> list[str]:
  """Lines of text with the columns of `rows` under each other, two spaces between them.

  Args:
    rows: cells, the same number in each row; headers are rows too.
    left: columns that begin at the same place; the others end there, as numbers should.
  """
  left = set(left)
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    '  '.join(
      cell.ljust(width) if index in left else cell.rjust(width)
      for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
