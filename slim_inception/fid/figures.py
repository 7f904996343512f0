"""How far generated images are from real ones, by features of both: NumPy alone, in float64.

Features are [N, d] of any float type, `pool_3` of `inception_v3_2015` with d = 2048.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_BLOCK = 512  # rows of distances that are in memory at once: 0.2 GB for 50,000 images


class Statistics(NamedTuple):
  """What the Frechet distance is made of: float64.

  Attributes:
    mean: [d].
    covariance: [d, d], without bias (a sum over N images is divided by N - 1).
  """

  mean: np.ndarray
  covariance: np.ndarray


class Estimate(NamedTuple):
  """A mean over parts of the images, and the standard deviation of these parts."""

  mean: float
  deviation: float
  parts: int
  size: int  # images of a part, of the smallest if they differ


class Manifolds(NamedTuple):
  """Precision and recall, in 0..1."""

  precision: float
  recall: float


def frechet_distance(real: Statistics, generated: Statistics) -> float:
  """FID (arXiv:1706.08500, equation 6): the distance of two normal distributions.

      |m - n|^2 + tr(C) + tr(D) - 2 tr((C D)^(1/2))

  The eigenvalues of C D are those of A'D A where C = A A': a symmetric matrix, whose eigenvalues
  are real and not negative but for rounding. So nothing becomes complex, and covariances of few
  images, which are singular, need nothing added to their diagonals: A has as many columns as C has
  rank.
  """
  difference = real.mean - generated.mean
  values, vectors = np.linalg.eigh((real.covariance + real.covariance.T) / 2)
  kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
  root = vectors[:, kept] * np.sqrt(values[kept])
  shared = np.linalg.eigvalsh(root.T @ generated.covariance @ root)
  traces = np.trace(real.covariance) + np.trace(generated.covariance)
  distance = difference @ difference + traces - 2 * np.sqrt(np.maximum(shared, 0.0)).sum()
  return float(max(distance, 0.0))


def frechet_distance_of_features(real: np.ndarray, generated: np.ndarray) -> float:
  """`frechet_distance` of the statistics of features, faster where images are few.

  With X and Y the features less their means, over the roots of N - 1 and M - 1, the covariances are
  X'X and Y'Y, and the singular values of X Y' are those of the roots of these.
  """
  real, generated = (np.asarray(features, np.float64) for features in (real, generated))
  difference = real.mean(0) - generated.mean(0)
  x = (real - real.mean(0)) / np.sqrt(len(real) - 1)
  y = (generated - generated.mean(0)) / np.sqrt(len(generated) - 1)
  shared = np.linalg.svd(x @ y.T, compute_uv=False).sum()
  return float(max(difference @ difference + (x**2).sum() + (y**2).sum() - 2 * shared, 0.0))


def frechet_bias(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> float:
  """About how much the FID of so few images is above that of any number of them.

  The bias is inversely proportional to the number of images (arXiv:1911.07023, section 3): halves
  of the sets have twice of it, and the difference is once.
  """
  rng = np.random.default_rng(seed)
  halves = [
    features[rng.permutation(len(features))[: max(len(features) // 2, 2)]]
    for features in (real, generated)
  ]
  return frechet_distance_of_features(*halves) - frechet_distance_of_features(real, generated)


def kernel_distance(
  real: np.ndarray, generated: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Estimate:
  """KID (arXiv:1801.01401, section 4): the squared maximum mean discrepancy, without bias.

  The kernel is (x y / d + 1)^3. It may be negative where the sets are alike.

  Args:
    real: [N, d], N at least 2.
    generated: [M, d], M at least 2.
    subsets: over how many random subsets of both it is averaged.
    size: images of a subset, fewer where a set has fewer.
    seed: of the subsets.
  """
  size = min(size, len(real), len(generated))
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(subsets):
    x, y = (
      features[rng.choice(len(features), size, replace=False)].astype(np.float64)
      for features in (real, generated)
    )
    within = sum(_sum_beside_diagonal(_kernel(z, z)) for z in (x, y))
    values.append(within / (size * (size - 1)) - 2 * _kernel(x, y).mean())
  return Estimate(float(np.mean(values)), float(np.std(values)), subsets, size)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return (x @ y.T / x.shape[1] + 1) ** 3


def _sum_beside_diagonal(matrix: np.ndarray) -> float:
  return float(matrix.sum() - np.trace(matrix))


def inception_score(probabilities: np.ndarray, splits: int = 10) -> Estimate:
  """Inception Score (arXiv:1606.03498, section 4): exp of the mean of KL(p(y|x) || p(y)).

  Args:
    probabilities: [N, classes] of the images in their order.
    splits: equal parts one after the other, each with a p(y) of its own; fewer where there are
      fewer images.
  """
  parts = np.array_split(np.asarray(probabilities, np.float64), min(splits, len(probabilities)))
  scores = []
  for part in parts:
    logs = [np.log(np.maximum(p, np.finfo(np.float64).tiny)) for p in (part, part.mean(0))]
    scores.append(np.exp((part * (logs[0] - logs[1])).sum(1).mean()))
  return Estimate(float(np.mean(scores)), float(np.std(scores)), len(parts), len(parts[-1]))


def class_probabilities(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Softmax of the classes of features, [N, classes] float64.

  Without biases: the Inception Score has left them out from its first program on.

  Args:
    features: [N, d].
    weights: [d, classes] of the classifier.
  """
  logits = np.asarray(features, np.float64) @ weights
  raised = np.exp(logits - logits.max(1, keepdims=True))
  return raised / raised.sum(1, keepdims=True)


