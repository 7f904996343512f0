"""The flags of slim-inception robustness, and what the runs of the checkpoints say."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import flags
from slim_inception.evaluate import config as eval_config
from slim_inception.flags import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetsConfig:
  """Sets."""

  sets: str = field(
    flags.REQUIRED,
    'The sets are in these folders, with commas between: of records, of folders of records, or '
    'sources as slim-inception data takes them, of which the first evaluation makes records.',
    form='DIR,DIR,...',
    place=flags.Place.INPUTS,
  )
  cache_dir: str | None = field(
    None,
    'The records of sources lie in this folder; by default in .slim_inception_records beside each.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  real_labels: str | None = field(
    None,
    "This JSON file has the right labels of each validation image, as ReaL's has.",
    form='FILE',
    place=flags.Place.INPUT,
  )
  max_images: int | None = field(
    None, 'Only the first so many records of each set are evaluated.', at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
  """Output."""

  output: str = field(
    'robustness',
    'The table is written to this path with .csv, .json, .html and .md.',
    place=flags.Place.OUTPUT_PREFIX,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
  """How checkpoints are evaluated on several sets; their config.json says what the flags do not."""

  nets: eval_config.NetsConfig
  sets: SetsConfig
  views: eval_config.ViewsConfig
  output: OutputConfig
  compute: eval_config.ComputeConfig
  devices: eval_config.DevicesConfig


class RobustnessRequest(NamedTuple):
  """What is evaluated, and how."""

  config: RobustnessConfig
  ensemble: eval_config.EnsembleRequest
  prefixes: tuple[str, ...]  # of the checkpoints


def resolve(flag_values: Mapping[str, Any]) -> RobustnessRequest:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(RobustnessConfig, flag_values)
  runs = eval_config.read_runs(values)
  config = flags.build(RobustnessConfig, values)
  if eval_config.agreed('loss', {}, runs) == 'sigmoid':
    raise ValueError('robustness is for nets of one label, not for --loss=sigmoid')
  ensemble = eval_config.EnsembleRequest(
    eval_config.members(config.nets, runs, config.views),
    average=config.views.average,
    compute=config.compute,
  )
  return RobustnessRequest(config, ensemble, runs.prefixes)
