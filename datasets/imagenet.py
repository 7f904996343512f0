"""ImageNet (ILSVRC 2012), in whatever form people have it.

The official tars, synset folders (slim's raw layout, torchvision's), Kaggle's tree or zip, a flat
folder of the validation images, Hugging Face's tables: `sources.walk` makes one tree of
paths of any of them, and the rules of `_parse_path` say of each path which split and class it is.

Labels are 1 .. 1000 in the order of the synset list, 0 is the background; they come from the
synset, so that a folder that is missing or does not belong shifts nothing. JPEGs keep their bytes,
EXIF orientation included, as in everyone's published numbers; CMYK and PNG files become RGB JPEGs.
"""

import collections
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from . import conversion, files, folder_layout, huggingface, imagenet_boxes, shard_job, sources
from .images import BadImageError

NUM_CLASSES = 1001
SPLIT_SIZES = {'train': 1_281_167, 'validation': 50_000}
EXPECTED = (
  "the official tars, train/<wnid>/*.JPEG with validation/ or val/, Kaggle's tree or zip, "
  "or Hugging Face's parquet or Arrow files; several paths with commas between"
)
_SHARDS = {'train': 1024, 'validation': 128}
_FEWEST_SHARDS = {'train': 4, 'validation': 1}  # several, for several readers and workers
_SPLIT_FOLDERS = {
  'train': 'train', 'training': 'train', 'validation': 'validation', 'valid': 'validation',
  'val': 'validation', 'test': 'test', 'testing': 'test',
}  # fmt: skip
_SPLIT_NAMES = {'ILSVRC2012_val_': 'validation', 'ILSVRC2012_test_': 'test'}
_WNID = re.compile(r'n\d{8}')
_VALIDATION = re.compile(r'ILSVRC2012_val_(\d{8})')
_WNID_SUFFIX = re.compile(r'_(n\d{8})(?=\.\w+$)')  # Hugging Face: n01440764_10026_n01440764.JPEG
_SLIM_LABELS = 'imagenet_2012_validation_synset_labels.txt'
_IMAGES = ('.jpeg', '.jpg', '.png')
_CONTRADICTION = 'images whose folder is of another class than their name; the folder counts'
_BOXES_TWICE = 'images whose boxes are given twice; the first are taken'
_NO_IMAGES = ('.xml', '.csv', '.txt', '.md', '.mat', '.html', '.sh', '.cls', '.json')
_SHARD_NUMBER = re.compile(r'\d+(?=\.tar$)')  # of WebDataset's imagenet1k-train-0003.tar
# Of the archives, of timm's WebDataset and of Kaggle's list.
_OFFICIAL = re.compile(
  r'ILSVRC2012_(img_(train|val)|val_\d{8})|imagenet1k-(train|validation)-\d+\.tar'
  r'|LOC_(val_solution|synset_mapping)|imagenet-object-localization-challenge'
)
_KAGGLE_FOLDER = 'ILSVRC/Data/CLS-LOC/train'
_BOXLESS = 'lists without a box: lines name,xmin,ymin,xmax,ymax are expected'


def read_data(name: str) -> str:
  """A text file of the folder `data`."""
  return (resources.files(__package__) / 'data' / name).read_text('utf-8')


@functools.cache
def synsets() -> dict[str, str]:
  """WordNet id -> text of the 1000 classes, in label order: the first has label 1."""
  lines = read_data('imagenet_synsets.tsv').splitlines()
  return dict(line.split('\t') for line in lines)


@functools.cache
def labels_by_synset() -> dict[str, int]:
  """WordNet id -> label, 1 to 1000."""
  return {wnid: label for label, wnid in enumerate(synsets(), start=1)}


@functools.cache
def validation_synsets() -> tuple[str, ...]:
  """Synset of ILSVRC2012_val_00000001 and of the 49,999 after it."""
  return tuple(read_data(_SLIM_LABELS).split())


