"""MDS: the shards of MosaicML's library `streaming`, read without it.

A folder has `index.json`, which lists its shards and their columns, or one such folder for each
split (`train/index.json`). A shard is the number of samples, where each begins, the columns once
more as JSON, and the samples: the sizes of the values that have no fixed one, and the values.
(Format of shards: mosaicml/streaming, `docs/source/preparing_datasets/dataset_format.md`; the
encodings of values: `streaming/base/format/mds/encodings.py`, version 0.13.) Images are read where
they lie; compressed shards are unpacked first. Pickled values are passed over and never loaded.
"""

import functools
import itertools
import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

from . import columns, conversion, files, folder_layout, sources, tables, webdataset
from .listing import LabelledImage, Listing
from .source import Slice

EXPECTED = 'MDS of MosaicML streaming: index.json and shards, in a folder or in one for each split'
_INDEX = 'index.json'
_LEVELS = ('', '*/', '*/*/')
_FIRST_SHARD = 'shard.00000.mds'  # what the library calls it
_FORMAT = 'mds'
_IMAGES = ('jpeg', 'png')  # encodings: the bytes of a file
_BYTES = 'bytes'
_NUMBERS = {
  'int': '<q', 'int8': '<b', 'int16': '<h', 'int32': '<i', 'int64': '<q',
  'uint8': '<B', 'uint16': '<H', 'uint32': '<I', 'uint64': '<Q',
}  # fmt: skip
_TEXTS = ('str', 'str_int', 'json')
_IMAGE_NAMES = (*columns.IMAGE_NAMES, 'x')
_LABEL_NAMES = (*columns.LABEL_NAMES, *webdataset.LABEL_KEYS, 'y')
_NAMES = ('file_name', 'filename', 'path', 'name', 'key', 'id')
# To pyarrow's names; what stands behind a colon is a level.
_CODECS = {'br': 'brotli', 'gz': 'gzip', 'snappy': 'snappy', 'zstd': 'zstd'}
_SUFFIXES = ('', *(f'.{suffix}' for suffix in _CODECS))
_LARGEST = 1 << 32  # bytes of a shard, whose offsets have 32 bits


class _File(TypedDict):
  basename: str
  bytes: int


class _ShardFields(TypedDict, total=False):
  compression: str | None
  zip_data: _File | None
  version: int


class _Shard(_ShardFields):
  """Of index.json."""

  format: str
  column_names: list[str]
  column_encodings: list[str]
  column_sizes: list[int | None]
  raw_data: _File
  samples: int


class _Index(TypedDict):
  """index.json."""

  shards: list[_Shard]


class _Keys(NamedTuple):
  """The columns that are read; there may be none of names."""

  image: str
  label: str
  name: str | None


class _Row(NamedTuple):
  image: Slice
  label: Any
  name: str | None


def recognize(paths: Sequence[Path]) -> str | None:
  """Why this is a folder of MDS; None: it is not."""
  for folder in _folders(paths[0]) if len(paths) == 1 else []:
    if _lists_shards(folder / _INDEX):
      return f'{folder / _INDEX} lists shards of MDS'
    return f'{folder} holds shards of MDS by their names'
  return None


def read(paths: Sequence[Path], options: conversion.Options, work_dir: Path) -> Listing:
  """Lists the images of shards, see `formats`.

  Raises:
    ValueError: there is no index, it is damaged, or it has no columns of images and labels.
    OSError: a file cannot be read.
  """
  conversion.refuse_list_options(options)
  folders = [folder for path in paths for folder in _folders(path)]
  if not folders:
    raise ValueError(f'{paths[0]} has no {_INDEX} of MDS; expected {EXPECTED}')
  listing = Listing(())
  used = list(_used_folders(folders, listing))
  shards = []
  for folder, split in used:
    of_folder = _index(folder / _INDEX)['shards']
    if not of_folder:
      raise ValueError(f'{folder / _INDEX} lists no shards of MDS')
    shards += [(folder, split, shard) for shard in of_folder]
  keys = _keys(used[0][0] / _INDEX, shards[0][2], options)
  listing.images = _images(shards, keys, options, work_dir, listing)
  return listing


