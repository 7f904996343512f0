"""Curves of error against epochs and hours, as in Figures 23 to 26 of arXiv:1602.07261."""

import statistics
from collections.abc import Sequence

from slim_inception.evaluate import comparison, curves
from slim_inception.evaluate.comparison import Run
from slim_inception.evaluate.curves import Curve, Panel

_X_LABELS = {'epoch': 'epochs', 'hours': 'hours of training'}
_Y_LABELS = {'top_1': 'top-1 error (%)', 'top_5': 'top-5 error (%)'}

_HEIGHT = 5  # of an error axis, at most, in distances from the best error to the median


def draw(runs: Sequence[Run], names: Sequence[str], output: str) -> list[str]:
  """Draws runs, all of which have evaluations, to `output`.png and `output`.svg, atomically.

  Four panels: top-1 and top-5 error against epochs and against hours, these only if a run has
  hours, and top-5 only of more than five classes. An error axis ends above where the curves
  flatten: their first epochs may leave it.

  Args:
    runs: the curves.
    names: of the runs, in the legend.
    output: path without suffix.

  Returns:
    The paths of the files; the PNG is 1500 pixels wide.
  """
  x_keys = ['epoch', 'hours'] if any(run.hours is not None for run in runs) else ['epoch']
  rows = [
    [_panel(runs, x, metric, x == x_keys[0]) for x in x_keys]
    for metric in comparison.shown_metrics(runs)
  ]
  return curves.draw(rows, names, output, share_y=True)


def _panel(runs: Sequence[Run], x: str, metric: str, is_first: bool) -> Panel:
  return Panel(
    f'{metric} {x}',
    _X_LABELS[x],
    _Y_LABELS[metric] if is_first else '',
    [_curve(run, x, metric) for run in runs],
    error_limits([[getattr(e, metric) for e in run.evaluations] for run in runs]),
  )


def _curve(run: Run, x: str, metric: str) -> Curve | None:
  if x == 'hours' and run.hours is None:
    return None
  return Curve(
    [getattr(evaluation, x) for evaluation in run.evaluations],
    [getattr(evaluation, metric) for evaluation in run.evaluations],
  )


def error_limits(errors: Sequence[Sequence[float]]) -> tuple[float, float]:
  """Ends of an error axis: at most `_HEIGHT` times as high as the better half of a curve."""
  low = min(map(min, errors))
  high = max(min(max(c), min(c) + _HEIGHT * (statistics.median(c) - min(c))) for c in errors)
  margin = 0.05 * (high - low) or 1.0
  return max(0.0, low - margin), high + margin
