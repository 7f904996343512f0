"""Embeddings as CSV, NumPy's arrays and parquet, written as they come and there when all are."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

from slim_inception import files
from slim_inception.embed.config import CSV, NPY, PARQUET, STANDARD_OUTPUT
from slim_inception.embed.embedder import Result

Writer = Callable[[Result], None]

NAMES_SUFFIX = '.csv'  # of the names beside an array
_ROWS = 1024  # of a row group of parquet
_MAGIC, _HEADER_BYTES = b'\x93NUMPY\x01\x00', 128  # NumPy's format 1.0


@contextlib.contextmanager
def csv_writer(path: str) -> Iterator[Writer]:
  """Writes a table (RFC 4180, UTF-8): file, error, e0, e1, ...

  Numbers have as many digits as tell float32 numbers apart.

  Args:
    path: of the file, which is there when all is written; '-' is standard output.
  """
  with _open(path) as file:
    table = csv.writer(file)
    failed: list[Result] = []  # before the first embedding, which tells how wide the table is
    is_open = False

    def begin(width: int) -> None:
      nonlocal is_open
      is_open = True
      table.writerow(['file', 'error', *(f'e{i}' for i in range(width))])
      for result in failed:
        write(result)

    def write(result: Result) -> None:
      cells = [] if result.embedding is None else result.embedding.astype(str).tolist()
      if not is_open and not cells:
        failed.append(result)
        return
      if not is_open:
        begin(len(cells))
      table.writerow(files.csv_row([result.name, result.error]) + cells)

    yield write
    if not is_open:
      begin(0)


@contextlib.contextmanager
def npy_writer(path: str) -> Iterator[Writer]:
  """Writes an array [images, width] float32, and beside it a table: row, file, error.

  The row of an image that failed is empty.

  Args:
    path: of the array; `NAMES_SUFFIX` is added for the table. Both are there when all is written.
  """
  files.make_folder_of(path)
  with (
    files.atomic_path(path) as temporary,
    open(temporary, 'wb') as file,
    files.atomic_text(path + NAMES_SUFFIX) as names,
  ):
    table = csv.writer(names)
    table.writerow(['row', 'file', 'error'])
    file.write(bytes(_HEADER_BYTES))
    count, width = 0, 0

    def write(result: Result) -> None:
      nonlocal count, width
      row = '' if result.embedding is None else count
      table.writerow([row, *files.csv_row([result.name, result.error])])
      if result.embedding is not None:
        file.write(result.embedding.astype('<f4').tobytes())
        count, width = count + 1, len(result.embedding)

    yield write
    _write_header(file, count, width)


def _write_header(file: BinaryIO, rows: int, columns: int) -> None:
  """Writes what tells NumPy the shape, which only the end tells, in place of the first bytes."""
  text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
  length = _HEADER_BYTES - len(_MAGIC) - 2
  file.seek(0)
  file.write(_MAGIC + length.to_bytes(2, 'little') + text.ljust(length - 1).encode() + b'\n')


@contextlib.contextmanager
def parquet_writer(path: str) -> Iterator[Writer]:
  """Writes a table: file and error, text, and embedding, a list of as many float32 in each row.

  Args:
    path: of the file, which is there when all is written.

  Raises:
    ValueError: the package pyarrow is not installed.
  """
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as error:
    raise ValueError(
      f"--output={path}: .parquet needs a package: pip install 'slim-inception[parquet]'"
    ) from error
  files.make_folder_of(path)
  rows: list[Result] = []
  writer: Any = None

  def flush(temporary: Any) -> None:
    nonlocal writer
    width = next((len(row.embedding) for row in rows if row.embedding is not None), 0)
    if writer is None:
      kind = pyarrow.list_(pyarrow.float32(), width)
      schema = {'file': pyarrow.string(), 'error': pyarrow.string(), 'embedding': kind}
      writer = pyarrow.parquet.ParquetWriter(temporary, pyarrow.schema(schema))
    columns = {
      'file': [files.printable(row.name) for row in rows],
      'error': [files.printable(row.error) or None for row in rows],
      'embedding': [row.embedding for row in rows],
    }
    writer.write_table(pyarrow.table(columns, writer.schema))
    rows.clear()

  with files.atomic_path(path) as temporary:

    def write(result: Result) -> None:
      rows.append(result)
      is_known = writer is not None or result.embedding is not None
      if len(rows) >= _ROWS and is_known:
        flush(temporary)

    try:
      yield write
      flush(temporary)
    finally:
      if writer is not None:
        writer.close()


WRITERS = {CSV: csv_writer, NPY: npy_writer, PARQUET: parquet_writer}


def _open(path: str) -> contextlib.AbstractContextManager[TextIO]:
  if path == STANDARD_OUTPUT:
    return contextlib.nullcontext(sys.stdout)
  files.make_folder_of(path)
  return files.atomic_text(path)
