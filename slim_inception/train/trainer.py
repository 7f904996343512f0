"""A run from its flags to its end: data, strategy, variables, checkpoint, and then the loop."""

import math
import os
import signal
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import flags
from slim_inception.datasets import dataset_factory
from slim_inception.input import data_service, record_order
from slim_inception.input import pipeline as input_pipeline
from slim_inception.nets import checkpoints, inception_utils, nets_factory
from slim_inception.nets.model import Model
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.train import config as config_lib
from slim_inception.train import distribution, loop, warm_start
from slim_inception.train.config import Config
from slim_inception.train.distribution import Team
from slim_inception.train.feed import make_feed, preprocessing_of
from slim_inception.train.loop import Plan
from slim_inception.train.train_state import Counters, TrainState, read_counters
from slim_inception.train.train_step import Batch, TrainStep, augment, draw_mix, make_train_step

_PREVIEWED = 8  # images in TensorBoard


def train(config: Config, evaluate: loop.Evaluate | None = None) -> None:
  """Trains until the last step, from the latest checkpoint in `train_dir` if there is one.

  Args:
    config: the flags.
    evaluate: evaluates a checkpoint, see `loop.run`.

  Raises:
    ValueError, OSError: a flag, the data or a checkpoint is not as it should be; the loss is not
      finite; another worker is gone. The last checkpoint stays as it is.
    KeyboardInterrupt: Ctrl-C, after saving.
  """
  dataset = _open(config)
  num_classes = input_pipeline.check_labels(dataset, config.data.labels_offset)
  if config.run.deterministic:
    tf.random.set_seed(config.run.seed)
    tf.config.experimental.enable_op_determinism()
  team = distribution.make_team(config.devices.num_clones, config.devices.clone_on_cpu)
  if not team.is_chief:
    logging.set_verbosity(logging.WARNING)
  try:
    _train(config, evaluate, dataset, num_classes, team)
  except distribution.LOST_WORKER_ERRORS as error:
    if team.count == 1:
      raise
    raise distribution.lost_worker(error, checkpoints.latest(config.run.train_dir)) from error


def _open(config: Config) -> dataset_factory.Dataset:
  if config.data.dataset_name == dataset_factory.SYNTHETIC:
    return dataset_factory.synthetic(config.data.dataset_split_name)
  if config.data.data_service:
    data_service.connect(config.data.data_service, data_service.CONNECT_SECS)
  return record_order.counted(
    dataset_factory.get_dataset(
      config.data.dataset_name, config.data.dataset_split_name, config.data.dataset_dir
    )
  )


def _train(
  config: Config,
  evaluate: loop.Evaluate | None,
  dataset: dataset_factory.Dataset,
  num_classes: int,
  team: Team,
) -> None:
  strategy = team.strategy
  replicas = strategy.num_replicas_in_sync
  config = flags.replace(config, batch_size=batch_size(config, replicas))
  plan = make_plan(config, dataset.num_samples, num_classes, replicas)
  latest = _agreed_start(config, dataset, team)
  if latest:
    plan = start_from(plan, read_counters(latest, plan.global_batch_size), config)
    _check_same_run(config, plan)
  elif config.finetune.checkpoint_path:
    checkpoints.resolve(config.finetune.checkpoint_path)  # says at once that it is not there
  _describe(config, plan, dataset)
  if team.is_chief and (advice := shared_lanes(config.data.num_readers, team.count)):
    logging.warning('%s', advice)

  tf.random.set_seed(config.run.seed)
  with strategy.scope():
    state = TrainState(config, make_model(config, plan))
  warm_start.restore_or_init(config, state, latest)
  step = plan.start.step
  if plan.total_steps is not None and step >= plan.total_steps:
    logging.info(
      'Nothing to do: %s is at step %d of %d', config.run.train_dir, step, plan.total_steps
    )
    return

  preprocessing = preprocessing_of(config)
  distortion = make_distortion(config)
  if dataset.paths:
    input_pipeline.check_images(dataset, preprocessing, distortion, plan.image_size)
  if team.is_chief:
    os.makedirs(config.run.train_dir, exist_ok=True)
    facts = {**plan._asdict(), 'start': plan.start._asdict()}
    config_lib.write(config.run.train_dir, config, facts)

  make_batches = make_feed(config, plan, dataset, preprocessing, distortion, team)
  train_step = make_train_step(strategy, state, config, preprocessing, distortion)
  head_steps = plan.steps_until(config.finetune.head_epochs)
  if config.finetune.checkpoint_path and step < head_steps:
    heads = nets_factory.get_net(config.model.model_name).head_scopes
    head_step = make_train_step(strategy, state, config, preprocessing, distortion, heads)
    logging.info('The heads alone are trained until step %d (--head_epochs)', head_steps)
    train_step = first_then(head_step, head_steps, train_step)
  try:
    preview = make_preview(strategy, config, dataset.labels_to_names, preprocessing, distortion)
    stopped_by = loop.run(
      config, plan, state, make_batches, train_step, evaluate, preview, team=team
    )
  except tf.errors.ResourceExhaustedError as error:
    raise ValueError(out_of_memory(config, error)) from error
  except input_pipeline.READ_ERRORS as error:
    raise input_pipeline.read_error(dataset, config.data.labels_offset, error) from error
  if stopped_by:
    message = (
      f'interrupted; started again it goes on from {checkpoints.latest(config.run.train_dir)}'
    )
    if stopped_by == signal.SIGINT:
      raise KeyboardInterrupt(message)
    logging.info('%s', message)


