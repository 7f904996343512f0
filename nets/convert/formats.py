"""Which kind of file weights are in: told by its content, whatever it is called."""

import os
import zipfile
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from ..checkpoints import INDEX, SUFFIXES
from . import keras_applications, slim_files, torch_family


class Source(NamedTuple):
  """How to get from a file to layers."""

  text: str  # what it is called
  family: ModuleType  # whose `layers` makes layers of what was read
  read: Callable[[str, str, bool | None], slim_files.Tensors]  # path, net, use_ema


# fmt: off
SOURCES: dict[str, Source] = {
  'checkpoint': Source(
    'a TensorFlow checkpoint', slim_files,
    lambda path, net, use_ema: slim_files.read_checkpoint(path, use_ema)),
  'archive': Source(
    'an archive with a TensorFlow checkpoint or a frozen graph', slim_files,
    lambda path, net, use_ema: slim_files.read_archive(path, use_ema)),
  'frozen graph': Source(
    'a frozen TensorFlow graph', slim_files,
    lambda path, net, use_ema: slim_files.read_frozen_graph(path)),
  'h5': Source(
    'weights of Keras (HDF5)', keras_applications,
    lambda path, net, use_ema: keras_applications.read_h5(path, net)),
  'keras': Source(
    'a model of Keras (.keras)', keras_applications,
    lambda path, net, use_ema: keras_applications.read_keras(path, net)),
  'safetensors': Source(
    "safetensors with PyTorch's names", torch_family,
    lambda path, net, use_ema: torch_family.read_safetensors(path)),
  'pytorch': Source(
    'a file of PyTorch', torch_family,
    lambda path, net, use_ema: torch_family.read_pytorch(path)),
}
# fmt: on

_KNOWN = (
  "slim's or facenet's checkpoints, archives and frozen graphs, Keras' .h5 and .keras, "
  '.safetensors, .pth'
)
_HDF5 = b'\x89HDF\r\n\x1a\n'
_TABLE_END = bytes.fromhex('57fb808b247547db')  # of the single-file checkpoints
_PICKLED_BY_TORCH = bytes.fromhex('80028a0a6cfc9c46f9206aa85019')


def recognise(path: str) -> str:
  """The key of `SOURCES` that a file or folder is.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is of no known kind, or cut short.
  """
  if os.path.isdir(path):
    return 'checkpoint'
  if not os.path.exists(path):
    if os.path.exists(path + INDEX):
      return 'checkpoint'
    raise FileNotFoundError(f'{path} does not exist')
  if not os.path.isfile(path):  # a FIFO may wait for ever
    raise ValueError(f'{path} is neither a file nor a folder')
  with open(path, 'rb') as file:
    head = file.read(512)
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(8, size), os.SEEK_END)
    end = file.read(8)
  if not head:
    raise ValueError(f'{path} is empty')
  _refuse_text(path, head)
  if head.startswith(_HDF5):
    return 'h5'
  if head.startswith(b'PK\x03\x04'):
    return _kind_of_zip(path)
  if head.startswith(_PICKLED_BY_TORCH):
    return 'pytorch'
  if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 100 << 20:
    return 'safetensors'
  is_part = path.endswith((*SUFFIXES, '.meta'))
  if end == _TABLE_END or (is_part and os.path.exists(path.rsplit('.', 1)[0] + INDEX)):
    return 'checkpoint'
  if head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ')) or head[257:262] == b'ustar':
    return 'archive'
  if head[:1] == b'\x0a':  # the first field of a GraphDef: a node
    return 'frozen graph'
  raise ValueError(f'{path} is none of the known formats ({_KNOWN}), or is cut short')


def _refuse_text(path: str, head: bytes) -> None:
  """What servers send in place of a file."""
  text = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
  if text.startswith((b'<!doctype', b'<html', b'<?xml')):
    raise ValueError(f'{path} is a web page, not weights: download the file itself')
  if text.startswith(b'version https://git-lfs'):
    raise ValueError(f'{path} is a Git LFS pointer, not weights: fetch the file with git lfs pull')


def _kind_of_zip(path: str) -> str:
  try:
    with zipfile.ZipFile(path) as file:
      names = file.namelist()
  except zipfile.BadZipFile as error:
    raise ValueError(f'{path} is a zip file that is cut short: {error}') from error
  if 'model.weights.h5' in names:
    return 'keras'
  return 'pytorch' if any(name.endswith('/data.pkl') for name in names) else 'archive'
