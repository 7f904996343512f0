"""Images in parquet files, as Hugging Face stores image sets.

Images are read where they lie if the file has them as they are, which `datasets` 5.2 sees to, or
compressed with Snappy, as it did before (see `parquet_pages`). Others are compressed in pages of
dozens, and no part of a page can be read without all before it: they are written out once, one
after the other, into a work folder, from which shards that take their images from all files are
then written. This takes as much disk again as the images; they are removed when the records are
done.
"""

import os
from pathlib import Path
from typing import Any, BinaryIO

from . import columns, parquet_pages, tables

SUFFIXES = ('.parquet',)
MAGIC = b'PAR1'
_BATCH = 64  # rows that are in memory at a time


def read(
  path: Path, work_dir: Path, image_column: str | None = None, label_column: str | None = None
) -> tables.Table:
  """Finds the images of a file, unpacking it first if need be.

  Raises:
    ValueError: pyarrow is not installed, the file is damaged or holds no images with labels, e.g.
      paths of images alone.
    OSError: it cannot be read, or the disk is full.
  """
  with tables.naming_damage(path, 'parquet file'):
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, memory_map=True) as file:
      chosen = columns.find(file.schema_arrow, image_column, label_column)
      names, labels = _names_and_labels(file, chosen)
      if not chosen.has_bytes:
        raise tables.only_paths(names)
      leaf = f'{chosen.image}.bytes' if chosen.is_struct else chosen.image
      leaves = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
      column = leaves.index(leaf)
      images = parquet_pages.find(os.path.abspath(path), file.metadata, column)
      if images is None:

        def write(unpacked: BinaryIO) -> parquet_pages.Places:
          return _write_out(path, file, column, chosen, unpacked)

        target, places = tables.unpacked(path, f'places of {chosen.image}', write, work_dir)
        images = tables.slices(target, places)
      if len(images) != len(labels):
        raise ValueError(f'it has {len(images)} images and {len(labels)} labels')
      if images and not any(image.size for image in images):
        raise tables.only_paths(names)
  return tables.Table(images, names, labels, chosen)


def _write_out(
  path: Path, file: Any, column: int, chosen: columns.Columns, unpacked: BinaryIO
) -> parquet_pages.Places:
  """Writes the images of an open file out; returns where each lies then."""
  places = parquet_pages.unpack(os.fspath(path), file.metadata, column, unpacked)
  if places is not None:
    return places
  unpacked.seek(0)
  unpacked.truncate()
  leaf = file.metadata.schema.column(column).path
  batches = file.iter_batches(batch_size=_BATCH, columns=[leaf], use_threads=False)
  return tables.places(
    tables.write_out((tables.content(batch.column(0), chosen) for batch in batches), unpacked)
  )


def find_columns(
  path: Path, image_column: str | None = None, label_column: str | None = None
) -> columns.Columns:
  """The columns of a file; raises ValueError as `read`."""
  with tables.naming_damage(path, 'parquet file'):
    from pyarrow.parquet import read_schema

    return columns.find(read_schema(path), image_column, label_column)


def _names_and_labels(file: Any, chosen: columns.Columns) -> tuple[list[Any], list[Any]]:
  path = f'{chosen.image}.path' if chosen.is_struct else chosen.image
  has_names = chosen.has_path or not chosen.has_bytes
  rows = file.read(columns=[*([path] if has_names else []), chosen.label], use_threads=False)
  labels = rows.column(chosen.label).to_pylist()
  names = tables.names(rows.column(chosen.image), chosen) if has_names else [None] * len(labels)
  return names, labels
