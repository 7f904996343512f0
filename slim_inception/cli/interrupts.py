"""Ctrl-C: one line and status 130 at any time, also while modules are imported."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn


@contextlib.contextmanager
def ending_at_once(program: str) -> Iterator[None]:
  """Has SIGINT end the process with one line and status 130, while there is nothing to clean up.

  Where SIGINT is ignored, as behind `nohup`, it stays so.

  Args:
    program: as messages call it.
  """

  def end(_: int, __: FrameType | None) -> None:
    os.write(2, f'{program}: interrupted\n'.encode())
    os._exit(130)

  with _handling(end):
    yield


@contextlib.contextmanager
def raising() -> Iterator[None]:
  """Has SIGINT raise KeyboardInterrupt, within `ending_at_once`.

  Where it breaks off an import, modules of C may make another error of it: that is raised as
  KeyboardInterrupt too.
  """
  received = False

  def interrupt(_: int, __: FrameType | None) -> NoReturn:
    nonlocal received
    received = True
    raise KeyboardInterrupt

  with _handling(interrupt):
    try:
      yield
    except Exception as error:
      if received:
        raise KeyboardInterrupt from error
      raise


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
