"""Blocks and nets as tables: the vocabulary that the four net files are written in.

A cell is one operation, a branch a list of cells, a block the branches that are concatenated (the
figures of the papers, left to right), a body the rows of a whole net:

    INCEPTION_A = (
      [conv(96, 1)],
      [conv(64, 1), conv(96, 3)],
      [conv(64, 1), conv(96, 3), conv(96, 3)],
      [avg_pool(3), conv(96, 1)],
    )
    BODY = (row('Conv2d_1a_3x3', conv(32, 3, stride=2)), ..., row('Mixed_5b', INCEPTION_A), ...)

Cells name themselves. One rule gives 176 of the 187 scopes of v3, v4 and Inception-ResNet-v2: a
cell that is strided or VALID starts a new stage (digit), letters count the cells of a stage. The
exceptions are slim's slips of the pen, frozen by its checkpoints; they carry `name=`.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from . import layers

EndPoints = dict[str, tf.Tensor]


class Cell(NamedTuple):
  """One operation of a branch: see `conv`, `max_pool`, `avg_pool`."""

  op: str  # 'Conv2d', 'MaxPool' or 'AvgPool': the first half of its name
  depth: int
  kernel: tuple[int, int]
  stride: int
  padding: str
  name: str | None


class Split(NamedTuple):
  """Cells that share their input; their outputs are concatenated (the forks of Inception-C)."""

  cells: tuple[Cell, ...]


Branch = Sequence[Cell | Split]
Branches = Sequence[Branch]


class Residual(NamedTuple):
  """net + scale * (1 x 1 convolution of the branches), then the activation.

  The scale keeps the sums from growing: without it nets with over 1000 filters a layer "died"
  early in training (arXiv:1602.07261 section 3.3, Figure 20).
  """

  branches: Branches
  scale: float
  activate: bool = True


Block = Cell | Branches | Residual


class Row(NamedTuple):
  """One line of a body: `block` in variable scope `scope`; kept as `end_point` unless `HIDDEN`."""

  scope: str
  block: Block
  end_point: str


HIDDEN = ''  # the end point of a row that is none


class AuxiliaryHead(NamedTuple):
  """The auxiliary classifier: pooling, two convolutions, logits; all in the scope AuxLogits."""

  end_point: str  # what it classifies
  pool: str  # scopes of its layers; '{}x{}' stands for the window
  conv: str
  logits: str
  window: int | None = None  # of `conv`; None: all that is left


class Head(NamedTuple):
  """What follows a body: pooling, dropout, logits and softmax, by scope and end point.

  The nets' functions build their heads themselves; this is for those who describe nets.
  """

  scope: str  # of the whole net
  pool: str  # in the scope Logits; '{}x{}' stands for the window
  pooled: str  # the end point of the pooling
  dropout: str
  features: str  # the end point of what the logits are made of
  logits: str
  is_convolution: bool = False  # the logits are a 1 x 1 convolution, else fully connected
  window: int | None = None  # of the pooling; None: all that is left
  before: str = HIDDEN  # another name of the body's last output
  auxiliary: AuxiliaryHead | None = None


AUX_POOL = 5  # pixels a side: below that an auxiliary head has nothing to pool
AUX_STRIDE = 3
AUX_DEPTHS = 128, 768


class Variant(NamedTuple):
  """What a net's arguments change in its table."""

  depth: Callable[[int], int] = int  # filters of a convolution (depth_multiplier)
  valid_padding: str = 'VALID'  # 'SAME' aligns the feature maps
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu  # after a residual sum
  strided: bool = True  # False: strides are left out, dilation takes their place
  rate: int = 1  # dilation
  count_padding: bool = False  # SAME average pools divide by the whole window, zeros included


def _cell(
  op: str,
  depth: int,
  kernel: int | tuple[int, int],
  stride: int,
  padding: str | None,
  name: str | None,
) -> Cell:
  kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
  # Every strided operation of the family is VALID ("V" in the papers' figures).
  return Cell(op, depth, kernel, stride, padding or ('VALID' if stride > 1 else 'SAME'), name)


