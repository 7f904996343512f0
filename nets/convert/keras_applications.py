"""Keras Applications' Inception nets and ResNets: .h5, .weights.h5 and .keras files; facenet's net.

Read with h5py alone: nothing that the file's configuration describes is built or run; of a whole
model it tells what the arrays do not, the layers without weights. Keras numbers its layers in the
order of making them, which is slim's; whole models and weights, of Keras 2 and 3, with and without
top, alone or within another model differ only in where the arrays lie.

As in slim's nets batch norm has epsilon 0.001 and no gamma, images are in [-1, 1] and average
pools do not count the padding. There is no auxiliary head. The ResNets have biases before batch
norm, an epsilon of 1.001e-5 where slim's have 1e-5, and pad the first pooling by zeros on all sides
(`padding='keras'`); ResNet50 to 152 are for blue, green and red of 0..255 less their mean.

Inception-ResNet-v1 is deepface's and keras-facenet's: all layers have names, and it ends in an
embedding.
"""

import contextlib
import io
import json
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .. import checkpoints
from ..registry import get_net
from . import facenet_names, object_names, resnet_names
from .layers import NO_WEIGHTS, Layer, Norm, add_to_variance, fold_biases
from .stored import Arrays, Images, Sorted, Stored, check_size

NETS = {
  'inception_v3': 'InceptionV3',
  'inception_resnet_v2': 'InceptionResNetV2',
  **{f'resnet_v1_{layers}': f'ResNet{layers}' for layers in (50, 101, 152)},
  **{f'resnet_v2_{layers}': f'ResNet{layers}V2' for layers in (50, 101, 152)},
}
_TITLES = {net: f'{title} of Keras Applications' for net, title in NETS.items()} | {
  facenet_names.NET: "deepface's or keras-facenet's InceptionResNetV1"
}
PADDINGS = {net: 'keras' for net in NETS if net.startswith('resnet')}  # the argument `padding`
BGR = tuple(net for net in NETS if net.startswith('resnet_v1'))
_EPSILON = 1e-8  # by which that of the ResNets is greater than slim's
WEIGHTS_IN_ZIP, _CONFIG_IN_ZIP = 'model.weights.h5', 'config.json'
_AUTOMATIC = re.compile(r'(conv2d|batch_normalization)(?:_(\d+))?$')

# Layers that have a name of their own: {our scope: the convolution}; its batch norm adds '_bn'.
_NAMED = {
  **{f'Repeat/block35_{i}/Conv2d_1x1': f'block35_{i}_conv' for i in range(1, 11)},
  **{f'Repeat_1/block17_{i}/Conv2d_1x1': f'block17_{i}_conv' for i in range(1, 21)},
  **{f'Repeat_2/block8_{i}/Conv2d_1x1': f'block8_{i}_conv' for i in range(1, 10)},
  'Block8/Conv2d_1x1': 'block8_10_conv',
  'Conv2d_7b_1x1': 'conv_7b',
}
# Layers without weights that the nets and a plain head have, or that do nothing at inference.
# fmt: off
_HARMLESS = (
  'Activation', 'ActivityRegularization', 'Add', 'AlphaDropout', 'AveragePooling2D',
  'BatchNormalization', 'Concatenate', 'Conv2D', 'CustomScaleLayer', 'Dense', 'Dropout', 'Flatten',
  'GaussianDropout', 'GaussianNoise', 'GlobalAveragePooling2D', 'InputLayer', 'Lambda',
  'MaxPooling2D', 'Reshape', 'Softmax', 'SpatialDropout2D', 'ZeroPadding2D',
)
# fmt: on
_BEFORE = ('InputLayer', 'Resizing', 'CenterCrop', 'Dropout', 'GaussianNoise', 'ZeroPadding2D')
_RANDOM = 'Random'  # how augmentation's layers begin, RandomFlip, ...
_MAX_POOLS = {net: 1 if net.startswith('resnet_v1_') else 4 for net in NETS}  # MaxPooling2D
_MAX_POOLS[facenet_names.NET] = 3
_PIXEL_RANGE = 20.0  # pixels in 0..255 lie within such a range once normalized; else they were not
_MAIN_WEIGHTS = {'weights': 'kernel', 'biases': 'bias'}
_NORM_WEIGHTS = {'beta': 'beta', 'mean': 'moving_mean', 'variance': 'moving_variance'}
_IN_ORDER = ('kernel', 'bias', 'gamma', 'beta', 'moving_mean', 'moving_variance')  # of a layer
_NORMS = {3: ('beta', 'mean', 'variance'), 4: ('gamma', 'beta', 'mean', 'variance')}


