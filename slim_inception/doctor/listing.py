"""The images that are looked at: of records, or of a source as a conversion would take it."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slim_inception.datasets import (
  conversion,
  dataset_factory,
  dataset_info,
  formats,
  joined,
  record_listing,
  shard_job,
  shards,
  source_records,
  sources,
)
from slim_inception.datasets.progress_bar import waiting


class Image(NamedTuple):
  """One image of a set.

  Attributes:
    filename: as the record or the source calls it; '' where it has no name.
    split: that it is in.
    labels: numbers.
    source: its file.
    place: the set that it is of, where there are several; '' where there is one.
  """

  filename: str
  split: str
  labels: tuple[int, ...]
  source: sources.Source
  place: str = ''

  @property
  def title(self) -> str:
    """Its name, with the set that it is of."""
    return f'{self.place}: {self.filename}' if self.place else self.filename


@dataclasses.dataclass(frozen=True)
class Listing:
  """A set of images.

  Attributes:
    title: what it is.
    images: of all splits, one split after the other.
    names: of the labels, from 0.
    first_label: that images can have: 1 where 0 is a background.
    unusable: what of a source cannot be used, and why.
    multi_label: images may have several labels, or none.
  """

  title: str
  images: list[Image]
  names: dict[int, str]
  first_label: int = 0
  unusable: tuple[tuple[str, str], ...] = ()
  multi_label: bool = False

  @property
  def splits(self) -> list[str]:
    """Their names, in order."""
    return list(dict.fromkeys(image.split for image in self.images))

  @property
  def places(self) -> list[str]:
    """The sets that the images are of, in order; [''] where there is one."""
    return list(dict.fromkeys(image.place for image in self.images))


def of_sets(
  dataset_dir: str | None, source: str | None, dataset_name: str, split: str | None, work_dir: Path
) -> Listing:
  """Lists the images of a set, or of several as one.

  Args:
    dataset_dir: a folder of records, or a source, or several with commas between them; None:
      `source` is given.
    source: what `slim-inception data` takes.
    dataset_name: of the records or the source; '' lets the source tell.
    split: this one alone; None: all.
    work_dir: for what is unpacked, which has to stay; is there.

  Raises:
    ValueError: there are no images, no such split, the source is not as its format expects, or a
      label means different things in two sets.
    OSError: something cannot be read.
  """
  places = joined.folders(dataset_dir)
  if len(places) < 2:
    return _of_set(dataset_dir, source or dataset_dir or '', dataset_name, split, work_dir)
  joined.check_distinct(places)
  listings = []
  for number, place in enumerate(places):
    own = work_dir / str(number)
    own.mkdir()
    listings.append(_of_set(place, place, dataset_name, split, own))
  return _together(listings, places)


def _of_set(
  dataset_dir: str | None, source: str, dataset_name: str, split: str | None, work_dir: Path
) -> Listing:
  if dataset_dir is not None and not source_records.is_source(dataset_dir, dataset_name):
    return of_records(dataset_dir, dataset_name, split)
  options = conversion.Options(split=split)
  with waiting(f'Looking through {source}', at_once=False):
    plan = _plan_of(dataset_name)(source, options, work_dir)
  if split is not None and split not in plan.splits:
    raise ValueError(f'{source} has no split {split!r}; it has {", ".join(plan.splits)}')
  images = [
    Image(item.filename, name, shard_job.labels_of(item), item.source)
    for name, items in plan.splits.items()
    if split in (None, name)
    for item in items
  ]
  if not images:
    raise ValueError(f'{source} has no images')
  names = dict(enumerate(plan.labels))
  return Listing(source, images, names, plan.label_offset, plan.unusable, plan.multi_label)


def _together(listings: Sequence[Listing], places: Sequence[str]) -> Listing:
  """All images of some sets, split by split, if their labels mean the same."""
  first, *others = listings
  for other, place in zip(others, places[1:], strict=True):
    problem = joined.difference_of_names(_given(first.names), _given(other.names))
    for what in ('first_label', 'multi_label'):
      here, there = getattr(first, what), getattr(other, what)
      if not problem and here != there:
        problem = f'{what} is {here} in the first and {there} in the second'
    if problem:
      raise ValueError(f'{places[0]} and {place} cannot be looked at together: {problem}')
  images = [
    image._replace(place=place)
    for listing, place in zip(listings, places, strict=True)
    for image in listing.images
  ]
  order = {split: number for number, split in enumerate(dict.fromkeys(i.split for i in images))}
  return dataclasses.replace(
    first,
    title=', '.join(listing.title for listing in listings),
    images=sorted(images, key=lambda image: order[image.split]),
    names=max(
      (each.names for each in listings), key=lambda names: (bool(_given(names)), len(names))
    ),
    unusable=tuple(each for listing in listings for each in listing.unusable),
  )


def _given(names: dict[int, str]) -> dict[int, str]:
  """Names of labels, if they are more than their numbers."""
  return {} if all(name == str(label) for label, name in names.items()) else names


def _plan_of(dataset_name: str) -> conversion.MakePlan:
  """What makes the plan of a format or of a known data set; '': the source tells."""
  for candidate in formats.FORMATS:
    if candidate.name == dataset_name:
      return candidate.plan
  known = dataset_factory.DATASETS.get(dataset_name)
  if known and isinstance(known.convert, functools.partial):
    return known.convert.args[0]
  return formats.make_plan


def of_records(dataset_dir: str, dataset_name: str = '', split: str | None = None) -> Listing:
  """Lists records: of each the names and labels alone are read.

  Raises:
    ValueError, OSError: the records are damaged or not there, or there is no such split.
  """
  info = dataset_info.read_info(dataset_dir) if os.path.isdir(dataset_dir) else None
  name = info.name if info else dataset_name or 'image_folder'
  if name not in dataset_factory.DATASETS:
    name = 'image_folder'
  names_of_splits = [split] if split else list(info.splits) if info else _splits_in(dataset_dir)
  images: list[Image] = []
  for split_name in names_of_splits:
    dataset = dataset_factory.get_dataset(name, split_name, dataset_dir)
    for path in sorted(dataset.paths):
      listed = record_listing.of_shard(path, dataset.schema)
      images += [Image(r.filename, split_name, r.labels, r.source) for r in listed]
  title = f'{dataset_dir} ({dataset.name})'
  return Listing(
    title,
    images,
    dataset.labels_to_names or {label: str(label) for label in range(dataset.num_classes)},
    dataset.label_offset,
    multi_label=dataset.multi_label,
  )


def _splits_in(dataset_dir: str) -> list[str]:
  if not os.path.isdir(dataset_dir):
    raise FileNotFoundError(f'{dataset_dir} is neither a folder of records nor a source of images')
  return sorted(shards.splits_in(dataset_dir), key=lambda name: (name != 'train', name))
