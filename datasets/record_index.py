"""Where each record of a split is, and its label: what reading them in any order needs.

It takes a pass over the shards, which touches of each record its framing and its label alone, and
is kept beside them in `.SPLIT_index.npz`, where the folder can be written to.
"""

import hashlib
import mmap
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from . import files, records, shards
from .progress_bar import ProgressBar

MANY = -1  # label of a record that has none, or several


class RecordIndex(NamedTuple):
  """The records of some shards, in the order of these.

  Attributes:
    shards: [N] int32: which shard.
    offsets: [N] int64: bytes before the data of the record.
    sizes: [N] int64: bytes of the data.
    labels: [N] int32, or `MANY`.
  """

  shards: np.ndarray
  offsets: np.ndarray
  sizes: np.ndarray
  labels: np.ndarray


def read(paths: Sequence[str], split_name: str, schema: records.Schema) -> RecordIndex:
  """The index of shards that lie in one folder: that beside them, or else made now.

  Raises:
    ValueError: a shard is cut short, or a record is no Example or has labels of another type.
    OSError: a shard cannot be read.
  """
  kept, state = Path(os.path.dirname(paths[0]), f'.{split_name}_index.npz'), _state(paths, schema)
  if index := _load(kept, state):
    return index
  index = _make(paths, schema)
  try:
    with files.atomic_path(kept) as temporary, open(temporary, 'wb') as file:
      np.savez(file, state=state, **index._asdict())
  except OSError as error:
    logging.info('%s', f'{kept} is not kept for the next run: {error.strerror or error}')
  return index


def _state(paths: Sequence[str], schema: records.Schema) -> str:
  """A hash of the names, sizes and times of change of the shards, and of the keys in them."""
  facts = [(os.path.basename(p), (s := os.stat(p)).st_size, s.st_mtime_ns) for p in paths]
  return hashlib.blake2b(repr((facts, schema)).encode(), digest_size=16).hexdigest()


def _load(path: Path, state: str) -> RecordIndex | None:
  try:
    with np.load(path, allow_pickle=False) as stored:
      if str(stored['state']) != state:
        return None
      return RecordIndex(*(stored[name] for name in RecordIndex._fields))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def _make(paths: Sequence[str], schema: records.Schema) -> RecordIndex:
  rows: list[np.ndarray] = []
  with ProgressBar('Indexing records', sum(map(os.path.getsize, paths)) >> 20, 'MB') as bar:
    for number, path in enumerate(paths):
      of_shard = np.array(list(_walk(path, schema)), np.int64).reshape(-1, 3)
      rows.append(np.insert(of_shard, 0, number, axis=1))
      bar.update(os.path.getsize(path) >> 20)
  shard, offsets, sizes, labels = np.concatenate(rows).T
  return RecordIndex(shard.astype(np.int32), offsets, sizes, labels.astype(np.int32))


def _walk(path: str, schema: records.Schema) -> Iterator[tuple[int, int, int]]:
  """Yields offset, size and label of each record."""
  if not os.path.getsize(path):  # all of its images were skipped or left out
    return
  with open(path, 'rb') as file:
    content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  for number, (offset, size) in enumerate(shards.walk_shard(path)):
    serialized, location = content[offset : offset + size], f'{path}: record {number}'
    labels = shards.labels_of(serialized, schema, location, may_lack=True)
    yield offset, size, labels[0] if len(labels) == 1 else MANY