def precision_and_recall(real: np.ndarray, generated: np.ndarray, neighbors: int = 3) -> Manifolds:
  """Improved precision and recall (arXiv:1904.06991, section 2).

  Precision is the share of generated images within the manifold of the real ones, recall that of
  real images within the manifold of the generated ones. A manifold is all that is no farther from
  one of its images than this image's k-th nearest neighbour in its own set.

  Args:
    real: [N, d].
    generated: [M, d].
    neighbors: k, less than N and M.

  Raises:
    ValueError: a set has no so many neighbours.
  """
  if min(len(real), len(generated)) <= neighbors:
    raise ValueError(
      f'precision and recall with {neighbors} neighbours need more images than that in both sets, '
      f'which have {len(real)} and {len(generated)}'
    )
  # Distances stay the same, and are exacter about the middle.
  middle = np.mean(real, 0, dtype=np.float64)
  real, generated = (np.asarray(features, np.float64) - middle for features in (real, generated))
  radii = [_radii(features, neighbors) for features in (real, generated)]
  return Manifolds(_coverage(generated, real, radii[0]), _coverage(real, generated, radii[1]))


def _squared_distances(points: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
  """Blocks [n, M] of squared distances of [N, d] points to [M, d] others."""
  squares = (others**2).sum(1)
  for start in range(0, len(points), _BLOCK):
    block = points[start : start + _BLOCK]
    yield np.maximum((block**2).sum(1)[:, None] + squares - 2 * block @ others.T, 0)


def _radii(points: np.ndarray, neighbors: int) -> np.ndarray:
  """[N] squared distances to the k-th nearest other point; nearest of all is the point itself."""
  blocks = _squared_distances(points, points)
  # Copies: a view of a column keeps its whole block.
  return np.concatenate(
    [np.partition(block, neighbors, axis=1)[:, neighbors].copy() for block in blocks]
  )


def _coverage(points: np.ndarray, others: np.ndarray, radii: np.ndarray) -> float:
  """The share of points that are within the radius of one of the others."""
  within = [(block <= radii).any(1) for block in _squared_distances(points, others)]
  return float(np.concatenate(within).mean())
