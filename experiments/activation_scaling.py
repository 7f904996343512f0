"""Do wide residual nets die unless residuals are scaled down? arXiv:1602.07261, section 3.3.

  python -m experiments.activation_scaling --output_dir=DIR
  python -m experiments.activation_scaling --output_dir=DIR --setting=full --dataset_dir=IMAGENET

Trains a residual net once for each factor of --scales, with the same schedule and seed; its width
is --depth_multiplier. At each evaluation it looks at the activations before the average pool. DIR
gets page.html, curves as .svg and .png, results.json, results.csv and activations.csv; DIR/runs has
a train_dir for each factor, which slim-inception compare takes too. Started again it goes on where
it was stopped. In a checkout; needs matplotlib, and scikit-learn for the digits of the small
setting: pip install "slim-inception[demo,plots]".
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments import command as command_lib
from experiments import config as config_lib
from experiments import page, runs
from experiments.sampling import difference_width, has_learned
from slim_inception import choices, files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import ModelConfig

NAME = 'activation_scaling'
DEAD = 0.999  # share of zeros: "only zeros"
DYING = 0.5  # share of filters that give nothing any more
STATES = {  # and in words, the worst first
  'dead': 'was dead',
  'diverged': 'had diverged',
  'dying': 'was dying',
  'alive': 'was alive',
}


def _check_scales(scales: tuple[float, ...]) -> None:
  if len(set(scales)) < 2 or len(set(scales)) < len(scales):
    raise ValueError('expected two different factors or more, e.g. 1,0.3,0.1')


@dataclasses.dataclass(frozen=True)
class ActivationScalingConfig:
  """Whether wide residual nets die."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  model_name: str | None = flags.field(
    None, 'This residual net is trained; by default that of the setting.', choices=choices.net_names
  )
  scales: tuple[float, ...] = flags.field(
    (1.0, 0.3, 0.1),
    'Each run has one of these factors of all residuals (--activation_scale of training).',
    above=0,
    check=_check_scales,
  )
  num_images: int = flags.field(
    64, 'The activations are those of so many images of the evaluated split.', at_least=2
  )


def define_flags() -> None:
  flags.define(ActivationScalingConfig)


def main(_: list[str]) -> None:
  command_lib.main(NAME, ActivationScalingConfig, resolve, run)


def resolve(values: Mapping[str, Any]) -> ActivationScalingConfig:
  """See `command.resolve`."""
  return command_lib.resolve(ActivationScalingConfig, configs_of, values)


def run(config: ActivationScalingConfig, command: str) -> bool:
  """Trains, and writes page and tables once all runs are finished; see `command.finish`."""
  configs = configs_of(config)
  return command_lib.finish(
    config, configs, write, command, lambda each: evaluator_of(each, config.num_images)
  )


def configs_of(config: ActivationScalingConfig) -> dict[str, Config]:
  """The run of each factor, the largest first.

  Raises:
    ValueError: flags do not go together, e.g. a net without residuals.
  """
  net = {} if config.model_name is None else {'model_name': config.model_name}
  return {
    f'scale_{scale}': config_lib.training_config(
      NAME,
      config.experiment,
      config.training,
      activation_scale=scale,
      train_dir=os.path.join(config.experiment.output_dir, 'runs', f'scale_{scale}'),
      **net,
    )
    for scale in sorted(config.scales, reverse=True)
  }


def evaluator_of(config: Config, num_images: int) -> Any:
  """What evaluates the checkpoints of a run and looks at activations: a `train.loop.Evaluate`."""
  from experiments.activations import Probe
  from slim_inception.evaluate import during_training

  evaluate = during_training.evaluator_of(config)
  assert evaluate  # `training_config` sees to it
  probe = Probe(config, num_images)
  return lambda prefix: {**evaluate(prefix), **probe.measure(prefix)}


# What is said of the runs


