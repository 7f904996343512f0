"""What an evaluation keeps of each image, and how workers hand theirs to the chief."""

import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slim_inception.evaluate.metrics import Predictions
from slim_inception.train.distribution import Team

_KEPT = 5  # labels an image, for top-5


class Image(NamedTuple):
  """One record."""

  place: int  # among those of the split
  filename: str
  answers: tuple[int, ...]  # its right labels


class Collector:
  """Keeps the five most probable labels of each image."""

  def __init__(self) -> None:
    self._images: list[Image] = []
    self._top: list[np.ndarray] = []
    self._probabilities: list[np.ndarray] = []

  def add(self, image: Image, probabilities: np.ndarray) -> None:
    """Takes the probabilities [num_classes] of an image; of equal ones the first label leads."""
    top = np.argsort(-probabilities, kind='stable')[:_KEPT]
    self._images.append(image)
    self._top.append(top)
    self._probabilities.append(probabilities[top])

  def predictions(self) -> Predictions:
    """What was kept, by place."""
    order = np.argsort([image.place for image in self._images], kind='stable')
    images = [self._images[i] for i in order]
    shape = (len(images), len(self._top[0]) if images else 0)
    return Predictions(
      np.array([image.place for image in images], np.int64),
      [image.filename for image in images],
      padded([image.answers for image in images]),
      np.array([self._top[i] for i in order], np.int32).reshape(shape),
      np.array([self._probabilities[i] for i in order], np.float32).reshape(shape),
    )


def padded(answers: Sequence[Sequence[int]]) -> np.ndarray:
  """[N, A] int32 of N tuples of labels, -1 after the last where one has fewer than A."""
  width = max(map(len, answers), default=1)
  found = np.full((len(answers), max(1, width)), -1, np.int32)
  for row, labels in zip(found, answers, strict=True):
    row[: len(labels)] = labels
  return found


class Found(NamedTuple):
  """What a worker has to tell."""

  predictions: list[Predictions]  # of each net, and at last of the ensemble
  excluded: list[str]  # names of the images that were left out


def gather(team: Team, directory: str, found: Found) -> Found | None:
  """Puts what all workers found together; all call it.

  Args:
    team: the workers.
    directory: where they leave files for the chief, which all can write to.
    found: by this worker.

  Returns:
    On the chief what all found, by place; None on the others.

  Raises:
    FileNotFoundError: the workers do not share `directory`.
  """
  if team.count == 1:
    return found
  os.makedirs(directory, exist_ok=True)
  if not team.is_chief:
    _leave(directory, team.index, found)
  team.wait_for_all()
  if not team.is_chief:
    return None
  count = len(found.predictions)
  parts = [found, *(_take(directory, worker, count) for worker in range(1, team.count))]
  return Found(
    [_joined(of_net) for of_net in zip(*(part.predictions for part in parts), strict=True)],
    [name for part in parts for name in part.excluded],
  )


def _part(directory: str, worker: int) -> str:
  return os.path.join(directory, f'.predictions-of-worker-{worker}.npz')


def _leave(directory: str, worker: int, found: Found) -> None:
  arrays = {
    f'{i}/{name}': value
    for i, predictions in enumerate(found.predictions)
    for name, value in vars(predictions).items()
  }
  with open(_part(directory, worker), 'wb') as file:
    np.savez(file, excluded=np.array(found.excluded, np.str_), **arrays)


def _take(directory: str, worker: int, count: int) -> Found:
  path = _part(directory, worker)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{path} is not there: --eval_dir must be on a file system that all workers share'
    )
  with np.load(path) as arrays:
    excluded = arrays['excluded'].tolist()
    predictions = [
      Predictions(
        arrays[f'{i}/places'],
        arrays[f'{i}/filenames'].tolist(),
        *(arrays[f'{i}/{name}'] for name in ('answers', 'top', 'probabilities')),
      )
      for i in range(count)
    ]
  os.remove(path)
  return Found(predictions, excluded)


def only(predictions: Predictions, chosen: np.ndarray) -> Predictions:
  """The images for which `chosen`, [N] bool, is true."""
  return Predictions(
    predictions.places[chosen],
    list(itertools.compress(predictions.filenames, chosen)),
    predictions.answers[chosen],
    predictions.top[chosen],
    predictions.probabilities[chosen],
  )


def _joined(parts: Sequence[Predictions]) -> Predictions:
  """Predictions of several workers in one, by place."""
  parts = [part for part in parts if len(part.places)] or parts[:1]
  width = max(part.answers.shape[1] for part in parts)
  answers = [
    np.pad(p.answers, ((0, 0), (0, width - p.answers.shape[1])), constant_values=-1) for p in parts
  ]
  order = np.argsort(np.concatenate([part.places for part in parts]), kind='stable')
  filenames = [name for part in parts for name in part.filenames]
  return Predictions(
    np.concatenate([part.places for part in parts])[order],
    [filenames[i] for i in order],
    np.concatenate(answers)[order],
    np.concatenate([part.top for part in parts])[order],
    np.concatenate([part.probabilities for part in parts])[order],
  )
