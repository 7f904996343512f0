"""The images that are looked at: of records, or of a source as a conversion would take it."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slim_inception.datasets import (
  conversion,
  dataset_factory,
  dataset_info,
  formats,
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
  """

  filename: str
  split: str
  labels: tuple[int, ...]
  source: sources.Source


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


@contextlib.contextmanager
def opened(
  dataset_dir: str | None, source: str | None, dataset_name: str, split: str | None, work_dir: Path
) -> Iterator[Listing]:
  """Lists images; what has to be unpacked for that lies in a folder while the context is open.

  Args:
    dataset_dir: a folder of records, or a source; None: `source` is given.
    source: what `slim-inception data` takes.
    dataset_name: of the records or the source; '' lets the source tell.
    split: this one alone; None: all.
    work_dir: for what is unpacked; is there.

  Raises:
    ValueError: there are no images, no such split, or the source is not as its format expects.
    OSError: something cannot be read.
  """
  if dataset_dir is not None and not source_records.is_source(dataset_dir, dataset_name):
    yield of_records(dataset_dir, dataset_name, split)
    return
  options = conversion.Options(split=split)
  where = source or dataset_dir
  with waiting(f'Looking through {where}', at_once=False):
    plan = _plan_of(dataset_name)(where, options, work_dir)
  if split is not None and split not in plan.splits:
    raise ValueError(f'{where} has no split {split!r}; it has {", ".join(plan.splits)}')
  images = [
    Image(item.filename, name, shard_job.labels_of(item), item.source)
    for name, items in plan.splits.items()
    if split in (None, name)
    for item in items
  ]
  if not images:
    raise ValueError(f'{where} has no images')
  names = dict(enumerate(plan.labels))
  yield Listing(str(where), images, names, plan.label_offset, plan.unusable, plan.multi_label)


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
