"""Images that are unlike the others of their set: a rule a row."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slim_inception.doctor.facts import Facts

_SPREAD = 3.0  # times the distance between quartiles, beyond these: Tukey's "far out"
_LEAST_SPREAD = np.log(2.0)  # of logarithms, for sets whose images are all alike
_FEW = 0.1  # share of a set up to which what is not wrong by itself is odd
_LONG = 4  # times as long as wide


class Rule(NamedTuple):
  """What makes an image odd.

  Attributes:
    name: in the table.
    title: on the page.
    is_odd: facts -> [N] bool; images that cannot be read do not count.
    describe: of one image's columns, why.
    excludes: whether training should leave such images out: nothing is to be learned of them.
  """

  name: str
  title: str
  is_odd: Callable[[Facts], np.ndarray]
  describe: Callable[[np.ndarray], str]
  excludes: bool = False


def _far_out(values: np.ndarray, readable: np.ndarray, low: bool, high: bool) -> np.ndarray:
  """[N] bool: whose logarithm lies far outside the quartiles."""
  logs = np.log(np.maximum(values.astype(np.float64), 1e-3))
  if not readable.any():
    return np.zeros(len(values), bool)
  first, third = np.quantile(logs[readable], [0.25, 0.75])
  reach = max(_SPREAD * (third - first), _SPREAD * _LEAST_SPREAD)
  return (low & (logs < first - reach)) | (high & (logs > third + reach))


def _rare(facts: Facts, chosen: np.ndarray) -> np.ndarray:
  """`chosen`, [N] bool, or none of it where it is how the set is."""
  return chosen if chosen.sum() <= _FEW * facts.readable.sum() else np.zeros_like(chosen)


def _pixels(facts: Facts) -> np.ndarray:
  return facts.columns['height'].astype(np.int64) * facts.columns['width']


def _aspect(facts: Facts) -> np.ndarray:
  sides = facts.columns['height'].astype(np.float64), facts.columns['width'].astype(np.float64)
  return np.maximum(*sides) / np.maximum(1, np.minimum(*sides))


def _is_blank(facts: Facts) -> np.ndarray:
  return facts.columns['contrast'] < 2


def _is_blurred(facts: Facts) -> np.ndarray:
  rest = facts.readable & ~_is_blank(facts)
  return _far_out(facts.columns['sharpness'], rest, True, False) & ~_is_blank(facts)


def _is_of_other_colour(facts: Facts) -> np.ndarray:
  """Grey images among those in colour, or the reverse."""
  grey = facts.columns['colourfulness'] < 0.5
  share = grey[facts.readable].mean() if facts.readable.any() else 0.0
  if 0 < share <= _FEW:
    return grey
  return ~grey if 1 - _FEW <= share < 1 else np.zeros(len(grey), bool)


def _size(row: np.ndarray) -> str:
  return f'{row["width"]} x {row["height"]} pixels'


RULES = (
  Rule(
    'cut',
    'Cut short: the lower part is of one colour',
    lambda facts: _rare(facts, (facts.columns['cut'] >= 0.1) & ~_is_blank(facts)),
    lambda row: f'the lower {100 * row["cut"]:.0f} % are of one colour',
  ),
  Rule(
    'blank',
    'Blank',
    _is_blank,
    lambda row: f'grey values differ by {row["contrast"]:.1f} of 255 (standard deviation)',
    excludes=True,
  ),
  Rule(
    'blur',
    'Blurred',
    _is_blurred,
    lambda row: f'the variance of the Laplacian is {row["sharpness"]:.3g} times that of the image',
  ),
  Rule(
    'exposure',
    'Nearly black or white',
    lambda facts: (
      ((facts.columns['mean'] < 12) | (facts.columns['mean'] > 243)) & ~_is_blank(facts)
    ),
    lambda row: f'the mean grey value is {row["mean"]:.0f} of 255',
  ),
  Rule(
    'colour',
    'Grey among images in colour, or the reverse',
    _is_of_other_colour,
    lambda row: 'grey' if row['colourfulness'] < 0.5 else 'in colour',
  ),
  Rule(
    'size',
    'Of another size than the others',
    lambda facts: _far_out(_pixels(facts), facts.readable, True, True),
    _size,
  ),
  Rule(
    'aspect',
    'Long and narrow',
    lambda facts: _rare(facts, _aspect(facts) >= _LONG),
    _size,
  ),
)
