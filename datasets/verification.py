"""Reading a set of records again, to say whether all is well.

Every record: both CRCs, that it is an Example with the keys that training reads, the header of its
image against the stored size, its label against the synset and the classes. Every shard: size,
CRC and number of records against `dataset.json`; the whole: counts of each class.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from . import dataset_factory, dataset_info, imagenet, images, records, runners, shards
from .dataset_info import INFO_FILE, DatasetInfo
from .progress_bar import ProgressBar

_SYNSET = 'image/class/synset'
_MOST_PROBLEMS = 20  # of one shard: a shard that is overwritten with noise has thousands


@dataclasses.dataclass(frozen=True)
class Verification:
  """What reading says; a problem names the shard, and the record and its offset where it can."""

  num_records: int
  num_shards: int
  problems: tuple[str, ...]
  has_info: bool = True  # False: without dataset.json counts and classes could not be compared


@dataclasses.dataclass(frozen=True)
class _ShardFacts:
  num_records: int
  label_counts: dict[int, int]
  crc32c: str
  problems: list[str]


@dataclasses.dataclass(frozen=True)
class _Check:
  """What one shard is held against."""

  path: str
  schema: records.Schema
  num_classes: int | None
  synsets_needed: bool  # whether every record must have one
  multi_label: bool = False  # a record has any number of labels


def verify(dataset_dir: str | os.PathLike, num_processes: int = 1) -> Verification:
  """Reads every record of every split in a folder, of ours or made elsewhere.

  Raises:
    ValueError, OSError: there are no records, or `dataset.json` cannot be read.
  """
  info = dataset_info.read_info(dataset_dir)
  problems = [*_inconsistencies(dataset_dir, info)] if info else []
  checks = _checks(dataset_dir, info)
  everything = [check for of_split in checks.values() for check in of_split]
  facts = dict(zip(everything, _run(everything, num_processes), strict=True))
  num_records = 0
  for name, of_split in checks.items():
    counts: collections.Counter[int] = collections.Counter()
    for check in of_split:
      problems += facts[check].problems
      counts.update(facts[check].label_counts)
    num_records += sum(facts[check].num_records for check in of_split)
    if info:
      by_name = {os.path.basename(check.path): facts[check] for check in of_split}
      problems += _against_info(info, name, counts, by_name)
  return Verification(num_records, len(everything), tuple(problems), info is not None)


def _inconsistencies(dataset_dir: str | os.PathLike, info: DatasetInfo) -> Iterator[str]:
  """Where dataset.json disagrees with itself or with the names and sizes of the files."""
  lengths = {'labels': len(info.labels)} | {
    f'label_counts of {name!r}': len(split.label_counts) for name, split in info.splits.items()
  }
  for what, length in lengths.items():
    if length != info.num_classes:
      yield f'{INFO_FILE}: {length} {what}, but num_classes is {info.num_classes}'
  for name, split in info.splits.items():
    yield from (f'{INFO_FILE}: {problem}' for problem in dataset_info.wrong_sums(info, name))
    yield from map(str, dataset_info.wrong_sizes(dataset_dir, split))
  listed = {shard.name for split in info.splits.values() for shard in split.shards}
  for name in sorted(os.listdir(dataset_dir)):
    if shards.is_shard_name(name) and name not in listed:
      yield f'{Path(dataset_dir, name)} is not in {INFO_FILE}'


def _run(checks: list[_Check], num_processes: int) -> list[_ShardFacts]:
  with runners.pool(min(num_processes, len(checks))) as pool:
    facts = pool.map(_read, checks) if pool else map(_read, checks)
    with ProgressBar('Verifying', len(checks), 'shards') as bar:
      return list(bar.track(facts))


def _checks(dataset_dir: str | os.PathLike, info: DatasetInfo | None) -> dict[str, list[_Check]]:
  """The shards of each split that are there: those that dataset.json lists, or all."""
  checks: dict[str, list[_Check]] = {}
  if info:
    for name, split in info.splits.items():
      paths = [os.path.join(dataset_dir, shard.name) for shard in split.shards]
      facts = records.SLIM, info.num_classes, info.name == 'imagenet', info.multi_label
      checks[name] = [_Check(path, *facts) for path in paths if os.path.exists(path)]
  else:
    for name in shards.splits_in(dataset_dir):
      paths = shards.find_shards(dataset_dir, name)
      checks[name] = [_Check(p, dataset_factory.schema_of(p), None, False) for p in paths]
  return checks


def _against_info(
  info: DatasetInfo,
  name: str,
  counts: collections.Counter[int],
  facts: dict[str, _ShardFacts],
) -> list[str]:
  split = info.splits[name]
  problems = []
  for shard in split.shards:
    if of_shard := facts.get(shard.name):
      number = of_shard.num_records
      if not of_shard.problems and number != shard.num_images:
        problems.append(f'{shard.name} has {number} records, {INFO_FILE} says {shard.num_images}')
      if of_shard.crc32c != shard.crc32c:
        problems.append(
          f'{shard.name} has the CRC-32C {of_shard.crc32c}, {INFO_FILE} says {shard.crc32c}'
        )
  number = sum(of_shard.num_records for of_shard in facts.values())
  if number != split.num_images:
    problems.append(f'{name!r} has {number} records, {INFO_FILE} says {split.num_images}')
  for label, expected in enumerate(split.label_counts):
    if counts[label] != expected:
      problems.append(
        f'{name!r} has {counts[label]} records of label {label}, {INFO_FILE} says {expected}'
      )
  return problems


# One shard


def _read(check: _Check) -> _ShardFacts:
  counts: collections.Counter[int] = collections.Counter()
  num_records = 0
  problems = []
  for record in shards.read_shard(check.path):
    if record.damage:
      problems.append(f'{record.location} {record.damage}')
      continue
    try:
      counts.update(_check_record(record.data, check))
      num_records += 1
    except ValueError as error:
      problems.append(f'{record.location}: {error}')
  if len(problems) > _MOST_PROBLEMS:
    more = len(problems) - _MOST_PROBLEMS
    problems[_MOST_PROBLEMS:] = [f'{check.path}: and {more} more of its records']
  return _ShardFacts(num_records, dict(counts), _crc(check.path), problems)


def _crc(path: str) -> str:
  digest = google_crc32c.Checksum()
  with open(path, 'rb') as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.digest().hex()


def _check_record(data: bytes, check: _Check) -> list[int]:
  """Returns the labels; raises ValueError with what is wrong."""
  features = records.decode_features(data)
  schema = check.schema
  _check_image(_value(features, schema.encoded, bytes), features)
  if check.multi_label:
    _check_labels(labels := features.get(schema.label, []), check)
    return labels
  label = _value(features, schema.label, int) + schema.label_offset
  if check.num_classes is not None and not 0 <= label < check.num_classes:
    raise ValueError(f'label {label} is outside the classes 0..{check.num_classes - 1}')
  if check.synsets_needed or features.get(_SYNSET):
    synset = _value(features, _SYNSET, bytes).decode('utf-8', 'replace')
    synsets = ('', *imagenet.synsets())
    if (check.synsets_needed or synset in synsets) and synsets[label : label + 1] != (synset,):
      known = synsets[label] if 0 < label < len(synsets) else 'none'
      raise ValueError(f'label {label} is {known}, its synset says {synset!r}')
  return [label]


def _check_labels(labels: list[Any], check: _Check) -> None:
  """Labels of a record that has any number of them; raises ValueError with what is wrong."""
  for label in labels:
    if not isinstance(label, int) or not 0 <= label < (check.num_classes or 0):
      raise ValueError(f'label {label} is outside the classes 0..{(check.num_classes or 0) - 1}')
  if len(set(labels)) != len(labels):
    raise ValueError(f'a label comes twice: {labels}')


def _value(features: dict[str, list[Any]], key: str, kind: type) -> Any:
  """The only or first value under a key."""
  values = features.get(key)
  if not values:
    raise ValueError(f'no {key!r}; its keys: {", ".join(sorted(features)) or "none"}')
  if not isinstance(values[0], kind):
    raise ValueError(f'{key!r} is {type(values[0]).__name__}, expected {kind.__name__}')
  return values[0]


def _check_image(encoded: bytes, features: dict[str, list[Any]]) -> None:
  """Compares the image with the size stored beside it."""
  for side, pixels in zip(('height', 'width'), images.size_of_record(encoded), strict=True):
    stored = features.get(f'image/{side}')
    if stored and stored[0] != pixels:
      raise ValueError(f'{side} is stored as {stored[0]}, the image has {pixels}')