def names_for(net: str) -> dict[str, tuple[str, str]]:
  """{our scope: (convolution, batch norm)}, '' for none, the automatic names numbered from 0.

  Raises:
    ValueError: Keras Applications does not have the net.
  """
  if net == facenet_names.NET:
    return facenet_names.keras()
  if net not in NETS:
    raise ValueError(f'Keras Applications has no {net}; it has {", ".join(NETS)}')
  if net in PADDINGS:
    return resnet_names.keras_resnet(
      int(net.rpartition('_')[2]), preactivate=net.startswith('resnet_v2')
    )
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


def layers(arrays: Mapping[str, np.ndarray], net: str) -> Sorted:
  """The layers of what `read_h5` gives, and what else is in it.

  Without top there is no layer 'Logits'; a head that is not called 'predictions' is taken to be the
  only dense layer there is. An embedding may be missing.

  Raises:
    ValueError: it is another net.
  """
  by_layer: dict[str, list[str]] = defaultdict(list)
  for name in arrays:
    by_layer[name.rsplit('/', 1)[0]].append(name)
  by_layer = {new: by_layer[name] for name, new in _new_names(by_layer).items()}
  names = names_for(net)
  theirs = sum(name.startswith('conv2d_') for name, _ in names.values())
  there = sum(name.startswith('conv2d_') for name in by_layer)
  if there != theirs:
    raise ValueError(f'{_TITLES[net]} has {theirs} unnamed convolutions, this one {there}')
  read: dict[str, Layer] = {}
  used: set[str] = set()
  for scope, (main, norm) in names.items():
    if main == 'predictions' and main not in by_layer:
      dense = [name for name, layer in by_layer.items() if arrays[layer[0]].ndim == 2]
      if len(dense) != 1:  # several are unknown, all of them
        continue
      main = dense[0]
    if (main or norm) not in by_layer:
      if scope in get_net(net).head.optional:
        continue
      raise ValueError(f'it has no {main or norm}, which {_TITLES[net]} has')
    weights, *biases = (arrays[name] for name in by_layer[main]) if main else (NO_WEIGHTS,)
    values = [arrays[name] for name in by_layer.get(norm, ())]
    if len(biases) > 1:
      raise ValueError(
        f'{main} has {len(biases) + 1} arrays; a convolution or dense layer has 1 or 2'
      )
    if values and len(values) not in _NORMS:
      raise ValueError(f'{norm} has {len(values)} arrays; a batch norm has 3, or 4 with gamma')
    layer = Layer(
      weights,
      biases=biases[0] if biases else None,
      norm=Norm(**dict(zip(_NORMS[len(values)], values, strict=True))) if values else None,
    )
    read[scope] = add_to_variance(fold_biases(layer), _EPSILON if net in PADDINGS else 0)
    used.update(by_layer.get(main, ()), by_layer.get(norm, ()))
  return Sorted(read, {}, tuple(name for name in arrays if name not in used))


def _new_names(names: Collection[str]) -> dict[str, str]:
  """deepface's names as keras-facenet's, and automatic names numbered from 0.

  Those of a session's second model begin anywhere.
  """
  automatic = defaultdict(list)
  for name in names:
    if match := _AUTOMATIC.fullmatch(name):
      automatic[match[1]].append((int(match[2] or 0), name))
  new_names = {
    name: f'{kind}_{i}'
    for kind, numbered in automatic.items()
    for i, (_, name) in enumerate(sorted(numbered))
  }
  return {name: new_names.get(name, facenet_names.as_ours(name)) for name in names}


def read_h5(
  path: str | os.PathLike | io.BytesIO, net: str, name: str = '', config: str | None = None
) -> Stored:
  """What a .h5 or .weights.h5 file of Keras 2 or 3 holds: arrays by 'layer/number'.

  Args:
    path: the file, or its content.
    net: whose layers are looked for.
    name: what to call the file in an error.
    config: the model's configuration, JSON, if that is not in the file.

  Raises:
    ValueError: it is damaged, or no weights of Keras.
  """
  size = path.getbuffer().nbytes if isinstance(path, io.BytesIO) else os.path.getsize(path)
  return _read([path], size, net, name or str(path), config)


