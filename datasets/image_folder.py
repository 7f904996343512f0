"""Anyone's own images: one folder a class, no code.

Either `root/<class>/*.jpg`, of which a share is held out for validation, or `root/train/<class>/`
with `validation/` and `test/` beside it, under any name that `folder_layout` knows. Classes are
numbered from 0 in the order of their names, numbers (0, 1, 2, ..., 10) as numbers. Photos are
turned upright (EXIF). Copies of an image come to one side of the share that is held out.

Archives are folders too (`trees`): class folders in a zip or tar, with or without those of splits,
and a tar or zip for each class, in a folder or a tar, as ImageNet-21k comes.
"""

import functools
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import conversion, duplicates, files, folder_layout, holdout, listing, sources, trees
from .conversion import Item
from .folder_layout import LAYOUT, Layout
from .trees import Tree

_SYNSET = re.compile(r'n\d{8}')
_MOST_LOOKED_AT = 1000  # entries of a folder, until the first image
_ByClass = dict[str, list[Item]]  # name of the folder -> what lies in it


def recognize(paths: Sequence[Path]) -> str | None:
  """Why this is a folder of class folders: the first one with an image in it; see `formats`."""
  if _is_on_disk(paths) and (image := image_in_folders(paths[0])):
    return f'a folder of folders, with the image {image}'
  for archive in itertools.islice(_archives(paths), 1):
    if image := _image_in_archive(archive):
      return f'{files.printable(archive.name)} is an archive with the image {image} in it'
  return None


def recognize_name(paths: Sequence[Path]) -> str | None:
  """Which file is an archive by its name, whatever is in it."""
  first = next(_archives(paths), None)
  return None if first is None else f'{files.printable(first.name)} is an archive by its name'


def _is_on_disk(paths: Sequence[Path]) -> bool:
  return len(paths) == 1 and paths[0].is_dir()


def image_in_folders(root: Path) -> str | None:
  """The first image in a folder below `root`, as far as one looks."""
  for folder in files.subfolders(root):
    for entry in itertools.islice(sources.walk_folder(folder), _MOST_LOOKED_AT):
      if sources.IMAGE_SUFFIX.search(entry.path):
        return f'{_name(folder, root)}/{entry.path}'
  return None


def _archives(paths: Sequence[Path]) -> Iterator[Path]:
  """The archives among some paths, or in the folder that is the only one."""
  if not _is_on_disk(paths):
    yield from (
      path for path in paths if path.is_file() and path.name.lower().endswith(trees.SUFFIXES)
    )
    return
  for entry in itertools.islice(sources.walk_folder(paths[0]), _MOST_LOOKED_AT):
    if isinstance(entry.source, sources.File) and entry.source.name.lower().endswith(
      trees.SUFFIXES
    ):
      yield Path(entry.source.folder, entry.source.name)


def _image_in_archive(path: Path) -> str | None:
  """The first image of an archive, as far as one looks; compressed tars are looked into too."""
  try:
    names = sources.first_names(path, _MOST_LOOKED_AT)
  except (ValueError, OSError):
    return None
  return next((name for name in names if sources.IMAGE_SUFFIX.search(name)), None)


def make_plan(
  source: str | None, options: conversion.Options, work_dir: Path | None = None
) -> conversion.Plan:
  """Finds splits, classes and images, see `conversion.MakePlan`."""
  conversion.refuse(options, f'{source} is no list of images', *conversion.OF_LISTS)
  paths = sources.expand(source, LAYOUT)
  tree, root = _tree(paths, work_dir)
  try:
    return _plan_of(source, options, tree, root)
  except ValueError as error:
    unusable = tree.unusable if isinstance(tree, trees.Archives) else []
    for file, reason in unusable[:1]:  # e.g. it is cut short, and so classes are missing
      raise ValueError(f'{error} ({file}: {reason})') from error
    raise


