"""history.jsonl: what happened in a run between its steps, in the order in which it did.

A line of it is an object with `event`, `step` and `time`, and what the event has to say:

  start       where the run begins or goes on, on what, and what was restored; see `Start`
  checkpoint  seconds that saving took
  rollback    to which step, and why
  end         status: finished, interrupted or failed, and why

A run that was killed has no end. metrics.jsonl forgets steps that are gone back on; this does not.
"""

import datetime
import os
from typing import Any, TypedDict

from slim_inception import constants, files

FINISHED, INTERRUPTED, FAILED = 'finished', 'interrupted', 'failed'


class Event(TypedDict):
  """A line."""

  event: str
  step: int
  time: str  # ISO 8601, UTC


class Start(TypedDict, total=False):
  """What a start says besides.

  Attributes:
    devices: as the log calls them.
    processor: its name.
    versions: {package: version}.
    num_replicas, per_replica_batch, global_batch_size: see `Plan`.
    accumulate_steps: passes of a replica in a step.
    precision: of the net.
    source: checkpoint or file that variables come from; '' of a fresh run.
    restored: how many variables have their values from there.
    fresh: {variable: why it begins anew}.
    ignored: variables of the source that are of no use here.
    notes: lines on what was converted.
    changes: lines on what has changed since the last start.
  """

  devices: str
  processor: str
  versions: dict[str, str]
  num_replicas: int
  per_replica_batch: int
  accumulate_steps: int
  global_batch_size: int
  precision: str
  source: str
  restored: int
  fresh: dict[str, str]
  ignored: list[str]
  notes: list[str]
  changes: list[str]


def add(directory: str | None, event: str, step: int, **more: Any) -> None:
  """Adds a line, at once.

  Args:
    directory: the train_dir; None: nothing is written, by workers that are not the chief.
    event: what happened.
    step: steps done then.
    **more: what there is to say, as JSON has it.

  Raises:
    OSError: the disk is full.
  """
  if directory is None:
    return
  now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')
  line = {'event': event, 'step': step, 'time': now, **more}
  path = os.path.join(directory, constants.EVENTS_FILE)
  with files.naming_full_disk(path):
    files.append_json_lines(path, [line])


def read(directory: str) -> list[dict[str, Any]]:
  """The lines of a run; [] of one that began before they were written."""
  path = os.path.join(directory, constants.EVENTS_FILE)
  lines: list[dict[str, Any]] = files.read_json_lines(path, Event)
  return lines
