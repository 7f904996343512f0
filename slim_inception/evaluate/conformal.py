"""Sets of labels that have the right one with a stated probability: split conformal prediction.

Each label of an image gets a score that says how strange the label would be. In the set are those
whose score is at most the ceil((n + 1) coverage)-th smallest of the scores that the right labels of
n calibration images have (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173). Whatever
the net, the set of another image of the same kind then has the right label with at least this
probability, over calibration images and images. NumPy alone.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

_PENALTY, _FREE = 0.01, 5  # lambda and k_reg of RAPS, as its authors have them for ImageNet


def _plain(probabilities: np.ndarray) -> np.ndarray:
  """1 - p: the smallest sets on average (Sadinle et al. 2019, arXiv:1609.00451)."""
  return 1 - probabilities


def _adaptive(probabilities: np.ndarray) -> np.ndarray:
  """How much probability lies before a label, with a penalty for those after the first five.

  Romano et al. 2020 (arXiv:2006.02544) and Angelopoulos et al. 2021 (RAPS, arXiv:2009.14193). Sets
  are larger where an image is harder. The papers add a random part of the label's own probability;
  here there is none of it: an image has the same set each time, and the most probable label, whose
  score is 0, is always in it. Coverage is at least as stated, and can be more.
  """
  order = np.argsort(-probabilities, axis=-1, kind='stable')
  falling = np.take_along_axis(probabilities, order, -1)
  before = np.cumsum(falling, -1) - falling + penalties(probabilities.shape[-1])
  scores = np.empty_like(before)
  np.put_along_axis(scores, order, before, -1)
  return scores


def penalties(classes: int) -> np.ndarray:
  """What the labels of each rank are charged by RAPS, [classes]."""
  return _PENALTY * np.maximum(0, np.arange(1, classes + 1) - _FREE)


# Scores [N, classes] of probabilities [N, classes], by --sets.
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'plain': _plain,
  'adaptive': _adaptive,
  'class_conditional': _plain,  # with a threshold for each class: Vovk 2012, arXiv:1209.2673
}


@dataclasses.dataclass(frozen=True)
class Sets:
  """How sets are made.

  Attributes:
    kind: a key of `SCORES`.
    coverage: that was asked for, in (0, 1).
    thresholds: of the scores: one, or one for each label; -1 for a label that is in no set.
  """

  kind: str
  coverage: float
  thresholds: tuple[float, ...]

  def of(self, probabilities: np.ndarray) -> np.ndarray:
    """[N, classes] bool, which labels are in the sets of images with such probabilities."""
    return SCORES[self.kind](np.asarray(probabilities, np.float64)) <= np.array(self.thresholds)


def least_images(coverage: float) -> int:
  """How many calibration images a coverage needs: with fewer, only all labels would do."""
  return next(n for n in range(_near(coverage / (1 - coverage)), 2**31) if _rank(n, coverage) <= n)


def _near(number: float) -> int:
  return max(1, math.floor(number) - 1)


def _rank(count: int, coverage: float) -> int:
  """Which of the scores, from 1, is the threshold; 0.95 * 20 is 19, as it is not in binary."""
  return math.ceil((count + 1) * coverage - 1e-9)


def threshold(scores: np.ndarray, coverage: float) -> float:
  """The ceil((n + 1) coverage)-th smallest of n scores of right labels.

  Raises:
    ValueError: n is too small; says the least.
  """
  rank, least = _rank(len(scores), coverage), least_images(coverage)
  if rank > len(scores):
    raise ValueError(f'a coverage of {coverage:g} needs at least {least} images, not {len(scores)}')
  return float(np.partition(scores, rank - 1)[rank - 1])


def fit(
  kind: str,
  coverage: float,
  probabilities: np.ndarray,
  labels: np.ndarray,
  name_of: Callable[[int], str] = str,
  outputs: range | None = None,
) -> Sets:
  """Thresholds for a coverage.

  Args:
    kind: of `SCORES`.
    coverage: in (0, 1).
    probabilities: [N, classes] of the calibration images.
    labels: [N] integers, the right ones.
    name_of: gives the name of a label.
    outputs: labels that the net has outputs for; all by default. Others are in no set of
      'class_conditional', and with a probability of 0 as good as never in another.

  Raises:
    ValueError: there are too few images, of all or with 'class_conditional' of a class; says the
      least number.
  """
  scores = SCORES[kind](np.asarray(probabilities, np.float64))[np.arange(len(labels)), labels]
  if kind != 'class_conditional':
    return Sets(kind, coverage, (threshold(scores, coverage),))
  least, classes = least_images(coverage), probabilities.shape[1]
  outputs = range(classes) if outputs is None else outputs
  counts = np.bincount(labels, minlength=classes)
  few = [label for label in outputs if counts[label] < least]
  if few:
    rarest = min(few, key=lambda label: counts[label])
    raise ValueError(
      f'a coverage of {coverage:g} in each class needs at least {least} images of each, and '
      f'{len(few)} of {len(outputs)} classes have fewer, {name_of(rarest)} {counts[rarest]}; '
      '--sets=plain takes the classes together'
    )
  thresholds = np.full(classes, -1.0)
  for label in outputs:
    thresholds[label] = threshold(scores[labels == label], coverage)
  return Sets(kind, coverage, tuple(thresholds.tolist()))
