"""One block of a net as shapes around the axis that the net flows along (y = 0).

Branches lie under each other and flow to the right, into a concatenation where there are several; a
residual block has its short cut above them.
"""

from typing import NamedTuple

from slim_inception.draw.shapes import Line, Rectangle, Shape, Text
from slim_inception.nets import summary
from slim_inception.nets.summary import Block, Layer, Step

INK = '#263238'
FAINT = '#607d8b'
WIRE = '#78909c'

# Kind of layer -> fill and rim.
COLORS = {
  summary.CONVOLUTION: ('#ffd180', '#e09a2b'),
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


def draw(block: Block, style: Style) -> Part:
  """A row of a body, an auxiliary head or a layer of a head."""
  if len(block.branches) == 1 and not block.tail:
    return _chain(block, style)
  return _branched(block, style)


def _chain(block: Block, style: Style) -> Part:
  width, height = style.box
  shapes: list[Shape] = []
  x = 0.0
  for step in block.branches[0]:
    if x:
      shapes.append(Line(((x, 0), (x + style.column_gap, 0)), WIRE))
      x += style.column_gap
    shapes += _box(step[0], x, 0, style)
    x += width
  return Part(x, height / 2, height / 2, tuple(shapes))


def _branched(block: Block, style: Style) -> Part:
  width, height = style.box
  pitch = height + style.row_gap
  rows = [max(len(step) for step in branch) for branch in block.branches]
  half = (sum(rows) * pitch - style.row_gap) / 2
  bus = style.column_gap * 0.6
  wires: list[Shape] = []
  boxes: list[Shape] = []
  ends, ys = [], []
  top = -half
  for branch, number in zip(block.branches, rows, strict=True):
    y = top + (number * pitch - style.row_gap) / 2
    outlets = [(bus, y)]
    x = bus + style.column_gap * 0.6
    for step in branch:
      if len(outlets) > 1:
        x = _join(outlets, x, y, style, wires, boxes)
        outlets = [(x - style.column_gap, y)]
      outlets = _step(step, outlets[0], x, pitch, style, wires, boxes)
      x += width + style.column_gap
    ends += outlets
    ys.append(y)
    top += number * pitch
  join = max(x for x, _ in ends) + style.column_gap
  wires += [Line(((x, y), (join, y)), WIRE) for x, y in ends]
  concat, *residual = block.tail
  boxes.append(_bar(concat, join, -half, 2 * half, style))
  x, above = join + style.concat, half
  if residual:
    above = half + style.row_gap + 3
    x = _residual(residual, x, bus, above, style, wires, boxes)
    ys.append(-above)
  wires += [
    Line(((0, 0), (bus, 0)), WIRE),
    Line(((bus, min(ys)), (bus, max(ys))), WIRE),
  ]
  return Part(x, above, half, (*wires, *boxes))


def _step(
  step: Step,
  inlet: tuple[float, float],
  x: float,
  pitch: float,
  style: Style,
  wires: list[Shape],
  boxes: list[Shape],
) -> list[tuple[float, float]]:
  """Boxes side by side (under each other) on one input; returns where they end."""
  x_in, y_in = inlet
  ys = [y_in + (i - (len(step) - 1) / 2) * pitch for i in range(len(step))]
  fork = (x_in + x) / 2
  for layer, y in zip(step, ys, strict=True):
    wires.append(Line(((x_in, y_in), (fork, y_in), (fork, y), (x, y)), WIRE))
    boxes += _box(layer, x, y, style)
  return [(x + style.box[0], y) for y in ys]


def _join(
  outlets: list[tuple[float, float]],
  x: float,
  y: float,
  style: Style,
  wires: list[Shape],
  boxes: list[Shape],
) -> float:
  """The concatenation of a split that goes on; returns where the next box begins."""
  wires += [Line((outlet, (x, outlet[1])), WIRE) for outlet in outlets]
  fill, rim = COLORS[summary.CONCAT]
  height = outlets[-1][1] - outlets[0][1] + style.box[1]
  boxes.append(Rectangle(x, y - height / 2, style.concat, height, fill, rim))
  wires.append(Line(((x, y), (x + style.concat + style.column_gap, y)), WIRE))
  return x + style.concat + style.column_gap


def _residual(
  layers: list[Layer],
  x: float,
  bus: float,
  above: float,
  style: Style,
  wires: list[Shape],
  boxes: list[Shape],
) -> float:
  """The 1 x 1 convolution and the sum with the short cut; returns where the block ends."""
  linear, total = layers
  wires.append(Line(((x, 0), (x + style.column_gap, 0)), WIRE))
  x += style.column_gap
  boxes += _box(linear, x, 0, style)
  x += style.box[0]
  diameter = style.box[1] * 0.62
  wires.append(Line(((x, 0), (x + style.column_gap, 0)), WIRE))
  x += style.column_gap
  fill, rim = COLORS[total.kind]
  middle, radius = x + diameter / 2, diameter / 2
  boxes.append(
    Rectangle(x, -radius, diameter, diameter, fill, rim, radius, f'{total.scope}: {_tip(total)}')
  )
  arm = radius * 0.55
  boxes.append(Line(((middle - arm, 0), (middle + arm, 0)), '#ffffff', 1.4))
  boxes.append(Line(((middle, -arm), (middle, arm)), '#ffffff', 1.4))
  boxes.append(
    Text(middle, radius + style.text * 1.15, f'x {total.scale:g}', style.text * 0.95, INK)
  )
  wires.append(Line(((bus, -above), (middle, -above), (middle, -radius)), WIRE))
  return x + diameter


def _bar(layer: Layer, x: float, y: float, height: float, style: Style) -> Rectangle:
  fill, rim = COLORS[layer.kind]
  return Rectangle(x, y, style.concat, height, fill, rim, tip=f'{layer.scope}: {_tip(layer)}')


def _box(layer: Layer, x: float, y: float, style: Style) -> list[Shape]:
  width, height = style.box
  fill, rim = COLORS[layer.kind]
  tip = f'{layer.scope}: {_tip(layer)}'
  shapes: list[Shape] = [Rectangle(x, y - height / 2, width, height, fill, rim, tip=tip)]
  lines = _lines(layer)
  first = y - (len(lines) - 1) * style.text * 0.6 + style.text * 0.36
  return shapes + [
    Text(x + width / 2, first + i * style.text * 1.2, line, style.text, INK)
    for i, line in enumerate(lines)
  ]


def _lines(layer: Layer) -> list[str]:
  """What a box says: window, stride, padding; then filters."""
  if layer.kind == summary.DROPOUT:
    return ['dropout']
  if layer.kind in (summary.FULLY_CONNECTED, summary.SOFTMAX):
    return ['softmax' if layer.kind == summary.SOFTMAX else 'full', str(layer.shape[-1])]
  height, width = layer.kernel or layer.shape[:2]
  window = f'{height}x{width}'
  if layer.stride > 1:
    window += f' /{layer.stride}'
  if layer.padding == 'VALID':
    window += ' V'
  if layer.kind == summary.CONVOLUTION:
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
