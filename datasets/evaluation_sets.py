"""ImageNet's sisters: sets of images of its classes, to evaluate nets on and not to train them.

ImageNet-V2 (three), -A, -R, -O, -Sketch, -C and ObjectNet, in the layouts in which they are
published: a row of `SETS` each. Their records have the labels of ImageNet's, 1 to 1000 with 0 as a
background, whatever the folders are called and however many there are, and one split, `validation`.

Folders are synsets, but for two: those of ImageNet-V2 are 0-based indices into the list of synsets,
not padded with zeros, so that who sorts them as text (0, 1, 10, 100, ...) has wrong labels for 988
of 1000 classes (see `numberings`); those of ObjectNet are objects, of which `data/objectnet.tsv`
says the classes of ImageNet, one or more.
"""

import collections
import dataclasses
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from . import conversion, files, imagenet, images, listing, sources, trees
from .conversion import Item

SPLIT = 'validation'
_LOOKED_AT = 1000  # files of a source, to recognize it
_IMAGES_PER_SHARD = 1000
_SYNSET = re.compile(r'n\d{8}')
_INDEX = re.compile(r'0|[1-9]\d{0,2}|1000')  # by those who count from 1
_SEVERITY = re.compile(r'[1-5]')

# Corruptions of ImageNet-C and the errors of AlexNet over their five severities, by which mean
# corruption errors are divided: https://github.com/google-research/augmix, imagenet.py, which names
# https://github.com/hendrycks/robustness. The last four are not part of that mean.
ALEXNET_ERRORS = {
  'gaussian_noise': 0.886428, 'shot_noise': 0.894468, 'impulse_noise': 0.922640,
  'defocus_blur': 0.819880, 'glass_blur': 0.826268, 'motion_blur': 0.785948, 'zoom_blur': 0.798360,
  'snow': 0.866816, 'frost': 0.826572, 'fog': 0.819324, 'brightness': 0.564592,
  'contrast': 0.853204, 'elastic_transform': 0.646056, 'pixelate': 0.717840,
  'jpeg_compression': 0.606500,
}  # fmt: skip
EXTRA_CORRUPTIONS = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
CORRUPTIONS = (*ALEXNET_ERRORS, *EXTRA_CORRUPTIONS)

# Folders above an image -> its class as the set calls it; None: this is no image of the set.
_ClassOf = Callable[[Sequence[str]], str | None]


def _synset(folders: Sequence[str]) -> str | None:
  return folders[-1] if folders and folders[-1] in imagenet.synsets() else None


def _index(folders: Sequence[str]) -> str | None:
  return folders[-1] if folders and _INDEX.fullmatch(folders[-1]) else None


def numberings(labels: Sequence[int]) -> tuple[dict[int, int], ...]:
  """{number: label}, for classes of ImageNet that are numbered from 0 and from 1.

  Of all 1,000 only the first has a 0, only the second a 1000: with neither there is no telling.
  """
  return tuple({label - first: label for label in labels} for first in (1, 0))


def _corrupted(folders: Sequence[str]) -> str | None:
  if len(folders) < 3 or folders[-3] not in CORRUPTIONS or not _SEVERITY.fullmatch(folders[-2]):
    return None
  return _synset(folders)


def _object(folders: Sequence[str]) -> str | None:
  """A folder in images/, or in the source where this is images/ itself."""
  return folders[-1] if folders and folders[-2:-1] in ([], ['images']) else None


def _none(folders: Sequence[str]) -> None:
  """Of a set that is in no folders."""


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
  """A row of `SETS`.

  Attributes:
    name: of records and formats.
    title: of tables.
    size: number of images as published; of each corruption and severity of ImageNet-C.
    layout: in words.
    called: what its folder or archive is called, without suffix and in lower case; None: its
      folders tell.
    class_of: from the folders of an image.
    depth: how many folders belong to the name of an image.
    classes: among which a net chooses: the name of a list of `subset`, '' for all.
    is_known: False of images that are of none of the classes.
    several: an image may be of several classes, any of which is right.
    border: pixels that are cut off on each side.
    packed: what it is called as files of Hugging Face or WebDataset, in lower case.
    prepared: its name and configuration in TensorFlow Datasets.
  """

  name: str
  title: str
  size: int
  layout: str
  called: str | None
  class_of: _ClassOf = _synset
  depth: int = 1
  classes: str = ''
  is_known: bool = True
  several: bool = False
  border: int = 0
  packed: str = ''
  prepared: str = ''


