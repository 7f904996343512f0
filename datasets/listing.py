"""From what the reader of a format lists to a plan of conversion: classes, splits, shares held out.

A reader says of every image what its source says: a name, labels, a split. What follows from that
is the same for all formats, and is done here.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from . import conversion, duplicates, files, holdout, label_files, sources
from .conversion import Item

Label = str | int

IMAGES_PER_SHARD = 1000
_UNLABELLED = -1  # what Hugging Face and timm write for test images
_BLANK = 'nan', 'none', 'null', 'na', 'n/a'  # as programs write what they do not have
_SHOWN = 3  # of what there may be a million of
_MOST_CLASSES = 10_000_000  # a larger number is no class's
_MANY_CLASSES, _MOST_UNUSED = 100_000, 100  # above it, so many for each class that has images


class LabelledImage(NamedTuple):
  """An image as its source has it.

  Attributes:
    filename: what the record and the report call it; no other image of the source has this name.
    label: name or number of its class, a tuple of any number of them where an image may have
      several, or None where it has none.
    split: 'train', 'validation' or 'test'; '' where the source does not say.
    source: where its bytes are. `sources.Unreadable` is listed in the report.
  """

  filename: str
  label: Label | tuple[Label, ...] | None
  split: str
  source: sources.Source


@dataclasses.dataclass
class Listing:
  """What a source holds.

  Attributes:
    images: all of them, in an order that does not change from run to run. They are taken once, so
      that a million need not be held in memory twice; the reader may add to the lists below until
      the last has been taken.
    class_names: in the order of their labels, where the source has such a list: label 3 is its
      fourth name. Without it, names are sorted, and numbers are their own names.
    folders: whatever appears in them is taken as source, so no records may be written there.
    notes: what the user should know about the source, a line each.
    unusable: what cannot be used, and why: it ends in the report like an image that is broken.
  """

  images: Iterable[LabelledImage]
  class_names: Sequence[str] | None = None
  folders: tuple[Path, ...] = ()
  notes: list[str] = dataclasses.field(default_factory=list)
  unusable: list[tuple[str, str]] = dataclasses.field(default_factory=list)


# Paths of the source, options, a folder for what has to be unpacked -> what there is. It raises as
# `conversion.MakePlan`.
Read = Callable[[Sequence[Path], conversion.Options, Path], Listing]


def make_plan(
  name: str, listing: Listing, source: str | None, options: conversion.Options
) -> conversion.Plan:
  """Gives every image its label and its split.

  Args:
    name: of the data set.
    listing: of the source.
    source: as the user wrote it, for messages.
    options: `split`, `validation_fraction`, `labels`, `seed`.

  Raises:
    ValueError: there is no labelled image, labels are of mixed types, a list of classes does not
      fit, or an option has no meaning for this source.
  """
  collected = _collect(listing)
  if not collected.names and collected.largest < 0:
    nothing = '; '.join([*listing.notes, *(f'{file}: {why}' for file, why in listing.unusable[:1])])
    raise ValueError(f'no labelled images in {source}' + (f': {nothing}' if nothing else ''))
  class_names = names_in(options.labels) if options.labels else listing.class_names
  where = options.labels or f'the list of classes of {source}'
  labels = collected.relabel(class_names, where, listing.notes)
  splits = _choose_splits(collected.items, options, source)
  _check_classes(splits, labels, collected.is_multi_label, source, listing)
  copies = duplicates.find(item for items in splits.values() for item in items)
  if options.split is None and 'validation' not in splits and 'train' in splits:
    splits = _hold_out(splits, options, copies, listing.notes)
  else:
    has = 'no images for training' if 'train' not in splits else 'validation images'
    reason = '--split holds nothing out' if options.split else f'{source} has {has}'
    conversion.refuse(options, reason, 'validation_fraction')
  if blank := sorted({name for name in labels if name.lower() in _BLANK}):
    listing.notes.append(f'a class is called {files.some(blank)}: is it the lack of a label?')
  notes = [*listing.notes, *holdout.notes_of_copies(copies, splits)]
  return conversion.Plan(
    name=name,
    splits=splits,
    labels=labels,
    # Several files even for a small training set, so that several readers and workers share it.
    num_shards={
      split: conversion.num_shards(of_split, IMAGES_PER_SHARD, 4 if split == 'train' else 1)
      for split, of_split in splits.items()
    },
    multi_label=collected.is_multi_label,
    folders=listing.folders,
    notes=tuple(notes),
    unusable=tuple(listing.unusable),
    copies=copies,
  )


def sorted_names(names: Iterable[str]) -> list[str]:
  """Names in the order of their labels: numbers as numbers (0, 1, 2, ..., 10), others as texts."""
  names = list(names)
  if names and all(name.isascii() and name.isdecimal() for name in names):
    return sorted(names, key=lambda name: (int(name), name))
  return sorted(names)


def note_of_numbers(names: Sequence[str]) -> list[str]:
  """What to say of classes whose order as numbers is not that as texts."""
  if list(names) == sorted(names):
    return []
  shown = [*names[:3], '...', names[-1]] if len(names) > 4 else names
  return [f'the names of the classes are numbers, and are sorted as such: {", ".join(shown)}']


# Labels


@dataclasses.dataclass
class _Collected:
  """Items by split, whose labels are numbers: the source's own, or those of `names`."""

  items: dict[str, list[Item]]
  names: list[str]  # in the order in which they came
  is_multi_label: bool
  largest: int

  def relabel(
    self, class_names: Sequence[str] | None, where: str, notes: list[str]
  ) -> tuple[str, ...]:
    """Gives items the labels that a list of classes, or the order of names, says; returns it.

    Raises:
      ValueError: a label is not in the list.
    """
    if not self.names:  # the source's own numbers
      if class_names is None:
        return self._numbers(notes)
      if self.largest >= len(class_names):
        (item,) = _first(self.items, self.largest)
        raise ValueError(
          f'{where} names {len(class_names):,} classes, 0 to {len(class_names) - 1}, but '
          f'{item.filename} has the label {self.largest}'
        )
      return tuple(class_names)
    if class_names is None:
      class_names = sorted_names(self.names)
      notes += note_of_numbers(class_names)
    index_of = {name: index for index, name in enumerate(class_names)}
    if surplus := [name for name in self.names if name not in index_of]:
      raise ValueError(f'{where} lacks {len(surplus):,} classes of images: {files.some(surplus)}')
    index = [index_of[name] for name in self.names]
    for items in self.items.values():
      for number, item in enumerate(items):
        label = item.label
        new = tuple(sorted(index[i] for i in label)) if isinstance(label, tuple) else index[label]
        items[number] = item._replace(label=new)
    return tuple(class_names)

  def _numbers(self, notes: list[str]) -> tuple[str, ...]:
    used = {
      label
      for items in self.items.values()
      for item in items
      for label in conversion.labels_of(item)
    }
    _refuse_too_many(self.largest + 1, len(used), 'the source has')
    if missing := [str(label) for label in range(self.largest) if label not in used]:
      notes.append(
        f'labels are numbers up to {self.largest}, of which {len(missing):,} are of no image: '
        f'{files.some(missing)}'
      )
    return tuple(map(str, range(self.largest + 1)))


