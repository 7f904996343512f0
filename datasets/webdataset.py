"""WebDataset: tars in which an image and its label are neighbours, see `samples`.

As timm has ImageNet (`imagenet1k-train-0000.tar`, `_info.json`), as img2dataset writes, as
clip-benchmark has its sets (`train/0.tar`, `classnames.txt`), and as everyone's own shards are. The
label is the number in `.cls`, or else what `.json` says under 'label' or another usual key, or else
the text in `.txt`. Numbers are 0-based, and -1 means that there is none.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from . import conversion, files, folder_layout, label_files, samples, sources, tars
from .listing import Label, LabelledImage, Listing

EXPECTED = 'WebDataset: tars of KEY.jpg, .png or .webp with labels in KEY.cls, .json or .txt'
INFO_FILE = '_info.json'
NAME_FILES = ('classnames.txt', 'class_map.csv', 'classes.txt', 'labels.txt', 'class_map.txt')
LABEL_KEYS = (
  'label', 'labels', 'class', 'classes', 'class_id', 'class_name', 'category', 'target', 'tags',
)  # fmt: skip
SUFFIXES = (*sources.TAR, *sources.COMPRESSED_TAR)
_LOOKED_AT = 100  # members of a tar, to see what it is
_SHARDS_LOOKED_AT = 5
_WNID = re.compile(r'(n\d{8})_')
_MOST_TEXTS = 1000  # different texts: where most images have another one, they are captions


class _SplitInfo(TypedDict, total=False):
  """What timm's `_info.json` says of a split."""

  name: str
  num_samples: int
  filenames: list[str]


class _Info(TypedDict, total=False):
  splits: dict[str, _SplitInfo]


def recognize(paths: Sequence[Path]) -> str | None:
  """Why these are WebDataset: the first tar has an image with its label; see `formats`.

  Or it has labels in .cls, as nothing else has: what is wrong with the rest, `read` says.
  """
  shards = list(_shards(paths))
  for shard in shards[:_SHARDS_LOOKED_AT]:  # the first may be damaged
    for sample in samples.grouped(_first_members(shard)):
      labels = [f'.{extension}' for extension in samples.LABELS if extension in sample]
      if labels and samples.image_in(sample):
        with_labels = f'images with {" and ".join(labels)} beside them'
        which = 'the first' if shard == shards[0] else 'one'
        return f'{len(shards):,} tars, {which} ({files.printable(shard.name)}) of {with_labels}'
  for member in _first_members(shards[0]) if shards else ():
    if member.name.endswith('.cls'):
      return f'{files.printable(shards[0].name)} has the label {files.readable(member.name)}'
  return None


def _first_members(shard: Path) -> list[tars.Member]:
  """Some members of a tar; of a compressed one, their names."""
  if not tars.is_compressed(shard):
    with open(shard, 'rb') as file:
      return tars.first_members(file.fileno(), _LOOKED_AT)
  try:
    names = sources.first_names(shard, _LOOKED_AT)
  except ValueError:
    return []
  return [tars.Member(name, tars.FILE, 0, 0) for name in names]


def read(paths: Sequence[Path], options: conversion.Options, work_dir: Path) -> Listing:
  """Lists the images of all shards, see `formats`.

  Raises:
    ValueError: `_info.json` is damaged, or a label is none.
  """
  others = [name for name in conversion.OF_LISTS if name != 'label_column']
  conversion.refuse(options, 'WebDataset is no list of images', *others)
  shards = list(_shards(paths))
  if not shards:
    raise ValueError(f'no tars in {", ".join(map(str, paths))}; expected {EXPECTED}')
  listing = Listing((), folders=tuple(path for path in paths if path.is_dir()))
  listing.images = _images(shards, options, work_dir, listing)
  return listing


def _shards(paths: Sequence[Path]) -> Iterator[Path]:
  """The tars among the paths, and those in the folders among them, by name."""
  for path in paths:
    if not path.is_dir():
      yield from [path] if path.name.lower().endswith(SUFFIXES) else []
      continue
    for entry in sources.walk_folder(path):
      if isinstance(entry.source, sources.File) and entry.source.name.lower().endswith(SUFFIXES):
        yield Path(entry.source.folder, entry.source.name)


