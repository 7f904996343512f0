"""Several sets of records as one, where their labels mean the same."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence

from .dataset_factory import Dataset


def folders(dataset_dir: str | None) -> tuple[str, ...]:
  """The paths that a text names, with commas between them; one that is there may have commas."""
  if not dataset_dir or os.path.exists(dataset_dir):
    return (dataset_dir,) if dataset_dir else ()
  return tuple(filter(None, dataset_dir.split(',')))


def join(datasets: Sequence[Dataset], places: Sequence[str]) -> Dataset:
  """All records of the same split of some sets; the only one as it is.

  Args:
    datasets: with the numbers of their shards.
    places: the folder of each, for messages.

  Raises:
    ValueError: a label means different things in two of them, or their records have other keys, or
      a set comes twice.
  """
  first, *others = datasets
  if not others:
    return first
  check_distinct(places)
  for other, place in zip(others, places[1:], strict=True):
    if problem := _difference(first, other):
      raise ValueError(
        f'{places[0]} and {place} cannot be trained on together: {problem}; slim-inception data '
        '--labels=FILE makes records with the labels of another set (its labels.txt)'
      )
  low, high = zip(*(each.label_range for each in datasets), strict=True)
  hashes = [each.info_hash for each in datasets]
  digest = hashlib.blake2b('/'.join(map(str, hashes)).encode(), digest_size=16).hexdigest()
  return dataclasses.replace(
    first,
    paths=tuple(path for each in datasets for path in each.paths),
    num_samples=sum(each.num_samples for each in datasets),
    label_range=(min(low), max(high)),
    shard_sizes=tuple(size for each in datasets for size in each.shard_sizes or ()),
    info_hash=None if None in hashes else digest,
    parts=tuple(datasets),
  )


def check_distinct(places: Sequence[str]) -> None:
  """Raises ValueError where two paths are of one set."""
  seen: dict[str, str] = {}
  for place in places:
    if twice := seen.get(os.path.realpath(place)):
      raise ValueError(f'{twice} and {place} are one set: its images would come twice as often')
    seen[os.path.realpath(place)] = place


def parts(dataset: Dataset) -> tuple[Dataset, ...]:
  """The sets that one was joined of, or it alone."""
  return dataset.parts or (dataset,)


def difference_of_names(names: Mapping[int, str], others: Mapping[int, str]) -> str:
  """The first label that means something else in another set, in words; '' where none does.

  Nor does any where one of the sets has no names.
  """
  for label in sorted({*names, *others}) if names and others else ():
    here, there = (each.get(label) for each in (names, others))
    if here != there:
      return f'label {label} is {_name(here)} in the first and {_name(there)} in the second'
  return ''


def _difference(first: Dataset, other: Dataset) -> str:
  """What keeps two sets apart, in words; '' where nothing does."""
  if problem := difference_of_names(first.labels_to_names, other.labels_to_names):
    return problem
  for what in ('num_classes', 'label_offset', 'multi_label', 'schema'):
    here, there = getattr(first, what), getattr(other, what)
    if here != there:
      return f'{what} is {here} in the first and {there} in the second'
  return ''


def _name(name: str | None) -> str:
  return 'nothing' if name is None else repr(name)
