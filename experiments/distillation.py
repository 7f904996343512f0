"""Does a net learn more from a larger one than alone? "Distilling the Knowledge", arXiv:1503.02531.

  python -m experiments.distillation --output_dir=DIR
  python -m experiments.distillation --output_dir=DIR --setting=full --dataset_dir=IMAGENET \\
    --teacher=inception_resnet_v2.ckpt

Trains a teacher, unless --teacher is one, and then a small net with several seeds, each time alone
and with the teacher, on the same images in the same order from the same weights. DIR gets
page.html, curves as .svg and .png, results.json, results.csv and evaluations.csv; DIR/runs has a
train_dir for each run, which slim-inception compare takes too. Started again it goes on where it
was stopped. In a checkout; needs matplotlib, and scikit-learn for the digits of the small setting:
pip install "slim-inception[demo,plots]".
"""

import dataclasses
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slim_inception.datasets import conversion, digits

from experiments import command as command_lib
from experiments import config as config_lib
from experiments import page, runs
from experiments.sampling import MOST_VALUES, has_learned, mean_width
from slim_inception import choices, files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison
from slim_inception.evaluate.comparison import Run
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import DistillationConfig

NAME, TEACHER = 'distillation', 'teacher'
ALONE, TAUGHT = 'alone', 'taught'
_FEW, _EVERY = 'few', 14  # split of digits: every so manieth training digit, 10 or 11 a class
_DEFAULTS = DistillationConfig()


