"""The configuration of a run: one field a flag, recipes as tables of values, `config.json`."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from slim_inception.datasets import dataset_factory
from slim_inception.nets import nets_factory
from slim_inception.preprocessing import (
  inception_preprocessing,
  preprocessing_factory,
  rand_augment,
)
from slim_inception.train import flag_values

CONFIG_FILE = 'config.json'

OPTIMIZERS = (
  'adadelta',
  'adagrad',
  'adam',
  'adamw',
  'ftrl',
  'lamb',
  'lars',
  'momentum',
  'rmsprop',
  'sgd',
)
SCHEDULES = ('cosine', 'exponential', 'fixed', 'polynomial', 'step')
LOSSES = ('sigmoid', 'softmax')
PRECISIONS = ('bfloat16', 'float16', 'float32')


def option(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
  """A field with what its flag says of itself; `default` None means: must be given, or derived."""
  return dataclasses.field(default=default, metadata={'help': text, 'choices': choices})


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that decides how a run goes. Names and, in recipe `slim`, values are slim's."""

  train_dir: str = option(None, 'Where checkpoints, metrics.jsonl and TensorBoard events go.')
  recipe: str = option('paper', 'Set of defaults that any other flag overrides.')

  dataset_name: str = option(
    'imagenet',
    'Data set; synthetic is noise, for trying hardware.',
    tuple(dataset_factory.DATASETS),
  )
  dataset_split_name: str = option('train', 'Split to train on.')
  dataset_dir: str = option(None, 'Folder of the records; synthetic has none.')
  labels_offset: int = option(0, 'Subtracted from every label; 1 drops a background class.')
  model_name: str = option('inception_v3', 'Net.', tuple(nets_factory.NETS))
  depth_multiplier: float = option(1.0, 'Factor of the filters; for inception_v3 alone.')
  input_channels: int = option(3, 'Channels of the images: 3 for RGB, 1 for grey.')
  preprocessing_name: str = option(
    None, "Preprocessing; the net's by default.", tuple(preprocessing_factory.PREPROCESSING)
  )
  train_image_size: int = option(None, "Pixels a side; the net's by default (299).")
  batch_size: int = option(32, 'Images a replica and step; the global batch is the sum.')
  accumulate_steps: int = option(
    1, 'Batches of batch_size that a replica takes one after the other before each update.'
  )
  global_batch_size: int = option(None, 'Images a step over all replicas; goes before batch_size.')
  max_number_of_steps: int = option(None, 'Last step; goes before num_epochs.')
  num_epochs: float = option(None, 'Length of the run in epochs of the global batch.')

  num_clones: int = option(None, 'Replicas; all GPUs by default, or 1 without one.')
  clone_on_cpu: bool = option(False, 'Replicas are logical processors rather than GPUs.')
  precision: str = option('float32', 'Type of the computation; variables are float32.', PRECISIONS)
  jit_compile: bool = option(False, 'Compile forward and backward pass with XLA.')
  seed: int = option(0, 'Of initial weights, order, distortions and dropout.')
  deterministic: bool = option(
    False, 'The same flags give the same bits, resumed or not; slower on GPUs.'
  )

  num_readers: int = option(4, 'Lanes of records read side by side, by all workers together.')
  num_preprocessing_threads: int = option(None, 'For decoding; as many as help by default.')
  shuffle_buffer: int = option(4096, 'Records shuffled together.')
  data_service: str = option(
    None,
    'HOST:PORT of a tf.data service (slim-inception data-service) that decodes and crops.',
  )
  log_every_n_steps: int = option(10, 'Steps between lines of progress.')
  save_interval_secs: float = option(600.0, 'Seconds between checkpoints.')
  save_interval_steps: int = option(None, 'Steps between checkpoints, beside save_interval_secs.')
  save_summaries_secs: float = option(
    60.0, 'Seconds until the events of TensorBoard are written out.'
  )
  max_to_keep: int = option(5, 'Checkpoints kept.')
  eval_interval_epochs: float = option(
    None, 'Epochs between evaluations of the run by itself; the best checkpoint is kept in best/.'
  )
  eval_split_name: str = option('validation', 'Split of these evaluations.')
  stop_at_top_1: float = option(None, 'Stop when an evaluation reaches this top-1 accuracy.')
  patience: int = option(None, 'Stop after so many evaluations without a better top-1.')
  on_nan: str = option(
    'stop',
    'When the loss is not finite or explodes: stop, or go back to the last checkpoint and skip the '
    'batches since.',
    ('rollback', 'stop'),
  )
  histograms: bool = option(False, 'Histograms of the weights in TensorBoard.')
  profile_steps: str = option(None, 'FIRST,LAST: steps that the profiler watches.')

  min_crop_area: float = option(0.05, 'Smallest training crop, as a share of the image.')
  random_flip: bool = option(True, 'Mirror half of the training images.')
  distort_color: bool = option(True, 'Distort colours in training.')
  fast_mode: bool = option(True, 'Two of the four colour distortions, bilinear resizing.')

  mixup_alpha: float = option(
    0.0,
    'Of the Beta distribution of the shares in which two images are mixed, e.g. 0.2; 0: none.',
  )
  cutmix_alpha: float = option(
    0.0, 'Of that of the share that a window of another image leaves, e.g. 1; 0: none.'
  )
  random_erasing: float = option(0.0, 'Share of the images in which a rectangle turns to noise.')
  randaugment_layers: int = option(0, 'Operations that RandAugment applies to an image.')
  randaugment_magnitude: float = option(
    9.0, 'Strength of RandAugment, 0 to 30; at 10 it rotates by 30 degrees.'
  )

  optimizer: str = option('rmsprop', "Slim's seven in TF1's form; adamw, lamb, lars.", OPTIMIZERS)
  weight_decay: float = option(
    0.00004, 'Factor of the L2 loss, or of the decay of adamw (e.g. 0.05), lamb and lars.'
  )
  momentum: float = option(0.9, 'Of momentum and lars.')
  rmsprop_decay: float = option(0.9, 'Of the mean of squared gradients.')
  rmsprop_momentum: float = option(0.9, 'Of optimizer rmsprop.')
  opt_epsilon: float = option(1.0, 'Of rmsprop, adam and adadelta.')
  adadelta_rho: float = option(0.95, 'Decay of adadelta.')
  adagrad_initial_accumulator_value: float = option(0.1, 'Start of the adagrad accumulators.')
  adam_beta1: float = option(0.9, 'Decay of the first moment of adam, adamw and lamb.')
  adam_beta2: float = option(0.999, 'Decay of the second moment of adam, adamw and lamb.')
  adamw_epsilon: float = option(1e-8, 'Of adamw and lamb, for which opt_epsilon is too large.')
  lars_trust_coefficient: float = option(0.001, 'Share of its norm that lars moves a weight by.')
  ftrl_learning_rate_power: float = option(-0.5, 'Learning rate power of ftrl.')
  ftrl_initial_accumulator_value: float = option(0.1, 'Start of the ftrl accumulators.')
  ftrl_l1: float = option(0.0, 'L1 strength of ftrl.')
  ftrl_l2: float = option(0.0, 'L2 strength of ftrl.')
  clip_gradient_norm: float = option(0.0, 'Largest norm of all gradients together; 0: any.')

  learning_rate: float = option(0.01, 'Initial learning rate, for the global batch as it is.')
  learning_rate_scales: str = option(
    None,
    'Factors of the learning rate by scope, the first that fits: InceptionV3/Logits:10,'
    'InceptionV3:0.1.',
  )
  learning_rate_decay_type: str = option('exponential', 'Schedule.', SCHEDULES)
  learning_rate_decay_factor: float = option(0.94, 'Of the stairs of exponential and step.')
  learning_rate_steps: str = option(
    None, 'Comma-separated epochs at which schedule step multiplies by the decay factor: 30,60,80.'
  )
  num_epochs_per_decay: float = option(2.0, 'Epochs a stair; length of schedule polynomial.')
  end_learning_rate: float = option(0.0001, 'Where schedules polynomial and cosine end.')
  warmup_epochs: float = option(0.0, 'Epochs of linear rise to the learning rate.')

  loss: str = option('softmax', 'softmax: one label an image; sigmoid: one or more.', LOSSES)
  class_weights: str = option(
    None,
    'Weights of the classes in the loss: balanced (inverse frequencies), or a file of lines class '
    'name or label:weight; 1 for others.',
  )
  label_smoothing: float = option(0.0, 'Share of the target spread over all classes.')
  aux_loss_weight: float = option(0.4, 'Weight of the auxiliary head in the loss.')
  dropout_keep_prob: float = option(0.8, 'Share of features that dropout keeps.')
  batch_norm_decay: float = option(
    0.9997, 'Of moving means and variances; 0.9997 needs tens of thousands of steps, 0.97 hundreds.'
  )
  sync_batch_norm: bool = option(
    False, 'Batch norm trains with the statistics of the global batch, not of each replica.'
  )
  moving_average_decay: float = option(
    None, 'Keeps moving averages of the weights too, used at evaluation; e.g. 0.9999.'
  )

  checkpoint_path: str = option(None, 'Checkpoint, or its folder, to start from.')
  checkpoint_exclude_scopes: str = option(None, 'Comma-separated scopes not to take from there.')
  trainable_scopes: str = option(None, 'Comma-separated scopes to train; all by default.')
  head_epochs: float = option(
    0.0, 'Epochs after starting from checkpoint_path in which the heads alone are trained.'
  )
  freeze_batch_norm: bool = option(
    False, 'Batch norm stays as restored, its moving averages too; for small batches.'
  )
  ignore_missing_vars: bool = option(False, 'Variables not in checkpoint_path start fresh.')