class Life(NamedTuple):
  """A run, as the activations before the pooling tell it.

  Attributes:
    scale: the factor of its residuals.
    steps: at which it was evaluated.
    zeros: the share of zeros then.
    dead_filters: the share of filters that gave nothing else for any image then.
    errors: the top-1 errors then, in %.
    num_images: that were evaluated.
    num_classes: of the data set.
    diverged: the step after which the loss was not finite or exploded; None where it was not.
  """

  scale: float
  steps: Sequence[int]
  zeros: Sequence[float]
  dead_filters: Sequence[float]
  errors: Sequence[float]
  num_images: int
  num_classes: int
  diverged: int | None = None

  @property
  def died(self) -> int | None:
    """The first evaluated step from which on there were only zeros; None: never."""
    step = None
    for at, share in zip(reversed(self.steps), reversed(self.zeros), strict=True):
      if share < DEAD:
        break
      step = at
    return step

  @property
  def is_dying(self) -> bool:
    """Whether most filters gave nothing at the end, and it had more of them than at the start."""
    filters = self.dead_filters
    return bool(filters) and filters[-1] > DYING and filters[-1] > filters[0]

  @property
  def state(self) -> str:
    """One of `STATES`, at the end."""
    if self.died is not None:
      return 'dead'
    return 'diverged' if self.diverged is not None else 'dying' if self.is_dying else 'alive'

  @property
  def health(self) -> int:
    """Its place in `STATES`, to compare."""
    return list(STATES).index(self.state)


def statements_of(lives: Sequence[Life]) -> list[str]:
  """Sentences on runs of at least two factors, all of which follow from their numbers."""
  lives = sorted(lives, key=lambda life: -life.scale)
  unscaled, *scaled = lives
  return [*map(_told, lives), _verdict(unscaled, scaled), *_accuracy(unscaled, scaled)]


def _told(life: Life) -> str:
  what = f'Residuals times {life.scale:g}: '
  if not life.steps:
    return f'{what}the run diverged at step {life.diverged}, before its first evaluation.'
  share = (
    f'of the activations before the pooling {life.zeros[0]:.1%} were zero at step '
    f'{life.steps[0]:,} and {life.zeros[-1]:.1%} at step {life.steps[-1]:,}, where '
    f'{life.dead_filters[-1]:.1%} of the filters gave only zeros'
  )
  if life.died is not None:
    end = f'. The net had died by step {life.died:,}'
  elif life.diverged is not None:
    end = f'. The run diverged at step {life.diverged:,}'
  elif life.is_dying:
    end = '. The net was dying: most of its filters no longer answered to any image'
  else:
    end = '. The net was alive'
  return f'{what}{share}{end}.'


def _verdict(unscaled: Life, scaled: Sequence[Life]) -> str:
  last = max((life.steps[-1] for life in (unscaled, *scaled) if life.steps), default=0)
  length = (
    f'The paper speaks of "a few tens of thousand iterations"; these runs had at most {last:,} '
    'steps.'
  )
  names = f'times {unscaled.scale:g}', ', '.join(f'{life.scale:g}' for life in scaled)
  without = STATES[unscaled.state]
  healths = [life.health for life in scaled]
  if all(health > unscaled.health for health in healths):
    worst = STATES[min(scaled, key=lambda life: life.health).state]
    if unscaled.state == 'diverged':
      return (
        f'Scaling helped, but not against what the paper saw: with residuals {names[0]} the net '
        f'had diverged before it could die, with {names[1]} it {worst}. {length}'
      )
    return (
      f'This shows what the paper saw: with residuals {names[0]} the net {without} at the end, '
      f'with {names[1]} it {worst}. {length}'
    )
  if any(health < unscaled.health for health in healths):
    worse = [f'{life.scale:g}' for life in scaled if life.health < unscaled.health]
    return (
      f'This is the opposite of what the paper saw: with residuals {names[0]} the net {without} '
      f'at the end, and worse off with {", ".join(worse)}. {length}'
    )
  same = [f'{life.scale:g}' for life in scaled if life.health == unscaled.health]
  return (
    f'This does not show what the paper saw: at the end the net {without} with residuals '
    f'{names[0]}, and no better off with {", ".join(same)}. {length}'
  )


