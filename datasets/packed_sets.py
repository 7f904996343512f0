"""ImageNet's sisters as TensorFlow Datasets, Hugging Face and WebDataset have them.

The files are read by the formats' own readers; what is to be found out is which set they are and
what their numbers of classes mean. TensorFlow Datasets' numbers are among ImageNet's 1,000 classes,
also of -A and -R; those of others are often among the 200 of the set, in the order of their
synsets. Names of classes tell, or a number that only one of the two has; where nothing does,
nothing is converted until `--labels` says the synset of each number.

Published so, as of November 2026: `imagenet_v2`, `imagenet_a`, `imagenet_r`, `imagenet_sketch`,
`imagenet2012_real` and `imagenet2012_corrupted` of TensorFlow Datasets (their builders in
tensorflow/datasets); barkermrl/imagenet-a (ClassLabel of 200 synsets), axiong/imagenet-r (a column
`wnid`), songweig/imagenet_sketch (1,000 texts) and clip-benchmark/wds_imagenetv2, wds_imagenet-a,
-r, -o, wds_imagenet_sketch and wds_objectnet (numbers in `.cls`, `classnames.txt`) of Hugging Face.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from . import (
  conversion,
  evaluation_sets,
  files,
  huggingface,
  imagenet,
  listing,
  sources,
  tfds,
  webdataset,
)
from .conversion import Item
from .evaluation_sets import EvaluationSet, WithoutBorder
from .listing import LabelledImage

_CONTAINERS = webdataset, tfds, huggingface
# Folders in a set: above them stands its name.
_INNER = re.compile(
  r'train|test|validation|val|data|default|main|snapshots|refs|convert|parquet|partial-\w+'
  r'|[0-9a-f]{40}|\d+\.\d+\.\d+'
)
_DEPTH = 4  # folders: data_dir, set, configuration, version
_OWNER = re.compile(r'.*--')  # datasets--axiong--imagenet-r in a cache of the Hub
_AGREEMENT = 0.25  # of names that are ImageNet's; others' lists have changed up to a half of them
_OBJECTNET = 'objectnet'
_Labels = tuple[int, ...]


def container(paths: Sequence[Path]) -> ModuleType | None:
  """The format of files that hold images with their labels; None: they are no such files."""
  return next((each for each in _CONTAINERS if each.recognize(paths)), None)


# Recognizing


def recognize(name: str, paths: Sequence[Path]) -> str | None:
  """Why this is a set: what TensorFlow Datasets calls it, its name, or its classes."""
  kind = evaluation_sets.SETS[name]
  builder = kind.prepared.partition('/')[0]
  prepared = tfds.prepared(paths) if builder and _may_be_prepared(builder, paths[0]) else []
  if identities := [identity for _, identity in prepared]:
    are_own = all(re.fullmatch(kind.prepared, identity) for identity in identities)
    return f'{files.some(identities)} of TensorFlow Datasets' if are_own else None
  called = next((n for n in _names(paths[0]) if kind.packed and re.fullmatch(kind.packed, n)), '')
  if not called and not kind.classes:
    return None
  classes = huggingface.class_names(paths)
  if called:
    fits = classes is None or _labels_of_names(kind, classes) is not None
    of_format = container(paths)
    return f'the name {called}, and {of_format.recognize(paths)}' if fits and of_format else None
  if classes and set(classes) == set(_synsets(evaluation_sets.subset(kind.classes))):
    return f'the synsets of its {len(classes)} classes'
  return None


def _may_be_prepared(builder: str, path: Path) -> bool:
  """By the folder's name or its own files alone: to look below it may take long."""
  return builder in path.resolve().parts[-_DEPTH:] or (path / tfds.FEATURES).is_file()


def _names(path: Path) -> Iterator[str]:
  """What a set may be called: the name of its folder, and of those above it within the set."""
  for part in reversed(path.resolve().parts[1:]):
    lower = part.lower()
    yield _OWNER.sub('', evaluation_sets.stem(lower))
    if not _INNER.fullmatch(lower) and not lower.endswith(webdataset.SUFFIXES):
      return


# Reading


