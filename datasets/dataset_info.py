"""`dataset.json`: what stands beside the shards and says what they are."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from . import files
from .shards import Shard, no_split

INFO_FILE = 'dataset.json'


@dataclasses.dataclass(frozen=True)
class Split:
  """What `dataset.json` says of a split."""

  num_images: int
  num_shards: int
  label_counts: tuple[int, ...]  # one count per label, 0 .. num_classes - 1
  shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """What `dataset.json` says of the records beside it."""

  name: str  # of the converter that wrote them
  splits: dict[str, Split]
  num_classes: int  # width of a classifier's head, background included
  labels: tuple[str, ...]  # name of each label, 0 .. num_classes - 1
  label_offset: int = 0  # the first label that images have: 1 where 0 is the background


def write_info(dataset_dir: str | os.PathLike, info: DatasetInfo) -> None:
  """Writes `dataset.json`, the last file of a conversion: where it stands, all shards stand."""
  files.write_json(Path(dataset_dir, INFO_FILE), dataclasses.asdict(info))


def read_info(dataset_dir: str | os.PathLike) -> DatasetInfo | None:
  """Reads `dataset.json`; None where there is none.

  Raises:
    ValueError: the file is no JSON or lacks a field.
  """
  path = Path(dataset_dir, INFO_FILE)
  content = files.read_json(path)
  if content is None:
    return None
  try:
    splits = {}
    for name, split in content['splits'].items():
      shards = tuple(Shard(**shard) for shard in split['shards'])
      counts = tuple(split['label_counts'])
      splits[name] = Split(split['num_images'], split['num_shards'], counts, shards)
    labels, offset = tuple(content['labels']), content['label_offset']
    return DatasetInfo(content['name'], splits, content['num_classes'], labels, offset)
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is no description of a data set: {error!r}') from error


def check_sizes(dataset_dir: str | os.PathLike, info: DatasetInfo, split_name: str) -> None:
  """Compares the shards on disk with `dataset.json` by size, without reading them.

  Raises:
    ValueError: no such split, or a shard of another size.
    FileNotFoundError: a shard is missing.
  """
  if split_name not in info.splits:
    raise ValueError(no_split(dataset_dir, split_name, info.splits))
  for error in wrong_sizes(dataset_dir, info.splits[split_name]):
    raise error


def wrong_sizes(dataset_dir: str | os.PathLike, split: Split) -> Iterator[Exception]:
  """Yields what `check_sizes` raises, for every shard that is missing or of another size."""
  for shard in split.shards:
    path = Path(dataset_dir, shard.name)
    if not path.exists():
      yield FileNotFoundError(f'{path} is missing; {INFO_FILE} lists it')
    elif (size := path.stat().st_size) != shard.num_bytes:
      yield ValueError(f'{path} has {size} bytes, {INFO_FILE} says {shard.num_bytes}')
