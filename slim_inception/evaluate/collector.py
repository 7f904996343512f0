"""What an evaluation keeps of each image, and how workers hand theirs to the chief."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slim_inception import files
from slim_inception.cluster import Cluster
from slim_inception.datasets.progress_bar import waiting
from slim_inception.evaluate import label_spaces
from slim_inception.evaluate.conformal import Sets
from slim_inception.evaluate.ground_truth import padded
from slim_inception.evaluate.metrics import Predictions, top_labels

_KEPT = 5  # labels an image, for top-5


class Image(NamedTuple):
  """One record."""

  record_index: int  # in the split
  filename: str
  labels: tuple[int, ...]  # the right ones


class Collector:
  """Keeps the five most probable labels of each image.

  Args:
    keep_scores: keep the probabilities of all labels too, 4 bytes each.
    labels: [V] ascending, those that count; None: all do.
    sets: how sets of labels are made; None: they are not.
  """

  def __init__(
    self,
    keep_scores: bool = False,
    labels: np.ndarray | None = None,
    sets: Sets | None = None,
  ) -> None:
    self._make_sets, self._sets = sets, None if sets is None else list[np.ndarray]()
    self._scores: list[np.ndarray] | None = [] if keep_scores else None
    self._labels = labels
    self._images: list[Image] = []
    self._top: list[np.ndarray] = []
    self._probabilities: list[np.ndarray] = []

  def add(self, image: Image, probabilities: np.ndarray) -> None:
    """Takes the probabilities [num_classes] of an image; of equal ones the first label leads."""
    if self._make_sets is not None and self._sets is not None:
      self._sets.append(np.packbits(self._make_sets.of(probabilities[np.newaxis])[0]))
    if self._labels is not None:
      probabilities = label_spaces.restricted(probabilities, self._labels)
    top = top_labels(probabilities, _KEPT)
    self._images.append(image)
    self._top.append(top if self._labels is None else self._labels[top])
    self._probabilities.append(probabilities[top])
    if self._scores is not None:
      self._scores.append(probabilities.astype(np.float32))

  def predictions(self) -> Predictions:
    """What was kept, by record index."""
    images = self._images
    shape = (len(images), len(self._top[0]) if images else 0)
    return _sorted(
      Predictions(
        np.array([image.record_index for image in images], np.int64),
        [image.filename for image in images],
        padded([image.labels for image in images]),
        np.array(self._top, np.int32).reshape(shape),
        np.array(self._probabilities, np.float32).reshape(shape),
        None if self._scores is None else np.array(self._scores, np.float32),
        None if not self._sets else np.stack(self._sets),
      )
    )


class Collected(NamedTuple):
  """What a worker has evaluated."""

  predictions: list[Predictions]  # of each net, and at last of the ensemble
  excluded: list[str]  # names of the images that were left out


def gather(cluster: Cluster, directory: str, collected: Collected) -> Collected | None:
  """Puts what all workers collected together; all call it.

  Args:
    cluster: the workers.
    directory: where they leave files for the chief, which all can write to.
    collected: by this worker.

  Returns:
    On the chief what all collected, by record index; None on the others.

  Raises:
    FileNotFoundError: the workers do not share `directory`.
  """
  if cluster.count == 1:
    return collected
  os.makedirs(directory, exist_ok=True)
  if not cluster.is_chief:
    _leave(directory, cluster.index, collected)
  with waiting('Waiting for the other workers'):
    cluster.wait_for_all()
  if not cluster.is_chief:
    return None
  count = len(collected.predictions)
  parts = [collected, *(_take(directory, worker, count) for worker in range(1, cluster.count))]
  return Collected(
    [_joined(of_net) for of_net in zip(*(part.predictions for part in parts), strict=True)],
    [name for part in parts for name in part.excluded],
  )


def _part(directory: str, worker: int) -> str:
  return os.path.join(directory, f'.predictions-of-worker-{worker}.npz')


def _leave(directory: str, worker: int, collected: Collected) -> None:
  arrays = {
    f'{i}/{name}': value
    for i, predictions in enumerate(collected.predictions)
    for name, value in vars(predictions).items()
    if value is not None
  }
  path = _part(directory, worker)
  with files.naming_full_disk(path), open(path, 'wb') as file:
    np.savez(file, excluded=np.array(collected.excluded, np.str_), **arrays)


def _take(directory: str, worker: int, count: int) -> Collected:
  path = _part(directory, worker)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{path} is not there: --eval_dir must be on a file system that all workers share'
    )
  with np.load(path) as arrays:
    excluded = arrays['excluded'].tolist()
    predictions = [
      Predictions(
        arrays[f'{i}/record_indices'],
        arrays[f'{i}/filenames'].tolist(),
        arrays[f'{i}/labels'],
        arrays[f'{i}/top'],
        arrays[f'{i}/probabilities'],
        arrays.get(f'{i}/scores'),
        arrays.get(f'{i}/sets'),
      )
      for i in range(count)
    ]
  os.remove(path)
  return Collected(predictions, excluded)


def only(predictions: Predictions, chosen: np.ndarray) -> Predictions:
  """The images for which `chosen`, [N] bool, is true."""
  return predictions.take(np.flatnonzero(chosen))


def of_labels(predictions: Predictions, labels: np.ndarray) -> Predictions:
  """The images with a right label among `labels`, which alone remain right."""
  is_valid = np.isin(predictions.labels, labels)
  rows = [row[valid].tolist() for row, valid in zip(predictions.labels, is_valid, strict=True)]
  valid_ones = dataclasses.replace(predictions, labels=padded(rows))
  return only(valid_ones, np.asarray(is_valid.any(-1)))


def _sorted(predictions: Predictions) -> Predictions:
  return predictions.take(np.argsort(predictions.record_indices, kind='stable'))


def _joined(parts: Sequence[Predictions]) -> Predictions:
  """Predictions of several workers in one, by record index."""
  parts = [part for part in parts if len(part.record_indices)] or parts[:1]
  width = max(part.labels.shape[1] for part in parts)
  labels = [
    np.pad(p.labels, ((0, 0), (0, width - p.labels.shape[1])), constant_values=-1) for p in parts
  ]
  scores = [part.scores for part in parts if part.scores is not None]
  sets = [part.sets for part in parts if part.sets is not None]
  return _sorted(
    Predictions(
      np.concatenate([part.record_indices for part in parts]),
      [name for part in parts for name in part.filenames],
      np.concatenate(labels),
      np.concatenate([part.top for part in parts]),
      np.concatenate([part.probabilities for part in parts]),
      np.concatenate(scores) if scores else None,
      np.concatenate(sets) if sets else None,
    )
  )
