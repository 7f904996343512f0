"""Curves of error against epochs and hours, as in Figures 23 to 26 of arXiv:1602.07261."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from slim_inception import files
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run

_X_LABELS = {'epoch': 'epochs', 'hours': 'hours of training'}
_Y_LABELS = {'top_1': 'top-1 error (%)', 'top_5': 'top-5 error (%)'}

# Okabe and Ito's colours, which the colour-blind tell apart, without yellow. With 7, 4 and 9 of a
# kind no two of 252 runs look the same, and without colours no two of 36.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#56B4E9', '#E69F00')
_DASHES = ('-', (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.5)))
_MARKERS = 'os^DvPX<>'
_MARKERS_A_CURVE = 10
_LONGEST_OF_TWO = 40  # letters of names of which two stand side by side
_LEGEND_LINE = 0.14  # widths of the figure that a curve's piece in the legend takes

_HEIGHT = 5  # of an error axis, at most, in distances from the best error to the median

_STYLE = {
  'axes.axisbelow': True,
  'axes.grid': True,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'font.size': 11,
  'grid.alpha': 0.35,
  'lines.linewidth': 1.6,
  'lines.markersize': 5.5,
  'svg.fonttype': 'none',  # text that can be searched and copied
  'svg.hashsalt': 'slim-inception compare',  # the same runs give the same file
}


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
  metrics = comparison.shown_metrics(runs)
  with style.context(['default', _STYLE]):
    columns = 2 if max(map(len, names)) <= _LONGEST_OF_TWO else 1
    legend_height = 0.22 * math.ceil(len(names) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(10, 0.4 + 3.4 * len(metrics) + legend_height), layout=layout)
    panels = figure.subplots(len(metrics), len(x_keys), sharex='col', sharey='row', squeeze=False)
    for metric, row in zip(metrics, panels, strict=True):
      for x, panel in zip(x_keys, row, strict=True):
        _draw_curves(panel, runs, x, metric)
      row[0].set_ylabel(_Y_LABELS[metric])
      row[0].set_ylim(*_limits([[getattr(e, metric) for e in run.evaluations] for run in runs]))
    for x, panel in zip(x_keys, panels[-1], strict=True):
      panel.set_xlabel(_X_LABELS[x])
      panel.set_xlim(left=0)
    _add_legend(figure, panels[0, 0], names, columns)
    for suffix, metadata in (('png', {}), ('svg', {'Date': None})):
      with files.atomic_path(f'{output}.{suffix}') as temporary:
        figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata)
  return [f'{output}.png', f'{output}.svg']


def _draw_curves(panel: Axes, runs: Sequence[Run], x: str, metric: str) -> None:
  for i, run in enumerate(runs):
    if getattr(run, 'hours' if x == 'hours' else 'epochs') is None:
      continue
    every = math.ceil(len(run.evaluations) / _MARKERS_A_CURVE)
    panel.plot(
      [getattr(evaluation, x) for evaluation in run.evaluations],
      [getattr(evaluation, metric) for evaluation in run.evaluations],
      # Markers of runs evaluated at the same epochs stand apart.
      markevery=(i * every // len(runs), every),
      gid=f'{metric} {x} {i}',
      **_look(i),
    )


def _look(i: int) -> dict[str, Any]:
  return {
    'color': _COLORS[i % len(_COLORS)],
    'linestyle': _DASHES[i % len(_DASHES)],
    'marker': _MARKERS[i % len(_MARKERS)],
  }


def _limits(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
  """Ends of an error axis: at most `_HEIGHT` times as high as the better half of a curve."""
  low = min(map(min, curves))
  high = max(min(max(c), min(c) + _HEIGHT * (statistics.median(c) - min(c))) for c in curves)
  margin = 0.05 * (high - low) or 1.0
  return max(0.0, low - margin), high + margin


def _add_legend(figure: Figure, panel: Axes, names: Sequence[str], columns: int) -> None:
  looks = [panel.plot([], [], **_look(i))[0] for i in range(len(names))]
  legend = figure.legend(
    looks,
    ['x'] * len(names),  # their own may begin with '_', which matplotlib would leave out
    loc='outside lower center',
    ncols=columns,
    handlelength=4,
    frameon=False,
    fontsize=10,
  )
  room = figure.bbox.width * (1 / columns - _LEGEND_LINE)
  for entry, name in zip(legend.get_texts(), names, strict=True):
    entry.set_parse_math(False)  # a folder's name may have dollars
    letters = len(name)
    entry.set_text(name)
    while entry.get_window_extent().width > room:
      letters -= 1
      entry.set_text(comparison.elided(name, letters))
