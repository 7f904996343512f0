"""Do small images first reach the same accuracy in less time? arXiv:2104.00298, section 4.2.

  python -m experiments.progressive --output_dir=DIR
  python -m experiments.progressive --output_dir=DIR --setting=full --dataset_dir=IMAGENET

Trains a net for each of --num_seeds seeds by --image_size_schedule and, by turns, with images of
the last of its sizes alone; then with these for a share of the epochs (--short_share): the schedule
saves nothing if fewer epochs do as well. DIR gets page.html, plots as .svg and .png, results.json
and results.csv; DIR/runs has a train_dir for each run, which slim-inception compare takes too.
Started again it goes on where it was stopped. In a checkout; needs matplotlib, and scikit-learn for
the digits of the small setting: pip install "slim-inception[demo,plots]".
"""

import dataclasses
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import command as command_lib
from experiments import config as config_lib
from experiments import page, runs
from experiments.sampling import MOST_VALUES, guessing, has_learned, mean_width
from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run
from slim_inception.train.config import Config

NAME = 'progressive'
PROGRESSIVE, FIXED, SHORT = 'progressive', 'fixed', 'short'
WAYS = {PROGRESSIVE: 'the schedule', FIXED: 'one size', SHORT: 'one size, fewer epochs'}
AIM = 0.7  # of the time with one size


