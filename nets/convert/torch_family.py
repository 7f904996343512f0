"""timm's nets, torchvision's, and facenet-pytorch's and deepface's inception_resnet_v1.

timm took inception_v3 over from torchvision: both have the same names. Batch norm has gamma (1 in
the weights that came from slim), kernels are [out, in, height, width].
"""

import argparse
import json
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from ..registry import get_net
from . import fid, others, resnet_names
from .layers import Layer
from .stored import Arrays, Images, Sorted, Stored, check_size


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

# {net: {our row: the layers of it in our order}}; 'a b': the weights of a, the batch norm b.
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
  'inception_resnet_v1': {
    'Conv2d_1a_3x3': ('conv2d_1a',),
    'Conv2d_2a_3x3': ('conv2d_2a',),
    'Conv2d_2b_3x3': ('conv2d_2b',),
    'Conv2d_3b_1x1': ('conv2d_3b',),
    'Conv2d_4a_3x3': ('conv2d_4a',),
    'Conv2d_4b_3x3': ('conv2d_4b',),
    **{f'Repeat/block35_{i + 1}': _under(f'repeat_1.{i}', _RESNET_35) for i in range(5)},
    'Mixed_6a': _under('mixed_6a', _V4_REDUCTION_A),
    **{f'Repeat_1/block17_{i + 1}': _under(f'repeat_2.{i}', _RESNET_17_8) for i in range(10)},
    'Mixed_7a': _under('mixed_7a', _RESNET_REDUCTION_B),
    **{f'Repeat_2/block8_{i + 1}': _under(f'repeat_3.{i}', _RESNET_17_8) for i in range(5)},
    'Block8': _under('block8', _RESNET_17_8),
    'Bottleneck': ('last_linear last_bn',),
    'Logits': ('logits',),
  },
}
# pytorch-fid's, a torchvision Inception-v3 with other pools and outputs.
NAMES[fid.NET] = {row: names for row, names in NAMES['inception_v3'].items() if row != 'AuxLogits'}
NAMES['inception_v1'] = resnet_names.torch_googlenet()
NAMES |= {f'resnet_v1_5_{layers}': resnet_names.torch_resnet(layers) for layers in (50, 101, 152)}
LIBRARIES = dict.fromkeys(NAMES, 'timm') | {
  'inception_resnet_v1': 'facenet-pytorch',
  'inception_v1': 'torchvision',
  fid.NET: 'pytorch-fid',
}
_IMAGES = {'inception_resnet_v1': Images((127.5,), (128.0,))}  # what nets are given there, if said
PADDINGS = {'inception_v1': 'torch'}  # nets that take the argument `padding`
# {net: {what layers begin with: why slim's net does not have them}}
_WITHOUT = {'inception_v1': {'aux': "auxiliary classifiers, which slim's net does not have"}}

COUNTING_PADDING = ('inception_v3',)  # nets whose average pools divide by the whole window


# Of the numbers in a .safetensors.
DTYPES: dict[str, Any] = {
  'float32': np.float32,
  'float16': np.float16,
  'bfloat16': tf.bfloat16.as_numpy_dtype,
}
# Other names of the same layers: {net: [(in others' names, in those above)]}, one after the other.
_ALIASES: dict[str, tuple[tuple[str, str], ...]] = {
  'inception_resnet_v2': ((r'last_linear(?=\.)', 'classif'),),  # Cadene's pretrained-models
}
# deepface's (2026, for PyTorch), whose net is given what the user chooses.
_DEEPFACES_FIRST = 'conv2d_1a_3x3.conv.weight'
_ALIASES['inception_resnet_v1'] = (
  (r'(conv2d_\d[ab])_\dx\d\.', r'\1.'),
  (r'block35\.', 'repeat_1.'),
  (r'block17\.', 'repeat_2.'),
  (r'block8\.5\.', 'block8.'),
  (r'block8\.(?=\d)', 'repeat_3.'),
  (r'\bbranch_(?=\d)', 'branch'),
  (r'\.up\.', '.conv2d.'),
  (r'bottleneck\.', 'last_linear.'),
  (r'bottleneck_bn\.', 'last_bn.'),
)