def _images(
  shards: Sequence[Path], options: conversion.Options, work_dir: Path, listing: Listing
) -> Iterator[LabelledImage]:
  folders = sorted({shard.parent for shard in shards} | {shard.parent.parent for shard in shards})
  info = _read_info(folders)
  split_of = _splits(info, shards, listing)
  prefixes = _prefixes(shards)
  labels = _Labels(options.label_column)
  counts: dict[str, int] = {}
  without_image, unpaired = 0, ''
  for shard in shards:
    split = split_of.get(shard.name) or _split_by_name(shard)
    path, damage = (
      tars.decompressed(shard, work_dir) if tars.is_compressed(shard) else (shard, None)
    )
    prefix, where = prefixes[shard], os.fspath(path)
    try:
      with open(path, 'rb') as file:
        descriptor = file.fileno()
        for sample in samples.grouped(tars.members(descriptor)):
          member = samples.image_in(sample)
          if member is None:
            without_image += any(extension in sample for extension in samples.LABELS)
            unpaired = unpaired or files.some(each.name for each in sample.values())
            continue
          if not files.is_visible(os.path.basename(member.name)):
            continue
          label = labels.of(sample, descriptor, where)
          labels.learn(label, member.name)
          counts[split] = counts.get(split, 0) + 1
          name = f'{prefix}/{files.readable(member.name)}'
          yield LabelledImage(name, label, split, sources.source_of(member, where))
    except tars.DamagedError as error:
      damage = damage or str(error)
    if damage:
      listing.unusable.append(
        (files.readable(shard), f'a tar that is cut short or damaged: {damage}')
      )
  labels.refuse_captions()
  if without_image:
    listing.notes.append(f'{without_image:,} samples have a label but no image')
  if not counts and unpaired:
    listing.notes.append(
      'there is no image: what belongs together is called alike up to the first dot (KEY.jpg, '
      f'KEY.cls), but the first sample has {files.readable(unpaired)}'
    )
  listing.notes += labels.note_of_keys()
  for split, said in info.items():
    number = counts.get(folder_layout.split_of(split) or split, 0)
    if said.get('num_samples', number) != number:
      listing.notes.append(f'{split}: {number:,} images, {INFO_FILE} says {said["num_samples"]:,}')
  listing.class_names = _names_in(folders, listing.notes) or labels.synsets()


def _prefixes(shards: Sequence[Path]) -> dict[Path, str]:
  """What names of images begin with: the shard, for keys may begin anew in each, and its folder
  where that is needed."""
  stems = {shard: files.readable(shard.name.partition('.')[0]) for shard in shards}
  if len(set(stems.values())) < len(shards):
    root = Path(os.path.commonpath([shard.parent for shard in shards]))
    stems = {
      shard: files.readable((shard.parent / stem).relative_to(root).as_posix())
      for shard, stem in stems.items()
    }
  return stems


# Splits


def _read_info(folders: Sequence[Path]) -> dict[str, _SplitInfo]:
  for folder in folders:
    info = files.read_json(folder / INFO_FILE, _Info)
    if info:
      return info.get('splits', {})
  return {}


def _splits(
  info: dict[str, _SplitInfo], shards: Sequence[Path], listing: Listing
) -> dict[str, str]:
  """The split of each shard of which `_info.json` says it; missing shards are noted."""
  split_of: dict[str, str] = {}
  present = {shard.name for shard in shards}
  for name, said in info.items():
    split = folder_layout.split_of(said.get('name', name)) or folder_layout.split_of(name)
    filenames = [os.path.basename(filename) for filename in said.get('filenames', [])]
    if missing := sorted(set(filenames) - present):
      listing.notes.append(
        f'{len(missing):,} of {len(filenames):,} tars of {name!r} that {INFO_FILE} lists are not '
        f'there: {files.some(missing)}'
      )
    split_of |= {filename: split for filename in filenames if split}
  return split_of


def _split_by_name(shard: Path) -> str:
  of_folders = (
    folder_layout.split_of(name) for name in (shard.parent.name, shard.parent.parent.name)
  )
  return folder_layout.split_in(shard.name) or next(filter(None, of_folders), '')


# Labels


