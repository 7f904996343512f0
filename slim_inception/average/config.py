"""The flags of slim-inception average."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from slim_inception import choices, flags
from slim_inception.flags import field

METHODS = ('greedy', 'uniform')


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsConfig:
  """Weights."""

  output: str = field(
    flags.REQUIRED,
    'The averaged weights are written to the TensorFlow checkpoint of this prefix.',
    place=flags.Place.OUTPUT_FILE,
  )
  overwrite: bool = field(False, 'Replace the output if it exists.')
  last: int = field(5, 'Of each train_dir the latest checkpoints count, so many.', at_least=1)
  method: str = field(
    'uniform',
    'The average is that of all checkpoints (uniform), or of the best one and, one after the other '
    'by their top-1 accuracy, of those that make it better (greedy).',
    choices=METHODS,
  )
  model_name: str | None = field(
    None, "The checkpoints are of this net; by default the run's.", choices=choices.net_names
  )
  use_ema: str = field(
    'auto',
    'The moving averages of the weights are averaged; auto takes them if a checkpoint has any.',
    choices=tuple(choices.USE_EMA),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordsConfig:
  """Records, for greedy and for batch norm statistics."""

  dataset_name: str | None = field(
    None,
    "The images are those of this data set; by default the run's.",
    choices=choices.dataset_names,
  )
  dataset_dir: str | None = field(
    None,
    "The records are in this folder; by default the run's. Of a folder, archive or list of images "
    'the first use makes records beside it.',
    place=flags.Place.INPUT,
  )
  cache_dir: str | None = field(
    None,
    'The records of a --dataset_dir that is no folder of records lie in this folder; by default in '
    '.slim_inception_records beside it.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  dataset_split_name: str = field(
    'validation', 'The method greedy measures the top-1 accuracy on this split.'
  )
  max_images: int | None = field(
    None,
    'The method greedy measures on the first so many records; by default on all of the split.',
    at_least=1,
  )
  batch_norm_batches: int = field(
    0,
    'So many batches of the training split estimate the batch norm statistics anew with the '
    'averaged weights; 0 averages the statistics as well.',
    at_least=0,
  )
  batch_size: int = field(100, 'A batch has so many images.', at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageConfig:
  """What is averaged, and how."""

  weights: WeightsConfig
  records: RecordsConfig


def resolve(flag_values: Mapping[str, Any]) -> AverageConfig:
  """The configuration of the flags.

  Raises:
    ValueError: a flag is impossible, or means nothing with the method.
  """
  config = flags.build(AverageConfig, flag_values)
  if config.weights.method != 'greedy':
    for name in ('dataset_split_name', 'max_images'):
      if name in flag_values:
        raise ValueError(f'--{name} is for --method=greedy, which measures')
    if not config.records.batch_norm_batches:
      for name in ('dataset_name', 'dataset_dir', 'cache_dir', 'batch_size'):
        if name in flag_values:
          raise ValueError(f'--{name} is for --method=greedy or --batch_norm_batches')
  return config
