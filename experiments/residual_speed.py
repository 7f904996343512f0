"""Do residual Inception nets learn faster? Figures 23 to 26 of arXiv:1602.07261.

  python -m experiments.residual_speed --output_dir=DIR
  python -m experiments.residual_speed --output_dir=DIR --setting=full --dataset_dir=IMAGENET

Trains each net of each pair with the same schedule and seed, and draws error against epochs and
against hours of training. DIR gets page.html, curves as .svg and .png, results.json, results.csv
and evaluations.csv; DIR/runs has a train_dir for each net, which slim-inception compare takes too.
Started again it goes on where it was stopped. In a checkout; needs matplotlib, and scikit-learn for
the digits of the small setting: pip install "slim-inception[demo,plots]".
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments import command as command_lib
from experiments import config as config_lib
from experiments import page, runs
from experiments.sampling import difference_width, guessing, has_learned
from slim_inception import choices, files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run
from slim_inception.train.config import Config

NAME = 'residual_speed'
_METRICS = {'top_1': 'top-1', 'top_5': 'top-5'}


@dataclasses.dataclass(frozen=True)
class ResidualSpeedConfig:
  """Whether residual nets learn faster."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  pairs: tuple[tuple[str, str], ...] = flags.field(
    (('inception_v3', 'inception_resnet_v1'), ('inception_v4', 'inception_resnet_v2')),
    'These nets are compared, in each pair one without residuals and one with them.',
    choices=choices.net_names,
    form='PLAIN:RESIDUAL,PLAIN:RESIDUAL,...',
  )


def define_flags() -> None:
  flags.define(ResidualSpeedConfig)


def main(_: list[str]) -> None:
  command_lib.main(NAME, ResidualSpeedConfig, resolve, run)


def resolve(values: Mapping[str, Any]) -> ResidualSpeedConfig:
  """See `command.resolve`."""
  return command_lib.resolve(ResidualSpeedConfig, configs_of, values)


def run(config: ResidualSpeedConfig, command: str) -> bool:
  """Trains, and writes page and tables once all runs are finished; see `command.finish`."""
  return command_lib.finish(config, configs_of(config), write, command)


def configs_of(config: ResidualSpeedConfig) -> dict[str, Config]:
  """The run of each net.

  Raises:
    ValueError: flags do not go together.
  """
  if not config.pairs or any(plain == residual for plain, residual in config.pairs):
    text = flags.as_text(config.pairs)
    raise flags.Error(f'--pairs={text}: expected pairs of two nets, e.g. inception_v4:resnet_v1_50')
  nets = dict.fromkeys(name for pair in config.pairs for name in pair)
  return {
    name: config_lib.training_config(
      NAME,
      config.experiment,
      config.training,
      model_name=name,
      train_dir=os.path.join(config.experiment.output_dir, 'runs', name),
    )
    for name in nets
  }


# What is said of a pair


class Side(NamedTuple):
  """A net of a pair, as one of its errors tells it.

  Attributes:
    best: its smallest error, in %.
    mean: its mean error over all evaluations, in %.
    epochs: until the target, which both nets reach.
    hours: the same in hours of training; None where they are not known.
  """

  name: str
  best: float
  mean: float
  epochs: float
  hours: float | None


class Pair(NamedTuple):
  """Two nets, and what the errors are of.

  Attributes:
    plain: without residuals.
    residual: with them.
    target: the worse of the two best errors, in %.
    num_images: that were evaluated.
    num_classes: of the data set.
    k: an answer is right if it is among so many.
  """

  plain: Side
  residual: Side
  target: float
  num_images: int
  num_classes: int
  k: int = 1


def make_pair(plain: Run, residual: Run, metric: str) -> Pair:
  """What two runs say of each other; see `comparison.table` for the target."""
  rows = comparison.table([plain, residual])
  return Pair(
    _side(plain, rows[0], metric),
    _side(residual, rows[1], metric),
    target=rows[0][f'target_{metric}_error'],
    num_images=plain.evaluations[-1].num_images,
    num_classes=plain.num_classes or 0,
    k=int(metric.rpartition('_')[2]),
  )


def _side(run: Run, row: Mapping[str, Any], metric: str) -> Side:
  errors = [getattr(evaluation, metric) for evaluation in run.evaluations]
  return Side(
    run.name,
    min(errors),
    sum(errors) / len(errors),
    row[f'epochs_to_{metric}_target'],
    row[f'hours_to_{metric}_target'],
  )


def statements_of(pair: Pair) -> list[str]:
  """Sentences on a pair, all of which follow from its numbers."""
  plain, residual, what = pair.plain, pair.residual, f'top-{pair.k}'
  for side in (plain, residual):
    if not has_learned(side.best, pair.num_classes, pair.k):
      return [
        f'{side.name} did not learn: its best {what} error is {side.best:.1f} %, and guessing '
        f'gives {guessing(pair.num_classes, pair.k):.1f} %. Nothing can be said of the speed of '
        'this pair.'
      ]
  times = [_times(residual, plain, 'epochs', 1)]
  if plain.hours is not None and residual.hours is not None:
    times.append(_times(residual, plain, 'hours', 3))
  return [
    f'{residual.name} and {plain.name} both come to {pair.target:.2f} % {what} error: '
    + '; '.join(times)
    + f'. {_verdict(pair)}',
    f'The mean {what} error over all evaluations is {residual.mean:.2f} % with residuals and '
    f'{plain.mean:.2f} % without, the best {residual.best:.2f} % and {plain.best:.2f} %. '
    + _difference(pair),
  ]


def _times(residual: Side, plain: Side, unit: str, decimals: int) -> str:
  ours, theirs = getattr(residual, unit), getattr(plain, unit)
  text = f'{ours:.{decimals}f} {unit} with residuals and {theirs:.{decimals}f} without'
  return f'{text} ({theirs / ours:.2f} times as fast)' if ours else text


