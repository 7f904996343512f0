"""ImageNet (ILSVRC 2012) from a tree of synset folders.

`train/<wnid>/*.JPEG` and `validation/<wnid>/*.JPEG` (also `val/`), slim's and torchvision's layout.
Labels are 1 .. 1000 in the order of the synset list, 0 is the background; a folder that is missing
or does not belong shifts nothing. Bytes stay as they are, EXIF orientation included, as in
everyone's published numbers; CMYK files become RGB.
"""

import functools
from importlib import resources
from pathlib import Path

from datasets import conversion

NUM_CLASSES = 1001
SPLIT_SIZES = {'train': 1_281_167, 'validation': 50_000}
LAYOUT = 'train/<wnid>/*.JPEG and validation/<wnid>/*.JPEG (or val/)'
_SHARDS = {'train': 1024, 'validation': 128}
_FOLDERS = {'train': ('train',), 'validation': ('validation', 'val')}


@functools.cache
def synsets() -> dict[str, str]:
  """WordNet id -> text of the 1000 classes, in label order: the first has label 1."""
  text = (resources.files('datasets') / 'data' / 'imagenet_synsets.tsv').read_text('utf-8')
  return dict(line.split('\t') for line in text.splitlines())


def labels() -> tuple[str, ...]:
  """Name of each label, 0 .. 1000."""
  return ('background', *synsets().values())


def make_plan(source: str | None, options: conversion.Options) -> conversion.Plan:
  """Finds the synset folders of each split.

  Raises:
    ValueError: there is none, or a fraction to hold out is given.
    OSError: the source is no folder.
  """
  if options.validation_fraction is not None:
    raise ValueError('imagenet has its own validation pictures: leave out --validation_fraction')
  root = conversion.source_folder(source, LAYOUT)
  splits, used, notes = {}, [], []
  for split, names in _FOLDERS.items():
    folders = [root / name for name in names if (root / name).is_dir()]
    if len(folders) > 1:
      raise ValueError(f'{root} holds both validation/ and val/: which is meant?')
    if folders:
      used += folders
      splits[split], of_split = _items(folders[0])
      notes += of_split
    else:
      notes.append(f'no {" or ".join(names)} folder in {source}: {split!r} is not written')
  if not splits:
    raise ValueError(f'no train/, validation/ or val/ in {source}; expected {LAYOUT}')
  return conversion.Plan(
    name='imagenet',
    splits=splits,
    labels=labels(),
    num_shards={split: _SHARDS[split] for split in splits},
    label_offset=1,
    folders=tuple(used),
    notes=tuple(notes),
  )


def _items(folder: Path) -> tuple[list[conversion.Item], list[str]]:
  """The pictures of the synset folders in a folder, and what is odd about them."""
  present = {path.name for path in conversion.subfolders(folder)}
  known = [wnid for wnid in synsets() if wnid in present]
  if not known:
    raise ValueError(f'no synset folder such as n01440764 in {folder}; expected {LAYOUT}')
  notes = []
  if missing := [wnid for wnid in synsets() if wnid not in present]:
    notes.append(
      f'{len(missing)} of 1000 class folders missing in {folder}: {conversion.some(missing)}'
    )
  if surplus := sorted(present - set(known)):
    notes.append(f'folders ignored in {folder}, no class of ImageNet: {conversion.some(surplus)}')
  label = {wnid: index for index, wnid in enumerate(synsets(), start=1)}
  items = [
    conversion.Item(path, conversion.readable(path.name), label[wnid], wnid)
    for wnid in known
    for path in conversion.files_below(folder / wnid)
  ]
  return items, notes


convert = functools.partial(conversion.convert, make_plan)
