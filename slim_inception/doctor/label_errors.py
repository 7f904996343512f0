"""Labels that are probably wrong: confident learning on predictions of images held out.

An image is predicted by a linear head, on embeddings of a net, that has not seen its fold: linear
discriminant analysis with a shared covariance, whose fit is a few products of matrices, exact for
each fold, and needs no learning rate. Confident learning (Northcutt, Jiang and Chuang 2021,
arXiv:1911.00068) then counts how often images of label i look like class j: like j an image looks
if its probability of j is at least the mean of that probability over the images labelled j. NumPy
alone.
"""

from typing import NamedTuple

import numpy as np

FOLDS = 5
_SHRINKAGES = (0.001, 0.01, 0.1, 0.3)  # tried; of the covariance towards a multiple of the identity
_LEAST = np.finfo(np.float32).tiny


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


def out_of_fold(
  embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, float]:
  """Probabilities of each image by heads that were not fitted on its fold.

  Args:
    embeddings: [N, D] float32.
    labels: [N] integers, 0 .. K - 1.
    folds: [N] integers, 0 .. `FOLDS` - 1.

  Returns:
    [N, K] float32, with the shrinkage that gives the labels the greatest likelihood, and the
    temperature of the greatest likelihood (`calibration.fit_temperature` is the same for one net);
    and the share of the labels that the most probable class is.
  """
  num_classes = int(labels.max()) + 1
  best, best_likelihood = None, -np.inf
  moments = _Moments.of(embeddings, labels, folds, num_classes)
  for shrinkage in _SHRINKAGES:
    logits = np.empty((len(labels), num_classes), np.float32)
    for fold in range(FOLDS):
      weights, biases = moments.discriminant(fold, shrinkage)
      logits[folds == fold] = embeddings[folds == fold] @ weights + biases
    probabilities, likelihood = _tempered(logits, labels)
    if likelihood > best_likelihood:
      best, best_likelihood = probabilities, likelihood
  assert best is not None
  return best, float((best.argmax(1) == labels).mean())


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


def _tempered(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
  """Probabilities at the temperature of the greatest likelihood, and this, the mean log."""
  logits = logits - logits.max(1, keepdims=True)
  best, best_likelihood = logits, -np.inf
  for temperature in 2.0 ** np.arange(-2, 6, 0.5):
    raised = np.exp(logits / temperature)
    probabilities = raised / raised.sum(1, keepdims=True)
    of_labels = probabilities[np.arange(len(labels)), labels]
    likelihood = float(np.log(np.maximum(of_labels, _LEAST)).mean())
    if likelihood > best_likelihood:
      best, best_likelihood = probabilities, likelihood
  return best, best_likelihood


class Joint(NamedTuple):
  """How labels and classes occur together.

  Attributes:
    counts: [K, K] int64, of images labelled i that look like j: the confident joint.
    looks_like: [N] int64, the class that an image looks like; -1 for none.
  """

  counts: np.ndarray
  looks_like: np.ndarray

  @property
  def share_wrong(self) -> float:
    """The estimated share of wrong labels: off the diagonal, each row scaled to its images."""
    rows = self.counts.sum(1)
    return float(1 - np.diag(self.counts).sum() / max(1, rows.sum()))


def confident_joint(probabilities: np.ndarray, labels: np.ndarray) -> Joint:
  """Counts images of label i that look like j (Northcutt et al., equation 1).

  Args:
    probabilities: [N, K], of images held out.
    labels: [N].
  """
  num_classes = probabilities.shape[1]
  counts = np.bincount(labels, minlength=num_classes)
  own = probabilities[np.arange(len(labels)), labels]
  sums = np.bincount(labels, own, minlength=num_classes)
  thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
  reached = np.where(probabilities >= thresholds, probabilities, -1)
  looks_like = np.where(reached.max(1) >= 0, reached.argmax(1), -1)
  joint = np.zeros((num_classes, num_classes), np.int64)
  some = looks_like >= 0
  np.add.at(joint, (labels[some], looks_like[some]), 1)
  return Joint(joint, looks_like)


def suspects(probabilities: np.ndarray, labels: np.ndarray, joint: Joint) -> Suspects:
  """The images off the diagonal of the joint, by the margin of the class over the label.

  Args:
    probabilities: [N, K].
    labels: [N].
    joint: of these.
  """
  images = np.flatnonzero((joint.looks_like >= 0) & (joint.looks_like != labels))
  suggested = joint.looks_like[images]
  probability = probabilities[images, suggested]
  of_label = probabilities[images, labels[images]]
  order = np.argsort(of_label - probability, kind='stable')
  return Suspects(images[order], suggested[order], probability[order], of_label[order])
