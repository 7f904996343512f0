"""From what was measured to a list of problems, and which images training should leave out."""

import collections
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slim_inception import files
from slim_inception.datasets import exclude_list
from slim_inception.doctor import label_errors, odd, pairs
from slim_inception.doctor.facts import Facts
from slim_inception.doctor.listing import Image, Listing
from slim_inception.doctor.pairs import Pairs
from slim_inception.evaluate.metrics import name_of

PROBLEMS_FILE = 'problems.csv'
TRAIN = 'train'
LEAK, DUPLICATE, CONTRADICTION = 'leak', 'duplicate', 'contradicting_labels'
WRONG_LABEL, UNREADABLE = 'wrong_label', 'unreadable'
SAME_FILE, MIRRORED = 'the same file', 'mirrored'


class Problem(NamedTuple):
  """A row of the table.

  Attributes:
    image: number of the image.
    kind: `LEAK` and so on, or the name of an `odd.Rule`.
    detail: what is wrong, in words.
    score: similarity, or the probability of the suggested label; None where there is none.
    other: number of the image that it is like; None where there is none.
    suggested: the label that it looks like; None where there is none.
    excludes: whether training should leave it out.
  """

  image: int
  kind: str
  detail: str
  score: float | None = None
  other: int | None = None
  suggested: int | None = None
  excludes: bool = False


class Alike(NamedTuple):
  """Images that show the same.

  Attributes:
    groups: numbers of the images of each.
    how: {(first, second): (similarity, in words how they are alike)} of the pairs that were told.
  """

  groups: list[list[int]]
  how: dict[tuple[int, int], tuple[float, str]]

  def between(self, image: int, other: int) -> tuple[float | None, str]:
    """Of two of a group: similarity and words; of those that others connect, words alone."""
    return self.how.get((min(image, other), max(image, other)), (None, 'alike through others'))


def alike(facts: Facts, pairs_of_kind: Sequence[tuple[Pairs, str]]) -> Alike:
  """Groups of images that show the same.

  Args:
    facts: of all images; files of equal bytes are of one group.
    pairs_of_kind: pairs, and in words how they are alike; the first words of a pair count.
  """
  how: dict[tuple[int, int], tuple[float, str]] = {}
  digests = facts.columns['digest']
  order = np.argsort(digests, kind='stable')
  order = order[facts.readable[order]]
  numbers = np.arange(len(order))
  is_copy = np.append(False, digests[order[1:]] == digests[order[:-1]])[: len(order)]
  originals = order[np.maximum.accumulate(np.where(is_copy, 0, numbers))]
  for first, second in zip(originals[is_copy].tolist(), order[is_copy].tolist(), strict=True):
    how[first, second] = 1.0, SAME_FILE
  for of_kind, words in pairs_of_kind:
    for first, second, similarity in zip(*(column.tolist() for column in of_kind), strict=True):
      text = f'{words}, ' if words else ''
      how.setdefault((first, second), (similarity, f'{text}similarity {similarity:.3f}'))
  first, second = np.array(list(how), np.int64).reshape(-1, 2).T
  return Alike(pairs.groups(len(digests), first, second), how)


def of_groups(listing: Listing, facts: Facts, same: Alike) -> Iterator[Problem]:
  """What groups of equal images mean: leaks between splits, copies in one, two labels for one.

  Of a group in one split the image of most pixels stays. What another split has is left out of
  training, and so are images of which nobody knows which label is right.
  """
  sizes = facts.columns['height'].astype(np.int64) * facts.columns['width']
  images = listing.images
  for group in same.groups:
    contradicts = len({images[i].labels for i in group}) > 1
    of_split: dict[str, list[int]] = collections.defaultdict(list)
    for i in group:
      of_split[images[i].split].append(i)
    kept = {split: max(own, key=lambda i: (sizes[i], -i)) for split, own in of_split.items()}
    for i in group:
      split = images[i].split
      elsewhere = [other for name, other in kept.items() if name != split]
      if elsewhere:
        score, words = same.between(i, elsewhere[0])
        yield Problem(i, LEAK, words, score, elsewhere[0], excludes=split == TRAIN)
      if kept[split] != i:
        score, words = same.between(i, kept[split])
        yield Problem(i, DUPLICATE, words, score, kept[split], excludes=True)
      if contradicts:
        other = next(j for j in group if images[j].labels != images[i].labels)
        score, words = same.between(i, other)
        theirs = _label_names(listing, images[other])
        detail = f'the other is labelled {theirs}; {words}'
        yield Problem(i, CONTRADICTION, detail, score, other, excludes=split == TRAIN)


