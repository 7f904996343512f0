"""Pairs of images that show the same: candidates by matrix products, then a look at the pixels.

Candidates are pairs whose perceptual hashes differ in few bits, or whose embeddings are near. All
are compared with all, in blocks of a matrix product whose results are not kept, which is faster
than an index up to a few millions; how near is near enough is chosen so that an image has a few
candidates on average. What decides is how the differences between neighbouring pixels correlate, in
grey at 10 x 10, of one image with the other cut by up to an eighth on each side: that does not
change with size, brightness or contrast, hardly with compression, and is said of every pair.

Memory: a block of 2,048 x 8,192 numbers (67 MB), the rows as float32 (63 numbers of a hash and as
many of the mirror image: 0.5 kB an image; at most 256 of an embedding, twice: 2 kB), and 1 kB an
image for its thumbnail: for 1.28 million images 5 GB, 2 GB without embeddings.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from slim_inception.doctor import facts

_ROWS, _COLUMNS = 2048, 8192  # of a block
_CANDIDATES = 16  # of an image, on average
_SAMPLE, _SAMPLE_COLUMNS = 512, 1 << 16  # of the products that tell how many candidates there are
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
    step = -(-count // _SAMPLE_COLUMNS)
    products = rows[sample] @ others[::step].T
    products[sample[:, np.newaxis] == np.arange(0, count, step)] = -1  # an image with itself
    index = max(0, products.size - 1 - int(share * products.size))
    nearest_ones = float(np.partition(products.ravel(), index)[index])
    if np.count_nonzero(products >= nearest_ones) > 1.5 * share * products.size:
      nearest_ones = float(np.nextafter(np.float32(nearest_ones), np.float32(2)))  # many are equal
    least = max(least, nearest_ones)
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
  neighbours at 10 x 10 takes its place, about the window that correlates best: smooth images, of
  the sky for example, have pixels that correlate whatever they show.

  Args:
    first, second: [P, 32, 32] grey.

  Returns:
    In [-1, 1]; 0 where an image is of one colour.
  """
  return np.maximum(_of_windows(first, second), _of_windows(second, first))


def _of_windows(larger: np.ndarray, smaller: np.ndarray) -> np.ndarray:
  """The largest correlation of the windows of one image with the whole of the other."""
  windows = _windows(_COARSE)[np.newaxis]
  coarse = _products(larger, smaller, windows, windows, _flat)
  similarity = coarse.max((1, 2))
  near = np.flatnonzero(similarity >= _LEAST_COARSE)
  if len(near):
    best = coarse[near].reshape(len(near), -1).argmax(1)
    rows, columns = np.unravel_index(best, coarse.shape[1:])
    windows, around = _windows(_FINE), _around()
    fine = _products(
      larger[near], smaller[near], windows[around[rows]], windows[around[columns]], _edges
    )
    similarity[near] = fine.max((1, 2))
  return similarity


def _products(
  larger: np.ndarray,
  smaller: np.ndarray,
  rows: np.ndarray,
  columns: np.ndarray,
  features: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
  """[P, V, W]: correlations of windows, of V rows and W columns, with the whole of another image.

  Args:
    larger, smaller: [P, 32, 32].
    rows, columns: [P or 1, V or W, side, 32] of `_windows`, which of each image.
    features: of pixels [..., side, side], what is correlated, [..., D].
  """
  size, side = facts.THUMBNAIL, rows.shape[2]
  down = rows.reshape(len(rows), -1, size) @ larger.astype(np.float32)
  both = down @ columns.reshape(len(columns), -1, size).transpose(0, 2, 1)
  windows = both.reshape(len(both), rows.shape[1], side, columns.shape[1], side)
  windows = windows.transpose(0, 1, 3, 2, 4)
  (whole,) = _windows(_Grid((0,), side))
  target = _unit(features(whole @ smaller.astype(np.float32) @ whole.T))
  return np.einsum('pvwd,pd->pvw', _unit(features(windows)), target, optimize=True)


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
_FINE = _Grid((0, 1 / 32, 1 / 16, 3 / 32, 1 / 8), 10)  # each second margin is one of the coarse


@functools.cache
def _around() -> np.ndarray:
  """[9, 9]: the fine windows about each coarse one, whose margins differ by a step at most."""
  most, steps = len(_FINE.margins) - 1, (-1, 0, 1)
  return np.array(
    [
      [
        np.clip(2 * before + i, 0, most) * len(_FINE.margins) + np.clip(2 * after + j, 0, most)
        for i in steps
        for j in steps
      ]
      for before in range(len(_COARSE.margins))
      for after in range(len(_COARSE.margins))
    ]
  )


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