def _plan_of(
  source: str | None, options: conversion.Options, tree: Tree, root: Path
) -> conversion.Plan:
  """The plan of what lies in a tree."""
  layout = folder_layout.find(root, tree)
  notes = list(layout.notes)
  if tree is trees.DISK and (archives := sorted(filter(_is_archive, tree.names(root)))):
    notes.append(f'not read, since folders of images lie beside them: {files.some(archives)}')
  images = _images_of_splits(layout, root, tree, notes)
  classes = _classes(images, layout, root, tree, notes)
  labels = listing.names_in(options.labels, classes) if options.labels else classes
  _check_folders_in_classes(images['train'], classes, layout.splits['train'], root, notes)
  items = {split: _labelled(of_split, labels) for split, of_split in images.items()}
  items = {'train': items['train']} | {
    split: of_split
    for split, of_split in items.items()
    if split != 'train' and _is_used(split, images[split], classes, layout, notes)
  }
  if all(map(_SYNSET.fullmatch, labels)):
    notes.append(
      f'labels are 0 to {len(labels) - 1:,} in the order of the synsets, without a background'
    )
  copies = duplicates.find(item for of_split in items.values() for item in _all(of_split))
  if options.split:
    conversion.refuse(options, '--split holds nothing out', 'validation_fraction')
    if not layout.names['train']:
      items = {options.split: items['train']}
  elif 'validation' not in items:
    items |= _hold_out(items['train'], options, copies, notes)
  elif options.validation_fraction is not None:
    name = layout.names['validation']
    raise ValueError(f'{source} has its own {name}/ folder: leave out --validation_fraction')
  notes += holdout.notes_of_copies(copies, {split: _all(items[split]) for split in items})

  are_splits_here = layout.names['train'] and layout.splits['train'].parent == root
  splits = {
    split: _all(items[split]) for split in conversion.SPLITS if any(items.get(split, {}).values())
  }
  return conversion.Plan(
    name='image_folder',
    splits=splits,
    labels=tuple(map(files.readable, labels)),
    # Several files even for a small training set, so that several readers and workers share it.
    copies=copies,
    num_shards={
      split: conversion.num_shards(of_split, listing.IMAGES_PER_SHARD, 4 if split == 'train' else 1)
      for split, of_split in splits.items()
    },
    # Beside splits records may lie; beside a folder that is the only one they would be another.
    folders=tuple(layout.splits.values()) if are_splits_here else (root,),
    notes=tuple(notes),
    unusable=tuple(tree.unusable) if isinstance(tree, trees.Archives) else (),
  )


def _images_of_splits(
  layout: folder_layout.Layout, root: Path, tree: Tree, notes: list[str]
) -> dict[str, _ByClass]:
  """What lies in the class folders of each split; its items have no label yet."""
  folders = {
    split: _class_folders(path, root, tree, notes) for split, path in layout.splits.items()
  }
  everywhere = [os.path.realpath(path) for of_split in folders.values() for path in of_split]
  links: list[str] = []
  images = {
    split: _images(of_split, root, tree, everywhere, links) for split, of_split in folders.items()
  }
  if links:
    notes.append(f'{len(links):,} {sources.NOT_FOLLOWED}: {files.some(links)}')
  return images


def _hold_out(
  items: _ByClass, options: conversion.Options, copies: Sequence[Sequence[Item]], notes: list[str]
) -> dict[str, _ByClass]:
  """The images of the only split as 'train' and 'validation'."""
  fraction = options.validation_fraction
  fraction = holdout.DEFAULT_FRACTION if fraction is None else fraction
  train, validation = holdout.hold_out(items, fraction, options.seed, copies)
  if fraction and not any(validation.values()):
    notes.append('nothing is held out for validation: no class has two different images')
  return {'train': train, 'validation': validation}


def _is_archive(name: str) -> bool:
  return files.is_visible(name) and name.lower().endswith(trees.SUFFIXES)


def _tree(paths: Sequence[Path], work_dir: Path | None) -> tuple[Tree, Path]:
  """The tree of a folder, or of archives, and its root.

  Raises:
    OSError: it is neither.
    ValueError: an archive is no such, or damaged from the beginning.
  """
  if _is_on_disk(paths) and (image_in_folders(paths[0]) or not any(_archives(paths))):
    return trees.DISK, paths[0]
  for path in paths:
    if not path.is_dir() and not path.name.lower().endswith(trees.SUFFIXES):
      raise NotADirectoryError(f'source {path} is no folder and no archive; expected {LAYOUT}')
  if work_dir is None:
    raise ValueError(f'{paths[0]} holds archives: a folder is needed for what is unpacked')
  tree = trees.Archives(paths, work_dir)
  return tree, tree.root


def _all(items: Mapping[str, list[Item]]) -> list[Item]:
  return list(itertools.chain.from_iterable(items.values()))


# Classes


def _class_folders(folder: Path, root: Path, tree: Tree, notes: list[str]) -> list[Path]:
  """The folders in that of a split; a link to a folder above or to another of them is no class."""
  folders, above = tree.subfolders(folder), os.path.realpath(root)
  own: dict[str, Path] = {}
  for path in sorted(folders, key=lambda path: (path.is_symlink(), path.name)):
    real = os.path.realpath(path)
    if real in own or sources.is_within(above, real):
      notes.append(f'{_name(path, root)}/ is a link to {real}: no class of its own')
    else:
      own[real] = path
  return sorted(own.values())


def _name(path: Path, root: Path) -> str:
  return files.readable(path.relative_to(root).as_posix())


