"""Which images count, and what their right labels are: lists beside the records.

Images are found by name. Lists have names with or without folders, with or without extension, and
Hugging Face's files of ImageNet have the synset behind theirs; `_Names` compares what both sides
say: `val/n01751748/ILSVRC2012_val_00000001_n01751748.JPEG` is `ILSVRC2012_val_00000001`.
"""

import collections
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slim_inception.datasets import files, imagenet

IMAGENET_2014 = 'imagenet_2014'
_IMAGENET_2014_FILE = 'ILSVRC2014_clsloc_validation_blacklist.txt'
_VALIDATION_NAME = 'ILSVRC2012_val_{:08d}'
_VALIDATION_SIZE = 50_000
_EXTENSION = re.compile(r'\.(jpe?g|png|gif|bmp|webp|tiff?|ppm)$', re.IGNORECASE)
_SYNSET_SUFFIX = re.compile(r'^(ILSVRC2012_(?:val|test)_\d{8}|n\d{8}_\d+)_n\d{8}$')


def _parts(name: str) -> tuple[str, ...]:
  """Folders and file name, this without extension and Hugging Face's suffix."""
  *folders, last = name.replace('\\', '/').rstrip('/').split('/')
  last = _SYNSET_SUFFIX.sub(r'\1', _EXTENSION.sub('', last))
  return (*(folder for folder in folders if folder not in ('', '.')), last)


class _Names:
  """A list of names that images are looked up in.

  A name with fewer folders than the other is compared from its end: `1.jpg` in a list stands for
  the `1.jpg` of every folder, `cats/1.jpg` for one.

  Attributes:
    flag: what the user gave, for messages.
    names: of the list.
  """

  def __init__(self, flag: str, names: Iterable[str]):
    self.flag, self.names = flag, tuple(names)
    self._by_last: dict[str, list[tuple[int, tuple[str, ...]]]] = collections.defaultdict(list)
    for index, name in enumerate(self.names):
      parts = _parts(name)
      self._by_last[parts[-1]].append((index, parts))

  def find(self, filename: str) -> list[int]:
    """The entries that name this file: their numbers in the list."""
    if not filename:
      return []
    mine = _parts(filename)
    return [
      index
      for index, parts in self._by_last.get(mine[-1], ())
      if parts[-len(mine) :] == mine[-len(parts) :]
    ]

  def find_all(self, filenames: Sequence[str]) -> list[list[int]]:
    """`find` of each file; ValueError where the list names none of them."""
    entries = [self.find(name) for name in filenames]
    if any(entries):
      return entries
    named = [name for name in filenames if name]
    raise ValueError(
      f'{self.flag} names none of the {len(filenames):,} images: it has '
      f'{files.some(self.names, 2)}, the records have '
      f'{files.some(named, 2) if named else "no names (image/filename)"}'
    )


# Images that are left out


class Excluded(_Names):
  """Images to be left out, by name."""

  def is_excluded(self, filename: str) -> bool:
    """Whether the list names a file."""
    return bool(self.find(filename))

  def check_used(self, filenames: Sequence[str]) -> str:
    """Compares the list with all images of a split.

    Returns:
      What to tell the user of entries that name no image; '' where all of them do.

    Raises:
      ValueError: no entry names an image.
    """
    used = set(itertools.chain(*self.find_all(filenames)))
    unused = [name for index, name in enumerate(self.names) if index not in used]
    note = (
      f'{self.flag}: {len(unused):,} of {len(self.names):,} entries name no image: '
      f'{files.some(unused, 3)}'
    )
    return note if unused else ''


def read_exclude_list(name_or_path: str) -> Excluded:
  """Reads a list of images to be left out.

  Args:
    name_or_path: 'imagenet_2014', the 1,762 validation images that the Inception-v4 paper's
      single-crop table leaves out; or a text file of names, one a line.

  Raises:
    OSError: there is no such file.
    ValueError: it is empty or no UTF-8 text.
  """
  flag = f'--exclude_list={name_or_path}'
  if name_or_path == IMAGENET_2014:
    path = resources.files(imagenet.__package__) / 'data' / _IMAGENET_2014_FILE
    numbers = path.read_text('utf-8').split()
    return Excluded(flag, [_VALIDATION_NAME.format(int(number)) for number in numbers])
  expected = f'{IMAGENET_2014} or a text file of image names, one a line'
  lines = map(str.strip, _read_text(flag, name_or_path, expected).splitlines())
  names = tuple(dict.fromkeys(filter(None, lines)))
  if not names:
    raise ValueError(f'{flag} is empty; expected {expected}')
  return Excluded(flag, names)


