"""How far a piece of work is: a bar on a terminal, elsewhere a line now and then.

All commands speak by it, on stderr: results go to stdout. It speaks where `absl.logging` shows what
is INFO: in commands, but not in the workers of a cluster other than the chief, and in programs that
ask for it.
"""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from absl import logging

EVERY_SECS = 30.0  # between lines, at most
_REFRESH_SECS = 0.5  # of a bar, whose clock moves while nothing else does

T = TypeVar('T')


class ProgressBar(contextlib.ExitStack):
  """Progress of what is entered: 'what: 12/144 views  8.3%  3.21 views/s  41 s left'.

  On a terminal it is a bar of tqdm, above which the lines of the log appear. Elsewhere it is a line
  every 30 s, also while nothing moves.

  Args:
    what: is done.
    total: how much there is to do; None where nobody knows.
    unit: what is counted, in the plural.
    every_secs: seconds between lines.
  """

  def __init__(self, what: str, total: int | None, unit: str, every_secs: float = EVERY_SECS):
    super().__init__()
    self._what, self._total, self._unit, self._every_secs = what, total, unit, every_secs
    self._count = self._first_count = 0
    self._begin = self._first = time.monotonic()
    self._bar: Any = None  # tqdm's

  def __enter__(self) -> 'ProgressBar':
    self._begin = time.monotonic()
    if not logging.vlog_is_on(logging.INFO):
      return self
    if not sys.stderr.isatty():
      self.enter_context(_repeated(self._every_secs, lambda: logging.info('%s', self.line())))
      return self
    from tqdm import contrib, tqdm  # here: most imports of this module need no bar

    is_sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # not in every container
    width: dict[str, Any] = {'dynamic_ncols': True} if is_sized else {'ncols': 80, 'nrows': 24}
    unit = f' {self._unit}'
    bar = self._bar = self.enter_context(
      tqdm(desc=self._what, total=self._total, unit=unit, **width)
    )
    handler, above = logging.get_absl_handler().python_handler, contrib.DummyTqdmFile(sys.stderr)
    before = handler.setStream(above)
    self.callback(lambda: handler.stream is above and handler.setStream(before))
    self.enter_context(_repeated(_REFRESH_SECS, bar.refresh))
    return self

  def __exit__(self, *error: Any) -> bool | None:
    if self._bar is not None and error[0] is None:
      self._bar.total = self._count  # what was left out on the way is no part of it
    return super().__exit__(*error)

  def update(self, count: int = 1) -> None:
    """Says that so much more is done."""
    self._count += count
    if self._first_count == 0:  # what came before it says nothing of the rest: tracing, opening
      self._first_count, self._first = self._count, time.monotonic()
    if self._bar is not None:
      self._bar.update(count)

  def track(self, items: Iterable[T]) -> Iterator[T]:
    """The items, each of which counts as done when the next is asked for."""
    for item in items:
      yield item
      self.update()

  def line(self) -> str:
    """How far it is."""
    now = time.monotonic()
    total = f'/{self._total}' if self._total else ''
    parts = [f'{self._what}: {self._count}{total} {self._unit}']
    if self._count and self._total:
      parts.append(f'{self._count / self._total:.1%}')
    if self._count > self._first_count:
      rate = (self._count - self._first_count) / (now - self._first)
      parts.append(f'{digits(rate)} {self._unit}/s')
      if self._total:
        parts.append(f'{duration(max(0, self._total - self._count) / rate)} left')
    else:
      parts.append(f'{duration(now - self._begin)} so far')
    return '  '.join(parts)


@contextlib.contextmanager
def waiting(what: str, every_secs: float = EVERY_SECS, *, at_once: bool = True) -> Iterator[None]:
  """Says what is done while it is entered, at once and every 30 s that it still is.

  Args:
    what: a line; what stands behind a colon is said at once alone.
    every_secs: seconds between lines.
    at_once: false says nothing of what takes less than that.
  """
  begin = time.monotonic()
  if at_once:
    logging.info('%s', what)

  def say() -> None:
    logging.info('%s: %s so far', what.partition(': ')[0], duration(time.monotonic() - begin))

  with _repeated(every_secs, say):
    yield


def hidden() -> contextlib.AbstractContextManager[object]:
  """While it is entered there is no bar on the terminal: for what is printed meanwhile."""
  tqdm = sys.modules.get('tqdm')
  return tqdm.tqdm.external_write_mode() if tqdm else contextlib.nullcontext()


@contextlib.contextmanager
def _repeated(seconds: float, say: Callable[[], object]) -> Iterator[None]:
  """Calls `say` every so many seconds, in a thread."""
  is_over = threading.Event()

  def repeat() -> None:
    while not is_over.wait(seconds):
      say()

  thread = threading.Thread(target=repeat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    is_over.set()
    thread.join()


def duration(seconds: float) -> str:
  """'42 s', '3 min 5 s', '2 h 10 min', '4 d 3 h'."""
  for size, unit, below, smaller in ((86400, 'd', 3600, 'h'), (3600, 'h', 60, 'min')):
    if seconds >= size:
      return f'{int(seconds // size)} {unit} {int(seconds % size // below)} {smaller}'
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes} min {rest} s' if minutes else f'{rest} s'


def digits(value: float) -> str:
  """A rate with at least one decimal and three digits that count: '157.2', '3.40', '0.00123'."""
  if value == 0 or not math.isfinite(value):
    return str(value)
  return f'{value:.{max(1, 2 - math.floor(math.log10(abs(value))))}f}'
