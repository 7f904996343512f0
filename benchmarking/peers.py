"""Other libraries under the same clock, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


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
    raise ValueError(f'--timm_python={python} can not import timm: {_last_line(done.stderr)}')


def measure(
  name: str,
  *,
  timm_python: str | None,
  mode: str,
  model_name: str,
  num_classes: int,
  image_size: int,
  batch_size: int,
  precision: str,
  on_cpu: bool,
  warmup_steps: int,
  num_rounds: int,
) -> dict[str, Any]:
  """Runs a peer; returns what it printed.

  Returns:
    'times' (what `timing.Times` takes), 'peak_bytes', 'num_parameters' (of the trained
    variables), 'version'.

  Raises:
    ValueError: it failed; its last words.
  """
  peer = PEERS[name]
  request = {
    'mode': mode,
    'net': peer.nets[model_name],
    'compiled': peer.compiled,
    'num_classes': num_classes,
    'image_size': image_size,
    'batch_size': batch_size,
    'precision': precision,
    'on_cpu': on_cpu,
    'warmup_steps': warmup_steps,
    'num_rounds': num_rounds,
  }
  script = Path(__file__).parent / peer.script
  command = [peer.interpreter or timm_python, os.fspath(script), json.dumps(request)]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise ValueError(f'{name} failed: {_last_line(done.stderr)}')
  return json.loads(done.stdout.splitlines()[-1])


def _last_line(text: str) -> str:
  return next((line for line in reversed(text.splitlines()) if line.strip()), 'it said nothing')