# What differs from the defaults above, which are slim's.
RECIPES: dict[str, dict[str, Any]] = {
  # arXiv:1512.00567 section 8 and 1602.07261 section 4: 100 epochs, RMSProp, 0.045 x 0.94 every 2
  # epochs, label smoothing 0.1, gradients clipped at 2.0, evaluated with averaged weights. The
  # papers' global batch is 50 x 32 (asynchronous); the learning rate is not scaled for yours.
  'paper': {
    'num_epochs': 100.0,
    'learning_rate': 0.045,
    'label_smoothing': 0.1,
    'clip_gradient_norm': 2.0,
    'moving_average_decay': 0.9999,
  },
  # slim-inception train of slim without flags: runs until it is stopped.
  'slim': {},
  # From a checkpoint to one's own classes within some thousand steps; batch norm follows.
  'finetune': {
    'num_epochs': 20.0,
    'optimizer': 'momentum',
    'learning_rate': 0.01,
    'learning_rate_decay_type': 'cosine',
    'end_learning_rate': 0.0,
    'warmup_epochs': 1.0,
    'label_smoothing': 0.1,
    'clip_gradient_norm': 2.0,
    'batch_norm_decay': 0.97,
    'head_epochs': 1.0,  # so that fresh heads do not disturb what is below them
    'min_crop_area': 0.2,
  },
  # arXiv:1812.01187 sections 2 to 5 (there with Nesterov's momentum, and for Inception-v3 too): 0.1
  # for a global batch of 256, to be scaled with yours; 200 epochs because mixup needs them. Weight
  # decay is kept off biases and batch norm, as in all recipes. Averaged weights are our addition.
  # Cost: 256 million images of ImageNet, twice those of `paper`; accuracy not measured.
  'modern': {
    'num_epochs': 200.0,
    'optimizer': 'momentum',
    'momentum': 0.9,
    'learning_rate': 0.1,
    'learning_rate_decay_type': 'cosine',
    'end_learning_rate': 0.0,
    'warmup_epochs': 5.0,
    'weight_decay': 0.0001,
    'label_smoothing': 0.1,
    'mixup_alpha': 0.2,
    'precision': 'bfloat16',
    'moving_average_decay': 0.9999,
  },
}