def _accuracy(unscaled: Life, scaled: Sequence[Life]) -> list[str]:
  """Whether scaling cost accuracy."""
  lives = [life for life in (unscaled, *scaled) if life.errors]
  if unscaled not in lives or len(lives) < 2:
    return ['Accuracies cannot be compared: a run has no evaluation.']
  best = {life.scale: min(life.errors) for life in lives}
  if not any(has_learned(error, unscaled.num_classes) for error in best.values()):
    return ['Accuracies cannot be compared: no run did better than guessing.']
  base = best[unscaled.scale]
  bests = ', '.join(f'{error:.2f} % times {scale:g}' for scale, error in best.items())
  count = unscaled.num_images
  hurt = [f'{s:g}' for s, e in best.items() if e - base > difference_width(e, base, count)]
  verdict = (
    f'Scaling cost accuracy here with {", ".join(hurt)}, unlike in the paper: more than the '
    f'sampling error of {count:,} images.'
    if hurt
    else 'Scaling did not cost accuracy, as in the paper: no error is larger by more than the '
    f'sampling error of {count:,} images.'
  )
  return [f'Best top-1 errors: {bests}. {verdict}']


# Page and tables


def num_filters(model: ModelConfig, row: str) -> int:
  """How many filters a row of the net has."""
  from slim_inception.nets import nets_factory, summary

  size = model.train_image_size or nets_factory.get_net(model.model_name).default_image_size
  net = summary.summarize(model.model_name, size, depth_multiplier=model.depth_multiplier)
  return next(block.shape[-1] for block in net.body if block.scope == row)


def read_life(run: Run, scale: float, row: str) -> Life:
  """What a train_dir holds of a run, of the row before the pooling."""
  from experiments.activations import key_of

  zeros, dead_filters = (
    dict(runs.log_of(run.folder, f'eval_{key_of(key, row)}')) for key in ('zeros', 'dead_filters')
  )
  evaluations = [each for each in run.evaluations if each.step in zeros]
  diverged = runs.read_diverged(run.folder)
  return Life(
    scale,
    [each.step for each in evaluations],
    [zeros[each.step] for each in evaluations],
    [dead_filters[each.step] for each in evaluations],
    [each.top_1 for each in evaluations],
    evaluations[-1].num_images if evaluations else 0,
    run.num_classes or 0,
    diverged['step'] if diverged else None,
  )


