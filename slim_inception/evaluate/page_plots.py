"""Curves of a run as SVG within a page: their points, ticks and marks, in the units of the SVG."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# The axes lie between these, in an SVG of 672 x 262.
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 660.0, 12.0, 212.0
_MOST_POINTS = 300  # of a curve; more are averaged


class Line(NamedTuple):
  """A curve.

  Attributes:
    name: in the legend.
    x: [N] ascending.
    y: [N]; not finite where there is no value.
    with_points: whether each value is a dot too: of those that are few.
  """

  name: str
  x: Sequence[float]
  y: Sequence[float]
  with_points: bool = False


class Mark(NamedTuple):
  """A place on the horizontal axis."""

  x: float
  name: str


def plot(
  title: str,
  lines: Sequence[Line],
  marks: Sequence[Mark] = (),
  *,
  from_zero: bool = True,
  percent: bool = False,
) -> dict[str, Any] | None:
  """What the template `run_report.html.j2` needs to draw lines over epochs.

  Of more than 300 points those that lie next to each other are averaged, and a band shows their
  least and greatest.

  Args:
    title: of the plot.
    lines: the curves; those without a finite value are left out.
    marks: vertical strokes.
    from_zero: whether the vertical axis begins at 0, rather than below the least value.
    percent: whether values are shares.

  Returns:
    None where there is nothing to draw.
  """
  binned = [(line, *_binned(line)) for line in lines]
  binned = [each for each in binned if len(each[1])]
  if not binned:
    return None
  lows = [float(low.min()) for _, _, _, low, _ in binned]
  highs = [float(high.max()) for *_, high in binned]
  ticks = nice_ticks(min(0.0, *lows) if from_zero else min(lows), max(highs))
  # A mark of a step that was gone back on lies beyond the curves.
  end = max([float(x[-1]) for _, x, *_ in binned] + [mark.x for mark in marks])
  x_ticks = nice_ticks(0.0, end)
  x_end, low, high = max(end, 1e-9), ticks[0], ticks[-1]

  def at_x(x: float) -> str:
    return f'{_LEFT + (_RIGHT - _LEFT) * x / x_end:.1f}'

  def at_y(y: float) -> str:
    return f'{_BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low):.1f}'

  def path(xs: np.ndarray, ys: np.ndarray) -> str:
    return ' '.join(f'{at_x(x)},{at_y(y)}' for x, y in zip(xs, ys, strict=True))

  return {
    'title': title,
    'lines': [
      {
        'name': line.name,
        'points': path(x, mean),
        'band': path(np.r_[x, x[::-1]], np.r_[least, most[::-1]]) if (most > least).any() else '',
        'dots': [
          (at_x(a), at_y(b), f'{line.name} {_shown(b, percent)} at epoch {a:.4g}')
          for a, b in zip(x, mean, strict=True)
        ]
        if line.with_points
        else [],
      }
      for line, x, mean, least, most in binned
    ],
    'marks': [(at_x(mark.x), mark.name) for mark in marks],
    'y_ticks': [(at_y(tick), _shown(tick, percent)) for tick in ticks],
    'x_ticks': [(at_x(tick), f'{tick:g}') for tick in x_ticks if tick <= x_end],
    'left': _LEFT,
    'right': _RIGHT,
    'top': _TOP,
    'bottom': _BOTTOM,
  }


def _binned(line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """x, and mean, least and greatest y, of at most `_MOST_POINTS` groups of neighbours."""
  x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
  x, y = x[np.isfinite(y)], y[np.isfinite(y)]
  if not len(x):
    return x, y, y, y
  starts = np.unique(np.linspace(0, len(x), min(len(x), _MOST_POINTS), endpoint=False, dtype=int))
  counts = np.diff(starts, append=len(x))
  return (
    np.add.reduceat(x, starts) / counts,
    np.add.reduceat(y, starts) / counts,
    np.minimum.reduceat(y, starts),
    np.maximum.reduceat(y, starts),
  )


def nice_ticks(low: float, high: float) -> list[float]:
  """Four to eight multiples of 1, 2 or 5 times a power of ten that reach from low to high."""
  span = high - low or abs(high) or 1.0
  power = 10.0 ** math.floor(math.log10(span / 4))
  step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [step * i for i in range(first, max(last, first + 1) + 1)]


def _shown(value: float, percent: bool) -> str:
  return f'{100 * value:.4g}%' if percent else f'{value:.4g}'
