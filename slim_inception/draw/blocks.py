"""One block of a net as shapes around the axis that the net flows along (y = 0).

Branches lie under each other and flow to the right, into a concatenation where there are several; a
residual block has its short cut above them, and what both begin with before the fork.
"""

from typing import NamedTuple

from slim_inception.draw.shapes import Line, Point, Rectangle, Shape, Text
from slim_inception.nets import summary
from slim_inception.nets.summary import Block, Layer, Step

INK = '#263238'
FAINT = '#607d8b'
WIRE = '#78909c'

# Kind of layer -> fill and rim.
COLORS = {
  summary.CONVOLUTION: ('#ffd180', '#e09a2b'),
  summary.SEPARABLE_CONVOLUTION: ('#ffe7b8', '#e09a2b'),
  summary.NORM: ('#b2dfdb', '#4f9d95'),
  summary.MAX_POOL: ('#a5d6a7', '#559e59'),
  summary.AVG_POOL: ('#90caf9', '#3f87c4'),
  summary.CONCAT: ('#ef8a80', '#c4483c'),
  summary.RESIDUAL: ('#455a64', '#263238'),
  summary.DROPOUT: ('#d1b3e0', '#9560b0'),
  summary.FULLY_CONNECTED: ('#cfd8dc', '#78909c'),
  summary.SOFTMAX: ('#f8bbd0', '#cf6b93'),
}


class Style(NamedTuple):
  """Sizes in pixels."""

  width: float  # of a line of blocks, about
  box: tuple[float, float]
  column_gap: float
  row_gap: float
  block_gap: float
  concat: float  # width of the box of a concatenation
  text: float
  label: float  # under the blocks


class Part(NamedTuple):
  """Shapes that enter at (0, 0) and leave at (width, 0)."""

  width: float
  above: float
  below: float
  shapes: tuple[Shape, ...]


class _Canvas:
  """The shapes of a block as they come: boxes lie over wires."""

  def __init__(self, style: Style):
    self.style = style
    self.wires: list[Shape] = []
    self.boxes: list[Shape] = []

  def wire(self, *points: Point) -> None:
    self.wires.append(Line(points, WIRE))

  def box(self, layer: Layer, x: float, y: float) -> float:
    """A layer with its text, centred at `y`; returns where it ends."""
    width, height = self.style.box
    self.boxes.append(_rectangle(layer, x, y - height / 2, width, height))
    lines, size = _lines(layer), self.style.text
    first = y - (len(lines) - 1) * size * 0.6 + size * 0.36
    self.boxes += [
      Text(x + width / 2, first + i * size * 1.2, line, size, INK) for i, line in enumerate(lines)
    ]
    return x + width

  def gap(self, x: float, y: float = 0) -> float:
    """The wire to the next box; returns where this begins."""
    self.wire((x, y), (x + self.style.column_gap, y))
    return x + self.style.column_gap


def draw(block: Block, style: Style) -> Part:
  """A row of a body, an auxiliary head or a layer of a head."""
  canvas = _Canvas(style)
  if len(block.branches) == 1 and not block.tail:
    return _chain(block, canvas)
  return _branched(block, canvas)


def _chain(block: Block, canvas: _Canvas) -> Part:
  x, shapes = 0.0, []
  for step in block.branches[0]:
    if x:
      x = canvas.gap(x)
    x = canvas.box(step[0], x, 0)
    shapes += canvas.wires + canvas.boxes
    canvas.wires, canvas.boxes = [], []
  half = canvas.style.box[1] / 2
  return Part(x, half, half, tuple(shapes))


def _branched(block: Block, canvas: _Canvas) -> Part:
  style = canvas.style
  width, height = style.box
  pitch = height + style.row_gap
  rows = [max(len(step) for step in branch) for branch in block.branches]
  half = (sum(rows) * pitch - style.row_gap) / 2
  above = half + style.row_gap + 3  # where the short cut is
  early = style.column_gap * 0.4  # where the short cut of what comes before `preact` begins
  inlet = 0.0
  for layer in block.preact:
    inlet = canvas.box(layer, canvas.gap(inlet), 0)
  bus = inlet + style.column_gap * 0.6
  ends, ys = [], []
  top = -half
  for branch, number in zip(block.branches, rows, strict=True):
    y = top + (number * pitch - style.row_gap) / 2
    outlets = [(bus, y)]
    x = bus + style.column_gap * 0.6
    for step in branch:
      if len(outlets) > 1:
        x = _join(outlets, x, y, canvas)
        outlets = [(x - style.column_gap, y)]
      outlets = _step(step, outlets[0], x, pitch, canvas)
      x += width + style.column_gap
    ends += outlets
    ys.append(y)
    top += number * pitch
  x = max(x for x, _ in ends)
  tail = list(block.tail)
  if tail[0].kind == summary.CONCAT:
    x += style.column_gap
    for end in ends:
      canvas.wire(end, (x, end[1]))
    canvas.boxes.append(_rectangle(tail.pop(0), x, -half, style.concat, 2 * half))
    x += style.concat
  if tail:
    *linear, total = tail
    for layer in linear:
      x = canvas.box(layer, canvas.gap(x), 0)
    # The input forks off before the pre-activation, unless a convolution takes it from there.
    is_after = not block.preact or any(
      layer.kind == summary.CONVOLUTION for layer in block.short_cut
    )
    fork = bus if is_after else early
    if block.short_cut:
      above += height / 2
    shows_scale = bool(linear) or total.scale != 1
    x = canvas.gap(x)
    x = _residual(total, block.short_cut, x, fork, above, canvas, shows_scale=shows_scale)
    if is_after:
      ys.append(-above)
    else:
      canvas.wire((fork, 0), (fork, -above))
    above += height / 2 if block.short_cut else 0
  canvas.wire((inlet, 0), (bus, 0))
  canvas.wire((bus, min(ys)), (bus, max(ys)))
  return Part(x, above if tail else half, half, (*canvas.wires, *canvas.boxes))


