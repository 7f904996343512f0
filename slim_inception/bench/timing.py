"""The clock of all measurements, the peers' too: nothing but the standard library."""

import dataclasses
import json
import math
import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

# A round lasts at least this long: on a fast device many steps are then queued before it is waited
# for, as in training.
ROUND_SECONDS = 0.5

# A virtual machine's neighbours take a share of its time. A round of which they took more than
# `_DISTURBED` is run again, until there are `_PATIENCE` times as many rounds as were asked for.
_DISTURBED = 0.02
_PATIENCE = 2

Pending = TypeVar('Pending')
Measured = TypeVar('Measured')


@dataclasses.dataclass(frozen=True)
class Times:
  """Durations of steps.

  Attributes:
    first: seconds of the first step, which also traces, optimizes and compiles.
    rounds: seconds a step in each round.
    steps_per_round: steps of which a round consists.
    stolen: the share of the machine's time that its neighbours took, in each round.
  """

  first: float
  rounds: Sequence[float]
  steps_per_round: int
  stolen: Sequence[float]

  @property
  def median(self) -> float:
    return statistics.median(self.rounds)


@dataclasses.dataclass(frozen=True)
class Program:
  """What is warmed up and waits for its turns.

  Attributes:
    first: seconds of the first step.
    steps_per_round: steps of a round.
    run_round: seconds a step of one more round.
  """

  first: float
  steps_per_round: int
  run_round: Callable[[], float]


def prepare(
  start: Callable[[], Pending], finish: Callable[[Pending], object], warmup_steps: int
) -> Program:
  """Warms a program up.

  Args:
    start: begins a step; may return before it is done.
    finish: waits for what `start` returned.
    warmup_steps: untimed, the first included; at least 2.
  """

  def timed(steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
      pending = start()
    finish(pending)
    return (time.perf_counter() - begin) / steps

  first, *others = (timed(1) for _ in range(warmup_steps))
  steps = max(1, math.ceil(ROUND_SECONDS / max(others[-1], 1e-6)))
  return Program(first, steps, lambda: timed(steps))


def take_turns(
  programs: Sequence[Program], num_rounds: int, report: Callable[[], object] = lambda: None
) -> list[Times]:
  """Rounds of each program, one after the other, so that none has quieter minutes than another.

  `report` is called after each round of all.
  """

  def run_round() -> list[float]:
    seconds = [program.run_round() for program in programs]
    report()
    return seconds

  rounds = undisturbed(run_round, num_rounds)
  stolen = [share for _, share in rounds]
  seconds = zip(*(times for times, _ in rounds), strict=True)
  return [
    Times(program.first, own, program.steps_per_round, stolen)
    for program, own in zip(programs, seconds, strict=True)
  ]


def measure(
  start: Callable[[], Pending],
  finish: Callable[[Pending], object],
  *,
  warmup_steps: int,
  num_rounds: int,
  report: Callable[[], object] = lambda: None,
) -> Times:
  """Times rounds of a program alone, see `prepare` and `take_turns`."""
  return take_turns([prepare(start, finish, warmup_steps)], num_rounds, report)[0]


# A program in a process of its own: a line of JSON once it is warmed up, one for each round that a
# line on its standard input asks for, and one at the end. Libraries print there too.
_MARK = 'timed '


def serve(
  start: Callable[[], Pending],
  finish: Callable[[Pending], object],
  *,
  warmup_steps: int,
  facts: Callable[[], dict[str, Any]],
) -> None:
  """Runs rounds when it is told to, then sends `facts`."""
  program = prepare(start, finish, warmup_steps)
  send(first=program.first, steps_per_round=program.steps_per_round)
  for _ in sys.stdin:
    send(seconds=program.run_round())
  send(**facts())


def send(**values: Any) -> None:
  """Prints a line for `receive`."""
  print(_MARK + json.dumps(values), flush=True)


def receive(lines: Iterable[str]) -> dict[str, Any] | None:
  """What was sent next; None if nothing more was."""
  messages = (line.removeprefix(_MARK) for line in lines if line.startswith(_MARK))
  return next(map(json.loads, messages), None)


def undisturbed(run_round: Callable[[], Measured], num_rounds: int) -> list[tuple[Measured, float]]:
  """What rounds gave, and the share of the machine's time that its neighbours took meanwhile.

  Of a machine that is never left alone, the rounds of `_PATIENCE` times as many in which they took
  least; in the order in which they were run.
  """
  rounds: list[tuple[Measured, float]] = []
  quiet = 0
  while quiet < num_rounds and len(rounds) < _PATIENCE * num_rounds:
    begin, stolen = time.perf_counter(), _stolen_seconds()
    measured = run_round()
    available = (time.perf_counter() - begin) * (os.cpu_count() or 1)
    share = (_stolen_seconds() - stolen) / max(available, 1e-6)
    rounds.append((measured, share))
    quiet += share <= _DISTURBED
  limit = sorted(share for _, share in rounds)[num_rounds - 1]
  return [pair for pair in rounds if pair[1] <= limit][:num_rounds]


def _stolen_seconds() -> float:
  """Time of all processors that the hypervisor gave to others; 0 where nobody says so."""
  try:
    fields = Path('/proc/stat').read_text().partition('\n')[0].split()
    return int(fields[8]) / os.sysconf('SC_CLK_TCK')
  except (OSError, IndexError):
    return 0.0


def peak_resident_bytes() -> int:
  """The most memory that this process ever had."""
  try:
    # Linux hands the peak of getrusage on to a new program; this one begins with it.
    status = Path('/proc/self/status').read_text()
    return int(re.findall(r'^VmHWM:\s*(\d+) kB', status, re.M)[0]) * 1024
  except OSError:
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