def read_sharded(path: str, net: str) -> Stored:
  """As `read_h5`, of weights that Keras 3 wrote into several files (`max_shard_size`).

  Args:
    path: the index, NAME.weights.json, beside NAME_00000.weights.h5 and so on.
    net: whose layers are looked for.

  Raises:
    ValueError: it is damaged, or a file that it names is not there.
  """
  try:
    names = json.loads(Path(path).read_text('utf-8'))['weight_map'].values()
    listed = {name for each in names for name in ([each] if isinstance(each, str) else each)}
    shards = [Path(path).with_name(name) for name in sorted(listed)]  # ValueError if in a folder
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from error
  for shard in shards:
    if not shard.is_file():
      raise ValueError(f'{path} names {shard.name}, which is not beside it')
  return _read(shards, sum(os.path.getsize(shard) for shard in shards), net, path, None)


def _read(
  paths: Sequence[Path | str | os.PathLike | io.BytesIO],
  size: int,
  net: str,
  name: str,
  config: str | None,
) -> Stored:
  """What one file holds, or several of Keras 3 together."""
  import h5py

  left_out: dict[str, str] = {}
  with contextlib.ExitStack() as stack:
    files = []
    for path in paths:
      try:
        files.append(stack.enter_context(h5py.File(path, 'r')))
      except OSError as error:
        raise ValueError(f'{path if len(paths) > 1 else name} is damaged: {error}') from error
    try:
      root = files[0].get('model_weights', files[0])
      is_keras_2 = any(attribute.startswith('layer_names') for attribute in root.attrs)
      datasets = dict(_keras_2(root) if is_keras_2 else _keras_3(files, net))
      for key in [key for key in datasets if '/seed_generator' in datasets[key].name]:
        del datasets[key]
        left_out[key] = 'states of random numbers'
      of_training = ('optimizer', 'optimizer_weights')
      left_out |= {key: 'training' for key in of_training if any(key in file for file in files)}
      arrays = {key: _array(datasets[key], size, name) for key in datasets}
      config = files[0].attrs.get('model_config', config)
    except (OSError, KeyError, RuntimeError) as error:
      raise ValueError(f'{name} is damaged: {error}') from error
  if not arrays:
    raise ValueError(f'{name} is an HDF5 file, but holds no weights of Keras')
  stored = Stored(arrays, left_out)
  try:
    return _with_config(stored, json.loads(config), net) if config else stored
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f"{name}: the model's configuration is damaged: {error!r}") from error


def embedding_width(path: str | os.PathLike) -> int | None:
  """The width of the embedding that a .h5 file of facenet's net has; None without one."""
  import h5py

  shapes: list[tuple[int, ...]] = []

  def visit(name: str, item) -> None:
    shape = getattr(item, 'shape', ())
    if facenet_names.EMBEDDING in name.split('/') and len(shape) == 2:
      shapes.append(shape)

  with contextlib.suppress(OSError, RuntimeError), h5py.File(path, 'r') as file:
    file.visititems(visit)  # what is damaged will be told by `read_h5`
  return shapes[0][1] if shapes else None


def _array(dataset, size: int, name: str) -> np.ndarray:
  """The numbers of a data set in a file of `size` bytes, float32."""
  check_size(dataset.size * dataset.dtype.itemsize, size, f'{name}: {dataset.name}')
  if dataset.attrs.get('dtype') == 'bfloat16':  # HDF5 has no such type: opaque bytes
    return np.asarray(dataset[()]).view(tf.bfloat16.as_numpy_dtype).astype(np.float32)
  if dataset.dtype.kind not in 'fiu':
    raise ValueError(f'{name}: {dataset.name} holds {dataset.dtype}, not numbers')
  return np.asarray(dataset, np.float32)


def _keras_2(root) -> Iterator[tuple[str, Any]]:
  """{layer/number: data set} of groups of layers that list them: 'conv2d_1/kernel:0', ..."""
  numbers: dict[str, int] = defaultdict(int)
  for group_name, group in root.items():
    for path in group.attrs.get('weight_names', ()):
      path = path.decode() if isinstance(path, bytes) else path
      layer = f'{group_name}/{path}'.split('/')[-2]  # of a model within the model too
      yield f'{layer}/{numbers[layer]}', group[path]
      numbers[layer] += 1