def _step(step: Step, inlet: Point, x: float, pitch: float, canvas: _Canvas) -> list[Point]:
  """Boxes side by side (under each other) on one input; returns where they end."""
  x_in, y_in = inlet
  ys = [y_in + (i - (len(step) - 1) / 2) * pitch for i in range(len(step))]
  fork = (x_in + x) / 2
  for layer, y in zip(step, ys, strict=True):
    canvas.wire((x_in, y_in), (fork, y_in), (fork, y), (x, y))
    canvas.box(layer, x, y)
  return [(x + canvas.style.box[0], y) for y in ys]


def _join(outlets: list[Point], x: float, y: float, canvas: _Canvas) -> float:
  """The concatenation of a split that goes on; returns where the next box begins."""
  for outlet in outlets:
    canvas.wire(outlet, (x, outlet[1]))
  width, height = canvas.style.concat, outlets[-1][1] - outlets[0][1] + canvas.style.box[1]
  canvas.boxes.append(Rectangle(x, y - height / 2, width, height, *COLORS[summary.CONCAT]))
  end = x + width + canvas.style.column_gap
  canvas.wire((x, y), (end, y))
  return end


def _residual(
  total: Layer,
  short_cut: Step,
  x: float,
  fork: float,
  above: float,
  canvas: _Canvas,
  *,
  shows_scale: bool,
) -> float:
  """The sum with the short cut from `fork`; returns where the block ends."""
  diameter, text = canvas.style.box[1] * 0.62, canvas.style.text
  middle, radius = x + diameter / 2, diameter / 2
  arm = radius * 0.55
  canvas.boxes += [
    _rectangle(total, x, -radius, diameter, diameter)._replace(radius=radius),
    Line(((middle - arm, 0), (middle + arm, 0)), '#ffffff', 1.4),
    Line(((middle, -arm), (middle, arm)), '#ffffff', 1.4),
  ]
  if shows_scale:
    scale = f'x {total.scale:g}'
    canvas.boxes.append(Text(middle, radius + text * 1.15, scale, text * 0.95, INK))
  canvas.wire((fork, -above), (middle, -above), (middle, -radius))
  for layer in short_cut:
    canvas.box(layer, (fork + middle - canvas.style.box[0]) / 2, -above)
  return x + diameter


def _rectangle(layer: Layer, x: float, y: float, width: float, height: float) -> Rectangle:
  tip = f'{layer.scope}: {_tip(layer)}'
  return Rectangle(x, y, width, height, *COLORS[layer.kind], tip=tip)


def _lines(layer: Layer) -> list[str]:
  """What a box says: window, stride, padding; then filters."""
  if layer.kind == summary.DROPOUT:
    return ['dropout']
  if layer.kind == summary.NORM:
    return ['norm', 'ReLU']
  if layer.kind in (summary.FULLY_CONNECTED, summary.SOFTMAX):
    return ['softmax' if layer.kind == summary.SOFTMAX else 'full', str(layer.shape[-1])]
  height, width = layer.kernel or layer.shape[:2]
  window = f'{height}x{width}'
  if layer.stride > 1:
    window += f' /{layer.stride}'
  if layer.padding == 'VALID':
    window += ' V'
  if layer.kind in (summary.CONVOLUTION, summary.SEPARABLE_CONVOLUTION):
    return [window, str(layer.shape[-1])]
  return ['max' if layer.kind == summary.MAX_POOL else 'average', window]


def _tip(layer: Layer) -> str:
  """What a viewer shows where one points at a box."""
  words = [layer.kind]
  if layer.kernel:
    words.append(f'{layer.kernel[0]} x {layer.kernel[1]}, stride {layer.stride}, {layer.padding}')
  if layer.scale is not None:
    words.append(f'times {layer.scale:g}')
  words.append(f'output {summary.written(layer.shape)}')
  if layer.parameters:
    words.append(f'{layer.parameters:,} parameters, {layer.multiply_adds:,} multiply-adds')
  return ', '.join(words)
