"""The configuration of an evaluation: flags, and what the run's config.json says."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from datasets import dataset_factory
from nets import checkpoints, nets_factory
from preprocessing import preprocessing_factory
from training import config as train_config
from training.config import option

WEIGHTS = ('auto', 'ema', 'plain')


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How a checkpoint is evaluated; what is not given comes from the run's config.json."""

  checkpoint_path: str = option(None, 'A checkpoint, or the train_dir whose latest is taken.')
  eval_dir: str = option(None, 'Where metrics.json goes; by default "eval" beside the checkpoint.')
  dataset_name: str = option(
    None, "Data set; the run's by default.", tuple(dataset_factory.DATASETS)
  )
  dataset_split_name: str = option('validation', 'Split to evaluate.')
  dataset_dir: str = option(None, "Folder of the records; the run's by default.")
  labels_offset: int = option(None, "Subtracted from every label; the run's by default, or 0.")
  model_name: str = option(None, "Net; the run's by default.", tuple(nets_factory.NETS))
  depth_multiplier: float = option(None, "Factor of the filters; the run's by default, or 1.")
  preprocessing_name: str = option(
    None, "Preprocessing; the run's by default.", tuple(preprocessing_factory.PREPROCESSING)
  )
  loss: str = option(
    None, 'Loss of the run: with sigmoid a picture may have several labels.', ('sigmoid', 'softmax')
  )
  eval_image_size: int = option(None, "Pixels a side; the run's by default, or the net's.")
  batch_size: int = option(100, 'Pictures a batch.')
  max_num_batches: int = option(None, 'Stop after so many batches; all by default.')
  weights: str = option(
    'auto',
    'ema: the moving averages of the weights; auto: those if the checkpoint has any.',
    WEIGHTS,
  )
  calibrate_batches: int = option(
    0, 'Batches of the training split to measure batch norm statistics with; 0 takes those stored.'
  )
  precision: str = option('float32', 'Type of the computation.', train_config.PRECISIONS)
  num_preprocessing_threads: int = option(None, 'For decoding; as many as help by default.')
  pictures: int = option(0, 'Draw so many pictures with their labels into predictions.png.')


_FROM_RUN = (
  'dataset_name',
  'dataset_dir',
  'labels_offset',
  'loss',
  'model_name',
  'depth_multiplier',
  'preprocessing_name',
)

_RANGES = {
  'batch_size': (1, math.inf),
  'eval_image_size': (1, math.inf),
  'max_num_batches': (1, math.inf),
  'num_preprocessing_threads': (1, math.inf),
  'depth_multiplier': (train_config.POSITIVE, math.inf),
  'pictures': (0, math.inf),
  'calibrate_batches': (0, math.inf),
}

GONE = {
  'master': 'evaluation runs in this process',
  'moving_average_decay': '--weights=ema takes the moving averages, and is the default',
  'quantize': 'quantization-aware training is gone with tf.contrib.quantize',
}


def resolve(given: Mapping[str, Any]) -> EvalConfig:
  """Fills in what was not given from the config.json beside the checkpoint.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: something is neither given nor there, or a value is impossible.
  """
  if not given.get('checkpoint_path'):
    raise ValueError('--checkpoint_path must be given: a checkpoint or a train_dir')
  prefix = checkpoints.resolve(given['checkpoint_path'])
  directory = os.path.dirname(prefix) or '.'
  run = train_config.read(directory) or {}
  known = {name: run[name] for name in _FROM_RUN if run.get(name) is not None}
  if given.get('model_name') not in (None, known.get('model_name')):
    known.pop('depth_multiplier', None)  # of the run's own net
  if 'image_size' in run.get('run', {}):
    known['eval_image_size'] = run['run']['image_size']
  defaults = {
    'labels_offset': 0,
    'loss': 'softmax',
    'depth_multiplier': 1.0,
    'eval_dir': os.path.join(directory, 'eval'),
  }
  known = {**defaults, **known, **given}
  if known.get('dataset_name') == dataset_factory.SYNTHETIC:
    raise ValueError(
      'synthetic pictures are for training alone: --dataset_name and --dataset_dir choose others'
    )
  for name in ('model_name', 'dataset_name', 'dataset_dir'):
    if name not in known:
      raise ValueError(f'--{name} must be given: {directory} has no {train_config.CONFIG_FILE}')
  config = EvalConfig(**known)
  train_config.check_ranges(config, _RANGES)
  if config.depth_multiplier != 1 and config.model_name != 'inception_v3':
    raise ValueError(f'--depth_multiplier is for inception_v3; {config.model_name} has none')
  return config