# What training scripts call the weights; timm's and torchvision's averages of them.
_STATES = ('state_dict', 'model_state_dict', 'model', 'net')
_AVERAGES = ('state_dict_ema', 'model_ema')
_N_AVERAGED = 'n_averaged'  # of torch.optim.swa_utils.AveragedModel
# {the last part of a name: why it is none of the net's arrays}
_LEFT_OUT = {
  'num_batches_tracked': "PyTorch's counters",
  _N_AVERAGED: "PyTorch's counters",
  'total_ops': "a profiler's counters",
  'total_params': "a profiler's counters",
}
# NumPy's numbers, as an accuracy that a training script saves is one: {name in a pickle}.
_NUMPYS = ('numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar', 'numpy.dtype')
_NUMBERS = re.compile(
  r'(F(16|32|64)|BF16|[IU](8|16|32|64)|BOOL)$'
)  # of safetensors, that NumPy has


def names_for(net: str) -> dict[str, str]:
  """{our scope: the layer in PyTorch's libraries}.

  Raises:
    ValueError: none of them has the net.
  """
  if net not in NAMES:
    known = ', '.join(f'{name} ({library})' for name, library in LIBRARIES.items())
    raise ValueError(f"{net} is none of the nets of PyTorch's libraries that are known: {known}")
  theirs = NAMES[net]  # without heads that it does not have
  return {
    scope: layer
    for row, scopes in get_net(net).weighted.items()
    if row in theirs
    for scope, layer in zip(scopes, theirs[row], strict=True)
  }


def images_of(net: str, names: Iterable[str] = ()) -> Images | None:
  """What a library gives the net whose arrays have these names; None where it does not say."""
  return None if any(map(_is_deepfaces, names)) else _IMAGES.get(net)


def embedding_width(path: str) -> int | None:
  """The width of the embedding that deepface's net in a file of PyTorch has; None of others.

  The numbers are not read, except of files older than PyTorch 1.6.
  """
  try:
    _, tensors = _tensors(path, is_mapped=zipfile.is_zipfile(path))
  except ValueError:  # what is wrong with it will be told by who reads it
    return None
  weights = [tensor for name, tensor in tensors.items() if name.endswith('bottleneck.weight')]
  if not weights or not weights[0].ndim or not any(map(_is_deepfaces, tensors)):
    return None
  return len(weights[0])


def _is_deepfaces(name: str) -> bool:
  return f'.{name}'.endswith(f'.{_DEEPFACES_FIRST}')


def layers(arrays: Mapping[str, np.ndarray], net: str) -> Sorted:
  """The layers of a state dict, and what else is in it.

  Wrappers put prefixes before all names ('module.', '_orig_mod.', 'model.'): they are taken off. A
  head that is not there is left out.

  Raises:
    ValueError: a layer of the body is missing, or it is the net of FID and `net` is not, or the
      other way round.
  """
  theirs = names_for(net)
  is_fid = fid.is_fid_inception({name: array.shape for name, array in arrays.items()})
  if is_fid and net != fid.NET:
    raise ValueError(f'it is {fid.TEXT}')
  prefix, originals = _unwrapped(arrays, net)
  if net == fid.NET and _is_of_imagenet(originals, arrays):
    raise ValueError(f'it is inception_v3, of the same shapes; {fid.WHERE}')
  within = {name: arrays[original] for name, original in originals.items()}
  read: dict[str, Layer] = {}
  used: set[str] = set()
  heads = tuple(path for paths in get_net(net).head.weights.values() for path in paths)
  for scope, layer in theirs.items():
    keys = _keys(layer, has_norm=f'{layer}.weight' not in within)
    missing = [key for key in keys.values() if key not in within]
    if missing and scope.startswith(heads):
      continue
    if missing:
      library, others = LIBRARIES[net], _looks_like(within, net)
      raise ValueError(f'it has no {missing[0]}, which {library} has for {net}{others}')
    read[scope] = _from_torch({leaf: within[key] for leaf, key in keys.items()})
    used.update(originals[key] for key in keys.values())
  inside, without = set(originals.values()), _WITHOUT.get(net, {})
  left_out, unknown = {}, []
  for name in sorted(set(arrays) - used):
    rule = _LEFT_OUT.get(name.rpartition('.')[2]) or next(
      (why for start, why in without.items() if name.startswith(f'{prefix}{start}')), None
    )
    if rule is None and name not in inside:
      rule = f'not under {prefix}'
    if rule:
      left_out[name] = rule
    else:
      unknown.append(name)
  return Sorted(read, left_out, tuple(unknown))


