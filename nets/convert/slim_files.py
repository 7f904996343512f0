"""Files that have slim's names already: checkpoints, released archives, frozen graphs; facenet's.

facenet's Inception-ResNet-v1 differs in one name: its classifier lies beside the net's scope. In
other programs the scope lies within another ('FeatureExtractor/InceptionV3/...'); in SavedModels
and checkpoints of tf.train.Checkpoint variables are called by Python's attributes: see
`object_names`.
"""

import errno
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import tensorflow as tf

from .. import checkpoint_files, checkpoints
from ..heads import AUX_LOGITS
from ..registry import NETS, get_net
from . import fid, object_names, others
from .layers import Layer
from .stored import Arrays, Sorted, Stored, check_size

_UNREAD = np.empty(0)  # in place of what is of no use to a net

_LEAVES = {
  'weights': 'weights',
  'biases': 'biases',
  'beta': 'BatchNorm/beta',
  'gamma': 'BatchNorm/gamma',
  'mean': 'BatchNorm/moving_mean',
  'variance': 'BatchNorm/moving_variance',
}
# Of a batch norm that stands alone, in a scope of its own, and of separable convolutions.
_ALONE = {leaf: name.removeprefix('BatchNorm/') for leaf, name in _LEAVES.items()}
_SEPARABLE = {'weights': 'depthwise_weights', 'pointwise': 'pointwise_weights', 'biases': 'biases'}
_LEAF_NAMES = ('weights', 'biases', '/beta', '/gamma', '/moving_mean', '/moving_variance')
_FACENET_LOGITS = {'Logits/weights', 'Logits/biases'}
# Names of other programs' nets of the same papers, whose layers have other names and shapes.
_OTHERS = {
  'conv0/weights': 'the Inception-v3 of tensorflow/models/inception (2016), which is not read',
  'conv/conv2d_params': (
    f'an Inception graph with the names of December 2015: --model_name={fid.NET} reads it'
  ),
}
_SLOT = '/.OPTIMIZER_SLOT/'
_TRAINING, _NEVER_TRAINED = 'training', 'never trained: left fresh by a conversion'
_OTHER_SIZE = 'the auxiliary head, made for images of another size'
# Of the Object Detection API, beside the layers: Mixed_5c_1_Conv2d_2_1x1_256, made of Mixed_5c.
_FEATURE_MAP = re.compile(r'(?P<row>.+)_[12]_Conv2d_\d+_\d+x\d+(_s2)?_\d+(_depthwise)?$')
# {the last part of a name in the net's scope: why it is no array of the net}
_LEFT_OUT = {
  'biased': _TRAINING,  # of averages that start at 0
  'local_step': _TRAINING,
  'mean_rgb': 'the mean of the images',
}


def layers(arrays: Mapping[str, np.ndarray], net: str) -> Sorted:
  """The layers of a net, and what else is there; heads that are not there are left out.

  Raises:
    ValueError: a variable of the body is missing.
  """
  top = get_net(net).scope
  originals = _in_scope(arrays, top)
  within = {name: arrays[original] for name, original in originals.items()}
  if not within:
    raise ValueError(f'it has no {top}/... for {net}, but {_looks_like(arrays, net)}')
  within |= {name: arrays[name] for name in _FACENET_LOGITS if name in arrays}
  read: dict[str, Layer] = {}
  used: set[str] = set()
  for row, scopes in get_net(net).weighted.items():
    of_row = {scope: _variables(scope, within, net) for scope in scopes}
    missing = [name for names in of_row.values() for name in names.values() if name not in within]
    if missing and row in get_net(net).head.weights:
      continue
    if missing:
      raise ValueError(f'it has no {missing[0]}')
    for scope, names in of_row.items():
      layer = Layer.of({leaf: within[name] for leaf, name in names.items()})
      if layer.norm is None and row in get_net(net).head.weights and layer.weights.ndim == 4:
        layer = layer._replace(weights=layer.weights[0, 0])  # Inception-v3's 1 x 1 convolutions
      read[scope] = layer
      used.update(originals.get(name, name) for name in names.values())
  short = {original: name for name, original in originals.items()}
  # The scope of its last convolution says how large the features are: Conv2d_2a_5x5 of 299 pixels.
  auxiliary = get_net(net).head.auxiliary and not any(s.startswith(f'{AUX_LOGITS}/') for s in read)
  left_out, unknown = {}, []
  for name in sorted(set(arrays) - used):
    rule = _rule(short[name], within, net) if name in short else f'not in {top}'
    if auxiliary and short.get(name, '').startswith(f'{top}/{AUX_LOGITS}/'):
      rule = rule or _OTHER_SIZE
    if rule:
      left_out[name] = rule
    else:
      unknown.append(name)
  return Sorted(read, left_out, tuple(unknown))