def _keras_3(files: Sequence[Any], net: str) -> Iterator[tuple[str, Any]]:
  """{layer/number: data set} of groups 'layers/<class>_<i>/vars', which have the layer's name.

  A layer may begin in one file and end in the next: the name is in the first, without any data set
  perhaps.
  """
  groups: dict[str, dict[str, Any]] = defaultdict(dict)  # {path: {number: data set}}
  own_names: dict[str, str] = {}

  def visit(path: str, item) -> None:
    if path.endswith('/vars') and not path.startswith('optimizer'):
      groups[path].update(item.items())
      own_names.setdefault(path, item.attrs.get('name') or '')

  for file in files:
    file.visititems(visit)
  paths = [path for path, group in groups.items() if group]
  names = [own_names[path] for path in paths]
  if not all(names):  # the first versions of Keras 3 left it out
    by_order = _names_by_order(net) if net in NETS else {}
    classes = [path.split('/')[-2] for path in paths]
    names = [by_order.get(name, name) for name in classes]
  for i, (name, path) in enumerate(zip(names, paths, strict=True)):
    # Two models may have layers of the same names.
    layer = f'/{path.removesuffix("/vars")}' if name in names[:i] else name
    yield from ((f'{layer}/{j}', groups[path][str(j)]) for j in range(len(groups[path])))


class _Config(NamedTuple):
  """A layer of a model's configuration."""

  kind: str  # its class
  name: str
  settings: Mapping[str, Any]

  def __str__(self) -> str:
    return f'{self.kind} {self.name}'


def _flat(config: Mapping[str, Any]) -> Iterator[_Config]:
  """The layers in their order, those of models within the model too."""
  settings = config.get('config')
  settings = settings if isinstance(settings, Mapping) else {}
  if isinstance(settings.get('layers'), list):
    for layer in settings['layers']:
      yield from _flat(layer)
  elif 'class_name' in config:
    yield _Config(config['class_name'], str(settings.get('name', '')), settings)


def _with_config(stored: Stored, config: Mapping[str, Any], net: str) -> Stored:
  """What layers without weights say of the images and of the head."""
  layers = list(_flat(config))
  first = next((i for i, layer in enumerate(layers) if layer.kind == 'Conv2D'), 0)
  before = [layer for layer in layers[:first] if not _is_harmless_before(layer)]
  odd = [layer for layer in layers[first:] if layer.kind not in _HARMLESS]
  if sum(layer.kind == 'MaxPooling2D' for layer in layers) > _MAX_POOLS.get(net, 0):
    odd.append([layer for layer in layers if layer.kind == 'MaxPooling2D'][-1])
  if odd:
    names = ', '.join(map(str, odd))
    stored = stored._replace(head_fault=f'its layers {names} do what no head of slim does')
  known = [layer for layer in before if layer.kind in ('Rescaling', 'Normalization')]
  used = [name for layer in known for name in stored.arrays if name.startswith(f'{layer.name}/')]
  scale, shift = np.ones(1), np.zeros(1)
  for layer in known:
    a, b = _affine(layer, stored.arrays)
    scale, shift = scale * a, shift * a + b
  stored = stored._replace(
    arrays={name: array for name, array in stored.arrays.items() if name not in used},
    left_out={**stored.left_out, **dict.fromkeys(used, 'normalization of the images')},
  )
  names = ', '.join(map(str, before))
  if len(known) < len(before):
    note = f'its layers {names} change the images: what comes out is taken to be in [-1, 1]'
    return stored._replace(notes=(*stored.notes, note))
  if not known:
    return stored
  if not (np.abs(scale) * 255 < _PIXEL_RANGE).all() or not scale.all():
    return stored._replace(images_fault=f'its layers {names} are not for pixels in 0..255')
  mean, std = (
    tuple((np.round(values, 6) + 0.0).tolist()) for values in (-shift / scale, 1 / scale)
  )
  return stored._replace(images=Images(mean, std))


def _is_harmless_before(layer: _Config) -> bool:
  return layer.kind in _BEFORE or layer.kind.startswith(_RANDOM)