# Several right labels


class GroundTruth(NamedTuple):
  """The right labels of images.

  Attributes:
    labels: [N, A] int32, -1 after the last where an image has fewer than A.
    counted: [N] bool, False for images without any.
    note: what to tell the user of images that the list does not have; '' where it has all.
  """

  labels: np.ndarray
  counted: np.ndarray
  note: str


class RealLabels(_Names):
  """Right labels by name of the image; they are the data set's.

  Args:
    flag: what the user gave, for messages.
    labels: of each name; () where nobody knew one.
  """

  def __init__(self, flag: str, labels: Mapping[str, tuple[int, ...]]):
    super().__init__(flag, labels)
    self._labels = tuple(labels.values())

  def ground_truth(self, filenames: Sequence[str]) -> GroundTruth:
    """The right labels of N images, those of each in the order of the file.

    Raises:
      ValueError: the file names none of them, or one of them twice with different labels.
    """
    entries = self.find_all(filenames)
    labels = padded([self._one(*entry) for entry in zip(entries, filenames, strict=True)])
    missing = [name or '(no name)' for name, e in zip(filenames, entries, strict=True) if not e]
    note = (
      f'{self.flag} does not have {len(missing):,} of {len(filenames):,} images, which do not '
      f'count: {files.some(missing, 3)}'
    )
    return GroundTruth(labels, labels[:, 0] >= 0, note if missing else '')

  def _one(self, entries: list[int], filename: str) -> tuple[int, ...]:
    choices = {self._labels[index] for index in entries}
    if len(choices) > 1:
      first, second = (self.names[index] for index in entries[:2])
      raise ValueError(
        f'{self.flag}: {first} and {second} both name {filename}, with different labels: write '
        'them with their folders'
      )
    return next(iter(choices), ())


def read_real_labels(path: str, num_classes: int, label_offset: int = 0) -> RealLabels:
  """Reads right labels in the form of ReaL (Beyer et al. 2020, arXiv:2006.07159).

  That is a JSON list of 50,000 lists of labels, the first for ILSVRC2012_val_00000001, or a JSON
  object {file name: [labels]}. An image whose list is empty has no right label.

  Args:
    path: of the file.
    num_classes: of the data set, background included.
    label_offset: added to the labels of the file, which count from 0 in the order of the classes:
      1 where the data set has a background.

  Raises:
    OSError: there is no such file.
    ValueError: it has another form or length, or a label outside the classes.
  """
  flag = f'--real_labels={path}'
  expected = (
    f'a JSON list of {_VALIDATION_SIZE:,} lists of labels (real.json of ReaL) or a JSON object '
    '{file name: [labels]}'
  )
  try:
    content = json.loads(_read_text(flag, path, expected))
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{flag} is no JSON ({error}); expected {expected}') from None
  if isinstance(content, list):
    if len(content) != _VALIDATION_SIZE:
      raise ValueError(f'{flag} is a list of {len(content):,}; expected {expected}')
    content = {_VALIDATION_NAME.format(i): labels for i, labels in enumerate(content, start=1)}
  if not isinstance(content, dict) or not content:
    raise ValueError(f'{flag} has no labels in it; expected {expected}')
  last = num_classes - 1 - label_offset
  for name, labels in content.items():
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
      raise ValueError(f'{flag}: {name!r} has {labels!r:.60}; expected a list of whole numbers')
    if wrong := [label for label in labels if not 0 <= label <= last]:
      raise ValueError(f'{flag}: {name!r} has label {wrong[0]}; expected 0 .. {last}')
  shifted = {
    name: tuple(dict.fromkeys(label + label_offset for label in labels))
    for name, labels in content.items()
  }
  return RealLabels(flag, shifted)


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
  """[N, A] int32 of N rows of labels, -1 after the last where one has fewer than A."""
  labels = np.full((len(rows), max([1, *map(len, rows)])), -1, np.int32)
  for row, values in zip(labels, rows, strict=True):
    row[: len(values)] = values
  return labels


def _read_text(what: str, path: str, expected: str) -> str:
  try:
    return files.decoded(Path(path).read_bytes())
  except FileNotFoundError:
    raise FileNotFoundError(f'{what}: no such file; expected {expected}') from None
  except UnicodeDecodeError:
    raise ValueError(f'{what} is no UTF-8 text; expected {expected}') from None
