"""Which kind of file weights are in: told by its content, whatever it is called."""

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .. import checkpoint_files
from ..registry import get_net
from . import facenet_names, keras_applications, object_names, others, slim_files, torch_family
from .stored import Stored


class Source(NamedTuple):
  """How to get from a file to layers."""

  text: str  # what it is called
  family: ModuleType  # whose `layers` makes layers of what was read
  read: Callable[[str, str, bool | None], Stored]  # path, net, use_ema


# fmt: off
SOURCES: dict[str, Source] = {
  'checkpoint': Source(
    'a TensorFlow checkpoint', slim_files,
    lambda path, net, use_ema: slim_files.read_checkpoint(path, use_ema)),
  'archive': Source(
    'an archive with a TensorFlow checkpoint or a frozen graph', slim_files,
    lambda path, net, use_ema: slim_files.read_archive(path, use_ema)),
  'SavedModel': Source(
    'a SavedModel, of which the variables are read', slim_files,
    lambda path, net, use_ema: slim_files.read_checkpoint(path, use_ema)),
  'frozen graph': Source(
    'a frozen TensorFlow graph', slim_files,
    lambda path, net, use_ema: slim_files.read_frozen_graph(path)),
  'h5': Source(
    'weights of Keras (HDF5)', keras_applications,
    lambda path, net, use_ema: keras_applications.read_h5(path, net)),
  'keras': Source(
    'a model of Keras (.keras)', keras_applications,
    lambda path, net, use_ema: keras_applications.read_keras(path, net)),
  'Keras checkpoint': Source(
    'a checkpoint of Keras', keras_applications,
    lambda path, net, use_ema: keras_applications.read_checkpoint(path)),
  'Keras SavedModel': Source(
    'a SavedModel of Keras, of which the variables are read', keras_applications,
    lambda path, net, use_ema: keras_applications.read_checkpoint(path)),
  'Keras shards': Source(
    'weights of Keras in several files', keras_applications,
    lambda path, net, use_ema: keras_applications.read_sharded(path, net)),
  'safetensors': Source(
    "safetensors with PyTorch's names", torch_family,
    lambda path, net, use_ema: torch_family.read_safetensors(path)),
  'safetensors shards': Source(
    "safetensors with PyTorch's names in several files", torch_family,
    lambda path, net, use_ema: torch_family.read_sharded_safetensors(path)),
  'pytorch': Source(
    'a file of PyTorch', torch_family,
    lambda path, net, use_ema: torch_family.read_pytorch(path, use_ema)),
}
# fmt: on

_KNOWN = (
  "slim's or facenet's checkpoints, archives and frozen graphs, SavedModels, Keras' .h5 and "
  '.keras, .safetensors, .pth'
)
_OLDER_FACENETS_WIDTH, _FACENETS_SIDE = 128, 160
_HDF5 = b'\x89HDF\r\n\x1a\n'
_TABLE_END = bytes.fromhex('57fb808b247547db')  # of the single-file checkpoints
_PICKLED_BY_TORCH = bytes.fromhex('80028a0a6cfc9c46f9206aa85019')
_SAVED_MODEL = 'saved_model.pb'
_VARIABLES = os.path.join('variables', 'variables')  # the checkpoint in a SavedModel's folder
_BEST = ('model_best.pth.tar', 'last.pth.tar')  # of a training with timm, beside earlier ones
_SHARDS_INDEX = '.weights.json'  # of Keras 3, beside NAME_00000.weights.h5, NAME_00001.weights.h5
# Of Hugging Face, beside model-00001-of-00002.safetensors and so on.
_SAFETENSORS_INDEX = '.safetensors.index.json'
# Endings of files with weights, in the order of preference where a folder has several.
# fmt: off
_ENDINGS = (
  _SAFETENSORS_INDEX, '.safetensors', '.bin', '.pth', '.pth.tar', '.pt', '.keras', _SHARDS_INDEX,
  '.h5', '.pb', '.ckpt',
)
# fmt: on


def locate(path: str | os.PathLike) -> str:
  """The file, or the prefix of the checkpoint, that a path stands for.

  Args:
    path: a file; a file of a checkpoint, or its prefix; or a folder: of checkpoints, whose latest
      is meant, of one file with weights, as from the Hugging Face Hub, or a SavedModel, as from
      TensorFlow Hub and Kaggle, whose variables are meant.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: a folder has several checkpoints or files, and none is the latest; or it is a
      SavedModel without variables.
  """
  path = os.fspath(path)
  if not os.path.isdir(path):
    prefix = checkpoint_files.prefix_of(path)
    if os.path.exists(prefix + checkpoint_files.INDEX):
      return prefix
    if os.path.basename(path) == _SAVED_MODEL and os.path.isfile(path):
      return _variables_of(os.path.dirname(path))
    index = re.sub(r'_\d{5}\.weights\.h5$', _SHARDS_INDEX, path)
    index = re.sub(r'-\d{5}-of-\d{5}\.safetensors$', _SAFETENSORS_INDEX, index)
    if os.path.exists(path):
      return index if os.path.exists(index) else path
    raise FileNotFoundError(f'{path} does not exist, neither a file nor a checkpoint of that name')
  if os.path.exists(os.path.join(path, _SAVED_MODEL)):
    return _variables_of(path)
  latest = checkpoint_files.latest(path)
  if latest is not None:
    return latest
  if best := next((name for name in _BEST if os.path.isfile(os.path.join(path, name))), None):
    return os.path.join(path, best)
  files = sorted(entry for entry in Path(path).iterdir() if entry.is_file())
  prefixes = [str(file.with_suffix('')) for file in files if file.suffix == checkpoint_files.INDEX]
  if len(prefixes) > 1:
    raise ValueError(f'{path} holds several checkpoints: name one of {", ".join(prefixes)}')
  if prefixes:
    return prefixes[0]
  for ending in _ENDINGS:
    of_kind = [str(file) for file in files if file.name.endswith(ending)]
    if len(of_kind) > 1:
      raise ValueError(f'{path} holds several files of weights: name one of {", ".join(of_kind)}')
    if of_kind:
      return of_kind[0]
  if other := others.of_folder(path):
    raise ValueError(f'{path} is {other}')
  endings = ', '.join(_ENDINGS)
  raise FileNotFoundError(f'{path} holds no checkpoint, and no file that ends in {endings}')