class _Labels:
  """Finds the labels of samples: all in the way of the first that has one."""

  def __init__(self, key: str | None) -> None:
    self._key = key  # in .json
    self._other_keys: list[str] = []  # of the first .json that has none of the usual ones
    self._synset_of: dict[int, str | None] = {}  # a number -> the synset in keys; None: several
    self._texts: set[str] = set()
    self._num_texts = 0

  def of(
    self, sample: dict[str, tars.Member], descriptor: int, path: str
  ) -> Label | tuple[Label, ...] | None:
    """The label of a sample; None where it has none.

    Raises:
      ValueError: what should be one is none.
    """
    if 'cls' in sample and self._key is None:
      return samples.class_of(descriptor, sample['cls'], path)
    if 'json' in sample:
      label = self._in_json(samples.text_of(descriptor, sample['json'], path), path, sample['json'])
      if label is not None:
        return label
    if 'txt' in sample and self._key is None:
      text = samples.text_of(descriptor, sample['txt'], path)
      self._num_texts += 1
      if len(self._texts) <= _MOST_TEXTS:
        self._texts.add(text)
      return text or None
    return None

  def _in_json(self, text: str, path: str, member: tars.Member) -> Label | tuple[Label, ...] | None:
    try:
      content = json.loads(text)
    except (ValueError, RecursionError):
      raise ValueError(f'{path}: {member.name} is no valid JSON') from None
    if not isinstance(content, dict):
      content = {'label': content}
    if self._key is None:
      self._key_of_all(content)
    return label_of_json(content.get(self._key or ''), f'{path}: {member.name}')

  def _key_of_all(self, content: dict[str, Any]) -> None:
    self._key = next((key for key in LABEL_KEYS if key in content), None)
    self._other_keys = self._other_keys or list(content)

  def note_of_keys(self) -> list[str]:
    """What to say where .json has no usual key."""
    if self._key is not None or not self._other_keys:
      return []
    keys = files.some(self._other_keys, 20)
    return [f'the .json have no label under a usual key: --label_column names one of {keys}']

  def learn(self, label: object, name: str) -> None:
    """Takes note of the synset in the key of an image that has a number."""
    if isinstance(label, int) and label >= 0:
      match = _WNID.match(name, name.rfind('/') + 1)
      wnid = match[1] if match else None
      if self._synset_of.setdefault(label, wnid) != wnid:
        self._synset_of[label] = None

  def synsets(self) -> list[str] | None:
    """Names of numbers: the synsets of keys, where each number has one."""
    if not self._synset_of or None in self._synset_of.values():
      return None
    return [self._synset_of.get(label) or str(label) for label in range(max(self._synset_of) + 1)]

  def refuse_captions(self) -> None:
    if len(self._texts) > _MOST_TEXTS and self._num_texts < 2 * len(self._texts):
      raise ValueError(
        f'the .txt beside the images are no classes: {len(self._texts):,} different ones of '
        f'{self._num_texts:,} images; they seem to be captions'
      )


def label_of_json(value: Any, where: str) -> Label | tuple[Label, ...] | None:
  """A label, or several, of JSON.

  Raises:
    ValueError: it is neither a text nor a whole number, nor a list of such.
  """
  if isinstance(value, list):
    return tuple(_one_of_json(each, where) for each in value)
  return None if value in (None, '') else _one_of_json(value, where)


def _one_of_json(value: Any, where: str) -> Label:
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, (int, str)):
    raise ValueError(f'{where} has the label {value!r:.40}: expected a number or a name')
  return value


# Names of classes


def _names_in(folders: Sequence[Path], notes: list[str]) -> list[str] | None:
  """The names in a file of classes beside the shards."""
  for path in (folder / name for folder in folders for name in NAME_FILES):
    if path.is_file():
      names = read_class_map(path) if path.suffix == '.csv' else label_files.read_labels(path)
      notes.append(f'the names of {len(names):,} classes are those of {path}')
      return [names.get(label, str(label)) for label in range(max(names) + 1)]
  return None


def read_class_map(path: Path) -> dict[int, str]:
  """Names of classes from a CSV with a column of numbers 0 .. N - 1 and one of names.

  Raises:
    ValueError: it has no such columns.
  """
  rows = [row for row in csv.reader(io.StringIO(files.read_text(path), newline='')) if row]
  for of_numbers in range(len(rows[0]) if rows else 0):
    body = rows if rows[0][of_numbers].isdecimal() else rows[1:]
    numbers = [row[of_numbers] if len(row) > of_numbers else '' for row in body]
    if all(map(str.isdecimal, numbers)) and sorted(map(int, numbers)) == list(range(len(body))):
      of_names = 0 if of_numbers else 1
      if body and all(len(row) > of_names for row in body):
        return {int(row[of_numbers]): row[of_names] for row in body}
  raise ValueError(f'{path} has no column of numbers 0, 1, 2, ... with one of names beside it')