def _affine(layer: _Config, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
  """(a, b) of a layer that makes a x + b of images, one value or one a channel."""
  if layer.kind == 'Rescaling':
    scale, shift = (np.asarray(layer.settings[key], float) for key in ('scale', 'offset'))
    return np.atleast_1d(scale), np.atleast_1d(shift)
  mean, variance = (
    np.ravel(layer.settings[key] if layer.settings.get(key) is not None else arrays[name])
    for key, name in (('mean', f'{layer.name}/0'), ('variance', f'{layer.name}/1'))
  )
  deviation = np.maximum(np.sqrt(variance.astype(float)), 1e-7)  # Keras' smallest
  return 1 / deviation, -mean / deviation


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
  names_for(net)  # says so if there is none
  return getattr(tf.keras.applications, NETS[net])(weights=None, **kwargs)


def read_checkpoint(prefix: str) -> Stored:
  """Arrays by 'layer/number' of a checkpoint with Keras' names, in a SavedModel or not.

  It has no configuration: what layers without weights do is not known.

  Raises:
    OSError, ValueError: it is damaged.
  """
  stored = object_names.variable_names(prefix)
  by_layer: dict[str, dict[str, str]] = defaultdict(dict)  # {path of a layer: {leaf: variable}}
  for name in stored:
    layer, _, leaf = name.rpartition('/')
    if leaf in _IN_ORDER and layer:
      by_layer[layer][leaf] = name
  used = [name for leaves in by_layer.values() for name in leaves.values()]
  values = checkpoints.read(prefix, [stored[name] for name in used])
  arrays: Arrays = {}
  for path, leaves in by_layer.items():
    layer = path.rpartition('/')[2]
    layer = path if f'{layer}/0' in arrays else layer  # of two models with the same names
    for number, leaf in enumerate(sorted(leaves, key=_IN_ORDER.index)):
      array = values[stored[leaves[leaf]]].numpy()
      arrays[f'{layer}/{number}'] = np.asarray(array, np.float32)
  left_out = dict.fromkeys(sorted(set(stored) - set(used)), 'no weights of a layer')
  return Stored(arrays, left_out)


def read_keras(path: str | os.PathLike, net: str) -> Stored:
  """As `read_h5`, of a .keras file: a zip file with the weights and a configuration in it.

  Raises:
    ValueError: it is damaged.
  """
  size = os.path.getsize(path)
  try:
    with zipfile.ZipFile(path) as file:
      for member in (WEIGHTS_IN_ZIP, _CONFIG_IN_ZIP):  # what is read of it ends at that size
        check_size(file.getinfo(member).file_size, size, f'{path}: {member}')
      content, config = file.read(WEIGHTS_IN_ZIP), file.read(_CONFIG_IN_ZIP)
  except (zipfile.BadZipFile, EOFError, KeyError) as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  return read_h5(io.BytesIO(content), net, f'{path}: {WEIGHTS_IN_ZIP}', config.decode())


def write(path: str | os.PathLike, layers: Mapping[str, Layer], net: str) -> None:
  """Writes {our scope: layer} as .weights.h5, by Keras itself; other layers are left out.

  Args:
    path: the file, whatever it is called.
    layers: of the Inception nets without gamma; without logits the file is that of
      `include_top=False`.
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
    layer = add_to_variance(layers[scope], -_EPSILON if net in PADDINGS else 0)
    if main:
      # Zeros where there are biases before batch norm.
      arrays = [layer.weights, layer.biases, np.zeros(layer.weights.shape[-1], np.float32)]
      arrays = [array for array in arrays if array is not None]
      by_name[main].set_weights(arrays[: len(by_name[main].weights)])
    if layer.norm is not None:
      leaves = {'gamma': np.ones_like(layer.norm.beta), **layer.leaves()}
      by_name[norm].set_weights([leaves[leaf] for leaf in _NORMS[len(by_name[norm].weights)]])
  named = f'{os.fspath(path)}.weights.h5'  # Keras wants names to end so
  try:
    model.save_weights(named)
    os.replace(named, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(named)


def write_facenet(path: str | os.PathLike, layers: Mapping[str, Layer]) -> None:
  """Writes Inception-ResNet-v1 for `load_weights` of deepface's and keras-facenet's model.

  That is the HDF5 file of Keras 2, which Keras 3 reads too: both go by the order of the layers.

  Args:
    path: the file; that it is called .h5, not .weights.h5, tells Keras 3 what it is.
    layers: {our scope: layer} without gamma; logits, which the net there does not have, are left
      out.
  """
  import h5py

  norms = {norm for _, norm in names_for(facenet_names.NET).values()}
  in_order = [(name, layers[scope]) for name, scope in facenet_names.in_order() if scope in layers]
  with h5py.File(path, 'w') as file:
    file.attrs['layer_names'] = [name.encode() for name, _ in in_order]
    file.attrs['backend'], file.attrs['keras_version'] = b'tensorflow', b'2.15.0'
    for name, layer in in_order:
      leaves = layer.leaves()
      kinds = _NORM_WEIGHTS if name in norms else _MAIN_WEIGHTS
      arrays = {f'{name}/{kind}:0': leaves[leaf] for leaf, kind in kinds.items() if leaf in leaves}
      group = file.create_group(name)
      group.attrs['weight_names'] = [weight.encode() for weight in arrays]
      for weight, array in arrays.items():
        group[weight] = array