def batch_size(config: Config, num_replicas: int) -> int:
  """Images a replica and step.

  Raises:
    ValueError: --global_batch_size can not be dealt out evenly.
  """
  if config.batch.global_batch_size is None:
    return config.batch.batch_size
  parts = num_replicas * config.batch.accumulate_steps
  each, rest = divmod(config.batch.global_batch_size, parts)
  if rest:
    nearest = [n * parts for n in (each, each + 1) if n]
    by = (
      f' in {config.batch.accumulate_steps} steps each' if config.batch.accumulate_steps > 1 else ''
    )
    raise ValueError(
      f'--global_batch_size={config.batch.global_batch_size} cannot be divided among '
      f'{num_replicas} replicas{by}: choose {" or ".join(map(str, nearest))}'
    )
  return each


def shared_lanes(num_readers: int, num_workers: int) -> str:
  """What to say where workers can not have lanes of their own; '' where they can."""
  own = math.gcd(num_readers, num_workers)
  if own == num_workers:
    return ''
  return (
    f'--num_readers={num_readers} is no multiple of the {num_workers} workers: each reads '
    f'{f"1/{own} of the" if own > 1 else "all"} records to keep 1/{num_workers}; with '
    f'--num_readers={-(-num_readers // num_workers) * num_workers} it reads its own alone (in '
    'another order)'
  )


# Flags in which workers may differ: where their host has what, and how fast it is.
_OF_THE_HOST = (
  'train_dir',
  'config',
  'dataset_dir',
  'checkpoint_path',
  'class_weights',
  'num_preprocessing_threads',
)


def _agreed_start(config: Config, dataset: dataset_factory.Dataset, team: Team) -> str | None:
  """The checkpoint to go on from: the chief's latest, on every worker.

  Raises:
    ValueError: workers have other flags or records than the chief.
    FileNotFoundError: a worker does not see the chief's checkpoint.
  """
  latest = checkpoints.latest_sound(config.run.train_dir)
  if team.count == 1:
    return latest
  own_flags = {n: v for n, v in flags.flatten(config).items() if n not in _OF_THE_HOST}
  distribution.check_same(team, own_flags, '--')
  shards = sorted(map(os.path.basename, dataset.paths))
  facts = {
    'first shard': shards[:1],
    'number of shards': len(shards),
    'number of records': dataset.num_samples,
    'version of TensorFlow': tf.__version__,
  }
  distribution.check_same(team, facts, 'The ')
  chiefs = team.exchange_facts({'latest': latest and os.path.basename(latest)})[0]['latest']
  if chiefs is None:
    return None
  own = os.path.join(config.run.train_dir, chiefs)
  if not checkpoints.is_complete(own):
    raise FileNotFoundError(
      f'{own} is not there, but the chief goes on from it: --train_dir must be on a file system '
      'that all workers share'
    )
  return own


def first_then(first: TrainStep, num_steps: int, then: TrainStep) -> TrainStep:
  """A step that is `first` for the first steps of a run and `then` for the rest."""
  return lambda batch, step, rate: (first if int(step) < num_steps else then)(batch, step, rate)


def make_preview(
  strategy: tf.distribute.Strategy,
  config: Config,
  names: Mapping[int, str],
  preprocessing: preprocessing_factory.Preprocessing,
  distortion: Distortion,
) -> loop.Preview:
  """Shows the first replica's first images, distorted, with the names of their classes."""

  def preview(batch: Batch) -> tuple[tf.Tensor, list[str]]:
    first = {  # the small batch of one forward pass: mixing takes partners from it
      key: strategy.experimental_local_results(value)[0][: config.batch.batch_size]
      for key, value in batch.items()
    }
    images, _ = augment(config, preprocessing, distortion, first, draw_mix(config, first))
    labels = first['label'][:_PREVIEWED].numpy()
    several = [np.flatnonzero(row) if np.ndim(row) else [row] for row in labels]
    return preprocessing.denormalize(images[:_PREVIEWED]), [
      ' + '.join(
        names.get(int(label) + config.data.labels_offset, str(label)) for label in of_image
      )
      for of_image in several
    ]

  return preview


def out_of_memory(config: Config, error: tf.errors.ResourceExhaustedError) -> str:
  """What to say and to try; TensorFlow's own message is a page."""
  advice = ''
  if config.batch.batch_size > 1:
    more = 2 * config.batch.accumulate_steps
    advice = (
      f'try --batch_size={config.batch.batch_size // 2}, which with --accumulate_steps={more} '
    )
    advice += 'is the same global batch'
  if config.devices.precision == 'float32':
    advice = ', or '.join(filter(None, [advice, '--precision=bfloat16']))
  what = error.message.splitlines()[0]
  return (
    f'Out of memory with --batch_size={config.batch.batch_size} images a replica: '
    f'{advice or "use a smaller net or --train_image_size"} ({what})'
  )


