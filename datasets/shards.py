"""Shards: files of records in TFRecord's framing, their names, and reading them with care."""

import dataclasses
import fnmatch
import functools
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import google_crc32c

from . import files, records

_SHARD_NAMES = tuple(
  re.compile(pattern)
  for pattern in (
    # TensorFlow Datasets: imagenet2012-train.tfrecord-00000-of-01024
    r'(?P<dataset>[^.]+)-(?P<split>[^-.]+)\.tfrecord-(?P<index>\d{5})-of-(?P<count>\d{5})',
    # ours and slim's: train-00000-of-01024, flowers_train_00000-of-00005.tfrecord
    r'(?:(?P<dataset>.+)_)?(?P<split>[^_]+)[-_](?P<index>\d{5})-of-(?P<count>\d{5})'
    r'(?:\.tfrecords?)?',
    # slim's small sets, one file a split: cifar10_train.tfrecord
    r'(?P<dataset>.+)_(?P<split>[^_]+)\.tfrecords?',
  )
)

# A record on disk: length (8 bytes), its CRC (4), the data, their CRC (4).
_LENGTH_BYTES, _CRC_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CRC_BYTES
_FLUSH_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Shard:
  """A finished shard, as `dataset.json` lists it."""

  name: str
  num_images: int
  num_bytes: int
  crc32c: str


# Names


def shard_name(split: str, index: int, num_shards: int) -> str:
  """train-00003-of-01024, as slim's; `index` counts from 0."""
  return f'{split}-{index:05d}-of-{num_shards:05d}'


def is_shard_name(name: str) -> bool:
  """Whether a file of this name is a shard, of ours or of slim's data sets."""
  return _match(name) is not None


def _match(name: str) -> re.Match | None:
  return next(filter(None, (pattern.fullmatch(name) for pattern in _SHARD_NAMES)), None)


def find_shards(
  dataset_dir: str | os.PathLike, split_name: str, file_pattern: str | None = None
) -> list[str]:
  """Lists the shards of a split in order.

  Args:
    dataset_dir: folder of the records.
    split_name: 'train', 'validation', ...
    file_pattern: shell pattern of the file names, in which '%s' stands for the split; by default
      slim's names (`train-00000-of-01024`), those of its smaller sets
      (`flowers_train_00000-of-00005.tfrecord`, `cifar10_train.tfrecord`) and those of TensorFlow
      Datasets (`imagenet2012-train.tfrecord-00000-of-01024`) are found.

  Raises:
    OSError: the folder or a shard is missing, or there is no record file at all.
    ValueError: no such split, two sets of it, or an empty shard.
  """
  names = sorted(name for name in os.listdir(dataset_dir) if not name.startswith('.'))
  if file_pattern is not None:
    pattern = file_pattern.replace('%s', split_name)
    matching = fnmatch.filter(names, pattern)
    if not matching:
      raise FileNotFoundError(f'no file in {dataset_dir} matches {pattern!r}')
    return _nonempty(dataset_dir, matching)

  sets = _sets(dataset_dir, names)
  if split_name not in sets:
    raise ValueError(no_split(dataset_dir, split_name, sets))
  if len(sets[split_name]) > 1:
    firsts = ', '.join(next(iter(shards.values())) for shards in sets[split_name].values())
    raise ValueError(
      f'{dataset_dir} holds more than one set of {split_name!r} records ({firsts}): '
      'choose one with a file pattern'
    )
  ((_, count), shards) = next(iter(sets[split_name].items()))
  if missing := sorted(set(range(count)) - set(shards)):
    example = re.sub(r'\d{5}(?=-of-)', f'{missing[0]:05d}', next(iter(shards.values())))
    more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
    raise FileNotFoundError(
      f'{dataset_dir}: {example}{more} of the {split_name!r} records missing '
      f'({len(shards)} of {count} shards are there)'
    )
  return _nonempty(dataset_dir, [shards[index] for index in sorted(shards)])


def splits_in(dataset_dir: str | os.PathLike) -> list[str]:
  """The splits that a folder has shards of; raises FileNotFoundError where there are none."""
  return sorted(_sets(dataset_dir, sorted(os.listdir(dataset_dir))))


