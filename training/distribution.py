"""From flags to a tf.distribute strategy."""

import json
import os

import tensorflow as tf


def make_strategy(num_clones: int | None, clone_on_cpu: bool) -> tf.distribute.Strategy:
  """One device, or a mirror over several.

  Args:
    num_clones: replicas; None is all GPUs, or 1 without a GPU.
    clone_on_cpu: replicas are logical processors, which are made here; this must come before
      TensorFlow runs its first operation.

  Raises:
    ValueError: there are not as many GPUs, or this is one of several workers.
  """
  _check_one_machine()
  gpus = [] if clone_on_cpu else tf.config.list_logical_devices('GPU')
  if num_clones is not None and num_clones > len(gpus) and not clone_on_cpu and num_clones > 1:
    raise ValueError(
      f'--num_clones={num_clones}: this machine has {len(gpus)} GPUs; '
      '--clone_on_cpu makes replicas of logical processors'
    )
  replicas = num_clones or max(1, len(gpus))
  if clone_on_cpu and replicas > 1:
    _make_logical_cpus(replicas)
  kind = 'GPU' if gpus else 'CPU'
  if replicas == 1:
    return tf.distribute.OneDeviceStrategy(f'/{kind}:0')
  return tf.distribute.MirroredStrategy(
    [f'/{kind}:{i}' for i in range(replicas)],
    # Logical processors share their memory: adding up in one place moves the least.
    cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice(),
  )


def _check_one_machine() -> None:
  """Refuses to be one of several workers, which would each train alone into the same train_dir."""
  cluster = json.loads(os.environ.get('TF_CONFIG') or '{}').get('cluster', {})
  workers = sum(len(cluster.get(kind, ())) for kind in ('chief', 'worker'))
  if workers > 1 or int(os.environ.get('SLURM_NTASKS') or 1) > 1:
    raise ValueError(
      'TF_CONFIG or SLURM_NTASKS says that there are several workers; training over several '
      'machines is not there yet: start one task, which uses all GPUs of its machine'
    )


def _make_logical_cpus(count: int) -> None:
  if tf.config.get_logical_device_configuration(_cpu()) is None:
    tf.config.set_logical_device_configuration(
      _cpu(), [tf.config.LogicalDeviceConfiguration()] * count
    )
  existing = len(tf.config.list_logical_devices('CPU'))
  if existing < count:
    raise ValueError(f'{count} logical processors are wanted, TensorFlow started with {existing}')


def _cpu() -> tf.config.PhysicalDevice:
  return tf.config.list_physical_devices('CPU')[0]
