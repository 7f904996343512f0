"""A net as a drawing: its blocks in lines from left to right, as in the nets' announcement."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from slim_inception.draw import blocks
from slim_inception.draw.blocks import COLORS, FAINT, INK, WIRE, Part, Style
from slim_inception.draw.shapes import (
  Arrowhead,
  Drawing,
  Line,
  Rectangle,
  Shape,
  Text,
  moved,
  text_width,
)
from slim_inception.nets import summary
from slim_inception.nets.summary import Block, Summary

COMPRESSED = Style(
  width=1180, box=(54, 32), column_gap=12, row_gap=8, block_gap=26, concat=11, text=11, label=11
)
FULL = Style(
  width=2000, box=(38, 22), column_gap=9, row_gap=5, block_gap=18, concat=7, text=7.5, label=8.5
)
_MARGIN = 36
_HEADING = 12.5  # size of the texts above the net
_LINE_GAP = 34  # between lines of blocks: the wire to the next line runs there


class _Group(NamedTuple):
  """Equal blocks in a row, drawn once."""

  first: Block
  last: Block
  number: int


_Hanging = tuple[Part, tuple[Shape, ...], float]  # with its labels and their height


class _Slot(NamedTuple):
  """A group with its label; `x` counts from the left end of its line."""

  x: float
  width: float
  part: Part
  labels: tuple[Shape, ...]  # around x = 0, from y = 0 downwards
  label_height: float
  auxiliary: _Hanging | None  # below

  @property
  def right(self) -> float:
    return self.x + self.width


def draw_net(net: Summary, title: str, *, compressed: bool = True) -> Drawing:
  """The schematic image of a net.

  Args:
    net: what to draw.
    title: the net's name for people, 'Inception-v4'.
    compressed: draws equal blocks that follow each other once, with their number.
  """
  style = COMPRESSED if compressed else FULL
  groups = _groups(net.body, compressed)
  head = [block for block in net.head if block.layers]
  slots = [_input_slot(net, style)]
  for group in groups:
    holds = any(net.auxiliary_input in block.end_points for block in (group.first, group.last))
    slots.append(_slot(group, style, net.auxiliary if holds else None))
  slots += [_slot(_Group(block, block, 1), style, None) for block in head]
  lines = _break(slots, style)
  subtitle = _subtitle(net, compressed)
  width = max(
    text_width(subtitle.text, subtitle.size), *(slot.right for line in lines for slot in line)
  )
  shapes, y = _heading(net, title, subtitle, width)
  for i, line in enumerate(lines):
    y = _draw_line(line, y, width, style, shapes, starts=i == 0, ends=i == len(lines) - 1)
  size = width + 2 * _MARGIN, y + _MARGIN / 2
  return Drawing(*size, title, tuple(moved(shapes, _MARGIN, 0)))


def _groups(body: Sequence[Block], compressed: bool) -> list[_Group]:
  groups: list[_Group] = []
  for block in body:
    if compressed and groups and groups[-1].last.looks_like(block):
      groups[-1] = groups[-1]._replace(last=block, number=groups[-1].number + 1)
    else:
      groups.append(_Group(block, block, 1))
  return groups


def _input_slot(net: Summary, style: Style) -> _Slot:
  width, height = style.box
  box = Rectangle(0, -height / 2, width, height, '#ffffff', WIRE)
  label = Text(width / 2, style.text * 0.36, 'image', style.text, INK)
  part = Part(width, height / 2, height / 2, (box, label))
  shape = _product((net.image_size, net.image_size, 3))
  return _Slot(0, *_labelled(part, [(shape, False)], 1, style), None)


def _slot(group: _Group, style: Style, auxiliary: Block | None) -> _Slot:
  part = blocks.draw(group.first, style)
  names = [_name(group)]
  scope = group.last.scope
  # ResNets' end points are paths, that of a unit its scope's, that of a block another.
  names += [
    end.rpartition('/')[2]
    for end in group.last.end_points
    if end != scope.split('/')[-1] and not end.endswith(f'/{scope}')
  ]
  lines = [(name, i == 0) for i, name in enumerate(names)] + [(_product(group.last.shape), False)]
  slot = _Slot(0, *_labelled(part, lines, group.number, style), None)
  if auxiliary is None:
    return slot
  hanging = blocks.draw(auxiliary, style)
  lines = [(f'{auxiliary.scope}: in training', True)]
  _, _, labels, height = _labelled(hanging, lines, 1, style)
  return slot._replace(auxiliary=(hanging, labels, height))


def _labelled(
  part: Part, lines: Sequence[tuple[str, bool]], count: int, style: Style
) -> tuple[float, Part, tuple[Shape, ...], float]:
  """Width of the slot, the part, its labels and their height; bold lines are names."""
  shapes: list[Shape] = []
  y = style.label * 0.5
  if count > 1:
    end = part.width / 2
    tick = style.label * 0.45
    shapes.append(Line(((-end, y), (-end, y + tick), (end, y + tick), (end, y)), INK, 1.4))
    y += tick + style.label * 1.6
    shapes.append(Text(0, y, f'x {count}', style.label * 1.5, INK, bold=True))
    y += style.label * 0.4
  for line, bold in lines:
    y += style.label * 1.25
    shapes.append(Text(0, y, line, style.label, INK if bold else FAINT, bold))
  width = max(part.width, *(text_width(line, style.label, bold) for line, bold in lines))
  return width, part, tuple(shapes), y + style.label * 0.4


def _name(group: _Group) -> str:
  first, last = (_short(block.scope) for block in (group.first, group.last))
  return first if group.number == 1 else f'{first} to {last.rpartition("_")[2]}'


def _short(scope: str) -> str:
  """'Logits/AvgPool_1a' -> 'AvgPool_1a', 'block1/unit_2/bottleneck_v1' -> 'block1/unit_2'."""
  return re.sub(r'^Logits/|/bottleneck_v\d$', '', scope)


def _product(shape: summary.Shape) -> str:
  return ' x '.join(map(str, shape))


def _break(slots: Sequence[_Slot], style: Style) -> list[list[_Slot]]:
  """As few lines of the style's width as will do, and these about equally long."""
  limit = style.width
  lines = _lines_within(slots, limit, style)
  while len(shorter := _lines_within(slots, limit - 10, style)) == len(lines):
    lines, limit = shorter, limit - 10
    if limit < max(slot.width for slot in slots):
      break
  return lines


