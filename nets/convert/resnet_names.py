"""Names of the layers of ResNets and of Inception-v1 in other libraries, as tables by our rows.

What is written 'a b' has its weights in a and its batch norm in b.
"""

from ..resnet_utils import UNITS

Rows = dict[str, tuple[str, ...]]  # {our row: the layers of it in our order}


def _units(layers: int) -> list[tuple[int, int]]:
  """(block, unit), both from 1 on."""
  return [(b, u) for b, units in enumerate(UNITS[layers], 1) for u in range(1, units + 1)]


def torch_resnet(layers: int) -> Rows:
  """torchvision's and timm's resnet50, resnet101 and resnet152."""
  rows: Rows = {'conv1': ('conv1 bn1',)}
  for block, unit in _units(layers):
    top = f'layer{block}.{unit - 1}'
    names = [f'{top}.conv{i} {top}.bn{i}' for i in (1, 2, 3)]
    first = [f'{top}.downsample.0 {top}.downsample.1'] if unit == 1 else []
    rows[f'block{block}/unit_{unit}/bottleneck_v1'] = (*first, *names)
  return rows | {'logits': ('fc',)}


def torch_googlenet() -> Rows:
  """torchvision's googlenet, but for its auxiliary classifiers."""
  layers = ('branch1', 'branch2.0', 'branch2.1', 'branch3.0', 'branch3.1', 'branch4.1')
  stem = {'Conv2d_1a_7x7': 'conv1', 'Conv2d_2b_1x1': 'conv2', 'Conv2d_2c_3x3': 'conv3'}
  rows: Rows = {ours: (theirs,) for ours, theirs in stem.items()}
  for stage, letters in ((3, 'ab'), (4, 'abcde'), (5, 'ab')):
    for theirs, ours in zip(letters, 'bcdef', strict=False):
      top = f'inception{stage}{theirs}'
      rows[f'Mixed_{stage}{ours}'] = tuple(f'{top}.{layer}' for layer in layers)
  return rows | {'Logits': ('fc',)}


def keras_resnet(layers: int, *, preactivate: bool) -> dict[str, tuple[str, str]]:
  """Keras Applications' ResNet50 and ResNet50V2, ...: {our layer: (convolution, batch norm)}."""
  kind = 'bottleneck_v2' if preactivate else 'bottleneck_v1'
  names = {'conv1': ('conv1_conv', '' if preactivate else 'conv1_bn')}
  for block, unit in _units(layers):
    ours, theirs = f'block{block}/unit_{unit}/{kind}', f'conv{block + 1}_block{unit}'
    if preactivate:
      names[f'{ours}/preact'] = ('', f'{theirs}_preact_bn')
    if unit == 1:
      names[f'{ours}/shortcut'] = (f'{theirs}_0_conv', '' if preactivate else f'{theirs}_0_bn')
    for i in (1, 2, 3):
      norm = '' if preactivate and i == 3 else f'{theirs}_{i}_bn'
      names[f'{ours}/conv{i}'] = (f'{theirs}_{i}_conv', norm)
  if preactivate:
    names['postnorm'] = ('', 'post_bn')
  return names | {'logits': ('predictions', '')}