def make_plan(
  name: str, paths: Sequence[Path], source: str | None, options: conversion.Options, work_dir: Path
) -> conversion.Plan:
  """Reads a set whose images lie in files of `container`, see `conversion.MakePlan`.

  A ValueError also says that it cannot be told which classes its numbers are.
  """
  kind = evaluation_sets.SETS[name]
  evaluation_sets.refuse_training(kind, options)
  notes: list[str] = []
  unusable: list[tuple[str, str]] = []
  items: list[Item] = []
  from_zero = container(paths) is tfds
  for prefix, listed in _listings(kind, paths, options, work_dir):
    images = [*listed.images]  # of all splits, which have other names in every copy
    class_names = listing.names_in(options.labels) if options.labels else listed.class_names
    unlabelled = [image.filename for image in images if image.label in (None, -1)]
    images = [image for image in images if image.label not in (None, -1)]
    if images:
      labels_of = _label_function(kind, images, class_names, source, from_zero)
      items += _items(kind, images, labels_of, prefix, notes)
    if unlabelled:
      such_as = files.some(unlabelled)
      notes.append(f'{len(unlabelled):,} images without a label are left out, such as {such_as}')
    notes += [note for note in listed.notes if note != tfds.NUMBERED_FROM_ZERO]
    unusable += listed.unusable
  if not items:
    nothing = '; '.join([*notes, *(f'{file}: {why}' for file, why in unusable[:1])])
    raise ValueError(f'no images of {kind.title} in {source}' + (f': {nothing}' if nothing else ''))
  return evaluation_sets.plan_of(kind, items, paths, notes, unusable)


def _listings(
  kind: EvaluationSet, paths: Sequence[Path], options: conversion.Options, work_dir: Path
) -> Iterator[tuple[str, listing.Listing]]:
  """What the files hold, with what the names of images begin with."""
  of_format = container(paths)
  if of_format is None:
    raise ValueError(f'{paths[0]} is no file of images with labels; expected {kind.layout}')
  if of_format is not tfds:
    yield '', of_format.read(paths, options, work_dir)
    return
  if kind.several and options.label_column is None:
    options = dataclasses.replace(options, label_column='real_label')
  if kind.depth == 1:
    yield '', tfds.read(paths, options, work_dir)
    return
  for folder, identity in tfds.prepared(paths):
    corruption, _, severity = identity.partition('/')[2].rpartition('_')
    yield f'{corruption}/{severity}/', tfds.read([folder], options, work_dir)


def _items(
  kind: EvaluationSet,
  images: Sequence[LabelledImage],
  labels_of: Callable[[LabelledImage], _Labels],
  prefix: str,
  notes: list[str],
) -> list[Item]:
  items, others = [], 0
  for image in images:
    labels = labels_of(image)
    if not labels and not isinstance(image.label, tuple):
      others += 1
      continue
    border = kind.border and not isinstance(image.source, sources.Unreadable)
    content = WithoutBorder(image.source, kind.border, if_red=True) if border else image.source
    items.append(Item(prefix + image.filename, labels if kind.several else labels[0], content))
  if others:
    notes.append(f'{others:,} images of no class of ImageNet are left out')
  return items


# What numbers and names of classes mean


def _label_function(
  kind: EvaluationSet,
  images: Sequence[LabelledImage],
  class_names: Sequence[str] | None,
  source: str | None,
  from_zero: bool,
) -> Callable[[LabelledImage], _Labels]:
  """What gives an image its labels.

  Args:
    kind: of the set.
    images: all with a label.
    class_names: of the numbers, where the source or --labels say them.
    source: as the user wrote it, for messages.
    from_zero: whether numbers without names are known to be ImageNet's, from 0 on.

  Raises:
    ValueError: that cannot be told, or there are several labels where the set has one.
  """
  values = {value for image in images for value in _values(image)}
  several = next((i for i in images if isinstance(i.label, tuple)), None)
  if several and not kind.several:
    raise ValueError(
      f'{several.filename} has several labels, images of {kind.title} have one: --label_column '
      'names another column'
    )
  if any(isinstance(value, str) for value in values):
    by_name = {name: _labels_of_name(kind, str(name)) for name in values}
    unknown = sorted(str(name) for name, labels in by_name.items() if labels is None)
    if unknown and (kind.classes != _OBJECTNET or len(unknown) == len(by_name)):
      raise ValueError(
        f'labels of {source} are no synsets of ImageNet: {files.some(unknown)}; --label_column '
        'names the column that has them'
      )
    return _joined({name: labels or () for name, labels in by_name.items()})
  numbers = sorted(int(value) for value in values)
  if class_names is None:
    of_numbers = _labels_of_numbers(kind, numbers, from_zero)
  else:
    of_names = _labels_of_names(kind, class_names)
    of_numbers = None if of_names is None else dict(enumerate(of_names))
  if of_numbers is None or (numbers and not set(numbers) <= of_numbers.keys()):
    raise ValueError(f'{source}: {_question(kind, numbers, class_names)}')
  return _joined(of_numbers)


