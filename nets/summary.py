"""Shapes, parameters and multiply-adds of a net, from its table: nothing is built or traced.

Counts are those of the nets with the arg scopes of the registry: batch norm has beta, and gamma in
ResNets alone, as in the released checkpoints.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from . import registry
from .blocks import (
  AVG_POOL,
  BATCH_NORM,
  CONV,
  MAX_POOL,
  SEPARABLE,
  Branch,
  Cell,
  Unit,
  conv,
  depthwise_multiplier,
)
from .geometry import smallest_input
from .heads import AUX_POOL, DENSE, DROPOUT, FLATTEN, SOFTMAX
from .net import Net

Shape = tuple[int, ...]  # [h, w, C], or [C] of what is flat

# Kinds of layers; those of operations that are not here are called as these.
CONVOLUTION, FULLY_CONNECTED = 'Convolution', 'Fully connected'
SEPARABLE_CONVOLUTION, NORM = 'Separable convolution', 'Batch norm and ReLU'
CONCAT, RESIDUAL = 'Concat', 'Residual'
KINDS = (
  CONVOLUTION, SEPARABLE_CONVOLUTION, NORM, MAX_POOL, AVG_POOL, CONCAT, RESIDUAL, DROPOUT,
  FULLY_CONNECTED, SOFTMAX,
)  # fmt: skip
_KIND_OF_OP = {
  CONV: CONVOLUTION,
  SEPARABLE: SEPARABLE_CONVOLUTION,
  BATCH_NORM: NORM,
  DENSE: FULLY_CONNECTED,
}


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
  end_point: str | None = None  # within a block


Step = tuple[Layer, ...]  # one layer, or the layers of a split


class Block(NamedTuple):
  """A row of a body, an auxiliary head, or a layer of a head."""

  scope: str  # within the net's own
  end_points: tuple[str, ...]
  branches: tuple[tuple[Step, ...], ...]
  tail: tuple[Layer, ...]  # what joins the branches: none of a lone one
  shape: Shape
  preact: tuple[Layer, ...] = ()  # what the branches, and a convolution as short cut, begin with
  short_cut: tuple[Layer, ...] = ()  # what lies in the way of the input of a residual sum

  @property
  def layers(self) -> tuple[Layer, ...]:
    """All its layers in order of building, which is branch by branch."""
    branches = (layer for branch in self.branches for step in branch for layer in step)
    return (*self.preact, *self.short_cut, *branches, *self.tail)

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

  @property
  def training_multiply_adds(self) -> int:
    """Multiply-adds of a training step for one image, with the auxiliary head.

    The gradients of a layer's weights and of its input cost as much as the layer; the image has no
    gradient.
    """
    forward = sum(block.multiply_adds for block in self.blocks)
    return 3 * forward - self.body[0].multiply_adds


def summarize(
  name: str,
  image_size: int | None = None,
  num_classes: int | None = None,
  depth_multiplier: float = 1.0,
) -> Summary:
  """Describes a net block by block.

  Args:
    name: of the net, see `registry.NETS`.
    image_size: pixels a side of the square RGB image; the net's own by default.
    num_classes: the number of logits, at least 1; the net's own by default.
    depth_multiplier: factor of the filters of every convolution, of nets that have it.

  Raises:
    ValueError: unknown name, a size that the net does not take, no classes, or a
      `depth_multiplier` that is not above 0 or that the net does not have.
  """
  net = registry.get_net(name)
  image_size = net.default_image_size if image_size is None else image_size
  num_classes = net.num_classes if num_classes is None else num_classes
  if depth_multiplier != 1 and 'depth_multiplier' not in net.arguments:
    having = ', '.join(registry.nets_with('depth_multiplier'))
    raise ValueError(f'{name} has no depth_multiplier; these nets have: {having}')
  rows, variant = net.vary(**net.select(depth_multiplier=depth_multiplier))
  depth = variant.depth
  if num_classes < 1:
    raise ValueError(f'num_classes is {num_classes}; expected at least 1')
  smallest = smallest_input(rows)
  if image_size < smallest:
    raise ValueError(f'image_size is {image_size}; the smallest that {name} takes is {smallest}')
  norms = 2 if net.has_gamma else 1
  body = _chain(net.scope, rows, (image_size, image_size, 3), depth, norms)
  if net.head.before:
    body[-1] = body[-1]._replace(end_points=(*body[-1].end_points, net.head.before))
  try:
    auxiliary = _auxiliary(net, body, num_classes, depth)
    shape = body[-1].shape
    head = _chain(net.scope, net.head.units(shape[0], shape[1], num_classes), shape)
  except ValueError as error:
    raise ValueError(f'image_size is {image_size}, too large for {name}: {error}') from error
  return Summary(
    name,
    net.scope,
    image_size,
    num_classes,
    tuple(body),
    auxiliary,
    net.head.auxiliary.end_point if net.head.auxiliary and auxiliary else '',
    tuple(head),
  )


def _figure(block: Block) -> tuple:
  def look(layer: Layer) -> tuple:
    # How deep a pooling is depends on what comes before the block.
    shape = layer.shape[:2] if layer.kind in (MAX_POOL, AVG_POOL) else layer.shape
    return layer.kind, layer.kernel, layer.stride, layer.padding, layer.scale, shape

  branches = [[[look(layer) for layer in step] for step in branch] for branch in block.branches]
  return branches, *(list(map(look, part)) for part in (block.preact, block.short_cut, block.tail))


def _auxiliary(
  net: Net, body: list[Block], num_classes: int, depth: Callable[[int], int]
) -> Block | None:
  """The auxiliary head; None where there is none, or no room for it."""
  head = net.head.auxiliary
  if head is None:
    return None
  shape = next(block.shape for block in body if head.end_point in block.end_points)
  if shape[0] < AUX_POOL:
    return None
  return _block(net.scope, head.unit(shape[0], shape[1], num_classes, depth), shape, int)


def _chain(
  scope: str,
  units: Iterable[Unit],
  shape: Shape,
  depth: Callable[[int], int] = int,
  norms: int = 1,
) -> list[Block]:
  """`norms` are the parameters of a batch norm for each channel."""
  blocks = []
  for unit in units:
    blocks.append(_block(scope, unit, shape, depth, norms))
    shape = blocks[-1].shape
  return blocks


def _block(
  scope: str, unit: Unit, shape: Shape, depth: Callable[[int], int], norms: int = 1
) -> Block:
  path = f'{scope}/{unit.scope}'
  preact = tuple(_layer(scope, cell, shape, norms) for cell in (unit.preact,) if cell)
  short_cut = tuple(_layer(scope, cell, shape, norms) for cell in (unit.short_cut,) if cell)
  ends = [_branch(scope, branch, shape, depth, norms) for branch in unit.branches]
  branches, tail = tuple(steps for steps, _ in ends), []
  output = ends[0][1]
  if unit.join == 'concat' or unit.projection:
    tail.append(_concat(path, [layer.shape for branch in branches for layer in branch[-1]]))
    output = tail[-1].shape
  if unit.projection:
    tail.append(_layer(scope, conv(shape[-1], 1, name=unit.projection), output))
    output = shape
  if unit.join == 'add':
    tail.append(Layer(RESIDUAL, path, output, scale=unit.scale))
  return Block(unit.scope, unit.end_points, branches, tuple(tail), output, preact, short_cut)


def _branch(
  scope: str, branch: Branch, shape: Shape, depth: Callable[[int], int], norms: int
) -> tuple[tuple[Step, ...], Shape]:
  """Its layers, and the shape that they end in."""
  steps: list[Step] = []
  for cells in branch.steps:
    if cells[0].op == FLATTEN:  # no layer of its own
      if shape[:-1] != (1, 1):
        where = cells[0].name.rpartition('/')[0] or 'logits'
        raise ValueError(f'{where} would have {shape[0]} x {shape[1]} places, not one')
      shape = shape[-1:]
      continue
    scaled = (
      cell._replace(depth=depth(cell.depth)) if cell.op in (CONV, SEPARABLE) else cell
      for cell in cells
    )
    steps.append(tuple(_layer(scope, cell, shape, norms) for cell in scaled))
    shape = _concat(scope, [layer.shape for layer in steps[-1]]).shape
  if steps and len(steps[-1]) == 1:
    steps[-1] = (steps[-1][0]._replace(shape=shape),)
  return tuple(steps), shape


def _concat(path: str, shapes: Sequence[Shape]) -> Layer:
  if len(shapes) == 1:
    return Layer(CONCAT, path, shapes[0])
  if len({shape[:2] for shape in shapes}) > 1:
    raise ValueError(f'{path}: the branches end in different sizes: {shapes}')
  return Layer(CONCAT, path, (*shapes[0][:2], sum(shape[2] for shape in shapes)))


def _layer(scope: str, cell: Cell, shape: Shape, norms: int = 1) -> Layer:
  """What has weights has more for each filter: a bias, or what batch norm has."""
  layer = Layer(_KIND_OF_OP.get(cell.op, cell.op), f'{scope}/{cell.name}', shape)
  layer = layer._replace(end_point=cell.end_point)
  if cell.op in (DROPOUT, SOFTMAX):
    return layer
  if cell.op == BATCH_NORM:
    return layer._replace(parameters=norms * shape[-1])
  if cell.op == DENSE:
    size = math.prod(shape) * cell.depth
    return layer._replace(shape=(cell.depth,), parameters=size + cell.depth, multiply_adds=size)
  windows = cell.kernel if cell.padding == 'VALID' else (1, 1)
  places = tuple((side - w) // cell.stride + 1 for side, w in zip(shape[:2], windows, strict=True))
  layer = layer._replace(
    shape=(*places, shape[2]), kernel=cell.kernel, stride=cell.stride, padding=cell.padding
  )
  if cell.op not in (CONV, SEPARABLE):
    return layer
  window = math.prod(cell.kernel) * shape[2]
  weights = window * cell.depth
  if cell.op == SEPARABLE:
    multiplier = depthwise_multiplier(cell.depth, shape[2])
    weights = multiplier * (window + shape[2] * cell.depth)
  return layer._replace(
    shape=(*places, cell.depth),
    parameters=weights + (norms if cell.norm else 1) * cell.depth,
    multiply_adds=weights * math.prod(places),
  )


def end_points(summary: Summary) -> dict[str, Shape]:
  """{end point: shape without the batch's dimension}, in the order of building."""
  shapes: dict[str, Shape] = {}
  for block in summary.blocks:
    shapes |= {layer.end_point: layer.shape for layer in block.layers if layer.end_point}
    shapes |= dict.fromkeys(block.end_points, block.shape)
  return shapes


def written(shape: Shape) -> str:
  """35 x 35 x 384."""
  return ' x '.join(map(str, shape))