def _in_scope(arrays: Mapping[str, np.ndarray], scope: str) -> dict[str, str]:
  """{name from the scope on: name} of what lies in a net's scope, whatever that lies in.

  Of a scope within itself ('FeatureExtractor/InceptionV2/InceptionV2/...') the inner one is meant.

  Raises:
    ValueError: there are several such scopes with the same weights.
  """
  top = f'{scope}/'
  by_name: dict[str, list[str]] = defaultdict(list)
  for name in arrays:
    _, within, rest = f'/{name}'.rpartition(f'/{top}')
    if within:
      by_name[top + rest].append(name)
  plain = {name: name for name, originals in by_name.items() if name in originals}
  if any(name.endswith(_LEAF_NAMES) for name in plain):
    return plain
  for name, originals in by_name.items():
    if name.endswith(_LEAF_NAMES) and len(originals) > 1:
      scopes = sorted(original.removesuffix(f'/{name}') for original in originals)
      several = ', '.join(scopes)
      raise ValueError(
        f'it holds several such nets, under {several}: --source_scope={scopes[0]} takes one'
      )
  return {name: originals[0] for name, originals in by_name.items()}


def _looks_like(names: Collection[str], net: str) -> str:
  """What names of variables are of, that are in no scope of a net."""
  for other in NETS.values():
    if other.name != net and _in_scope(dict.fromkeys(names, _UNREAD), other.scope):
      return f'is of {other.name}'
  if scope := _scope_of_another_name(names, net):
    return f'its layers in {scope}: --source_scope={scope} takes them'
  if program := _other_program(names) or others.of_names(names):
    return f'is {program}'
  return f'holds {", ".join(sorted(names)[:3])}, ...'


def _scope_of_another_name(names: Collection[str], net: str) -> str:
  """The scope that has all rows of a net's body; '' where there is none."""
  first = get_net(net).first_weights.partition('/')[2]
  scopes = [name.removesuffix(f'/{first}') for name in names if name.endswith(f'/{first}')]
  head, weighted = get_net(net).head, get_net(net).weighted
  rows = [row for row, paths in weighted.items() if paths and row not in head.weights]
  for scope in sorted(scopes, key=len):
    if all(any(name.startswith(f'{scope}/{row}/') for name in names) for row in rows):
      return scope
  return ''


def _other_program(names: Iterable[str]) -> str:
  """What names of other programs' nets are of; '' if they are not known either."""
  first = {'/'.join(name.removeprefix('import/').split('/')[:2]) for name in names}
  known = [text for marker, text in _OTHERS.items() if marker in first]
  return f'of {known[0]}' if known else ''


def _rule(name: str, names: Collection[str], net: str) -> str:
  """Why a name in the net's scope is no array of the net; '' if that is not known."""
  parent, _, leaf = name.rpartition('/')
  if _SLOT in name or parent in names:  # X/RMSProp, X/ExponentialMovingAverage of a variable X
    return _TRAINING
  feature_map = _FEATURE_MAP.match(name.split('/')[1])
  if feature_map and feature_map['row'] in get_net(net).weighted:
    return 'more feature maps of a detector'
  return _LEFT_OUT.get(leaf, '')


