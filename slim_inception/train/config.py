"""The configuration of a run: a recipe, overridden by a file, overridden by flags."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from slim_inception import files, flags, kernels
from slim_inception.constants import CONFIG_FILE, CONFIG_SUFFIX
from slim_inception.datasets import dataset_factory, joined
from slim_inception.train.flag_groups import (
  AUTO,
  BALANCED,
  RECIPES,
  UNIFORM,
  AugmentConfig,
  BatchConfig,
  DataConfig,
  DevicesConfig,
  DistillationConfig,
  EvaluationConfig,
  FinetuneConfig,
  LossConfig,
  ModelConfig,
  OptimizerConfig,
  RunConfig,
  SavingConfig,
  ScheduleConfig,
)

if sys.version_info >= (3, 11):
  import tomllib
else:
  import tomli as tomllib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Everything that decides how a run goes. Names and, in recipe `slim`, values are slim's."""

  run: RunConfig
  data: DataConfig
  model: ModelConfig
  batch: BatchConfig
  devices: DevicesConfig
  schedule: ScheduleConfig
  optimizer: OptimizerConfig
  augment: AugmentConfig
  loss: LossConfig
  distillation: DistillationConfig
  finetune: FinetuneConfig
  evaluation: EvaluationConfig
  saving: SavingConfig


# Flags of slim whose mechanism is gone, and what does the job now.
REMOVED = {
  'master': 'TF_CONFIG or Slurm names the workers',
  'num_ps_tasks': 'there are no parameter servers: replicas are synchronous',
  'worker_replicas': 'TF_CONFIG or Slurm names the workers',
  'task': 'TF_CONFIG or Slurm says which worker this is',
  'sync_replicas': 'training is always synchronous',
  'replicas_to_aggregate': 'all are aggregated; --batch_size and --num_clones set the batch',
  'quantize_delay': 'quantization-aware training is gone with tf.contrib.quantize',
}


def resolve(flag_values: Mapping[str, Any]) -> Config:
  """The configuration of a recipe, overridden by a file, overridden by flags.

  Args:
    flag_values: {flag: value}; `recipe` and `config` may be among them.

  Raises:
    ValueError: an unknown recipe, a missing or impossible value; names the flag or file and field.
    OSError: there is no such file.
  """
  values = dict(flag_values)
  if path := values.get('config'):
    values = {**read_config_file(path), **values}
    if not values.get('train_dir'):
      raise ValueError(f'--train_dir must be given: {path} names none for this run')
  if path := values.get('resume_from'):
    values = _resumed(path, values)
  recipe = flags.convert(Config, {'recipe': values.get('recipe', RunConfig.recipe)})['recipe']
  config = flags.build(Config, {**read_recipe(recipe), **values})
  _check_together(config)
  _warn_of_idle(flag_values, config)
  return flags.replace(config, **_absolute_paths(config), **_precision(config))


def read_recipe(name: str) -> dict[str, Any]:
  """What a recipe sets, flat."""
  return tomllib.loads((RECIPES / f'{name}.toml').read_text('utf-8'))


def read_config_file(path: str) -> dict[str, Any]:
  """The values of a JSON or TOML file, checked.

  A config.json that a run has written is for another run here: its train_dir is left out, and so
  are the facts under 'run'.

  Raises:
    ValueError: it cannot be parsed, has an unknown name or an impossible value, or names another
      such file.
    OSError: there is no such file.
  """
  is_toml = path.endswith('.toml')
  with open(path, 'rb') as file:
    try:
      text = files.decoded(file.read())
      values = tomllib.loads(text) if is_toml else json.loads(text)
    except ValueError as error:  # those of both modules are
      kind = 'TOML' if is_toml else 'JSON (a recipe in TOML is called NAME.toml)'
      raise ValueError(f'{path} cannot be parsed as {kind}: {error}') from error
  if not isinstance(values, dict):
    raise ValueError(f'{path}: must be an object of flags and values')
  if 'run' in values:
    values = {name: value for name, value in values.items() if name not in _OF_ONE_RUN}
  if values.get('config'):
    raise ValueError(
      f'{path}: config={values["config"]}: a file names no other file; choose one for --config, or '
      'copy the values of the other'
    )
  return flags.convert(Config, values, f'{path}: ')


_OF_ONE_RUN = ('run', 'train_dir', 'config', 'resume_from')


