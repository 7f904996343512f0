"""The flags that the experiments share, and the runs that follow from them."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slim_inception.datasets import conversion, dataset_factory, dataset_info, digits

from slim_inception import choices, flags
from slim_inception.flags import field
from slim_inception.train import config as train_config
from slim_inception.train.config import Config

_SETTINGS = Path(__file__).parent / 'settings'
SETTINGS = ('full', 'small')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
  """The experiment."""

  output_dir: str = field(
    flags.REQUIRED,
    'The runs, the page and the tables are written to this folder; what it holds is continued, and '
    'finished runs are kept.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  setting: str = field(
    'small',
    'The experiment takes minutes on two cores (small), or weeks of GPUs with the schedule of the '
    'paper (full).',
    choices=SETTINGS,
  )
  config: str | None = field(
    None,
    'This JSON or TOML file of flags of training overrides the setting, and flags override it.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  seed: int = field(0, 'This number seeds all runs.', at_least=0, at_most=2**63 - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
  """What all runs have in common; by default as in the setting."""

  dataset_name: str | None = field(
    None, 'The runs train on this data set.', choices=choices.dataset_names
  )
  dataset_dir: str | None = field(
    None,
    'The records are in this folder; digits are made in the output folder where none is named.',
    place=flags.Place.INPUT,
  )
  eval_split_name: str | None = field(
    None, 'The runs are evaluated on this split; by default validation, or test if it is the other.'
  )
  depth_multiplier: float | None = field(None, 'The number of filters has this factor.', above=0)
  train_image_size: int | None = field(None, 'Images have this side in pixels.', at_least=1)
  batch_size: int | None = field(None, 'Each replica takes so many images in a step.', at_least=1)
  num_epochs: float | None = field(None, 'Each run ends after so many epochs.', above=0)
  eval_interval_epochs: float | None = field(
    None, 'The runs are evaluated every so many epochs.', above=0
  )
  learning_rate: float | None = field(None, 'The learning rate begins with this value.', at_least=0)


def training_config(
  command: str, experiment: ExperimentConfig, training: TrainingConfig, **own: Any
) -> Config:
  """The configuration of a run: the setting, overridden by --config, by flags and by `own`.

  Args:
    command: the experiment, whose settings they are.
    experiment: its flags.
    training: its flags.
    **own: flags of this run alone; the others are the same in all.

  Raises:
    ValueError: values do not go together, or --dataset_dir is missing; names the flag.
    OSError: there is no such file.
  """
  values = train_config.read_config_file(str(_SETTINGS / f'{command}_{experiment.setting}.toml'))
  if experiment.config:
    values |= train_config.read_config_file(experiment.config)
  values |= {n: v for n, v in flags.flatten(training).items() if v is not None}
  name = values['dataset_name']
  if not values.get('dataset_dir'):
    if name != 'digits':
      raise ValueError(f'--dataset_dir must be given: the folder with the records of {name}')
    values['dataset_dir'] = own_records(experiment)
  sizes = dataset_factory.DATASETS[name].split_sizes
  if 'eval_split_name' not in values and 'validation' not in sizes and 'test' in sizes:
    values['eval_split_name'] = 'test'
  config = train_config.resolve({**values, 'seed': experiment.seed, **own})
  if config.evaluation.eval_interval_epochs is None or config.schedule.num_epochs is None:
    raise ValueError(
      '--num_epochs and --eval_interval_epochs must be given: curves need evaluations and an end'
    )
  for name in ('stop_at_top_1', 'patience'):
    if getattr(config.evaluation, name) is not None:
      raise ValueError(f'--{name} ends some runs before others: leave it out of --config')
  return config


def make_records(
  experiment: ExperimentConfig, config: Config, make_plan: conversion.MakePlan = digits.make_plan
) -> None:
  """Makes the records in the output folder, by default of digits, where a run needs those."""
  folder = own_records(experiment)
  if config.data.dataset_dir == folder and dataset_info.read_info(folder) is None:
    conversion.convert(make_plan, None, folder)


def own_records(experiment: ExperimentConfig) -> str:
  """The folder of the records that the experiment makes itself."""
  return os.path.abspath(os.path.join(experiment.output_dir, 'data'))


def differences(config: Config) -> Mapping[str, Any]:
  """{flag: value} where it is not the default of training: what tells how the runs were made."""
  defaults = {name: flag.default for name, flag in flags.fields(Config).items()}
  return {n: v for n, v in flags.flatten(config).items() if v != defaults[n]}
