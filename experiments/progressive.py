"""Do small images first reach the same accuracy in less time? arXiv:2104.00298, section 4.2.

  python -m experiments.progressive --output_dir=DIR
  python -m experiments.progressive --output_dir=DIR --setting=full --dataset_dir=IMAGENET

Trains a net with images of one size, that at which --image_size_schedule ends, and with the
schedule, for each of --num_seeds seeds, by turns. DIR gets page.html, curves as .svg and .png,
results.json and results.csv; DIR/runs has a train_dir for each run, which slim-inception compare
takes too. Started again it goes on where it was stopped. In a checkout; needs matplotlib, and
scikit-learn for the digits of the small setting: pip install "slim-inception[demo,plots]".
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
from experiments.sampling import difference_width, guessing, has_learned
from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run
from slim_inception.train.config import Config

NAME = 'progressive'
FIXED, PROGRESSIVE = 'fixed', 'progressive'
AIM = 0.7  # of the time with one size


@dataclasses.dataclass(frozen=True)
class ProgressiveConfig:
  """Whether small images first save time."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  num_seeds: int = flags.field(
    3, 'Both ways are trained with so many seeds, from --seed on.', at_least=1
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
  """The runs by name, in the order in which they take turns: a way is first every other time.

  Raises:
    ValueError: flags do not go together, or there is no schedule.
  """
  configs = {}
  for number in range(config.num_seeds):
    seed = config.experiment.seed + number
    ways = (FIXED, PROGRESSIVE) if number % 2 == 0 else (PROGRESSIVE, FIXED)
    for way in ways:
      name = f'{way}_{seed}'
      configs[name] = _config_of(config, name, seed, is_fixed=way == FIXED)
  return configs


def _config_of(config: ProgressiveConfig, name: str, seed: int, is_fixed: bool) -> Config:
  experiment = dataclasses.replace(config.experiment, seed=seed)
  train_dir = os.path.join(experiment.output_dir, 'runs', name)
  chosen = config_lib.training_config(NAME, experiment, config.training, train_dir=train_dir)
  schedule = chosen.model.image_size_schedule
  if not schedule:
    raise ValueError('--image_size_schedule must be in the setting or in --config')
  if not is_fixed:
    return chosen
  _, size, batch = schedule[-1]
  own: dict[str, Any] = {'image_size_schedule': (), 'image_size_ramp': 0, 'train_image_size': size}
  if batch:
    own['batch_size' if chosen.batch.global_batch_size is None else 'global_batch_size'] = batch
  return flags.replace(chosen, **own)


# What is said


class Way(NamedTuple):
  """The runs of one way, over the seeds.

  Attributes:
    errors: top-1 errors of the last evaluations, in %.
    hours: of training.
    seconds: of everything: start, tracing, training, evaluation.
  """

  errors: tuple[float, ...]
  hours: tuple[float, ...]
  seconds: tuple[float, ...]

  @property
  def error(self) -> float:
    """The mean over the seeds."""
    return statistics.mean(self.errors)


def read_way(all_runs: Sequence[Run]) -> Way:
  """The runs of one way, all of which have evaluations."""
  return Way(
    tuple(run.evaluations[-1].top_1 for run in all_runs),
    tuple(run.hours or 0.0 for run in all_runs),
    tuple(sum(start['wall_seconds'] for start in runs.read_starts(run.folder)) for run in all_runs),
  )


def statements_of(fixed: Way, progressive: Way, num_images: int, num_classes: int) -> list[str]:
  """Sentences, all of which follow from the numbers.

  Args:
    fixed: one size.
    progressive: the schedule, with the same seeds.
    num_images: that were evaluated after each run.
    num_classes: of the data set.
  """
  for name, way in ((FIXED, fixed), (PROGRESSIVE, progressive)):
    if not has_learned(way.error, num_classes):
      return [
        f'The {name} runs did not learn: their mean top-1 error is {way.error:.1f} %, and guessing '
        f'gives {guessing(num_classes):.1f} %. Nothing can be said of their times.'
      ]
  whole = [b / a for a, b in zip(fixed.seconds, progressive.seconds, strict=True)]
  trained = [b / a for a, b in zip(fixed.hours, progressive.hours, strict=True)]
  ratio = statistics.mean(whole)
  return [_error_statement(fixed, progressive, num_images), (
    f'With the schedule a run took {ratio:.2f} of the time of one size ({_range(whole)} by seed), '
    f'start, tracing and evaluations included; training alone {statistics.mean(trained):.2f} '
    f'({_range(trained)}). '
    + (
      f'That is at most {AIM}, as was hoped for.'
      if ratio <= AIM
      else f'That is more than the {AIM} that was hoped for.'
    )
  )]  # fmt: skip


