"""What several runs' evaluations say of each other, from the JSON files of their train_dirs.

Nothing here needs TensorFlow: `slim-inception compare` starts at once, also beside a run.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from slim_inception import constants, files, flags
from slim_inception.datasets.progress_bar import digits
from slim_inception.evaluate.metrics import accuracies

METRICS = ('top_1', 'top_5')
_OF_ONE_RUN = ('run', 'train_dir', 'config', 'resume_from')  # in config.json


class _RunFacts(TypedDict, total=False):
  num_classes: int


class _RunConfig(TypedDict, total=False):
  """What is read of config.json."""

  model_name: str
  run: _RunFacts


class Evaluation(NamedTuple):
  """One checkpoint's errors, and when they were reached."""

  step: int
  epoch: float
  hours: float | None  # of training; None where the run did not count them
  num_images: int
  top_1: float  # error in %
  top_5: float  # error in %


class Run(NamedTuple):
  """What a train_dir holds of a run."""

  folder: str
  name: str
  net: str
  epochs: float
  hours: float | None
  images_per_second: float | None  # median of what was logged
  num_classes: int | None
  evaluations: tuple[Evaluation, ...]  # by step


def read_runs(
  folders: Sequence[str], labels: Sequence[str] | None = None, eval_dir: str | None = None
) -> list[Run]:
  """Reads train_dirs, whose runs may still be going on.

  Args:
    folders: train_dirs.
    labels: a name for each; by default what tells the folders apart.
    eval_dir: see `read_run`.

  Raises:
    ValueError, OSError: a folder is none or is given twice, or a file in it is not as it should be.
  """
  for i, folder in enumerate(folders):
    if not os.path.isdir(folder):
      raise NotADirectoryError(f'{folder} is no folder; expected the train_dir of a run')
    for other in folders[:i]:
      if os.path.samefile(folder, other):
        raise ValueError(f'{folder} is given twice' + (f', also as {other}' * (folder != other)))
  names = labels or short_names(folders)
  return [read_run(*pair, eval_dir) for pair in zip(folders, names, strict=True)]


def read_run(folder: str, name: str, eval_dir: str | None = None) -> Run:
  """Reads one train_dir.

  The evaluations are those of the run itself (metrics.jsonl) and those that `--follow` wrote to
  `eval/evaluations.jsonl`. Where both have a step the latter count: somebody asked for them later.

  Args:
    folder: the train_dir.
    name: of the run.
    eval_dir: folder in it whose evaluations alone are taken.

  Raises:
    ValueError, OSError: a file is missing or cannot be read.
  """
  path = os.path.join(folder, constants.METRICS_FILE)
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path} is not there; expected the train_dir of a run')
  times: dict[int, tuple[float, float | None]] = {}
  rates: list[float] = []
  scores: dict[int, tuple[float, float, float]] = {}
  for step, line in _steps(path):
    if (epoch := _number(line, 'epoch')) is not None:
      times[step] = epoch, _number(line, 'hours')
    if (rate := _number(line, 'images_per_second')) is not None:
      rates.append(rate)
    scores |= _evaluated(step, line, 'eval_')
  clock = make_clock(times)
  if eval_dir is not None:
    scores = {}
  path = os.path.join(folder, eval_dir or constants.EVAL_FOLDER, constants.EVALUATIONS_FILE)
  if os.path.exists(path):
    for step, line in _steps(path):
      scores |= _evaluated(step, line)
  elif eval_dir is not None:
    raise FileNotFoundError(f'{path} is not there; --eval_dir is a folder in each run')
  net, num_classes = _model(folder)
  return Run(
    folder,
    name,
    net,
    *clock(max(times, default=0)),
    statistics.median(rates) if rates else None,
    num_classes,
    tuple(
      Evaluation(step, *clock(step), int(num_images), _error(top_1), _error(top_5))
      for step, (num_images, top_1, top_5) in sorted(scores.items())
      if times  # else nobody knows when it was
    ),
  )