def _check_classes(
  splits: Mapping[str, Sequence[Item]],
  labels: Sequence[str],
  is_multi_label: bool,
  source: str | None,
  listing: Listing,
) -> None:
  """Speaks of classes of which images are for validation or tests alone.

  Raises:
    ValueError: there is one class to train on, or there are too many.
  """
  used = {
    split: {lb for i in items for lb in conversion.labels_of(i)} for split, items in splits.items()
  }
  count = len(set().union(*used.values()))
  if len(labels) < 2 and not is_multi_label and 'train' in splits:
    damage = ''.join(f' ({file}: {why})' for file, why in listing.unusable[:1])
    raise ValueError(
      f'all images of {source} are of one class, {labels[0]!r}: a classifier needs two{damage}'
    )
  _refuse_too_many(len(labels), count, f'{source} has')
  for split in [name for name in used if 'train' in used and name != 'train']:
    if missing := sorted(used[split] - used['train']):
      names = files.some(labels[label] for label in missing)
      listing.notes.append(f'no training images of {len(missing):,} classes of {split}: {names}')


def _refuse_too_many(num_classes: int, num_used: int, what: str) -> None:
  """Raises ValueError where a number is likely to be none of a class: so few have images."""
  if num_classes > max(_MANY_CLASSES, _MOST_UNUSED * num_used):
    raise ValueError(
      f'{what} labels up to {num_classes - 1:,}, and images of {num_used:,} classes: these are no '
      'numbers of classes from 0 on'
    )


def _first(items: Mapping[str, list[Item]], label: int) -> list[Item]:
  """The first item of a label, in a list."""
  of_label = (
    i for of_split in items.values() for i in of_split if label in conversion.labels_of(i)
  )
  return [next(of_label)]


