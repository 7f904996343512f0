"""The clock of all measurements, the peers' too: nothing but the standard library."""

import dataclasses
import math
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

# A round lasts at least this long: on a fast device many steps are then queued before it is waited
# for, as in training.
ROUND_SECONDS = 0.5

Pending = TypeVar('Pending')


@dataclasses.dataclass(frozen=True)
class Times:
  """Durations of steps.

  Attributes:
    first: seconds of the first step, which also traces, optimizes and compiles.
    rounds: seconds a step in each round.
    steps_per_round: steps of which a round consists.
  """

  first: float
  rounds: tuple[float, ...]
  steps_per_round: int

  @property
  def median(self) -> float:
    return statistics.median(self.rounds)


def measure(
  start: Callable[[], Pending],
  finish: Callable[[Pending], object],
  *,
  warmup_steps: int,
  num_rounds: int,
) -> Times:
  """Times rounds of steps.

  Args:
    start: begins a step; may return before it is done.
    finish: waits for what `start` returned.
    warmup_steps: untimed, the first included; at least 2.
    num_rounds: timed.
  """

  def timed(steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
      pending = start()
    finish(pending)
    return (time.perf_counter() - begin) / steps

  first, *others = (timed(1) for _ in range(warmup_steps))
  steps = max(1, math.ceil(ROUND_SECONDS / max(others[-1], 1e-6)))
  return Times(first, tuple(timed(steps) for _ in range(num_rounds)), steps)


def by_turns(
  ways: Sequence[Callable[[], Pending]],
  finish: Callable[[Pending], object],
  *,
  num_rounds: int,
  repetitions: int = 3,
) -> list[list[float]]:
  """Seconds of each way to do a thing, in each round: on a noisy machine compare within a round.

  Args:
    ways: what to time; each is called once before.
    finish: waits for what a way returned.
    num_rounds: how often all ways take their turn.
    repetitions: calls of a way in its turn.
  """

  def seconds(way: Callable[[], Pending]) -> float:
    begin = time.perf_counter()
    for _ in range(repetitions):
      pending = way()
    finish(pending)
    return (time.perf_counter() - begin) / repetitions

  for way in ways:
    finish(way())
  rounds = [[seconds(way) for way in ways] for _ in range(num_rounds)]
  return [list(times) for times in zip(*rounds, strict=True)]


def peak_resident_bytes() -> int:
  """The most memory that this process ever had."""
  try:
    # Linux hands the peak of getrusage on to a new program; this one begins with it.
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'^VmHWM:\s*(\d+) kB', status, re.M).group(1)) * 1024
  except OSError:
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