def make_clock(
  times: Mapping[int, tuple[float, float | None]],
) -> Callable[[int], tuple[float, float | None]]:
  """Makes a function from a step to its epoch and its hours of training.

  Between steps that were logged it goes linearly; beyond the last at the run's average speed.

  Args:
    times: {step: (epoch, hours)} of the log. If any has no hours, then no step has: the run began
      before hours were counted.
  """
  steps = np.array([0, *sorted(step for step in times if step > 0)])
  epochs, hours = np.array([(0.0, 0.0), *(times[step] for step in steps[1:])], float).T
  has_hours = not np.isnan(hours).any()  # None becomes NaN

  def at(step: int, values: np.ndarray) -> float:
    beyond = max(1.0, step / max(1, steps[-1]))
    return round(float(np.interp(step, steps, values)) * beyond, 6)

  return lambda step: (at(step, epochs), at(step, hours) if has_hours else None)


def _evaluated(
  step: int, line: Mapping[str, Any], prefix: str = ''
) -> dict[int, tuple[float, float, float]]:
  """{step: (num_images, top_1, top_5)}; {} where the line is not of an evaluation."""
  num_images, top_1, top_5 = (_number(line, f'{prefix}{key}') for key in ('num_images', *METRICS))
  if num_images is None or top_1 is None or top_5 is None:
    return {}
  return {step: (num_images, top_1, top_5)}