def conv(
  depth: int,
  kernel: int | tuple[int, int],
  stride: int = 1,
  padding: str | None = None,
  name: str | None = None,
) -> Cell:
  """A convolution with batch norm and ReLU; VALID where strided, SAME elsewhere by default."""
  return _cell('Conv2d', depth, kernel, stride, padding, name)


def max_pool(kernel: int, stride: int = 1, name: str | None = None) -> Cell:
  """Max pooling; VALID where strided, else SAME."""
  return _cell('MaxPool', 0, kernel, stride, None, name)


def avg_pool(kernel: int, stride: int = 1, name: str | None = None) -> Cell:
  """Average pooling; VALID where strided, else SAME."""
  return _cell('AvgPool', 0, kernel, stride, None, name)


def split(*cells: Cell) -> Split:
  """Cells side by side on one input."""
  return Split(cells)


def row(scope: str, block: Block, end_point: str | None = None) -> Row:
  """A row of a body; its end point is called as its scope unless said otherwise."""
  return Row(scope, block, scope if end_point is None else end_point)


def repeat(
  scope: str, suffixes: Iterable, block: Block, *, end_point: str | None = None
) -> tuple[Row, ...]:
  """`block` once for each suffix: repeat('Mixed_5{}', 'bcde', INCEPTION_A).

  With `end_point` the repetition counts as one: only its last output is kept, under that name, or
  none is with `HIDDEN`.
  """
  *first, last = [scope.format(suffix) for suffix in suffixes]
  inner = HIDDEN if end_point is not None else None
  return (*(row(name, block, inner) for name in first), row(last, block, end_point))


def cell_names(branch: Branch) -> list[str]:
  """The scope of every cell of a branch in order, those of a `split` included."""
  names, stage, letters = [], 0, 0
  for item in branch:
    for cell in item.cells if isinstance(item, Split) else (item,):
      if cell.padding == 'VALID':
        stage, letters = stage + 1, 0
      height, width = cell.kernel
      names.append(cell.name or f'{cell.op}_{stage}{"abcdefgh"[letters]}_{height}x{width}')
      letters += 1
  return names


def smallest_input(body: Sequence[Row], final_endpoint: str | None = None) -> int:
  """The side of the smallest square image that leaves one pixel at `final_endpoint`.

  Args:
    body: the rows of a net.
    final_endpoint: where to stop; None is the end.

  Returns:
    Pixels, e.g. 75 for Inception-v3.
  """
  return _needed(1, _rows_to(body, final_endpoint))


def _needed(size: int, rows: Iterable[Row]) -> int:
  """Input pixels a side for `size` output pixels."""

  def before_cells(cells: Iterable[Cell | Split], size: int) -> int:
    for cell in reversed(list(cells)):
      if not isinstance(cell, Split):  # the cells of a split are SAME, stride 1
        window = max(cell.kernel) if cell.padding == 'VALID' else 1
        size = (size - 1) * cell.stride + window
    return size

  for block in reversed([r.block for r in rows]):
    branches = [[block]] if isinstance(block, Cell) else _branches(block)
    size = max(before_cells(branch, size) for branch in branches)
  return size


def output_size(body: Sequence[Row], size: int) -> int:
  """The side of the last feature map of a square image.

  Args:
    body: the rows of a net.
    size: pixels a side of the image, at least `smallest_input(body)`.

  Returns:
    Pixels, e.g. 8 for Inception-v3 and 299.
  """
  for block in [r.block for r in body]:
    for cell in [block] if isinstance(block, Cell) else _branches(block)[0]:  # all branches agree
      if not isinstance(cell, Split) and cell.padding == 'VALID':
        size = (size - max(cell.kernel)) // cell.stride + 1
  return size


class Level(NamedTuple):
  """Where the features of one stride of a body come from, and where they lie."""

  row: int  # the last row whose output has the stride
  offset: int  # pixels of the image before the centre of the first feature


