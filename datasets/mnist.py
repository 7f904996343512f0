"""MNIST (Y. LeCun, C. Cortes, C. Burges): 70,000 handwritten digits, grey, 28 x 28.

Split into train and test as it comes; images are stored as greyscale PNG, without loss.
"""

import functools
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import conversion, download, files, sources


def _file(name: str, sha256: str) -> download.Download:
  url = f'https://storage.googleapis.com/cvdf-datasets/mnist/{name}-ubyte.gz'
  return download.Download(url, sha256)


FILES = {  # split -> images, labels
  'train': (
    _file('train-images-idx3', '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
    _file('train-labels-idx1', '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
  ),
  'test': (
    _file('t10k-images-idx3', '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
    _file('t10k-labels-idx1', 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
  ),
}
SIZE = 28
# slim's names, but for its misspelt "size".
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SPLIT_SIZES = {'train': 60_000, 'test': 10_000}
EXPECTED = f'a folder with {", ".join(part.name for parts in FILES.values() for part in parts)}'
_SHARDS = {'train': 5, 'test': 1}  # of 5 MB
_NAMES = ('MNIST/raw', 'raw')  # below the folder that torchvision is given
_PIXELS = SIZE * SIZE
_IMAGES, _LABELS = 0x0803, 0x0801  # magic numbers: unsigned bytes, 3 and 1 dimensions


def make_plan(
  source: str | None,
  options: conversion.Options,
  work_dir: Path,
  downloads: Mapping[str, tuple[download.Download, download.Download]] = FILES,
) -> conversion.Plan:
  """Downloads the four files, or finds them in a folder, gzipped or not: `conversion.MakePlan`."""
  reason = 'mnist is split into train and test'
  conversion.refuse(options, 'the classes of MNIST are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  conversion.refuse(options, reason, 'validation_fraction', 'validation_shards')
  if source:
    files.source_path(source, EXPECTED, is_folder=True)
  with download.scratch(work_dir) as folder:
    splits = {}
    for split, parts in downloads.items():
      images, labels = (
        _local(source, part.name) if source else part.fetch(work_dir) for part in parts
      )
      splits[split] = list(_items(split, images, labels, folder))
  return conversion.Plan(
    name='mnist',
    splits=splits,
    labels=CLASSES,
    num_shards=_SHARDS,
    notes=conversion.size_notes('mnist', splits, SPLIT_SIZES),
  )


def _local(source: str, name: str) -> Path:
  folder = download.locate(source, EXPECTED, _NAMES)
  bare = name.removesuffix('.gz')
  present = [path for path in (folder / name, folder / bare) if path.is_file()]
  if not present:
    raise ValueError(f'{folder} holds neither {name} nor {bare}; expected {EXPECTED}')
  return present[0]


def _items(split: str, images: Path, labels: Path, folder: Path) -> Iterator[conversion.Item]:
  pixels = _values(images, _IMAGES, (SIZE, SIZE), folder)
  of_images = _values(labels, _LABELS, (), folder)
  if pixels.size != of_images.size * _PIXELS:
    raise ValueError(
      f'{images} has {pixels.size // _PIXELS} images, {labels} has {of_images.size} labels'
    )
  for index, label in enumerate(of_images.read()):
    if label >= len(CLASSES):
      raise ValueError(f'{labels}: label {index} is {label}, expected 0 .. {len(CLASSES) - 1}')
    plane = sources.Slice(pixels.path, pixels.offset + index * _PIXELS, _PIXELS)
    yield conversion.Item(f'{split}_{index:05d}.png', label, sources.RawImage(plane, SIZE, SIZE))


def _values(path: Path, magic: int, dimensions: tuple[int, ...], folder: Path) -> sources.Slice:
  """Finds the values of an IDX file: magic number, count, other dimensions, and then bytes."""
  unpacked = download.unzip(path, folder)
  size, header_bytes = os.path.getsize(unpacked), 4 * (2 + len(dimensions))
  with open(unpacked, 'rb') as file:
    header = file.read(header_bytes)
  if len(header) < header_bytes:
    raise ValueError(f'{path} is cut short: {size} bytes, its header alone has {header_bytes}')
  actual_magic, count, *others = struct.unpack(f'>{header_bytes // 4}I', header)
  if actual_magic != magic or tuple(others) != dimensions:
    shape = ' x '.join(map(str, ('n', *dimensions)))
    raise ValueError(
      f'{path} is no IDX file of {shape} bytes: it begins with {header.hex()}, expected {magic:08x}'
    )
  values_bytes = count * (_PIXELS if dimensions else 1)
  if size != header_bytes + values_bytes:
    raise ValueError(
      f'{path} is cut short or damaged: {size} bytes, expected {header_bytes + values_bytes}'
    )
  return sources.Slice(str(unpacked), header_bytes, values_bytes)


convert = functools.partial(conversion.convert, make_plan)
