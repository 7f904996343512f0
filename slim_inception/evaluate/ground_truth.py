"""What the right labels of images are: lists beside the records, see `datasets.exclude_list`."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slim_inception.datasets import exclude_list, files
from slim_inception.datasets.exclude_list import Names, read_text

_VALIDATION_NAME = exclude_list.VALIDATION_NAME
_VALIDATION_SIZE = 50_000


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


class RealLabels(Names):
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
    content = json.loads(read_text(flag, path, expected))
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
