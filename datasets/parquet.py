"""Images in parquet files, as Hugging Face stores image sets.

Images are read where they lie if the file has them as they are, which `datasets` 5.2 sees to (see
`parquet_pages`). Older files hold them packed, in groups of hundreds, and have no bytes of a single
image to point at: these are written out once, one after the other, into a work folder, from which
shards that take their images from all files are then written. This takes as much disk again as the
images; they are removed when the records are done.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from absl import logging

from . import columns, files, parquet_pages

SUFFIXES = ('.parquet',)
MAGIC = b'PAR1'
_NAME = re.compile(r'(?P<split>[a-z]+)-\d{5}-of-\d{5}.*\.parquet')  # train-00000-of-00294.parquet
_BATCH = 256  # rows that are in memory at a time


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
  columns: columns.Columns


class _Index(TypedDict):
  """What was unpacked from a file."""

  source: list[Any]
  sizes: list[int]


@dataclasses.dataclass(frozen=True)
class Row:
  """An image of a parquet file, and where its bytes are."""

  split: str | None  # as the name of the file says
  name: str
  label: int
  path: str
  offset: int
  size: int


def unpack(path: Path, work_dir: Path) -> Iterator[Row]:
  """Yields the images of a file whose labels are numbers, see `read`.

  Raises:
    ValueError: as `read`, and if a label is no number.
  """
  match = _NAME.fullmatch(path.name)
  split = match['split'] if match else None
  table = read(path, work_dir)
  rows = zip(table.places, table.names, table.labels, strict=True)
  for number, ((offset, size), name, label) in enumerate(rows):
    if not isinstance(label, int):
      raise ValueError(f'{path}: label {label!r} of row {number} is no number')
    name = os.path.basename(name or f'{path.stem}_{number:08d}')
    yield Row(split, name, label, table.path, offset, size)


def read(
  path: Path, work_dir: Path, image_column: str | None = None, label_column: str | None = None
) -> Table:
  """Finds the images of a file, unpacking it first if need be.

  Raises:
    ValueError: pyarrow is not installed, the file is damaged or holds no images with labels, e.g.
      paths of images alone.
    OSError: the disk is full.
  """
  try:
    from pyarrow.parquet import ParquetFile
  except ImportError as error:
    raise needs_pyarrow(path) from error
  with naming_damage(path, 'parquet file'), ParquetFile(path, memory_map=True) as table:
    chosen = columns.find(table.schema_arrow, image_column, label_column)
    names, labels = _names_and_labels(table, chosen)
    if not chosen.has_bytes:
      raise ValueError(_only_paths(names))
    leaf = f'{chosen.image}.bytes' if chosen.is_struct else chosen.image
    leaves = [table.metadata.schema.column(i).path for i in range(table.metadata.num_columns)]
    places = parquet_pages.find(os.fspath(path), table.metadata, leaves.index(leaf))
    if places is not None:
      return Table(os.path.abspath(path), places, names, labels, chosen)
    # Files of several folders may have the same name.
    key = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
    unpacked = work_dir / f'{path.stem}-{key}.images'
    batches = (
      batch.column(0)
      for batch in table.iter_batches(batch_size=_BATCH, columns=[leaf], use_threads=False)
    )
    sizes = unpack_once(path, chosen, batches, unpacked)
    if sizes and not any(sizes):
      raise ValueError(_only_paths(names))
  return Table(str(unpacked), places_of(sizes), names, labels, chosen)


def needs_pyarrow(path: Path) -> ValueError:
  return ValueError(f"{path}: reading it needs pyarrow: pip install 'slim-inception[parquet]'")


@contextlib.contextmanager
def naming_damage(path: Path, kind: str) -> Iterator[None]:
  """Has whatever is wrong with a file be a ValueError that names it.

  Raises:
    ValueError: it is damaged or of another kind.
    OSError: the system's own errors stay.
  """
  import pyarrow

  try:
    yield
  except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
    if isinstance(error, OSError) and error.errno:  # pyarrow raises OSError for damage too
      raise
    raise ValueError(f'{path} is no {kind} of labelled images: {error}') from error


def unpack_once(
  path: Path, chosen: columns.Columns, batches: Iterable[Any], unpacked: Path
) -> list[int]:
  """Writes the images out, if that has not been done; returns the size of each.

  Args:
    path: of the file.
    chosen: its columns.
    batches: the column of the images, in arrays.
    unpacked: file to write; its index is written beside it.
  """
  status = path.stat()
  signature = [os.path.abspath(path), status.st_size, status.st_mtime_ns, chosen.image]
  index_path = unpacked.with_suffix('.json')
  try:
    index = files.read_json(index_path, _Index)
  except ValueError:  # damaged: it is written again
    index = None
  if index is not None and index['source'] == signature and unpacked.exists():
    return index['sizes']
  logging.info('Unpacking %s', path)
  unpacked.parent.mkdir(parents=True, exist_ok=True)
  sizes: list[int] = []
  with files.atomic_path(unpacked) as temporary, open(temporary, 'wb', buffering=0) as file:
    for batch in batches:
      of_batch, content = _contents(batch, chosen)
      sizes += of_batch
      while content:
        content = content[file.write(content) :]
  files.write_json(index_path, {'source': signature, 'sizes': sizes})
  return sizes


def _contents(array: Any, chosen: columns.Columns) -> tuple[list[int], memoryview]:
  """The sizes of images, and their bytes one after the other; a cell without bytes is empty."""
  import pyarrow
  from pyarrow import compute

  if chosen.is_struct:
    array = compute.struct_field(array, 'bytes')
  if array.null_count:
    array = array.fill_null(b'')
  array = array.cast(pyarrow.large_binary())
  sizes = compute.binary_length(array).to_pylist()
  _, offsets, content = array.buffers()
  if not sum(sizes):
    return sizes, memoryview(b'')
  bounds = memoryview(offsets).cast('B').cast('q')
  return sizes, memoryview(content)[bounds[array.offset] : bounds[array.offset + len(array)]]


def _only_paths(names: Sequence[str | None]) -> str:
  of_first = next(filter(None, names), None)
  such_as = f', such as {of_first}' if of_first else ''
  return f'it holds paths of images{such_as}, not the images themselves'


def places_of(sizes: Sequence[int]) -> list[tuple[int, int]]:
  """Offsets and sizes of what lies one after the other."""
  return list(zip(itertools.accumulate(sizes, initial=0), sizes, strict=False))


def _names_and_labels(table: Any, chosen: columns.Columns) -> tuple[list[Any], list[Any]]:
  path = f'{chosen.image}.path' if chosen.is_struct else chosen.image
  has_names = chosen.has_path or not chosen.has_bytes
  rows = table.read(columns=[*([path] if has_names else []), chosen.label], use_threads=False)
  labels = rows.column(chosen.label).to_pylist()
  return names_of(rows, chosen) if has_names else [None] * len(labels), labels


def names_of(rows: Any, chosen: columns.Columns) -> list[Any]:
  """The paths in the column of the images."""
  cells = rows.column(chosen.image).to_pylist()
  return [cell['path'] if isinstance(cell, dict) else cell for cell in cells]
