"""An exported classifier beside its checkpoint, on some images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slim_inception.export.classifier import Outputs


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


class Comparison(NamedTuple):
  """How far an export is from the checkpoint."""

  images: int
  difference: float  # the largest of a probability
  agreement: float  # share of images with the same best class, ties aside

  def is_within(self, accepted: Accepted) -> bool:
    """Whether that is accepted; a difference that is no number is not."""
    return self.difference <= accepted.difference and self.agreement >= accepted.agreement


def compare(expected: np.ndarray, names: Sequence[str], outputs: Outputs, tie: float) -> Comparison:
  """Compares outputs with the probabilities that the checkpoint gives.

  Args:
    expected: [n, classes] of the checkpoint.
    names: of the classes; several may have the same.
    outputs: of the exported classifier.
    tie: see `Accepted`.
  """
  count = outputs.probabilities.shape[-1]
  reference = -np.sort(-expected, axis=-1)[:, :count] if outputs.ranked else expected
  if outputs.probabilities.shape != reference.shape:
    raise ValueError(f'probabilities are {outputs.probabilities.shape}, expected {reference.shape}')
  named = np.array(outputs.best)[:, np.newaxis] == np.array(names)
  of_best = np.where(named, expected, -np.inf).max(-1)
  return Comparison(
    len(expected),
    float(np.abs(outputs.probabilities - reference).max()),
    float(np.mean(of_best >= expected.max(-1) - tie)),
  )