def _v2(name: str, title: str, stem: str, packed: str, config: str) -> EvaluationSet:
  layout = f'{stem}.tar.gz, or its folder, with the folders 0 to 999'
  called = rf'{re.escape(stem)}(-format-val)?'
  return EvaluationSet(
    name, f'ImageNet-V2 {title}', 10_000, layout, called, _index,
    packed=packed, prepared=f'imagenet_v2/{config}',
  )  # fmt: skip


def _packed(name: str) -> str:
  return rf'(wds[-_])?imagenet[-_]{name}([-_]test)?'


_V2_IN_WORDS = r'imagenet[-_]?v2[-_]'


SETS = {
  each.name: each
  for each in (
    _v2(
      'imagenet_v2', 'matched frequency', 'imagenetv2-matched-frequency',
      # CLIP_benchmark's is of this variant.
      rf'wds[-_]imagenetv2([-_]test)?|{_V2_IN_WORDS}matched[-_]frequency', 'matched-frequency',
    ),
    _v2(
      'imagenet_v2_threshold', 'threshold 0.7', 'imagenetv2-threshold0.7',
      rf'{_V2_IN_WORDS}threshold[-_]?0\.?7', r'threshold-0\.7',
    ),
    _v2(
      'imagenet_v2_top_images', 'top images', 'imagenetv2-top-images',
      rf'{_V2_IN_WORDS}top[-_]?images', 'topimages',
    ),
    EvaluationSet(
      'imagenet_a', 'ImageNet-A', 7_500, 'imagenet-a.tar, or its folder', 'imagenet[-_]a',
      classes='imagenet_a', packed=_packed('a'), prepared='imagenet_a',
    ),
    EvaluationSet(
      'imagenet_r', 'ImageNet-R', 30_000, 'imagenet-r.tar, or its folder', 'imagenet[-_]r',
      classes='imagenet_r', packed=_packed('r'), prepared='imagenet_r',
    ),
    EvaluationSet(
      'imagenet_o', 'ImageNet-O', 2_000, 'imagenet-o.tar, or its folder', 'imagenet[-_]o',
      classes='imagenet_o', is_known=False, packed=_packed('o'),
    ),
    EvaluationSet(
      'imagenet_sketch', 'ImageNet-Sketch', 50_889, 'the folder sketch, or an archive of it',
      '(imagenet[-_])?sketch', packed=_packed('sketch'), prepared='imagenet_sketch',
    ),
    EvaluationSet(
      'imagenet_c', 'ImageNet-C', 50_000, 'noise.tar and the like, or CORRUPTION/SEVERITY/<wnid>/',
      None, _corrupted, depth=3, prepared=r'imagenet2012_corrupted/\w+_[1-5]',
    ),
    EvaluationSet(
      'imagenet_real', 'ImageNet validation, ReaL', 50_000,
      'a folder of imagenet2012_real of TensorFlow Datasets', '', _none,
      several=True, prepared='imagenet2012_real',
    ),
    EvaluationSet(
      'objectnet', 'ObjectNet', 18_574, 'the folder objectnet-1.0, with the objects in images/',
      r'objectnet.*', _object, classes='objectnet', several=True, border=2,
      packed='(wds[-_])?objectnet.*',
    ),
  )
}  # fmt: skip


@functools.cache
def subset(name: str) -> tuple[int, ...]:
  """The labels of the classes of one of `SUBSETS`, in order."""
  if name == 'objectnet':
    return tuple(sorted({label for each in objects() for label in each.labels}))
  of_set = {
    line.split('\t')[0]
    for line in imagenet.read_data('imagenet_subsets.tsv').splitlines()
    if name in line.split('\t')[1].split()
  }
  return tuple(label for label, wnid in enumerate(imagenet.synsets(), 1) if wnid in of_set)