def _images(
  folders: Sequence[Path], root: Path, tree: Tree, everywhere: Sequence[str], links: list[str]
) -> _ByClass:
  """What lies in each class folder; its items have no label yet."""
  return {
    folder.name: [
      Item(entry.path, -1, entry.source)
      for entry in tree.walk(folder, f'{_name(folder, root)}/', links, everywhere)
    ]
    for folder in folders
  }


def _labelled(images: _ByClass, classes: Sequence[str]) -> _ByClass:
  return {
    name: [item._replace(label=label) for item in images.get(name, ())]
    for label, name in enumerate(classes)
  }


def _nonempty(images: _ByClass) -> set[str]:
  """The folders in which something may be an image."""
  return {
    name
    for name, items in images.items()
    if any(not item.filename.lower().endswith(sources.NO_IMAGES) for item in items)
  }


def _classes(
  images: Mapping[str, _ByClass], layout: Layout, root: Path, tree: Tree, notes: list[str]
) -> list[str]:
  """The folders for training that hold images, there or for validation.

  Raises:
    ValueError: there are fewer than two.
  """
  train, of_train = layout.splits['train'], images['train']
  if not of_train:
    raise ValueError(f'no class folders in {train}; expected {LAYOUT}')
  nonempty, elsewhere = _nonempty(of_train), _nonempty(images.get('validation', {}))
  if not nonempty:
    raise ValueError(f'no images in the class folders of {train}: {files.some(of_train)}')
  classes = listing.sorted_names(name for name in of_train if name in nonempty | elsewhere)
  notes += listing.note_of_numbers(classes)
  for name in of_train:
    if name not in nonempty:
      fate = 'a class without training images' if name in elsewhere else 'not taken for a class'
      notes.append(f'no images in class folder {_name(train / name, root)!r}: {fate}')
  if len(classes) < 2:
    hint = ''
    if tree.subfolders(train / classes[0]):
      hint = f'; if the classes lie in it, give --source={train / classes[0]}'
    raise ValueError(
      f'{train} holds one class folder with images, {classes[0]!r}: a classifier needs two{hint}'
    )
  return classes


def _check_folders_in_classes(
  images: _ByClass, classes: Sequence[str], train: Path, root: Path, notes: list[str]
) -> None:
  """Speaks of classes that all hold folders of the same names, and no images beside them.

  Raises:
    ValueError: these are splits, which lie above the classes.
  """
  inner = []
  for name in classes:
    prefix = len(_name(train / name, root)) + 1
    below = [item.filename[prefix:] for item in images[name]]
    if any('/' not in path and sources.IMAGE_SUFFIX.search(path) for path in below):
      return
    inner.append({path.split('/')[0] for path in below if '/' in path})
  common = sorted(set.intersection(*inner))
  if len(common) < 2:
    return
  what = f'each class folder holds {"/ and ".join(common[:5])}/'
  if len({folder_layout.split_of(name) for name in common} - {None}) > 1:
    raise ValueError(f'{root}: {what}, which are splits by their names; expected {LAYOUT}')
  notes.append(f'{what}: if these are the classes, --source is one level too high')


# Splits


def _is_used(
  split: str, images: _ByClass, classes: Sequence[str], layout: Layout, notes: list[str]
) -> bool:
  """Whether the source's own validation or test images are usable; says why they are not.

  Raises:
    ValueError: the folders for validation are not those for training.
  """
  name, nonempty = layout.names[split], _nonempty(images)
  if not nonempty:
    instead = ': some for training are held out instead' if split == 'validation' else ''
    notes.append(f'no images in class folders of {name}/{instead}')
    return False
  differences = []
  if surplus := sorted(nonempty - set(classes)):
    differences.append(f'only in {name}/: {files.some(surplus)}')
  if missing := sorted(set(classes) - set(images)):
    differences.insert(0, f'only in {layout.names["train"]}/: {files.some(missing)}')
  if split == 'validation' and differences:
    both = f'{layout.names["train"]}/ and {name}/'
    if _composed(surplus) == _composed(missing):
      differences.append('they are the same, spelled with other characters of Unicode: rename them')
    raise ValueError(f'{both} differ in their classes; {"; ".join(differences)}')
  if surplus:
    notes.append(f'not used: {name}/, whose classes are others ({differences[-1]})')
    return False
  if missing := sorted(set(classes) - nonempty):
    notes.append(f'no images of {len(missing):,} classes in {name}/: {files.some(missing)}')
  return True


def _composed(names: Sequence[str]) -> set[str]:
  """With accents as macOS and others both may write them: NFC."""
  return {unicodedata.normalize('NFC', name) for name in names}


convert = functools.partial(conversion.convert, make_plan)
