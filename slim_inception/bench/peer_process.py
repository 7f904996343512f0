"""Another library under our clock, in a process of its own that runs a round when it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from slim_inception.bench import peers, timing
from slim_inception.bench.config import Config


class PeerProcess:
  """A peer, warmed up; a context manager, which stops it.

  Attributes:
    program: for `timing.take_turns`.
  """

  def __init__(self, name: str, config: Config, num_classes: int):
    """Starts it and waits until it is warmed up.

    Raises:
      ValueError: it failed; its last words.
    """
    peer = peers.PEERS[name]
    request = {
      'mode': config.mode,
      'net': peer.nets[config.model_name],
      'compiled': peer.compiled,
      'num_classes': num_classes,
      'image_size': config.image_size,
      'batch_size': config.batch_size,
      'precision': config.precision,
      'on_cpu': config.clone_on_cpu,
      'warmup_steps': config.warmup_steps,
    }
    script = Path(__file__).parent / peer.script
    self._name = name
    self._errors = tempfile.TemporaryFile('w+')  # noqa: SIM115  closed by `close`
    self._process = subprocess.Popen(
      [peer.interpreter or config.timm_python, os.fspath(script), json.dumps(request)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
    )
    with contextlib.ExitStack() as on_failure:
      on_failure.callback(self.close)
      said = self._hear()
      on_failure.pop_all()
    self.program = timing.Program(said['first'], said['steps_per_round'], self._run_round)

  def _run_round(self) -> float:
    with contextlib.suppress(BrokenPipeError):  # what it said at its end tells more
      self._process.stdin.write('\n')
      self._process.stdin.flush()
    return self._hear()['seconds']

  def _hear(self) -> dict[str, Any]:
    said = timing.hear(self._process.stdout)
    if said is None:
      self._process.wait()
      self._errors.seek(0)
      raise ValueError(f'{self._name} failed: {peers.last_line(self._errors.read())}')
    return said

  def end(self) -> dict[str, Any]:
    """Its last words: 'peak_bytes', 'num_parameters' (of the trained variables), 'version'."""
    self._process.stdin.close()
    return self._hear()

  def close(self) -> None:
    """Stops it."""
    self._process.kill()
    self._process.wait()
    for stream in (self._process.stdin, self._process.stdout, self._errors):
      with contextlib.suppress(BrokenPipeError):
        stream.close()

  def __enter__(self) -> PeerProcess:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()
