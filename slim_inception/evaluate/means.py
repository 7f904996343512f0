"""Means over the views of an image."""

from collections.abc import Iterator

import numpy as np


class Means:
  """Averages rows that belong to one image and come one after the other.

  No more than one image's sum is held between two calls, however many views it has.
  """

  def __init__(self) -> None:
    self._place: int | None = None  # of the image whose rows are still coming
    self._sum: np.ndarray | float = 0.0
    self._count = 0

  def add(self, places: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Takes rows; yields the images that are complete.

    Args:
      places: [n] int64, the image of each row; those of one image are neighbours.
      rows: [members, n, classes].

    Yields:
      (place, [members, classes] float64 mean).
    """
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    sums = np.add.reduceat(rows, starts, axis=1, dtype=np.float64)
    counts = np.diff(starts, append=len(places))
    for i, start in enumerate(starts):
      if places[start] != self._place:
        yield from self.finish()
        self._place = int(places[start])
      self._sum = self._sum + sums[:, i]
      self._count += int(counts[i])

  def finish(self) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the last image."""
    if self._place is not None:
      yield self._place, self._sum / self._count
    self._place, self._sum, self._count = None, 0.0, 0
