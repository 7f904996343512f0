"""Files of rows that each hold an image: what those of parquet, Arrow and array_record share."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

from absl import logging

from . import files, images
from .columns import Columns
from .source import Slice, Source

_NAME = re.compile(r'(?P<split>[a-z]+)-\d{5}-of-\d{5}.*\.\w+')  # train-00000-of-00294.parquet


class Table(NamedTuple):
  """The rows of a file.

  Attributes:
    images: the bytes of each; a row without an image has none.
    names: path or name of each image, where it has one.
    labels: of each row: an int, text, None, or a list of them.
    columns: where they came from.
  """

  images: Sequence[Source]
  names: Sequence[str | None]
  labels: Sequence[Any]
  columns: Columns


@dataclasses.dataclass(frozen=True)
class Row:
  """An image whose label is a number, and where its bytes are."""

  split: str | None  # as the name of the file says
  name: str
  label: int
  source: Source


class _Index(TypedDict):
  """What was unpacked from a file."""

  source: list[Any]
  images: list[Any]


def rows(path: Path, table: Table) -> Iterator[Row]:
  """Yields the images of a file whose labels are numbers.

  Raises:
    ValueError: a label is no number.
  """
  match = _NAME.fullmatch(path.name)
  split = match['split'] if match else None
  of_table = zip(table.images, table.names, table.labels, strict=True)
  for number, (source, name, label) in enumerate(of_table):
    if not isinstance(label, int):
      raise ValueError(f'{path}: label {label!r} of row {number} is no number')
    name = os.path.basename(name or f'{path.stem}_{number:08d}')
    yield Row(split, name, label, source)


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
    with open(path, 'rb') as file:
      is_pointer = images.is_lfs_pointer(file.read(100))
    if is_pointer:
      error = ValueError(f'it is {images.LFS_POINTER}')
    raise ValueError(f'{path} is no {kind} of labelled images: {error}') from error


def names(column: Any, columns: Columns) -> list[str | None]:
  """The paths in a column of images; None where there are none."""
  from pyarrow import compute

  if not columns.is_struct:
    return [None] * len(column) if columns.has_bytes else column.to_pylist()
  if not columns.has_path:
    return [None] * len(column)
  return compute.struct_field(column, 'path').to_pylist()


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
  such_as = f', such as {files.printable(of_first):.60}' if of_first else ''
  return ValueError(f'it holds paths of images{such_as}, not the images themselves')


def write_out(arrays: Iterable[Any], file: BinaryIO) -> list[int]:
  """Writes the values of arrays, from `content`, one after the other; returns the size of each."""
  sizes: list[int] = []
  for array in arrays:
    array = array.fill_null(b'') if array.null_count else array
    of_array = bounds(array)
    sizes += (end - start for start, end in itertools.pairwise(of_array))
    if of_array[-1] > of_array[0]:
      file.write(memoryview(array.buffers()[2])[of_array[0] : of_array[-1]])
  return sizes


def slices(path: str, places: Iterable[Sequence[int]]) -> list[Source]:
  """Parts of a file, by their offsets and sizes."""
  return [Slice(path, offset, size) for offset, size in places]


def unpacked(
  path: Path, what: str, write: Callable[[BinaryIO], list[Any]], work_dir: Path
) -> tuple[str, list[Any]]:
  """Writes the images of a file out, one after the other, if that has not been done.

  Args:
    path: of the file.
    what: of it is written.
    write: does so; returns what is to be known of each image, as JSON has it.
    work_dir: folder to write into.

  Returns:
    Path of the file written, and what `write` returned.
  """
  # Files of several folders may have the same name.
  key = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
  target, index_path = (work_dir / f'{path.name}-{key}{end}' for end in ('.images', '.json'))
  status = path.stat()
  signature = [os.path.abspath(path), status.st_size, status.st_mtime_ns, what]
  try:
    index = files.read_json(index_path, _Index)
  except ValueError:  # damaged: it is written again
    index = None
  if index is None or index['source'] != signature or not target.exists():
    logging.info('Unpacking %s', path)
    work_dir.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(target) as temporary, open(temporary, 'wb') as file:
      index = {'source': signature, 'images': write(file)}
    files.write_json(index_path, index)
  return str(target), index['images']


def places(sizes: Sequence[int]) -> list[tuple[int, int]]:
  """Offset and size of what lies one after the other."""
  return list(zip(itertools.accumulate(sizes, initial=0), sizes, strict=False))


def row_names(stem: str, names: Sequence[str | None]) -> Iterator[str]:
  """What the images of a file are called: its name, and their own if these are distinct.

  Args:
    stem: name of the file, without its suffix.
    names: of the images, or paths.
  """
  own = [name and files.readable(name.rpartition('/')[2]) for name in names]
  are_distinct = all(own) and len(set(own)) == len(own)
  for number, name in enumerate(own):
    yield f'{stem}/{name}' if are_distinct else f'{stem}/{number:08d}'


def ahead(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
  """The results of a function, in order, of which threads compute a few before they are taken."""
  with futures.ThreadPoolExecutor(threads) as pool:
    pending: collections.deque[futures.Future] = collections.deque()
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
