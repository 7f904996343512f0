"""A set of images from its flags to the page and the table of what is wrong with it."""

import collections
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.datasets import runners
from slim_inception.datasets.progress_bar import waiting
from slim_inception.doctor import facts as facts_lib
from slim_inception.doctor import label_errors, listing, page, pairs, problems
from slim_inception.doctor.config import DoctorRequest
from slim_inception.doctor.facts import Facts
from slim_inception.doctor.listing import Listing
from slim_inception.doctor.problems import Alike, Diagnosis, Problem
from slim_inception.evaluate.metrics import name_of

PAGE_FILE = 'doctor.html'
_PURPOSE = 'doctor'  # which an output_dir has one of at a time
_WORK_FOLDER = '.doctor'
_WITHOUT_NET = (
  'labels were not looked at: --checkpoint_path=FILE, best of a net that was trained on other '
  'images, does that, and compares images that look alike to it whatever their hashes are'
)


def examine(request: DoctorRequest) -> Iterator[str]:
  """Looks at a set, and writes `doctor.html` and `problems.csv`, or a table for each of several.

  Yields:
    A line for each kind of problem, and what there is to say.

  Raises:
    ValueError, OSError: the images or a checkpoint are not as they should be, or the results cannot
      be written.
  """
  chosen, folder = request.config.images, request.config.results.output_dir
  with (
    files.locked_folder(folder, _PURPOSE) as lock,
    _work_folder(folder) as work_dir,
  ):
    images = listing.of_sets(
      chosen.dataset_dir,
      chosen.source,
      chosen.dataset_name or '',
      chosen.dataset_split_name,
      work_dir,
    )
    counts = collections.Counter(image.split for image in images.images)
    logging.info(
      '%s', f'{images.title}: ' + ', '.join(f'{n:,} images of {s}' for s, n in counts.items())
    )
    facts = facts_lib.gather(
      [image.source for image in images.images],
      request.config.search.num_processes or runners.num_cores(),
    )
    if not facts.readable.any():
      reason = next(iter(facts.errors.values()))
      raise ValueError(f'none of the {len(images.images):,} images can be read: {reason}')
    diagnosis = diagnose(images, facts, request, work_dir)
    lock.check()
    for name, place in problems.table_names(images).items():
      files.write_csv(
        os.path.join(folder, name),
        problems.HEADER,
        (files.csv_row(row) for row in problems.rows(images, diagnosis.problems, place)),
      )
    page.write(os.path.join(folder, PAGE_FILE), images, facts, diagnosis)
    yield from _lines(images, diagnosis)


@contextlib.contextmanager
def _work_folder(folder: str) -> Iterator[Path]:
  """An empty folder for what does not fit into memory; one that a killed run left goes with it."""
  path = Path(folder, _WORK_FOLDER)
  shutil.rmtree(path, ignore_errors=True)
  path.mkdir()
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)


def diagnose(images: Listing, facts: Facts, request: DoctorRequest, work_dir: Path) -> Diagnosis:
  """All problems of a set.

  Args:
    images: the set.
    facts: of its images.
    request: how.
    work_dir: for what does not fit into memory.

  Raises:
    ValueError, OSError: a checkpoint is not as it should be.
  """
  rows = made = None
  if request.embedding:
    from slim_inception.doctor import embeddings  # imports TensorFlow

    rows, made = embeddings.embed(images.images, request.embedding, work_dir)
  with waiting('Comparing images'):
    same = _alike(facts, rows, request.config.search.duplicate_similarity)
  problems_of_set = [*problems.of_groups(images, facts, same)]
  notes = []
  if rows is not None and made is not None:
    wrong, said = _wrong_labels(images, rows, made & facts.readable, same)
    problems_of_set += wrong
    notes += said
    if request.has_seen:
      notes.append(
        f'the net was trained in part on these images ({request.has_seen}): it may have learned '
        'wrong labels by heart, and finds fewer'
      )
  else:
    notes.append(_WITHOUT_NET)
  problems_of_set += problems.of_odd(images, facts)
  balance = problems.balance(images)
  notes += balance.notes(images)
  unnamed = sum(not image.filename for image in images.images)
  if unnamed:
    notes.append(
      f'{unnamed:,} images have no name (image/filename): --exclude_list cannot leave them out'
    )
  if images.unusable:
    notes.append(
      f'{len(images.unusable):,} parts of the source cannot be used, such as '
      f'{images.unusable[0][0]} ({images.unusable[0][1]})'
    )
  return Diagnosis(problems_of_set, same, balance, notes)