def _question(
  kind: EvaluationSet, numbers: Sequence[int], class_names: Sequence[str] | None
) -> str:
  labels = f'the labels {numbers[0]} to {numbers[-1]}' if numbers else 'the labels'
  if class_names is not None:
    names = f'{len(class_names):,} classes, {files.some(class_names)}'
    text = f'{labels} of {names}, are not known in {kind.title}'
  elif not numbers or kind.classes == _OBJECTNET:
    text = f'which classes of {kind.title} {labels} are is not said'
  elif kind.classes:
    count = len(evaluation_sets.subset(kind.classes))
    text = (
      f'{labels} may be among the {count} classes of {kind.title} or among all 1,000, from 0 or '
      'from 1 on'
    )
  else:
    return evaluation_sets.question_of_numbers(kind, numbers, 'labels')
  return f'{text}: {evaluation_sets.LABELS_FLAG}'


def _values(image: LabelledImage) -> _Labels | tuple[str | int, ...]:
  if isinstance(image.label, tuple):
    return image.label
  return () if image.label is None else (image.label,)


def _joined(labels_of: Mapping[str | int, _Labels] | Mapping[int, _Labels]) -> Callable:
  """From the labels of names or numbers to those of images."""

  def of(image: LabelledImage) -> _Labels:
    labels = {label for value in _values(image) for label in labels_of[value]}  # type: ignore[index]
    return tuple(sorted(labels))

  return of


def _labels_of_numbers(
  kind: EvaluationSet, numbers: Sequence[int], from_zero: bool
) -> dict[int, _Labels] | None:
  """{number: labels} of numbers without names; None where it cannot be told.

  They may be ImageNet's, from 0 on or, as slim counts, from 1 on, or those of the set's classes.
  """
  if not numbers or kind.classes == _OBJECTNET:
    return None
  labels = evaluation_sets.subset(kind.classes) if kind.classes else range(1, 1001)
  readings = list(evaluation_sets.numberings(labels))
  if from_zero:
    readings = readings[:1]
  elif kind.classes:
    readings.append(dict(enumerate(labels)))
  fitting = [reading for reading in readings if reading.keys() >= set(numbers)]
  if len(fitting) != 1:
    return None
  return {number: (label,) for number, label in fitting[0].items()}


def _labels_of_names(kind: EvaluationSet, names: Sequence[str]) -> list[_Labels] | None:
  """The labels of a list of classes; None where the list is not known."""
  by_synset = imagenet.labels_by_synset()
  if kind.classes == _OBJECTNET:
    of_objects = [_labels_of_name(kind, name) for name in names]
    known = sum(labels is not None for labels in of_objects)
    # The list of all 313 objects, or of those that are classes of ImageNet.
    return [labels or () for labels in of_objects] if known >= min(100, len(names)) else None
  if any(name in by_synset for name in names):  # numbers stand where no image says the synset
    known = all(name in by_synset or name.isdecimal() for name in names)
    return [(by_synset[n],) if n in by_synset else () for n in names] if known else None
  lists = [range(1, 1001), range(1001)]  # the second with a background
  for labels in [*lists, evaluation_sets.subset(kind.classes)] if kind.classes else lists:
    if len(labels) == len(names):
      are_numbers = all(name.isdecimal() for name in names)
      if are_numbers or _agreement(names, labels) >= _AGREEMENT:
        return [(label,) if label else () for label in labels]
  return None


def _agreement(names: Sequence[str], labels: Sequence[int]) -> float:
  """The share of names that are among those of the class at their place."""
  texts = imagenet.labels()
  equal = sum(
    _folded(name) in map(_folded, [texts[label], *texts[label].split(', ')])
    for name, label in zip(names, labels, strict=True)
  )
  return equal / len(names)


def _labels_of_name(kind: EvaluationSet, name: str) -> _Labels | None:
  """Labels of a synset or of ObjectNet's name or folder; None where it is no such."""
  if kind.classes == _OBJECTNET:
    folded = _folded(name)
    objects = evaluation_sets.objects()
    return next((o.labels for o in objects if folded in (_folded(o.folder), _folded(o.name))), None)
  label = imagenet.labels_by_synset().get(name)
  return None if label is None else (label,)


def _folded(name: str) -> str:
  """A name without what lists differ in: capitals, and what is no letter or digit."""
  return re.sub(r'[^a-z0-9]+', '', name.lower())


def _synsets(labels: Sequence[int]) -> list[str]:
  order = list(imagenet.synsets())
  return [order[label - 1] for label in labels]
