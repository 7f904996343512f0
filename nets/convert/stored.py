"""What a reader of files gives, and what a family of files makes of it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .layers import Layer

Arrays = dict[str, np.ndarray]

# What a file may declare: that many times its own size, and so much in any case.
_RATIO, _ROOM = 100, 64 << 20


class Images(NamedTuple):
  """A net is given (pixel - mean) / std of pixels in 0..255."""

  mean: tuple[float, ...]  # one for all channels, or one for each of red, green and blue
  std: tuple[float, ...]

  def __str__(self) -> str:
    mean, std = ([f'{value:.6g}' for value in values] for values in self)
    return f'(pixel - {_one_or_all(mean)}) / {_one_or_all(std)}'


def _one_or_all(values: list[str]) -> str:
  return values[0] if len(set(values)) == 1 else f'({", ".join(values)})'


class Stored(NamedTuple):
  """What a file holds."""

  arrays: Arrays  # by their names there; of what a reader leaves unread, an empty one
  left_out: Mapping[str, str] = {}  # {name: the rule by which it is no array of the net}
  averages: bool = False  # whether the arrays are moving averages of the weights
  images: Images | None = None  # what the file says that the net was trained on
  images_fault: str = ''  # why what it says of that is not understood
  head_fault: str = ''  # why its classifier is not one that slim's nets have
  notes: tuple[str, ...] = ()  # lines for people


class Sorted(NamedTuple):
  """The arrays of a file, all of them."""

  layers: dict[str, Layer]  # by our scopes, without the net's own
  left_out: dict[str, str]  # {name: the rule}
  unknown: tuple[str, ...]  # what is neither


def check_size(declared: int, size: int, name: str) -> None:
  """Refuses what a file declares far beyond its size, before memory is allocated for it.

  Args:
    declared: bytes.
    size: of the file that is to hold them, compressed perhaps.
    name: what declares them, with the file's path.

  Raises:
    ValueError: it is too much.
  """
  if declared > max(_ROOM, _RATIO * size):
    raise ValueError(f'{name} is to have {declared:,} bytes, in a file of {size:,}: it is damaged')
