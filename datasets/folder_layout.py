"""Which folders below a source are splits, which are classes, and which are neither.

Public image sets come as `train/ valid/ test/`, as `Training/ Testing/`, as `seg_train/ seg_test/`
with another folder of that name in each, in a folder of their own, and with folders of labels
beside the images. A folder that is misread is a class too many, or validation images that were
trained on.
"""

import collections
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from . import files, sources, trees
from .trees import Tree

LAYOUT = (
  'a folder of class folders (<class>/*.jpg), or train/ and validation/ with class folders, or '
  'these in a zip or tar, or with a tar or zip for each class'
)
_SPLITS = {
  'train': 'train', 'training': 'train', 'val': 'validation', 'valid': 'validation',
  'validation': 'validation', 'dev': 'validation', 'test': 'test', 'testing': 'test',
}  # fmt: skip
_NAME = re.compile(
  rf'(?P<before>.*?)(?<![a-z])(?P<word>{"|".join(_SPLITS)})(?:set)?(?![a-z])(?P<after>.*)',
  re.DOTALL,
)


class Layout(NamedTuple):
  """The folders that hold class folders.

  Attributes:
    splits: 'train', and 'validation' and 'test' where the source has them -> the folder.
    names: of the same splits, as the user knows them: 'valid', 'seg_test/seg_test'; '' for a source
      that holds the classes itself.
    notes: what was not taken as it lies, or not used.
  """

  splits: dict[str, Path]
  names: dict[str, str]
  notes: list[str]


def split_of(name: str) -> str | None:
  """The split that a folder's name means by itself: 'Training' is 'train'."""
  return _SPLITS.get(name.lower())


def split_in(name: str) -> str | None:
  """The split that a name speaks of, alone or among others: 'imagenet1k-train-0003' is 'train'."""
  match = _NAME.fullmatch(name.lower())
  return _SPLITS[match['word']] if match else None


def find(source: Path, tree: Tree = trees.DISK) -> Layout:
  """Looks for splits, in `source` or in the only folder that it holds.

  Folders are splits by their names, in any case, alone (`Train`, `valid`, `testset`) or with the
  same text around them (`seg_train` and `seg_test`), where the one for training holds folders.

  Args:
    source: where to look.
    tree: that it is the root of.

  Raises:
    ValueError: there are no folders, two of one split, or splits of which none can be trained on.
  """
  notes: list[str] = []
  root = _only_folder(source, source, tree, notes)
  folders = tree.subfolders(root)
  if not folders:
    raise ValueError(_no_classes(source, root, tree))
  splits = _splits(root, folders, tree)
  if not splits:
    _refuse_splits(root, folders)
    notes += _unused(root, tree, [])
    return Layout({'train': root}, {'train': ''}, notes)
  notes += _unused(root, tree, [folder for folder in folders if folder not in splits.values()])
  classes = {folder.name for folder in tree.subfolders(splits['train'])}
  splits = {
    split: _only_folder(folder, source, tree, notes, () if split == 'train' else classes)
    for split, folder in splits.items()
  }
  names = {split: _name(folder, source) for split, folder in splits.items()}
  notes += [note for folder in splits.values() for note in _loose_images(folder, tree)]
  others = [f'{name}/ is the split {split}' for split, name in names.items() if name != split]
  notes += [', '.join(others)] if others else []
  return Layout(splits, names, notes)


def _sets(folders: Iterable[Path]) -> dict[tuple[str, str], dict[str, list[Path]]]:
  """The folders that are called like splits, by the text around it and by the split."""
  sets: dict[tuple[str, str], dict[str, list[Path]]] = collections.defaultdict(dict)
  for folder in folders:
    if match := _NAME.fullmatch(folder.name.lower()):
      of_set = sets[match['before'], match['after']]
      of_set.setdefault(_SPLITS[match['word']], []).append(folder)
  return sets


def _splits(root: Path, folders: Iterable[Path], tree: Tree) -> dict[str, Path]:
  """The folders of one set of splits, that for training among them; {} where there is none."""
  sets = _sets(folders)
  usable = {
    affixes: of_set
    for affixes, of_set in sets.items()
    if any(map(tree.subfolders, of_set.get('train', ()))) and (len(of_set) > 1 or not any(affixes))
  }
  if len(usable) > 1 and ('', '') not in usable:
    names = [folder.name for of_set in usable.values() for folder in of_set['train']]
    raise ValueError(f'{root} holds several sets of splits ({files.some(names)}): give one of them')
  chosen = usable.get(('', '')) or next(iter(usable.values()), {})
  for of_split in chosen.values():
    if len(of_split) > 1:
      both = '/ and '.join(folder.name for folder in reversed(of_split))
      raise ValueError(f'{root} holds both {both}/: which is meant?')
  return {split: chosen[split][0] for split in ('train', 'validation', 'test') if split in chosen}


def _refuse_splits(root: Path, folders: Collection[Path]) -> None:
  """Raises ValueError where folders are called like the splits of one set: they are no classes."""
  sets = _sets(folders)
  named = [folder for of_set in sets.values() for paths in of_set.values() for folder in paths]
  are_all = (
    len(named) == len(folders) and len({split for of_set in sets.values() for split in of_set}) > 1
  )
  if are_all or any(len(of_set) > 1 for of_set in sets.values()):
    names = '/, '.join(sorted(files.readable(folder.name) for folder in named))
    raise ValueError(
      f'{root} holds {names}/, which are splits by their names, but no folder for training with '
      f'class folders in it; expected {LAYOUT}'
    )


def _only_folder(
  folder: Path, source: Path, tree: Tree, notes: list[str], classes: Collection[str] = ()
) -> Path:
  """Goes down where a folder holds nothing but another one, and that one folders and no images."""
  while len(below := tree.subfolders(folder)) == 1:
    (only,) = below
    is_above = only.is_symlink() and folder.resolve().is_relative_to(only.resolve())
    if only.name in classes or is_above or images_in(folder, tree) or images_in(only, tree):
      break
    if not tree.subfolders(only):
      break
    folder = only
    notes.append(f'{_name(folder, source)}/ is taken for the folder of the classes or splits')
  return folder


def _name(folder: Path, source: Path) -> str:
  return files.readable(folder.relative_to(source).as_posix())


def _unused(root: Path, tree: Tree, folders: Iterable[Path]) -> list[str]:
  """What to say of folders and images beside those that are used."""
  notes = []
  systems = [name for name in tree.names(root) if files.is_systems(name)]
  if names := [*sorted(systems), *(folder.name for folder in folders)]:
    notes.append(f'not used: {"/, ".join(map(files.readable, names))}/')
  return [*notes, *_loose_images(root, tree)]


def _loose_images(folder: Path, tree: Tree) -> list[str]:
  """What to say of images that lie beside the class folders."""
  if not (images := images_in(folder, tree)):
    return []
  where = files.readable(folder.name)
  return [f'{len(images):,} images in {where}/ lie in no class folder: {files.some(images)}']


def images_in(folder: Path, tree: Tree) -> list[str]:
  """Names of the files in a folder, not below it, that by their suffixes are images."""
  return sorted(
    files.readable(name)
    for name in tree.names(folder)
    if files.is_visible(name) and sources.IMAGE_SUFFIX.search(name)
  )


def _no_classes(source: Path, root: Path, tree: Tree) -> str:
  hint = ''
  if images := images_in(root, tree):
    hint = f' ({len(images):,} images lie in it, in no class folder)'
  return f'no class folders in {source}{hint}; expected {LAYOUT}'
