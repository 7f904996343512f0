"""The vocabulary that nets are written in, as tables.

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

Whatever a table says, `row` makes a `Unit` of it: the one normal form that the builder
(`nets.build`), sizes (`nets.geometry`), `nets.summary`, drawings and conversions read. A new kind
of block is a function or class here, a field of `Unit` with a default, and what those make of it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

CONV, SEPARABLE, MAX_POOL, AVG_POOL = 'Conv2d', 'SeparableConv2d', 'MaxPool', 'AvgPool'
BATCH_NORM = 'BatchNorm'

# Paddings of `Cell` that TensorFlow does not have. Of a window of k pixels:
FIXED = 'FIXED'  # (k - 1) // 2 before and k // 2 after, whatever the size; nothing wins a maximum
ZEROS = 'ZEROS'  # the same, where zeros take part in a maximum: Keras'
CEIL = 'CEIL'  # nothing before, after as much as the last window lacks: PyTorch's ceil_mode


class Cell(NamedTuple):
  """One operation: see `conv`, `max_pool`, `avg_pool`, and those of heads in `nets.heads`."""

  op: str  # the first half of its name, if it follows the rule
  depth: int
  kernel: tuple[int, int]
  stride: int
  padding: str  # 'SAME', 'VALID' or one of the above, which is SAME where nothing is strided
  name: str  # '': by the rule; in a unit the path within the net, 'Mixed_5b/Branch_0/Conv2d_0a_1x1'
  end_point: str | None = None  # the name that its output is kept by, within a unit
  norm: bool = True  # of a convolution: batch norm in place of biases
  activate: bool = True  # of a convolution or batch norm: ReLU, or what the arg scope says
  stddev: float | None = None  # of the normal numbers that weights begin as; None: the arg scope's

  @property
  def scope(self) -> str:
    """The last part of its path."""
    return self.name.rpartition('/')[2]


class Split(NamedTuple):
  """Cells that share their input; their outputs are concatenated (the forks of Inception-C)."""

  cells: tuple[Cell, ...]


Column = Sequence[Cell | Split]  # of a figure
Columns = Sequence[Column]


class Residual(NamedTuple):
  """net + scale * (1 x 1 convolution of the columns), then the activation.

  The scale keeps the sums from growing: without it nets with over 1000 filters a layer "died"
  early in training (arXiv:1602.07261 section 3.3, Figure 20).
  """

  columns: Columns
  scale: float
  activate: bool = True


class Bottleneck(NamedTuple):
  """1 x 1, 3 x 3 and 1 x 1 convolutions, the last four times as deep, and a short cut.

  The unit of ResNet-50 and deeper (Figure 5 of arXiv:1512.03385), or with `preactivate` that of
  arXiv:1603.05027 (Figure 1b): batch norm and ReLU before the convolutions, none after the sum.
  The 3 x 3 has the stride. The short cut is a 1 x 1 convolution where the unit changes the depth,
  see `resolve_short_cuts`, and elsewhere every stride-th pixel of the input.
  """

  depth: int  # of the first two convolutions
  stride: int = 1
  preactivate: bool = False


Block = Cell | Columns | Residual | Bottleneck


class Branch(NamedTuple):
  """Steps one after the other; a step is one cell, or the cells of a split."""

  scope: str  # variable scope within that of its unit; '' where it has none
  steps: tuple[tuple[Cell, ...], ...]

  @property
  def cells(self) -> tuple[Cell, ...]:
    """Its cells, those of splits included."""
    return tuple(cell for step in self.steps for cell in step)

  @property
  def reduction(self) -> int:
    """See `Unit.reduction`."""
    return math.prod(step[0].stride for step in self.steps)


class Unit(NamedTuple):
  """A row of a body, or a layer of a head: branches on one input, and what joins them."""

  scope: str  # within the net's; cells have it in their paths
  branches: tuple[Branch, ...]
  end_point: str | None  # the name that its output is kept by
  join: Literal['none', 'concat', 'add'] = 'none'  # 'add': to the input, after `projection`
  projection: str = ''  # path of the linear 1 x 1 convolution of an 'add', as deep as the input
  scale: float = 1.0  # of what is added
  activate: bool = True  # the sum
  preact: Cell | None = None  # before the branches, and before a short cut that is a convolution
  short_cut: Cell | None = None  # what the input of an 'add' goes through; None: nothing
  block: str | None = None  # another name of the output: that of the block whose last row it is

  @property
  def reduction(self) -> int:
    """How many times smaller than the input the output is, down and across."""
    return self.branches[0].reduction  # as all the others: `row` sees to it

  @property
  def cells(self) -> tuple[Cell, ...]:
    """Its cells in order of building."""
    ahead = tuple(cell for cell in (self.preact, self.short_cut) if cell)
    return ahead + tuple(cell for branch in self.branches for cell in branch.cells)

  @property
  def end_points(self) -> tuple[str, ...]:
    """The names that its output is kept by."""
    return tuple(name for name in (self.end_point, self.block) if name)


Body = Sequence[Unit]


def conv(
  depth: int,
  kernel: int | tuple[int, int],
  stride: int = 1,
  padding: str | None = None,
  name: str = '',
  **kwargs: Any,
) -> Cell:
  """A convolution with batch norm and ReLU; VALID where strided, SAME elsewhere by default.

  `kwargs` are further fields of `Cell`.
  """
  kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
  # Every strided operation from Inception-v3 on is VALID ("V" in the papers' figures).
  padding = padding or ('VALID' if stride > 1 else 'SAME')
  return Cell(CONV, depth, kernel, stride, padding, name, **kwargs)


def separable_conv(
  depth: int, kernel: int, stride: int = 1, padding: str | None = None, **kwargs: Any
) -> Cell:
  """A convolution of each channel alone, then a 1 x 1 one; biases and ReLU, no batch norm."""
  return conv(depth, kernel, stride, padding, norm=False, **kwargs)._replace(op=SEPARABLE)


def depthwise_multiplier(depth: int, channels: int) -> int:
  """The filters of each channel in a separable convolution.

  slim's, but for a single channel: that has the filters of three, where slim's has a third of them,
  so that a grey net takes the weights of one of colours (`checkpoints.for_one_channel`).
  """
  return max(min(depth // 3, 8), 1) * (3 if channels == 1 else 1)


def batch_norm(name: str = '') -> Cell:
  """Batch norm and ReLU that stand alone."""
  return Cell(BATCH_NORM, 0, (1, 1), 1, 'SAME', name)


def max_pool(kernel: int, stride: int = 1, padding: str | None = None, name: str = '') -> Cell:
  """Max pooling; padding as of `conv`."""
  return conv(0, kernel, stride, padding, name)._replace(op=MAX_POOL)


def avg_pool(
  kernel: int | tuple[int, int], stride: int = 1, padding: str | None = None, name: str = ''
) -> Cell:
  """Average pooling; padding as of `conv`."""
  return conv(0, kernel, stride, padding, name)._replace(op=AVG_POOL)


def split(*cells: Cell) -> Split:
  """Cells side by side on one input."""
  return Split(cells)


SAME_AS_SCOPE = '{scope}'  # the end point of most rows


def row(scope: str, block: Block, end_point: str | None = SAME_AS_SCOPE) -> Unit:
  """A row of a body: `block` in variable scope `scope`.

  Args:
    scope: within the net's, 'Mixed_5b'.
    block: a cell, columns or a residual.
    end_point: the name that its output is kept by; None: it is not.

  Raises:
    ValueError: the strides of the columns differ.
  """
  end_point = end_point and end_point.format(scope=scope)
  if isinstance(block, Cell):
    return chain(scope, [block._replace(name=scope)], end_point)
  if isinstance(block, Bottleneck):
    return _bottleneck(scope, block, end_point)
  columns = block.columns if isinstance(block, Residual) else block
  branches = tuple(_branch(f'{scope}/Branch_{i}', column) for i, column in enumerate(columns))
  strides = [branch.reduction for branch in branches]
  if len(set(strides)) > 1:
    raise ValueError(f'{scope}: its branches have strides {strides}; they must be the same')
  if not isinstance(block, Residual):
    return Unit(scope, branches, end_point, 'concat')
  projection = f'{scope}/Conv2d_1x1'
  return Unit(scope, branches, end_point, 'add', projection, block.scale, block.activate)


def chain(scope: str, cells: Iterable[Cell], end_point: str | None) -> Unit:
  """Cells one after the other, whose names are paths already."""
  return Unit(scope, (Branch('', tuple((cell,) for cell in cells)),), end_point)


def repeat(
  scope: str, suffixes: Iterable, block: Block, end_point: str | None = SAME_AS_SCOPE
) -> tuple[Unit, ...]:
  """`block` once for each suffix: repeat('Mixed_5{}', 'bcde', INCEPTION_A).

  With a name as `end_point` the repetition counts as one: only its last output is kept.
  """
  *first, last = [scope.format(suffix) for suffix in suffixes]
  inner = end_point if end_point == SAME_AS_SCOPE else None
  return (*(row(name, block, inner) for name in first), row(last, block, end_point))


def _branch(path: str, column: Column) -> Branch:
  """A column with its cells named."""
  steps, stage, letters = [], 0, 0
  for item in column:
    step = []
    for cell in item.cells if isinstance(item, Split) else (item,):
      if cell.padding == 'VALID' or cell.stride > 1:
        stage, letters = stage + 1, 0
      height, width = cell.kernel
      name = cell.name or f'{cell.op}_{stage}{"abcdefgh"[letters]}_{height}x{width}'
      step.append(cell._replace(name=f'{path}/{name}'))
      letters += 1
    steps.append(tuple(step))
  return Branch(path.rpartition('/')[2], tuple(steps))


def _bottleneck(scope: str, block: Bottleneck, end_point: str | None) -> Unit:
  def cell(name: str, depth: int, kernel: int, stride: int = 1, **kwargs: Any) -> Cell:
    path = f'{scope}/{name}'
    padding = FIXED if kernel > 1 < stride else 'SAME'
    return conv(depth, kernel, stride, padding, path, end_point=path, **kwargs)

  depth, stride, has_norm = block.depth, block.stride, not block.preactivate
  steps = (
    cell('conv1', depth, 1),
    cell('conv2', depth, 3, stride),
    cell('conv3', 4 * depth, 1, norm=has_norm, activate=False),
  )
  return Unit(
    scope,
    (Branch('', tuple((step,) for step in steps)),),
    end_point,
    'add',
    activate=not block.preactivate,
    preact=batch_norm(f'{scope}/preact') if block.preactivate else None,
    short_cut=cell('shortcut', 4 * depth, 1, stride, norm=has_norm, activate=False),
  )


def resolve_short_cuts(body: Body, channels: int) -> Body:
  """Takes convolutions out of short cuts where a bottleneck does not change the depth.

  Args:
    body: rows, of which those that follow a bottleneck do not change the depth either.
    channels: of the input.
  """
  resolved = []
  for unit in body:
    if unit.short_cut and channels == unit.short_cut.depth:
      cell, stride = unit.short_cut, unit.short_cut.stride
      pool = max_pool(1, stride, 'SAME', cell.name) if stride > 1 else None
      unit = unit._replace(short_cut=pool)
    channels = unit.branches[0].cells[-1].depth or channels
    resolved.append(unit)
  return tuple(resolved)


def move_strides_behind(body: Body) -> Body:
  """The same function, where a block's last unit is strided with the stride after it.

  What a block ends in is then as large as the block's other outputs.
  """
  moved: list[Unit] = []
  for unit in body:
    if not (unit.block and unit.short_cut and unit.reduction > 1):
      moved.append(unit)
      continue
    (branch,), cell = unit.branches, unit.short_cut
    steps = tuple(tuple(c._replace(stride=1) for c in step) for step in branch.steps)
    short_cut = cell._replace(stride=1) if cell.op == CONV else None
    moved.append(unit._replace(branches=(branch._replace(steps=steps),), short_cut=short_cut))
    moved.append(row(unit.block, max_pool(1, unit.reduction, 'SAME'), end_point=None))
  return tuple(moved)


def with_paddings(body: Body, paddings: Mapping[str, Mapping[str, str]], whose: str) -> Body:
  """The rows with the paddings of another library where a lone layer is strided.

  Args:
    body: rows.
    paddings: {library: {operation: padding}}.
    whose: a library.

  Raises:
    ValueError: there is no such library.
  """
  if whose not in paddings:
    raise ValueError(f'padding is {whose!r}; choose one of {", ".join(paddings)}')

  def of_cell(cell: Cell) -> Cell:
    is_padded = cell.stride > 1 and cell.kernel != (1, 1)
    return cell._replace(padding=paddings[whose].get(cell.op, cell.padding)) if is_padded else cell

  return tuple(
    chain(unit.scope, map(of_cell, unit.cells), unit.end_point) if unit.join == 'none' else unit
    for unit in body
  )


def under(scope: str, body: Body) -> Body:
  """The rows with end points that begin with the net's scope, as slim's ResNets have them."""

  def of_cell(cell: Cell | None) -> Cell | None:
    return cell and cell._replace(end_point=cell.end_point and f'{scope}/{cell.end_point}')

  def of_branch(branch: Branch) -> Branch:
    steps = tuple(tuple(cell for c in step if (cell := of_cell(c))) for step in branch.steps)
    return branch._replace(steps=steps)

  return tuple(
    unit._replace(
      branches=tuple(map(of_branch, unit.branches)),
      preact=of_cell(unit.preact),
      short_cut=of_cell(unit.short_cut),
      end_point=unit.end_point and f'{scope}/{unit.end_point}',
      block=unit.block and f'{scope}/{unit.block}',
    )
    for unit in body
  )
