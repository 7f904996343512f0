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
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

CONV, MAX_POOL, AVG_POOL = 'Conv2d', 'MaxPool', 'AvgPool'


class Cell(NamedTuple):
  """One operation: see `conv`, `max_pool`, `avg_pool`, and those of heads in `nets.heads`."""

  op: str  # the first half of its name, if it follows the rule
  depth: int
  kernel: tuple[int, int]
  stride: int
  padding: str  # 'SAME' or 'VALID'
  name: str  # '': by the rule; in a unit the path within the net, 'Mixed_5b/Branch_0/Conv2d_0a_1x1'

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


Block = Cell | Columns | Residual


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

  @property
  def reduction(self) -> int:
    """How many times smaller than the input the output is, down and across."""
    return self.branches[0].reduction  # as all the others: `row` sees to it

  @property
  def cells(self) -> tuple[Cell, ...]:
    """Its cells in order of building."""
    return tuple(cell for branch in self.branches for cell in branch.cells)


Body = Sequence[Unit]


def conv(
  depth: int,
  kernel: int | tuple[int, int],
  stride: int = 1,
  padding: str | None = None,
  name: str = '',
) -> Cell:
  """A convolution with batch norm and ReLU; VALID where strided, SAME elsewhere by default."""
  kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
  # Every strided operation of the family is VALID ("V" in the papers' figures).
  return Cell(CONV, depth, kernel, stride, padding or ('VALID' if stride > 1 else 'SAME'), name)


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
      if cell.padding == 'VALID':
        stage, letters = stage + 1, 0
      height, width = cell.kernel
      name = cell.name or f'{cell.op}_{stage}{"abcdefgh"[letters]}_{height}x{width}'
      step.append(cell._replace(name=f'{path}/{name}'))
      letters += 1
    steps.append(tuple(step))
  return Branch(path.rpartition('/')[2], tuple(steps))
