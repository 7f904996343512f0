"""What is in records, without reading their images."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from . import records, shards
from .sources import Slice


class ListedRecord(NamedTuple):
  """A record of a shard.

  Attributes:
    filename: of its image; '' where it has none.
    labels: as the data set counts them.
    source: its image.
  """

  filename: str
  labels: tuple[int, ...]
  source: Slice


def of_shard(
  path: str | os.PathLike, schema: records.Schema = records.SLIM
) -> Iterator[ListedRecord]:
  """The records of a shard in order; of each the pages with names and labels alone are read.

  Raises:
    ValueError: the framing is damaged, or a record is no Example with an image; names the file.
    OSError: it cannot be read.
  """
  path = os.fspath(path)
  if not os.path.getsize(path):  # all of its images were skipped
    return
  keys = {schema.filename, schema.label, schema.encoded}
  with (
    open(path, 'rb') as file,
    contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content,
    memoryview(content) as view,
  ):
    for number, (offset, length) in enumerate(shards.walk_shard(path)):
      with view[offset : offset + length] as record:
        try:
          features = records.decode_features(record, keys, {schema.encoded})
          (begin, size), *_ = features[schema.encoded]
        except (ValueError, KeyError) as error:
          raise ValueError(f'{path}: record {number} has no image: {error}') from error
      name = next(iter(features.get(schema.filename, ())), b'').decode(errors='surrogateescape')
      labels = tuple(label + schema.label_offset for label in features.get(schema.label, ()))
      yield ListedRecord(name, labels, Slice(path, offset + begin, size))