def _alike(facts: Facts, rows: np.ndarray | None, least: float) -> Alike:
  """Groups of images that show the same: by hashes, mirrored too, and by embeddings."""
  readable = np.flatnonzero(facts.readable)
  # Of equal files one is compared: many of them would be all candidates that others may have.
  _, firsts = np.unique(facts.columns['digest'][readable], return_index=True)
  readable = readable[np.sort(firsts)]
  thumbnails = facts.columns['thumbnail']
  hashes = facts_lib.perceptual_hashes(thumbnails)[readable]
  units, turned = (pairs.unit_rows(each) for each in (hashes, facts_lib.mirrored(hashes)))
  searches = [
    (units, units, pairs.LEAST_HASH, False),
    (units, turned, pairs.LEAST_HASH, True),
  ]
  if rows is not None:
    near = pairs.unit_rows(rows[readable])
    searches += [(near, near, pairs.LEAST_COSINE, mirror) for mirror in (False, True)]
  pairs_of_kind = []
  for left, right, least_product, mirror in searches:
    candidates = (
      pairs.Pairs(readable[first], readable[second], similarity)
      for first, second, similarity in pairs.nearest(left, right, least_product)
    )
    alike = pairs.same_pixels(thumbnails, candidates, least, mirror)
    pairs_of_kind.append((alike, problems.MIRRORED if mirror else ''))
  return problems.alike(facts, pairs_of_kind)


def _wrong_labels(
  images: Listing, rows: np.ndarray, usable: np.ndarray, same: Alike
) -> tuple[list[Problem], list[str]]:
  """Labels that are probably wrong, and what there is to say of the labels."""
  if images.multi_label or any(len(image.labels) != 1 for image in images.images):
    return [], ['labels were not looked at: images may have several, or none']
  numbers = np.flatnonzero(usable)
  own_labels = np.array([images.images[i].labels[0] for i in numbers.tolist()], np.int64)
  groups = np.arange(len(images.images))
  for group in same.groups:
    groups[group] = group[0]
  folds = label_errors.folds_of(own_labels, groups[numbers])
  judged = label_errors.in_several_folds(own_labels, folds)
  alone = [name_of(images.names, int(label)) for label in np.unique(own_labels[~judged])]
  notes = []
  if alone:
    notes.append(
      f'the labels of {len(alone):,} class(es) were not looked at, which have one image each, or '
      f'copies of one: {files.some(alone)}'
    )
  numbers, folds = numbers[judged], folds[judged]
  labels, classes = np.unique(own_labels[judged], return_inverse=True)
  if len(labels) < 2 or len(numbers) < 2 * label_errors.FOLDS:
    return [], [f'labels were not looked at: {len(numbers)} images of {len(labels)} class(es)']
  with waiting('Predicting images held out'):
    held_out = label_errors.HeldOut.of(rows[numbers], classes, folds)
    joint = label_errors.confident_joint(held_out.blocks, classes)
  note = (
    f'heads on the embeddings get {100 * joint.accuracy:.1f} % of the labels of images held out '
    f'right; {100 * joint.share_wrong:.1f} % of the labels are estimated to be wrong'
  )
  return [*problems.of_labels(images, joint.suspects(classes), numbers, labels)], [note, *notes]


def _lines(images: Listing, diagnosis: Diagnosis) -> Iterator[str]:
  yield f'num_images {len(images.images)}'
  counts = collections.Counter(problem.kind for problem in diagnosis.problems)
  yield f'duplicate_groups {len(diagnosis.alike.groups)}'
  for kind, count in counts.items():
    yield f'{kind} {count}'
  yield f'excluded_images {diagnosis.excluded}'
  yield from diagnosis.notes
