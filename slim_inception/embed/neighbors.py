"""k-nearest neighbours on features, as DINO has it (arXiv:2104.14294, appendix F.1).

Each of the k training images that are most alike, by the cosine, votes for its class with the
weight exp(cosine / temperature).
"""

import numpy as np

_BLOCK = 1 << 25  # cosines that are held at once


def probabilities(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  features: np.ndarray,
  num_classes: int,
  k: int = 20,
  temperature: float = 0.07,
) -> np.ndarray:
  """The share of the votes that each class has.

  Args:
    train_features: [M, width] float32.
    train_labels: [M] integers from 0 to num_classes - 1.
    features: [N, width] float32.
    num_classes: columns of the result.
    k: images that vote; all M where there are fewer.
    temperature: of the weights; above 0.

  Returns:
    [N, num_classes] float64.

  Raises:
    ValueError: features are not finite.
  """
  known, asked = _normalized(train_features), _normalized(features)
  k = min(k, len(known))
  votes = np.zeros((len(asked), num_classes))
  rows = max(1, _BLOCK // len(known))
  for start in range(0, len(asked), rows):
    cosines = asked[start : start + rows] @ known.T
    nearest = np.argpartition(-cosines, k - 1)[:, :k]
    of_nearest = np.take_along_axis(cosines, nearest, 1).astype(np.float64)
    # Less the largest, as a softmax: at a low temperature all weights would be 0.
    weights = np.exp((of_nearest - of_nearest.max(-1, keepdims=True)) / temperature)
    index = np.arange(start, start + len(cosines))[:, np.newaxis]
    np.add.at(votes, (index, train_labels[nearest]), weights)
  return votes / votes.sum(-1, keepdims=True)


def _normalized(features: np.ndarray) -> np.ndarray:
  """With length 1; what has none keeps it."""
  lengths = np.linalg.norm(features, axis=-1, keepdims=True)
  if not np.isfinite(lengths).all():
    raise ValueError('features are not finite numbers')
  return features / np.maximum(lengths, np.finfo(np.float32).tiny)
