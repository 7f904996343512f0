"""Keras Applications' InceptionV3 and InceptionResNetV2: .h5, .weights.h5 and .keras files.

Read with h5py alone: nothing that the file's configuration describes is built or run. Keras numbers
its layers in the order of making them, which is slim's; whole models and weights, of Keras 2 and 3,
with and without top, alone or within another model differ only in where the arrays lie.

As in slim's nets batch norm has epsilon 0.001 and no gamma, images are in [-1, 1] and average
pools do not count the padding. There is no auxiliary head.
"""

import contextlib
import io
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np

from ..nets_factory import get_net
from .layers import Layer, Norm

NETS = {'inception_v3': 'InceptionV3', 'inception_resnet_v2': 'InceptionResNetV2'}
_WEIGHTS_IN_ZIP = 'model.weights.h5'
_AUTOMATIC = re.compile(r'(conv2d|batch_normalization)(?:_(\d+))?$')

# Layers that have a name of their own: {our scope: the convolution}; its batch norm adds '_bn'.
_NAMED = {
  **{f'Repeat/block35_{i}/Conv2d_1x1': f'block35_{i}_conv' for i in range(1, 11)},
  **{f'Repeat_1/block17_{i}/Conv2d_1x1': f'block17_{i}_conv' for i in range(1, 21)},
  **{f'Repeat_2/block8_{i}/Conv2d_1x1': f'block8_{i}_conv' for i in range(1, 10)},
  'Block8/Conv2d_1x1': 'block8_10_conv',
  'Conv2d_7b_1x1': 'conv_7b',
}
_NORMS = {3: ('beta', 'mean', 'variance'), 4: ('gamma', 'beta', 'mean', 'variance')}


def names_for(net: str) -> dict[str, tuple[str, str]]:
  """{our scope: (convolution, batch norm)}, the automatic names numbered from 0.

  Raises:
    ValueError: Keras Applications does not have the net.
  """
  if net not in NETS:
    raise ValueError(f'Keras Applications has no {net}; it has {", ".join(NETS)}')
  head, names, number = get_net(net).head, {}, 0
  for row, scopes in get_net(net).weighted.items():
    for scope in scopes:
      if scope == head.logits_path:
        names[scope] = ('predictions', '')
      elif scope in _NAMED:
        names[scope] = (_NAMED[scope], f'{_NAMED[scope]}_bn')
      elif row not in head.weights:
        names[scope] = (f'conv2d_{number}', f'batch_normalization_{number}')
        number += 1
  return names


def layers(tensors: Mapping[str, np.ndarray], net: str) -> tuple[dict[str, Layer], set[str]]:
  """{our scope: layer} of what `read_h5` gives, and the names that were used.

  Without top there is no layer 'Logits'; a head that is not called 'predictions' is taken to be the
  only dense layer there is.

  Raises:
    ValueError: it is another net.
  """
  by_layer: dict[str, list[str]] = defaultdict(list)
  for name in tensors:
    by_layer[name.rsplit('/', 1)[0]].append(name)
  by_layer = {new: by_layer[name] for name, new in _new_names(by_layer).items()}
  names = names_for(net)
  theirs = sum(name.startswith('conv2d_') for name, _ in names.values())
  there = sum(name.startswith('conv2d_') for name in by_layer)
  if there != theirs:
    raise ValueError(
      f'{NETS[net]} of Keras Applications has {theirs} unnamed convolutions, this one {there}'
    )
  read: dict[str, Layer] = {}
  used: set[str] = set()
  for scope, (main, norm) in names.items():
    if main == 'predictions' and main not in by_layer:
      dense = _only_dense_layer(tensors, by_layer)
      if dense is None:
        continue
      main = dense
    if main not in by_layer:
      raise ValueError(f'it has no {main}, which {NETS[net]} of Keras Applications has')
    weights, *biases = (tensors[name] for name in by_layer[main])
    values = [tensors[name] for name in by_layer.get(norm, ())]
    if values and len(values) not in _NORMS:
      raise ValueError(f'{norm} has {len(values)} arrays; a batch norm has 3, or 4 with gamma')
    read[scope] = Layer(
      weights,
      biases=biases[0] if biases else None,
      norm=Norm(**dict(zip(_NORMS[len(values)], values, strict=True))) if values else None,
    )
    used.update(by_layer[main], by_layer.get(norm, ()))
  return read, used


def _new_names(names: Collection[str]) -> dict[str, str]:
  """Automatic names numbered from 0: those of a session's second model begin anywhere."""
  automatic = defaultdict(list)
  for name in names:
    if match := _AUTOMATIC.fullmatch(name):
      automatic[match[1]].append((int(match[2] or 0), name))
  new_names = {
    name: f'{kind}_{i}'
    for kind, numbered in automatic.items()
    for i, (_, name) in enumerate(sorted(numbered))
  }
  return {name: new_names.get(name, name) for name in names}