def _variables(scope: str, tensors: Collection[str], net: str) -> dict[str, str]:
  """{leaf: variable} of the leaves that a layer must have, and of gamma if it is there."""
  top = f'{get_net(net).scope}/{scope}'
  names = {leaf: f'{top}/{name}' for leaf, name in _LEAVES.items()}
  if scope == get_net(net).head.logits_path and set(tensors) >= _FACENET_LOGITS:
    names |= {'weights': 'Logits/weights', 'biases': 'Logits/biases'}
  leaves = ['weights', 'beta', 'mean', 'variance']
  if f'{top}/{_SEPARABLE["weights"]}' in tensors:
    return {leaf: f'{top}/{name}' for leaf, name in _SEPARABLE.items()}
  if f'{top}/{_ALONE["mean"]}' in tensors:
    names = {leaf: f'{top}/{name}' for leaf, name in _ALONE.items()}
    leaves.remove('weights')
  if names['biases'] in tensors:
    leaves = ['weights', 'biases']
  elif names['gamma'] in tensors:
    leaves.append('gamma')
  return {leaf: names[leaf] for leaf in leaves}


def read_checkpoint(path: str | os.PathLike, use_ema: bool | None = None) -> Stored:
  """What a checkpoint holds; slots of the optimizer and the like are empty, unread.

  Args:
    path: a prefix, or slim's single file of 2016.
    use_ema: whether to take the moving averages of the weights; None where there are any.

  Raises:
    OSError, ValueError: there is none, or it is damaged.
  """
  prefix = checkpoint_files.resolve(path)
  stored = object_names.variable_names(prefix)
  weights = {name for name in stored if name.endswith(_LEAF_NAMES)}
  average_of = {name: name + checkpoints.EMA_SUFFIX for name in weights}
  averages = {name: average for name, average in average_of.items() if average in stored}
  names = {name: name for name in weights} | ({} if use_ema is False else averages)
  fresh = checkpoints.read_fresh(prefix)
  values = checkpoints.read(prefix, [stored[name] for name in names.values()])
  unread = set(stored) - set(names) - set(names.values()) - {checkpoints.FRESH}
  arrays = {name: values[stored[source]].numpy() for name, source in names.items()}
  return Stored(
    {name: array for name, array in arrays.items() if name not in fresh}
    | dict.fromkeys(unread, _UNREAD),
    left_out=dict.fromkeys(fresh, _NEVER_TRAINED),
    averages=any(name != source for name, source in names.items()),
  )


def read_frozen_graph(path: str | os.PathLike) -> Stored:
  """The float constants of a GraphDef that are weights; freezing keeps the variables' names.

  Those of the network of FID get the names that they have here: see `fid`.

  Raises:
    ValueError: it is no GraphDef with constants.
  """
  graph = tf.compat.v1.GraphDef()
  content = Path(path).read_bytes()
  try:
    graph.ParseFromString(content)
  except Exception as error:  # protobuf's own error class
    raise ValueError(f'{path} is damaged: {error}') from error
  shapes = {
    node.name: [dim.size for dim in node.attr['value'].tensor.tensor_shape.dim]
    for node in graph.node
  }
  is_fid = fid.is_fid_inception(shapes)
  ours = fid.graph_variables(graph.node) if is_fid else {}
  if not is_fid and (other := _other_program(shapes)):
    raise ValueError(f'{path} is {other}')
  constants = {
    ours.get(node.name, node.name): node.attr['value'].tensor
    for node in graph.node
    if node.op == 'Const' and (node.name in ours if is_fid else node.name.endswith(_LEAF_NAMES))
  }
  arrays = {}
  for name, tensor in constants.items():
    try:
      dtype = tf.as_dtype(tensor.dtype)
      check_size(
        tf.TensorShape(tensor.tensor_shape).num_elements() * dtype.size,
        len(content),
        f'{path}: {name}',
      )
      if dtype.is_floating:
        arrays[name] = tf.make_ndarray(tensor)
    except TypeError as error:
      raise ValueError(f'{path}: {name} has an unknown type: {error}') from error
  if not arrays:
    raise ValueError(f'{path} is a graph without weights: freeze it first')
  return Stored(arrays)


