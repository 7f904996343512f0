"""CIFAR-10 and CIFAR-100 (A. Krizhevsky, 2009): 60,000 images of 32 x 32, for train and test.

What is downloaded is the binary version. A local copy may also be the Python version, which
torchvision and Keras download; it gives the same records. Images are stored as PNG, without loss;
those of CIFAR-100 under their fine label.
"""

import dataclasses
import functools
import io
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import conversion, download, sources

SIZE = 32
SPLIT_SIZES = {'train': 50_000, 'test': 10_000}
_SHARDS = {'train': 5, 'test': 1}  # of 24 MB
_PIXELS = 3 * SIZE * SIZE


@dataclasses.dataclass(frozen=True)
class Kind:
  """What tells the two data sets apart."""

  num_classes: int
  sha256: str  # of the archive of the binary version
  folders: tuple[str, str]  # names that the binary and the Python version have, unpacked
  batches: Mapping[str, tuple[str, ...]]  # files of each split, in order, without '.bin'
  label_bytes: int  # before the pixels of each image; the last of them is its label
  labels_key: str  # of the labels in the Python version
  names_text: str  # file of the class names in the binary version
  names_pickle: tuple[str, str]  # file of the class names, and their key, in the Python version

  @property
  def name(self) -> str:
    return f'cifar{self.num_classes}'

  @property
  def archives(self) -> tuple[str, str]:
    """Names of the binary and the Python version, packed."""
    return f'cifar-{self.num_classes}-binary.tar.gz', f'cifar-{self.num_classes}-python.tar.gz'

  @property
  def archive(self) -> download.Download:
    return download.Download(f'https://www.cs.toronto.edu/~kriz/{self.archives[0]}', self.sha256)

  @property
  def expected(self) -> str:
    return f'one of {", ".join(self.folders + self.archives)}'


CIFAR10 = Kind(
  num_classes=10,
  sha256='c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
  folders=('cifar-10-batches-bin', 'cifar-10-batches-py'),
  batches={'train': tuple(f'data_batch_{i}' for i in range(1, 6)), 'test': ('test_batch',)},
  label_bytes=1,
  labels_key='labels',
  names_text='batches.meta.txt',
  names_pickle=('batches.meta', 'label_names'),
)
CIFAR100 = Kind(
  num_classes=100,
  sha256='58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
  folders=('cifar-100-binary', 'cifar-100-python'),
  batches={'train': ('train',), 'test': ('test',)},
  label_bytes=2,  # coarse, fine
  labels_key='fine_labels',
  names_text='fine_label_names.txt',
  names_pickle=('meta', 'fine_label_names'),
)