def _lines_within(slots: Sequence[_Slot], limit: float, style: Style) -> list[list[_Slot]]:
  lines: list[list[_Slot]] = [[]]
  for slot in slots:
    placed = slot._replace(x=lines[-1][-1].right + style.block_gap if lines[-1] else 0)
    if lines[-1] and placed.right > limit:
      lines.append([])
      placed = slot._replace(x=0)
    lines[-1].append(placed)
  return lines


def _draw_line(
  line: Sequence[_Slot],
  top: float,
  width: float,
  style: Style,
  shapes: list[Shape],
  *,
  starts: bool,
  ends: bool,
) -> float:
  """Draws a line of blocks below `top`, with the wires from and to its neighbours."""
  axis = top + max(slot.part.above for slot in line)
  bottom = axis + max(slot.part.below + slot.label_height for slot in line)
  if not starts:
    shapes.append(
      Line(((-_MARGIN / 2, top - _LINE_GAP / 2), (-_MARGIN / 2, axis), (0, axis)), WIRE)
    )
  for i, slot in enumerate(line):
    left = slot.x + (slot.width - slot.part.width) / 2
    if i or not starts:
      before = line[i - 1].right if i else 0
      shapes.append(Line(((before, axis), (left, axis)), WIRE))
      shapes.append(Arrowhead(left, axis, style.text * 0.65, WIRE))
    if not ends or slot is not line[-1]:
      shapes.append(Line(((left + slot.part.width, axis), (slot.right, axis)), WIRE))
    shapes += moved(slot.part.shapes, left, axis)
    shapes += moved(slot.labels, slot.x + slot.width / 2, axis + slot.part.below)
  for slot in line:
    if slot.auxiliary:
      bottom = _draw_auxiliary(slot, slot.auxiliary, axis, bottom, width, style, shapes)
  if ends:
    return bottom
  below = bottom + _LINE_GAP / 2
  last = line[-1].right
  right = width + _MARGIN / 2
  shapes.append(Line(((last, axis), (right, axis), (right, below), (-_MARGIN / 2, below)), WIRE))
  return bottom + _LINE_GAP


def _draw_auxiliary(
  slot: _Slot,
  auxiliary: _Hanging,
  axis: float,
  bottom: float,
  width: float,
  style: Style,
  shapes: list[Shape],
) -> float:
  """Below its line of blocks, to the right of its block as far as there is room."""
  part, labels, height = auxiliary
  down = slot.right + style.block_gap * 0.25
  left, turn = down + style.column_gap, down
  if left + part.width > width:
    left = min(width - part.width, down - style.column_gap)
    turn = left - style.column_gap
  level = bottom + style.row_gap
  y = level + style.row_gap + part.above
  path = [(slot.right, axis), (down, axis)]
  path += [(down, level), (turn, level)] if turn < down else []
  shapes.append(Line((*path, (turn, y), (left, y)), WIRE))
  shapes.append(Arrowhead(left, y, style.text * 0.65, WIRE))
  shapes += moved(part.shapes, left, y)
  shapes += moved(labels, left + part.width / 2, y + part.below)
  return y + part.below + height


def _subtitle(net: Summary, compressed: bool) -> Text:
  whole, adds = net.parameters / 1e6, net.multiply_adds / 1e9
  text = f'{whole:.1f} million parameters'
  if net.auxiliary:
    text += f' ({whole - net.auxiliary.parameters / 1e6:.1f} without the auxiliary head)'
  text += f', {adds:.2f} billion multiply-adds for an image of {net.image_size} x {net.image_size}'
  text += '; compressed view: equal blocks once, with their number' if compressed else '; full view'
  return Text(0, 64, text, _HEADING, FAINT, centred=False)


def _heading(net: Summary, title: str, subtitle: Text, width: float) -> tuple[list[Shape], float]:
  """Title, figures and legend, and where they end."""
  shapes: list[Shape] = [Text(0, 42, title, 24, INK, bold=True, centred=False), subtitle]
  kinds = {layer.kind for block in net.blocks for layer in block.layers}
  x, y = 0.0, 92.0
  for kind in (kind for kind in summary.KINDS if kind in kinds):
    text = 'Residual sum' if kind == summary.RESIDUAL else kind
    needed = 22 + text_width(text, _HEADING) + 14
    if x and x + needed > width:
      x, y = 0.0, y + 22
    shapes.append(Rectangle(x, y - 11, 16, 14, *COLORS[kind]))
    shapes.append(Text(x + 22, y, text, _HEADING, INK, centred=False))
    x += needed
  note = 'window /stride, V: no padding; below it the filters'
  if x + text_width(note, _HEADING) > width:
    x, y = 0.0, y + 22
  shapes.append(Text(x, y, note, _HEADING, FAINT, centred=False))
  return shapes, y + 34