def _is_of_imagenet(originals: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> bool:
  """Whether an Inception-v3 of torchvision's names has its auxiliary head or ImageNet's classes."""
  logits = originals.get('fc.weight')
  has_auxiliary = any(name.startswith('AuxLogits.') for name in originals)
  return has_auxiliary or (logits is not None and len(arrays[logits]) in (1000, 1001))


def _unwrapped(names: Iterable[str], net: str) -> tuple[str, dict[str, str]]:
  """The prefix of all names of the net, and {name without it: name}."""
  first = _keys(names_for(net)[get_net(net).body[0].scope], has_norm=True)['weights']
  clean = {name.replace('_orig_mod.', ''): name for name in names}  # torch.compile's, anywhere
  for theirs, ours in _ALIASES.get(net, ()):
    clean = {re.sub(theirs, ours, name): original for name, original in clean.items()}
  prefixes = {name.removesuffix(first) for name in clean if f'.{name}'.endswith(f'.{first}')}
  if len(prefixes) > 1 and '' not in prefixes:
    several = ', '.join(sorted(prefixes))
    raise ValueError(
      f'it holds several such nets, under {several}: --source_scope={min(prefixes)} takes one'
    )
  prefix = '' if '' in prefixes else next(iter(prefixes), '')
  return prefix, {
    name.removeprefix(prefix): original
    for name, original in clean.items()
    if name.startswith(prefix)
  }


def _looks_like(names: Collection[str], net: str) -> str:
  """What the names of a state dict are, that has not all of a net's."""
  for other in NAMES:
    firsts = {
      row[0] for unit, row in NAMES[other].items() if unit not in get_net(other).head.weights
    }
    if other != net and all(_keys(first, has_norm=True)['weights'] in names for first in firsts):
      return f'; its names are those of {other}'
  if other := others.of_names(names):
    return f'; it is {other}'
  return f': its first names are {", ".join(list(names)[:3])}'


def tensors(layers: Mapping[str, Layer], net: str) -> Arrays:
  """The state dict for {our scope: layer}; layers that the library does not have are left out."""
  state: Arrays = {}
  for scope, name in names_for(net).items():
    if scope not in layers:
      continue
    layer = layers[scope]
    keys = _keys(name, has_norm=layer.norm is not None)
    state |= {keys[leaf]: value for leaf, value in _to_torch(layer).items()}
    if layer.norm is not None:
      counter = keys['mean'].replace('running_mean', 'num_batches_tracked')
      state[counter] = np.zeros((), np.int64)
  return state


def _keys(layer: str, *, has_norm: bool) -> dict[str, str]:
  weights, _, norm = layer.partition(' ')
  if not has_norm:
    return {'weights': f'{weights}.weight', 'biases': f'{weights}.bias'}
  weights, norm = (weights, norm) if norm else (f'{layer}.conv', f'{layer}.bn')
  return {
    'weights': f'{weights}.weight',
    'gamma': f'{norm}.weight',
    'beta': f'{norm}.bias',
    'mean': f'{norm}.running_mean',
    'variance': f'{norm}.running_var',
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


def read_safetensors(path: str) -> Stored:
  """What a .safetensors file holds; needs no PyTorch.

  Raises:
    ValueError: it is damaged, has numbers of a type that NumPy does not have, or the package
      safetensors is not installed.
  """
  safetensors = _safetensors(path)
  try:
    with safetensors.safe_open(path, framework='np') as file:  # compares sizes with the file's
      types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
      odd = next((name for name, kind in types.items() if not _NUMBERS.match(kind)), None)
      if odd is not None:
        raise ValueError(
          f'{path}: {odd} is of type {types[odd]}, which is not read: save float32, float16 or '
          'bfloat16'
        )
      arrays = {name: file.get_tensor(name) for name in types}
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  return Stored(arrays, averages=_N_AVERAGED in arrays, images=_images_beside(path))


def read_sharded_safetensors(path: str) -> Stored:
  """As `read_safetensors`, of several files, as Hugging Face's libraries save large models.

  Args:
    path: the index, NAME.safetensors.index.json, which says which file has which array.

  Raises:
    ValueError: it is damaged, or a file that it names is not there or lacks an array.
  """
  names: dict[str, list[str]] = {}
  try:
    for name, file in json.loads(Path(path).read_text('utf-8'))['weight_map'].items():
      names.setdefault(file, []).append(name)
    shards = {Path(path).with_name(file): names[file] for file in sorted(names)}
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from error
  arrays: Arrays = {}
  for shard, listed in shards.items():
    if not shard.is_file():
      raise ValueError(f'{path} names {shard.name}, which is not beside it')
    stored = read_safetensors(str(shard)).arrays
    if missing := [name for name in listed if name not in stored]:
      raise ValueError(f'{path} says that {shard.name} has {missing[0]}, which it has not')
    arrays |= {name: stored[name] for name in listed}
  return Stored(arrays, averages=_N_AVERAGED in arrays, images=_images_beside(path))


def write_safetensors(
  path: str | os.PathLike, state: Mapping[str, np.ndarray], dtype: str = 'float32'
) -> None:
  """Writes {name: array}.

  Args:
    path: the file.
    state: the arrays.
    dtype: a key of `DTYPES`, of what is no integer.

  Raises:
    OSError: the file cannot be written.
    ValueError: the package safetensors is not installed, or float16 does not reach so far.
  """
  safetensors = _safetensors(path)
  state = {name: _as_type(name, array, dtype) for name, array in state.items()}
  try:
    # PyTorch's own readers ask for the format.
    safetensors.numpy.save_file(dict(state), path, metadata={'format': 'pt'})
  except safetensors.SafetensorError as error:  # the disk is full
    raise OSError(f'{path} cannot be written: {error}') from error


def _as_type(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  """An array of weights in one of `DTYPES`; integers as they are."""
  if array.dtype.kind != 'f':
    return array
  with np.errstate(over='ignore'):
    converted = array.astype(DTYPES[dtype])
  if np.isfinite(array).all() and not np.isfinite(converted.astype(np.float32)).all():
    most = np.abs(array).max()
    raise ValueError(
      f'{name} reaches {most:.6g}, more than {dtype} holds: choose bfloat16 or float32'
    )
  return converted


class _PassedOver:
  """Stands for what a pickle has of NumPy: takes the arguments, and calls nothing."""

  def __init__(self, *_: Any):
    pass

  def __setstate__(self, _: Any) -> None:
    pass


def read_pytorch(path: str, use_ema: bool | None = None) -> Stored:
  """What torch.save's file holds: a state dict, or one within a training checkpoint.

  Nothing in it is run: PyTorch's unpickler for weights alone reads it. Besides tensors and plain
  values it may hold the flags of a training (`argparse.Namespace`) and numbers of NumPy, which are
  passed over.

  Args:
    path: the file.
    use_ema: whether to take the moving averages of the weights that timm's and torchvision's
      scripts save beside them; None: if there are any, as timm does.

  Raises:
    ValueError: it holds something else than tensors, is damaged, or PyTorch is not installed.
  """
  key, tensors = _tensors(path, use_ema)
  try:
    arrays = {name: _as_array(name, tensor) for name, tensor in tensors.items()}
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  averages = key in _AVERAGES or _N_AVERAGED in arrays
  return Stored(arrays, averages=averages, images=_images_beside(path))


def _tensors(
  path: str, use_ema: bool | None = None, is_mapped: bool = False
) -> tuple[str, dict[str, Any]]:
  """The key of the state dict in a file, '' at the top, and its tensors by name.

  Args:
    path, use_ema: as of `read_pytorch`, which raises the same.
    is_mapped: the file is mapped into memory: what is not looked at is not read.
  """
  try:
    import torch
  except ImportError as error:
    raise ValueError(
      f'{path}: reading .pth needs PyTorch: pip install torch (or save the weights as .safetensors)'
    ) from error
  try:
    # A Namespace of flags is a bag of values; what there is of NumPy is replaced, so not called.
    harmless = [argparse.Namespace, *((_PassedOver, name) for name in _NUMPYS)]
    with torch.serialization.safe_globals(harmless):
      content = torch.load(path, map_location='cpu', weights_only=True, mmap=is_mapped)
  except pickle.UnpicklingError as error:
    unsafe = re.search(r'GLOBAL ([\w.]+)', str(error))
    if unsafe is None:
      # What stands before it is advice to open the file all the same.
      _, _, reason = str(error).rpartition('WeightsUnpickler error:')
      raise ValueError(f'{path} is damaged, or no weights: {_first_line(reason)}') from error
    raise ValueError(
      f'{path} holds Python objects besides tensors ({unsafe[1]}), and opening those can run code: '
      'save model.state_dict() alone'
    ) from error
  except (RuntimeError, EOFError, OSError, ValueError) as error:
    raise ValueError(
      f'{path} is damaged: {_first_line(str(error) or type(error).__name__)}'
    ) from error
  key, state = _state_in(content, use_ema)
  if not any(torch.is_tensor(value) for value in state.values()):
    other = others.of_names([str(name) for name in state])
    kind = f'is {other}' if other else f'holds no state dict, but {type(content).__name__}'
    raise ValueError(f'{path} {kind}{"" if other else _some_keys(content)}')
  return key, {str(name): value for name, value in state.items() if torch.is_tensor(value)}


def _state_in(content: Any, use_ema: bool | None) -> tuple[str, Mapping[str, Any]]:
  """The state dict in what was loaded, and the key that it is under, '' at the top."""
  order = (*_STATES, *_AVERAGES) if use_ema is False else (*_AVERAGES, *_STATES)
  key, state = '', content if isinstance(content, Mapping) else {}
  while inner := next((key for key in order if isinstance(state.get(key), Mapping)), ''):
    key, state = key if key in _AVERAGES else inner, state[inner]
  return key, state


def _some_keys(content: Any) -> str:
  keys = list(content) if isinstance(content, Mapping) else []
  return f' of {", ".join(map(str, keys[:5]))}' if keys else ''


def _as_array(name: str, tensor: Any) -> np.ndarray:
  import torch

  if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
    kind = f'{tensor.layout}, {tensor.dtype}'.replace('torch.', '')
    raise ValueError(f'{name} is a tensor of {kind}; those of plain real numbers are read')
  # What is stored once can be declared many times over, by strides of 0.
  stored = tensor.untyped_storage().nbytes()
  check_size(tensor.numel() * tensor.element_size(), stored, name)
  tensor = tensor.detach()
  return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).numpy()


def _first_line(text: str) -> str:
  return next(iter(text.strip().splitlines()), '')


_OF_THE_HUB = 'model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin'


def _images_beside(path: str) -> Images | None:
  """What timm's config.json beside a file of the Hugging Face Hub says of the images.

  Raises:
    ValueError: the file is no JSON.
  """
  config = Path(path).with_name('config.json')
  if Path(path).name not in _OF_THE_HUB or not config.is_file():
    return None
  try:
    content = json.loads(config.read_text('utf-8'))
    values = content['pretrained_cfg']
    mean, std = ([255.0 * float(x) for x in values[key]] for key in ('mean', 'std'))
  except (KeyError, TypeError):  # not timm's
    return None
  except ValueError as error:
    raise ValueError(f'{config} is damaged: {error}') from error
  return Images(tuple(mean), tuple(std))
