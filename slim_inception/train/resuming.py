"""A run that goes on: from which checkpoint, and whether it is still the same run."""

import os

import tensorflow as tf
from absl import logging

from slim_inception import flags
from slim_inception.cluster import Cluster, check_same
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.nets import checkpoints
from slim_inception.train import config as config_lib
from slim_inception.train.config import Config
from slim_inception.train.plan import Plan

# Flags in which workers may differ: where their host has what, and how fast it is.
_OF_THE_HOST = (
  'train_dir',
  'config',
  'dataset_dir',
  'checkpoint_path',
  'class_weights',
  'num_preprocessing_threads',
)


def agreed_checkpoint(config: Config, dataset: Dataset, cluster: Cluster) -> str | None:
  """The checkpoint to go on from: the chief's latest, on every worker; None: a run begins.

  Raises:
    ValueError: workers have other flags or records than the chief.
    FileNotFoundError: a worker does not see the chief's checkpoint.
  """
  train_dir = config.run.train_dir
  latest = checkpoints.latest_sound(train_dir)
  if cluster.count == 1:
    return latest
  shared = {n: v for n, v in flags.flatten(config).items() if n not in _OF_THE_HOST}
  check_same(cluster, shared, '--')
  shards = sorted(map(os.path.basename, dataset.paths))
  facts = {
    'first shard': shards[:1],
    'number of shards': len(shards),
    'number of records': dataset.num_samples,
    'version of TensorFlow': tf.__version__,
  }
  check_same(cluster, facts, 'The ')
  chiefs = cluster.all_gather_json({'latest': latest and os.path.basename(latest)})[0]['latest']
  if chiefs is None:
    return None
  own = os.path.join(train_dir, chiefs)
  if not checkpoints.is_complete(own):
    raise FileNotFoundError(
      f'{own} is not there, but the chief goes on from it: --train_dir must be on a file system '
      'that all workers share'
    )
  return own


def check_same_run(config: Config, plan: Plan) -> None:
  """Refuses a train_dir that holds another net's run; says what else has changed."""
  before = config_lib.read(config.run.train_dir)
  if before is None:  # slim's own train_dir: the checkpoint will tell
    return
  then = {'input_channels': 3, **before, **before.get('run', {})}  # older runs do not say
  now = {**flags.flatten(config), **plan._asdict()}
  for name in ('model_name', 'depth_multiplier', 'input_channels', 'num_classes'):
    if then.get(name) != now[name]:
      raise ValueError(
        f'{config.run.train_dir} holds a run with {name} {then.get(name)}, not {now[name]}: choose '
        'another --train_dir'
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
      old, new = flags.as_text(before[name]), flags.as_text(value)
      logging.info('Changed since the last start: --%s from %s to %s', name, old, new)
