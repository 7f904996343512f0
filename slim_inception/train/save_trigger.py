"""After a step: whether to save and whether to stop, the same on every worker."""

import contextlib
import os
import signal
import threading
import time
from typing import NamedTuple

from slim_inception.cluster import Cluster

# Workers speak to each other about once in so many seconds, not at every step: it costs
# milliseconds. A signal is answered that much later.
_GATHER_SECS = 1.0
_MAX_STEPS_BETWEEN = 1000

# What comes so soon after the first signal is the same once more: timeout(1) signals the command
# and then its whole group, and launchers pass on a Ctrl-C that the terminal sends to all.
_REPEAT_SECS = 0.25


class StopSignal(contextlib.ExitStack):
  """Notes SIGTERM (preemption) and SIGINT (Ctrl-C) while it is entered; a second one ends at once.

  What comes within `_REPEAT_SECS` of the first is no second one. Python's own handlers run when
  TensorFlow returns: after a step of a minute, or never where another worker is stuck. So they do
  nothing here, and a thread reads the signals from the pipe to which Python writes them when they
  come (`signal.set_wakeup_fd`). Outside of the main thread, where Python takes no signals, nothing
  is noted.
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self) -> None:
    super().__init__()
    self.received = 0  # number of the signal
    self._received_at = 0.0  # by time.monotonic

  def __enter__(self) -> 'StopSignal':
    if threading.current_thread() is threading.main_thread():
      self._listen()
    return self

  def _listen(self) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as Python demands
    thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
    thread.start()
    # Undone in the opposite order: no signal may find the pipe closed.
    self.callback(os.close, reader)
    self.callback(thread.join)
    self.callback(os.close, writer)  # ends the thread
    self.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
    for number in self.SIGNALS:
      before = signal.signal(number, lambda number, frame: None)
      self.callback(signal.signal, number, before)

  def _read(self, reader: int) -> None:
    """Until the pipe is closed; it has the numbers of all signals that Python handles, as bytes."""
    while number := os.read(reader, 1):
      if number[0] in self.SIGNALS:
        self._note(signal.Signals(number[0]))

  def _note(self, number: signal.Signals) -> None:
    # By os.write: what goes through buffers may be in the middle of a line.
    now = time.monotonic()
    if self.received:
      if now - self._received_at < _REPEAT_SECS:
        return
      os.write(2, f'{number.name}: ended at once\n'.encode())
      os._exit(128 + number)  # as a shell says that a signal ended a process
    self.received, self._received_at = int(number), now
    line = f'{number.name}: saving after this step; a second signal ends the run at once\n'
    os.write(2, line.encode())


class Decision(NamedTuple):
  """What follows a step."""

  save: bool
  stop: int  # the signal that ends the run, or 0


class SaveTrigger:
  """Decides after every step whether to save and to stop. What depends on clocks and signals, which
  differ between workers, is gathered from all; what depends on the step is not.

  Args:
    cluster: who has to agree.
    step: done so far.
    save_secs: seconds between checkpoints by the chief's clock; None: not by the clock.
    save_steps: steps between checkpoints; None: not by steps.
  """

  def __init__(self, cluster: Cluster, step: int, save_secs: float | None, save_steps: int | None):
    self._cluster = cluster
    self._save_secs, self._save_steps = save_secs, save_steps
    self._saved_at = self._gathered_at = time.monotonic()
    self._gathered_step = self._next_gathering = step

  def after(self, step: int, received: int, is_last: bool) -> Decision:
    """The decision after `step`, given the signal that this worker has received, or 0."""
    now = time.monotonic()
    is_due = self._save_secs is not None and now - self._saved_at >= self._save_secs
    if self._cluster.count > 1:
      is_due, received = self._agree(step, now, is_due, received)
    save = bool(
      is_last or is_due or received or (self._save_steps and step % self._save_steps == 0)
    )
    if save:
      self._saved_at = now
    return Decision(save, received)

  def _agree(self, step: int, now: float, is_due: bool, received: int) -> tuple[bool, int]:
    """The chief's clock and everyone's signals; nothing between two gatherings."""
    if step < self._next_gathering:
      return False, 0
    passed = max(step - self._gathered_step, 1)
    microseconds = round((now - self._gathered_at) / passed * 1e6)
    table = self._cluster.all_gather((is_due, received, microseconds))
    seconds = min(_GATHER_SECS, _GATHER_SECS if self._save_secs is None else self._save_secs)
    steps = int(seconds * 1e6 / max(table[0, 2], 1))
    self._next_gathering = step + min(max(steps, 1), _MAX_STEPS_BETWEEN)
    self._gathered_step, self._gathered_at = step, time.monotonic()
    return bool(table[0, 0]), int(table[:, 1].max())
