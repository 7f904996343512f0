"""Names of Inception-ResNet-v1's layers in Keras: in deepface's and keras-facenet's nets."""

import re
from collections.abc import Iterator

from ..blocks import CONV, Unit
from ..registry import get_net

NET = 'inception_resnet_v1'
EMBEDDING = 'Bottleneck'
# deepface calls the second branch of block i Branch_i; there is no third.
_SECOND_BRANCH = re.compile(r'(Block(?:17|8)_\d+_Branch)_[1-9]\d*(?=_)')


def keras() -> dict[str, tuple[str, str]]:
  """{our scope: (convolution or dense layer, batch norm)}, '' for none; no logits."""
  net = get_net(NET)
  names: dict[str, tuple[str, str]] = {}
  for unit in net.body:
    names |= {cell.name: _pair(cell.name) for cell in unit.cells if cell.op == CONV}
    if unit.projection:
      names[unit.projection] = (_name(unit.projection), '')
  return names | {EMBEDDING: _pair(EMBEDDING)}


def as_ours(layer: str) -> str:
  """A layer's name as `keras` has it."""
  return _SECOND_BRANCH.sub(r'\1_1', layer)


def in_order() -> list[tuple[str, str]]:
  """(layer, our scope) of the layers with weights in the order in which Keras lists them.

  That is by their distance from the output: of parallel branches the first layers of the longest
  come first.
  """
  names = keras()
  layers: list[tuple[str, str]] = []
  for stage in (*(stage for unit in get_net(NET).body for stage in _stages(unit)), [EMBEDDING]):
    layers += [(names[scope][i], scope) for i in (0, 1) for scope in stage if names[scope][i]]
  return layers


def _stages(unit: Unit) -> Iterator[list[str]]:
  """Scopes that are equally far from the unit's output."""
  branches = [branch.cells for branch in unit.branches]
  for left in range(max(map(len, branches)), 0, -1):
    cells = [cells[-left] for cells in branches if len(cells) >= left]
    yield [cell.name for cell in cells if cell.op == CONV]
  if unit.projection:
    yield [unit.projection]


def _pair(scope: str) -> tuple[str, str]:
  return _name(scope), f'{_name(scope)}_BatchNorm'


def _name(scope: str) -> str:
  """Repeat/block35_1/Branch_0/Conv2d_1x1: Block35_1_Branch_0_Conv2d_1x1; Block8 is the sixth."""
  scope = re.sub(r'^Repeat(_\d)?/b', 'B', scope).replace('Block8/', 'Block8_6/')
  return scope.replace('/', '_')