def make_plan(
  kind: Kind,
  source: str | None,
  options: conversion.Options,
  work_dir: Path,
  archive: download.Download | None = None,
) -> conversion.Plan:
  """Downloads the binary version, or finds either version, packed or unpacked, in a local copy.

  See `conversion.MakePlan`; `archive` replaces the published one.
  """
  reason = f'{kind.name} is split into train and test'
  conversion.refuse(options, 'the classes of CIFAR are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  conversion.refuse(options, reason, 'validation_fraction', 'validation_shards')
  with download.scratch(work_dir) as folder:
    names = kind.folders + kind.archives
    path = download.obtain(source, archive or kind.archive, kind.expected, names, work_dir)
    copy = _Copy(kind, path, _members(download.unzip(path, folder), folder))
    labels = _names(copy)
    splits = {split: list(_items(copy, split)) for split in kind.batches}
  return conversion.Plan(
    name=kind.name,
    splits=splits,
    labels=labels,
    num_shards=_SHARDS,
    notes=conversion.size_notes(kind.name, splits, SPLIT_SIZES),
  )


@dataclasses.dataclass(frozen=True)
class _Copy:
  """A copy of the data set: the archive or folder, and where the bytes of its files are."""

  kind: Kind
  path: Path
  members: Mapping[str, sources.Slice]

  @property
  def is_python(self) -> bool:
    return self.kind.batches['train'][0] in self.members

  def read(self, name: str) -> bytes:
    if name not in self.members:
      raise ValueError(f'{self.path} holds no {name}; expected {self.kind.expected}')
    return self.members[name].read()


_Images = Iterator[tuple[Any, sources.Slice | sources.Content]]  # label, pixels


def _members(root: Path, work_dir: Path) -> dict[str, sources.Slice]:
  """The files of a folder, or of a tar, by their names."""
  if root.is_dir():
    return {
      file.name: sources.Slice(str(file), 0, file.stat().st_size)
      for file in root.iterdir()
      if file.is_file()
    }
  return {
    os.path.basename(entry.path): source
    for entry in sources.walk(root, work_dir)
    if isinstance(source := entry.source, sources.Slice)
  }


def _names(copy: _Copy) -> tuple[str, ...]:
  file, key = copy.kind.names_pickle
  if copy.is_python:
    names = _unpickle(copy, file).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
      raise ValueError(f'{copy.path}: {file} has no list of names {key!r}')
  else:
    file = copy.kind.names_text
    names = copy.read(file).split()
  if len(names) != copy.kind.num_classes:
    raise ValueError(
      f'{copy.path}: {file} has {len(names)} names, expected one for each of '
      f'{copy.kind.num_classes} classes'
    )
  return tuple(map(_text, names))


def _items(copy: _Copy, split: str) -> Iterator[conversion.Item]:
  """Numbers the images through all files of a split."""
  number, valid = 0, range(copy.kind.num_classes)
  for batch in copy.kind.batches[split]:
    name = batch if copy.is_python else f'{batch}.bin'
    images = _pickled_images(copy, name) if copy.is_python else _binary_images(copy, name)
    for index, (label, pixels) in enumerate(images):
      if not isinstance(label, int) or label not in valid:
        raise ValueError(
          f'{copy.path}: image {index} of {name} has label {label!r}, expected 0 .. {valid[-1]}'
        )
      image = sources.RawImage(pixels, SIZE, SIZE)
      yield conversion.Item(f'{split}_{number:05d}.png', label, image)
      number += 1


def _binary_images(copy: _Copy, name: str) -> _Images:
  """Yields the label and the 3 * 32 * 32 bytes of each image of a batch."""
  content, label_bytes = copy.read(name), copy.kind.label_bytes
  step = label_bytes + _PIXELS
  if not content or len(content) % step:
    raise ValueError(
      f'{copy.path}: {name} has {len(content)} bytes, expected {step} for each image'
    )
  file = copy.members[name]
  for start in range(label_bytes, len(content), step):
    yield content[start - 1], sources.Slice(file.path, file.offset + start, _PIXELS)


# The Python version: pickles of Python 2, whose strings are bytes here. Whatever else is in a
# pickle, which could run any code, is refused.


def _pickled_images(copy: _Copy, name: str) -> _Images:
  """`_binary_images` of the Python version, whose labels may be anything."""
  import numpy as np  # here: the processes that write shards need none

  content = _unpickle(copy, name)
  labels, pixels = content.get(copy.kind.labels_key), content.get('data')
  if not isinstance(labels, list) or not isinstance(pixels, np.ndarray) or not labels:
    raise ValueError(
      f"{copy.path}: {name} has no list {copy.kind.labels_key!r} beside an array 'data'"
    )
  shape = len(labels), _PIXELS
  if pixels.dtype != np.uint8 or pixels.shape != shape:
    raise ValueError(
      f'{copy.path}: the pixels of {name} are {pixels.dtype} {pixels.shape}, expected uint8 {shape}'
    )
  for label, row in zip(labels, pixels, strict=True):
    yield label, sources.Content(row.tobytes())


def _unpickle(copy: _Copy, name: str) -> dict[str, Any]:
  content = copy.read(name)
  try:
    value = _Unpickler(io.BytesIO(content), encoding='bytes').load()
    return {_text(key): part for key, part in value.items()}
  except Exception as error:  # on a damaged pickle, nearly anything
    raise ValueError(f'{copy.path}: {name} is no pickle of {copy.kind.name}: {error}') from error


def _text(value: str | bytes) -> str:
  return value if isinstance(value, str) else value.decode('utf-8', 'replace')


_ALLOWED = (  # what an array of numbers is made of
  ('numpy.core.multiarray', '_reconstruct'),
  ('numpy._core.multiarray', '_reconstruct'),
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  ('_codecs', 'encode'),  # bytes in pickles that Python 3 wrote for Python 2
)


class _Unpickler(pickle.Unpickler):
  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is not allowed')
    # NumPy 1 knows no numpy._core, NumPy 2 keeps numpy.core for old pickles.
    return super().find_class(module.replace('numpy._core', 'numpy.core'), name)


convert_cifar10 = functools.partial(conversion.convert, functools.partial(make_plan, CIFAR10))
convert_cifar100 = functools.partial(conversion.convert, functools.partial(make_plan, CIFAR100))