def labels() -> tuple[str, ...]:
  """Name of each label, 0 .. 1000."""
  return ('background', *synsets().values())


# Finding


def recognize(paths: Sequence[Path]) -> str | None:
  """Why this is ImageNet: an official name, or most of its synsets; see `formats`.

  A part of its classes alone, e.g. Imagenette, is a data set of its own, with labels from 0.
  """
  for path in paths:
    if _OFFICIAL.match(path.name):
      return f'the name of {path.name}'
    for folder in [path, *(path / name for name in ('train', 'data')), path / _KAGGLE_FOLDER]:
      if not folder.is_dir():
        continue
      names = [name for name in os.listdir(folder) if files.is_visible(name)]
      if official := sorted(filter(_OFFICIAL.match, names)):
        return f'the name of {official[0]}'
      stems = {name.removesuffix('.tar') for name in names}
      if len(own := stems & synsets().keys()) > len(synsets()) // 2:
        return f'{len(own):,} of its 1,000 synsets in {files.printable(folder)}'
  if is_own(huggingface.class_names(paths)):
    return 'the names of its 1,000 classes'
  return None


def is_own(names: Sequence[str] | None) -> bool:
  """Whether these are the texts or synsets of all classes, from label 0 on.

  The texts of others differ in a few synonyms.
  """
  pairs = zip(names or (), synsets().items(), strict=False)
  equal = sum(name.split(',')[0] in (wnid, text.split(',')[0]) for name, (wnid, text) in pairs)
  return len(names or ()) == len(synsets()) and equal > 0.9 * len(synsets())


class _PathParts(NamedTuple):
  """What the path of an image says; '' where it does not."""

  split: str  # 'train', 'validation' or 'test'
  root: str  # folder of the split
  wnid: str  # class
  filename: str  # the last part, without the class that Hugging Face puts there
  named: str  # the class that the file name says


def _parse_path(path: str) -> _PathParts:
  """Reads a path from its end: file name, class folder (or class tar), folder of the split."""
  folder, _, name = path.rpartition('/')
  split, root, wnid = _parse_folder(folder)
  filename, named = name, ''
  if suffix := _WNID_SUFFIX.search(name):
    filename = name[: suffix.start()] + name[suffix.end() :]
    named = suffix[1]
  elif _WNID.match(name):
    named = name[:9]  # n01440764_10026.JPEG
  for start, by_name in _SPLIT_NAMES.items():
    if name.startswith(start):
      split = by_name
  if not split and (wnid or named):
    split = 'train'
  return _PathParts(split, root, wnid or named, filename, named)


@functools.lru_cache(16)  # files come folder by folder
def _parse_folder(folder: str) -> tuple[str, str, str]:
  """What a folder says: split, folder of the split, class; '' where it does not."""
  folders = folder.split('/')
  names = [name.removesuffix('.tar') for name in folders]
  classes = [i for i, name in enumerate(names) if _WNID.fullmatch(name)]
  wnid = names[classes[-1]] if classes else ''
  splits = [i for i, name in enumerate(folders) if name.lower() in _SPLIT_FOLDERS]
  if splits:
    last = splits[-1]
    return _SPLIT_FOLDERS[folders[last].lower()], '/'.join(folders[: last + 1]), wnid
  root = '/'.join(folders[: classes[-1]] if classes else folders)
  shards = _SHARD_NUMBER.sub('*', root)
  split = folder_layout.split_in(names[-1]) if shards != root and not classes else None
  return split or '', shards, wnid


class _Contents:
  """What the sources hold, sorted by what it is."""

  def __init__(self) -> None:
    # Of each split: images, their names, and the one folder or archive where they lie -> the first.
    self.items: dict[str, list[conversion.Item]] = {'train': [], 'validation': []}
    self.names: dict[str, set[str]] = {'train': set(), 'validation': set()}
    self.roots: dict[str, dict[str, str]] = {'train': {}, 'validation': {}}
    # Validation images whose class no folder says, with the folder that their paths begin in.
    self.flat: list[tuple[str, _PathParts, sources.Entry]] = []
    self.listed: dict[str, str] = {}  # their names without extension -> synset, from a list
    self.boxes: dict[str, bytes] = {}  # image, without extension -> packed boxes
    self.ignored: dict[str, list[str]] = collections.defaultdict(list)  # reason -> names


