"""Image sets that TensorFlow Datasets prepared, whatever they are: TFRecord and array_record files.

A folder `NAME/[CONFIG/]VERSION` has `features.json`, which says what records hold, and
`dataset_info.json`, which says how the files are called and how many records each has; the names of
classes are in `label.labels.txt`. Records are read by neither TensorFlow nor TensorFlow Datasets.
The images of TFRecord files are read where they lie, and so are those of array_record files, whose
records are compressed one at a time. Where several are compressed together, they are written out
first, as those of parquet files are.
"""

import functools
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

from . import (
  array_records,
  columns,
  conversion,
  files,
  folder_layout,
  imagenet,
  records,
  shards,
  tables,
)
from .listing import LabelledImage, Listing
from .source import Slice, Source

EXPECTED = 'a folder that TensorFlow Datasets prepared, with features.json and dataset_info.json'
NUMBERED_FROM_ZERO = (
  "these are ImageNet's classes, with labels 0 to 999; slim's nets number them from 1"
)
FEATURES, INFO = 'features.json', 'dataset_info.json'
_LEVELS = ('', '*/', '*/*/', '*/*/*/')  # a version's folder, and the folders above it
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
_NAMES = ('file_name', 'filename', 'image/filename', 'tfds_id', 'id', 'image/id')


class _SplitFields(TypedDict, total=False):
  shardLengths: list[str]  # 64-bit numbers are texts
  filepathTemplate: str


class _Split(_SplitFields):
  """Of dataset_info.json."""

  name: str


class _InfoFields(TypedDict, total=False):
  configName: str
  fileFormat: str
  supervisedKeys: Any


class _Info(_InfoFields):
  """dataset_info.json."""

  name: str
  splits: list[_Split]


class _Keys(NamedTuple):
  """What is read of each record.

  Attributes:
    image, label: features.
    is_list: a record may have several labels.
    name: feature with the name of the image; None where there is none.
    classes: their names, where the set has them.
  """

  image: str
  label: str
  is_list: bool
  name: str | None
  classes: tuple[str, ...] | None


class _Shard(NamedTuple):
  path: Path
  split: str  # 'train', 'validation' or 'test'
  num_records: int  # as the set says


_Place = tuple[int, int, Any, str | None]  # offset and size of the image, its label and its name


class _Row(NamedTuple):
  image: Source
  label: Any
  name: str | None


def recognize(paths: Sequence[Path]) -> str | None:
  """Why this is a folder of TensorFlow Datasets; None: it is not."""
  folders = _folders(paths[0]) if len(paths) == 1 else []
  return f'{FEATURES} and {INFO} in {folders[0]}' if folders else None


def read(paths: Sequence[Path], options: conversion.Options, work_dir: Path) -> Listing:
  """Lists the images of a prepared set, see `formats`.

  Raises:
    ValueError: it is no such folder, or has no images with labels, or its files have a format that
      is not read.
    OSError: a file cannot be read.
  """
  conversion.refuse_list_options(options)
  folders = [folder for path in paths for folder in _folders(path)]
  if not folders:
    raise ValueError(f'{paths[0]} is no folder of TensorFlow Datasets; expected {EXPECTED}')
  if len(folders) > 1:
    several = files.some(map(str, folders))
    raise ValueError(f'several sets or versions of TensorFlow Datasets, give one: {several}')
  (folder,) = folders
  info = files.read_json(folder / INFO, _Info)
  keys = _keys(folder, info, options)
  listing = Listing((), keys.classes)
  if imagenet.is_own(keys.classes):
    listing.notes.append(NUMBERED_FROM_ZERO)
  file_format = info.get('fileFormat') or 'tfrecord'
  if file_format not in _READERS:
    valid = ' and '.join(_READERS)
    raise ValueError(f'{folder} has files of the format {file_format}; {valid} are read')
  present = list(_shards(folder, info, file_format, listing))
  if not present:
    raise ValueError(f'no file of {info["name"]} in {folder}')
  if file_format == 'array_record':
    array_records.module(present[0].path)
  reader = functools.partial(_READERS[file_format], keys=keys, work_dir=work_dir)
  listing.images = _images(present, keys, reader, options, listing)
  return listing


def _folders(path: Path) -> list[Path]:
  """The folders of prepared sets at or below a path, three levels deep."""
  for level in _LEVELS if path.is_dir() else ():
    folders = [entry.parent for entry in sorted(path.glob(level + FEATURES))]
    if prepared := [folder for folder in folders if (folder / INFO).is_file()]:
      return prepared
  return []