def _verdict(pair: Pair) -> str:
  """Of epochs: whether the residual net is ahead both at the target and on average."""
  plain, residual = pair.plain, pair.residual
  if residual.epochs < plain.epochs and residual.mean < plain.mean:
    return 'By epochs the residual net learned faster, as in the paper.'
  if residual.epochs > plain.epochs and residual.mean > plain.mean:
    return 'By epochs the residual net learned more slowly: this does not show what the paper saw.'
  return (
    'By epochs neither was clearly ahead (time to that error and mean error do not say the same): '
    'this does not show what the paper saw.'
  )


def _difference(pair: Pair) -> str:
  """Of the best errors, beside what as many images let one tell."""
  difference = abs(pair.plain.best - pair.residual.best)
  width = difference_width(pair.plain.best, pair.residual.best, pair.num_images)
  text = f'The best errors are {difference:.2f} points apart'
  if difference <= width:
    return f'{text}, which {pair.num_images:,} images cannot tell from none (± {width:.2f}).'
  better = min((pair.plain, pair.residual), key=lambda side: side.best)
  return (
    f'{text}, more than the sampling error of {pair.num_images:,} images (± {width:.2f}): '
    f'{better.name} is better.'
  )


# Page and tables


def write(config: ResidualSpeedConfig, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder.

  Raises:
    ValueError: a net has no evaluations.
  """
  from slim_inception.evaluate import comparison_plot

  output_dir = config.experiment.output_dir
  all_runs = dict(
    zip(
      configs,
      comparison.read_runs([each.run.train_dir for each in configs.values()], [*configs]),
      strict=True,
    )
  )
  statements, plots, results = [], [], []
  for plain, residual in config.pairs:
    pair_runs = all_runs[plain], all_runs[residual]
    told, pairs = _told(pair_runs)
    statements += told
    results.append({'plain': plain, 'residual': residual, 'statements': told, 'metrics': pairs})
    if all(run.evaluations for run in pair_runs):
      base = os.path.join(output_dir, f'{plain}_{residual}')
      comparison_plot.draw(pair_runs, [plain, residual], base)
      plots.append(page.Plot(f'{plain} and {residual}', f'{base}.svg', _CAPTION))
  evaluated = [run for run in all_runs.values() if run.evaluations]
  if len(config.pairs) > 1 and evaluated:
    base = os.path.join(output_dir, 'all')
    comparison_plot.draw(evaluated, [run.name for run in evaluated], base)
    plots.append(page.Plot('All nets', f'{base}.svg', _CAPTION))
  rows = comparison.table(evaluated) if evaluated else []
  comparison.write_csv(os.path.join(output_dir, 'results.csv'), rows)
  files.write_csv(
    os.path.join(output_dir, 'evaluations.csv'),
    ['net', 'step', 'epoch', 'hours', 'num_images', 'top_1_error', 'top_5_error'],
    ([run.name, *evaluation] for run in evaluated for evaluation in run.evaluations),
    line_end='\n',
  )
  facts = {'command': command, **runs.facts(output_dir, configs)}
  content = {'setting': config.experiment.setting, 'pairs': results, 'runs': rows, **facts}
  files.write_json(os.path.join(output_dir, 'results.json'), content)
  path = os.path.join(output_dir, 'page.html')
  page.write(
    path,
    title='Do residual Inception nets learn faster?',
    about=f'{_ABOUT} Setting: {config.experiment.setting}; one run of each net, seed '
    f'{config.experiment.seed}: another seed may give another order.',
    statements=statements,
    plots=plots,
    header=_HEADER,
    rows=[_row(row) for row in rows],
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _told(pair_runs: tuple[Run, Run]) -> tuple[list[str], dict[str, Any]]:
  """Statements on two runs, and their numbers by metric."""
  lost = []
  for run in pair_runs:
    if diverged := runs.read_diverged(run.folder):
      lost.append(f'{run.name} diverged at step {diverged["step"]} ({diverged["reason"]}).')
    elif not run.evaluations:
      lost.append(f'{run.name} has no evaluations.')
  if lost:
    return [*lost, 'Nothing can be said of the speed of this pair.'], {}
  pairs = {metric: make_pair(*pair_runs, metric) for metric in comparison.shown_metrics(pair_runs)}
  told = [statement for pair in pairs.values() for statement in statements_of(pair)]
  return told, {metric: _as_json(pair) for metric, pair in pairs.items()}


def _as_json(pair: Pair) -> dict[str, Any]:
  sides = {'plain': pair.plain._asdict(), 'residual': pair.residual._asdict()}
  return {**pair._asdict(), **sides}


_ABOUT = (
  'arXiv:1602.07261 trained Inception nets with and without residuals, of about the same cost, and '
  'saw the residual ones learn faster by epochs and end about as good (Figures 23 to 26). Here '
  'each pair is trained with the same schedule and seed; hours are those of training alone.'
)
_CAPTION = 'Errors on the evaluated split, against epochs and against hours of training.'
_HEADER = (
  'net', 'epochs', 'hours', 'images/s', 'best top-1 error %', 'at epoch', 'last top-1 error %',
  'best top-5 error %',
)  # fmt: skip
_KEYS = (
  ('epochs', 1), ('hours', 3), ('images_per_second', 1), ('best_top_1_error', 2),
  ('best_top_1_epoch', 1), ('last_top_1_error', 2), ('best_top_5_error', 2),
)  # fmt: skip


def _row(row: Mapping[str, Any]) -> list[str]:
  cells = ['-' if row[key] is None else f'{row[key]:.{digits}f}' for key, digits in _KEYS]
  return [row['run'], *cells]


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
