"""Records: the Example schema, the shards on disk and the `dataset.json` beside them.

The keys and shard names are those of TF-Slim, so its records are read unchanged and ours are read
by its code.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

INFO_FILE = 'dataset.json'
NAMING = 'train-00000-of-00004 or flowers_train_00000-of-00005.tfrecord'
_SHARD_NAME = re.compile(
  r'(?:(?P<dataset>.+)_)?(?P<split>[^_]+)[-_](?P<index>\d{5})-of-(?P<count>\d{5})(?:\.tfrecords?)?'
)

# A record on disk: length (8 bytes), its CRC (4), the data, their CRC (4).
_LENGTH_BYTES, _CRC_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CRC_BYTES


# Examples


def encode_example(
  encoded: bytes,
  *,
  label: int,
  image_format: str,
  height: int,
  width: int,
  colorspace: str = 'RGB',
  channels: int = 3,
  text: str | None = None,
  synset: str | None = None,
  filename: str | None = None,
  boxes: Sequence[Sequence[float]] = (),
) -> bytes:
  """Serializes one labelled picture under slim's keys; what a data set has not is left out.

  Args:
    encoded: the file of the picture.
    label: class number, background included where the data set has one.
    image_format: 'JPEG' or 'PNG'.
    height, width: in pixels.
    colorspace, channels: of the encoded picture ('RGB' 3, 'Grayscale' 1, ...).
    text: name of the class.
    synset: WordNet id of the class.
    filename: what reports and lists call the picture.
    boxes: [ymin, xmin, ymax, xmax] each, relative to the picture, in [0, 1].
  """
  ints = {
    'image/class/label': [label],
    'image/height': [height],
    'image/width': [width],
    'image/channels': [channels],
  }
  strings = {
    'image/encoded': encoded,
    'image/format': image_format,
    'image/colorspace': colorspace,
    'image/class/text': text,
    'image/class/synset': synset,
    'image/filename': filename,
  }
  floats = {}
  if boxes:
    for i, side in enumerate(('ymin', 'xmin', 'ymax', 'xmax')):
      floats[f'image/object/bbox/{side}'] = [box[i] for box in boxes]
    ints['image/object/bbox/label'] = [label] * len(boxes)

  feature = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for k, v in ints.items()}
  for key, value in strings.items():
    if value is not None:
      value = value.encode() if isinstance(value, str) else value
      feature[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  for key, value in floats.items():
    feature[key] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
  example = tf.train.Example(features=tf.train.Features(feature=feature))
  return example.SerializeToString(deterministic=True)  # same input, same bytes


def parse_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
  """Reads one record of ours, of slim's ImageNet or of its smaller sets, in a graph or eagerly.

  Args:
    serialized: string scalar.

  Returns:
    encoded: string scalar, the file of the picture.
    label: int64 scalar.
    bbox: [num_boxes, 4] float32, ymin, xmin, ymax, xmax in [0, 1]; boxes without area are left
      out, because TensorFlow's box sampler refuses them.
    filename: string scalar, '' where the record has none.
  """
  sides = [f'image/object/bbox/{side}' for side in ('ymin', 'xmin', 'ymax', 'xmax')]
  features = tf.io.parse_single_example(
    serialized,
    {
      'image/encoded': tf.io.FixedLenFeature([], tf.string),
      'image/class/label': tf.io.FixedLenFeature([], tf.int64),
      'image/filename': tf.io.FixedLenFeature([], tf.string, default_value=''),
    }
    | {side: tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True) for side in sides},
  )
  bbox = tf.clip_by_value(tf.stack([features[side] for side in sides], axis=-1), 0.0, 1.0)
  has_area = tf.reduce_all(bbox[:, :2] < bbox[:, 2:], axis=-1)
  return {
    'encoded': features['image/encoded'],
    'label': features['image/class/label'],
    'bbox': tf.boolean_mask(bbox, has_area),
    'filename': features['image/filename'],
  }


# Shards


@dataclasses.dataclass(frozen=True)
class Shard:
  """A finished shard, as `dataset.json` lists it."""

  name: str
  num_images: int
  num_bytes: int
  sha256: str


def shard_name(split: str, index: int, num_shards: int) -> str:
  return f'{split}-{index:05d}-of-{num_shards:05d}'


def is_shard_name(name: str) -> bool:
  return _SHARD_NAME.fullmatch(name) is not None


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` on success and vanishes on any error.

  Whoever is killed in between leaves at most a hidden file, which the next attempt replaces.
  """
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.partial')
  try:
    yield temporary
    with open(temporary, 'rb') as file:
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_shard(path: str | os.PathLike, examples: Iterable[bytes]) -> Shard:
  """Writes serialized examples as one TFRecord file, whole or not at all.

  Raises:
    OSError or tf.errors.OpError: the disk is full or not writable; no file is left.
  """
  count = 0
  with atomic_path(path) as temporary:
    with tf.io.TFRecordWriter(os.fspath(temporary)) as writer:
      for example in examples:
        writer.write(example)
        count += 1
    with open(temporary, 'rb') as file:
      digest = hashlib.sha256()
      while block := file.read(1 << 20):
        digest.update(block)
      num_bytes = file.tell()
  return Shard(Path(path).name, count, num_bytes, digest.hexdigest())