def _sets(
  dataset_dir: str | os.PathLike, names: Iterable[str]
) -> dict[str, dict[tuple[str | None, int], dict[int, str]]]:
  """Sorts names: split -> (data set, number of shards) -> index -> name."""
  sets: dict[str, dict[tuple[str | None, int], dict[int, str]]] = {}
  for name in names:
    if match := _match(name):
      groups = {'index': 0, 'count': 1} | match.groupdict()
      key = groups['dataset'], int(groups['count'])
      sets.setdefault(groups['split'], {}).setdefault(key, {})[int(groups['index'])] = name
  if not sets:
    names = 'train-00000-of-00004 or flowers_train_00000-of-00005.tfrecord'
    raise FileNotFoundError(f'no records in {dataset_dir}: expected names such as {names}')
  return sets


def no_split(dataset_dir: str | os.PathLike, split_name: str, splits: Iterable[str]) -> str:
  """The message where a split is asked for that is not among `splits`."""
  return f'no split {split_name!r} in {dataset_dir}; it has: {", ".join(sorted(splits))}'


def _nonempty(dataset_dir: str | os.PathLike, names: list[str]) -> list[str]:
  paths = [os.path.join(dataset_dir, name) for name in names]
  for path in paths:
    if os.path.getsize(path) == 0:
      raise ValueError(f'{path} is empty (0 bytes)')
  return paths


# Writing


def write_shard(path: str | os.PathLike, examples: Iterable[Sequence[bytes]]) -> Shard:
  """Writes serialized examples, each in parts, as one TFRecord file, whole or not at all.

  Raises:
    OSError: the disk is full or not writable; no file is left.
  """
  count = whole_crc = position = flushed = 0
  with files.atomic_path(path) as temporary, open(temporary, 'wb', buffering=0) as file:
    for example in examples:
      length = sum(map(len, example)).to_bytes(_LENGTH_BYTES, 'little')
      header = length + _masked(google_crc32c.value(length))
      parts = [header, *example, _masked(functools.reduce(google_crc32c.extend, example, 0))]
      whole_crc = functools.reduce(google_crc32c.extend, parts, whole_crc)
      position += _write_all(file, parts)
      if position - flushed >= _FLUSH_BYTES:
        _begin_flush(file, flushed, position)
        flushed = position
      count += 1
  return Shard(Path(path).name, count, position, f'{whole_crc:08x}')


def _write_all(file: io.FileIO, parts: list[bytes]) -> int:
  """Writes without copying; the kernel may take less than all, and refuses the rest."""
  written, size = os.writev(file.fileno(), parts), sum(map(len, parts))
  rest = memoryview(b''.join(parts))[written:] if written < size else memoryview(b'')
  while rest:
    rest = rest[file.write(rest) :]
  return size


def _begin_flush(file: io.FileIO, start: int, end: int) -> None:
  """Has the disk begin with what is written so far, so that syncing the whole waits for little."""
  if hasattr(os, 'posix_fadvise'):  # not on macOS
    os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _masked(crc: int) -> bytes:
  """Rotated and shifted as TFRecord wants it: data that hold CRCs themselves stay safe."""
  return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(_CRC_BYTES, 'little')


# Reading


def walk_shard(path: str | os.PathLike) -> Iterator[tuple[int, int]]:
  """Yields the offset and length of the data of each record, reading nothing but the framing.

  Raises:
    ValueError: the framing runs past the end of the file; names the file, record and offset.
  """
  size = os.path.getsize(path)
  with open(path, 'rb', buffering=0) as file:
    offset = index = 0
    while offset < size:
      file.seek(offset)
      length = int.from_bytes(file.read(_HEADER_BYTES)[:_LENGTH_BYTES], 'little')
      end = offset + _HEADER_BYTES + length + _CRC_BYTES
      if end > size:
        raise ValueError(
          f'{path} is cut short or damaged: record {index} at byte {offset} should end at '
          f'byte {end}, the file ends at {size}'
        )
      yield offset + _HEADER_BYTES, length
      offset, index = end, index + 1


@dataclasses.dataclass(frozen=True)
class Record:
  """A record on disk: `location` says where, for messages; `damage` is '' where its CRCs agree."""

  location: str
  data: bytes
  damage: str = ''


