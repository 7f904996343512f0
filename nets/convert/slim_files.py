"""Files that have slim's names already: checkpoints, released archives, frozen graphs; facenet's.

facenet's Inception-ResNet-v1 differs in one name: its classifier lies beside the net's scope.
"""

import errno
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import tensorflow as tf

from .. import checkpoints
from ..nets_factory import NETS, get_net
from .layers import Layer

Tensors = dict[str, np.ndarray]

_UNREAD = np.empty(0)  # in place of what is of no use to a net

_LEAVES = {
  'weights': 'weights',
  'biases': 'biases',
  'beta': 'BatchNorm/beta',
  'gamma': 'BatchNorm/gamma',
  'mean': 'BatchNorm/moving_mean',
  'variance': 'BatchNorm/moving_variance',
}
_FACENET_LOGITS = {'Logits/weights', 'Logits/biases'}


def layers(tensors: Mapping[str, np.ndarray], net: str) -> tuple[dict[str, Layer], set[str]]:
  """{our scope: layer}, and the names that were used; heads that are not there are left out.

  Raises:
    ValueError: a variable of the body is missing.
  """
  top = get_net(net).scope
  if not any(name.startswith(f'{top}/') for name in tensors):
    others = [
      other.name for other in NETS.values() if any(n.startswith(f'{other.scope}/') for n in tensors)
    ]
    hint = f'is of {others[0]}' if others else f'holds {", ".join(sorted(tensors)[:3])}, ...'
    raise ValueError(f'it has no {top}/... for {net}, but {hint}')
  read: dict[str, Layer] = {}
  used: set[str] = set()
  for row, scopes in get_net(net).weighted.items():
    of_row = {scope: _variables(scope, tensors, net) for scope in scopes}
    missing = [name for names in of_row.values() for name in names.values() if name not in tensors]
    if missing and row in get_net(net).head.weights:
      continue
    if missing:
      raise ValueError(f'it has no {missing[0]}')
    for scope, names in of_row.items():
      layer = Layer.of({leaf: tensors[name] for leaf, name in names.items()})
      if layer.norm is None and row in get_net(net).head.weights and layer.weights.ndim == 4:
        layer = layer._replace(weights=layer.weights[0, 0])  # Inception-v3's 1 x 1 convolutions
      read[scope] = layer
      used.update(names.values())
  return read, used


def _variables(scope: str, tensors: Collection[str], net: str) -> dict[str, str]:
  """{leaf: variable} of the leaves that a layer must have, and of gamma if it is there."""
  names = {leaf: f'{get_net(net).scope}/{scope}/{name}' for leaf, name in _LEAVES.items()}
  if scope == get_net(net).head.logits_path and set(tensors) >= _FACENET_LOGITS:
    names |= {'weights': 'Logits/weights', 'biases': 'Logits/biases'}
  leaves = ['weights', 'beta', 'mean', 'variance']
  if names['biases'] in tensors:
    leaves = ['weights', 'biases']
  elif names['gamma'] in tensors:
    leaves.append('gamma')
  return {leaf: names[leaf] for leaf in leaves}


def read_checkpoint(path: str | os.PathLike, use_ema: bool | None = None) -> Tensors:
  """{name: array} of a checkpoint; slots of the optimizer and the like are empty, unread.

  Args:
    path: a prefix, slim's single file of 2016, or a folder with one checkpoint.
    use_ema: whether to take the moving averages of the weights; None where there are any.

  Raises:
    OSError, ValueError: there is none, it is damaged, or `use_ema` and there are no averages.
  """
  prefix = _in_folder(path) if os.path.isdir(path) else checkpoints.resolve(path)
  stored = checkpoints.shapes(prefix)
  endings = tuple(_LEAVES.values())
  sources = {name: name for name in stored if name.endswith(endings)}
  ema = {name: average for name in sources if (average := name + checkpoints.EMA_SUFFIX) in stored}
  if use_ema is not False:
    sources |= ema
  if use_ema and not ema:
    raise ValueError(f'{prefix} has no moving averages of the weights: take the plain ones')
  values = checkpoints.read(prefix, list(sources.values()))
  others = dict.fromkeys(set(stored) - set(sources) - set(sources.values()), _UNREAD)
  return {name: values[source].numpy() for name, source in sources.items()} | others