def find_shards(
  dataset_dir: str | os.PathLike, split_name: str, file_pattern: str | None = None
) -> list[str]:
  """Lists the shards of a split in order.

  Args:
    dataset_dir: folder of the records.
    split_name: 'train', 'validation', ...
    file_pattern: shell pattern of the file names, in which '%s' stands for the split; by default
      both slim's names (`train-00000-of-01024`) and those of its smaller sets
      (`flowers_train_00000-of-00005.tfrecord`) are found.

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

  sets: dict[str, dict[tuple, dict[int, str]]] = {}  # split -> (data set, count) -> index -> name
  for name in names:
    if match := _SHARD_NAME.fullmatch(name):
      key = match['dataset'], int(match['count'])
      sets.setdefault(match['split'], {}).setdefault(key, {})[int(match['index'])] = name
  if not sets:
    raise FileNotFoundError(f'no records in {dataset_dir}: expected names such as {NAMING}')
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


def no_split(dataset_dir: str | os.PathLike, split_name: str, splits: Iterable[str]) -> str:
  return f'no split {split_name!r} in {dataset_dir}; it has: {", ".join(sorted(splits))}'


def _nonempty(dataset_dir: str | os.PathLike, names: list[str]) -> list[str]:
  paths = [os.path.join(dataset_dir, name) for name in names]
  for path in paths:
    if os.path.getsize(path) == 0:
      raise ValueError(f'{path} is empty (0 bytes)')
  return paths


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


def count_records(paths: Iterable[str | os.PathLike]) -> int:
  """Counts records by their framing alone; raises ValueError where a file is cut short."""
  return sum(1 for path in paths for _ in walk_shard(path))


def find_damage(paths: Iterable[str | os.PathLike]) -> str | None:
  """Names the first damaged file, record and byte offset; None where all is well.

  TensorFlow's DataLossError does not say which file it read. This reads everything: call it after
  such an error, not before.
  """
  for path in paths:
    offset, index = 0, 0
    try:
      records = iter(tf.data.TFRecordDataset(os.fspath(path)))
      for index, (start, length) in enumerate(walk_shard(path)):
        offset = start - _HEADER_BYTES
        if len(next(records).numpy()) != length:
          return f'{path} is damaged: record {index} at byte {offset} has a wrong length'
    except tf.errors.DataLossError:
      return f'{path} is damaged: record {index} at byte {offset} does not match its checksum'
    except (ValueError, OSError, tf.errors.OpError) as error:
      return str(error)
  return None


def label_range(
  paths: Sequence[str | os.PathLike], max_records: int = 2000
) -> tuple[int, int, int]:
  """Reads labels of record sets that have no `dataset.json`.

  The look goes into every shard, since some writers leave records sorted by class.

  Returns:
    smallest label, largest label, number of records seen (about `max_records` at most).

  Raises:
    ValueError: a record is no Example, or has no label under slim's key (names those it has).
  """
  each = max(1, max_records // max(1, len(paths)))
  labels = [label for path in paths for label in _first_labels(path, each)]
  if not labels:
    raise ValueError(f'no records in {", ".join(map(str, paths))}')
  return min(labels), max(labels), len(labels)


def _first_labels(path: str | os.PathLike, count: int) -> Iterator[int]:
  key = 'image/class/label'
  with open(path, 'rb') as file:
    for index, (offset, length) in enumerate(itertools.islice(walk_shard(path), count)):
      file.seek(offset)
      try:
        feature = tf.train.Example.FromString(file.read(length)).features.feature
      except Exception as error:  # protobuf's DecodeError, whose home changes between versions
        raise ValueError(f'{path}: record {index} is no tf.train.Example') from error
      if key not in feature or not feature[key].int64_list.value:
        keys = ', '.join(sorted(feature)) or 'none'
        raise ValueError(f'{path}: record {index} has no integer {key!r}; its keys: {keys}')
      yield feature[key].int64_list.value[0]


# dataset.json


@dataclasses.dataclass(frozen=True)
class Split:
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
    label_offset: the first label that pictures have: 1 where 0 is the background.
  """

  name: str
  splits: dict[str, Split]
  num_classes: int
  labels: tuple[str, ...]
  label_offset: int = 0


def write_info(dataset_dir: str | os.PathLike, info: DatasetInfo) -> None:
  """Writes `dataset.json`, the last file of a conversion: where it stands, all shards stand."""
  write_json(Path(dataset_dir, INFO_FILE), dataclasses.asdict(info))


def write_json(path: str | os.PathLike, content: dict) -> None:
  with atomic_path(path) as temporary:
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', 'utf-8')


def read_info(dataset_dir: str | os.PathLike) -> DatasetInfo | None:
  """Reads `dataset.json`; None where there is none.

  Raises:
    ValueError: the file is no JSON or lacks a field.
  """
  path = Path(dataset_dir, INFO_FILE)
  try:
    content = json.loads(path.read_text('utf-8'))
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise ValueError(f'{path} is no valid JSON: {error}') from error
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
