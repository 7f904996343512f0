"""Probabilities that mean what they say: temperature scaling, and when to abstain. NumPy alone.

A net that is 90 % sure is often right less often. Temperature scaling (Guo et al. 2017,
arXiv:1706.04599) divides its logits by one number T, that which gives the right labels of images
that it was not trained on the greatest likelihood. The order of the classes stays.

Here probabilities p become p^(1/T), normalized. That is the same for one view of one net, whose
logits are log p but for a constant, and keeps the order where p is an average over views too.

Not to be confused with the int8 ranges of an export, nor with the re-estimation of batch norm
statistics.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from slim_inception.evaluate.metrics import CALIBRATION_BINS

_LEAST = np.finfo(np.float32).tiny  # probabilities that float32 has as 0 count as this
_LOWEST, _HIGHEST = 0.01, 100.0  # temperatures that are searched
_STEPS = 60  # of bisection: the last halves less than float64 tells apart
_RESAMPLES = 1000
_SEED = 0
_RISK_LEVELS = 20  # shares of the images that `abstention` tries to keep
RISK_CONFIDENCE = 0.95


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
  """Probabilities [..., classes] as they are with logits divided by a temperature, float64.

  The order stays, and so does a probability of 0.
  """
  values = np.asarray(probabilities, np.float64)
  largest = values.max(-1, keepdims=True)
  # By the largest first: powers of small numbers would vanish.
  raised = (values / largest) ** (1 / temperature)
  return raised / raised.sum(-1, keepdims=True)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """The mean over images of -log p of the right label, in nats.

  Args:
    probabilities: [N, classes].
    labels: [N] integers.
  """
  of_labels = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
  return float(-np.log(np.maximum(of_labels, _LEAST)).mean())


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """The temperature of the greatest likelihood, in [0.01, 100].

  The negative log-likelihood is convex in 1/T: its derivative, the mean of the expected logit less
  that of the right label, rises with 1/T, and bisection finds its zero.

  Args:
    probabilities: [N, classes] of images that the net was not trained on.
    labels: [N] integers, the right ones.

  Raises:
    ValueError: every image is right, so that no T is too small; or the probabilities say nothing of
      the labels, so that none is too large.
  """
  logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
  logits -= logits.max(-1, keepdims=True)
  right = logits[np.arange(len(labels)), labels]
  if not right.any():
    raise ValueError(
      f'all {len(labels)} images are classified rightly: only wrong answers determine a '
      'temperature; take more images'
    )

  def slope(inverse: float) -> float:
    weights = np.exp(inverse * logits)
    return float(((weights * logits).sum(-1) / weights.sum(-1) - right).mean())

  if slope(1 / _HIGHEST) > 0:
    raise ValueError(
      'the probabilities say nothing of the labels: no temperature up to 100 is too large'
    )
  low, high = math.log(1 / _HIGHEST), math.log(1 / _LOWEST)
  for _ in range(_STEPS):
    middle = (low + high) / 2
    low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
  return math.exp(-(low + high) / 2)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> tuple[float, list[float]]:
  """The expected calibration error, and its 95 % interval by bootstrap over the images.

  A few images in each bin are off by chance, which makes the error of samples, and so the interval,
  larger than that of all images: intervals of nets that are well calibrated do not reach 0.

  Args:
    confidence: [N] probabilities of the predictions.
    right: [N] bool.
  """
  edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
  bins = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, CALIBRATION_BINS - 1)
  gaps, count = np.asarray(right, np.float64) - confidence, len(bins)

  def error(images: np.ndarray | slice) -> float:
    sums = np.bincount(bins[images], gaps[images], CALIBRATION_BINS)
    return float(np.abs(sums).sum() / count)

  rng = np.random.default_rng(_SEED)
  samples = [error(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
  return error(slice(None)), np.quantile(samples, [0.025, 0.975]).tolist()


class RiskCoverage(NamedTuple):
  """What abstaining below a confidence costs and brings, for each number of images that are kept.

  Attributes:
    threshold: [M] falling: images of at least this confidence are kept.
    coverage: [M] the share of the images that is kept, in (0, 1].
    risk: [M] the share of these that is wrong.
  """

  threshold: np.ndarray
  coverage: np.ndarray
  risk: np.ndarray

  @property
  def area(self) -> float:
    """The mean risk over the coverages (Geifman et al. 2019, arXiv:1805.08206); 0 is best."""
    widths = np.diff(self.coverage, prepend=0)
    return float((self.risk * widths).sum())


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> RiskCoverage:
  """The risk-coverage curve (El-Yaniv and Wiener, JMLR 11, 2010), a point a different confidence.

  Args:
    confidence: [N] probabilities of the predictions.
    right: [N] bool.
  """
  order = np.argsort(-confidence, kind='stable')
  falling = confidence[order]
  last = np.append(falling[1:] != falling[:-1], True)  # equal ones are kept together
  kept = np.arange(1, len(order) + 1)
  wrong = np.cumsum(~right[order])
  return RiskCoverage(falling[last], (kept / len(order))[last], (wrong / kept)[last])


@dataclasses.dataclass(frozen=True)
class Abstention:
  """Below which confidence a classifier abstains.

  Attributes:
    max_error: that was asked for.
    threshold: images of at least this confidence are classified.
    coverage: share of the images that were.
    risk: share of these that were wrong.
    bound: what the risk of all images is at most, with a confidence of 95 %.
  """

  max_error: float
  threshold: float
  coverage: float
  risk: float
  bound: float


def abstention(confidence: np.ndarray, right: np.ndarray, max_error: float) -> Abstention:
  """The threshold that keeps most images and the error rate of these at most at `max_error`.

  As in selection with guaranteed risk (Geifman and El-Yaniv 2017, arXiv:1705.08500): it is not the
  error rate of these images that is at most so large, but its upper bound, of Clopper and Pearson,
  for which 20 shares of the images are tried, each with a twentieth of the 5 % that may go wrong.

  Args:
    confidence: [N] probabilities of the predictions.
    right: [N] bool.
    max_error: in (0, 1).

  Raises:
    ValueError: no threshold does it; says the least number of images or what is possible.
  """
  level = (1 - RISK_CONFIDENCE) / _RISK_LEVELS
  least = math.ceil(math.log(level) / math.log1p(-max_error))
  if len(right) < least:
    raise ValueError(
      f'an error rate of at most {max_error:g} cannot be shown with {len(right)} images: at least '
      f'{least} are needed, even if all are right'
    )
  curve = risk_coverage(confidence, right)
  best: Abstention | None = None
  lowest = 1.0
  for share in np.arange(1, _RISK_LEVELS + 1) / _RISK_LEVELS:
    i = min(int(np.searchsorted(curve.coverage, share - 1e-12)), len(curve.coverage) - 1)
    kept = round(curve.coverage[i] * len(right))
    bound = upper_bound(round(curve.risk[i] * kept), kept, level)
    lowest = min(lowest, bound)
    if bound <= max_error:
      threshold, coverage, risk = (float(column[i]) for column in curve)
      best = Abstention(max_error, threshold, coverage, risk, bound)
  if best is None:
    raise ValueError(
      f'no threshold has an error rate of at most {max_error:g} for sure: on these {len(right)} '
      f'images the least is {lowest:.3g}'
    )
  return best


def upper_bound(errors: int, count: int, level: float) -> float:
  """The error rate of which so few errors or fewer have the probability `level`.

  The upper bound of Clopper and Pearson (Biometrika 26, 1934).
  """
  if errors >= count:
    return 1.0
  k = np.arange(1, errors + 1)
  binomials = np.concatenate([[0.0], np.cumsum(np.log((count - k + 1) / k))])
  ks = np.arange(errors + 1)
  low, high = errors / count, 1.0
  for _ in range(_STEPS):
    rate = (low + high) / 2
    tail = np.exp(binomials + ks * math.log(rate) + (count - ks) * math.log1p(-rate)).sum()
    low, high = (rate, high) if tail > level else (low, rate)
  return high