def make_plan(source: str | None, options: conversion.Options, work_dir: Path) -> conversion.Plan:
  """Finds the images, their classes and boxes in all of the sources, see `conversion.MakePlan`.

  A ValueError also says that two sources hold the same split, or that lists contradict each other.
  """
  conversion.refuse(options, 'the classes of ImageNet are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  conversion.refuse(options, 'imagenet has its own validation images', 'validation_fraction')
  paths = sources.expand(source, EXPECTED)
  contents = _Contents()
  for path in paths:
    base = os.path.dirname(os.path.abspath(path))
    links: list[str] = []
    _sort(sources.walk(path, work_dir, links), base, contents)
    contents.ignored[sources.NOT_FOLLOWED] += links
  _add_flat_validation(contents)
  splits = {split: items for split, items in contents.items.items() if items}
  if not splits:
    ignored = '; '.join(_ignored(contents)) or 'nothing that looks like one'
    raise ValueError(f'no images of ImageNet in {source} ({ignored}); expected {EXPECTED}')
  return conversion.Plan(
    name='imagenet',
    splits=splits,
    labels=labels(),
    num_shards={split: num_shards(split, items) for split, items in splits.items()},
    label_offset=1,
    synsets=('', *synsets()),
    boxes=contents.boxes,
    as_slim=True,
    notes=tuple(_notes(contents)),
  )


def num_shards(split: str, items: list[conversion.Item]) -> int:
  """slim's number for the whole set; for a part of it as many images a shard as slim's have."""
  count = conversion.num_shards(items, SPLIT_SIZES[split] / _SHARDS[split], _FEWEST_SHARDS[split])
  return min(count, _SHARDS[split])


def _sort(entries: Iterable[sources.Entry], base: str, contents: _Contents) -> None:
  """Puts every file of one source, which lies in the folder `base`, where it belongs."""
  for entry in entries:
    parts = _parse_path(entry.path)
    if parts.filename.endswith(_NO_IMAGES):
      _read_list(entry, parts.filename, contents)
      continue
    if entry.archive and parts.split:
      raise ValueError(
        f'{entry.archive} is compressed, so that its images cannot be read in place: '
        f'unpack it (tar -xzf) and give the folder'
      )
    wnid = parts.wnid
    if entry.label is not None and entry.label >= 0:
      wnid = _synset_of(entry.path, entry.label, parts.wnid)
    if parts.split == 'test':
      contents.ignored['test images, which have no labels'].append(parts.filename)
    elif parts.split == 'validation' and not wnid:
      contents.flat.append((base, parts, entry))
    elif parts.split and wnid in synsets():
      if parts.named not in ('', wnid):
        contents.ignored[_CONTRADICTION].append(parts.filename)
      _add(contents, base, parts, entry, wnid)
    elif parts.split:
      contents.ignored['images in folders that are no class of ImageNet'].append(wnid or entry.path)
    elif parts.filename.lower().endswith(_IMAGES):
      contents.ignored['images whose split and class nothing says'].append(entry.path)


def _add(
  contents: _Contents, base: str, parts: _PathParts, entry: sources.Entry, wnid: str
) -> None:
  root, roots = f'{base}/{parts.root}', contents.roots[parts.split]
  if roots and root not in roots:
    raise ValueError(
      f'more than one source holds {parts.split!r} images: {next(iter(roots))}, {root}: '
      'give one of them'
    )
  if parts.filename in contents.names[parts.split]:
    raise ValueError(
      f'{parts.filename} is there twice for {parts.split!r}, the second time as '
      f'{base}/{entry.path}: give each image once'
    )
  contents.names[parts.split].add(parts.filename)
  roots.setdefault(root, f'{base}/{entry.path}')
  item = conversion.Item(parts.filename, labels_by_synset()[wnid], entry.source)
  contents.items[parts.split].append(item)


def _synset_of(path: str, label: int, wnid: str) -> str:
  """The synset of a number 0 .. 999 in a table, compared with the one in the file name."""
  if label >= len(synsets()):
    raise ValueError(f'{path}: label {label}; ImageNet has 0 .. 999')
  by_number = list(synsets())[label]
  if wnid not in ('', by_number):
    raise ValueError(f'{path}: label {label} is {by_number}, its name says {wnid}')
  return by_number


def _read_list(entry: sources.Entry, name: str, contents: _Contents) -> None:
  """Reads annotations, boxes and lists of the validation images; other texts are passed over."""
  stem = shard_job.stem(name)
  if name.endswith('.xml'):
    try:
      wnid = _official_synset(stem) or stem.split('_')[0]
      boxes = imagenet_boxes.read_annotation(entry.source.read(), wnid, synsets())
    except ValueError:
      contents.ignored['annotations that cannot be read'].append(name)
      return
    if stem in contents.boxes:
      contents.ignored[_BOXES_TWICE].append(name)
    elif boxes:
      contents.boxes[stem] = boxes
    return
  is_boxes = name.endswith('.csv') and not name.startswith('LOC_') and name not in _LISTS
  if name not in _LISTS and not is_boxes:
    return
  try:
    content = entry.source.read()
  except BadImageError as error:
    contents.ignored['lists that cannot be read'].append(f'{entry.path} ({error})')
    return
  if is_boxes:
    _add_boxes(entry.path, content, contents)
  else:
    lines = files.decoded(content, 'replace').splitlines()
    _add_listed(entry.path, _LISTS[name](lines), contents)


def _add_boxes(path: str, content: bytes, contents: _Contents) -> None:
  """Takes slim's CSV, but for images that have boxes already."""
  boxes: dict[str, bytes] = collections.defaultdict(bytes)
  try:
    for image, box in imagenet_boxes.read_csv(content):
      boxes[shard_job.stem(image)] += box
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  if not any(boxes.values()):
    contents.ignored[_BOXLESS].append(path)
  contents.ignored[_BOXES_TWICE] += boxes.keys() & contents.boxes.keys()
  contents.boxes = {**boxes, **contents.boxes}


# Validation images: ImageNet numbers them, and says apart what they show.


def _official_synset(stem: str) -> str | None:
  match = _VALIDATION.fullmatch(stem)
  number = int(match[1]) if match else 0
  return validation_synsets()[number - 1] if 1 <= number <= SPLIT_SIZES['validation'] else None


def _slim_labels(lines: list[str]) -> dict[str, str]:
  return {f'ILSVRC2012_val_{i:08d}': wnid for i, wnid in enumerate(' '.join(lines).split(), 1)}


def _kaggle_labels(lines: list[str]) -> dict[str, str]:
  """ImageId,PredictionString with lines ILSVRC2012_val_00048981,n03995372 85 1 499 272 ..."""
  pairs = [line.replace(',', ' ').split() for line in lines if not line.startswith('ImageId,')]
  return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}