def _steps(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  """The objects of a JSON-lines file that have a step."""
  for line in files.read_json_lines(path, files.StepLine):
    yield line['step'], line


def _number(entry: Mapping[str, Any], key: str) -> float | None:
  value = entry.get(key)
  return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _error(accuracy: float) -> float:
  return round(100.0 * (1.0 - accuracy), 6)


def _model(folder: str) -> tuple[str, int | None]:
  """Name of the net, and number of its classes."""
  path = os.path.join(folder, constants.CONFIG_FILE)
  config = files.read_json(path, _RunConfig) or {}
  return config.get('model_name', 'unknown'), config.get('run', {}).get('num_classes')


def short_names(folders: Sequence[str]) -> list[str]:
  """The last parts of paths, as few as tell all of them apart."""
  parts = [Path(os.path.abspath(folder)).parts for folder in folders]
  for count in range(1, max(map(len, parts)) + 1):
    names = [files.printable(os.path.join(*path[-count:])) for path in parts]
    if len(set(names)) == len(names):
      break
  return names


def notes(runs: Sequence[Run]) -> list[str]:
  """Lines on what is missing, or cannot be compared as it is."""
  lines = []
  for run in runs:
    if not run.evaluations:
      lines.append(
        f'{run.folder} has no evaluations: train with --eval_interval_epochs=1, or run '
        f'slim-inception eval --checkpoint_path={run.folder} --follow'
      )
    elif run.hours is None:
      lines.append(
        f'{run.folder} has no hours: it began before {constants.METRICS_FILE} counted them'
      )
  counts = {
    run.name: sorted({evaluation.num_images for evaluation in run.evaluations})
    for run in runs
    if run.evaluations
  }
  if len(set().union(*counts.values())) > 1:
    listed = '; '.join(f'{name}: {", ".join(map(str, each))}' for name, each in counts.items())
    lines.append(f'not all errors are of the same number of images: {listed}')
  return lines


def shown_metrics(runs: Sequence[Run]) -> tuple[str, ...]:
  """Those of `METRICS` that say something of the runs that have evaluations."""
  return max((accuracies(run.num_classes) for run in runs if run.evaluations), key=len, default=())


def table(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """One row a run: the keys of `_COLUMNS`, None for what is not known.

  The target of a metric is the worst of the runs' best errors, which all of them reach; the first
  evaluation that does counts.
  """
  evaluated = [run for run in runs if run.evaluations]
  targets = {
    metric: max(_best(run, metric)[1] for run in evaluated) for metric in shown_metrics(runs)
  }
  return [_row(run, targets) for run in runs]


def _row(run: Run, targets: Mapping[str, float]) -> dict[str, Any]:
  row = {
    'run': run.name,
    'net': run.net,
    'epochs': run.epochs,
    'hours': run.hours,
    'images_per_second': run.images_per_second and float(f'{run.images_per_second:.6g}'),
  }
  for metric, target in targets.items() if run.evaluations else ():
    best, error = _best(run, metric)
    reached = next(e for e in run.evaluations if getattr(e, metric) <= target)
    row |= {
      f'best_{metric}_error': error,
      f'best_{metric}_epoch': best.epoch,
      f'last_{metric}_error': getattr(run.evaluations[-1], metric),
      f'target_{metric}_error': target,
      f'epochs_to_{metric}_target': reached.epoch,
      f'hours_to_{metric}_target': reached.hours,
    }
  return {column.key: row.get(column.key) for column in _COLUMNS}


def _best(run: Run, metric: str) -> tuple[Evaluation, float]:
  best = min(run.evaluations, key=lambda evaluation: getattr(evaluation, metric))
  return best, getattr(best, metric)


def _decimals(count: int) -> Callable[[float], str]:
  return f'{{:.{count}f}}'.format


def _hours(value: float) -> str:
  return f'{value:.1f}' if value >= 10 else f'{value:.3f}'


class _Column(NamedTuple):
  key: str  # in the CSV file
  header: str = ''  # two lines of the text; '': not there
  show: Callable[[Any], str] = str


_COLUMNS = (
  _Column('run', 'run\n', lambda name: elided(name, 40)),
  _Column('net', 'net\n'),
  _Column('epochs', 'epochs\n', _decimals(1)),
  _Column('hours', 'hours\n', _hours),
  _Column('images_per_second', 'images/s\n', digits),
  _Column('best_top_1_error', 'best top-1\nerror %', _decimals(2)),
  _Column('best_top_1_epoch', 'at\nepoch', _decimals(1)),
  _Column('best_top_5_error', 'best top-5\nerror %', _decimals(2)),
  _Column('best_top_5_epoch', 'at\nepoch', _decimals(1)),
  _Column('last_top_1_error', 'last top-1\nerror %', _decimals(2)),
  _Column('last_top_5_error', 'last top-5\nerror %', _decimals(2)),
  _Column('target_top_1_error'),
  _Column('epochs_to_top_1_target', 'epochs to\n{:.2f} %', _decimals(1)),
  _Column('hours_to_top_1_target', 'hours\nto it', _hours),
  _Column('target_top_5_error'),
  _Column('epochs_to_top_5_target'),
  _Column('hours_to_top_5_target'),
)


def text(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The rows of `table` as aligned lines, under two of headers; '-' for what is not known."""
  target = next(row['target_top_1_error'] for row in rows if row['target_top_1_error'] is not None)
  no_top_5 = all(row['best_top_5_error'] is None for row in rows)
  columns = [
    column for column in _COLUMNS if column.header and not (no_top_5 and 'top_5' in column.key)
  ]
  headers = zip(*(column.header.format(target).split('\n') for column in columns), strict=True)
  cells = [[_cell(column, row[column.key]) for column in columns] for row in rows]
  return files.text_table([*headers, *cells], left=(0, 1))


def _cell(column: _Column, value: Any) -> str:
  return '-' if value is None else column.show(value)


def differing_flags(folders: Sequence[str]) -> list[tuple[str, ...]]:
  """(flag, its value in each run) of the flags in which runs differ, by their config.json.

  Paths of the runs themselves are left out, and so are flags that a run does not know.
  """
  configs: list[Mapping[str, Any]] = [
    files.read_json(os.path.join(folder, constants.CONFIG_FILE), _RunConfig) or {}
    for folder in folders
  ]
  shared = [
    name for name in configs[0] if name not in _OF_ONE_RUN and all(name in each for each in configs)
  ]
  return [
    (f'--{name}', *(elided(files.printable(flags.shown(each[name])), 40) for each in configs))
    for name in shared
    if any(each[name] != configs[0][name] for each in configs)
  ]


def elided(name: str, most: int) -> str:
  """A name of at most so many letters: what is in the middle of a longer one is left out."""
  head = most // 2
  return name if len(name) <= most else f'{name[:head]}…{name[len(name) - (most - head - 1) :]}'


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes the rows of `table`, atomically: errors in %, empty for what is not known."""
  keys = [column.key for column in _COLUMNS]
  files.write_csv(path, keys, ([row[key] for key in keys] for row in rows), line_end='\n')
