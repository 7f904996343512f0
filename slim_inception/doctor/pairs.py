"""Pairs of images that show the same: candidates by matrix products, then a look at the pixels.

Candidates are pairs whose perceptual hashes differ in few bits, or whose embeddings are near. All
are compared with all, in blocks of a matrix product whose results are not kept, which is faster
than an index up to a few millions; how near is near enough is chosen so that an image has a few
candidates on average. What decides is how the differences between neighbouring pixels correlate, in
grey at 10 x 10, of one image with the other cut by up to an eighth on each side: that does not
change with size, brightness or contrast, hardly with compression, and is said of every pair.

Memory: a block of 2,048 x 8,192 numbers (67 MB), the rows as float32 (63 numbers of a hash: 252
bytes an image, at most 256 of an embedding: 1 kB), and 1 kB an image for its thumbnail: for 1.28
million images 3 GB.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from slim_inception.doctor import facts

_ROWS, _COLUMNS = 2048, 8192  # of a block
_CANDIDATES = 16  # of an image, on average
_SAMPLE = 512  # rows that tell how many candidates there are
_BATCH = 64  # pairs that are compared at once
_LEAST_COARSE = 0.85  # correlation of pixels, to look closer
_LEAST_CONTRAST = 0.7  # of 255, standard deviation: below it there is nothing to compare
LEAST_HASH = 1 - 2 * 22 / 63  # scalar product of hashes, over 63: 22 bits differ
LEAST_COSINE = 0.5  # of embeddings, about their mean


class Pairs(NamedTuple):
  """Pairs of N images, the first before the second.

  Attributes:
    first, second: [P] int64, numbers of the images.
    similarity: [P] float32, in [-1, 1].
  """

  first: np.ndarray
  second: np.ndarray
  similarity: np.ndarray


def nearest(
  rows: np.ndarray, others: np.ndarray, least: float, most_of_each: int = _CANDIDATES
) -> Iterator[Pairs]:
  """Pairs of a row and a later one of `others` by their scalar product, in blocks.

  Args:
    rows: [N, D] float32, of length 1.
    others: [N, D] likewise, of the same images (as they are, or mirrored).
    least: a smaller product is no candidate.
    most_of_each: candidates of an image on average; where there were more, `least` is raised.

  Yields:
    The candidates, once each, those of `similarity` at least so much.
  """
  count = len(rows)
  sample = np.linspace(0, count - 1, min(_SAMPLE, count)).astype(np.int64)
  share = most_of_each / max(1, count - 1)
  if share < 1:
    products = np.concatenate(
      [rows[sample] @ others[i : i + _COLUMNS].T for i in range(0, count, _COLUMNS)], 1
    )
    products[np.arange(len(sample)), sample] = -1
    index = max(0, products.size - 1 - int(share * products.size))
    least = max(least, float(np.partition(products.ravel(), index)[index]))
  for top in range(0, count, _ROWS):
    for left in range(top - top % _COLUMNS, count, _COLUMNS):
      products = rows[top : top + _ROWS] @ others[left : left + _COLUMNS].T
      first, second = np.nonzero(products >= least)
      similarity = products[first, second]
      first, second = first + top, second + left
      later = second > first
      yield Pairs(first[later], second[later], similarity[later])


def same_pixels(
  thumbnails: np.ndarray, candidates: Iterator[Pairs], least: float, mirror: bool = False
) -> Pairs:
  """The candidates whose pixels correlate.

  Args:
    thumbnails: [N, 32, 32] uint8.
    candidates: see `nearest`.
    least: correlation, in (0, 1].
    mirror: whether the second of a pair is turned left to right.

  Returns:
    Those of which one shows what the other does, but for what is cut off; by first and second.
  """
  parts = []
  for block in candidates:
    for start in range(0, len(block.first), _BATCH):
      first, second = (column[start : start + _BATCH] for column in block[:2])
      left, right = thumbnails[first], thumbnails[second]
      if mirror:
        right = right[..., ::-1]
      similarity = correlation(left, right)
      same = similarity >= least
      parts.append(Pairs(first[same], second[same], similarity[same]))
  if not parts:
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
  pairs = Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
  order = np.lexsort((pairs.second, pairs.first))
  return Pairs(*(column[order] for column in pairs))


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """[P] float32: the largest correlation of two images, of which one may be cut.

  Of pixels at 8 x 8 first; where that is not 0.85 it stays, else that of the differences between
  neighbours at 10 x 10 takes its place: smooth images, of the sky for example, have pixels that
  correlate whatever they show.

  Args:
    first, second: [P, 32, 32] grey.

  Returns:
    In [-1, 1]; 0 where an image is of one colour.
  """
  similarity = np.maximum(*_of_windows(first, second, _COARSE, _flat))
  fine = np.flatnonzero(similarity >= _LEAST_COARSE)
  if len(fine):
    similarity[fine] = np.maximum(*_of_windows(first[fine], second[fine], _FINE, _edges))
  return similarity


def _of_windows(
  first: np.ndarray,
  second: np.ndarray,
  grid: '_Grid',
  features: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
  """The largest correlation of the windows of one image with the whole of the other; both ways."""
  operator = _windows(grid)
  for larger, smaller in ((first, second), (second, first)):
    down = operator.reshape(-1, facts.THUMBNAIL) @ larger.astype(np.float32)
    windows = down @ operator.reshape(-1, facts.THUMBNAIL).T
    count, side = operator.shape[:2]
    windows = windows.reshape(-1, count, side, count, side).transpose(0, 1, 3, 2, 4)
    whole = operator[0] @ smaller.astype(np.float32) @ operator[0].T
    windows, target = (_unit(features(values)) for values in (windows, whole))
    yield np.einsum('pwvd,pd->pwv', windows, target, optimize=True).max((1, 2))


def _edges(pixels: np.ndarray) -> np.ndarray:
  """[..., side, side] to [..., 2 side (side - 1)]: differences of neighbours, across and down."""
  return np.concatenate([_flat(np.diff(pixels, axis=axis)) for axis in (-1, -2)], -1)


def _flat(pixels: np.ndarray) -> np.ndarray:
  """[..., a, b] to [..., a b]."""
  return pixels.reshape(*pixels.shape[:-2], -1)


def _unit(values: np.ndarray) -> np.ndarray:
  """[..., D] less the mean and of length 1; 0 where little is left."""
  values = values - values.mean(-1, keepdims=True)
  length = np.linalg.norm(values, axis=-1, keepdims=True)
  least = _LEAST_CONTRAST * values.shape[-1] ** 0.5
  return values / np.maximum(length, least) * (length >= least)


class _Grid(NamedTuple):
  """Windows: the margins that may be cut, in shares of a side, and pixels a side that are left."""

  margins: tuple[float, ...]
  side: int


_COARSE = _Grid((0, 1 / 16, 1 / 8), 8)
_FINE = _Grid((0, 1 / 32, 1 / 16, 3 / 32, 1 / 8), 10)


@functools.cache
def _windows(grid: _Grid) -> np.ndarray:
  """[windows, side, 32]: what takes means of a window of 32 pixels; the whole is the first."""
  edges = np.arange(facts.THUMBNAIL + 1)
  rows = []
  for before in grid.margins:
    for after in grid.margins:
      bounds = facts.THUMBNAIL * np.linspace(before, 1 - after, grid.side + 1)
      low, high = bounds[:-1, np.newaxis], bounds[1:, np.newaxis]
      overlap = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
      rows.append(np.maximum(overlap, 0) / (high - low))
  return np.stack(rows).astype(np.float32)


def unit_rows(values: np.ndarray) -> np.ndarray:
  """[N, D] float32 of length 1, for `nearest`; rows of 0 stay."""
  values = np.asarray(values, np.float32)
  length = np.linalg.norm(values, axis=1, keepdims=True)
  return values / np.maximum(length, np.finfo(np.float32).tiny)


def groups(count: int, first: np.ndarray, second: np.ndarray) -> list[list[int]]:
  """Images that are connected by pairs: groups of two or more, in the order of their first."""
  parent = np.arange(count)

  def root(i: int) -> int:
    while parent[i] != i:
      parent[i] = i = parent[parent[i]]
    return i

  for a, b in zip(first.tolist(), second.tolist(), strict=True):
    low, high = sorted((root(a), root(b)))
    parent[high] = low
  members: dict[int, list[int]] = {}
  for i in sorted({*first.tolist(), *second.tolist()}):
    members.setdefault(root(i), []).append(i)
  return list(members.values())
