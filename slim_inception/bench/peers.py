"""The libraries that can be measured beside ours."""

import subprocess
import sys
from typing import NamedTuple


class Peer(NamedTuple):
  """A library that has some of the nets."""

  script: str  # in this folder
  nets: dict[str, str]  # our name: its name
  precisions: tuple[str, ...]
  compiled: bool
  interpreter: str | None  # None: --timm_python


_KERAS_NETS = {'inception_v3': 'InceptionV3', 'inception_resnet_v2': 'InceptionResNetV2'}
_TIMM_NETS = {name: name for name in ('inception_v3', 'inception_v4', 'inception_resnet_v2')}
_ALL = ('bfloat16', 'float16', 'float32')
_FLOAT32_AND_BFLOAT16 = ('bfloat16', 'float32')  # float16 of torch wants a loss scale and a GPU

PEERS = {
  'keras': Peer('keras_peer.py', _KERAS_NETS, _ALL, False, sys.executable),
  'keras_jit': Peer('keras_peer.py', _KERAS_NETS, _ALL, True, sys.executable),
  'timm': Peer('timm_peer.py', _TIMM_NETS, _FLOAT32_AND_BFLOAT16, False, None),
  'timm_compiled': Peer('timm_peer.py', _TIMM_NETS, _FLOAT32_AND_BFLOAT16, True, None),
}


def check_timm(python: str) -> None:
  """Raises ValueError where an interpreter is none, or has no timm."""
  try:
    done = subprocess.run([python, '-c', 'import timm'], capture_output=True, text=True)
  except OSError as error:
    raise ValueError(f'--timm_python={python}: {error.strerror}') from error
  if done.returncode:
    raise ValueError(f'--timm_python={python} can not import timm: {last_line(done.stderr)}')


def last_line(text: str) -> str:
  """The last words of a program that failed."""
  return next((line for line in reversed(text.splitlines()) if line.strip()), 'it said nothing')