def write(config: ActivationScalingConfig, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder."""
  from slim_inception.nets import nets_factory

  from experiments.activations import KEYS, probed_rows

  output_dir = config.experiment.output_dir
  model = next(iter(configs.values())).model
  rows = probed_rows(nets_factory.get_net(model.model_name).body)
  all_runs = comparison.read_runs([each.run.train_dir for each in configs.values()], [*configs])
  scales = [each.model.activation_scale or 0.0 for each in configs.values()]
  lives = [read_life(run, scale, rows[-1]) for run, scale in zip(all_runs, scales, strict=True)]
  statements = statements_of(lives)
  names = [f'residuals times {scale:g}' for scale in scales]
  base = os.path.join(output_dir, 'activations')
  _draw(all_runs, rows, names, base)
  files.write_csv(
    os.path.join(output_dir, 'activations.csv'),
    ['scale', 'row', 'step', *KEYS],
    (
      [scale, row, *cells]
      for run, scale in zip(all_runs, scales, strict=True)
      for row in rows
      for cells in _figures(run, row)
    ),
    line_end='\n',
  )
  evaluated = [run for run in all_runs if run.evaluations]
  table = comparison.table(evaluated) if evaluated else []
  comparison.write_csv(os.path.join(output_dir, 'results.csv'), table)
  width = (
    f'{model.model_name} with {model.depth_multiplier:g} of its filters: '
    f'{num_filters(model, rows[-1]):,} before the pooling'
  )
  facts = {'net': width, 'command': command, **runs.facts(output_dir, configs)}
  content = {
    'setting': config.experiment.setting,
    'row': rows[-1],
    'statements': statements,
    'lives': [{**life._asdict(), 'died': life.died, 'state': life.state} for life in lives],
    'runs': table,
    **facts,
  }
  files.write_json(os.path.join(output_dir, 'results.json'), content)
  path = os.path.join(output_dir, 'page.html')
  page.write(
    path,
    title='Do wide residual nets die unless residuals are scaled down?',
    about=f'{_ABOUT} Setting: {config.experiment.setting}; one run of each factor, seed '
    f'{config.experiment.seed}.',
    statements=statements,
    plots=[page.Plot('Activations, loss and error', f'{base}.svg', _caption(rows))],
    header=_HEADER,
    rows=[_row(life) for life in lives],
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _figures(run: Run, row: str) -> Iterator[list[float]]:
  """Step, and each of `activations.KEYS`, of the evaluations of a run."""
  from experiments.activations import KEYS, key_of

  logs = [dict(runs.log_of(run.folder, f'eval_{key_of(key, row)}')) for key in KEYS]
  for step in logs[0]:
    yield [step, *(log[step] for log in logs)]


def _draw(all_runs: Sequence[Run], rows: Sequence[str], names: Sequence[str], base: str) -> None:
  from experiments.activations import key_of
  from slim_inception.evaluate import curves

  def panel(key: str, label: str, factor: float = 1.0) -> curves.Panel:
    logs = [runs.log_of(run.folder, key) for run in all_runs]
    drawn = [
      curves.Curve([step for step, _ in log], [factor * value for _, value in log]) if log else None
      for log in logs
    ]
    return curves.Panel(key, 'steps', label, drawn, None if factor == 1 else (-3, 103))

  def error() -> curves.Panel:
    drawn = [
      curves.Curve([e.step for e in run.evaluations], [e.top_1 for e in run.evaluations])
      if run.evaluations
      else None
      for run in all_runs
    ]
    return curves.Panel('top_1', 'steps', 'top-1 error (%)', drawn, (-3, 103))

  first, last = (f'eval_{key_of("zeros", row)}' for row in (rows[0], rows[-1]))
  curves.draw(
    [
      [
        panel(last, 'zeros before the pooling (%)', 100),
        panel(f'eval_{key_of("dead_filters", rows[-1])}', 'filters with only zeros there (%)', 100),
      ],
      [
        panel(f'eval_{key_of("mean", rows[-1])}', 'mean activation there'),
        panel(first, f'zeros after {rows[0]} (%)', 100),
      ],
      [panel('cross_entropy', 'training loss (cross entropy)'), error()],
    ],
    names,
    base,
  )


def _caption(rows: Sequence[str]) -> str:
  return (
    f'"Before the pooling" is the output of {rows[-1]}, the last layer that ends in an activation. '
    'Activations are those of the same images of the evaluated split at each evaluation, with '
    'batch norm as in training.'
  )


_ABOUT = (
  'arXiv:1602.07261, section 3.3: with more than 1,000 filters residual nets "died" early in '
  'training, the last layer before the average pool gave only zeros; factors of 0.1 to 0.3 on the '
  'residuals prevented it and did not harm accuracy.'
)
_HEADER = (
  'residuals times', 'at the end', 'zeros before the pooling', 'filters with only zeros',
  'best top-1 error %', 'last top-1 error %', 'steps',
)  # fmt: skip


def _row(life: Life) -> list[str]:
  if not life.steps:
    return [f'{life.scale:g}', life.state, *['-'] * 5]
  return [
    f'{life.scale:g}',
    life.state,
    f'{life.zeros[-1]:.1%}',
    f'{life.dead_filters[-1]:.1%}',
    f'{min(life.errors):.2f}',
    f'{life.errors[-1]:.2f}',
    f'{life.steps[-1]:,}',
  ]


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
