"""timm's inception_v3, inception_v4 and inception_resnet_v2, and torchvision's inception_v3.

timm took inception_v3 over from torchvision: both have the same names. timm's batch norm has gamma
(1 in the weights that came from slim), kernels are [out, in, height, width].
"""

import os
import pickle
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from ..nets_factory import get_net
from .layers import Layer

Tensors = dict[str, np.ndarray]


def _under(prefix: str, layers: str) -> tuple[str, ...]:
  return tuple(f'{prefix}.{layer}' for layer in layers.split())


_3X3DBL = 'branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3'
_7X7DBL = 'branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5'

_V3_A = f'branch1x1 branch5x5_1 branch5x5_2 {_3X3DBL} branch_pool'
_V3_B = f'branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 {_7X7DBL} branch_pool'
_V3_C = (
  'branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b '
  'branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a branch3x3dbl_3b branch_pool'
)
_V3_REDUCTION_B = 'branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4'
_V3_STEM = ('Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'Conv2d_3b_1x1', 'Conv2d_4a_3x3')

_V4_STEM_4A = 'branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3'
_V4_A = 'branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1'
_V4_B = (
  'branch0 branch1.0 branch1.1 branch1.2 '
  'branch2.0 branch2.1 branch2.2 branch2.3 branch2.4 branch3.1'
)
_V4_C = (
  'branch0 branch1_0 branch1_1a branch1_1b '
  'branch2_0 branch2_1 branch2_2 branch2_3a branch2_3b branch3.1'
)
_V4_REDUCTION_A = 'branch0 branch1.0 branch1.1 branch1.2'
_V4_REDUCTION_B = 'branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3'

_RESNET_35 = 'branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 conv2d'
_RESNET_17_8 = 'branch0 branch1.0 branch1.1 branch1.2 conv2d'
_RESNET_REDUCTION_B = 'branch0.0 branch0.1 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2'

# {net: {our row: the layers of it in our order}}
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
  'inception_v3': {
    **{row: (row,) for row in _V3_STEM},
    **{row: _under(row, _V3_A) for row in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d')},
    'Mixed_6a': _under('Mixed_6a', f'branch3x3 {_3X3DBL}'),
    **{row: _under(row, _V3_B) for row in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e')},
    'Mixed_7a': _under('Mixed_7a', _V3_REDUCTION_B),
    **{row: _under(row, _V3_C) for row in ('Mixed_7b', 'Mixed_7c')},
    'AuxLogits': _under('AuxLogits', 'conv0 conv1 fc'),
    'Logits': ('fc',),
  },
  'inception_v4': {
    'Conv2d_1a_3x3': ('features.0',),
    'Conv2d_2a_3x3': ('features.1',),
    'Conv2d_2b_3x3': ('features.2',),
    'Mixed_3a': ('features.3.conv',),
    'Mixed_4a': _under('features.4', _V4_STEM_4A),
    'Mixed_5a': ('features.5.conv',),
    **{f'Mixed_5{c}': _under(f'features.{i}', _V4_A) for i, c in enumerate('bcde', 6)},
    'Mixed_6a': _under('features.10', _V4_REDUCTION_A),
    **{f'Mixed_6{c}': _under(f'features.{i}', _V4_B) for i, c in enumerate('bcdefgh', 11)},
    'Mixed_7a': _under('features.18', _V4_REDUCTION_B),
    **{f'Mixed_7{c}': _under(f'features.{i}', _V4_C) for i, c in enumerate('bcd', 19)},
    'Logits': ('last_linear',),
  },
  'inception_resnet_v2': {
    'Conv2d_1a_3x3': ('conv2d_1a',),
    'Conv2d_2a_3x3': ('conv2d_2a',),
    'Conv2d_2b_3x3': ('conv2d_2b',),
    'Conv2d_3b_1x1': ('conv2d_3b',),
    'Conv2d_4a_3x3': ('conv2d_4a',),
    'Mixed_5b': _under('mixed_5b', _V4_A),
    **{f'Repeat/block35_{i + 1}': _under(f'repeat.{i}', _RESNET_35) for i in range(10)},
    'Mixed_6a': _under('mixed_6a', _V4_REDUCTION_A),
    **{f'Repeat_1/block17_{i + 1}': _under(f'repeat_1.{i}', _RESNET_17_8) for i in range(20)},
    'Mixed_7a': _under('mixed_7a', _RESNET_REDUCTION_B),
    **{f'Repeat_2/block8_{i + 1}': _under(f'repeat_2.{i}', _RESNET_17_8) for i in range(9)},
    'Block8': _under('block8', _RESNET_17_8),
    'Conv2d_7b_1x1': ('conv2d_7b',),
    'Logits': ('classif',),
  },
}


COUNTING_PADDING = ('inception_v3',)  # nets whose average pools divide by the whole window


def names_for(net: str) -> dict[str, str]:
  """{our scope: timm's layer}.

  Raises:
    ValueError: timm does not have the net.
  """
  if net not in NAMES:
    raise ValueError(f'timm has no {net}; it has {", ".join(NAMES)}')
  theirs = NAMES[net]  # without heads that it does not have
  return {
    scope: layer
    for row, scopes in get_net(net).weighted.items()
    if row in theirs
    for scope, layer in zip(scopes, theirs[row], strict=True)
  }


def layers(tensors: Mapping[str, np.ndarray], net: str) -> tuple[dict[str, Layer], set[str]]:
  """{our scope: layer} of a state dict, and the names that were used.

  A head that is not there is left out.

  Raises:
    ValueError: a layer of the body is missing.
  """
  read: dict[str, Layer] = {}
  used: set[str] = set()
  heads = tuple(f'{row}/' for row in get_net(net).head.weights)
  for scope, layer in names_for(net).items():
    keys = _keys(layer, has_norm=f'{layer}.weight' not in tensors)
    missing = [key for key in keys.values() if key not in tensors]
    if missing and scope.startswith(heads):
      continue
    if missing:
      raise ValueError(
        f'it has no {missing[0]}, which timm has for {net}{_looks_like(tensors, net)}'
      )
    read[scope] = _from_torch({leaf: tensors[key] for leaf, key in keys.items()})
    used.update(keys.values())
  return read, used


def _looks_like(tensors: Mapping[str, np.ndarray], net: str) -> str:
  for other, rows in NAMES.items():
    if other != net and f'{rows["Conv2d_1a_3x3"][0]}.conv.weight' in tensors:
      return f'; its names are those of {other}'
  return f': its first names are {", ".join(list(tensors)[:3])}'


def tensors(layers: Mapping[str, Layer], net: str) -> Tensors:
  """The state dict for {our scope: layer}; layers that timm does not have are left out."""
  state: Tensors = {}
  for scope, name in names_for(net).items():
    if scope not in layers:
      continue
    layer = layers[scope]
    keys = _keys(name, has_norm=layer.norm is not None)
    state |= {keys[leaf]: value for leaf, value in _to_torch(layer).items()}
    if layer.norm is not None:
      state[f'{name}.bn.num_batches_tracked'] = np.zeros((), np.int64)
  return state


def _keys(layer: str, *, has_norm: bool) -> dict[str, str]:
  if not has_norm:
    return {'weights': f'{layer}.weight', 'biases': f'{layer}.bias'}
  return {
    'weights': f'{layer}.conv.weight',
    'gamma': f'{layer}.bn.weight',
    'beta': f'{layer}.bn.bias',
    'mean': f'{layer}.bn.running_mean',
    'variance': f'{layer}.bn.running_var',
  }


def _from_torch(leaves: Mapping[str, np.ndarray]) -> Layer:
  """OIHW -> HWIO, [out, in] -> [in, out]."""
  weights = leaves['weights']
  weights = weights.transpose(2, 3, 1, 0) if weights.ndim == 4 else weights.T
  return Layer.of({**leaves, 'weights': weights})


def _to_torch(layer: Layer) -> dict[str, np.ndarray]:
  weights = layer.weights
  weights = weights.transpose(3, 2, 0, 1) if weights.ndim == 4 else weights.T
  gamma = {} if layer.norm is None else {'gamma': np.ones_like(layer.norm.beta)}
  return {**gamma, **layer.leaves(), 'weights': np.ascontiguousarray(weights)}


def _safetensors(path: str | os.PathLike) -> ModuleType:
  try:
    import safetensors.numpy
  except ImportError as error:
    raise ValueError(
      f"{path}: .safetensors files need a package: pip install 'slim-inception[safetensors]'"
    ) from error
  return safetensors


def read_safetensors(path: str) -> Tensors:
  """{name: array} of a .safetensors file; needs no PyTorch.

  Raises:
    ValueError: it is damaged, or the package safetensors is not installed.
  """
  safetensors = _safetensors(path)
  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} is damaged: {error}') from error


def write_safetensors(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
  """Writes {name: array}.

  Raises:
    OSError: the file cannot be written.
    ValueError: the package safetensors is not installed.
  """
  safetensors = _safetensors(path)
  try:
    # PyTorch's own readers ask for the format.
    safetensors.numpy.save_file(dict(state), path, metadata={'format': 'pt'})
  except safetensors.SafetensorError as error:  # the disk is full
    raise OSError(f'{path} cannot be written: {error}') from error


def read_pytorch(path: str) -> Tensors:
  """{name: array} of torch.save's file: a state dict, or one within a training checkpoint.

  Nothing in it is run: PyTorch's unpickler for weights alone reads it.

  Raises:
    ValueError: it holds something else than tensors, is damaged, or PyTorch is not installed.
  """
  try:
    import torch
  except ImportError as error:
    raise ValueError(
      f'{path}: reading .pth needs PyTorch: pip install torch (or save the weights as .safetensors)'
    ) from error
  try:
    content = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError as error:
    raise ValueError(
      f'{path} holds Python objects besides tensors, and opening those can run code: save '
      'model.state_dict() alone'
    ) from error
  except (RuntimeError, EOFError, OSError, ValueError) as error:
    lines = str(error).splitlines() or [type(error).__name__]
    raise ValueError(f'{path} is damaged: {lines[0]}') from error
  for key in ('state_dict', 'model'):  # what training scripts save
    if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
      content = content[key]
  is_state = isinstance(content, Mapping) and any(torch.is_tensor(v) for v in content.values())
  if not is_state:
    raise ValueError(f'{path} holds no state dict, but {type(content).__name__}')
  return {
    str(name).removeprefix('module.'): (  # DataParallel's prefix
      value.detach().to(torch.float32) if value.is_floating_point() else value
    ).numpy()
    for name, value in content.items()
    if torch.is_tensor(value)
  }