def prepared(paths: Sequence[Path]) -> list[tuple[Path, str]]:
  """The folder of each prepared set at or below a path, and NAME or NAME/CONFIG of it."""
  sets = []
  for folder in _folders(paths[0]) if len(paths) == 1 else ():
    try:
      info = files.read_json(folder / INFO, _Info)
    except ValueError:
      continue
    config = info.get('configName') or _config_above(folder, info['name'])
    sets.append((folder, '/'.join([info['name'], *([config] if config else [])])))
  return sets


def _config_above(folder: Path, name: str) -> str:
  """The configuration by NAME/CONFIG/VERSION; '' where the set has none."""
  *_, above, config, _ = ('', '', *folder.resolve().parts)
  return config if above == name else ''


# What the set says of itself


def _keys(folder: Path, info: _Info, options: conversion.Options) -> _Keys:
  path = folder / FEATURES
  try:
    features = files.read_json(path)['featuresDict']['features']
    images = [name for name, feature in features.items() if 'image' in feature]
    labels = [name for name, feature in features.items() if 'classLabel' in _element(feature)]
    supervised = _supervised(info)
    image = columns.choose(
      *('image', options.image_column, list(features), columns.IMAGE_NAMES),
      *([name for name in images if name in supervised], images),
    )
    label = columns.choose(
      *('label', options.label_column, list(features), columns.LABEL_NAMES),
      *([name for name in labels if name in supervised], labels),
    )
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} does not list features: {error!r}') from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from None
  _check_kinds(path, features, image, label)
  name = next((name for name in _NAMES if name in features), None)
  of_classes = _element(features[label]).get('classLabel')
  classes = None if of_classes is None else _classes(folder, label, of_classes)
  return _Keys(image, label, 'sequence' in features[label], name, classes)


def _element(feature: Mapping[str, Any]) -> Mapping[str, Any]:
  """What a sequence is of; another feature is itself."""
  return feature['sequence']['feature'] if 'sequence' in feature else feature


def _supervised(info: _Info) -> list[str]:
  """The features that the set itself says are input and output."""
  try:
    items = info['supervisedKeys']['tuple']['items']
    return [item['featureKey'] for item in items]
  except (KeyError, TypeError):
    return []


def _check_kinds(path: Path, features: Mapping[str, Any], image: str, label: str) -> None:
  """Raises ValueError where chosen features are not of images and labels."""
  kind = features[image].get('image')
  if kind is None or kind.get('dtype', 'uint8') != 'uint8':
    raise ValueError(f'{path}: the feature {image!r} holds no images of 8 bits')
  element = _element(features[label])
  is_number = element.get('tensor', {}).get('dtype', '').startswith(('int', 'uint', 'bool'))
  if not (is_number or 'classLabel' in element or 'text' in element):
    raise ValueError(f'{path}: the feature {label!r} holds neither numbers nor text')


def _classes(folder: Path, label: str, feature: Mapping[str, Any]) -> tuple[str, ...] | None:
  """The names in label.labels.txt, or numbers."""
  path = folder / f'{label.replace("/", "-")}.labels.txt'
  count = int(feature.get('numClasses') or 0)
  if path.exists():
    names = files.read_text(path).splitlines()
    if count and len(names) != count:
      raise ValueError(f'{path} names {len(names)} classes, {FEATURES} has {count}')
    return tuple(names)
  return tuple(map(str, range(count))) or None


def _shards(folder: Path, info: _Info, file_format: str, listing: Listing) -> Iterator[_Shard]:
  """Yields the files of a set; says what is missing and what is not used."""
  for split in info['splits']:
    lengths = [int(length) for length in split.get('shardLengths', ())]
    paths = [
      folder / _file_name(info['name'], split, index, len(lengths), file_format)
      for index in range(len(lengths))
    ]
    present = [path for path in paths if path.exists()]
    of_known = folder_layout.split_of(split['name'])
    if of_known is None:
      listing.notes.append(f'not used, since it is of no known split: {split["name"]}')
    elif not present:
      listing.notes.append(f'no file of the split {split["name"]} is in {folder}')
    else:
      for path, count in zip(paths, lengths, strict=True):
        if path in present:
          yield _Shard(path, of_known, count)
        else:
          reason = f'is missing: {len(present)} of {len(paths)} files are there'
          listing.unusable.append((path.name, reason))