def _caffe_labels(lines: list[str]) -> dict[str, str]:
  """Lines ILSVRC2012_val_00000001.JPEG 65, labels 0 .. 999; {} where the number only counts lines.

  Kaggle's val.txt has ILSVRC2012_val_00000001 1, ILSVRC2012_val_00000002 2, ...
  """
  pairs = [line.split() for line in lines if line.strip()]
  if any(len(pair) != 2 or not pair[1].isdecimal() for pair in pairs):
    return {}
  stems = [Path(name).name.split('.')[0] for name, _ in pairs]
  numbers = [int(number) for _, number in pairs]
  own = [int(match[1]) if (match := _VALIDATION.fullmatch(stem)) else None for stem in stems]
  if numbers == own or max(numbers, default=0) >= len(synsets()):
    return {}
  order = list(synsets())
  return {stem: order[number] for stem, number in zip(stems, numbers, strict=True)}


def _tiny_labels(lines: list[str]) -> dict[str, str]:
  """Tiny ImageNet's lines val_0.JPEG n03444034 0 32 44 62, of classes that ImageNet has too."""
  pairs = [line.split()[:2] for line in lines if len(line.split()) == 6]
  return {shard_job.stem(name): wnid for name, wnid in pairs if wnid in synsets()}


_LISTS = {
  'LOC_val_solution.csv': _kaggle_labels,
  'val.txt': _caffe_labels,
  'val_annotations.txt': _tiny_labels,
  _SLIM_LABELS: _slim_labels,
}