def _in_folder(folder: str | os.PathLike) -> str:
  prefix = checkpoints.latest(folder)
  if prefix is not None:
    return prefix
  prefixes = sorted({str(path.with_suffix('')) for path in Path(folder).glob('*.index')})
  if not prefixes:
    raise ValueError(f'{folder} holds no checkpoint')
  if len(prefixes) > 1:
    raise ValueError(f'{folder} holds several checkpoints: name one of {", ".join(prefixes)}')
  return prefixes[0]


def read_frozen_graph(path: str | os.PathLike) -> Tensors:
  """{name: array} of the float constants of a GraphDef; freezing keeps the variables' names.

  Raises:
    ValueError: it is no GraphDef with constants.
  """
  graph = tf.compat.v1.GraphDef()
  try:
    graph.ParseFromString(Path(path).read_bytes())
  except Exception as error:  # protobuf's own error class
    raise ValueError(f'{path} is damaged: {error}') from error
  constants = {
    node.name: tf.make_ndarray(node.attr['value'].tensor)
    for node in graph.node
    if node.op == 'Const' and tf.as_dtype(node.attr['dtype'].type).is_floating
  }
  endings = tuple(_LEAVES.values())
  constants = {name: value for name, value in constants.items() if name.endswith(endings)}
  if not constants:
    raise ValueError(f'{path} is a graph without weights: freeze it first')
  return constants


def read_archive(path: str | os.PathLike, use_ema: bool | None = None) -> Tensors:
  """{name: array} of the checkpoint, or else the frozen graph, in a .tar.gz, .tar or .zip.

  It is unpacked into a temporary folder, by the base names of its files.

  Raises:
    ValueError: it is damaged, or holds neither.
  """
  with tempfile.TemporaryDirectory() as folder:
    try:
      names = _unpack(path, Path(folder))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
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
  """The regular files of an archive; base names alone, so that none lands outside the folder."""
  names = []
  for name, source in _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path):
    names.append(Path(name).name)
    with source, open(folder / names[-1], 'wb') as target:
      try:
        shutil.copyfileobj(source, target, 1 << 20)
      except OSError as error:
        if error.errno != errno.ENOSPC:
          raise
        raise OSError(error.errno, error.strerror, target.name) from error
  return names


def _zip_members(path: str | os.PathLike) -> Iterator[tuple[str, IO[bytes]]]:
  with zipfile.ZipFile(path) as file:
    for member in file.infolist():
      if not member.is_dir():
        yield member.filename, file.open(member)


def _tar_members(path: str | os.PathLike) -> Iterator[tuple[str, IO[bytes]]]:
  with tarfile.open(path) as file:
    for member in file:
      if member.isfile() and (content := file.extractfile(member)):
        yield member.name, content


def as_variables(
  layers: Mapping[str, Layer], shapes: Mapping[str, list[int]], net: str
) -> dict[str, np.ndarray]:
  """{variable: array} of layers: what `layers` reads, the other way round.

  Args:
    layers: {scope: layer}; gamma only where the model has it.
    shapes: {variable: shape} of the model, which decides on gamma and on the shape of heads.
    net: its name.
  """
  values: Tensors = {}
  for scope, layer in layers.items():
    names = {leaf: f'{get_net(net).scope}/{scope}/{name}' for leaf, name in _LEAVES.items()}
    leaves = layer.leaves()
    if layer.weights.ndim == 2 and len(shapes.get(names['weights'], ())) == 4:
      leaves['weights'] = layer.weights[np.newaxis, np.newaxis]
    if layer.norm is not None and names['gamma'] in shapes:
      leaves.setdefault('gamma', np.ones_like(layer.norm.beta))
    values |= {names[leaf]: value for leaf, value in leaves.items()}
  return values