def read_shard(path: str | os.PathLike) -> Iterator[Record]:
  """Reads every record and compares both its CRCs.

  A damaged length ends the reading, since nobody knows where the next record begins.
  """
  size, index = os.path.getsize(path), 0
  with open(path, 'rb') as file:
    while (offset := file.tell()) < size:
      location = f'{path}: record {index} at byte {offset}'
      header = file.read(_HEADER_BYTES)
      length = int.from_bytes(header[:_LENGTH_BYTES], 'little')
      if offset + _HEADER_BYTES + length + _CRC_BYTES > size:
        yield Record(location, b'', 'runs past the end of the file: it is cut short or damaged')
        return
      if _masked(google_crc32c.value(header[:_LENGTH_BYTES])) != header[_LENGTH_BYTES:]:
        yield Record(location, b'', 'has a length that does not match its checksum')
        return
      data = file.read(length)
      agrees = _masked(google_crc32c.value(data)) == file.read(_CRC_BYTES)
      yield Record(location, data, '' if agrees else 'does not match its checksum')
      index += 1


def read_record(path: str, offset: int, size: int) -> bytes:
  """The data of a record that `walk_shard` has seen.

  Raises:
    ValueError: they do not match their checksum, or the file is shorter now; names both.
    OSError: the file cannot be read.
  """
  location = f'{path}: the record at byte {offset - _HEADER_BYTES}'
  try:
    content = files.read_at(path, offset, size + _CRC_BYTES)
  except files.EndsEarlyError as error:
    raise ValueError(f'{location} runs past the end of the file: {error}') from error
  if _masked(google_crc32c.value(content[:size])) != content[size:]:
    raise ValueError(f'{location} does not match its checksum')
  return content[:size]


def count_records(paths: Iterable[str | os.PathLike]) -> int:
  """Counts records by their framing alone; raises ValueError where a file is cut short."""
  return sum(1 for path in paths for _ in walk_shard(path))


def find_damage(paths: Iterable[str | os.PathLike]) -> str | None:
  """Names the first damaged file, record and byte offset; None where all is well.

  TensorFlow's DataLossError does not say which file it read. This reads everything: call it after
  such an error, not before.
  """
  try:
    damaged = (record for path in paths for record in read_shard(path) if record.damage)
    record = next(damaged, None)
  except OSError as error:
    return str(error)
  return f'{record.location} {record.damage}' if record else None


def label_range(
  paths: Sequence[str | os.PathLike], max_records: int = 2000, schema: records.Schema = records.SLIM
) -> tuple[int, int]:
  """The smallest and the largest label of about `max_records` records.

  The look goes into every shard, since some writers leave records sorted by class.

  Raises:
    ValueError: a record is no Example, or has no label under the schema's key (names those it has).
  """
  each = max(1, max_records // max(1, len(paths)))
  labels = [label for path in paths for label in _first_labels(path, each, schema)]
  if not labels:
    raise ValueError(f'no records in {", ".join(map(str, paths))}')
  return min(labels), max(labels)


def _first_labels(path: str | os.PathLike, count: int, schema: records.Schema) -> Iterator[int]:
  with open(path, 'rb') as file:
    for index, (offset, length) in enumerate(itertools.islice(walk_shard(path), count)):
      file.seek(offset)
      yield labels_of(file.read(length), schema, f'{path}: record {index}')[0]


def labels_of(
  serialized: bytes | memoryview,
  schema: records.Schema,
  location: str,
  *,
  may_lack: bool = False,
) -> Sequence[int]:
  """The labels of a record.

  Args:
    serialized: the record; of an image in it nothing is touched.
    schema: the keys.
    location: of the record, for messages.
    may_lack: a record need not have the key: there are no labels then.

  Raises:
    ValueError: it is no Example, or has no integers as labels; names the keys that it has.
  """
  try:
    labels = records.decode_features(serialized, keys=(schema.label,)).get(schema.label, ())
    if not labels and may_lack:
      return ()
    if not labels or not isinstance(labels[0], int):
      keys = ', '.join(sorted(records.decode_features(serialized))) or 'none'
      raise ValueError(f'{location} has no integer {schema.label!r}; its keys: {keys}')
  except records.NoExampleError as error:
    raise ValueError(f'{location} is {error}') from error
  return [label + schema.label_offset for label in labels]