def recognise(path: str) -> str:
  """The key of `SOURCES` that a file, or the prefix of a checkpoint, is.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is of no known kind, or cut short, or no regular file.
  """
  if os.path.exists(path + checkpoint_files.INDEX):
    folder = path.removesuffix(_VARIABLES)
    is_saved_model = folder != path and os.path.exists(os.path.join(folder, _SAVED_MODEL))
    if object_names.is_of_keras(path):
      return 'Keras SavedModel' if is_saved_model else 'Keras checkpoint'
    return 'SavedModel' if is_saved_model else 'checkpoint'
  if not os.path.isfile(path):  # a FIFO may wait for ever
    raise ValueError(f'{path} is neither a file nor a folder')
  with open(path, 'rb') as file:
    head = file.read(512)
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(8, size), os.SEEK_END)
    end = file.read(8)
  if not head:
    raise ValueError(f'{path} is empty')
  if head.startswith(_HDF5):
    return 'h5'
  if head.startswith(b'PK\x03\x04'):
    return _kind_of_zip(path)
  if head.startswith(_PICKLED_BY_TORCH):
    return 'pytorch'
  if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 100 << 20:
    return 'safetensors'
  if end == _TABLE_END:
    return 'checkpoint'
  if head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ')) or head[257:262] == b'ustar':
    return 'archive'
  if path.endswith(_SHARDS_INDEX) and head.lstrip().startswith(b'{'):
    return 'Keras shards'
  if path.endswith(_SAFETENSORS_INDEX) and head.lstrip().startswith(b'{'):
    return 'safetensors shards'
  if other := others.of_text(head) or others.of_bytes(head):
    raise ValueError(f'{path} is {other}')
  if head[:1] == b'\x0a':  # the first field of a GraphDef: a node
    return 'frozen graph'
  raise ValueError(f'{path} is none of the known formats ({_KNOWN}), or is cut short')


class Views(NamedTuple):
  """What a net looks at: a name of `preprocessing_factory`, and pixels a side."""

  preprocessing: str
  image_size: int


def views(path: str | os.PathLike, net: str) -> Views | None:
  """What nets of a file's library look at, where that is not what the registry says of the net.

  facenet's of 2018, with embeddings of 512, take another normalization than those of 2017, of 128.

  Args:
    path: see `locate`.
    net: whose weights it has.
  """
  if net != facenet_names.NET:
    return None
  path = locate(path)
  family = SOURCES[kind := recognise(path)].family
  if family not in (torch_family, keras_applications):
    return None
  width = None
  if kind in ('h5', 'pytorch'):
    width = family.embedding_width(path)
  is_older = width == _OLDER_FACENETS_WIDTH
  return Views('facenet_whitened' if is_older else 'facenet', _FACENETS_SIDE)


def needs_conversion(path: str, net: str) -> bool:
  """Whether a file is more than a checkpoint to restore: another's, or of another net or scope.

  Raises:
    OSError, ValueError: as `recognise`, or a checkpoint cannot be read.
  """
  if recognise(path) != 'checkpoint':
    return True
  scope, names = f'{get_net(net).scope}/', object_names.variable_names(path)
  if any(name != key for name, key in names.items()):
    return True
  return not any(name.startswith(scope) for name in names)


def _variables_of(folder: str) -> str:
  """The prefix of the checkpoint in a SavedModel's folder."""
  prefix = os.path.join(folder, _VARIABLES)
  if not os.path.exists(prefix + checkpoint_files.INDEX):
    raise ValueError(
      f'{folder or "."} is a SavedModel without variables: its weights are constants in its graph, '
      'or the folder "variables" is missing; give the checkpoint that it was made from'
    )
  return prefix


def _kind_of_zip(path: str) -> str:
  try:
    with zipfile.ZipFile(path) as file:
      names = file.namelist()
  except zipfile.BadZipFile as error:
    raise ValueError(f'{path} is a zip file that is cut short: {error}') from error
  if keras_applications.WEIGHTS_IN_ZIP in names:
    return 'keras'
  if any(name.endswith(('/constants.pkl', '/archive_format')) for name in names):
    raise ValueError(
      f'{path} is a program of PyTorch (TorchScript, or torch.export), not weights alone: save '
      "its model's state_dict()"
    )
  if names and all(name.endswith('.npy') for name in names):
    raise ValueError(f'{path} holds arrays of NumPy (.npz), which are not read: {others.SOURCE}')
  return 'pytorch' if any(name.endswith('/data.pkl') for name in names) else 'archive'