# Flags of slim whose mechanism is gone, and what does the job now.
GONE = {
  'master': 'TF_CONFIG or Slurm names the workers',
  'num_ps_tasks': 'there are no parameter servers: replicas are synchronous',
  'worker_replicas': 'TF_CONFIG or Slurm names the workers',
  'task': 'TF_CONFIG or Slurm says which worker this is',
  'sync_replicas': 'training is always synchronous',
  'replicas_to_aggregate': 'all are aggregated; --batch_size and --num_clones set the batch',
  'quantize_delay': 'quantization-aware training is gone with tf.contrib.quantize',
}


def resolve(given: Mapping[str, Any]) -> Config:
  """The configuration of a recipe with the flags that were given.

  Args:
    given: {field: value}; `recipe` is one of them.

  Raises:
    ValueError: an unknown recipe, a missing or impossible value; names the flag.
  """
  recipe = given.get('recipe', 'paper')
  if recipe not in RECIPES:
    raise ValueError(f'--recipe={recipe}: choose one of {", ".join(RECIPES)}')
  config = Config(**{**RECIPES[recipe], **given})
  _validate(config)
  if config.dataset_dir is None:
    return config
  # Evaluation may read config.json from another working directory.
  return dataclasses.replace(config, dataset_dir=os.path.abspath(config.dataset_dir))


