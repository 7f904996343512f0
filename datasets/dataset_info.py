"""`dataset.json`: what stands beside the shards and says what they are."""

import dataclasses
import os
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
  """What `dataset.json` says of the records beside it.

  Attributes:
    name: of the converter that wrote them.
    splits: by name.
    num_classes: width of a classifier's head, background included.
    labels: name of each label, 0 .. num_classes - 1.
    label_offset: the first label that images have: 1 where 0 is the background.
  """

  name: str
  splits: dict[str, Split]
  num_classes: int
  labels: tuple[str, ...]
  label_offset: int = 0


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
    splits = {
      name: Split(
        split['num_images'],
        split['num_shards'],
        tuple(split['label_counts']),
        tuple(Shard(**shard) for shard in split['shards']),
      )
      for name, split in content['splits'].items()
    }
    return DatasetInfo(
      content['name'],
      splits,
      content['num_classes'],
      tuple(content['labels']),
      content['label_offset'],
    )
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
  for shard in info.splits[split_name].shards:
    path = Path(dataset_dir, shard.name)
    if not path.exists():
      raise FileNotFoundError(f'{path} is missing; {INFO_FILE} lists it')
    if (size := path.stat().st_size) != shard.num_bytes:
      raise ValueError(f'{path} has {size} bytes, {INFO_FILE} says {shard.num_bytes}')