SUBSETS = 'imagenet_a', 'imagenet_r', 'imagenet_o', 'objectnet'


class Object(NamedTuple):
  """An object of ObjectNet that is a class of ImageNet, or several."""

  folder: str
  name: str
  labels: tuple[int, ...]


@functools.cache
def objects() -> tuple[Object, ...]:
  """113 of the 313 objects of ObjectNet; the others are no classes of ImageNet."""
  by_synset = imagenet.labels_by_synset()
  rows = [line.split('\t') for line in imagenet.read_data('objectnet.tsv').splitlines()]
  return tuple(
    Object(folder, name, tuple(by_synset[wnid] for wnid in wnids.split()))
    for folder, name, wnids in rows
  )


# Recognizing


def recognize(name: str, paths: Sequence[Path]) -> str | None:
  """Why this is a set: the name of a folder or archive and an image in it; see `formats`."""
  kind = SETS[name]
  for path, parts in itertools.islice(_first_paths(paths), _LOOKED_AT):
    *folders, last = parts
    if not sources.IMAGE_SUFFIX.search(last) or kind.class_of(folders) is None:
      continue
    if kind.called is None:
      return f'an image in the folders {"/".join(folders[-kind.depth :])}'
    if called := [part for part in (stem(path.name), *folders) if _is_called(part, kind.called)]:
      return f'the name {called[0]} and the image {"/".join(parts[-2:])}'
  return None


def several(path: Path) -> dict[str, Path]:
  """The folders and archives in a folder that are called like different sets, by name.

  {} where there are fewer than two: one is a set that lies in a folder of its own.
  """
  entries = sorted(path.iterdir()) if path.is_dir() else []
  named = {
    kind.name: entry
    for kind in SETS.values()
    for entry in entries
    if files.is_visible(entry.name) and _is_named(kind, stem(entry.name))
  }
  return named if len(set(named.values())) > 1 else {}


def _is_named(kind: EvaluationSet, name: str) -> bool:
  patterns = [kind.called or '', kind.packed, kind.prepared.partition('/')[0]]
  return any(pattern and _is_called(name, pattern) for pattern in patterns)


def _is_called(name: str, pattern: str) -> bool:
  return re.fullmatch(pattern, name.lower()) is not None


def _are_called(kind: EvaluationSet, paths: Sequence[Path]) -> bool:
  return kind.called is None or any(_is_called(stem(path.name), kind.called) for path in paths)


def stem(name: str) -> str:
  """The name of a folder or archive, without suffix."""
  suffix = next((suffix for suffix in trees.SUFFIXES if name.lower().endswith(suffix)), '')
  return name[: len(name) - len(suffix)]


