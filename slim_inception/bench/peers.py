"""Other libraries under our clock, each in a process that runs a round when it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from slim_inception.bench import timing


class Peer(NamedTuple):
  """A library that has some of the nets."""

  script: str  # in this folder
  nets: dict[str, str]  # our name: its name
  precisions: tuple[str, ...]
  compiled: bool
  interpreter: str | None  # None: --timm_python


_KERAS_NETS = {
  'inception_v3': 'InceptionV3',
  'inception_resnet_v2': 'InceptionResNetV2',
  **{f'resnet_v1_{layers}': f'ResNet{layers}' for layers in (50, 101, 152)},
  **{f'resnet_v2_{layers}': f'ResNet{layers}V2' for layers in (50, 101, 152)},
}
# timm's resnet50 is ResNet-v1.5, with 4.1 billion multiply-adds where slim's ResNet-v1-50 has 3.5.
_TIMM_NETS = {
  **{name: name for name in ('inception_v3', 'inception_v4', 'inception_resnet_v2')},
  **{
    f'resnet_{version}_{layers}': f'resnet{layers}'
    for version in ('v1', 'v1_5', 'v2')
    for layers in (50, 101, 152)
  },
}
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
    raise ValueError(f'--timm_python={python} cannot import timm: {last_line(done.stderr)}')


def last_line(text: str) -> str:
  """The last words of a program that failed."""
  return next((line for line in reversed(text.splitlines()) if line.strip()), 'it said nothing')


def command_of(
  name: str, model_name: str, request: Mapping[str, Any], timm_python: str
) -> list[str]:
  """What starts a peer with our name of its net, and what else its script is to know."""
  peer = PEERS[name]
  whole = {'net': peer.nets[model_name], 'compiled': peer.compiled, **request}
  interpreter = peer.interpreter or timm_python
  return [interpreter, os.fspath(Path(__file__).parent / peer.script), json.dumps(whole)]


class PeerProcess:
  """A program that ends in `timing.serve`, warmed up; a context manager, which stops it.

  Attributes:
    program: for `timing.take_turns`.
  """

  def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None):
    """Starts it and waits until it is warmed up.

    Raises:
      ValueError: it failed; its last words.
    """
    self._name = name
    self._errors: IO[str] = tempfile.TemporaryFile('w+')  # noqa: SIM115  closed by `close`
    pipe = subprocess.PIPE
    self._process = subprocess.Popen(
      command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=self._errors
    )
    with contextlib.ExitStack() as on_failure:
      on_failure.callback(self.close)
      warm = self._receive()
      on_failure.pop_all()
    self.program = timing.Program(warm['first'], warm['steps_per_round'], self._run_round)

  def _run_round(self) -> float:
    with contextlib.suppress(BrokenPipeError):  # what it sends at its end tells more
      print(file=self._process.stdin, flush=True)
    return self._receive()['seconds']

  def _receive(self) -> dict[str, Any]:
    message = timing.receive(self._process.stdout or ())
    if message is None:
      self._process.wait()
      self._errors.seek(0)
      raise ValueError(f'{self._name} failed: {last_line(self._errors.read())}')
    return message

  def end(self) -> dict[str, Any]:
    """Its last words: 'peak_bytes', 'num_parameters' (of the trained variables), 'version'."""
    if self._process.stdin:
      self._process.stdin.close()
    return self._receive()

  def close(self) -> None:
    """Stops it."""
    self._process.kill()
    self._process.wait()
    for stream in (self._process.stdin, self._process.stdout, self._errors):
      with contextlib.suppress(BrokenPipeError):
        if stream:
          stream.close()

  def __enter__(self) -> PeerProcess:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()
