"""An exported classifier beside its checkpoint, on some images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slim_inception.evaluate.calibration import Abstention
from slim_inception.evaluate.conformal import SCORES, Sets
from slim_inception.export.classifier import Classifier, Outputs


class Accepted(NamedTuple):
  """What an export may differ by from the checkpoint."""

  difference: float  # of a probability
  agreement: float  # share of images with the same best class, at least
  tie: float  # classes whose probabilities differ by less count as equally good


# float32 is computed in another order. float16 rounds the weights to 11 bits. int8 is rounded at
# every layer, and its probabilities come in steps of 1/256: docs/export.md has what was measured.
ACCEPTED = {
  'none': Accepted(1e-4, 1.0, 2e-4),
  'float16': Accepted(0.02, 1.0, 0.04),
  'int8': Accepted(0.3, 0.9, 2 / 256),
}
# A set or an abstention may be another where a score is so near to a threshold: scores are sums of
# many probabilities, in float32 or in integers.
_DECISION_MARGIN = 1e-3


class Reference(NamedTuple):
  """What the checkpoint says of some images.

  Attributes:
    probabilities: [n, classes].
    names: of the classes; several may have the same.
    sets: of its calibration, and so the next.
    abstention: None where it has none.
  """

  probabilities: np.ndarray
  names: tuple[str, ...]
  sets: Sets | None = None
  abstention: Abstention | None = None

  @property
  def decisions(self) -> dict[str, np.ndarray]:
    """The `DECISIONS` that the calibration makes of the probabilities."""
    decided = {}
    if self.sets:
      decided['in_set'] = self.sets.of(self.probabilities)
    if self.abstention:
      decided['abstains'] = self.probabilities.max(-1) < self.abstention.threshold
    return decided


def reference(checkpoint: Classifier, probabilities: np.ndarray) -> Reference:
  """What a checkpoint says that gives some images these probabilities, [n, classes]."""
  return Reference(probabilities, checkpoint.names, checkpoint.sets, checkpoint.abstention)


class Compared(NamedTuple):
  """How far an export is from the checkpoint, image by image.

  Attributes:
    differences: [n] the largest of a probability.
    agree: [n] bool, whether the best class is the same, ties aside.
    same_decisions: {name of `DECISIONS`: [n] bool}.
    decide_alike: [n] bool, whether sets and abstention follow from the probabilities, save where
      these are as good as at a threshold.
  """

  differences: np.ndarray
  agree: np.ndarray
  same_decisions: dict[str, np.ndarray]
  decide_alike: np.ndarray


class Comparison(NamedTuple):
  """How far an export is from the checkpoint."""

  images: int
  difference: float  # the largest of a probability
  agreement: float  # share of images with the same best class, ties aside
  decisions: float = 1.0  # share of images whose sets and abstention are right, rounding aside

  def is_within(self, accepted: Accepted) -> bool:
    """Whether that is accepted; a difference that is no number is not."""
    is_near = self.difference <= accepted.difference and self.agreement >= accepted.agreement
    return is_near and self.decisions == 1


def compare(expected: Reference, outputs: Outputs, accepted: Accepted) -> Compared:
  """Compares outputs of an exported classifier with what the checkpoint gives.

  Raises:
    ValueError: they are of other images, or of other classes.
  """
  count = outputs.probabilities.shape[-1]
  probabilities = expected.probabilities
  ranked = -np.sort(-probabilities, axis=-1)[:, :count] if outputs.ranked else probabilities
  if outputs.probabilities.shape != ranked.shape:
    raise ValueError(f'probabilities are {outputs.probabilities.shape}, expected {ranked.shape}')
  named = np.array(outputs.best)[:, np.newaxis] == np.array(expected.names)
  of_best = np.where(named, probabilities, -np.inf).max(-1)
  same = {
    name: _rows_equal(decided, outputs.decisions.get(name))
    for name, decided in expected.decisions.items()
  }
  # By the export's own probabilities, where it gives all: int8 moves scores over thresholds.
  own = expected if outputs.ranked else expected._replace(probabilities=outputs.probabilities)
  alike = [
    _rows_equal(decided, outputs.decisions.get(name)) | ~_is_clear(own, name)
    for name, decided in own.decisions.items()
  ]
  return Compared(
    np.abs(outputs.probabilities - ranked).max(-1),
    of_best >= probabilities.max(-1) - accepted.tie,
    same,
    np.logical_and.reduce(alike) if alike else np.ones(len(probabilities), bool),
  )


def concatenated(parts: Sequence[Compared]) -> Compared:
  """Several batches as one."""
  differences, agree, same, alike = zip(*parts, strict=True)
  return Compared(
    np.concatenate(differences),
    np.concatenate(agree),
    {name: np.concatenate([part[name] for part in same]) for name in same[0]},
    np.concatenate(alike),
  )


def summed_up(compared: Compared) -> Comparison:
  """What is said of all images, of one at least."""
  return Comparison(
    len(compared.differences),
    float(compared.differences.max()),
    float(np.mean(compared.agree)),
    float(np.mean(compared.decide_alike)),
  )


def _rows_equal(expected: np.ndarray, values: np.ndarray | None) -> np.ndarray:
  """[n] bool; nothing equals what is not there."""
  if values is None or values.shape != expected.shape:
    return np.zeros(len(expected), bool)
  return (values == expected).reshape(len(expected), -1).all(-1)


def _is_clear(expected: Reference, name: str) -> np.ndarray:
  """[n] bool: whether no score of an image is as near to its threshold as `_DECISION_MARGIN`."""
  if name == 'in_set' and expected.sets:
    scores = SCORES[expected.sets.kind](np.asarray(expected.probabilities, np.float64))
    return (np.abs(scores - np.array(expected.sets.thresholds)) > _DECISION_MARGIN).all(-1)
  threshold = expected.abstention.threshold if expected.abstention else np.inf
  return np.abs(expected.probabilities.max(-1) - threshold) > _DECISION_MARGIN
