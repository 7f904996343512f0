"""CIFAR-10 and CIFAR-100 (A. Krizhevsky, 2009): 60,000 images of 32 x 32, for train and test.

What is downloaded is the binary version. A local copy may also be the Python version, which
torchvision and Keras download; it is rewritten as the binary one and gives the same records.
Images are stored as PNG, without loss; those of CIFAR-100 under their fine label.
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
  """What tells the two data sets apart.

  Attributes:
    name: of the data set.
    archive: the binary version.
    local_names: names that a local copy may have in a folder.
    batches: files of each split, in order, without the '.bin' of the binary version.
    label_bytes: before the pixels of each image; the last of them is its label.
    labels_key: of the labels in the Python version.
    names_text: file of the class names in the binary version.
    names_pickle: file of the class names, and their key, in the Python version.
    num_classes: how many there are.
  """

  name: str
  archive: download.Download
  local_names: tuple[str, ...]
  batches: Mapping[str, tuple[str, ...]]
  label_bytes: int
  labels_key: str
  names_text: str
  names_pickle: tuple[str, str]
  num_classes: int

  @property
  def record_bytes(self) -> int:
    return self.label_bytes + _PIXELS

  @property
  def expected(self) -> str:
    return f'one of {", ".join(self.local_names)}'


CIFAR10 = Kind(
  name='cifar10',
  archive=download.Download(
    'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
    'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
  ),
  local_names=(
    'cifar-10-batches-bin',
    'cifar-10-batches-py',
    'cifar-10-binary.tar.gz',
    'cifar-10-python.tar.gz',
  ),
  batches={'train': tuple(f'data_batch_{i}' for i in range(1, 6)), 'test': ('test_batch',)},
  label_bytes=1,
  labels_key='labels',
  names_text='batches.meta.txt',
  names_pickle=('batches.meta', 'label_names'),
  num_classes=10,
)
CIFAR100 = Kind(
  name='cifar100',
  archive=download.Download(
    'https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
    '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
  ),
  local_names=(
    'cifar-100-binary',
    'cifar-100-python',
    'cifar-100-binary.tar.gz',
    'cifar-100-python.tar.gz',
  ),
  batches={'train': ('train',), 'test': ('test',)},
  label_bytes=2,  # coarse, fine
  labels_key='fine_labels',
  names_text='fine_label_names.txt',
  names_pickle=('meta', 'fine_label_names'),
  num_classes=100,
)


def make_plan(
  kind: Kind, source: str | None, options: conversion.Options, work_dir: Path
) -> conversion.Plan:
  """Downloads the binary version, or finds either version, packed or unpacked, in a local copy.

  Raises:
    ValueError: a file is missing in the local copy, is damaged or holds something else; an option
      that has no meaning here.
    OSError: the download failed, or the source does not exist.
  """
  conversion.refuse(
    options,
    ('validation_fraction', 'validation_shards'),
    f'{kind.name} is split into train and test',
  )
  with download.scratch(work_dir) as folder:
    path = (
      download.locate(source, kind.expected, kind.local_names)
      if source
      else kind.archive.fetch(work_dir)
    )
    copy = _Copy(kind, path, _members(download.unzip(path, folder), folder))
    is_python = kind.batches['train'][0] in copy.members
    labels = _names_in_python(copy) if is_python else _names_in_binary(copy)
    if is_python:
      copy = _as_binary(copy, folder)
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

  def read(self, name: str) -> bytes:
    if name not in self.members:
      raise ValueError(f'{self.path} holds no {name}; expected {self.kind.expected}')
    return self.members[name].read()


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


# The binary version


def _names_in_binary(copy: _Copy) -> tuple[str, ...]:
  text = copy.read(copy.kind.names_text).decode('utf-8', 'replace')
  return _checked_names(copy, copy.kind.names_text, text.split())


def _checked_names(copy: _Copy, file: str, names: list[str]) -> tuple[str, ...]:
  if len(names) != copy.kind.num_classes:
    raise ValueError(
      f'{copy.path}: {file} has {len(names)} names, expected one for each of '
      f'{copy.kind.num_classes} classes'
    )
  return tuple(names)


def _items(copy: _Copy, split: str) -> Iterator[conversion.Item]:
  """Numbers the images through all files of a split."""
  kind, number = copy.kind, 0
  for batch in copy.kind.batches[split]:
    content = copy.read(f'{batch}.bin')
    if not content or len(content) % kind.record_bytes:
      raise ValueError(
        f'{copy.path}: {batch}.bin has {len(content)} bytes, expected '
        f'{kind.record_bytes} for each image'
      )
    file = copy.members[f'{batch}.bin']
    for index, label in enumerate(content[kind.label_bytes - 1 :: kind.record_bytes]):
      if label >= kind.num_classes:
        raise ValueError(
          f'{copy.path}: image {index} of {batch}.bin has label {label}, expected '
          f'0 .. {kind.num_classes - 1}'
        )
      start = file.offset + index * kind.record_bytes + kind.label_bytes
      image = sources.RawImage(sources.Slice(file.path, start, _PIXELS), SIZE, SIZE)
      yield conversion.Item(f'{split}_{number:05d}.png', label, image)
      number += 1


# The Python version: pickles of Python 2, whose strings are bytes here. Whatever else is in a
# pickle, which could run any code, is refused; NumPy's arrays are read without NumPy.


def _names_in_python(copy: _Copy) -> tuple[str, ...]:
  file, key = copy.kind.names_pickle
  names = _unpickle(copy, file).get(key)
  if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
    raise ValueError(f'{copy.path}: {file} has no list of names {key!r}')
  return _checked_names(copy, file, [_text(name) for name in names])


def _as_binary(copy: _Copy, folder: Path) -> _Copy:
  """Rewrites the batches as those of the binary version (with 0 as coarse label) in `folder`."""
  folder.mkdir(parents=True, exist_ok=True)
  members = {}
  for batch in (name for of_split in copy.kind.batches.values() for name in of_split):
    path = folder / f'{batch}.bin'
    with open(path, 'wb') as file:
      for label, pixels in _pickled_images(copy, batch):
        file.write(label.to_bytes(copy.kind.label_bytes, 'big') + pixels)
    members[path.name] = sources.Slice(str(path), 0, path.stat().st_size)
  return dataclasses.replace(copy, members=members)


def _pickled_images(copy: _Copy, batch: str) -> Iterator[tuple[int, bytes]]:
  """Yields the label and the 3 * 32 * 32 bytes of each image of a batch."""
  content = _unpickle(copy, batch)
  labels, pixels = content.get(copy.kind.labels_key), content.get('data')
  if not isinstance(labels, list) or not isinstance(pixels, _Array) or not labels:
    raise ValueError(
      f"{copy.path}: {batch} has no list {copy.kind.labels_key!r} beside an array 'data'"
    )
  valid = range(copy.kind.num_classes)
  wrong = [label for label in labels if not isinstance(label, int) or label not in valid]
  if wrong:
    raise ValueError(f'{copy.path}: {batch} has a label {wrong[0]!r}, expected 0 .. {valid[-1]}')
  try:
    rows = pixels.rows(len(labels), _PIXELS)
  except ValueError as error:
    raise ValueError(f'{copy.path}: the pixels of {batch} are {error}') from None
  yield from zip(labels, rows, strict=True)


def _unpickle(copy: _Copy, name: str) -> dict[str, Any]:
  content = copy.read(name)
  try:
    value = _Unpickler(io.BytesIO(content), encoding='bytes').load()
    return {_text(key): part for key, part in value.items()}
  except Exception as error:  # on a damaged pickle, nearly anything
    raise ValueError(f'{copy.path}: {name} is no pickle of {copy.kind.name}: {error}') from error


def _text(value: str | bytes) -> str:
  return value if isinstance(value, str) else value.decode('utf-8', 'replace')


class _Unpickler(pickle.Unpickler):
  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is not allowed')
    return _ALLOWED[module, name]


class _Array:
  """Stands for `numpy.ndarray`: what a pickle says of it."""

  def __init__(self, *_: Any):
    self.state: tuple[Any, ...] = ()

  def __setstate__(self, state: tuple) -> None:
    self.state = state  # version, shape, dtype, whether in Fortran's order, bytes

  def rows(self, count: int, length: int) -> Iterator[bytes]:
    """Raises ValueError, which says what it is, unless it is [count, length] uint8."""
    state: tuple[Any, ...] = self.state if len(self.state) == 5 else (None,) * 5
    _, shape, dtype, is_fortran, content = state
    name = dtype.name if isinstance(dtype, _Dtype) else None
    is_whole = isinstance(content, bytes) and len(content) == count * length
    if name != 'u1' or shape != (count, length) or not is_whole:
      raise ValueError(f'{name} {shape}, expected u1 {(count, length)}')
    if is_fortran:
      return (content[row::count] for row in range(count))
    return (content[row * length : (row + 1) * length] for row in range(count))


class _Dtype:
  """Stands for `numpy.dtype`."""

  def __init__(self, name: str | bytes, *_: Any):
    self.name = _text(name)

  def __setstate__(self, _: tuple) -> None:
    """Byte order and the like: nothing that a single byte has."""


def _encode(text: str, _: str) -> bytes:
  """Bytes in pickles that Python 3 wrote for Python 2."""
  return text.encode('latin-1')


_ALLOWED = {
  ('numpy.core.multiarray', '_reconstruct'): _Array,
  ('numpy._core.multiarray', '_reconstruct'): _Array,
  ('numpy', 'ndarray'): _Array,
  ('numpy', 'dtype'): _Dtype,
  ('_codecs', 'encode'): _encode,
}

convert_cifar10 = functools.partial(conversion.convert, functools.partial(make_plan, CIFAR10))
convert_cifar100 = functools.partial(conversion.convert, functools.partial(make_plan, CIFAR100))