@dataclasses.dataclass(frozen=True)
class ExperimentFlags:
  """Whether a net learns more from a larger one than alone."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  model_name: str | None = flags.field(
    None, 'This net is trained; by default that of the setting.', choices=choices.net_names
  )
  teacher: str | None = flags.field(
    None,
    'The net learns from this train_dir, checkpoint or file of another library; by default from a '
    'net that is trained first.',
    place=flags.Place.INPUT,
  )
  teacher_model_name: str | None = flags.field(
    None, "The teacher is this net; by default its run's.", choices=choices.net_names
  )
  dataset_split_name: str | None = flags.field(
    None,
    'The net learns from this split; by default from 103 of the digits, of other data sets from '
    'train.',
  )
  num_seeds: int = flags.field(
    8, 'The net is trained with so many seeds.', at_least=3, at_most=MOST_VALUES
  )
  distill_weight: float = flags.field(
    _DEFAULTS.distill_weight,
    'This share of the loss is that against the teacher, the rest that against the labels.',
    at_least=0,
    at_most=1,
  )
  distill_temperature: float = flags.field(
    _DEFAULTS.distill_temperature,
    'The logits of net and teacher are divided by this number before they are compared.',
    above=0,
  )


def define_flags() -> None:
  flags.define(ExperimentFlags)


def main(_: list[str]) -> None:
  command_lib.main(NAME, ExperimentFlags, resolve, run)


def resolve(values: Mapping[str, Any]) -> ExperimentFlags:
  """See `command.resolve`."""
  return command_lib.resolve(ExperimentFlags, configs_of, values)


def run(config: ExperimentFlags, command: str) -> bool:
  """Trains, and writes page and tables once all runs are finished; see `command.finish`."""
  return command_lib.finish(config, configs_of(config), write, command, make_plan=digits_with_few)


def configs_of(config: ExperimentFlags) -> dict[str, Config]:
  """The runs: that of the teacher, if it is to be trained, then of each seed alone and taught.

  Raises:
    ValueError: flags do not go together.
  """
  experiment, training = config.experiment, config.training
  folder = os.path.join(experiment.output_dir, 'runs')
  configs = {}
  if config.teacher is None:
    data = config_lib.TrainingConfig(
      dataset_name=training.dataset_name,
      dataset_dir=training.dataset_dir,
      eval_split_name=training.eval_split_name,
    )
    setting = f'{NAME}_{TEACHER}'
    of_teacher = dataclasses.replace(experiment, config=None)
    train_dir = os.path.join(folder, TEACHER)
    configs[TEACHER] = config_lib.training_config(setting, of_teacher, data, train_dir=train_dir)
  split = config.dataset_split_name
  if split is None and training.dataset_name not in (None, 'digits'):
    split = 'train'
  of_all = {'model_name': config.model_name, 'dataset_split_name': split}
  of_all = {name: value for name, value in of_all.items() if value is not None}
  teaching = {
    'teacher': config.teacher or os.path.join(folder, TEACHER),
    'teacher_model_name': config.teacher_model_name,
    'distill_weight': config.distill_weight,
    'distill_temperature': config.distill_temperature,
  }
  for seed in range(experiment.seed, experiment.seed + config.num_seeds):
    for kind, own in ((ALONE, {}), (TAUGHT, teaching)):
      name = f'{kind}_{seed}'
      configs[name] = config_lib.training_config(
        NAME,
        dataclasses.replace(experiment, seed=seed),
        training,
        train_dir=os.path.join(folder, name),
        **of_all,
        **own,
      )
  return configs


def digits_with_few(
  source: str | None, options: conversion.Options, work_dir: Path | None = None
) -> conversion.Plan:
  """The digits of the small setting: beside the splits of `digits` the split `few`."""
  plan = digits.make_plan(source, options, work_dir)
  few = plan.splits['train'][::_EVERY]  # which are in the order of the classes
  return dataclasses.replace(
    plan, splits={**plan.splits, _FEW: few}, num_shards={**plan.num_shards, _FEW: 1}
  )


# What is said of the runs


class Errors(NamedTuple):
  """The top-1 errors of a net at the end, in %.

  Attributes:
    alone: of each seed.
    taught: of the same seeds, with the teacher.
    teacher: of the teacher; None where it was not trained here.
    num_classes: of the data set.
  """

  alone: Sequence[float]
  taught: Sequence[float]
  teacher: float | None
  num_classes: int


def statements_of(errors: Errors) -> list[str]:
  """Sentences that follow from the numbers."""
  alone, taught = (statistics.fmean(each) for each in (errors.alone, errors.taught))
  count = len(errors.alone)
  for kind, mean in ((ALONE, alone), (TAUGHT, taught)):
    if not has_learned(mean, errors.num_classes):
      return [
        f'The net did not learn ({kind}: {mean:.1f} % mean error): nothing can be said of teachers.'
      ]
  gains = [a - b for a, b in zip(errors.alone, errors.taught, strict=True)]
  gain, width = statistics.fmean(gains), mean_width(gains)
  said = [
    f'At the end the mean top-1 error of {count} seeds is {alone:.2f} % alone and {taught:.2f} % '
    f'with the teacher: {abs(gain):.2f} points {"fewer" if gain >= 0 else "more"}, ± {width:.2f} '
    f'(95 % interval of the mean difference of the same seed, by Student). {_verdict(gain, width)}'
  ]
  better = sum(each > 0 for each in gains)
  said.append(f'With the teacher {better} of {count} seeds end better than alone.')
  if errors.teacher is not None:
    said.append(f'The error of the teacher is {errors.teacher:.2f} %.')
  return said


def _verdict(gain: float, width: float) -> str:
  if abs(gain) <= width:
    return 'So few seeds cannot tell this from no difference.'
  if gain > 0:
    return 'The net learned more with the teacher than alone.'
  return 'The net learned less with the teacher than alone: this does not show what the paper saw.'


# Page and tables


def write(config: ExperimentFlags, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder.

  Raises:
    ValueError: a run has no evaluations.
  """
  output_dir = config.experiment.output_dir
  folders = [each.run.train_dir for each in configs.values()]
  read = comparison.read_runs(folders, [*configs])
  all_runs = dict(zip(configs, read, strict=True))
  statements, errors = _told(all_runs)
  plots = []
  if errors:
    base = os.path.join(output_dir, NAME)
    _draw(all_runs, errors, base)
    plots.append(page.Plot('Errors', f'{base}.svg', _CAPTION))
  rows = [[name, *_cells(run)] for name, run in all_runs.items()]
  files.write_csv(os.path.join(output_dir, 'results.csv'), _HEADER, rows, line_end='\n')
  files.write_csv(
    os.path.join(output_dir, 'evaluations.csv'),
    ['run', 'step', 'epoch', 'hours', 'num_images', 'top_1_error', 'top_5_error'],
    ([run.name, *each] for run in all_runs.values() for each in run.evaluations),
    line_end='\n',
  )
  facts = {'command': command, **runs.facts(output_dir, configs)}
  content = {
    'setting': config.experiment.setting,
    'statements': statements,
    'errors': errors and errors._asdict(),
    **facts,
  }
  files.write_json(os.path.join(output_dir, 'results.json'), content)
  path = os.path.join(output_dir, 'page.html')
  page.write(
    path,
    title='Does a net learn more from a larger one than alone?',
    about=f'{_ABOUT} Setting: {config.experiment.setting}; {config.num_seeds} seeds from '
    f'{config.experiment.seed} on.',
    statements=statements,
    plots=plots,
    header=_HEADER,
    rows=rows,
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _told(all_runs: Mapping[str, Run]) -> tuple[list[str], Errors | None]:
  """Statements, and the numbers that they are of; None where a run has none."""
  lost = []
  for name, run in all_runs.items():
    if diverged := runs.read_diverged(run.folder):
      lost.append(f'{name} diverged at step {diverged["step"]} ({diverged["reason"]}).')
    elif not run.evaluations:
      lost.append(f'{name} has no evaluations.')
  if lost:
    return [*lost, 'Nothing can be said of teachers.'], None
  teacher = all_runs.get(TEACHER)
  alone, taught = (_of_kind(all_runs, kind) for kind in (ALONE, TAUGHT))
  errors = Errors(
    [run.evaluations[-1].top_1 for run in alone],
    [run.evaluations[-1].top_1 for run in taught],
    teacher.evaluations[-1].top_1 if teacher else None,
    alone[0].num_classes or 0,
  )
  return statements_of(errors), errors


def _of_kind(all_runs: Mapping[str, Run], kind: str) -> list[Run]:
  return [run for name, run in all_runs.items() if name.startswith(f'{kind}_')]


def _draw(all_runs: Mapping[str, Run], errors: Errors, base: str) -> None:
  from slim_inception.evaluate import curves

  means = []
  for kind in (ALONE, TAUGHT):
    by_time = zip(*(run.evaluations for run in _of_kind(all_runs, kind)), strict=True)
    points = [(at[0].epoch, statistics.fmean(each.top_1 for each in at)) for at in by_time]
    means.append(curves.Curve(*zip(*points, strict=True)))
  numbers = range(1, len(errors.alone) + 1)
  ends = [curves.Curve(numbers, values) for values in (errors.alone, errors.taught)]
  panels = [
    curves.Panel('mean', 'epochs', 'top-1 error (%), mean over the seeds', means),
    curves.Panel('end', 'number of the seed', 'top-1 error (%) at the end', ends),
  ]
  curves.draw([panels], ['alone', 'with the teacher'], base)


_ABOUT = (
  'arXiv:1503.02531 trained small nets on the softened outputs of large ones and saw them learn '
  'what the labels alone do not tell. Here the same net is trained alone and with a teacher, with '
  'the same images, schedule and initial weights.'
)
_CAPTION = (
  'Left: the error on the evaluated split against epochs, mean over the seeds. Right: the error of '
  'each seed at the end.'
)
_HEADER = ('run', 'epochs', 'hours', 'images/s', 'last top-1 error %', 'best top-1 error %')


def _cells(run: Run) -> list[str]:
  cells = [run.epochs, run.hours, run.images_per_second]
  errors = [each.top_1 for each in run.evaluations]
  cells += [errors[-1], min(errors)] if errors else [None, None]
  digits_of = (1, 3, 1, 2, 2)
  return [
    '-' if cell is None else f'{cell:.{n}f}' for cell, n in zip(cells, digits_of, strict=True)
  ]


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
