"""The configuration of an evaluation: flags, and what the run's config.json says."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from nets import nets_factory
from preprocessing import preprocessing_factory
from training import config as train_config
from training.config import option

WEIGHTS = ('auto', 'ema', 'plain')


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How a checkpoint is evaluated; what is not given comes from the run's config.json."""

  checkpoint_path: str = option(None, 'A checkpoint, or the train_dir whose latest is taken.')
  eval_dir: str = option(None, 'Where metrics.json goes; by default "eval" beside the checkpoint.')
  dataset_name: str = option(None, "Data set; the run's by default.")
  dataset_split_name: str = option('validation', 'Split to evaluate.')
  dataset_dir: str = option(None, "Folder of the records; the run's by default.")
  labels_offset: int = option(None, "Subtracted from every label; the run's by default, or 0.")
  model_name: str = option(None, "Net; the run's by default.", tuple(nets_factory.NETS))
  depth_multiplier: float = option(None, "Factor of the filters; the run's by default, or 1.")
  preprocessing_name: str = option(
    None, "Preprocessing; the run's by default.", tuple(preprocessing_factory.PREPROCESSING)
  )
  eval_image_size: int = option(None, "Pixels a side; the run's by default, or the net's.")
  batch_size: int = option(100, 'Pictures a batch.')
  max_num_batches: int = option(None, 'Stop after so many batches; all by default.')
  weights: str = option(
    'auto',
    'ema: the moving averages of the weights; auto: those if the checkpoint has any.',
    WEIGHTS,
  )
  precision: str = option('float32', 'Type of the computation.', train_config.PRECISIONS)
  num_preprocessing_threads: int = option(None, 'For decoding; as many as help by default.')
  pictures: int = option(0, 'Draw so many pictures with their labels into predictions.png.')


_FROM_RUN = (
  'dataset_name',
  'dataset_dir',
  'labels_offset',
  'model_name',
  'depth_multiplier',
  'preprocessing_name',
)

GONE = {
  'master': 'evaluation runs in this process',
  'moving_average_decay': '--weights=ema takes the moving averages, and is the default',
  'quantize': 'quantization-aware training is gone with tf.contrib.quantize',
}


def resolve(given: Mapping[str, Any]) -> EvalConfig:
  """Fills in what was not given from the config.json beside the checkpoint.

  Raises:
    ValueError: something is neither given nor there, or a value is impossible.
  """
  if not given.get('checkpoint_path'):
    raise ValueError('--checkpoint_path must be given: a checkpoint or a train_dir')
  path = given['checkpoint_path']
  directory = path if os.path.isdir(path) else os.path.dirname(path)
  run = train_config.read(directory) or {}
  known = {name: run[name] for name in _FROM_RUN if run.get(name) is not None}
  if 'image_size' in run.get('run', {}):
    known['eval_image_size'] = run['run']['image_size']
  defaults = {
    'labels_offset': 0,
    'depth_multiplier': 1.0,
    'eval_dir': os.path.join(directory, 'eval'),
  }
  known = {**defaults, **known, **given}
  for name in ('model_name', 'dataset_name', 'dataset_dir'):
    if name not in known:
      raise ValueError(f'--{name} must be given: {directory} has no {train_config.CONFIG_FILE}')
  config = EvalConfig(**known)
  if config.batch_size < 1:
    raise ValueError(f'--batch_size={config.batch_size}: must be at least 1')
  return config