def make_plan(config: Config, num_samples: int, num_classes: int, num_replicas: int) -> Plan:
  """Derives sizes and lengths; epochs count the global batch."""
  image_size = config.model.train_image_size
  if image_size is None:
    image_size = nets_factory.get_net(config.model.model_name).default_image_size
  global_batch_size = config.batch.batch_size * num_replicas * config.batch.accumulate_steps
  steps_per_epoch = num_samples / global_batch_size
  plan = Plan(
    num_samples, num_classes, image_size, num_replicas, global_batch_size, steps_per_epoch, None
  )
  return start_from(plan, Counters(), config)


def start_from(plan: Plan, start: Counters, config: Config) -> Plan:
  """The plan of a run that has come so far; --num_epochs counts what other batches have done."""
  plan = plan._replace(start=start, total_steps=config.schedule.max_number_of_steps)
  if plan.total_steps is None and config.schedule.num_epochs:
    plan = plan._replace(total_steps=plan.steps_until(config.schedule.num_epochs))
  return plan


def make_model(config: Config, plan: Plan) -> Model:
  """The net of a run, its variables made; call it in `strategy.scope()`."""
  net = nets_factory.get_net(config.model.model_name)
  arg_scope = net.arg_scope(
    weight_decay=config.optimizer.weight_decay, batch_norm_decay=config.model.batch_norm_decay
  )
  if config.model.freeze_batch_norm:
    arg_scope = inception_utils.with_frozen_batch_norm(arg_scope)
  if config.model.sync_batch_norm:
    arg_scope = inception_utils.with_synchronized_batch_norm(arg_scope)
  model = nets_factory.create_model(
    config.model.model_name,
    plan.num_classes,
    image_size=plan.image_size,
    input_channels=config.model.input_channels,
    arg_scope=arg_scope,
    **net.select(
      dropout_keep_prob=config.model.dropout_keep_prob,
      depth_multiplier=config.model.depth_multiplier,
    ),
  )
  model.build()
  return model


def make_distortion(config: Config) -> Distortion:
  """The distortions that the flags ask for."""
  return Distortion(
    area_range=(config.augment.min_crop_area, 1.0),
    random_flip=config.augment.random_flip,
    color=config.augment.distort_color,
    fast_mode=config.augment.fast_mode,
  )


def _check_same_run(config: Config, plan: Plan) -> None:
  """Refuses a train_dir that holds another net's run; says what else has changed."""
  before = config_lib.read(config.run.train_dir)
  if before is None:  # slim's own train_dir: the checkpoint will tell
    return
  now = {
    'model_name': config.model.model_name,
    'depth_multiplier': config.model.depth_multiplier,
    'input_channels': config.model.input_channels,
    'num_classes': plan.num_classes,
  }
  then = {'input_channels': 3, **before, **before.get('run', {})}  # older runs do not say
  for name, value in now.items():
    if then.get(name) != value:
      raise ValueError(
        f'{config.run.train_dir} holds a run with {name} {then.get(name)}, not {value}: '
        'choose another --train_dir'
      )
  replicas, global_batch = (then.get(n) for n in ('num_replicas', 'global_batch_size'))
  if global_batch and (replicas, global_batch) != (plan.num_replicas, plan.global_batch_size):
    logging.info(
      'Changed since the last start: %d replica(s) and %d images a step, now %d and %d; data and '
      'schedules go on where they were, in epoch %.2f',
      replicas,
      global_batch,
      plan.num_replicas,
      plan.global_batch_size,
      plan.epoch(plan.start.step),
    )
  known = flags.fields(Config)
  for name, value in flags.flatten(config).items():
    if name in before and known[name].convert(before[name]) != value:
      logging.info(
        'Changed since the last start: --%s from %s to %s',
        name,
        flags.as_text(before[name]),
        flags.as_text(value),
      )


def _describe(config: Config, plan: Plan, dataset: dataset_factory.Dataset) -> None:
  end = f'{plan.total_steps} steps' if plan.total_steps else 'until stopped'
  logging.info(
    '%s on %s %s: %d images, %d classes, %d x %d pixels; %d replica(s) x %d images, '
    '%.1f steps an epoch, %s; recipe %s, %s, %s',
    config.model.model_name,
    config.data.dataset_name,
    config.data.dataset_split_name,
    dataset.num_samples,
    plan.num_classes,
    plan.image_size,
    plan.image_size,
    plan.num_replicas,
    config.batch.batch_size,
    plan.steps_per_epoch,
    end,
    config.run.recipe,
    config.optimizer.optimizer,
    config.devices.precision,
  )
  if config.model.input_channels == 1:
    remain = 'brightness' if config.augment.fast_mode else 'brightness and contrast'
    what = f'changed in {remain} alone' if config.augment.distort_color else 'not changed'
    logging.info('Images are grey (--input_channels=1): colours are %s', what)
