"""Reading and writing JSON, JSON lines, CSV and tables of text; files are replaced as a whole.

Import-light: no TensorFlow.
"""

import contextlib
import csv
import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypedDict

from slim_inception.datasets.files import atomic_path as atomic_path
from slim_inception.datasets.files import csv_cell as csv_cell
from slim_inception.datasets.files import decoded as decoded
from slim_inception.datasets.files import is_disk_full as is_disk_full
from slim_inception.datasets.files import json_text as json_text
from slim_inception.datasets.files import naming_full_disk as naming_full_disk
from slim_inception.datasets.files import printable as printable
from slim_inception.datasets.files import read_json as read_json
from slim_inception.datasets.files import read_text as read_text
from slim_inception.datasets.files import readable as readable
from slim_inception.datasets.files import some as some
from slim_inception.datasets.files import sweep as sweep
from slim_inception.datasets.files import system_error as system_error
from slim_inception.datasets.files import temporary_path as temporary_path
from slim_inception.datasets.files import write_json as write_json
from slim_inception.datasets.folder_lock import FolderLock as FolderLock
from slim_inception.datasets.folder_lock import locked_folder as locked_folder
from slim_inception.datasets.typed import typed

_SCHEME = re.compile(r'([a-z][a-z0-9+.-]*)://', re.IGNORECASE)
# What makes a folder of the objects in a store.
_MOUNTS = {'gs': ' (e.g. Cloud Storage FUSE)', 's3': ' (e.g. Mountpoint for S3)'}


def local_path(path: str) -> str:
  """A path of the file system: a leading `~` or `~user` is the home folder.

  Raises:
    ValueError: it is an address such as gs://bucket, or there is no such home folder.
  """
  if match := _SCHEME.match(path):
    scheme = match[1].lower()
    if scheme == 'file':
      raise ValueError('must be a path, without file://')
    raise ValueError(
      f'must be a path of the file system, not an address: {scheme}:// has to be mounted'
      f'{_MOUNTS.get(scheme, " (e.g. by FUSE)")} or downloaded'
    )
  expanded = os.path.expanduser(path)
  if expanded.startswith('~'):
    raise ValueError(f'there is no home folder {path.partition("/")[0]}; a name begins with ./~')
  return expanded


def try_folder(path: str | os.PathLike) -> None:
  """Tries whether a folder can be written into, and made if it is not there; leaves nothing behind.

  Raises:
    OSError: it cannot, or is no folder.
  """
  folder = os.path.abspath(path)
  while not os.path.lexists(folder):
    folder = os.path.dirname(folder)
  if not os.path.isdir(folder):
    raise NotADirectoryError(errno.ENOTDIR, 'is no folder', folder)
  try:
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
      file.write(b'.')
  except OSError as error:
    raise OSError(error.errno, error.strerror, folder) from error


def try_file(path: str | os.PathLike) -> None:
  """Tries whether a file can be written, its folder made if it is not there; see `try_folder`.

  Raises:
    OSError: it cannot, or is a folder.
  """
  if os.path.isdir(path):
    raise IsADirectoryError(errno.EISDIR, 'is a folder; expected the name of a file', path)
  try_folder(os.path.dirname(path) or '.')


def make_folder_of(path: str | os.PathLike) -> None:
  """Makes the folder that a file is to be in, where it is missing."""
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)


def refuse_existing(paths: Iterable[str], overwrite: bool) -> None:
  """Raises ValueError where an output is there, and --overwrite is not."""
  there = [path for path in paths if os.path.exists(path)]
  if there and not overwrite:
    raise ValueError(f'{there[0]} exists: --overwrite replaces it')


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


@contextlib.contextmanager
def taking_turns(folder: str | os.PathLike) -> Iterator[None]:
  """Waits until nobody else is in this block with the same folder.

  For what takes a moment; who writes for longer owns the folder, see `locked_folder`. Where a file
  system has no locks of folders (NFS), nobody waits.
  """
  descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def append_text(path: str | os.PathLike, text: str, header: str = '') -> None:
  """Adds text after the last whole line of a file; a new file begins with `header`."""
  path = Path(path)
  with taking_turns(path.parent):
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


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines of Markdown; the first row is the header."""
  head, *rest = ([printable(cell).replace('|', '\\|') for cell in row] for row in rows)
  return ['| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rest)]


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