def _folders(path: Path) -> list[Path]:
  """The folders of shards at a path, or at most two levels below, and those beside them.

  They are known by their index; by the name of the first shard where that is missing or damaged.
  """
  if not path.is_dir():
    return []
  for level in _LEVELS:
    indexed = [entry.parent for entry in path.glob(level + _INDEX)]
    if folders := {each for each in indexed if _lists_shards(each / _INDEX) or _has_first(each)}:
      beside = [each for above in {f.parent for f in folders} for each in files.subfolders(above)]
      return sorted(folders.union(filter(_has_first, beside)) if level else folders)
  return sorted(filter(_has_first, (path, *files.subfolders(path))))


def _has_first(folder: Path) -> bool:
  return any((folder / f'{_FIRST_SHARD}{suffix}').exists() for suffix in _SUFFIXES)


def _lists_shards(path: Path) -> bool:
  try:
    return any(shard['format'] == _FORMAT for shard in _index(path)['shards'])
  except ValueError:
    return False


def _index(path: Path) -> _Index:
  index: _Index | None = files.read_json(path, _Index)
  if index is None:
    raise ValueError(f'{path} is missing: it says what the shards of MDS beside it hold')
  return index


def _used_folders(folders: Sequence[Path], listing: Listing) -> Iterator[tuple[Path, str]]:
  """Folders and their splits, by the names of the folders; one alone may have any name."""
  splits = {folder: folder_layout.split_of(folder.name) or '' for folder in folders}
  if not any(splits.values()):
    if len(folders) > 1:
      several = files.some(map(str, folders))
      raise ValueError(f'several sets of MDS whose folders are no splits, give one: {several}')
    yield folders[0], ''
    return
  for folder, split in splits.items():
    if split:
      yield folder, split
    else:
      listing.notes.append(f'not used, since it is of no known split: {folder}')


def _keys(path: Path, shard: _Shard, options: conversion.Options) -> _Keys:
  """The columns of a shard that are read; raises ValueError as `columns.choose`."""
  kinds = _kinds(shard)
  of_images = [name for name, kind in kinds.items() if kind in _IMAGES]
  of_bytes = [name for name, kind in kinds.items() if kind == _BYTES]
  of_labels = [name for name, kind in kinds.items() if kind in (*_NUMBERS, *_TEXTS)]
  try:
    image = columns.choose(
      *('image', options.image_column, list(kinds), _IMAGE_NAMES), *(of_images, of_bytes)
    )
    label = columns.choose('label', options.label_column, list(kinds), _LABEL_NAMES, of_labels)
    _check_kind('image', image, kinds[image], (*_IMAGES, _BYTES))
    _check_kind('label', label, kinds[label], (*_NUMBERS, *_TEXTS))
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  return _Keys(image, label, next((name for name in _NAMES if kinds.get(name) == 'str'), None))


def _check_kind(what: str, name: str, kind: str, valid: Sequence[str]) -> None:
  if kind not in valid:
    raise ValueError(
      f'{what} column {name!r} is encoded as {kind}; valid are {files.some(valid, len(valid))}'
    )


def _kinds(shard: _Shard) -> dict[str, str]:
  """The encoding of each column, without its parameters (`jpeg:90`)."""
  names, encodings = shard['column_names'], shard['column_encodings']
  return {name: kind.partition(':')[0] for name, kind in zip(names, encodings, strict=False)}


# Reading


def _images(
  shards: Sequence[tuple[Path, str, _Shard]],
  keys: _Keys,
  options: conversion.Options,
  work_dir: Path,
  listing: Listing,
) -> Iterator[LabelledImage]:
  """Yields the images of all shards; what is wrong with one of these is listed."""

  def rows(of_index: tuple[Path, str, _Shard]) -> list[_Row] | ValueError:
    folder, _, shard = of_index
    try:
      return _rows(folder, shard, keys, work_dir)
    except ValueError as error:
      return error

  results = tables.ahead(rows, shards, options.num_processes)
  for (folder, split, shard), result in zip(shards, results, strict=True):
    name = f'{folder.name}/{files.readable(shard["raw_data"]["basename"])}'
    if isinstance(result, ValueError):
      listing.unusable.append((name, str(result)))
      continue
    names = tables.row_names(name.removesuffix('.mds'), [row.name for row in result])
    for own, row in zip(names, result, strict=True):
      yield LabelledImage(own, row.label, split, row.image)