def of_labels(
  listing: Listing, suspects: label_errors.Suspects, numbers: np.ndarray, labels: np.ndarray
) -> Iterator[Problem]:
  """Labels that are probably wrong.

  Args:
    listing: all images.
    suspects: their images are numbered among those that were looked at.
    numbers: [M] of these in the listing.
    labels: [K], the labels that the classes of `suspects` stand for.
  """
  for image, suggested, probability, of_label in zip(
    *(column.tolist() for column in suspects), strict=True
  ):
    i, label = int(numbers[image]), int(labels[suggested])
    text = f'looks like {name_of(listing.names, label)} ({probability:.3f}'
    detail = f'{text}; its label {of_label:.3f})'
    excludes = listing.images[i].split == TRAIN
    yield Problem(i, WRONG_LABEL, detail, probability, suggested=label, excludes=excludes)


def of_odd(listing: Listing, facts: Facts) -> Iterator[Problem]:
  """Images that cannot be read, or are unlike the others."""
  for i, reason in facts.errors.items():
    yield Problem(i, UNREADABLE, reason, excludes=True)
  for rule in odd.RULES:
    for i in np.flatnonzero(rule.is_odd(facts) & facts.readable).tolist():
      detail = rule.describe(facts.columns[i])
      excludes = rule.excludes and listing.images[i].split == TRAIN
      yield Problem(i, rule.name, detail, excludes=excludes)


class Balance(NamedTuple):
  """How many images the classes have in each split.

  Attributes:
    counts: {split: [num_classes] images of each label}.
    labels: [L] labels that images can have.
  """

  counts: Mapping[str, np.ndarray]
  labels: np.ndarray

  def notes(self, listing: Listing) -> Iterator[str]:
    """What there is to say of imbalance, in sentences."""
    for split, counts in self.counts.items():
      own = counts[self.labels]
      most, least = int(own.argmax()), int(own.argmin())
      names = [name_of(listing.names, int(self.labels[i])) for i in (most, least)]
      missing = int((own == 0).sum())
      if missing:
        lacking = [name_of(listing.names, int(n)) for n in self.labels[own == 0]]
        yield f'{split} has no image of {missing} class(es): {files.some(lacking)}'
      elif own[most] >= 3 * own[least]:
        yield (
          f'{split}: {names[0]} has {own[most]:,} images, {own[most] / own[least]:.1f} times as '
          f'many as {names[1]} ({own[least]:,})'
        )


def balance(listing: Listing) -> Balance:
  """Counts the images of each class."""
  most = max([*listing.names, *(label for image in listing.images for label in image.labels)])
  counts = {split: np.zeros(most + 1, np.int64) for split in listing.splits}
  for image in listing.images:
    for label in image.labels:
      counts[image.split][label] += 1
  return Balance(counts, np.arange(listing.first_label, most + 1))


class Diagnosis(NamedTuple):
  """What was told of a set.

  Attributes:
    problems: in the order of the table.
    alike: groups of images that show the same.
    balance: images of each class.
    notes: sentences.
  """

  problems: list[Problem]
  alike: Alike
  balance: Balance
  notes: list[str]

  @property
  def excluded(self) -> int:
    """How many images training should leave out."""
    return len({problem.image for problem in self.problems if problem.excludes})


def table_names(listing: Listing) -> dict[str, str]:
  """{name of a table: the set that it is of}; names of images are those of one set alone."""
  if len(listing.places) == 1:
    return {PROBLEMS_FILE: listing.places[0]}
  stem, extension = os.path.splitext(PROBLEMS_FILE)
  return {f'{stem}_{number}{extension}': place for number, place in enumerate(listing.places, 1)}


HEADER = (
  exclude_list.FILENAME, exclude_list.SPLIT, 'label', 'label_name', 'problem', 'detail', 'score',
  'other', 'other_split', 'suggested_label', 'suggested_name', exclude_list.EXCLUDE,
)  # fmt: skip


def rows(listing: Listing, problems: Sequence[Problem], place: str) -> Iterator[list[object]]:
  """The problems of a set, for `files.write_csv`; text is of the images and their names."""
  for problem in problems:
    image = listing.images[problem.image]
    other = None if problem.other is None else listing.images[problem.other]
    if image.place != place:
      continue
    yield [
      image.filename,
      image.split,
      '|'.join(map(str, image.labels)),
      _label_names(listing, image),
      problem.kind,
      problem.detail,
      None if problem.score is None else f'{problem.score:.4f}',
      other and (other.filename if other.place == place else other.title),
      other and other.split,
      problem.suggested,
      None if problem.suggested is None else name_of(listing.names, problem.suggested),
      exclude_list.YES if problem.excludes else exclude_list.NO,
    ]


def _label_names(listing: Listing, image: Image) -> str:
  return ' | '.join(name_of(listing.names, label) for label in image.labels)
