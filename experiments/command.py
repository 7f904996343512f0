"""What the commands of all experiments have in common: from flags to runs to a page."""

import shlex
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from slim_inception.datasets import conversion, digits

from experiments import page, runs
from slim_inception import flags
from slim_inception.cli import console, interrupts, quiet
from slim_inception.train.config import Config

_Flags = TypeVar('_Flags')
Configs = Mapping[str, Config]  # the runs by name


def start(module: ModuleType) -> None:
  """Runs the `main` of an experiment as a program; errors are one line, and Ctrl-C ends it."""
  program = f'python -m experiments.{module.NAME}'
  with interrupts.ending_at_once(program):
    console.run(module, [program, *sys.argv[1:]])


def main(
  name: str,
  kind: type[_Flags],
  resolve: Callable[[Mapping[str, Any]], _Flags],
  run: Callable[[_Flags, str], object],
) -> None:
  """Parses the flags and runs the experiment with them and its command line, for the page.

  Args:
    name: of the experiment.
    kind: the dataclass of its flags.
    resolve: see the function of this name, with its first two arguments.
    run: trains, and writes the page.
  """
  page.check_drawing()
  config = flags.parse(kind, resolve, prepare=quiet.import_tensorflow)
  run(config, f'python -m experiments.{name} {shlex.join(sys.argv[1:])}')


def resolve(
  kind: type[_Flags], configs_of: Callable[[_Flags], Configs], values: Mapping[str, Any]
) -> _Flags:
  """The configuration of flags, all of whose runs are possible; raises ValueError if not."""
  config = flags.build(kind, values)
  configs_of(config)
  return config


def finish(
  config: Any,
  configs: Configs,
  write: Callable[[Any, Configs, str], None],
  command: str,
  evaluator_of: Callable[[Config], Any] | None = None,
  make_plan: conversion.MakePlan = digits.make_plan,
) -> bool:
  """Trains, and writes page and tables once all runs are finished.

  Args:
    config: the flags; `config.experiment` says where all lies.
    configs: of the runs.
    write: gets the flags, the runs and `command`.
    command: the command line, for the page.
    evaluator_of: as in `runs.finish`; by default as in training.
    make_plan: as in `runs.finish`.

  Returns:
    Whether they are.

  Raises:
    ValueError, OSError: as `runs.finish`.
  """
  from slim_inception.evaluate import during_training

  evaluator_of = evaluator_of or during_training.evaluator_of
  if not runs.finish(config.experiment, configs, evaluator_of, make_plan):
    return False
  write(config, configs, command)
  return True
