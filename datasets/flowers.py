"""3,670 photos of flowers in five classes (The TensorFlow Team, 2019): slim's tutorial data set.

Labels are 0 .. 4 in the order of the class names. As in slim, 350 images, taken from all at
random, are for validation; which ones, the seed says.
"""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

from . import conversion, download, sources

ARCHIVE = download.Download(
  'http://download.tensorflow.org/example_images/flower_photos.tgz',
  '4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c',
)
CLASSES = ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips')
SPLIT_SIZES = {'train': 3320, 'validation': 350}
EXPECTED = f'flower_photos.tgz, or flower_photos/ with the folders {", ".join(CLASSES)}'
_SHARDS = {'train': 5, 'validation': 5}
_NAMES = ('flower_photos', 'flower_photos.tgz')


def make_plan(
  source: str | None,
  options: conversion.Options,
  work_dir: Path,
  archive: download.Download = ARCHIVE,
) -> conversion.Plan:
  """Downloads the archive, or finds the images in a local copy, packed or unpacked.

  See `conversion.MakePlan`; `archive` replaces the published one.
  """
  conversion.refuse(options, 'the classes of flowers are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  conversion.refuse(options, 'flowers hold out 350 of 3,670 images', 'validation_fraction')
  with download.scratch(work_dir) as folder:
    path = download.obtain(source, archive, EXPECTED, _NAMES, work_dir)
    items = list(_items(download.unzip(path, folder), folder))
    present = {item.label for item in items}
    missing = [name for label, name in enumerate(CLASSES) if label not in present]
    if missing:
      raise ValueError(f'no images of {", ".join(missing)} in {path}; expected {EXPECTED}')
  total = sum(SPLIT_SIZES.values())
  count = max(1, round(len(items) * SPLIT_SIZES['validation'] / total))
  ordered = conversion.shuffled(items, options.seed, 'split')
  note = f'flowers are {total:,} images, {path} holds {len(items):,}: {count} are for validation'
  return conversion.Plan(
    name='flowers',
    splits={'train': ordered[count:], 'validation': ordered[:count]},
    labels=CLASSES,
    num_shards=_SHARDS,
    as_slim=True,
    folders=(path,) if path.is_dir() else (),
    notes=() if len(items) == total else (note,),
  )


def _items(root: Path, work_dir: Path) -> Iterator[conversion.Item]:
  """Images are called <class>/<file>, wherever they lie: the same split from every copy."""
  folders = [name for name in CLASSES if (root / name).is_dir()]
  walked = (sources.walk_folder(root / name, f'{name}/') for name in folders)
  entries = itertools.chain(*walked) if root.is_dir() else sources.walk(root, work_dir)
  for entry in entries:
    *_, folder, name = ('', *entry.path.split('/'))
    if folder in CLASSES:
      yield conversion.Item(f'{folder}/{name}', CLASSES.index(folder), entry.source)


convert = functools.partial(conversion.convert, make_plan)