def _file_name(dataset: str, split: _Split, index: int, count: int, file_format: str) -> str:
  values = {
    'DATASET': dataset,
    'SPLIT': split['name'],
    'FILEFORMAT': file_format,
    'SHARD_INDEX': f'{index:05d}',
    'NUM_SHARDS': f'{count:05d}',
    'SHARD_X_OF_Y': f'{index:05d}-of-{count:05d}',
  }
  name = split.get('filepathTemplate') or _TEMPLATE
  for key, value in values.items():
    name = name.replace(f'{{{key}}}', value)
  return name


# Reading


def _images(
  of_set: Sequence[_Shard],
  keys: _Keys,
  reader: Callable[[_Shard], list[_Row]],
  options: conversion.Options,
  listing: Listing,
) -> Iterator[LabelledImage]:
  """Yields the images of all files; what is wrong with one of these is listed."""

  def rows(shard: _Shard) -> list[_Row] | ValueError:
    try:
      of_shard = reader(shard)
      if len(of_shard) != shard.num_records:
        raise ValueError(f'holds {len(of_shard)} records, {INFO} says {shard.num_records}')
      return of_shard
    except ValueError as error:
      return error

  for shard, result in zip(of_set, tables.ahead(rows, of_set, options.num_processes), strict=True):
    if isinstance(result, ValueError):
      reason = str(result).removeprefix(f'{shard.path} ').removeprefix(f'{shard.path}: ')
      listing.unusable.append((shard.path.name, reason))
      continue
    names = tables.row_names(shard.path.name, [row.name for row in result])
    for name, row in zip(names, result, strict=True):
      label = tuple(row.label) if keys.is_list else next(iter(row.label), None)
      yield LabelledImage(name, label, shard.split, row.image)


def _place(record: bytes | memoryview, keys: _Keys) -> _Place:
  """Where the image of a record is in it, and what else is known of it.

  Raises:
    ValueError: it is no Example, or has not one image.
  """
  of_record = [keys.image, keys.label, *([keys.name] if keys.name else [])]
  features = records.decode_features(record, of_record, located=[keys.image])
  images = features.get(keys.image, [])
  if len(images) != 1:
    raise ValueError(f'a record has {len(images)} images as {keys.image!r}, not one')
  ((offset, size),) = images
  label = [_text(value) for value in features.get(keys.label, [])]
  name = next(iter(features.get(keys.name or '', [])), None)
  return offset, size, label, None if name is None else str(_text(name))


def _text(value: Any) -> Any:
  return value.decode('utf-8', 'replace') if isinstance(value, bytes) else value


def _read_tfrecord(shard: _Shard, keys: _Keys, work_dir: Path) -> list[_Row]:
  """The images where they lie in a file."""
  path = os.fspath(shard.path)
  rows: list[_Row] = []
  if not os.path.getsize(path):
    return rows
  with open(path, 'rb') as file:
    # Not closed by hand: an error may still hold on to a part of it.
    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  for number, (start, length) in enumerate(shards.walk_shard(path)):
    try:
      offset, size, label, name = _place(data[start : start + length], keys)
    except ValueError as error:
      raise ValueError(f'record {number}: {error}') from None
    rows.append(_Row(Slice(path, start + offset, size), label, name))
  return rows


def _read_array_record(shard: _Shard, keys: _Keys, work_dir: Path) -> list[_Row]:
  """The images where they lie in a file, or written out."""
  path = os.path.abspath(shard.path)
  if array_records.are_alone(path):
    return [
      _Row(array_records.RecordSlice(path, number, offset, size), label, name)
      for number, record in enumerate(array_records.read(path))
      for offset, size, label, name in [_place(record, keys)]
    ]
  write = functools.partial(_write_out, shard.path, keys)
  path, images = tables.unpacked(shard.path, f'{keys.image}/{keys.label}', write, work_dir)
  places = tables.places([size for size, *_ in images])
  rows = zip(tables.slices(path, places), images, strict=True)
  return [_Row(source, label, name) for source, (_, label, name) in rows]


def _write_out(path: Path, keys: _Keys, file: BinaryIO) -> list[Any]:
  """Writes the images of an array_record file; returns size, labels and name of each."""
  images = []
  for record in array_records.read(path):
    offset, size, label, name = _place(record, keys)
    file.write(memoryview(record)[offset : offset + size])
    images.append((size, label, name))
  return images


_READERS = {'tfrecord': _read_tfrecord, 'array_record': _read_array_record}
