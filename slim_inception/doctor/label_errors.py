"""Labels that are probably wrong: confident learning on predictions of images held out.

An image is predicted by a linear head, on embeddings of a net, that has not seen its fold: linear
discriminant analysis with a shared covariance, whose fit is a few products of matrices, exact for
each fold, and needs no learning rate. Confident learning (Northcutt, Jiang and Chuang 2021,
arXiv:1911.00068) then counts how often images of label i look like class j: like j an image looks
if its probability of j is at least the mean of that probability over the images labelled j. NumPy
alone.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

FOLDS = 5
_SHRINKAGES = (0.001, 0.01, 0.1, 0.3)  # tried; of the covariance towards a multiple of the identity
_LEAST = np.finfo(np.float32).tiny
_SAMPLE = 20_000  # images that shrinkage and temperature are chosen by
_BLOCK = 8192  # images that are predicted at once


class Suspects(NamedTuple):
  """Images whose labels are probably wrong, the most suspicious first.

  Attributes:
    images: [S] int64, numbers.
    suggested: [S] int64, the labels that they look like.
    probability: [S] float32, of the suggested label.
    of_label: [S] float32, of the label that they have.
  """

  images: np.ndarray
  suggested: np.ndarray
  probability: np.ndarray
  of_label: np.ndarray


def folds_of(labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
  """[N] int: which of `FOLDS` an image is in.

  Args:
    labels: [N].
    groups: [N]; images of a group, near duplicates for example, are in one fold: else a copy would
      tell the label of the other.
    seed: of the choice.
  """
  rng = np.random.default_rng(seed)
  folds = np.zeros(len(labels), np.int64)
  _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
  order = rng.permutation(len(first))
  order = order[np.argsort(labels[first[order]], kind='stable')]  # each class over all folds
  of_group = np.empty(len(first), np.int64)
  of_group[order] = np.arange(len(first)) % FOLDS
  folds[:] = of_group[inverse]
  return folds


def in_several_folds(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """[N] bool: whose label others have in another fold; no head has seen the label of the rest.

  Args:
    labels: [N] integers.
    folds: [N], see `folds_of`.
  """
  _, classes = np.unique(labels, return_inverse=True)
  some = np.zeros((len(labels), FOLDS), bool)
  some[classes, folds] = True
  return (some.sum(1) > 1)[classes]


# Goes through probabilities of images held out: (which images, [n, K] float32), block by block.
Blocks = Callable[[], Iterator[tuple[slice, np.ndarray]]]


class HeldOut(NamedTuple):
  """Heads that predict images of a fold that they were not fitted on.

  Attributes:
    embeddings: [N, D] float32.
    folds: [N] integers, 0 .. `FOLDS` - 1.
    weights: [folds, D, K] float32, of the logits.
    biases: [folds, K] float32.
    temperature: that divides the logits.
  """

  embeddings: np.ndarray
  folds: np.ndarray
  weights: np.ndarray
  biases: np.ndarray
  temperature: float

  @classmethod
  def of(cls, embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> 'HeldOut':
    """Fits them, with the shrinkage and the temperature of the greatest likelihood.

    That is the likelihood of the labels of 20,000 images at most, each by the head that has not
    seen it.

    Args:
      embeddings: [N, D] float32.
      labels: [N] integers, 0 .. K - 1.
      folds: [N] integers, 0 .. `FOLDS` - 1.
    """
    moments = _Moments.of(embeddings, labels, folds, int(labels.max()) + 1)
    sample = np.linspace(0, len(labels) - 1, min(_SAMPLE, len(labels))).astype(np.int64)
    best, best_likelihood = None, -np.inf
    for shrinkage in _SHRINKAGES:
      heads = [moments.discriminant(fold, shrinkage) for fold in range(FOLDS)]
      weights, biases = (np.stack(part) for part in zip(*heads, strict=True))
      heads_of = cls(embeddings, folds, weights, biases, 1.0)
      temperature, likelihood = _temperature(heads_of.logits(sample), labels[sample])
      if likelihood > best_likelihood:
        best, best_likelihood = heads_of._replace(temperature=temperature), likelihood
    assert best is not None
    return best

  def logits(self, images: np.ndarray | slice) -> np.ndarray:
    """[n, K] float32 of these images."""
    embeddings, folds = self.embeddings[images], self.folds[images]
    logits = np.empty((len(folds), self.biases.shape[1]), np.float32)
    for fold in range(FOLDS):
      rows = folds == fold
      logits[rows] = embeddings[rows] @ self.weights[fold] + self.biases[fold]
    return logits

  def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
    """See `Blocks`; no more than one is in memory."""
    for start in range(0, len(self.folds), _BLOCK):
      images = slice(start, min(start + _BLOCK, len(self.folds)))
      yield images, _softmax(self.logits(images), self.temperature)


class _Moments(NamedTuple):
  """Sums over the images of each fold.

  Attributes:
    counts: [folds, K].
    sums: [folds, K, D] of embeddings.
    products: [folds, D, D] of embeddings with themselves.
  """

  counts: np.ndarray
  sums: np.ndarray
  products: np.ndarray

  @classmethod
  def of(
    cls, embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int
  ) -> '_Moments':
    width = embeddings.shape[1]
    counts = np.zeros((FOLDS, num_classes))
    sums = np.zeros((FOLDS, num_classes, width))
    products = np.zeros((FOLDS, width, width))
    for fold in range(FOLDS):
      rows, of_fold = embeddings[folds == fold].astype(np.float64), labels[folds == fold]
      counts[fold] = np.bincount(of_fold, minlength=num_classes)
      np.add.at(sums[fold], of_fold, rows)
      products[fold] = rows.T @ rows
    return cls(counts, sums, products)

  def discriminant(self, fold: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [D, K] and biases [K] of the logits, of all folds but one.

    Classes without an image there have a logit of -1e9.
    """
    counts, sums, products = (part.sum(0) - part[fold] for part in self)
    total = counts.sum()
    means = sums / np.maximum(counts, 1)[:, np.newaxis]
    covariance = (products - (means * counts[:, np.newaxis]).T @ means) / total
    width = len(covariance)
    size = np.trace(covariance) / width or 1.0
    covariance = (1 - shrinkage) * covariance + shrinkage * size * np.eye(width)
    weights = np.linalg.solve(covariance, means.T)
    with np.errstate(divide='ignore'):
      biases = np.log(counts / total) - 0.5 * (means.T * weights).sum(0)
    return weights.astype(np.float32), np.maximum(biases, -1e9).astype(np.float32)


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
  raised = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
  return raised / raised.sum(1, keepdims=True)


