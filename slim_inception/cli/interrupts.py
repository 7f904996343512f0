"""Ctrl-C: while modules are imported there is nothing to clean up, later there is."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def ending_at_once(program: str) -> Iterator[None]:
  """Has SIGINT end the process with one line and status 130.

  An import that KeyboardInterrupt breaks off shows a page, and modules of C may swallow it. Where
  SIGINT is ignored, as behind `nohup`, it stays so.

  Args:
    program: as messages call it.
  """
  stderr = os.dup(2)  # `quiet` closes descriptor 2 to TensorFlow

  def end(_: int, __: FrameType | None) -> None:
    os.write(stderr, f'{program}: interrupted\n'.encode())
    os._exit(130)

  with _handling(end):
    yield
  os.close(stderr)


@contextlib.contextmanager
def raising() -> Iterator[None]:
  """Has SIGINT raise KeyboardInterrupt, within `ending_at_once`."""
  with _handling(signal.default_int_handler):
    yield


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
  before = signal.getsignal(signal.SIGINT)
  if before is signal.SIG_IGN:
    yield
    return
  signal.signal(signal.SIGINT, handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)
