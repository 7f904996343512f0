"""What is wrong with a set as one HTML page with thumbnails, which needs no network."""

import collections
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from slim_inception import files
from slim_inception.datasets import images as images_lib
from slim_inception.doctor import odd, problems
from slim_inception.doctor.facts import Facts
from slim_inception.doctor.listing import Listing
from slim_inception.doctor.problems import Diagnosis, Problem
from slim_inception.evaluate import pages
from slim_inception.evaluate.metrics import name_of

_SIDE = 160  # pixels of a thumbnail, the longer side
_GROUPS, _LABELS, _ODD = 40, 80, 20  # that are shown of each kind; the table has all
_MOST_IN_GROUP = 8
_MOST_CLASSES = 200  # in the table of classes

_TITLES = {
  problems.LEAK: 'In more than one split',
  problems.CONTRADICTION: 'The same image with different labels',
  problems.DUPLICATE: 'More than once in a split',
  problems.WRONG_LABEL: 'Probably wrong labels',
  problems.UNREADABLE: 'Cannot be read',
  **{rule.name: rule.title for rule in odd.RULES},
}


def write(path: str | os.PathLike, listing: Listing, facts: Facts, diagnosis: Diagnosis) -> None:
  """Writes the page, whole or not at all; arguments as `run.diagnose`.

  Raises:
    OSError: the disk is full or not writable, or an image cannot be read any more.
  """
  by_kind: dict[str, list[Problem]] = collections.defaultdict(list)
  for problem in diagnosis.problems:
    by_kind[problem.kind].append(problem)
  sections = [
    {
      'kind': kind,
      'title': title,
      'count': len({problem.image for problem in by_kind[kind]}),
      'groups': [*_groups(kind, listing, facts, diagnosis, by_kind[kind])],
    }
    for kind, title in _TITLES.items()
    if kind in by_kind
  ]
  text = pages.render(
    pages.read('doctor.html.j2', __package__),
    title=f'Data doctor: {listing.title}',
    style=pages.style(),
    figures=_figures(listing, facts, diagnosis),
    notes=diagnosis.notes,
    sections=sections,
    tables=problems.table_names(listing),
    splits=listing.splits,
    classes=[*_classes(listing, diagnosis)],
    more_classes=max(0, len(diagnosis.balance.labels) - _MOST_CLASSES),
  )
  with files.atomic_text(path) as file:
    file.write(text)


def _figures(listing: Listing, facts: Facts, diagnosis: Diagnosis) -> Mapping[str, int]:
  return {
    'images': len(listing.images),
    'groups that show the same': len(diagnosis.alike.groups),
    'probably wrong labels': sum(p.kind == problems.WRONG_LABEL for p in diagnosis.problems),
    'cannot be read': len(facts.errors),
    'to be left out of training': diagnosis.excluded,
  }


def _groups(
  kind: str,
  listing: Listing,
  facts: Facts,
  diagnosis: Diagnosis,
  of_kind: Sequence[Problem],
) -> Iterator[list[dict[str, Any]]]:
  """The images of a section: groups that show the same, or all in one."""
  if kind not in (problems.LEAK, problems.DUPLICATE, problems.CONTRADICTION):
    most = _LABELS if kind == problems.WRONG_LABEL else _ODD
    yield [_shown(listing, facts, problem) for problem in of_kind[:most]]
    return
  by_image = {problem.image: problem for problem in of_kind}
  count = 0
  for group in diagnosis.alike.groups:
    if any(i in by_image for i in group) and count < _GROUPS:
      count += 1
      yield [
        _shown(listing, facts, by_image.get(i) or Problem(i, kind, 'stays'))
        for i in group[:_MOST_IN_GROUP]
      ]


def _shown(listing: Listing, facts: Facts, problem: Problem) -> dict[str, Any]:
  image, row = listing.images[problem.image], facts.columns[problem.image]
  try:
    thumbnail = pages.thumbnail(image.source.read(), _SIDE, upright=True)
  except images_lib.BadImageError:
    thumbnail = b''
  return {
    'image': pages.data_address(thumbnail) if thumbnail else None,
    'file': image.title if image.filename else f'image {problem.image}',
    'split': image.split,
    'label': ' | '.join(name_of(listing.names, label) for label in image.labels),
    'size': f'{row["width"]} x {row["height"]}' if row['height'] else '',
    'detail': problem.detail,
    'excludes': problem.excludes,
  }


def _classes(listing: Listing, diagnosis: Diagnosis) -> Iterator[list[object]]:
  """Name and number of images in each split, the classes of most images first."""
  balance = diagnosis.balance
  total = np.sum([*balance.counts.values()], axis=0)
  for label in sorted(balance.labels.tolist(), key=lambda label: -total[label])[:_MOST_CLASSES]:
    counts = (int(of_split[label]) for of_split in balance.counts.values())
    yield [name_of(listing.names, label), *counts]
