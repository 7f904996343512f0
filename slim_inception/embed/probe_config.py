"""The flags of slim-inception probe, and what the runs of the checkpoints say."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import choices, flags
from slim_inception.datasets import source_records
from slim_inception.evaluate import config as eval_config
from slim_inception.flags import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordsConfig:
  """Records."""

  dataset_name: str | None = field(
    None,
    "The images are those of this data set; by default what --dataset_dir is, or the run's.",
    choices=choices.dataset_names,
  )
  dataset_dir: str | None = field(
    None,
    "The records are in this folder; by default the run's. Of a folder, archive or list of images "
    'the first probe makes records beside it.',
    place=flags.Place.INPUT,
  )
  cache_dir: str | None = field(
    None,
    'The records of a --dataset_dir that is no folder of records lie in this folder; by default in '
    '.slim_inception_records beside it.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  train_split_name: str = field('train', 'Heads and neighbours are those of this split.')
  eval_split_name: str = field('validation', 'The figures are those of this split.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsConfig:
  """Features and heads."""

  end_point: str | None = field(
    None,
    'The features are this end point of the net, a map by its mean over all places; by default '
    'they are what the logits are made of.',
    form='NAME',
  )
  features_dir: str | None = field(
    None,
    'Features are kept in this folder, and taken from there if the weights, the views and the '
    'records are the same; by default they are computed each time.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  neighbors: int = field(20, 'So many images vote in k-nearest neighbours.', at_least=1)
  temperature: float = field(
    0.07, 'A neighbour has the weight exp(cosine / this number) in the vote.', above=0
  )
  seed: int = field(
    0,
    'This number chooses the fifth of the training split on which the strength of the L2 loss is '
    'chosen.',
    at_least=0,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeOutputConfig:
  """Output."""

  output: str | None = field(
    None, 'The figures are also written to this JSON file.', place=flags.Place.OUTPUT_FILE
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
  """How features are probed; the config.json of the run says what the flags do not."""

  nets: eval_config.CheckpointsConfig
  records: RecordsConfig
  heads: HeadsConfig
  views: eval_config.CropsConfig
  output: ProbeOutputConfig
  compute: eval_config.ComputeConfig


class ProbeRequest(NamedTuple):
  """What is probed, and how."""

  config: ProbeConfig
  ensemble: eval_config.EnsembleRequest


def resolve(flag_values: Mapping[str, Any]) -> ProbeRequest:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(ProbeConfig, flag_values)
  runs = eval_config.read_runs(values)
  folder, name = values.get('dataset_dir'), values.get('dataset_name')
  if not (folder and source_records.is_source(folder, name or '')):
    records = eval_config.records_of_runs(values, runs)
    values |= {name: records[name] for name in ('dataset_name', 'dataset_dir')}
  config = flags.build(ProbeConfig, values)
  if config.views.crops == 'dense':
    raise ValueError('--crops=dense is for classifiers: choose a number of views')
  members = eval_config.members(config.nets, runs, config.views)
  if len({member.weight for member in members}) > 1:
    raise ValueError('--ensemble_weights: the features of an ensemble stand side by side')
  ensemble = eval_config.EnsembleRequest(members, average='logits', compute=config.compute)
  return ProbeRequest(config, ensemble)