def read_archive(path: str | os.PathLike, use_ema: bool | None = None) -> Stored:
  """What the checkpoint, or else the frozen graph, in a .tar.gz, .tar or .zip holds.

  It is unpacked into a temporary folder, by the base names of its files.

  Raises:
    ValueError: it is damaged, or holds neither.
  """
  with tempfile.TemporaryDirectory() as folder:
    try:
      names = _unpack(path, Path(folder))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
      raise ValueError(f'{path} is damaged: {str(error).splitlines()[0]}') from error
    prefixes = sorted(name.removesuffix('.index') for name in names if name.endswith('.index'))
    prefixes += sorted(name for name in names if name.endswith('.ckpt'))
    graphs = sorted(name for name in names if name.endswith('.pb'))
    if not prefixes + graphs:
      raise ValueError(f'{path} holds no checkpoint: {", ".join(sorted(names)[:5])}')
    if len(prefixes) > 1:
      raise ValueError(f'{path} holds several checkpoints: unpack it and name one of {prefixes}')
    try:
      if prefixes:
        return read_checkpoint(Path(folder, prefixes[0]), use_ema)
      return read_frozen_graph(Path(folder, graphs[0]))
    except ValueError as error:
      raise ValueError(str(error).replace(folder, str(path))) from error


def _unpack(path: str | os.PathLike, folder: Path) -> list[str]:
  """The regular files of an archive; base names alone, so that none lands outside the folder.

  Raises:
    ValueError: unpacked they are far larger than the archive.
  """
  names, total = [], 0
  members = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
  for name, size, source in members:  # what is read of a member ends at its size
    total += size
    check_size(total, os.path.getsize(path), f'{path}: {name}')
    names.append(Path(name).name)
    with source, open(folder / names[-1], 'wb') as target:
      try:
        shutil.copyfileobj(source, target, 1 << 20)
      except OSError as error:
        if error.errno != errno.ENOSPC:
          raise
        raise OSError(error.errno, error.strerror, target.name) from error
  return names


def _zip_members(path: str | os.PathLike) -> Iterator[tuple[str, int, IO[bytes]]]:
  with zipfile.ZipFile(path) as file:
    for member in file.infolist():
      if not member.is_dir():
        yield member.filename, member.file_size, file.open(member)


def _tar_members(path: str | os.PathLike) -> Iterator[tuple[str, int, IO[bytes]]]:
  with tarfile.open(path) as file:
    for member in file:
      if member.isfile() and (content := file.extractfile(member)):
        yield member.name, member.size, content


def as_variables(
  layers: Mapping[str, Layer], shapes: Mapping[str, list[int]], net: str
) -> dict[str, np.ndarray]:
  """{variable: array} of layers: what `layers` reads, the other way round.

  Args:
    layers: {scope: layer}; gamma only where the model has it.
    shapes: {variable: shape} of the model, which decides on gamma and on the shape of heads.
    net: its name.
  """
  values: Arrays = {}
  for scope, layer in layers.items():
    kinds = _SEPARABLE if layer.pointwise is not None else _LEAVES
    kinds = kinds if layer.weights.size else _ALONE
    names = {leaf: f'{get_net(net).scope}/{scope}/{name}' for leaf, name in kinds.items()}
    leaves = layer.leaves()
    if layer.weights.ndim == 2 and len(shapes.get(names['weights'], ())) == 4:
      leaves['weights'] = layer.weights[np.newaxis, np.newaxis]
    if layer.norm is not None and names.get('gamma') in shapes:
      leaves.setdefault('gamma', np.ones_like(layer.norm.beta))
    values |= {names[leaf]: value for leaf, value in leaves.items()}
  return values
