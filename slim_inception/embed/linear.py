"""Linear classifiers on features: logistic regression with an L2 loss of the weights, in NumPy.

The objective is mean cross entropy + l2 / 2 * |weights|^2, without a loss of the biases, over
features less their mean and divided by one number, the root mean square of their lengths: so the
same strengths suit features of any net. scikit-learn's LogisticRegression on the features as they
are has its minimum at the same place where C = 1 / (l2 * scale^2 * images).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

STRENGTHS = tuple(10.0**power for power in range(-1, -8, -1))  # of the L2 loss, the strongest first
_MEMORY = 10  # pairs of steps and differences of gradients that L-BFGS keeps
_MAX_STEPS = 200
_TOLERANCE = 1e-5  # of each number of the gradient
_LEAST_PROBABILITY = 1e-15  # of a class that had no image to be fitted on


class Head(NamedTuple):
  """A linear classifier.

  Attributes:
    weights: [width, num_classes] float64; 0 of a class that it was not fitted on.
    biases: [num_classes] float64; -inf of such a class.
    l2: the strength of the L2 loss that it was fitted with.
  """

  weights: np.ndarray
  biases: np.ndarray
  l2: float

  def probabilities(self, features: np.ndarray) -> np.ndarray:
    """[N, num_classes] float64 of features [N, width]; 0 of classes that it was not fitted on."""
    logits = features.astype(np.float64) @ self.weights + self.biases
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def fit(features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float) -> Head:
  """The logistic regression of one strength; see `path`."""
  return next(path(features, labels, num_classes, [l2]))


def path(
  features: np.ndarray, labels: np.ndarray, num_classes: int, strengths: Sequence[float] = STRENGTHS
) -> Iterator[Head]:
  """Logistic regressions, each of which starts where the one before has ended.

  Args:
    features: [N, width] float32 or float64, in whose precision it computes.
    labels: [N] integers from 0 to num_classes - 1.
    num_classes: columns of the heads.
    strengths: of the L2 loss; from the strongest on takes the least time.

  Raises:
    ValueError: there are no two classes, or features are not finite.
  """
  present, targets = np.unique(labels, return_inverse=True)
  if len(present) < 2:
    raise ValueError(f'{len(labels)} images of {len(present)} class(es): a head needs two classes')
  mean = features.mean(0, dtype=np.float64)
  centred = features - mean.astype(features.dtype)
  scale = np.sqrt(np.square(centred).sum(-1, dtype=np.float64).mean()) or 1.0
  if not np.isfinite(scale):
    raise ValueError('features are not finite numbers')
  centred /= features.dtype.type(scale)
  width, shape = features.shape[1], (features.shape[1] + 1, len(present))
  point = np.zeros(shape)
  point[-1] = np.log(np.bincount(targets) / len(targets))
  for l2 in strengths:
    point = minimize(_objective(centred, targets, l2, shape), point.ravel()).reshape(shape)
    weights, biases = np.zeros((width, num_classes)), np.full(num_classes, -np.inf)
    weights[:, present] = point[:-1] / scale
    biases[present] = point[-1] - mean @ weights[:, present]
    yield Head(weights, biases, l2)


class Fitted(NamedTuple):
  """A head whose strength was chosen.

  Attributes:
    head: fitted on all images.
    losses: {strength: mean cross entropy on the held-out images}.
  """

  head: Head
  losses: dict[float, float]


def fit_chosen(
  features: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  held_out: np.ndarray,
  strengths: Sequence[float] = STRENGTHS,
) -> Fitted:
  """The logistic regression of all images, with the strength that is best for held-out ones.

  Args:
    features: [N, width].
    labels: [N].
    num_classes: columns of the head.
    held_out: [N] bool, the images on whose cross entropy the strength is chosen; see `folds_of`.
    strengths: to choose from.
  """
  heads = path(features[~held_out], labels[~held_out], num_classes, strengths)
  apart = features[held_out], labels[held_out]
  losses = {head.l2: cross_entropy(head.probabilities(apart[0]), apart[1]) for head in heads}
  best = min(losses, key=lambda l2: losses[l2])
  return Fitted(fit(features, labels, num_classes, best), losses)


def out_of_fold(
  features: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  num_folds: int = 5,
  seed: int = 0,
  strengths: Sequence[float] = STRENGTHS,
) -> tuple[np.ndarray, float]:
  """What heads say of images that they were not fitted on: one head for each fold.

  Args:
    features: [N, width].
    labels: [N].
    num_classes: columns of the probabilities.
    num_folds: see `folds_of`.
    seed: see `folds_of`.
    strengths: of which the one with the least cross entropy over all folds is taken.

  Returns:
    [N, num_classes] float64 probabilities, 0 of a class whose images are all in the same fold;
    and the strength.
  """
  fold_of = folds_of(labels, num_folds, seed)
  probabilities = np.zeros((len(strengths), len(labels), num_classes))
  for fold in range(num_folds):
    apart = fold_of == fold
    for i, head in enumerate(path(features[~apart], labels[~apart], num_classes, strengths)):
      probabilities[i, apart] = head.probabilities(features[apart])
  best = int(np.argmin([cross_entropy(each, labels) for each in probabilities]))
  return probabilities[best], strengths[best]


def folds_of(labels: np.ndarray, num_folds: int, seed: int = 0) -> np.ndarray:
  """[N] int: the fold of each image; the images of each class are dealt out evenly, by chance.

  The first image of a class goes where that of the class before it left off, so that folds are
  as large as each other too.
  """
  order = np.random.default_rng(seed).permutation(len(labels))
  by_class = order[np.argsort(labels[order], kind='stable')]
  folds = np.empty(len(labels), np.int64)
  folds[by_class] = np.arange(len(labels)) % num_folds
  return folds


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """The mean over images, in nats, of probabilities [N, num_classes] of at least 1e-15."""
  right = probabilities[np.arange(len(labels)), labels]
  return float(-np.log(np.maximum(right, _LEAST_PROBABILITY)).mean())


Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _objective(
  features: np.ndarray, targets: np.ndarray, l2: float, shape: tuple[int, int]
) -> Objective:
  """The value and the gradient at weights with biases as the last row, both flat."""
  rows, kind = np.arange(len(targets)), features.dtype

  def at(point: np.ndarray) -> tuple[float, np.ndarray]:
    table = point.reshape(shape)
    logits = features @ table[:-1].astype(kind) + table[-1].astype(kind)
    logits -= logits.max(-1, keepdims=True)
    right = logits[rows, targets]
    np.exp(logits, out=logits)
    sums = logits.sum(-1)
    value = np.mean(np.log(sums) - right, dtype=np.float64)
    logits /= sums[:, np.newaxis]  # probabilities, and then what they are too large by
    logits[rows, targets] -= 1
    gradient = np.empty(shape)
    gradient[:-1] = features.T @ logits / len(targets) + l2 * table[:-1]
    gradient[-1] = logits.mean(0, dtype=np.float64)
    return float(value + l2 / 2 * np.square(table[:-1]).sum()), gradient.ravel()

  return at


def minimize(objective: Objective, point: np.ndarray) -> np.ndarray:
  """The minimum of a smooth convex function by L-BFGS (Nocedal and Wright, algorithm 7.5).

  Steps are halved until they decrease the function enough; where no step does, rounding has the
  last word and the point is returned. In float32 that is before the gradient is below 1e-5.

  Args:
    objective: value and gradient [n] at a point [n].
    point: [n] float64 to start from.
  """
  value, gradient = objective(point)
  steps: list[np.ndarray] = []
  changes: list[np.ndarray] = []  # of the gradient
  for _ in range(_MAX_STEPS):
    if np.abs(gradient).max() < _TOLERANCE:
      break
    direction = -_inverse_hessian_times(gradient, steps, changes)
    slope = float(gradient @ direction)
    length = 1.0 if steps else min(1.0, 1 / float(np.linalg.norm(gradient)))
    while True:
      moved = point + length * direction
      new_value, new_gradient = objective(moved)
      if new_value <= value + 1e-4 * length * slope:
        break
      length /= 2
      if length < 1e-6:
        return point
    step, change = moved - point, new_gradient - gradient
    if step @ change > 1e-12 * (change @ change):
      steps, changes = [*steps, step][-_MEMORY:], [*changes, change][-_MEMORY:]
    point, value, gradient = moved, new_value, new_gradient
  return point


def _inverse_hessian_times(
  vector: np.ndarray, steps: Sequence[np.ndarray], changes: Sequence[np.ndarray]
) -> np.ndarray:
  """The two loops of L-BFGS (Nocedal and Wright, algorithm 7.4)."""
  result = vector.copy()
  shares = []
  for step, change in zip(reversed(steps), reversed(changes), strict=True):
    share = (step @ result) / (step @ change)
    result -= share * change
    shares.append(share)
  if steps:
    result *= (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
  for step, change, share in zip(steps, changes, reversed(shares), strict=True):
    result += (share - (change @ result) / (step @ change)) * step
  return result