def _add_listed(path: str, synset_of: Mapping[str, str], contents: _Contents) -> None:
  """Takes a list of the classes of validation images, if it agrees with ImageNet's."""
  for stem, wnid in synset_of.items():
    official = _official_synset(stem)
    if wnid not in synsets() or official not in (None, wnid):
      raise ValueError(
        f'{path} says {stem} is {wnid}; it is {official or "no image of ImageNet"} '
        "(the devkit's own numbering is not alphabetical)"
      )
  contents.listed.update(synset_of)


def _add_flat_validation(contents: _Contents) -> None:
  for base, parts, entry in contents.flat:
    stem = shard_job.stem(parts.filename)
    wnid = contents.listed.get(stem) or _official_synset(stem)
    if wnid:
      _add(contents, base, parts, entry, wnid)
    else:
      reason = 'validation files whose class no folder and no list says'
      contents.ignored[reason].append(parts.filename)
  contents.flat.clear()


# What to say before hours are spent


def _notes(contents: _Contents) -> list[str]:
  notes = []
  for split, items in contents.items.items():
    if not items:
      notes.append(f'no {split} images in the source: {split!r} is not written')
      continue
    ((root, first),) = contents.roots[split].items()
    notes.append(f'{split}: {_layout(root, first)} {root}, {len(items):,} images')
    notes += conversion.size_notes('ImageNet', {split: items}, SPLIT_SIZES)
    present = {item.label for item in items}
    missing = [wnid for wnid, label in labels_by_synset().items() if label not in present]
    if missing:
      notes.append(f'no {split} images of {len(missing)} of 1000 classes: {files.some(missing)}')
  order = list(synsets())
  elsewhere = [
    item.filename
    for item in contents.items['validation']
    if _official_synset(shard_job.stem(item.filename))
    not in (None, order[shard_job.labels_of(item)[0] - 1])
  ]
  if elsewhere:
    notes.append(
      f'{len(elsewhere)} validation images lie in folders of another class than ImageNet says; '
      f'the folder counts: {files.some(elsewhere)}'
    )
  notes += _ignored(contents)
  if contents.boxes:
    with_boxes = sum(
      shard_job.stem(item.filename) in contents.boxes
      for items in contents.items.values()
      for item in items
    )
    notes.append(
      f'boxes of {len(contents.boxes):,} images, of which {with_boxes:,} are in the source'
    )
  return notes


def _ignored(contents: _Contents) -> list[str]:
  return [
    f'{len(names):,} {reason}: {files.some(sorted(set(names)))}'
    for reason, names in contents.ignored.items()
    if names
  ]


def _layout(root: str, first: str) -> str:
  """What the root of a split is, in words."""
  below = first.split('/')[root.count('/') + 1 :]
  by_class = 'class tars in ' if below[0].lower().endswith(sources.TAR) else 'class folders in '
  archives = [kind for kind in ('tar', 'zip', 'parquet', 'arrow') if f'.{kind}' in root]
  return f'{by_class if len(below) > 1 else ""}{archives[-1] if archives else "folder"}'


convert = functools.partial(conversion.convert, make_plan)
