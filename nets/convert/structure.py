"""The layers of the four nets that have weights: by rows of their tables, in order of building."""

from collections.abc import Iterator
from typing import NamedTuple

from .. import inception_resnet_v1, inception_resnet_v2, inception_v3, inception_v4
from ..inception_blocks import Cell, Residual, Row, Split, cell_names


class Structure(NamedTuple):
  """A net as other libraries are compared with it."""

  scope: str  # of all its variables
  body: tuple[Row, ...]
  heads: dict[str, tuple[str, ...]]  # rows of the heads, like those of the body

  def rows(self) -> Iterator[tuple[str, list[str]]]:
    """(row, scopes of its layers), heads last; both without the net's own scope."""
    for row in self.body:
      yield row.scope, list(_scopes(row))
    for row, scopes in self.heads.items():
      yield row, [f'{row}/{scope}' if scope else row for scope in scopes]

  @property
  def first(self) -> str:
    """The scope of the layer that sees the image."""
    return self.body[0].scope


def _scopes(row: Row) -> Iterator[str]:
  if isinstance(row.block, Cell):
    if row.block.op == 'Conv2d':
      yield row.scope
    return
  is_residual = isinstance(row.block, Residual)
  for i, branch in enumerate(row.block.branches if is_residual else row.block):
    cells = [c for item in branch for c in (item.cells if isinstance(item, Split) else (item,))]
    for cell, name in zip(cells, cell_names(branch), strict=True):
      if cell.op == 'Conv2d':
        yield f'{row.scope}/Branch_{i}/{name}'
  if is_residual:
    yield f'{row.scope}/Conv2d_1x1'


STRUCTURES: dict[str, Structure] = {
  'inception_v3': Structure(
    'InceptionV3',
    inception_v3.BODY,
    {
      'AuxLogits': ('Conv2d_1b_1x1', 'Conv2d_2a_5x5', 'Conv2d_2b_1x1'),
      'Logits': ('Conv2d_1c_1x1',),
    },
  ),
  'inception_v4': Structure(
    'InceptionV4',
    inception_v4.BODY,
    {'AuxLogits': ('Conv2d_1b_1x1', 'Conv2d_2a', 'Aux_logits'), 'Logits': ('Logits',)},
  ),
  'inception_resnet_v1': Structure(
    'InceptionResnetV1', inception_resnet_v1.BODY, {'Bottleneck': ('',), 'Logits': ('Logits',)}
  ),
  'inception_resnet_v2': Structure(
    'InceptionResnetV2',
    inception_resnet_v2.BODY,
    {'AuxLogits': ('Conv2d_1b_1x1', 'Conv2d_2a_5x5', 'Logits'), 'Logits': ('Logits',)},
  ),
}


def structure(net: str) -> Structure:
  """The structure of a net.

  Raises:
    ValueError: there is none of that name.
  """
  if net not in STRUCTURES:
    raise ValueError(f'No conversion is known for {net!r}; choose one of {", ".join(STRUCTURES)}')
  return STRUCTURES[net]


def pair_by_rows(net: str, library: dict[str, tuple[str, ...]]) -> dict[str, str]:
  """{our scope: the other library's layer}; rows that it does not have (heads) are left out.

  Args:
    net: its name.
    library: {row: its layers in our order of building}.
  """
  return {
    scope: layer
    for row, scopes in structure(net).rows()
    if row in library
    for scope, layer in zip(scopes, library[row], strict=True)
  }
