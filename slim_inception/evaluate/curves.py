"""Curves of several runs, in panels under one legend: the one look of all plots of runs."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from slim_inception import files
from slim_inception.evaluate import comparison

# Okabe and Ito's colours, which the colour-blind tell apart, without yellow. With 7, 4 and 9 of a
# kind no two of 252 runs look the same, and without colours no two of 36.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#56B4E9', '#E69F00')
_DASHES = ('-', (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.5)))
_MARKERS = 'os^DvPX<>'
_MARKERS_A_CURVE = 10
_LONGEST_OF_TWO = 40  # letters of names of which two stand side by side
_LEGEND_LINE = 0.14  # widths of the figure that a curve's piece in the legend takes

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


class Curve(NamedTuple):
  """Values of a run."""

  x: Sequence[float]
  y: Sequence[float]


class Panel(NamedTuple):
  """Axes, and what is drawn on them.

  Attributes:
    name: its curves are called `name` and the number of their run in the SVG file.
    x_label: under the lowest panel of a column.
    y_label: at the left of it; '' where that of the panel to the left is its own.
    curves: of each run in the order of the legend; None where a run has none.
    limits: lower and upper end of the vertical axis; None: what the curves need.
    is_logarithmic: whether the horizontal axis is, rather than one from 0 on.
    has_lines: whether lines join the markers of a curve.
  """

  name: str
  x_label: str
  y_label: str
  curves: Sequence[Curve | None]
  limits: tuple[float, float] | None = None
  is_logarithmic: bool = False
  has_lines: bool = True


def draw(
  rows: Sequence[Sequence[Panel]], names: Sequence[str], output: str, *, share_y: bool = False
) -> list[str]:
  """Draws panels to `output`.png and `output`.svg, atomically.

  Args:
    rows: of panels, as many in each; those of a column share their horizontal axis.
    names: of the runs, in the legend.
    output: path without suffix.
    share_y: whether the panels of a row share their vertical axis too.

  Returns:
    The paths of the files; the PNG is 1500 pixels wide.
  """
  with style.context(['default', _STYLE]):
    columns = 2 if max(map(len, names)) <= _LONGEST_OF_TWO else 1
    legend_height = 0.22 * math.ceil(len(names) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(10, 0.4 + 3.4 * len(rows) + legend_height), layout=layout)
    grid = figure.subplots(
      len(rows), len(rows[0]), sharex='col', sharey='row' if share_y else 'none', squeeze=False
    )
    for panels, axes_of_row in zip(rows, grid, strict=True):
      for panel, axes in zip(panels, axes_of_row, strict=True):
        _draw_curves(axes, panel)
    for panel, axes in zip(rows[-1], grid[-1], strict=True):
      axes.set_xlabel(panel.x_label)
      if panel.is_logarithmic:
        axes.set_xscale('log')
      else:
        axes.set_xlim(left=0)
    has_lines = any(panel.has_lines for panels in rows for panel in panels)
    _add_legend(figure, grid[0, 0], names, columns, has_lines)
    for suffix, metadata in (('png', {}), ('svg', {'Date': None})):
      with files.atomic_path(f'{output}.{suffix}') as temporary:
        figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata)
  return [f'{output}.png', f'{output}.svg']


def _draw_curves(axes: Axes, panel: Panel) -> None:
  for i, curve in enumerate(panel.curves):
    if curve is None:
      continue
    every = max(1, math.ceil(len(curve.x) / _MARKERS_A_CURVE))
    # Markers of runs that are evaluated at the same time stand apart.
    first = i * every // len(panel.curves)
    look = _look(i, panel.has_lines)
    axes.plot(curve.x, curve.y, markevery=(first, every), gid=f'{panel.name} {i}', **look)
  if panel.y_label:
    axes.set_ylabel(panel.y_label)
  if panel.limits:
    axes.set_ylim(*panel.limits)


def _look(i: int, has_line: bool) -> dict[str, Any]:
  return {
    'color': _COLORS[i % len(_COLORS)],
    'linestyle': _DASHES[i % len(_DASHES)] if has_line else 'none',
    'marker': _MARKERS[i % len(_MARKERS)],
  }


def _add_legend(
  figure: Figure, panel: Axes, names: Sequence[str], columns: int, has_lines: bool
) -> None:
  looks = [panel.plot([], [], **_look(i, has_lines))[0] for i in range(len(names))]
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