def _only_dense_layer(
  tensors: Mapping[str, np.ndarray], by_layer: Mapping[str, list[str]]
) -> str | None:
  dense = [layer for layer, arrays in by_layer.items() if tensors[arrays[0]].ndim == 2]
  if len(dense) > 1:
    raise ValueError(f'it has several dense layers: {", ".join(dense)}; one head is expected')
  return dense[0] if dense else None


def read_h5(
  path: str | os.PathLike | io.BytesIO, net: str, name: str = ''
) -> dict[str, np.ndarray]:
  """{layer/number: array} of a .h5 or .weights.h5 file of Keras 2 or 3.

  Args:
    path: the file, or its content.
    net: whose layers are looked for.
    name: what to call the file in an error.

  Raises:
    ValueError: it is damaged, or no weights of Keras.
  """
  import h5py

  name = name or str(path)
  try:
    with h5py.File(path, 'r') as file:
      root = file.get('model_weights', file)
      is_keras_2 = any(attribute.startswith('layer_names') for attribute in root.attrs)
      arrays = _read_keras_2(root) if is_keras_2 else _read_keras_3(file, net)
  except (OSError, KeyError, RuntimeError) as error:
    raise ValueError(f'{name} is damaged: {error}') from error
  if not arrays:
    raise ValueError(f'{name} is an HDF5 file, but holds no weights of Keras')
  return arrays


def _read_keras_2(root) -> dict[str, np.ndarray]:
  """Groups of layers, whose attribute lists the arrays: 'conv2d_1/kernel:0', ..."""
  arrays = {}
  for group_name, group in root.items():
    numbers: dict[str, int] = defaultdict(int)
    for path in group.attrs.get('weight_names', ()):
      path = path.decode() if isinstance(path, bytes) else path
      layer = f'{group_name}/{path}'.split('/')[-2]  # of a model within the model too
      arrays[f'{layer}/{numbers[layer]}'] = np.asarray(group[path], np.float32)
      numbers[layer] += 1
  return arrays


def _read_keras_3(file, net: str) -> dict[str, np.ndarray]:
  """Groups 'layers/<class>_<i>/vars', with arrays '0', ... and the layer's name as attribute."""
  items = []

  def visit(path: str, item) -> None:
    if path.endswith('/vars') and len(item) and not path.startswith('optimizer'):
      items.append(item)

  file.visititems(visit)
  names = [item.attrs.get('name') for item in items]
  if None in names:  # the first versions of Keras 3 left it out
    by_order = _names_by_order(net)
    groups = [item.parent.name.rsplit('/', 1)[-1] for item in items]
    names = [by_order.get(group, group) for group in groups]
  return {
    f'{name}/{i}': np.asarray(item[str(i)], np.float32)
    for name, item in zip(names, items, strict=True)
    for i in range(len(item))
  }


def _names_by_order(net: str) -> dict[str, str]:
  """{the name of a group: the layer's}: groups count the layers of a class in Keras' order."""
  counts: dict[str, int] = defaultdict(int)
  names = {}
  for layer in _application(net).layers:
    kind = {'Conv2D': 'conv2d', 'BatchNormalization': 'batch_normalization', 'Dense': 'dense'}.get(
      type(layer).__name__
    )
    if kind:
      names[f'{kind}_{counts[kind]}' if counts[kind] else kind] = layer.name
      counts[kind] += 1
  return names


def _application(net: str, **kwargs):
  import tensorflow as tf

  names_for(net)  # says so if there is none
  return getattr(tf.keras.applications, NETS[net])(weights=None, **kwargs)


def read_keras(path: str | os.PathLike, net: str) -> dict[str, np.ndarray]:
  """As `read_h5`, of a .keras file: a zip file with the weights in it.

  Raises:
    ValueError: it is damaged.
  """
  try:
    with zipfile.ZipFile(path) as file:
      content = file.read(_WEIGHTS_IN_ZIP)
  except (zipfile.BadZipFile, EOFError, KeyError) as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  return read_h5(io.BytesIO(content), net, f'{path}: {_WEIGHTS_IN_ZIP}')


def write(path: str | os.PathLike, layers: Mapping[str, Layer], net: str) -> None:
  """Writes {our scope: layer} as .weights.h5, by Keras itself; other layers are left out.

  Args:
    path: the file, whatever it is called.
    layers: without gamma; without 'Logits' the file is that of `include_top=False`.
    net: its name.
  """
  names = names_for(net)
  head = layers.get(next(reversed(names)))
  top = {'include_top': False} if head is None else {'classes': head.weights.shape[-1]}
  model = _application(net, **top)
  by_name = {layer.name: layer for layer in model.layers}
  by_name = {new: by_name[name] for name, new in _new_names(by_name).items()}
  for scope, (main, norm) in names.items():
    if scope not in layers:
      continue
    layer = layers[scope]
    biases = [] if layer.biases is None else [layer.biases]
    by_name[main].set_weights([layer.weights, *biases])
    if layer.norm is not None:
      by_name[norm].set_weights([layer.norm.beta, layer.norm.mean, layer.norm.variance])
  named = f'{os.fspath(path)}.weights.h5'  # Keras wants names to end so
  try:
    model.save_weights(named)
    os.replace(named, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(named)