def _temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
  """The temperature of the greatest likelihood of the labels, of some, and its mean logarithm."""
  best, best_likelihood = 1.0, -np.inf
  for temperature in (2.0 ** np.arange(-2, 6, 0.5)).tolist():
    of_labels = _softmax(logits, temperature)[np.arange(len(labels)), labels]
    likelihood = float(np.log(np.maximum(of_labels, _LEAST)).mean())
    if likelihood > best_likelihood:
      best, best_likelihood = temperature, likelihood
  return best, best_likelihood


class Joint(NamedTuple):
  """How labels and classes occur together.

  Attributes:
    counts: [K, K] int64, of images labelled i that look like j: the confident joint.
    looks_like: [N] int64, the class that an image looks like; -1 for none.
    probability: [N] float32, of that class.
    of_label: [N] float32, of the label.
    accuracy: the share of the labels that the most probable class is.
  """

  counts: np.ndarray
  looks_like: np.ndarray
  probability: np.ndarray
  of_label: np.ndarray
  accuracy: float

  @property
  def share_wrong(self) -> float:
    """The estimated share of wrong labels: of those that look like a class, off the diagonal."""
    return float(1 - np.diag(self.counts).sum() / max(1, self.counts.sum()))

  def suspects(self, labels: np.ndarray) -> Suspects:
    """The images off the diagonal, by the margin of the class over the label.

    Args:
      labels: [N], those that they have.
    """
    images = np.flatnonzero((self.looks_like >= 0) & (self.looks_like != labels))
    images = images[np.argsort((self.of_label - self.probability)[images], kind='stable')]
    return Suspects(
      images, self.looks_like[images], self.probability[images], self.of_label[images]
    )


def confident_joint(blocks: Blocks, labels: np.ndarray) -> Joint:
  """Counts images of label i that look like j (Northcutt et al., equation 1).

  Args:
    blocks: probabilities of images held out; they are gone through twice.
    labels: [N].
  """
  count = len(labels)
  of_label, accuracy = np.empty(count, np.float32), 0
  num_classes = 0
  for images, probabilities in blocks():
    own = labels[images]
    of_label[images] = probabilities[np.arange(len(own)), own]
    accuracy += int((probabilities.argmax(1) == own).sum())
    num_classes = probabilities.shape[1]
  sizes = np.bincount(labels, minlength=num_classes)
  sums = np.bincount(labels, of_label, minlength=num_classes)
  thresholds = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
  looks_like, probability = np.empty(count, np.int64), np.empty(count, np.float32)
  for images, probabilities in blocks():
    reached = np.where(probabilities >= thresholds, probabilities, -1)
    looks_like[images] = np.where(reached.max(1) >= 0, reached.argmax(1), -1)
    probability[images] = reached.max(1)
  joint = np.zeros((num_classes, num_classes), np.int64)
  some = looks_like >= 0
  np.add.at(joint, (labels[some], looks_like[some]), 1)
  return Joint(joint, looks_like, probability, of_label, accuracy / count)