def _first_paths(paths: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
  """The first files of folders and archives, with the source that they are in."""
  for path in paths:
    if not path.is_dir():
      yield from ((path, parts) for parts in _first_of_archive(path))
      continue
    for entry in itertools.islice(sources.walk_folder(path), _LOOKED_AT):
      parts = entry.path.split('/')
      if entry.path.lower().endswith(trees.SUFFIXES):
        yield from ((path, inner) for inner in _first_of_archive(path / entry.path))
        break
      yield path, parts


def _first_of_archive(path: Path) -> list[list[str]]:
  if not path.name.lower().endswith(trees.SUFFIXES):
    return []
  try:
    names = sources.first_names(path, _LOOKED_AT)
  except (OSError, ValueError):
    return []
  return [[stem(path.name), *(p for p in name.split('/') if p not in ('', '.'))] for name in names]


# Reading


def make_plan(
  name: str, paths: Sequence[Path], source: str | None, options: conversion.Options, work_dir: Path
) -> conversion.Plan:
  """Finds the images of a set in folders and archives, and their classes.

  Args:
    name: a key of `SETS`.
    paths: of `source`.
    source, options, work_dir: see `conversion.MakePlan`.
  """
  kind = SETS[name]
  if kind.class_of is not _index:
    conversion.refuse(options, f'the classes of {kind.title} are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  refuse_training(kind, options)
  # In a folder of more than the set, what lies elsewhere is not of it.
  is_inside = not _are_called(kind, paths) and recognize(name, paths) is not None
  tree = trees.Archives(paths, work_dir)
  items: list[Item] = []
  ignored: dict[str, list[str]] = collections.defaultdict(list)
  for entry in tree.walk(tree.root, '', [], ()):
    *folders, last = entry.path.split('/')
    if not sources.IMAGE_SUFFIX.search(last):
      continue
    if is_inside and not any(_is_called(folder, kind.called or '') for folder in folders):
      ignored[f'images outside of {kind.title} are left out'].append('/'.join(folders))
      continue
    class_name = kind.class_of(folders)
    labels = None if class_name is None else _labels_of(kind, class_name)
    if not labels:
      reason = 'no class of the set' if class_name is None else 'no class of ImageNet'
      ignored[f'images of folders that are {reason} are left out'].append('/'.join(folders))
      continue
    filename = '/'.join([*folders[-kind.depth :], last])
    content = WithoutBorder(entry.source, kind.border) if kind.border else entry.source
    items.append(Item(filename, labels if kind.several else labels[0], content))
  if not items:
    what = ''.join(f'; {len(names):,} {reason}' for reason, names in ignored.items())
    raise ValueError(f'no images of {kind.title} in {source}{what}; expected {kind.layout}')
  notes = [f'{len(n):,} {reason}: {files.some(sorted(set(n)))}' for reason, n in ignored.items()]
  if kind.class_of is _index:
    items = _of_numbers(kind, items, options.labels, source, notes)
  return plan_of(kind, items, paths, notes, tree.unusable)


def _of_numbers(
  kind: EvaluationSet,
  items: Sequence[Item],
  labels: str | None,
  source: str | None,
  notes: list[str],
) -> list[Item]:
  """Images in folders that are numbers, with their labels.

  Args:
    kind: of the set.
    items: whose labels are those of folders that are numbered from 0.
    labels: the file of --labels, which says the synset of each number; None: the numbers tell.
    source: as the user wrote it, for messages.
    notes: gets what the numbers were taken for, unless it is what was published.

  Raises:
    ValueError: they do not tell, or the file has no synset of ImageNet for one of them.
  """
  numbers = sorted({item.label - 1 for item in items if isinstance(item.label, int)})
  if labels:
    names, by_synset = listing.names_in(labels), imagenet.labels_by_synset()
    label_of = {number: by_synset[name] for number, name in enumerate(names) if name in by_synset}
    if missing_ones := [str(number) for number in numbers if number not in label_of]:
      raise ValueError(f'{labels} has no synset of ImageNet for {files.some(missing_ones)}')
  else:
    fitting = [each for each in numberings(range(1, 1001)) if each.keys() >= set(numbers)]
    if len(fitting) != 1:
      raise ValueError(f'{source}: {question_of_numbers(kind, numbers, "folders")}')
    (label_of,) = fitting
    if 0 not in label_of:
      notes.append(f'the folders are taken as numbered from 1, since there is a {numbers[-1]}')
  return [item._replace(label=label_of[item.label - 1]) for item in items]  # type: ignore[operator]


LABELS_FLAG = '--labels=FILE, with a synset for each of them, one a line, says it'


def question_of_numbers(kind: EvaluationSet, numbers: Sequence[int], what: str) -> str:
  """Why numbers of all 1,000 classes do not tell these, and what does."""
  span = f'the {what} {numbers[0]} to {numbers[-1]} of {kind.title}'
  if {0, 1000} & set(numbers):
    return f'{span} are more than the 1,000 classes: {LABELS_FLAG}'
  return (
    f'{span} may count from 0 or from 1 (a 0 would tell the first, a 1000 the second): '
    f'{LABELS_FLAG}; one that begins with n01440764 counts from 0'
  )


def refuse_training(kind: EvaluationSet, options: conversion.Options) -> None:
  """Raises ValueError where images of a set are to be held out for validation."""
  conversion.refuse(options, f'{kind.title} is not for training', 'validation_fraction')


def plan_of(
  kind: EvaluationSet,
  items: Sequence[Item],
  paths: Sequence[Path],
  notes: Sequence[str],
  unusable: Sequence[tuple[str, str]],
) -> conversion.Plan:
  """Of the images of a set, with ImageNet's labels.

  Raises:
    ValueError: an image is there twice.
  """
  _check_names(items)
  return conversion.Plan(
    name=kind.name,
    splits={SPLIT: [*items]},
    labels=imagenet.labels(),
    num_shards={SPLIT: conversion.num_shards(items, _IMAGES_PER_SHARD)},
    label_offset=1,
    synsets=('', *imagenet.synsets()),
    as_slim=not kind.border,  # JPEGs keep their bytes, as in everyone's published numbers
    folders=tuple(path for path in paths if path.is_dir()),
    notes=(*missing(kind, [item.filename for item in items]), *notes),
    multi_label=kind.several,
    unusable=tuple(unusable),
  )


def missing(kind: EvaluationSet, filenames: Sequence[str]) -> list[str]:
  """What to say of a set that does not have as many images as were published."""
  if kind.class_of is not _corrupted:
    differs = len(filenames) != kind.size
    return [f'{kind.title} has {kind.size:,} images, not {len(filenames):,}'] * differs
  counts = collections.Counter(map(corruption_of, filenames))
  notes = [
    f'{kind.title} has {kind.size:,} images of {corruption} {severity}, not {count:,}'
    for (corruption, severity), count in counts.items()
    if count != kind.size
  ]
  absent = [
    f'{corruption} {severity}'
    for corruption in ALEXNET_ERRORS
    for severity in range(1, 6)
    if (corruption, severity) not in counts
  ]
  if absent:
    notes.append(f'{kind.title} without {files.some(absent)}')
  return notes


def corruption_of(filename: str) -> tuple[str, int]:
  """Corruption and severity of an image of ImageNet-C, by the name in its record."""
  corruption, severity, *_ = filename.split('/')
  return corruption, int(severity)


class WithoutBorder(NamedTuple):
  """An image whose outermost pixels are cut off: a PNG, which loses nothing."""

  image: sources.Source
  border: int  # pixels on each side
  if_red: bool = False  # only where they are, as ObjectNet's are published

  @property
  def size(self) -> int:
    return self.image.size

  def read(self) -> bytes:
    decoded = images.decode(self.image.read(), upright=False)
    width, height = decoded.size
    if self.if_red and not _has_red_border(decoded, self.border):
      return self.image.read()
    if min(width, height) <= 2 * self.border:
      raise images.BadImageError(f'{width} x {height} pixels are nothing but border')
    box = self.border, self.border, width - self.border, height - self.border
    file = io.BytesIO()
    decoded.crop(box).save(file, 'PNG', compress_level=1)
    return file.getvalue()


def _has_red_border(image: Image.Image, border: int) -> bool:
  """Whether the outermost pixels are red; those within are another colour where it is thinner."""
  import numpy as np  # not in every process of a pool

  pixels = np.asarray(image.convert('RGB'), np.int16)
  edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
  red, green, blue = np.median(np.concatenate(edges), axis=0)
  return min(pixels.shape[:2]) > 2 * border and red > 200 and max(green, blue) < 60


def _check_names(items: Sequence[Item]) -> None:
  twice = [n for n, count in collections.Counter(i.filename for i in items).items() if count > 1]
  if twice:
    raise ValueError(f'{files.some(twice)} are there twice: give each image once')


def _labels_of(kind: EvaluationSet, class_name: str) -> tuple[int, ...]:
  """The labels of a synset, of a 0-based index or of an object; () for an object of no class."""
  if kind.class_of is _object:
    return next((each.labels for each in objects() if each.folder == class_name), ())
  if _SYNSET.fullmatch(class_name):
    return (imagenet.labels_by_synset()[class_name],)
  return (int(class_name) + 1,)