def levels(body: Sequence[Row], max_stride: int | None = None) -> dict[int, Level]:
  """The last output at each stride: {2: ..., 4: ..., 8: ..., 16: ..., 32: ...} for the four nets.

  Args:
    body: the rows of a net.
    max_stride: as for `run_body`; larger strides are not there.

  Returns:
    {stride: level}. Feature i of a level lies around pixel `offset + stride * i`, counted from 0;
    that is for VALID padding: with SAME it depends on the size of the image.
  """
  found, stride, rate, offset = {}, 1, 1, 0
  for number, block in enumerate(r.block for r in body):
    for cell in [block] if isinstance(block, Cell) else _branches(block)[0]:  # all branches agree
      if not isinstance(cell, Split) and cell.padding == 'VALID':
        offset += stride * rate * (max(cell.kernel) // 2)
    reduction = _reduction(block)
    if max_stride is not None and stride * reduction > max_stride:
      rate *= reduction
    else:
      stride *= reduction
    found[stride] = Level(number, offset)
  return {stride: level for stride, level in found.items() if stride > 1}


def run_body(
  images: tf.Tensor,
  body: Sequence[Row],
  final_endpoint: str | None = None,
  variant: Variant | None = None,
  max_stride: int | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """Builds the rows of `body` up to `final_endpoint`.

  Args:
    images: [N, H, W, C]; N, H and W may be unknown.
    body: the rows of a net.
    final_endpoint: the last end point to build; None is the end.
    variant: see `Variant`; None changes nothing.
    max_stride: once the feature maps are this many times smaller than the images, further strides
      become dilation of all that follows (as in arXiv:1606.00915), with the same weights.

  Returns:
    The last output, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: no such end point, or the images are too small for it.
  """
  rows = _rows_to(body, final_endpoint)
  variant = variant or Variant()
  if variant.valid_padding == 'VALID':
    _check_size(images, rows)
  net, end_points, stride = images, {}, 1
  for r in rows:
    reduction = _reduction(r.block)
    dilate = max_stride is not None and stride * reduction > max_stride
    net = _run_block(net, r.scope, r.block, variant._replace(strided=not dilate))
    if dilate:
      variant = variant._replace(rate=variant.rate * reduction)
    else:
      stride *= reduction
    if r.end_point != HIDDEN:
      end_points[r.end_point] = net
  return net, end_points


def _rows_to(body: Sequence[Row], final_endpoint: str | None) -> Sequence[Row]:
  if final_endpoint is None:
    return body
  names = [r.end_point for r in body]
  if final_endpoint == HIDDEN or final_endpoint not in names:
    choices = ', '.join(name for name in names if name != HIDDEN)
    raise ValueError(f'Unknown final_endpoint {final_endpoint!r}; choose one of {choices}')
  return body[: names.index(final_endpoint) + 1]


def _check_size(images: tf.Tensor, rows: Sequence[Row]) -> None:
  needed = _needed(1, rows)
  height, width = spatial_size(images)
  if min(side for side in (height, width, needed) if side is not None) < needed:
    raise ValueError(
      f'Images of {height or "unknown"} x {width or "unknown"} pixels are too small for '
      f'{rows[-1].end_point}: the smallest that work are {needed} x {needed}'
    )


def spatial_size(images: tf.Tensor) -> tuple[int | None, int | None]:
  """Static height and width of [N, H, W, C]; None where unknown, whatever TensorShape is about."""
  height, width = tf.TensorShape(images.shape).as_list()[1:3]
  return height, width


def _branches(block: Branches | Residual) -> Branches:
  return block.branches if isinstance(block, Residual) else block


def _reduction(block: Block) -> int:
  """The stride of a block, the same along all its branches."""
  branch = [block] if isinstance(block, Cell) else _branches(block)[0]
  reduction = 1
  for cell in branch:
    reduction *= 1 if isinstance(cell, Split) else cell.stride
  return reduction


def _run_block(net: tf.Tensor, scope: str, block: Block, variant: Variant) -> tf.Tensor:
  if isinstance(block, Cell):
    return _run_cell(net, block, scope, variant)
  with tf.compat.v1.variable_scope(scope):
    return run_branches(net, block, variant)


def run_branches(net: tf.Tensor, block: Branches | Residual, variant: Variant) -> tf.Tensor:
  """Builds a block in the variable scope that is open."""
  outputs = []
  for i, branch in enumerate(_branches(block)):
    with tf.compat.v1.variable_scope(f'Branch_{i}'):
      outputs.append(_run_branch(net, branch, variant))
  mixed = tf.concat(outputs, axis=3)
  return _add_residual(net, mixed, block, variant) if isinstance(block, Residual) else mixed


def _run_branch(net: tf.Tensor, branch: Branch, variant: Variant) -> tf.Tensor:
  if _is_pooled_projection(branch):
    return _run_pooled_projection(net, branch, variant)
  names = iter(cell_names(branch))
  for item in branch:
    if isinstance(item, Split):
      net = tf.concat([_run_cell(net, cell, next(names), variant) for cell in item.cells], axis=3)
    else:
      net = _run_cell(net, item, next(names), variant)
  return net


def _is_pooled_projection(branch: Branch) -> bool:
  """Whether it is the "Avg Pooling, 1x1 Conv" of the figures."""
  return [(cell.op, cell.stride) for cell in branch if isinstance(cell, Cell)] == [
    ('AvgPool', 1),
    ('Conv2d', 1),
  ] and branch[1].kernel == (1, 1)


def _run_pooled_projection(net: tf.Tensor, branch: Branch, variant: Variant) -> tf.Tensor:
  """Pools between the convolution and its batch norm, on a quarter of the channels or less.

  Both are linear, and a mean over places commutes with a sum over channels: up to rounding it is
  the same, at 0.85 to 0.95 of a block's time (benchmarks/benchmark_branches.py).
  """
  pool, projection = branch
  pool_name, name = cell_names(branch)
  with tf.name_scope(pool_name) as pool_scope:  # where it would be if it came first
    pool_fn = functools.partial(_run_cell, cell=pool, scope=pool_scope, variant=variant)
  depth = variant.depth(projection.depth)
  return layers.conv2d(net, depth, 1, rate=variant.rate, pool_fn=pool_fn, scope=name)


def _run_cell(net: tf.Tensor, cell: Cell, scope: str, variant: Variant) -> tf.Tensor:
  stride = cell.stride if variant.strided else 1
  padding = variant.valid_padding if cell.padding == 'VALID' else 'SAME'
  if cell.op == 'Conv2d':
    depth = variant.depth(cell.depth)
    return layers.conv2d(net, depth, cell.kernel, stride, padding, rate=variant.rate, scope=scope)
  if variant.rate > 1 or (variant.count_padding and cell.op == 'AvgPool'):
    return _pool_with_holes(net, cell, scope, padding, variant)
  pool = layers.max_pool2d if cell.op == 'MaxPool' else layers.avg_pool2d
  return pool(net, cell.kernel, stride, padding, scope=scope)


def _pool_with_holes(
  net: tf.Tensor, cell: Cell, scope: str, padding: str, variant: Variant
) -> tf.Tensor:
  """Dilated pooling, of odd windows, not strided; TensorFlow has it without padding alone."""
  kind = 'MAX' if cell.op == 'MaxPool' else 'AVG'

  def pool(values: tf.Tensor, name: str | None = None) -> tf.Tensor:
    if padding == 'SAME':
      rows, columns = (variant.rate * (side // 2) for side in cell.kernel)
      outside = values.dtype.min if kind == 'MAX' else 0
      paddings = (0, 0), (rows, rows), (columns, columns), (0, 0)
      values = tf.pad(values, paddings, constant_values=outside)
    dilations = [variant.rate] * 2
    return tf.nn.pool(values, cell.kernel, kind, padding='VALID', dilations=dilations, name=name)

  pooled = pool(net, scope)
  if kind == 'AVG' and padding == 'SAME' and not variant.count_padding:
    pooled /= pool(tf.ones_like(net[:1, :, :, :1]))  # the share of the window within the image
  return pooled


def _add_residual(net: tf.Tensor, mixed: tf.Tensor, block: Residual, variant: Variant) -> tf.Tensor:
  """The tail of every residual block: a linear 1 x 1 convolution without batch norm, scaled."""
  residual = layers.conv2d(
    mixed,
    net.shape[3],
    1,
    normalizer_fn=None,
    activation_fn=None,
    scope='Conv2d_1x1',
    scale=block.scale,  # of the weights: fewer than activations, and then TensorFlow fuses the sum
  )
  activation_fn = variant.activation_fn if block.activate else None
  if activation_fn is tf.nn.relu6:
    residual = tf.clip_by_value(residual, -6.0, 6.0)  # for slim's quantized variant
  net += residual
  return activation_fn(net) if activation_fn else net
