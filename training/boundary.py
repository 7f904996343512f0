"""Between two steps: whether to save and whether to stop, the same on every worker."""

import os
import signal
import threading
import time
from types import FrameType
from typing import NamedTuple

from training.distribution import Team

# Workers speak to each other about once in so many seconds, not at every step: it costs
# milliseconds. A signal is answered that much later.
_EXCHANGE_SECS = 1.0
_MAX_STEPS_BETWEEN = 1000


class StopSignal:
  """Notes SIGTERM (preemption) and SIGINT (Ctrl-C) while it is entered; a second one ends at once.

  Outside of the main thread, where Python takes no signals, it notes nothing.
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self) -> None:
    self.received = 0  # number of the signal
    self._before: dict = {}

  def __enter__(self) -> 'StopSignal':
    if threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
    return self

  def __exit__(self, *unused: object) -> None:
    self._restore()

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.received = number
    self._restore()
    name = signal.Signals(number).name
    line = f'{name}: saving after this step; a second signal ends the run at once\n'
    os.write(2, line.encode())  # what goes through buffers may be in the middle of a line

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}


class Decision(NamedTuple):
  """What follows a step."""

  save: bool
  stop: int  # the signal that ends the run, or 0


class Boundary:
  """Decides after every step what is next. What depends on clocks and signals, which differ
  between workers, is exchanged; what depends on the step is not.

  Args:
    team: who has to agree.
    save_secs: seconds between checkpoints by the chief's clock; None: not by the clock.
    save_steps: steps between checkpoints; None: not by steps.
  """

  def __init__(self, team: Team, step: int, save_secs: float | None, save_steps: int | None):
    self._team = team
    self._save_secs, self._save_steps = save_secs, save_steps
    self._saved_at = self._exchanged_at = time.monotonic()
    self._exchanged_step = self._next_exchange = step

  def after(self, step: int, received: int, is_last: bool) -> Decision:
    """The decision after `step`, given the signal that this worker has received, or 0."""
    now = time.monotonic()
    is_due = self._save_secs is not None and now - self._saved_at >= self._save_secs
    if self._team.count > 1:
      is_due, received = self._agree(step, now, is_due, received)
    save = bool(
      is_last or is_due or received or (self._save_steps and step % self._save_steps == 0)
    )
    if save:
      self._saved_at = now
    return Decision(save, received)

  def _agree(self, step: int, now: float, is_due: bool, received: int) -> tuple[bool, int]:
    """The chief's clock and everyone's signals; nothing between two exchanges."""
    if step < self._next_exchange:
      return False, 0
    passed = max(step - self._exchanged_step, 1)
    microseconds = round((now - self._exchanged_at) / passed * 1e6)
    table = self._team.exchange((is_due, received, microseconds))
    wanted = min(_EXCHANGE_SECS, _EXCHANGE_SECS if self._save_secs is None else self._save_secs)
    steps = int(wanted * 1e6 / max(table[0, 2], 1))
    self._next_exchange = step + min(max(steps, 1), _MAX_STEPS_BETWEEN)
    self._exchanged_step, self._exchanged_at = step, time.monotonic()
    return bool(table[0, 0]), int(table[:, 1].max())
