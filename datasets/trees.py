"""Folders on the disk, and archives as if they were folders: one way to look around in both.

An archive is a folder of its name without the suffix: `n01440764.tar` is the folder `n01440764`,
wherever it lies, in a folder or in another archive. Paths of what lies in archives are made up; the
images are read where they lie.
"""

import collections
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from . import files, sources, tars
from .sources import Entry, Source

SUFFIXES = sources.TAR + sources.COMPRESSED_TAR + sources.ZIP + ('.tar.bz2', '.tar.xz')


class Tree(Protocol):
  """Folders and files below a root."""

  def subfolders(self, folder: Path) -> list[Path]:
    """Visible folders in a folder, by name."""

  def names(self, folder: Path) -> list[str]:
    """Names of all that is in a folder, and not below it."""

  def walk(
    self, folder: Path, prefix: str, links: list[str], others: Collection[str]
  ) -> Iterator[Entry]:
    """The files in a folder and below it, see `sources.walk_folder`."""


class Disk:
  """What is on the disk."""

  def subfolders(self, folder: Path) -> list[Path]:
    return files.subfolders(folder)

  def names(self, folder: Path) -> list[str]:
    return os.listdir(folder)

  def walk(
    self, folder: Path, prefix: str, links: list[str], others: Collection[str]
  ) -> Iterator[Entry]:
    return sources.walk_folder(folder, prefix, links, others)


DISK = Disk()


class Archives:
  """What is in archives, and in the folders in which these lie.

  Attributes:
    root: of the tree.
    unusable: what is damaged, or in no folder of this tree, and why.
  """

  def __init__(self, paths: Sequence[Path], work_dir: Path) -> None:
    """Lists all members.

    Args:
      paths: of an archive or a folder, or of several archives, which are folders beside each other.
      work_dir: for compressed tars, which are unpacked.
    """
    self.root = paths[0] if len(paths) == 1 else paths[0].parent
    self.unusable: list[tuple[str, str]] = []
    self._folders: dict[str, set[str]] = collections.defaultdict(set)  # each to names of folders
    self._files: dict[str, dict[str, Source]] = collections.defaultdict(dict)
    for path in paths:
      self._add(path, '' if len(paths) == 1 else f'{_stem(files.readable(path.name))}/', work_dir)
    if len(self._files) == 0 and self.unusable:
      file, reason = self.unusable[0]
      raise ValueError(f'{os.path.join(self.root, file)}: {reason}')

  def _add(self, path: Path, prefix: str, work_dir: Path) -> None:
    if not path.is_dir():
      self._add_archive(path, prefix, work_dir)
      return
    for entry in sources.walk_folder(path, prefix):
      if isinstance(entry.source, sources.File) and entry.source.name.lower().endswith(SUFFIXES):
        archive = Path(entry.source.folder, entry.source.name)
        self._add_archive(archive, f'{_stem(entry.path)}/', work_dir)
      else:
        self._add_file(entry.path, entry.source)

  def _add_archive(self, path: Path, prefix: str, work_dir: Path) -> None:
    damage, archive, name = None, path, files.readable(path.name)
    try:
      if tars.is_compressed(path):
        archive, damage = tars.decompressed(path, work_dir)
        name = f'{_stem(name)}.tar'
      for entry in sources.walk_file(str(archive), name, work_dir):
        if entry.path == name:
          raise ValueError('no archive, as its first bytes say')
        self._add_file(prefix + entry.path[len(name) + 1 :], entry.source)
    except ValueError as error:
      damage = damage or str(error)
    if damage:
      self.unusable.append((files.readable(path), damage))

  def _add_file(self, path: str, source: Source) -> None:
    if sources.leads_outside(path):
      self.unusable.append((path, sources.OUTSIDE))
      return
    if path.lower().endswith(SUFFIXES):  # but for tars in tars, which are read in place
      self.unusable.append((path, 'an archive in an archive: unpack it'))
      return
    *parts, name = (part for part in path.split('/') if part not in ('', '.'))
    folder = '/'.join(map(_stem, parts))
    if name in self._files[folder]:
      self.unusable.append((f'{folder}/{name}', 'there is another of this name, which is taken'))
      return
    self._files[folder][name] = source
    while folder and folder.rpartition('/')[2] not in self._folders[folder.rpartition('/')[0]]:
      above, _, own = folder.rpartition('/')
      self._folders[above].add(own)
      folder = above

  def file(self, path: str) -> Source | None:
    """A file by its path below the root."""
    folder, _, name = os.path.normpath(path).replace(os.sep, '/').rpartition('/')
    return self._files.get(folder, {}).get(name)

  def _inner(self, folder: Path) -> str:
    inner = folder.relative_to(self.root).as_posix()
    return '' if inner == '.' else inner

  def subfolders(self, folder: Path) -> list[Path]:
    names = self._folders.get(self._inner(folder), ())
    return sorted(folder / name for name in names if files.is_visible(name))

  def names(self, folder: Path) -> list[str]:
    inner = self._inner(folder)
    return [*self._folders.get(inner, ()), *self._files.get(inner, ())]

  def walk(
    self, folder: Path, prefix: str, links: list[str], others: Collection[str]
  ) -> Iterator[Entry]:
    inner = self._inner(folder)
    for name, source in sorted(self._files.get(inner, {}).items()):
      yield Entry(prefix + name, source)
    for below in self.subfolders(folder):
      yield from self.walk(below, f'{prefix}{below.name}/', links, others)


def _stem(name: str) -> str:
  """A name without the suffix of an archive."""
  suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), '')
  return name[: len(name) - len(suffix)]