def _rows(folder: Path, shard: _Shard, keys: _Keys, work_dir: Path) -> list[_Row]:
  """The samples of a shard.

  Raises:
    ValueError: it is missing, damaged, or of other columns; says so without its name.
    OSError: it cannot be read.
  """
  kinds, sizes = _kinds(shard), shard['column_sizes']
  if shard['format'] != _FORMAT or shard.get('version', 2) != 2:
    raise ValueError(f'is {shard["format"]} {shard.get("version")}, expected {_FORMAT} 2')
  if len(kinds) != len(sizes) or not set(filter(None, keys)) <= kinds.keys():
    raise ValueError(f'has other columns than the first: {files.some(kinds)}')
  path = _unpacked(folder, shard, work_dir)
  if os.path.getsize(path) != shard['raw_data']['bytes']:
    raise ValueError(
      f'is cut short or damaged: {os.path.getsize(path):,} bytes, {_INDEX} says '
      f'{shard["raw_data"]["bytes"]:,}'
    )
  with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
    try:
      return list(_samples(path, data, shard, keys))
    except (struct.error, UnicodeDecodeError, json.JSONDecodeError) as error:
      raise ValueError(f'is damaged: {error}') from error


def _unpacked(folder: Path, shard: _Shard, work_dir: Path) -> str:
  """The path of a shard without compression."""
  raw, packed = shard['raw_data'], shard.get('zip_data')
  for file in filter(None, (raw, packed)):
    if sources.leads_outside(file['basename']):
      raise ValueError(f'its path leads out of the folder: {file["basename"]}')
  path = folder / raw['basename']
  if path.exists():
    return os.path.abspath(path)
  if packed is None or not (folder / packed['basename']).exists():
    raise ValueError('is missing')
  codec = _CODECS.get((shard.get('compression') or '').partition(':')[0])
  if codec is None:
    valid = files.some(_CODECS)
    raise ValueError(f'is compressed as {shard.get("compression")}; {valid} are read')
  if not 0 <= raw['bytes'] < _LARGEST:
    raise ValueError(f'has {raw["bytes"]:,} bytes, as {_INDEX} says')
  path = folder / packed['basename']
  write = functools.partial(_unpack, path, codec, raw['bytes'])
  return tables.unpacked(path, 'all', write, work_dir)[0]


def _unpack(path: Path, codec: str, size: int, file: BinaryIO) -> list[Any]:
  try:
    import pyarrow
  except ImportError as error:
    raise ValueError(
      "reading a compressed shard needs pyarrow: pip install 'slim-inception[parquet]'"
    ) from error
  try:
    file.write(pyarrow.Codec(codec).decompress(path.read_bytes(), decompressed_size=size))
  except (pyarrow.ArrowException, OSError) as error:
    if isinstance(error, OSError) and error.errno:
      raise
    raise ValueError(f'compressed data are cut short or damaged: {error}') from error
  return []


def _samples(path: str, data: mmap.mmap, shard: _Shard, keys: _Keys) -> Iterator[_Row]:
  (count,) = struct.unpack_from('<I', data)
  if count != shard['samples']:
    raise ValueError(f'holds {count} samples, {_INDEX} says {shard["samples"]}')
  offsets = struct.unpack_from(f'<{count + 1}I', data, 4)
  kinds = _kinds(shard)
  num_free = shard['column_sizes'].count(None)
  for begin, end in itertools.pairwise(offsets):
    free = iter(struct.unpack_from(f'<{num_free}I', data, begin))
    position, places = begin + 4 * num_free, {}
    for column, size in zip(kinds, shard['column_sizes'], strict=True):
      size = next(free) if size is None else size
      places[column] = position, size
      position += size
    if position != end or end > len(data):
      raise ValueError(f'is damaged: the sample at byte {begin} has not the size of its values')
    name = _value(data, kinds[keys.name], *places[keys.name]) if keys.name else None
    label = _value(data, kinds[keys.label], *places[keys.label])
    label = webdataset.label_of_json(label, f'the sample at byte {begin}')
    yield _Row(Slice(path, *places[keys.image]), label, name)


def _value(data: mmap.mmap, kind: str, position: int, size: int) -> Any:
  """A number or a text, or what is written as JSON."""
  content = data[position : position + size]
  if kind in _NUMBERS:
    return struct.unpack(_NUMBERS[kind], content)[0]
  text = content.decode()
  if kind == 'str_int':
    return int(text)
  return json.loads(text) if kind == 'json' else text
