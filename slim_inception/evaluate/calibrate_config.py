"""The flags of slim-inception calibrate, and what the run of the checkpoint says."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import flags
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate import conformal


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
  """Calibration."""

  coverage: float | None = flags.field(
    None,
    'Classification gives sets of labels that have the right one with this probability; by default '
    'none.',
    above=0,
    at_most=0.9999,
  )
  sets: str | None = flags.field(
    None,
    'With --coverage, sets are plain (the smallest on average), adaptive (larger where an image is '
    'harder) or class_conditional (the coverage holds in each class); plain by default.',
    choices=tuple(conformal.SCORES),
  )
  max_error: float | None = flags.field(
    None,
    'Classification abstains where the net is so unsure that otherwise more than this share of its '
    'predictions would be wrong; by default it never does.',
    at_least=0.0001,
    at_most=0.9999,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
  """How a checkpoint is calibrated; the config.json of its run says what the flags do not."""

  nets: eval_config.NetsConfig
  calibration: CalibrationConfig
  records: eval_config.RecordsConfig
  views: eval_config.ViewsConfig
  compute: eval_config.ComputeConfig


class CalibrateRequest(NamedTuple):
  """What is calibrated, and how."""

  config: CalibrateConfig
  evaluation: eval_config.Request


def resolve(flag_values: Mapping[str, Any]) -> CalibrateRequest:
  """Takes from the config.json beside the checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(CalibrateConfig, flag_values)
  own = {name: values.pop(name) for name in flags.fields(CalibrationConfig) if name in values}
  evaluation = eval_config.resolve({**values, 'calibrated': False})
  config = flags.build(CalibrateConfig, {**values, **own})
  if len(evaluation.ensemble.members) > 1:
    raise ValueError('--checkpoint_path must be one checkpoint: an ensemble is not calibrated')
  if evaluation.ensemble.loss == 'sigmoid':
    raise ValueError('--loss=sigmoid: only nets of one label an image are calibrated')
  if config.calibration.sets and config.calibration.coverage is None:
    raise ValueError(f'--sets={config.calibration.sets} needs --coverage, e.g. --coverage=0.95')
  if config.records.dataset_split_name == 'train':
    raise ValueError(
      '--dataset_split_name=train: a net is surer of images that it was trained on; give a split '
      'that was held out'
    )
  if config.records.batch_norm_batches:
    raise ValueError('--batch_norm_batches changes the net, and a calibration is of a checkpoint')
  return CalibrateRequest(config, evaluation)
