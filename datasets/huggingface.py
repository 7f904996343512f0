"""Image sets as Hugging Face's `datasets` stores them: parquet files, or folders of `save_to_disk`.

A repository of the Hub has `data/train-00000-of-00005.parquet`; its branch `refs/convert/parquet`
has `default/train/0000.parquet`; `save_to_disk` writes `train/data-00000-of-00005.arrow` beside
`state.json`, and `dataset_dict.json` above. Which columns hold images and labels, and what the
classes are called, the schema of the files says (see `columns`).
"""

import collections
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypedDict

from . import arrow, conversion, files, folder_layout, parquet, sources, tables
from .columns import Columns
from .listing import LabelledImage, Listing

SUFFIXES = parquet.SUFFIXES + arrow.SUFFIXES
EXPECTED = 'parquet files of images and labels, or a folder of save_to_disk'
_STATE_FILE = 'state.json'
_MOST_ENTRIES = 20_000  # that recognition looks at
# data-00003-of-00005, train-00003-of-00005-0123456789abcdef
_SHARD = re.compile(r'(?P<set>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?')
_PARTIAL = 'partial-'  # a split of refs/convert/parquet that is not whole
_CACHES = ('cache-', 'tmp')  # what `datasets` leaves beside the files of a set
_METADATA = 'metadata.parquet'  # of images that lie beside it


class _State(TypedDict):
  """state.json of `save_to_disk`."""

  _data_files: list[dict[str, Any]]


class _File(NamedTuple):
  """A file of a set.

  Attributes:
    path: of it.
    name: within the source, for reports.
    split: 'train', 'validation' or 'test'; '' where no name says it.
    words: what is said instead of a split, e.g. 'unsupervised'; '' where nothing is.
  """

  path: Path
  name: str
  split: str
  words: str


def recognize(paths: Sequence[Path]) -> str | None:
  """Why these are files of Hugging Face's; None: they are not."""
  if all(path.is_file() for path in paths):
    if all(path.name.lower().endswith(SUFFIXES) for path in paths):
      return _count(paths)
    return None
  if len(paths) > 1:
    return None
  first = next(_files(paths[0], _MOST_ENTRIES), None)
  return first and f'it holds {first[1]}'


def _count(paths: Sequence[Path]) -> str:
  more = f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''
  return f'the name of {paths[0].name}{more}'


def class_names(paths: Sequence[Path]) -> tuple[str, ...] | None:
  """The classes that the first file names; None where it names none or cannot be read."""
  try:
    if recognize(paths) is None:
      return None
    path = paths[0] if paths[0].is_file() else next(_files(paths[0]))[0]
    return _reader(path).find_columns(path).classes
  except (ValueError, OSError):
    return None


def read(paths: Sequence[Path], options: conversion.Options, work_dir: Path) -> Listing:
  """Lists the images of parquet or Arrow files, see `formats`.

  Raises:
    ValueError: no file can be read, the first that can has no columns of images and labels, or
      there are several configurations.
    OSError: a folder cannot be read.
  """
  conversion.refuse_list_options(options)
  listing = Listing(())
  used = _used_files(paths, listing)
  chosen = options.image_column, options.label_column
  columns = _columns(used, chosen)
  listing.class_names = columns.classes
  listing.images = _images(used, columns, chosen, options, work_dir, listing)
  return listing


# Files and their splits


def _files(root: Path, most: int | None = None) -> Iterator[tuple[Path, str]]:
  """Path and name of each file of a set in a folder, of `most` entries that are looked at."""
  for entry in itertools.islice(sources.walk_folder(root), most):
    name = entry.path.rpartition('/')[2]
    is_of_set = (
      name.lower().endswith(SUFFIXES) and not name.startswith(_CACHES) and name != _METADATA
    )
    if is_of_set and isinstance(entry.source, sources.File):
      yield Path(entry.source.folder, entry.source.name), entry.path


def _used_files(paths: Sequence[Path], listing: Listing) -> list[_File]:
  """The files to read, in order; says what is missing and what is not used."""
  if len(paths) == 1 and paths[0].is_dir():
    named = [(path, name) for path, name in _files(paths[0]) if _is_listed(path)]
    if not named:
      raise ValueError(f'no parquet or Arrow files in {paths[0]}; expected {EXPECTED}')
    _refuse_configurations(paths[0], [name for _, name in named])
  else:
    above = os.path.commonpath([path.parent for path in paths])
    named = [(path, files.readable(path.relative_to(above).as_posix())) for path in paths]
  candidates = [_File(path, name, *_split(name)) for path, name in named]
  known = [file for file in candidates if file.split]
  if known and len(known) < len(candidates):
    others = sorted({file.words or file.name for file in candidates if not file.split})
    listing.notes.append(f'not used, since they are of no known split: {files.some(others)}')
  _list_missing(known or candidates, listing)
  for file in known:
    if _PARTIAL in file.name:
      listing.notes.append(f'{file.name} is of a split of which only a part is there')
      break
  order = {split: index for index, split in enumerate(('train', 'validation', 'test', ''))}
  return sorted(known or candidates, key=lambda file: (order[file.split], file.name))


