"""What errors let one tell."""

import math
import statistics
from collections.abc import Sequence

_Z_95 = 1.959963984540054  # half the width of a 95 % interval in standard errors


_UNLEARNED = 0.9  # of the error of guessing

# Student's t of 95 %, two-sided, for 1, 2, ... degrees of freedom.
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)
MOST_VALUES = len(_T_95) + 1


def guessing(num_classes: int, k: int = 1) -> float:
  """The top-k error of guessing, in %, where classes have as many images each."""
  return 100.0 * (1 - k / max(num_classes, k))


def has_learned(error: float, num_classes: int, k: int = 1) -> bool:
  """Whether a top-k error, in %, is clearly below that of guessing: at most 0.9 of it."""
  return error <= _UNLEARNED * guessing(num_classes, k)


def difference_width(error: float, other: float, num_images: int) -> float:
  """Half the 95 % interval of the difference of two error rates, in points.

  Agresti and Caffo's (2000): each with a right and a wrong image more, so that 0 % has a width too.
  The images are taken for independent samples; they are the same, so it is rather too wide.

  Args:
    error: in %.
    other: in %.
    num_images: of each.
  """
  shares = [(each / 100 * num_images + 1) / (num_images + 2) for each in (error, other)]
  return 100 * _Z_95 * math.sqrt(sum(p * (1 - p) for p in shares) / (num_images + 2))


def mean_width(values: Sequence[float]) -> float:
  """Half the 95 % interval of the mean of 2 to `MOST_VALUES` independent values, by Student."""
  return _T_95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
