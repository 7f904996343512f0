"""`dataset.json`: what stands beside the shards and says what they are."""

import dataclasses
import hashlib
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
  multi_label: bool = False  # a record has any number of labels: --loss=sigmoid
  store_size: int | None = None  # pixels that shorter sides were resized to where they were longer
  store_quality: int | None = None  # of the JPEGs of these


def write_info(dataset_dir: str | os.PathLike, info: DatasetInfo) -> None:
  """Writes `dataset.json`, the last file of a conversion: where it stands, all shards stand."""
  files.write_json(Path(dataset_dir, INFO_FILE), dataclasses.asdict(info))


def read_info(dataset_dir: str | os.PathLike) -> DatasetInfo | None:
  """Reads `dataset.json`; None where there is none.

  Raises:
    ValueError: the file is no JSON, lacks a field, or has one of another type or out of range;
      names both.
  """
  path = Path(dataset_dir, INFO_FILE)
  info: DatasetInfo | None = files.read_json(path, DatasetInfo)
  if info:
    least = {'num_classes': (info.num_classes, 1), 'label_offset': (info.label_offset, 0)}
    for name, split in info.splits.items():
      least |= {f'splits.{name}.num_images': (split.num_images, 0)}
      least |= {f'splits.{name}.label_counts': (min(split.label_counts, default=0), 0)}
    for field, (number, bound) in least.items():
      if number < bound:
        raise ValueError(f'{path}: {field} must be at least {bound}, not {number}')
  return info


def hash_of(dataset_dir: str | os.PathLike) -> str:
  """A hash of `dataset.json`, which has the checksums of all shards: another one, other records."""
  content = Path(dataset_dir, INFO_FILE).read_bytes()
  return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_sizes(dataset_dir: str | os.PathLike, info: DatasetInfo, split_name: str) -> None:
  """Compares the shards on disk with `dataset.json` by size, without reading them.

  Raises:
    ValueError: no such split, a shard of another size, not a count for each class, or counts that
      contradict each other.
    FileNotFoundError: a shard is missing.
  """
  if split_name not in info.splits:
    raise ValueError(no_split(dataset_dir, split_name, info.splits))
  counts = info.splits[split_name].label_counts
  path = Path(dataset_dir, INFO_FILE)
  field = f'{path}: splits.{split_name}.label_counts'
  if len(counts) != info.num_classes:
    raise ValueError(f'{field} has {len(counts)} counts, but num_classes is {info.num_classes}')
  if not any(counts):
    raise ValueError(f'{field} are all 0')
  for problem in wrong_sums(info, split_name):
    raise ValueError(f'{path}: {problem}')
  for error in wrong_sizes(dataset_dir, info.splits[split_name]):
    raise error


def wrong_sums(info: DatasetInfo, split_name: str) -> Iterator[str]:
  """Yields where the numbers of a split contradict each other, with both numbers."""
  split, field = info.splits[split_name], f'splits.{split_name}'
  if split.num_shards != len(split.shards):
    yield f'{field}.num_shards is {split.num_shards}, but shards lists {len(split.shards)}'
  of_shards = sum(shard.num_images for shard in split.shards)
  if split.num_images != of_shards:
    yield f'{field}.num_images is {split.num_images}, but those of its shards add up to {of_shards}'
  of_labels = sum(split.label_counts)
  if split.num_images != of_labels and not info.multi_label:
    yield f'{field}.num_images is {split.num_images}, but label_counts add up to {of_labels}'


def wrong_sizes(dataset_dir: str | os.PathLike, split: Split) -> Iterator[Exception]:
  """Yields what `check_sizes` raises, for every shard that is missing or of another size."""
  for shard in split.shards:
    path = Path(dataset_dir, shard.name)
    if not path.exists():
      yield FileNotFoundError(f'{path} is missing; {INFO_FILE} lists it')
    elif (size := path.stat().st_size) != shard.num_bytes:
      yield ValueError(f'{path} has {size} bytes, {INFO_FILE} says {shard.num_bytes}')
