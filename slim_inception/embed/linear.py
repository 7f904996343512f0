"""Linear classifiers on features: scikit-learn's logistic regression, its strength chosen.

The objective is mean cross entropy + l2 / 2 * |weights|^2, without a loss of the biases, over
features less their mean and divided by one number, the root mean square of their lengths: so the
same strengths suit features of any net. scikit-learn's C for these is 1 / (l2 * images).
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

STRENGTHS = tuple(10.0**power for power in range(-1, -8, -1))  # of the L2 loss, the strongest first
_MAX_STEPS = 200  # of L-BFGS
_TOLERANCE = 1e-5  # of each number of the gradient
_LEAST_PROBABILITY = 1e-15  # of a class that had no image to be fitted on
# Multiplications of features with weights, up to which one thread fits. L-BFGS makes many small
# calls of BLAS, whose threads wait for each other: of two, on an idle machine, a path of 2,000 x
# 2,048 features and 5 classes takes 5.6 times as long as of one, of 16,000 and 100 classes 1.4
# times; where others compute too, 15 times. Of more than this nothing is known.
_MOST_OF_ONE_THREAD = 1e10


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
    ValueError: there are no two classes, features are not finite, or scikit-learn is not installed.
  """
  sklearn = scikit_learn()
  present, targets = np.unique(labels, return_inverse=True)
  if len(present) < 2:
    raise ValueError(f'{len(labels)} images of {len(present)} class(es): a head needs two classes')
  mean = features.mean(0, dtype=np.float64)
  centred = features - mean.astype(features.dtype)
  scale = np.sqrt(np.square(centred).sum(-1, dtype=np.float64).mean()) or 1.0
  if not np.isfinite(scale):
    raise ValueError('features are not finite numbers')
  centred /= features.dtype.type(scale)
  model = sklearn.linear_model.LogisticRegression(
    tol=_TOLERANCE, max_iter=_MAX_STEPS, warm_start=True
  )
  for l2 in strengths:
    model.set_params(C=1 / (l2 * len(labels)))
    with (
      _threads(features.size * num_classes),
      warnings.catch_warnings(),  # in float32, rounding may end it above the tolerance
    ):
      warnings.simplefilter('ignore', sklearn.exceptions.ConvergenceWarning)
      model.fit(centred, targets)
    weights, biases = np.zeros((features.shape[1], num_classes)), np.full(num_classes, -np.inf)
    fitted = present if len(present) > 2 else present[1:]  # of two classes the first has zeros
    biases[present] = 0
    weights[:, fitted] = model.coef_.T / scale
    biases[fitted] = model.intercept_ - mean @ weights[:, fitted]
    yield Head(weights, biases, l2)


def _threads(multiplications: int) -> contextlib.AbstractContextManager:
  """As many threads of BLAS as are fastest for products of so many multiplications."""
  if multiplications > _MOST_OF_ONE_THREAD:
    return contextlib.nullcontext()
  import threadpoolctl  # scikit-learn depends on it

  return threadpoolctl.threadpool_limits(1, user_api='blas')


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


def scikit_learn() -> Any:
  """The package; ValueError where it is not installed."""
  try:
    import sklearn.exceptions
    import sklearn.linear_model
  except ImportError as error:
    raise ValueError(
      'linear classifiers are fitted by scikit-learn, which is not installed: '
      "pip install 'slim-inception[features]'"
    ) from error
  return sklearn
