"""Anyone's own images: one folder a class, no code.

Either `root/<class>/*.jpg`, of which a share is held out for validation, or `root/train/<class>/`
and `root/validation/<class>/` (also `val/`), which are used as they are. Classes are numbered
from 0 in the order of their names. Photos are turned upright (EXIF).
"""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

from . import conversion, files, sources

LAYOUT = 'a folder of class folders (<class>/*.jpg), or train/ and validation/ with class folders'
DEFAULT_VALIDATION_FRACTION = 0.1
_IMAGES_PER_SHARD = 1000


def make_plan(
  source: str | None, options: conversion.Options, work_dir: Path | None = None
) -> conversion.Plan:
  """Finds classes and images, see `conversion.MakePlan`; splits must have the same classes."""
  root = files.source_path(source, LAYOUT, is_folder=True)
  train, validation = _split_folders(root)
  classes = _classes(train)
  items = _items(train, classes, root)
  notes = [
    f'no images in class folder {files.readable(name)!r}'
    for name, of_class in items.items()
    if not of_class
  ]
  if validation:
    if options.validation_fraction is not None:
      raise ValueError(
        f'{source} has its own {validation.name}/ folder: leave out --validation_fraction'
      )
    _check_same({'train': set(classes), validation.name: set(_classes(validation))})
    held_out = _items(validation, classes, root)
  else:
    fraction = options.validation_fraction
    fraction = DEFAULT_VALIDATION_FRACTION if fraction is None else fraction
    items, held_out = _hold_out(items, fraction, options.seed)

  splits = {'train': list(itertools.chain(*items.values()))}
  if any(held_out.values()):
    splits['validation'] = list(itertools.chain(*held_out.values()))
  return conversion.Plan(
    name='image_folder',
    splits=splits,
    labels=tuple(map(files.readable, classes)),
    # Several files even for a small training set, so that several readers and workers share it.
    num_shards={
      name: max(4 if name == 'train' else 1, len(of_split) // _IMAGES_PER_SHARD)
      for name, of_split in splits.items()
    },
    upright=True,
    folders=(train, validation) if validation else (train,),
    notes=tuple(notes),
  )


def _split_folders(root: Path) -> tuple[Path, Path | None]:
  """The folders that hold the classes for training and, if it has its own, for validation.

  A folder `train` without folders in it is a class of that name.
  """
  train = root / 'train'
  if not train.is_dir() or not files.subfolders(train):
    return root, None
  held_out = [root / name for name in ('validation', 'val') if (root / name).is_dir()]
  if len(held_out) > 1:
    raise ValueError(f'{root} holds both validation/ and val/: which is meant?')
  return train, held_out[0] if held_out else None


def _classes(folder: Path) -> list[str]:
  classes = [path.name for path in files.subfolders(folder)]
  if not classes:
    raise ValueError(f'no class folders in {folder}; expected {LAYOUT}')
  return classes


def _check_same(classes: Mapping[str, set[str]]) -> None:
  common = set.intersection(*classes.values())
  differences = [
    f'only in {folder}/: {files.some(sorted(names - common))}'
    for folder, names in classes.items()
    if names - common
  ]
  if differences:
    raise ValueError(f'{"/ and ".join(classes)}/ differ in their classes; {"; ".join(differences)}')


def _items(folder: Path, classes: list[str], root: Path) -> dict[str, list[conversion.Item]]:
  return {
    name: [
      conversion.Item(entry.path, label, entry.source)
      for entry in sources.walk_folder(
        folder / name, files.readable((folder / name).relative_to(root)) + '/'
      )
    ]
    for label, name in enumerate(classes)
  }


def _hold_out(
  items: Mapping[str, list[conversion.Item]], fraction: float, seed: int
) -> tuple[dict[str, list[conversion.Item]], dict[str, list[conversion.Item]]]:
  """Holds a share of each class out: at least one image where it has two or more."""
  train, validation = {}, {}
  for name, of_class in items.items():
    count = round(len(of_class) * fraction)
    if fraction and len(of_class) > 1:
      count = min(max(count, 1), len(of_class) - 1)
    ordered = conversion.shuffled(of_class, seed, 'split')
    validation[name], train[name] = ordered[:count], ordered[count:]
  return train, validation


convert = functools.partial(conversion.convert, make_plan)