def _error_statement(fixed: Way, progressive: Way, num_images: int) -> str:
  count = len(fixed.errors)
  width = difference_width(fixed.error, progressive.error, num_images * count)
  difference = progressive.error - fixed.error
  text = (
    f'The mean top-1 error over {count} seeds is {progressive.error:.2f} % with the schedule '
    f'({_range(progressive.errors)}) and {fixed.error:.2f} % with one size '
    f'({_range(fixed.errors)}): '
  )
  if abs(difference) <= width:
    return (
      f'{text}{abs(difference):.2f} points apart, which {count} x {num_images:,} images cannot '
      f'tell from none (± {width:.2f}).'
    )
  which = 'worse' if difference > 0 else 'better'
  return (
    f'{text}the schedule is {which} by {abs(difference):.2f} points, more than the sampling error '
    f'of {count} x {num_images:,} images (± {width:.2f}).'
  )


def _range(values: Sequence[float]) -> str:
  return f'{min(values):.2f} to {max(values):.2f}'


# Page and tables


def write(config: ProgressiveConfig, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder.

  Raises:
    ValueError: a run has no evaluations.
  """
  from slim_inception.evaluate import comparison_plot

  output_dir = config.experiment.output_dir
  seeds = range(config.experiment.seed, config.experiment.seed + config.num_seeds)
  names = [f'{way}_{seed}' for way in (FIXED, PROGRESSIVE) for seed in seeds]
  all_runs = comparison.read_runs([configs[name].run.train_dir for name in names], names)
  lost = [run.name for run in all_runs if not run.evaluations]
  ways = {}
  if lost:
    statements = [f'{", ".join(lost)} diverged: nothing can be said of the times.']
  else:
    ways = {
      FIXED: read_way(all_runs[: len(seeds)]), PROGRESSIVE: read_way(all_runs[len(seeds) :]),
    }  # fmt: skip
    last, num_classes = all_runs[0].evaluations[-1], all_runs[0].num_classes or 0
    statements = statements_of(ways[FIXED], ways[PROGRESSIVE], last.num_images, num_classes)
  evaluated = [run for run in all_runs if run.evaluations]
  base = os.path.join(output_dir, 'curves')
  comparison_plot.draw(evaluated, [run.name for run in evaluated], base)
  rows = comparison.table(evaluated)
  comparison.write_csv(os.path.join(output_dir, 'results.csv'), rows)
  schedule = flags.as_text(configs[f'{PROGRESSIVE}_{seeds[0]}'].model.image_size_schedule)
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
    plots=[page.Plot('Errors', f'{base}.svg', _CAPTION)],
    header=_HEADER,
    rows=[_row(run) for run in evaluated],
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _row(run: Run) -> list[str]:
  last = run.evaluations[-1]
  seconds = sum(start['wall_seconds'] for start in runs.read_starts(run.folder))
  return [
    run.name,
    f'{last.epoch:.1f}',
    f'{60 * (run.hours or 0.0):.2f}',
    f'{seconds / 60:.2f}',
    f'{last.top_1:.2f}',
  ]


_ABOUT = (
  'EfficientNetV2 (arXiv:2104.00298) was trained with small images first and large ones last, and '
  'was as accurate in less time. Here a net is trained with images of the last size alone, and '
  'with the schedule, the same number of epochs, by turns; the schedule ends with an estimate of '
  "batch norm's statistics at the size of evaluation (arXiv:1906.06423)."
)
_CAPTION = 'Errors on the evaluated split, against epochs and against hours of training.'
_HEADER = ('run', 'epochs', 'minutes of training', 'minutes in all', 'last top-1 error %')


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
