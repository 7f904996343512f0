"""Shapes, parameters and multiply-adds of a net, from its table: nothing is built or traced.

Counts are those of the nets with the arg scopes of the registry: batch norm has beta and no gamma,
as in the released checkpoints.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import inception_v3, nets_factory
from .inception_blocks import (
  AUX_DEPTHS,
  AUX_POOL,
  AUX_STRIDE,
  HIDDEN,
  Branch,
  Cell,
  Head,
  Residual,
  Row,
  Split,
  cell_names,
  conv,
  smallest_input,
)

Shape = tuple[int, ...]  # [h, w, C], or [C] of what is flat

CONVOLUTION = 'Convolution'
MAX_POOL = 'MaxPool'
AVG_POOL = 'AvgPool'
CONCAT = 'Concat'
RESIDUAL = 'Residual'
DROPOUT = 'Dropout'
FULLY_CONNECTED = 'Fully connected'
SOFTMAX = 'Softmax'
KINDS = (
  CONVOLUTION, MAX_POOL, AVG_POOL, CONCAT, RESIDUAL, DROPOUT, FULLY_CONNECTED, SOFTMAX,
)  # fmt: skip
_KIND_OF_OP = {'Conv2d': CONVOLUTION, 'MaxPool': MAX_POOL, 'AvgPool': AVG_POOL}


class Layer(NamedTuple):
  """One operation with its output; for one image."""

  kind: str  # one of `KINDS`
  scope: str  # InceptionV4/Mixed_5b/Branch_1/Conv2d_0a_1x1; that of the block where it has none
  shape: Shape
  kernel: tuple[int, int] | None = None
  stride: int = 1
  padding: str = 'SAME'
  scale: float | None = None  # of a residual
  parameters: int = 0  # that train
  multiply_adds: int = 0


Step = tuple[Layer, ...]  # one layer, or the layers of a split


class Block(NamedTuple):
  """A row of a body, an auxiliary head, or a layer of a head."""

  scope: str  # within the net's own
  end_points: tuple[str, ...]
  branches: tuple[tuple[Step, ...], ...]
  tail: tuple[Layer, ...]  # what joins the branches: none of a lone one
  shape: Shape

  @property
  def layers(self) -> tuple[Layer, ...]:
    """All its layers, branch by branch."""
    return (*(layer for branch in self.branches for step in branch for layer in step), *self.tail)

  @property
  def parameters(self) -> int:
    """Its trainable parameters."""
    return sum(layer.parameters for layer in self.layers)

  @property
  def multiply_adds(self) -> int:
    """Its multiply-adds for one image."""
    return sum(layer.multiply_adds for layer in self.layers)

  def looks_like(self, other: 'Block') -> bool:
    """Whether both are the same figure: layers, depths and output; names do not count."""
    return _figure(self) == _figure(other)


class Summary(NamedTuple):
  """A net at one size of image."""

  name: str
  scope: str  # of all its variables
  image_size: int
  num_classes: int
  body: tuple[Block, ...]
  auxiliary: Block | None
  auxiliary_input: str  # the end point that it classifies; '' where there is no auxiliary head
  head: tuple[Block, ...]

  @property
  def blocks(self) -> tuple[Block, ...]:
    """All blocks, in the order of building."""
    return (*self.body, *((self.auxiliary,) if self.auxiliary else ()), *self.head)

  @property
  def parameters(self) -> int:
    """Trainable parameters, auxiliary head included."""
    return sum(block.parameters for block in self.blocks)

  @property
  def multiply_adds(self) -> int:
    """Multiply-adds of a prediction: one image, without the auxiliary head, as published."""
    return sum(block.multiply_adds for block in (*self.body, *self.head))


def summarize(
  name: str,
  image_size: int | None = None,
  num_classes: int = 1001,
  depth_multiplier: float = 1.0,
) -> Summary:
  """Describes a net block by block.

  Args:
    name: of the net, see `nets_factory.NETS`.
    image_size: pixels a side of the square RGB image; the net's own by default.
    num_classes: the number of logits, at least 1.
    depth_multiplier: factor of the filters of every convolution, of nets that have it.

  Raises:
    ValueError: unknown name, a size that the net does not take, no classes, or a
      `depth_multiplier` that is not above 0 or that the net does not have.
  """
  net = nets_factory.get_net(name)
  image_size = net.default_image_size if image_size is None else image_size
  depth = _depth(name, net.network_fn, depth_multiplier)
  if num_classes < 1:
    raise ValueError(f'num_classes is {num_classes}; expected at least 1')
  smallest = smallest_input(net.body)
  if image_size < smallest:
    raise ValueError(f'image_size is {image_size}; the smallest that {name} takes is {smallest}')
  shape: Shape = (image_size, image_size, 3)
  body = []
  for row in net.body:
    block = _body_block(f'{net.head.scope}/{row.scope}', row, shape, depth)
    body.append(block)
    shape = block.shape
  if net.head.before != HIDDEN:
    body[-1] = body[-1]._replace(end_points=(*body[-1].end_points, net.head.before))
  auxiliary = _auxiliary(net.head, body, num_classes, depth)
  head = _head(net.head, shape, num_classes)
  for block in (auxiliary, *head):
    if block and len(block.shape) == 3 and block.shape[:2] != (1, 1):
      raise ValueError(
        f'image_size is {image_size}, too large for {name}: {block.scope} would have '
        f'{block.shape[0]} x {block.shape[1]} places, not one'
      )
  return Summary(
    name,
    net.head.scope,
    image_size,
    num_classes,
    tuple(body),
    auxiliary,
    net.head.auxiliary.end_point if auxiliary else '',
    head,
  )


def _figure(block: Block) -> tuple:
  def look(layer: Layer) -> tuple:
    # How deep a pooling is depends on what comes before the block.
    shape = layer.shape[:2] if layer.kind in (MAX_POOL, AVG_POOL) else layer.shape
    return layer.kind, layer.kernel, layer.stride, layer.padding, layer.scale, shape

  branches = [[[look(layer) for layer in step] for step in branch] for branch in block.branches]
  return branches, [look(layer) for layer in block.tail]


def _depth(name: str, network_fn: Callable, multiplier: float) -> Callable[[int], int]:
  def has_it(function: Callable) -> bool:
    return 'depth_multiplier' in inspect.signature(function).parameters

  if multiplier != 1 and not has_it(network_fn):
    having = [net for net, entry in nets_factory.NETS.items() if has_it(entry.network_fn)]
    raise ValueError(f'{name} has no depth_multiplier; of the nets {", ".join(having)} has')
  return inception_v3.scaled_depth(multiplier) if has_it(network_fn) else int


def _body_block(scope: str, row: Row, shape: Shape, depth: Callable[[int], int]) -> Block:
  end_points = (row.end_point,) if row.end_point != HIDDEN else ()
  if isinstance(row.block, Cell):
    layer = _cell(scope, row.block, shape, depth)
    return Block(row.scope, end_points, (((layer,),),), (), layer.shape)
  is_residual = isinstance(row.block, Residual)
  branches = [
    _branch(f'{scope}/Branch_{i}', branch, shape, depth)
    for i, branch in enumerate(row.block.branches if is_residual else row.block)
  ]
  mixed = _concat(scope, [layer.shape for branch in branches for layer in branch[-1]])
  tail = [mixed]
  if is_residual:
    linear = _convolution(f'{scope}/Conv2d_1x1', mixed.shape, conv(shape[-1], 1))
    tail += [linear, Layer(RESIDUAL, scope, shape, scale=row.block.scale)]
  return Block(row.scope, end_points, tuple(branches), tuple(tail), tail[-1].shape)


def _branch(
  scope: str, branch: Branch, shape: Shape, depth: Callable[[int], int]
) -> tuple[Step, ...]:
  names, steps = iter(cell_names(branch)), []
  for item in branch:
    cells = item.cells if isinstance(item, Split) else (item,)
    steps.append(tuple(_cell(f'{scope}/{next(names)}', cell, shape, depth) for cell in cells))
    shape = _concat(scope, [layer.shape for layer in steps[-1]]).shape
  return tuple(steps)


def _concat(scope: str, shapes: Iterable[Shape]) -> Layer:
  shapes = list(shapes)
  if len({shape[:2] for shape in shapes}) > 1:
    raise ValueError(f'{scope}: the branches end in different sizes: {shapes}')
  return Layer(CONCAT, scope, (*shapes[0][:2], sum(shape[2] for shape in shapes)))


def _cell(scope: str, cell: Cell, shape: Shape, depth: Callable[[int], int]) -> Layer:
  if cell.op == 'Conv2d':
    return _convolution(scope, shape, cell._replace(depth=depth(cell.depth)))
  return Layer(
    _KIND_OF_OP[cell.op],
    scope,
    _places(shape, cell) + shape[2:],
    cell.kernel,
    cell.stride,
    cell.padding,
  )


def _convolution(scope: str, shape: Shape, cell: Cell) -> Layer:
  """With batch norm, that is a beta, or with a bias: both are one parameter for each filter."""
  output = (*_places(shape, cell), cell.depth)
  window = math.prod(cell.kernel) * shape[2]
  return Layer(
    CONVOLUTION,
    scope,
    output,
    cell.kernel,
    cell.stride,
    cell.padding,
    parameters=(window + 1) * cell.depth,
    multiply_adds=window * math.prod(output),
  )


def _places(shape: Shape, cell: Cell) -> Shape:
  """Height and width of the output."""
  if cell.padding == 'SAME':
    return tuple(-(-side // cell.stride) for side in shape[:2])
  return tuple(
    (side - window) // cell.stride + 1 for side, window in zip(shape[:2], cell.kernel, strict=True)
  )


def _auxiliary(
  head: Head, body: list[Block], num_classes: int, depth: Callable[[int], int]
) -> Block | None:
  """The auxiliary head; None where there is none, or no room for it."""
  aux = head.auxiliary
  if aux is None:
    return None
  shape = next(block.shape for block in body if aux.end_point in block.end_points)
  if shape[0] < AUX_POOL:
    return None
  scope = f'{head.scope}/AuxLogits'
  pooled = _window(AVG_POOL, f'{scope}/{aux.pool}', shape, AUX_POOL, AUX_STRIDE)
  first = _convolution(f'{scope}/Conv2d_1b_1x1', pooled.shape, conv(depth(AUX_DEPTHS[0]), 1))
  second = _window(
    CONVOLUTION, f'{scope}/{aux.conv}', first.shape, aux.window, depth=depth(AUX_DEPTHS[1])
  )
  logits = _logits(f'{scope}/{aux.logits}', head, second.shape, num_classes)
  steps = tuple((layer,) for layer in (pooled, first, second, logits))
  return Block('AuxLogits', ('AuxLogits',), (steps,), (), logits.shape)


def _window(
  kind: str, scope: str, shape: Shape, side: int | None, stride: int = 1, depth: int = 0
) -> Layer:
  """A VALID layer over windows of `side`, or of all that there is where that is less or None."""
  side = shape[0] if side is None else min(side, shape[0])
  stride = stride if side < shape[0] else 1
  cell = conv(depth, side, stride, padding='VALID')
  scope = scope.format(side, side)
  if kind == CONVOLUTION:
    return _convolution(scope, shape, cell)
  return Layer(kind, scope, _places(shape, cell) + shape[2:], cell.kernel, stride, 'VALID')


def _logits(scope: str, head: Head, shape: Shape, num_classes: int) -> Layer:
  if head.is_convolution:
    layer = _convolution(scope, shape, conv(num_classes, 1))
    # slim squeezes the logits where there is one place; elsewhere `summarize` refuses.
    return layer._replace(shape=layer.shape[2:]) if layer.shape[:2] == (1, 1) else layer
  size = math.prod(shape)
  return Layer(
    FULLY_CONNECTED,
    scope,
    (num_classes,),
    parameters=(size + 1) * num_classes,
    multiply_adds=size * num_classes,
  )


def _head(head: Head, shape: Shape, num_classes: int) -> tuple[Block, ...]:
  scope = f'{head.scope}/Logits'
  pooled = _window(AVG_POOL, f'{scope}/{head.pool}', shape, head.window, stride=2)  # slim's default
  features = pooled.shape if head.is_convolution else pooled.shape[2:]  # flat
  logits = _logits(f'{scope}/{head.logits}', head, pooled.shape, num_classes)
  layers = (
    (head.pooled, pooled),
    (head.features, Layer(DROPOUT, f'{scope}/{head.dropout}', features)),
    ('Logits', logits),
    ('Predictions', Layer(SOFTMAX, f'{scope}/Predictions', logits.shape)),
  )
  return tuple(
    Block(
      layer.scope.removeprefix(f'{head.scope}/'),
      (end_point,) if end_point != HIDDEN else (),
      (((layer,),),),
      (),
      layer.shape,
    )
    for end_point, layer in layers
  )


def end_points(summary: Summary) -> dict[str, Shape]:
  """{end point: shape without the batch's dimension}, in the order of building."""
  return {name: block.shape for block in summary.blocks for name in block.end_points}


def as_json(summary: Summary) -> dict[str, Any]:
  """The summary as plain types: a list of blocks, each with its layers."""
  return {
    'name': summary.name,
    'image_size': summary.image_size,
    'num_classes': summary.num_classes,
    'parameters': summary.parameters,
    'multiply_adds': summary.multiply_adds,
    'multiply_adds_of_auxiliary_head': summary.auxiliary.multiply_adds if summary.auxiliary else 0,
    'blocks': [
      {
        'scope': f'{summary.scope}/{block.scope}',
        'end_points': list(block.end_points),
        'shape': list(block.shape),
        'parameters': block.parameters,
        'multiply_adds': block.multiply_adds,
        'layers': [layer._asdict() for layer in block.layers],
      }
      for block in summary.blocks
    ],
  }


def as_text(summary: Summary) -> list[str]:
  """A table with a line for each block, and the totals."""
  rows = [('block', 'end point', 'output', 'parameters', 'multiply-adds')]
  rows += [
    (
      block.scope,
      ', '.join(block.end_points),
      written(block.shape),
      f'{block.parameters:,}',
      f'{block.multiply_adds:,}',
    )
    for block in summary.blocks
  ]
  totals = [('in all', summary.parameters, summary.multiply_adds)]
  if summary.auxiliary:
    auxiliary = summary.auxiliary
    totals = [
      ('without AuxLogits', summary.parameters - auxiliary.parameters, summary.multiply_adds),
      ('in all', summary.parameters, summary.multiply_adds + auxiliary.multiply_adds),
    ]
  rows += [(name, '', '', f'{parameters:,}', f'{adds:,}') for name, parameters, adds in totals]
  lines = columns(rows, right=(3, 4))
  size = summary.image_size
  title = f'{summary.name}, {size} x {size} pixels, {summary.num_classes} classes, one image'
  return [title, '', *lines[: len(lines) - len(totals)], '', *lines[len(lines) - len(totals) :]]


def written(shape: Shape) -> str:
  """35 x 35 x 384."""
  return ' x '.join(map(str, shape))


def columns(rows: list[tuple[str, ...]], right: Iterable[int] = ()) -> list[str]:
  """Lines of text with the columns under each other; those in `right` end at the same place."""
  widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
  return [
    '  '.join(
      cell.rjust(width) if i in right else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