POSITIVE = math.ulp(0.0)  # the smallest number above 0
# Smallest and largest value of a flag.
_RANGES: dict[str, tuple[float, float]] = {
  'batch_size': (1, math.inf),
  'accumulate_steps': (1, math.inf),
  'global_batch_size': (1, math.inf),
  'num_clones': (1, math.inf),
  'train_image_size': (1, math.inf),
  'depth_multiplier': (POSITIVE, math.inf),
  'num_readers': (1, math.inf),
  'num_preprocessing_threads': (1, math.inf),
  'log_every_n_steps': (1, math.inf),
  'save_interval_secs': (0, math.inf),
  'save_interval_steps': (1, math.inf),
  'save_summaries_secs': (0, math.inf),
  'max_to_keep': (1, math.inf),
  'head_epochs': (0, math.inf),
  'eval_interval_epochs': (POSITIVE, math.inf),
  'stop_at_top_1': (0, 1),
  'patience': (1, math.inf),
  'shuffle_buffer': (1, math.inf),
  'max_number_of_steps': (1, math.inf),
  'num_epochs': (POSITIVE, math.inf),
  'num_epochs_per_decay': (POSITIVE, math.inf),
  'warmup_epochs': (0, math.inf),
  'learning_rate': (0, math.inf),
  'end_learning_rate': (0, math.inf),
  'learning_rate_decay_factor': (POSITIVE, math.inf),
  'min_crop_area': (POSITIVE, 1),
  'mixup_alpha': (0, math.inf),
  'cutmix_alpha': (0, math.inf),
  'random_erasing': (0, 1),
  'randaugment_layers': (0, math.inf),
  'randaugment_magnitude': (0, rand_augment.MAX_MAGNITUDE),
  'label_smoothing': (0, 1),
  'aux_loss_weight': (0, math.inf),
  'dropout_keep_prob': (POSITIVE, 1),
  'batch_norm_decay': (0, 1),
  'moving_average_decay': (0, 1),
  'weight_decay': (0, math.inf),
  'momentum': (0, 1),
  'adam_beta1': (0, 1),
  'adam_beta2': (0, 1),
  'adamw_epsilon': (POSITIVE, math.inf),
  'lars_trust_coefficient': (POSITIVE, math.inf),
  'clip_gradient_norm': (0, math.inf),
}


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
  """Raises ValueError, naming the flag, where a field lies outside its range or is not finite."""
  for name, (low, high) in ranges.items():
    value = getattr(config, name)
    if value is None or (low <= value <= high and math.isfinite(value)):
      continue
    least = 'more than 0' if low == POSITIVE else f'at least {low}'
    raise ValueError(
      f'--{name}={value}: must be {least}' + (f', at most {high}' if high < math.inf else '')
    )


