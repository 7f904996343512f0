"""Images in parquet files, as Hugging Face stores imagenet-1k.

A parquet file has no bytes of a single image to point at: rows are packed, mostly compressed, in
groups of hundreds. The images of each file are therefore written out once, one after the other,
into a work folder, from which shards that take their images from all files are then written.
This takes as much disk again as the images; they are removed when the records are done.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from absl import logging

from . import files

SUFFIXES = ('.parquet',)
MAGIC = b'PAR1'
_NAME = re.compile(r'(?P<split>[a-z]+)-\d{5}-of-\d{5}.*\.parquet')  # train-00000-of-00294.parquet
_COLUMNS = ('image', 'label')


class _Index(TypedDict):
  """What was unpacked from a file."""

  source: list[Any]
  images: list[tuple[Any, Any, int]]  # name, label, size


@dataclasses.dataclass(frozen=True)
class Row:
  """An image of a parquet file, and where its bytes were put."""

  split: str | None  # as the name of the file says
  name: str
  label: int
  path: str
  offset: int
  size: int


def unpack(path: Path, work_dir: Path) -> Iterator[Row]:
  """Yields the images of a file, unpacking it first if need be.

  Raises:
    ValueError: pyarrow is not installed, the file is damaged or holds no images with labels, e.g.
      paths of images alone.
    OSError: the disk is full.
  """
  status = path.stat()
  # Files of several folders may have the same name.
  key = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
  unpacked = work_dir / f'{path.stem}-{key}.images'
  index_path = work_dir / f'{path.stem}-{key}.json'
  signature = [os.path.abspath(path), status.st_size, status.st_mtime_ns]
  try:
    index = files.read_json(index_path, _Index)
  except ValueError:  # damaged: it is written again
    index = None
  if index is None or index['source'] != signature:
    logging.info('Unpacking %s', path)
    work_dir.mkdir(parents=True, exist_ok=True)
    index = {'source': signature, 'images': _write_out(path, unpacked)}
    files.write_json(index_path, index)
  match = _NAME.fullmatch(path.name)
  split, offset = match['split'] if match else None, 0
  for number, (name, label, size) in enumerate(index['images']):
    if not isinstance(label, int):
      raise ValueError(f'{path}: label {label!r} of row {number} is no number')
    name = os.path.basename(name or f'{path.stem}_{number:08d}')
    yield Row(split, name, label, str(unpacked), offset, size)
    offset += size


def _write_out(path: Path, unpacked: Path) -> list[tuple[str | None, int, int]]:
  """Writes the images one after the other; returns name, label and size of each."""
  try:
    import pyarrow
    from pyarrow.parquet import ParquetFile
  except ImportError as error:
    raise ValueError(
      f"{path}: reading parquet files needs pyarrow: pip install 'slim-inception[parquet]'"
    ) from error
  images = []
  try:
    with ParquetFile(path) as table, files.atomic_path(unpacked) as temporary:
      if missing := set(_COLUMNS) - set(table.schema_arrow.names):
        raise ValueError(f'no column {sorted(missing)[0]!r}: it has {table.schema_arrow.names}')
      with open(temporary, 'wb', buffering=1 << 20) as file:
        for batch in table.iter_batches(batch_size=64, columns=list(_COLUMNS)):
          for row in batch.to_pylist():
            name, content = _name_and_content(row['image'])
            file.write(content)
            images.append((name, row['label'], len(content)))
      if images and not any(size for *_, size in images):
        path_of_first = f', such as {images[0][0]}' if images[0][0] else ''
        raise ValueError(f'it holds paths of images{path_of_first}, not the images themselves')
  except (pyarrow.ArrowException, ValueError, TypeError, KeyError) as error:
    raise ValueError(f'{path} is no parquet file of labelled images: {error}') from error
  return images


def _name_and_content(image: Any) -> tuple[str | None, bytes]:
  """Those of a cell, a struct of path and bytes; a cell without bytes is an empty file."""
  if isinstance(image, str):
    return image, b''
  if not isinstance(image, dict | None):
    raise ValueError(f"'image' is {type(image).__name__}, expected a struct of path and bytes")
  return (image or {}).get('path'), (image or {}).get('bytes') or b''
