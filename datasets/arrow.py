"""Images in Arrow files, as `save_to_disk` of Hugging Face's `datasets` writes them.

A file is a stream of batches of rows, in the format that Arrow calls IPC. The images of a batch lie
in it one after the other, so that each is read in place: the file is mapped into memory to learn
where they are, and nothing is copied. Where they are compressed, which `datasets` does not do, they
are written out as those of parquet files are.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import columns, tables

SUFFIXES = ('.arrow',)
# The last bytes of a stream that was written to its end, and the mark before each of its messages,
# which streams of versions before 0.15 have not.
_MARK, _END = b'\xff' * 4, bytes(4)


def read(
  path: Path, work_dir: Path, image_column: str | None = None, label_column: str | None = None
) -> tables.Table:
  """Finds the images of a file, unpacking it first if need be.

  Raises:
    ValueError: pyarrow is not installed, the file is damaged or holds no images with labels.
    OSError: it cannot be read, or the disk is full.
  """
  with tables.naming_damage(path, 'Arrow file'), _opened(path) as (mapped, stream):
    chosen = columns.find(stream.schema, image_column, label_column)
    names: list[str | None] = []
    labels: list[Any] = []
    places: list[tuple[int, int]] | None = []
    for batch in stream:
      image = batch.column(chosen.image)
      names += tables.names(image, chosen)
      labels += batch.column(chosen.label).to_pylist()
      if chosen.has_bytes and places is not None:
        of_batch = _places(tables.content(image, chosen), mapped)
        places = None if of_batch is None else places + of_batch
    if names and not (chosen.has_bytes and (places is None or any(size for _, size in places))):
      raise tables.only_paths(names)
  if places is not None:
    return tables.Table(tables.slices(os.path.abspath(path), places), names, labels, chosen)
  with tables.naming_damage(path, 'Arrow file'), _opened(path) as (_, stream):
    arrays = (tables.content(batch.column(chosen.image), chosen) for batch in stream)
    write = functools.partial(tables.write_out, arrays)
    target, sizes = tables.unpacked(path, chosen.image, write, work_dir)
  return tables.Table(tables.slices(target, tables.places(sizes)), names, labels, chosen)


def find_columns(
  path: Path, image_column: str | None = None, label_column: str | None = None
) -> columns.Columns:
  """The columns of a file; raises ValueError as `read`."""
  with tables.naming_damage(path, 'Arrow file'), _opened(path) as (_, stream):
    return columns.find(stream.schema, image_column, label_column)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
  """The file in memory, and its stream of batches."""
  import pyarrow
  from pyarrow import ipc

  with pyarrow.memory_map(os.fspath(path)) as file:
    mapped = file.read_buffer()
    with ipc.open_stream(pyarrow.BufferReader(mapped)) as stream:
      content = memoryview(mapped).cast('B')
      end = _MARK + _END if content[: len(_MARK)] == _MARK else _END
      if content[-len(end) :] != end:
        raise ValueError('it is cut short: the end of the stream is missing')
      yield mapped, stream


def _places(array: Any, mapped: Any) -> list[tuple[int, int]] | None:
  """Offset and size of each value in a file; None where the values are elsewhere in memory."""
  of_array = tables.bounds(array)
  if of_array[-1] == of_array[0]:
    return [(0, 0)] * len(array)
  start = array.buffers()[2].address - mapped.address
  if not 0 <= start <= start + of_array[-1] <= mapped.size:
    return None
  sizes = (end - begin for begin, end in itertools.pairwise(of_array))
  pairs = zip(of_array, sizes, array.is_valid().to_pylist(), strict=False)
  return [(start + begin, size if is_valid else 0) for begin, size, is_valid in pairs]