@dataclasses.dataclass(frozen=True)
class ProgressiveConfig:
  """Whether small images first save time."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  num_seeds: int = flags.field(
    3, 'Each way is trained with so many seeds, from --seed on.', at_least=2, at_most=MOST_VALUES
  )
  short_share: float = flags.field(
    AIM, 'The third way has this share of the epochs, with images of one size.', above=0, at_most=1
  )


def define_flags() -> None:
  flags.define(ProgressiveConfig)


def main(_: list[str]) -> None:
  command_lib.main(NAME, ProgressiveConfig, resolve, run)


def resolve(values: Mapping[str, Any]) -> ProgressiveConfig:
  """See `command.resolve`."""
  return command_lib.resolve(ProgressiveConfig, configs_of, values)


def run(config: ProgressiveConfig, command: str) -> bool:
  """Trains, and writes page and tables once all runs are finished; see `command.finish`."""
  return command_lib.finish(config, configs_of(config), write, command)


def configs_of(config: ProgressiveConfig) -> dict[str, Config]:
  """The runs by name, in their order: two ways take turns, the short runs come after them.

  Raises:
    ValueError: flags do not go together, or there is no schedule.
  """
  seeds = range(config.experiment.seed, config.experiment.seed + config.num_seeds)
  turns = ((PROGRESSIVE, FIXED), (FIXED, PROGRESSIVE))
  order = [(way, seed) for number, seed in enumerate(seeds) for way in turns[number % 2]]
  order += [(SHORT, seed) for seed in seeds]
  return {run_name(way, seed): _config_of(config, way, seed) for way, seed in order}


def run_name(way: str, seed: int) -> str:
  """Of a run, and of its folder."""
  return f'{way}_{seed}'


def _config_of(config: ProgressiveConfig, way: str, seed: int) -> Config:
  experiment = dataclasses.replace(config.experiment, seed=seed)
  train_dir = os.path.join(experiment.output_dir, 'runs', run_name(way, seed))
  chosen = config_lib.training_config(NAME, experiment, config.training, train_dir=train_dir)
  schedule = chosen.model.image_size_schedule
  if not schedule:
    raise ValueError('--image_size_schedule must be in the setting or in --config')
  if way == PROGRESSIVE:
    return chosen
  _, size, batch = schedule[-1]
  own: dict[str, Any] = {'image_size_schedule': (), 'image_size_ramp': 0, 'train_image_size': size}
  if batch:
    own['batch_size' if chosen.batch.global_batch_size is None else 'global_batch_size'] = batch
  if way == SHORT:
    assert chosen.schedule.num_epochs  # else `training_config` had raised
    own['num_epochs'] = config.short_share * chosen.schedule.num_epochs
  return flags.replace(chosen, **own)


# What is said


class Way(NamedTuple):
  """The runs of one way, over the seeds.

  Attributes:
    errors: top-1 errors of the last evaluations, in %.
    cpu_seconds: of everything: start, tracing, training, evaluation.
    seconds: the same by the clock.
    hours: of training alone, by the clock.
  """

  errors: tuple[float, ...]
  cpu_seconds: tuple[float, ...]
  seconds: tuple[float, ...]
  hours: tuple[float, ...]


def read_way(all_runs: Sequence[Run]) -> Way:
  """The runs of one way, all of which have evaluations."""
  starts = [runs.read_starts(run.folder) for run in all_runs]
  return Way(
    tuple(run.evaluations[-1].top_1 for run in all_runs),
    tuple(sum(start['cpu_seconds'] for start in each) for each in starts),
    tuple(sum(start['wall_seconds'] for start in each) for each in starts),
    tuple(run.hours or 0.0 for run in all_runs),
  )


def statements_of(ways: Mapping[str, Way], num_classes: int) -> list[str]:
  """Sentences, all of which follow from the numbers.

  Args:
    ways: by name, all with the same seeds.
    num_classes: of the data set.
  """
  for name in (PROGRESSIVE, FIXED):
    error = statistics.mean(ways[name].errors)
    if not has_learned(error, num_classes):
      return [
        f'The {name} runs did not learn: their mean top-1 error is {error:.1f} %, and guessing '
        f'gives {guessing(num_classes):.1f} %. Nothing can be said of their times.'
      ]
  progressive, fixed, short = (ways[name] for name in WAYS)
  ratios = _ratios(progressive.cpu_seconds, fixed.cpu_seconds)
  is_as_good, is_short_as_good = (_is_as_good(way, fixed) for way in (progressive, short))
  return [
    'The mean top-1 error at the end is '
    + ', '.join(
      f'{statistics.mean(ways[name].errors):.2f} % with {text} ({_range(ways[name].errors)})'
      for name, text in WAYS.items()
    )
    + f', over {len(fixed.errors)} seeds. That of one size is known to ± '
    f'{mean_width(fixed.errors):.2f} points (95 %): that of the schedule is '
    f'{_place(progressive, fixed)} this interval, that of fewer epochs {_place(short, fixed)} it.',
    f'With the schedule a run took {_said(ratios)} of the processor time of one size, start, '
    'tracing and evaluations included; by the clock '
    f'{_said(_ratios(progressive.seconds, fixed.seconds))}, and training alone '
    f'{_said(_ratios(progressive.hours, fixed.hours))}. One size with fewer epochs took '
    f'{_said(_ratios(short.cpu_seconds, fixed.cpu_seconds))} of the processor time.',
    _verdict(is_as_good, statistics.mean(ratios) <= AIM, is_short_as_good),
    f'Seed by seed the error with the schedule is {_difference(progressive, fixed)}, than with one '
    f'size; {_difference(progressive, short)}, than with one size and fewer epochs. With one size '
    f'it is {_difference(fixed, short)}, than with fewer epochs.',
  ]


def _is_as_good(way: Way, fixed: Way) -> bool:
  """Whether a mean error is within the 95 % interval of that of one size, or below it."""
  return _place(way, fixed) != 'above'


def _place(way: Way, fixed: Way) -> str:
  distance = statistics.mean(way.errors) - statistics.mean(fixed.errors)
  if abs(distance) <= mean_width(fixed.errors):
    return 'within'
  return 'above' if distance > 0 else 'below'


def _verdict(is_as_good: bool, is_fast: bool, is_short_as_good: bool) -> str:
  """What was asked: as good, in at most `AIM` of the time, and not by fewer epochs as well."""
  if not is_as_good:
    return 'So the schedule did not come to the error of one size: this does not show the claim.'
  if not is_fast:
    return f'So the schedule was as good as one size, but took more than {AIM} of its time.'
  text = f'So the schedule was as good as one size in at most {AIM} of its time'
  if is_short_as_good:
    return f'{text}; but so were fewer epochs, beside which the schedule has saved nothing.'
  return f'{text}, which fewer epochs were not: small images first saved time.'


def _difference(way: Way, other: Way) -> str:
  differences = [a - b for a, b in zip(way.errors, other.errors, strict=True)]
  mean, width = statistics.mean(differences), mean_width(differences)
  text = f'{abs(mean):.2f} points {"higher" if mean > 0 else "lower"}, ± {width:.2f} (95 %)'
  return text if abs(mean) > width else f'{text}, which so few seeds cannot tell from no difference'


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
  return [a / b for a, b in zip(values, others, strict=True)]


def _said(ratios: Sequence[float]) -> str:
  return f'{statistics.mean(ratios):.2f} ({_range(ratios)} by seed)'


def _range(values: Sequence[float]) -> str:
  return f'{min(values):.2f} to {max(values):.2f}'


# Page and tables


def write(config: ProgressiveConfig, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder.

  Raises:
    ValueError: a run has no evaluations.
  """
  output_dir = config.experiment.output_dir
  seeds = range(config.experiment.seed, config.experiment.seed + config.num_seeds)
  names = [run_name(way, seed) for way in WAYS for seed in seeds]
  all_runs = comparison.read_runs([configs[name].run.train_dir for name in names], names)
  evaluated = [run for run in all_runs if run.evaluations]
  lost = [run.name for run in all_runs if not run.evaluations]
  ways: dict[str, Way] = {}
  plots = []
  if lost:
    statements = [f'{", ".join(lost)} diverged: nothing can be said of the times.']
  else:
    by_name = {run.name: run for run in all_runs}
    ways = {way: read_way([by_name[run_name(way, seed)] for seed in seeds]) for way in WAYS}
    statements = statements_of(ways, all_runs[0].num_classes or 0)
    base = os.path.join(output_dir, NAME)
    _draw(ways, base)
    plots.append(page.Plot('Errors', f'{base}.svg', _CAPTION))
  rows = comparison.table(evaluated)
  comparison.write_csv(os.path.join(output_dir, 'results.csv'), rows)
  schedule = flags.as_text(configs[run_name(PROGRESSIVE, seeds[0])].model.image_size_schedule)
  facts = {
    'net': next(iter(configs.values())).model.model_name,
    'schedule': f'--image_size_schedule={schedule}',
    'command': command,
    **runs.facts(output_dir, configs),
  }
  content = {
    'setting': config.experiment.setting,
    'statements': statements,
    'ways': {name: way._asdict() for name, way in ways.items()},
    'runs': rows,
    **facts,
  }
  files.write_json(os.path.join(output_dir, 'results.json'), content)
  path = os.path.join(output_dir, 'page.html')
  page.write(
    path,
    title='Do small images first reach the same accuracy in less time?',
    about=f'{_ABOUT} Setting: {config.experiment.setting}; {len(seeds)} seeds from {seeds[0]} on.',
    statements=statements,
    plots=plots,
    header=_HEADER,
    rows=[_row(run) for run in evaluated],
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _row(run: Run) -> list[str]:
  last = run.evaluations[-1]
  (cpu_seconds,), (seconds,) = read_way([run])[1:3]
  minutes = (60 * (run.hours or 0.0), seconds / 60, cpu_seconds / 60)
  return [
    run.name, f'{last.epoch:.1f}', *(f'{each:.2f}' for each in minutes), f'{last.top_1:.2f}'
  ]  # fmt: skip


def _draw(ways: Mapping[str, Way], base: str) -> None:
  from slim_inception.evaluate import curves

  by_seed = [curves.Curve(range(1, len(way.errors) + 1), way.errors) for way in ways.values()]
  by_time = [curves.Curve([s / 60 for s in way.cpu_seconds], way.errors) for way in ways.values()]
  label = 'top-1 error (%) at the end'
  panels = [
    curves.Panel('seed', 'number of the seed', label, by_seed, has_lines=False),
    curves.Panel('time', 'minutes of processor time', '', by_time, has_lines=False),
  ]
  curves.draw([panels], [WAYS[name] for name in ways], base, share_y=True)


_ABOUT = (
  'EfficientNetV2 (arXiv:2104.00298) was trained with small images first and large ones last, and '
  'was as accurate in less time. Here a net is trained with images of the last size alone, and '
  'with the schedule, the same number of epochs, by turns; the schedule ends with an estimate of '
  "batch norm's statistics at the size of evaluation (arXiv:1906.06423). Were the last size alone "
  'as good in fewer epochs the schedule would save nothing: so that is trained too.'
)
_CAPTION = (
  'The error of each run at the end on the evaluated split, by seed and against the processor time '
  'of the whole run, start, tracing and evaluations included.'
)
_HEADER = (
  'run',
  'epochs',
  'minutes of training',
  'minutes in all',
  'minutes of processor time',
  'last top-1 error %',
)


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
