"""Rows of a table that each hold an image: what the readers of parquet and Arrow files share."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from absl import logging

from . import files
from .columns import Columns


class Table(NamedTuple):
  """The rows of a file.

  Attributes:
    path: of the file that the images are in.
    places: offset and size of each image; a row without one has size 0.
    names: path or name of each image, where it has one.
    labels: of each row: an int, text, None, or a list of them.
    columns: where they came from.
  """

  path: str
  places: Sequence[tuple[int, int]]
  names: Sequence[str | None]
  labels: Sequence[Any]
  columns: Columns


class _Index(TypedDict):
  """What was unpacked from a file."""

  source: list[Any]
  sizes: list[int]


@contextlib.contextmanager
def naming_damage(path: Path, kind: str) -> Iterator[None]:
  """Has whatever is wrong with a file be a ValueError that names it.

  Raises:
    ValueError: it is damaged or of another kind, or pyarrow is not installed.
    OSError: the system's own errors stay.
  """
  try:
    import pyarrow
  except ImportError as error:
    raise ValueError(
      f"{path}: reading a {kind} needs pyarrow: pip install 'slim-inception[parquet]'"
    ) from error
  try:
    yield
  except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
    if isinstance(error, OSError) and error.errno:  # pyarrow raises OSError for damage too
      raise
    raise ValueError(f'{path} is no {kind} of labelled images: {error}') from error


def names(column: Any, columns: Columns) -> list[str | None]:
  """The paths in a column of images; None where there are none."""
  if columns.is_struct and not columns.has_path:
    return [None] * len(column)
  cells = column.to_pylist()
  return [cell and cell['path'] for cell in cells] if columns.is_struct else cells


def content(array: Any, columns: Columns) -> Any:
  """The bytes in an array of the column of images, as a `pyarrow.LargeBinaryArray`."""
  import pyarrow
  from pyarrow import compute

  array = compute.struct_field(array, 'bytes') if columns.is_struct else array
  return array.cast(pyarrow.large_binary())


def bounds(array: Any) -> memoryview:
  """Where the values of a `pyarrow.LargeBinaryArray` begin in its buffer, and the last one ends."""
  _, offsets, _ = array.buffers()
  if not len(array):
    return memoryview(bytes(8)).cast('q')
  return memoryview(offsets).cast('B').cast('q')[array.offset : array.offset + len(array) + 1]


def only_paths(names: Sequence[str | None]) -> ValueError:
  """What is wrong with a file without bytes of images."""
  of_first = next(filter(None, names), None)
  such_as = f', such as {of_first}' if of_first else ''
  return ValueError(f'it holds paths of images{such_as}, not the images themselves')


def unpacked(
  path: Path, columns: Columns, arrays: Iterable[Any], work_dir: Path
) -> tuple[str, Any]:
  """Writes the images of a file out, one after the other, if that has not been done.

  Args:
    path: of the file.
    columns: its columns.
    arrays: the images, from `content`.
    work_dir: folder to write into.

  Returns:
    Path of the file written, and offset and size of each image in it.
  """
  # Files of several folders may have the same name.
  key = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
  target, index_path = (work_dir / f'{path.stem}-{key}{end}' for end in ('.images', '.json'))
  status = path.stat()
  signature = [os.path.abspath(path), status.st_size, status.st_mtime_ns, columns.image]
  try:
    index = files.read_json(index_path, _Index)
  except ValueError:  # damaged: it is written again
    index = None
  if index is None or index['source'] != signature or not target.exists():
    logging.info('Unpacking %s', path)
    work_dir.mkdir(parents=True, exist_ok=True)
    index = {'source': signature, 'sizes': _write_out(arrays, target)}
    files.write_json(index_path, index)
  sizes = index['sizes']
  return str(target), list(zip(itertools.accumulate(sizes, initial=0), sizes, strict=False))


def _write_out(arrays: Iterable[Any], target: Path) -> list[int]:
  """Writes the values of arrays one after the other; returns the size of each."""
  sizes: list[int] = []
  with files.atomic_path(target) as temporary, open(temporary, 'wb', buffering=0) as file:
    for array in arrays:
      array = array.fill_null(b'') if array.null_count else array
      of_array = bounds(array)
      sizes += (end - start for start, end in itertools.pairwise(of_array))
      if of_array[-1] > of_array[0]:
        rest = memoryview(array.buffers()[2])[of_array[0] : of_array[-1]]
        while rest:
          rest = rest[file.write(rest) :]
  return sizes
