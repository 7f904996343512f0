"""The runs of an experiment: ordinary train_dirs, trained one after the other, each once."""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypedDict

from slim_inception.datasets import conversion, digits, runners
from slim_inception.nets import processor

from experiments import config as config_lib
from slim_inception import constants, files, flags
from slim_inception.cli import console
from slim_inception.train import config_json
from slim_inception.train.config import Config

_DIVERGED_FILE = 'diverged.json'  # in a train_dir
_STARTS_FILE = 'starts.jsonl'  # in the output folder and in each train_dir
# Flags in which a run may differ from what it was: where and how fast, not what comes of it.
_OF_THE_HOST = ('dataset_dir', 'num_preprocessing_threads', 'save_interval_secs', 'config')


class Diverged(TypedDict):
  """Why a run ended early."""

  step: int
  reason: str


class Start(TypedDict):
  """One start of the command."""

  wall_seconds: float
  cpu_seconds: float


def finish(
  experiment: config_lib.ExperimentConfig,
  configs: Mapping[str, Config],
  evaluator_of: Callable[[Config], Any],
  make_plan: conversion.MakePlan = digits.make_plan,
) -> bool:
  """Makes the records if need be, and trains; keeps the time that this start took.

  Arguments, result and errors as `train_all`; `experiment` says where all lies, and `make_plan`
  what the records are that the experiment makes itself.
  """
  with timed(experiment.output_dir):
    config_lib.make_records(experiment, next(iter(configs.values())), make_plan)
    return train_all(configs, evaluator_of)


def train_all(configs: Mapping[str, Config], evaluator_of: Callable[[Config], Any]) -> bool:
  """Trains the runs that are not finished, from where they are, in the order in which they come.

  A run whose loss is not finite or explodes is finished: that is a result.

  Args:
    configs: by name.
    evaluator_of: makes what evaluates the checkpoints of a run, see `train.loop.Evaluate`.

  Returns:
    Whether all are finished; False where SIGTERM ended one.

  Raises:
    ValueError, OSError: as `trainer.train`, or the folder holds a run of other flags.
    KeyboardInterrupt: Ctrl-C, after saving.
  """
  from slim_inception.train import recovery, trainer

  for config in configs.values():
    check_unchanged(config)
  for number, (name, config) in enumerate(configs.items(), start=1):
    where = f'run {number} of {len(configs)}, {name}'
    if is_finished(config):
      console.say(f'{where}: was finished before')
      continue
    console.say(f'{where}: in {config.run.train_dir}')
    try:
      with timed(config.run.train_dir):
        trainer.train(config, evaluator_of(config))
    except recovery.DivergedError as error:
      reason = Diverged(step=error.step, reason=console.one_line(error))
      files.write_json(os.path.join(config.run.train_dir, _DIVERGED_FILE), reason)
      # Before the first line of its log: it is read like those of the others.
      Path(config.run.train_dir, constants.METRICS_FILE).touch()
    gc.collect()  # the variables of the net, which hang in cycles
    if not is_finished(config):
      console.say(f'{where}: stopped; started again it goes on')
      return False
  return True


def is_finished(config: Config) -> bool:
  """Whether a run has come to its end, or has diverged."""
  from slim_inception.nets import checkpoint_files

  train_dir = config.run.train_dir
  if read_diverged(train_dir) is not None:
    return True
  facts = (config_json.read(train_dir) or {}).get('run', {})
  latest = checkpoint_files.latest(train_dir) if os.path.isdir(train_dir) else None
  steps = facts.get('total_steps')
  return bool(latest and steps and (checkpoint_files.step_of(latest) or 0) >= steps)


def read_diverged(train_dir: str) -> Diverged | None:
  """Why the run ended early; None where it did not."""
  diverged: Diverged | None = files.read_json(os.path.join(train_dir, _DIVERGED_FILE), Diverged)
  return diverged


def check_unchanged(config: Config) -> None:
  """Raises ValueError where a train_dir holds a run of other flags: it would not be comparable."""
  before = config_json.read(config.run.train_dir)
  for name, value in flags.flatten(config).items() if before else ():
    then = before.get(name, value) if before else value
    if name not in _OF_THE_HOST and (tuple(then) if isinstance(then, list) else then) != value:
      raise ValueError(
        f'{config.run.train_dir} holds a run with --{name}={flags.as_text(then)}, not '
        f'{flags.as_text(value)}: choose another --output_dir'
      )


@contextlib.contextmanager
def timed(output_dir: str) -> Iterator[None]:
  """Adds the time of the block to that of earlier starts, also where it is interrupted.

  SIGTERM, which the loop of a run answers by saving, ends the program elsewhere too.
  """
  wall, cpu = time.monotonic(), _cpu_seconds()
  before = signal.signal(signal.SIGTERM, _exit)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
    start = Start(
      wall_seconds=round(time.monotonic() - wall, 1), cpu_seconds=round(_cpu_seconds() - cpu, 1)
    )
    os.makedirs(output_dir, exist_ok=True)
    files.append_json_lines(os.path.join(output_dir, _STARTS_FILE), [dict(start)])


def _exit(number: int, _: FrameType | None) -> NoReturn:
  sys.exit(128 + number)


def _cpu_seconds() -> float:
  """Of this process and of those that it waited for."""
  return sum(os.times()[:4])


def read_starts(output_dir: str) -> Sequence[Start]:
  """All starts of the command so far, or of a run, by its train_dir."""
  return files.read_json_lines(os.path.join(output_dir, _STARTS_FILE), Start)


def facts(output_dir: str, configs: Mapping[str, Config]) -> dict[str, str]:
  """What the page says of how the runs were made."""
  import tensorflow as tf

  starts = read_starts(output_dir)
  shared = [set(_texts(config)) for config in configs.values()]
  wall = sum(start['wall_seconds'] for start in starts) / 60
  cpu = sum(start['cpu_seconds'] for start in starts) / 60
  gpus = [
    tf.config.experimental.get_device_details(gpu).get('device_name', 'GPU')
    for gpu in tf.config.list_physical_devices('GPU')
  ]
  return {
    'flags of training': ' '.join(sorted(set.intersection(*shared))),
    'time': f'{wall:.1f} minutes in {len(starts)} start(s), {cpu:.1f} minutes of processor time',
    'hardware': f'{processor.read_name() or "unknown processor"}, {runners.num_cores()} cores'
    + (f'; {", ".join(gpus)}' if gpus else '; no GPU'),
    'TensorFlow': tf.__version__,
  }


def _texts(config: Config) -> Iterator[str]:
  for name, value in config_lib.differences(config).items():
    if name not in ('train_dir', 'dataset_dir'):
      yield f'--{name}={flags.as_text(value)}'


def log_of(train_dir: str, key: str) -> list[tuple[int, float]]:
  """(step, value) of what the run logged, or of an evaluation (`eval_...`)."""
  lines = files.read_json_lines(os.path.join(train_dir, constants.METRICS_FILE), files.StepLine)
  return [
    (line['step'], float(line[key]))
    for line in lines
    if isinstance(line.get(key), (int, float)) and not isinstance(line.get(key), bool)
  ]
