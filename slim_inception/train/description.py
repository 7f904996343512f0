"""What a run says of itself before its first step, in the log and in history.jsonl."""

import platform

import tensorflow as tf
from absl import logging

import slim_inception
from slim_inception import files, kernels
from slim_inception.cluster import Cluster, describe_devices, gpus_of
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import record_order, sampling
from slim_inception.nets import processor
from slim_inception.train import events, schedules, stages
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import DataConfig, OptimizerConfig
from slim_inception.train.plan import Plan
from slim_inception.train.run_input import sampling_of, shuffle_window
from slim_inception.train.train_state import TrainState, rows_of

_LITTLE_BYTES = 100e6  # of memory, of which nothing is said


def describe_run(config: Config, plan: Plan, dataset: Dataset, cluster: Cluster) -> None:
  """Logs net, data, batch and devices, and what may surprise."""
  data, size = config.data, plan.stages[0].image_size
  end = f'{plan.total_steps} steps' if plan.total_steps else 'until stopped'
  count = plan.stages[0].accumulate_steps
  passes = f' x {count} passes' if count > 1 else ''
  message = (
    f'{config.model.model_name} on {data.dataset_name} {data.dataset_split_name}: '
    f'{dataset.num_samples} images, {plan.num_classes} classes, {size} x {size} pixels; '
    f'{plan.num_replicas} replica(s) x {plan.per_replica_batch} images{passes} on '
    f'{describe_devices(cluster.strategy)}, '
    f'{plan.steps_per_epoch:.1f} steps an epoch, {end}; '
    f'recipe {config.run.recipe}, {config.optimizer.optimizer}, {config.devices.precision}'
  )
  logging.info('%s', message)
  for stage in plan.stages[1:]:
    logging.info('%s', stages.describe(stage, plan.epoch(stage.step)))
  kernels.warn_of_precision(config.devices.precision, bool(gpus_of(cluster.strategy)))
  if per := config.schedule.learning_rate_per:
    rate, batch = config.schedule.learning_rate, plan.global_batch_size
    own = schedules.scaled(config.schedule, batch).learning_rate
    logging.info(
      'The learning rate of %g for %d images a step is %g for %d (--learning_rate_per)',
      rate, per, own, batch,
    )  # fmt: skip
  chosen = sampling_of(data)
  if not chosen.is_uniform:
    logging.info('%s', sampling.describe(dataset, chosen, data.records_dirs))
  elif shuffling := describe_shuffling(data, dataset):
    logging.info('%s', shuffling)
  if config.model.input_channels == 1:
    remain = 'brightness' if config.augment.fast_mode else 'brightness and contrast'
    what = f'changed in {remain} alone' if config.augment.distort_color else 'not changed'
    logging.info('Images are grey (--input_channels=1): colours are %s', what)
  advice = record_order.sharing_advice(data.num_readers, cluster.count)
  if chosen.is_uniform and advice and cluster.is_chief:
    logging.warning('%s', advice)


def describe_start(config: Config, plan: Plan, strategy: tf.distribute.Strategy) -> events.Start:
  """On what a start runs, for history.jsonl."""
  return {
    'devices': describe_devices(strategy),
    'processor': processor.read_name(),
    'versions': {
      'slim-inception': slim_inception.__version__,
      'TensorFlow': tf.__version__,
      'Python': platform.python_version(),
    },
    'num_replicas': plan.num_replicas,
    'per_replica_batch': plan.per_replica_batch,
    'accumulate_steps': plan.stages[0].accumulate_steps,
    'global_batch_size': plan.global_batch_size,
    'precision': config.devices.precision,
  }


def describe_layer_decay(config: OptimizerConfig, state: TrainState) -> list[str]:
  """The factors of the learning rate by row of the net, one a line; none without --layer_decay."""
  if config.layer_decay == 1:
    return []
  rows = rows_of(state.model)
  table = []
  heads = [name for name in state.trained if not name.startswith(tuple(rows))]
  in_rows = {row: [name for name in state.trained if name.startswith(row)] for row in rows}
  for scope, names in {**in_rows, 'heads': heads}.items():
    factors = sorted({state.optimizer.scales.get(name, 1.0) for name in names})
    if factors:
      table.append([scope.rstrip('/'), ' and '.join(f'{x:.4g}' for x in factors)])
  head = f'Factors of the learning rate (--layer_decay={config.layer_decay:g}):'
  return [head, *(f'  {line}' for line in files.text_table(table))]


def describe_shuffling(data: DataConfig, dataset: Dataset) -> str:
  """What memory the shuffling takes; '' where that is little."""
  window, size = shuffle_window(data, dataset), record_order.mean_bytes(dataset) / 1e3
  held, of_all = (
    record_order.shuffle_bytes(dataset, count) for count in (window, data.shuffle_buffer)
  )
  if held == of_all and held < _LITTLE_BYTES:
    return ''
  text = (
    f'Shuffling {min(window, dataset.num_samples):,} records together: up to {held / 1e6:,.0f} MB '
    f'of memory, {size:,.0f} kB a record'
  )
  if held < of_all:
    text += (
      f'; --shuffle_buffer={data.shuffle_buffer} would take {of_all / 1e6:,.0f} MB, more than '
      f'--shuffle_buffer_mb={data.shuffle_buffer_mb}'
    )
  return text