def _collect(listing: Listing) -> _Collected:
  """Takes all images of a listing; what has no label, or comes twice, is left out.

  Raises:
    ValueError: labels are of mixed types, or no numbers of classes.
  """
  items: dict[str, list[Item]] = collections.defaultdict(list)
  seen: set[str] = set()
  index_of: dict[str, int] = {}
  first_of_kind: dict[object, tuple[str, object]] = {}  # name or number, one or several
  unlabelled: list[str] = []
  num_unlabelled, largest, is_multi_label = 0, -1, False
  for filename, said, split, source in listing.images:
    label = _cleaned(said)
    if label is None or label == _UNLABELLED:
      unlabelled += [filename] if num_unlabelled < _SHOWN else []
      num_unlabelled += 1
      continue
    if filename in seen:
      listing.unusable.append((filename, 'there is another of this name, which is taken'))
      continue
    seen.add(filename)
    of_image = label if isinstance(label, tuple) else (label,)
    numbers = []
    for value in of_image:
      kind = type(value), type(label) is tuple
      if kind not in first_of_kind:
        first_of_kind[kind] = filename, label
        _check_kinds(first_of_kind)
      if isinstance(value, int):
        if not 0 <= value < _MOST_CLASSES:
          raise ValueError(f'{filename} has the label {value}, which is no number of a class')
        largest = max(largest, value)
        numbers.append(value)
      else:
        numbers.append(index_of.setdefault(value, len(index_of)))
    is_multi_label |= isinstance(label, tuple)
    of_item = tuple(sorted(set(numbers))) if isinstance(label, tuple) else numbers[0]
    items[split].append(Item(filename, of_item, source))
  if num_unlabelled:
    such_as = ', '.join(unlabelled)
    listing.notes.append(
      f'{num_unlabelled:,} images without a label are left out, such as {such_as}'
    )
  return _Collected(dict(items), list(index_of), is_multi_label, largest)


def _cleaned(
  label: Label | tuple[Label, ...] | None,
) -> Label | tuple[Label, ...] | None:
  """A label as text that records can hold; no text is no label."""
  if isinstance(label, str):
    return files.readable(label) or None
  if isinstance(label, tuple):
    return tuple(files.readable(v) if isinstance(v, str) else v for v in label if v != '')
  return label


def _check_kinds(first_of_kind: Mapping[object, tuple[str, object]]) -> None:
  if len(first_of_kind) > 1:
    (name, label), (other, another), *_ = first_of_kind.values()
    raise ValueError(f'labels are of mixed types: {label!r} of {name}, {another!r} of {other}')


def names_in(path: str, needed: Sequence[str] = ()) -> list[str]:
  """All names of a file of classes.

  Raises:
    ValueError: one is missing, also of those that are needed, or two are equal.
  """
  names = label_files.read_labels(path)
  if missing := [str(label) for label in range(max(names)) if label not in names]:
    raise ValueError(f'{path} does not name the classes {files.some(missing)}')
  counts = collections.Counter(names.values())
  if twice := [name for name, count in counts.items() if count > 1]:
    raise ValueError(f'{path} names several classes {files.some(twice)}')
  if surplus := [name for name in needed if name not in counts]:
    raise ValueError(f'{path} lacks {len(surplus):,} classes of images: {files.some(surplus)}')
  return [names[label] for label in sorted(names)]


# Splits


def _choose_splits(
  items: Mapping[str, list[Item]], options: conversion.Options, source: str | None
) -> dict[str, list[Item]]:
  """What the source or the user says; images of which nobody says it are for training.

  Raises:
    ValueError: the source has splits, but not that which was asked for, or validation images of
      classes of which there are none for training.
  """
  own = {split for split, of_split in items.items() if split and of_split}
  chosen = options.split
  if chosen and not own:
    return {chosen: items['']}
  splits = {
    split: [*items.get(split, ()), *(items.get('', ()) if split == 'train' else ())]
    for split in conversion.SPLITS
  }
  splits = {split: of_split for split, of_split in splits.items() if of_split}
  if chosen:
    if chosen not in splits:
      raise ValueError(f'{source} has no split {chosen!r}; it has {", ".join(splits)}')
    return {chosen: splits[chosen]}
  return splits


def _hold_out(
  splits: Mapping[str, list[Item]],
  options: conversion.Options,
  copies: Sequence[Sequence[Item]],
  notes: list[str],
) -> dict[str, list[Item]]:
  by_class: dict[Label, list[Item]] = collections.defaultdict(list)
  for item in splits['train']:  # of several labels an image has, none is its class
    by_class[item.label if isinstance(item.label, int) else -1].append(item)
  fraction = options.validation_fraction
  fraction = holdout.DEFAULT_FRACTION if fraction is None else fraction
  train, validation = holdout.hold_out(by_class, fraction, options.seed, copies)
  held_out = [item for of_class in validation.values() for item in of_class]
  if fraction and not held_out:
    notes.append('nothing is held out for validation: no class has two different images')
  rest = {split: of_split for split, of_split in splits.items() if split != 'train'}
  return {
    'train': [item for of_class in train.values() for item in of_class],
    **({'validation': held_out} if held_out else {}),
    **rest,
  }