def check_channels(channels: int) -> None:
  """Raises ValueError, naming the flag, where images can not be decoded to so many channels."""
  choices = inception_preprocessing.CHANNELS
  if channels not in choices:
    raise ValueError(
      f'--input_channels={channels}: choose {" or ".join(map(str, choices))}, to which images '
      'are decoded (nets_factory.create_model takes any number)'
    )


_OF_RECORDS = ('dataset_dir', 'eval_interval_epochs', 'class_weights', 'data_service')


def _validate(config: Config) -> None:
  if not config.train_dir:
    raise ValueError('--train_dir must be given')
  is_synthetic = config.dataset_name == dataset_factory.SYNTHETIC
  if not (config.dataset_dir or is_synthetic):
    raise ValueError('--dataset_dir must be given')
  for name in _OF_RECORDS if is_synthetic else ():
    if getattr(config, name) is not None:
      raise ValueError(f'--{name} needs records; --dataset_name=synthetic has none')
  for field in dataclasses.fields(Config):
    value, choices = getattr(config, field.name), field.metadata['choices']
    if choices and value is not None and value not in choices:
      raise ValueError(f'--{field.name}={value}: choose one of {", ".join(choices)}')
  check_ranges(config, _RANGES)
  check_channels(config.input_channels)
  if config.data_service is not None:
    flag_values.host_and_port(config.data_service)
    if config.deterministic:
      raise ValueError('--deterministic: the order of --data_service depends on its workers')
  flag_values.learning_rate_scales(config.learning_rate_scales)
  steps = flag_values.epochs(config.learning_rate_steps)
  if bool(steps) != (config.learning_rate_decay_type == 'step'):
    raise ValueError(
      '--learning_rate_decay_type=step and --learning_rate_steps=30,60,80 (epochs) need each other'
    )
  flag_values.profile_range(config.profile_steps)
  for name in ('stop_at_top_1', 'patience'):
    if getattr(config, name) is not None and config.eval_interval_epochs is None:
      raise ValueError(f'--{name} needs --eval_interval_epochs: evaluations to look at')
  if config.depth_multiplier != 1 and config.model_name != 'inception_v3':
    raise ValueError(f'--depth_multiplier is for inception_v3; {config.model_name} has none')
  if config.learning_rate_decay_type == 'cosine' and not (
    config.num_epochs or config.max_number_of_steps
  ):
    raise ValueError(
      '--learning_rate_decay_type=cosine needs an end: --num_epochs or --max_number_of_steps'
    )
  _check_sync_batch_norm(config)


# What --sync_batch_norm can not be together with, and why.
_NOT_SYNCHRONIZED = {
  'jit_compile': 'XLA compiles for one device, with no sum over the replicas in it',
  'freeze_batch_norm': 'frozen batch norm takes no statistics of a batch',
  'accumulate_steps': 'the statistics would be those of one of its small batches',
}


def _check_sync_batch_norm(config: Config) -> None:
  for name, reason in _NOT_SYNCHRONIZED.items():
    if config.sync_batch_norm and getattr(config, name) != getattr(Config, name):
      raise ValueError(f'--sync_batch_norm does not go with --{name}: {reason}')


def write(directory: str, config: Config, facts: Mapping[str, Any]) -> None:
  """Saves a run's configuration, and under 'run' the facts derived from it, atomically."""
  path = os.path.join(directory, CONFIG_FILE)
  temporary = f'{path}.part-{os.getpid()}'
  with open(temporary, 'w') as file:
    json.dump({**dataclasses.asdict(config), 'run': dict(facts)}, file, indent=2)
    file.write('\n')
  os.replace(temporary, path)


def read(directory: str) -> dict[str, Any] | None:
  """The content of a directory's config.json; None where there is none.

  Raises:
    ValueError: it is not JSON.
  """
  path = os.path.join(directory, CONFIG_FILE)
  if not os.path.exists(path):
    return None
  with open(path) as file:
    try:
      return json.load(file)
    except json.JSONDecodeError as error:
      raise ValueError(f'{path} is not JSON: {error}') from error