def _is_listed(path: Path) -> bool:
  """Whether `state.json` beside a file, if there is one, counts it among those of the set."""
  state = files.read_json(path.parent / _STATE_FILE, _State)
  return state is None or any(f.get('filename') == path.name for f in state['_data_files'])


def _refuse_configurations(root: Path, names: Sequence[str]) -> None:
  """Raises ValueError where folders below the source hold different sets."""
  folders = set()
  for name in names:
    *parts, _ = name.split('/')
    while parts and _split_of(parts[-1]):
      parts.pop()
    folders.add('/'.join(parts))
  if len(folders) > 1:
    raise ValueError(
      f'{root} holds several configurations ({files.some(sorted(f or "." for f in folders))}): '
      'give one of them'
    )


def _split(name: str) -> tuple[str, str]:
  """`split` and `words` of a file, by its own name and by those of the folders above it."""
  *folders, last = name.split('/')
  stem = last.rpartition('.')[0]
  match = _SHARD.fullmatch(stem)
  words = match['set'] if match else stem
  # 'train', 'imagenet-1k-train', 'my_test'
  for word in (words, re.split('[-_]', words)[-1], *reversed(folders)):
    if split := _split_of(word):
      return split, ''
  is_number = words.isdecimal() or words in ('data', 'part')
  return '', '' if is_number else words


def _split_of(word: str) -> str | None:
  return folder_layout.split_of(word.removeprefix(_PARTIAL))


def _list_missing(used: Sequence[_File], listing: Listing) -> None:
  """Lists the shards that are not there: names and folders count them."""
  sets: dict[tuple[str, str, int], set[int]] = collections.defaultdict(set)
  for file in used:
    folder, _, last = file.name.rpartition('/')
    if match := _SHARD.match(last):
      sets[f'{folder}/' * bool(folder), match['set'], int(match['count'])].add(int(match['index']))
  for (folder, name, count), indices in sets.items():
    suffix = used[0].path.suffix
    for index in sorted(set(range(count)) - indices):
      missing = f'{folder}{name}-{index:05d}-of-{count:05d}{suffix}'
      listing.unusable.append((missing, f'is missing: {len(indices)} of {count} files are there'))


# Reading


def _reader(path: Path) -> ModuleType:
  return arrow if path.name.lower().endswith(arrow.SUFFIXES) else parquet


def _columns(used: Sequence[_File], chosen: tuple[str | None, str | None]) -> Columns:
  """Those of the first file that can be read; raises the first error where there is none."""
  errors = []
  for file in used:
    try:
      return _reader(file.path).find_columns(file.path, *chosen)
    except ValueError as error:
      errors.append(error)
  raise errors[0]


def _images(
  used: Sequence[_File],
  columns: Columns,
  chosen: tuple[str | None, str | None],
  options: conversion.Options,
  work_dir: Path,
  listing: Listing,
) -> Iterator[LabelledImage]:
  """Yields the rows of all files; what is wrong with one of these is listed."""

  def table(file: _File) -> tables.Table | ValueError:
    try:
      return _reader(file.path).read(file.path, work_dir, *chosen)
    except ValueError as error:
      return error

  for file, of_file in zip(used, tables.ahead(table, used, options.num_processes), strict=True):
    if isinstance(of_file, tables.Table) and of_file.columns.classes != columns.classes:
      of_file = ValueError(f'its classes are not those of {used[0].name}')
    if isinstance(of_file, ValueError):
      reason = str(of_file).removeprefix(f'{file.path} ').removeprefix(f'{file.path}: ')
      listing.unusable.append((file.name, reason))
    else:
      yield from _rows(file, of_file)


def _rows(file: _File, table: tables.Table) -> Iterator[LabelledImage]:
  names = tables.row_names(file.name.rpartition('.')[0], table.names)
  for name, source, label in zip(names, table.images, table.labels, strict=True):
    yield LabelledImage(name, _label(label), file.split, source)


def _label(cell: Any) -> Any:
  """The label of a cell: a number, text, a tuple of these, or None."""
  if isinstance(cell, list):
    return tuple(_label(value) for value in cell if value is not None)
  return int(cell) if isinstance(cell, bool) else cell