def _resumed(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
  """The values of the run that --resume_from names, overridden by these.

  Raises:
    ValueError: nothing says what they are, or --checkpoint_path or another --recipe is given too.
    OSError: there is no such file.
  """
  if values.get('checkpoint_path'):
    raise ValueError(
      '--resume_from goes on with a run, and --checkpoint_path starts one from weights: choose one'
    )
  if not (os.path.exists(path) or os.path.exists(f'{path}.index')):
    raise FileNotFoundError(
      f'--resume_from={path} does not exist; expected the train_dir of a run, or a checkpoint in it'
    )
  folder = path if os.path.isdir(path) else os.path.dirname(path)
  places = [os.path.join(folder, CONFIG_FILE), path + CONFIG_SUFFIX]
  before = next((place for place in places if os.path.isfile(place)), None)
  if before is None:
    raise FileNotFoundError(
      f'--resume_from={path}: {places[0]} is not there; expected the train_dir of a run, or a '
      'checkpoint in it'
    )
  defaults = read_config_file(before)
  if (recipe := values.get('recipe')) not in (None, defaults.get('recipe')):
    raise ValueError(
      f'--recipe={recipe} sets defaults, which --resume_from takes from the run: leave it out, and '
      'give the flags that change'
    )
  for name in _without_use(values):
    defaults.pop(name, None)
  return {**defaults, **values}


def _without_use(values: Mapping[str, Any]) -> Iterator[str]:
  """Flags of the run that goes on whose values would contradict these, which were given now."""
  if values.get('num_epochs'):  # which the old number of steps would override
    yield 'max_number_of_steps'
  if values.get('learning_rate_decay_type', 'step') != 'step':
    yield 'learning_rate_steps'
  if values.get('loss', 'bce') != 'bce':
    yield 'bce_target_threshold'
  if values.get('image_size_schedule'):
    yield 'train_image_size'
  elif values.get('train_image_size'):
    yield from ('image_size_schedule', 'image_size_ramp')
  if 'teacher' in values and not values['teacher']:
    yield from flags.fields(DistillationConfig)


def _precision(config: Config) -> dict[str, str]:
  """What --precision=auto is on this machine."""
  if config.devices.precision != AUTO:
    return {}
  chosen = kernels.precision(config.devices.clone_on_cpu)
  if chosen == 'float32':
    logging.info('--precision=auto is float32: this device has no instructions for bfloat16')
  return {'precision': chosen}


def _absolute_paths(config: Config) -> dict[str, Any]:
  """Paths that config.json is to have whole: it may be read from another working directory."""
  paths = {
    'dataset_dir': ','.join(map(os.path.abspath, joined.folders(config.data.dataset_dir))) or None,
    'cache_dir': config.data.cache_dir,
    'checkpoint_path': config.finetune.checkpoint_path,
    'resume_from': config.run.resume_from,
    'class_weights': None if config.loss.class_weights == BALANCED else config.loss.class_weights,
  }
  absolute = {name: os.path.abspath(path) for name, path in paths.items() if path is not None}
  return {**absolute, 'teacher': [os.path.abspath(path) for path in config.distillation.teacher]}


def _check_together(config: Config) -> None:
  """Raises ValueError where values do not go together."""
  data, schedule, evaluation = config.data, config.schedule, config.evaluation
  if data.dataset_name == dataset_factory.SYNTHETIC:
    of_records = {
      'dataset_dir': data.dataset_dir,
      'data_service': data.data_service,
      'eval_interval_epochs': evaluation.eval_interval_epochs,
      'batch_norm_batches': evaluation.batch_norm_batches or None,
      'class_weights': config.loss.class_weights,
      'sampling': None if data.sampling == UNIFORM else data.sampling,
      'mixture': data.mixture or None,
    }
    for name, value in of_records.items():
      if value is not None:
        raise ValueError(f'--{name} needs records; --dataset_name=synthetic has none')
  else:
    _check_sampling(data, config.loss)
  if config.run.find_learning_rate and config.run.resume_from:
    raise ValueError(
      '--find_learning_rate begins with fresh weights or those of --checkpoint_path, not with '
      '--resume_from'
    )
  if config.finetune.source_scope and config.finetune.checkpoint_path is None:
    raise ValueError('--source_scope is of names in --checkpoint_path, which must be given too')
  if data.data_service and config.run.deterministic:
    raise ValueError('--deterministic: the order of --data_service depends on its workers')
  if schedule.learning_rate_decay_type == 'step' and not schedule.learning_rate_steps:
    raise ValueError(
      '--learning_rate_decay_type=step needs --learning_rate_steps=30,60,80 (epochs)'
    )
  if schedule.learning_rate_steps and schedule.learning_rate_decay_type != 'step':
    raise ValueError(
      f'{_as_given(config, "learning_rate_steps")} is for --learning_rate_decay_type=step, not for '
      f'{schedule.learning_rate_decay_type}: --learning_rate_steps= unsets it'
    )
  if schedule.learning_rate_decay_type == 'cosine' and not (
    schedule.num_epochs or schedule.max_number_of_steps
  ):
    raise ValueError(
      '--learning_rate_decay_type=cosine needs an end: --num_epochs or --max_number_of_steps'
    )
  if evaluation.eval_interval_epochs is None:
    for name, value in vars(evaluation).items():
      if name in ('stop_at_top_1', 'patience') and value is not None:
        raise ValueError(f'--{name} needs --eval_interval_epochs: evaluations to look at')
  _check_distillation(config)
  _check_augmentation(config)
  _check_views(config)
  _check_embedding_norm(config)
  _ = config.model.net_arguments
  _check_residuals(config)
  _check_image_sizes(config)
  if evaluation.batch_norm_batches and config.model.freeze_batch_norm:
    raise ValueError(
      f'{_as_given(config, "batch_norm_batches")} changes what --freeze_batch_norm keeps: choose '
      'one (--batch_norm_batches=0 leaves the averages)'
    )
  if config.model.sync_batch_norm:
    reasons = {
      'jit_compile': 'XLA compiles for one device, with no sum over the replicas in it',
      'freeze_batch_norm': 'frozen batch norm takes no statistics of a batch',
      'accumulate_steps': 'the statistics would be those of one of its small batches',
    }
    values, defaults = flags.flatten(config), flags.fields(Config)
    for name, reason in reasons.items():
      if values[name] != defaults[name].default:
        raise ValueError(f'--sync_batch_norm does not go with --{name}: {reason}')


def _as_given(config: Config, name: str) -> str:
  """A flag and its value, for messages, and the recipe where that has set it."""
  value, recipe = flags.flatten(config)[name], config.run.recipe
  of_recipe = flags.convert(Config, read_recipe(recipe)).get(name)
  whose = f' (of --recipe={recipe})' if of_recipe == value else ''
  return f'--{name}={flags.as_text(value)}{whose}'


# What a flag changes only where another is given.
_NEEDS = {
  'find_learning_rate_steps': 'find_learning_rate',
  'randaugment_magnitude': 'randaugment_layers',
  'randaugment_std': 'randaugment_layers',
  'randaugment_probability': 'randaugment_layers',
  'checkpoint_exclude_scopes': 'checkpoint_path',
  'ignore_missing_vars': 'checkpoint_path',
}


def _warn_of_idle(flag_values: Mapping[str, Any], config: Config) -> None:
  """Says it of flags that were given and change nothing; a recipe or a file may have others."""
  values, known = flags.flatten(config), flags.fields(Config)
  for name, needed in _NEEDS.items():
    if name in flag_values and values[name] != known[name].default and not values[needed]:
      logging.warning('--%s changes nothing without --%s', name, needed)


def _check_sampling(data: DataConfig, loss: LossConfig) -> None:
  """Raises ValueError where what is drawn of the records contradicts other flags."""
  count = len(data.records_dirs)
  if data.mixture and (count < 2 or count != len(data.mixture)):
    raise ValueError(
      f'--mixture={flags.as_text(data.mixture)}: there must be a number for each of several '
      f'--dataset_dir, but {data.dataset_dir} names {count}'
    )
  if data.data_service and (data.mixture or data.sampling == BALANCED):
    name = f'sampling={BALANCED}' if data.sampling == BALANCED else 'mixture'
    raise ValueError(f'--{name}: the workers of --data_service go through records in their order')
  if data.sampling == loss.class_weights == BALANCED:
    raise ValueError(
      f'--sampling={BALANCED} draws each class equally often already: leave out '
      f'--class_weights={BALANCED} (a file of weights goes with it)'
    )


def _check_augmentation(config: Config) -> None:
  """Raises ValueError where distortions or targets do not go together."""
  augment = config.augment
  if augment.augment_policy and augment.randaugment_layers:
    raise ValueError(
      f'--augment_policy and {_as_given(config, "randaugment_layers")} exclude each other: choose '
      'one (--randaugment_layers=0 leaves RandAugment out)'
    )
  if augment.repeated_augmentation > 1 and config.data.data_service:
    raise ValueError(
      f'{_as_given(config, "repeated_augmentation")}: the workers of --data_service give an image '
      'once: --repeated_augmentation=1'
    )
  if config.loss.bce_target_threshold is not None and config.loss.loss != 'bce':
    raise ValueError(
      f'{_as_given(config, "bce_target_threshold")} is for --loss=bce, not for {config.loss.loss}: '
      '--bce_target_threshold= unsets it'
    )


def _check_views(config: Config) -> None:
  """Raises ValueError where --jsd_weight has no views or other flags would mix them."""
  if not config.loss.jsd_weight:
    return
  if not config.augment.augment_policy:
    raise ValueError(
      '--jsd_weight compares versions of an image that --augment_policy makes: give e.g. augmix'
    )
  if config.loss.loss != 'softmax':
    raise ValueError(f'--jsd_weight is for --loss=softmax, not for {_as_given(config, "loss")}')
  others = {
    'mixup_alpha': config.augment.mixup_alpha,
    'cutmix_alpha': config.augment.cutmix_alpha,
    'teacher': config.distillation.teacher,
  }
  for name, value in others.items():
    if value:
      raise ValueError(f'--jsd_weight does not go with {_as_given(config, name)}: choose one')


def _check_embedding_norm(config: Config) -> None:
  """Raises ValueError where the net cannot have an embedding; whether it has: `start`."""
  loss, default = config.loss, flags.fields(LossConfig)['embedding_norm_p'].default
  if not loss.embedding_norm_weight:
    if loss.embedding_norm_p != default:
      raise ValueError('--embedding_norm_p needs --embedding_norm_weight, which is 0')
    return
  from slim_inception.nets import nets_factory  # as in `choices.net_names`

  having = nets_factory.nets_with('bottleneck_layer_size')
  if config.model.model_name not in having:
    raise ValueError(
      f'--embedding_norm_weight={loss.embedding_norm_weight:g} is for nets with an embedding, '
      f'{", ".join(having)}; {config.model.model_name} has none'
    )


def _check_distillation(config: Config) -> None:
  """Raises ValueError where flags of distillation do not go together."""
  chosen = config.distillation
  values, known = flags.flatten(chosen), flags.fields(DistillationConfig)
  if not chosen.teacher:
    for name, value in values.items():
      if value != known[name].default:
        raise ValueError(f'{_as_given(config, name)} needs --teacher: {known["teacher"].help}')
    return
  flags.of_members(chosen, len(chosen.teacher))
  if not chosen.distill_feature_weight:
    for name in ('distill_feature_loss', 'distill_end_points'):
      if values[name] != known[name].default:
        raise ValueError(f'--{name} needs --distill_feature_weight, which is 0')
  elif len(chosen.teacher) > 1:
    raise ValueError('--distill_feature_weight is for one teacher: features have no average')


def _check_residuals(config: Config) -> None:
  """Raises ValueError where stochastic depth has nothing to drop."""
  model = config.model
  if not model.drop_path_rate:
    return
  from slim_inception.nets import nets_factory  # as in `choices.net_names`

  having = [name for name, net in nets_factory.NETS.items() if net.has_residuals]
  if model.model_name not in having:
    raise ValueError(
      f'{_as_given(config, "drop_path_rate")} is for nets with residuals, '
      f'{", ".join(having)}; {model.model_name} has none: --drop_path_rate=0 trains it'
    )


def _check_image_sizes(config: Config) -> None:
  model, schedule = config.model, config.schedule
  if not model.image_size_schedule:
    if model.image_size_ramp:
      raise ValueError('--image_size_ramp is for --image_size_schedule, which must be given too')
    return
  if model.train_image_size is not None:
    raise ValueError(
      f'--train_image_size={model.train_image_size} and '
      f'{_as_given(config, "image_size_schedule")}: the schedule has the sizes; leave out the '
      'other, or unset the schedule with --image_size_schedule='
    )
  if schedule.learning_rate_decay_type == 'cosine' and schedule.max_number_of_steps:
    raise ValueError(
      '--image_size_schedule goes by epochs, and so must its cosine: give --num_epochs in place of '
      '--max_number_of_steps'
    )
  from slim_inception.train import image_sizes  # as in `choices.net_names`

  image_sizes.check(model, with_auxiliary=config.loss.aux_loss_weight > 0)
