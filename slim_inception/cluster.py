"""From flags and environment to a tf.distribute strategy, and what several workers agree on."""

import dataclasses
import json
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from slim_inception.flags import host_and_port

# Size of what a worker tells the others of its start: flags and facts as JSON.
_MESSAGE_BYTES = 1 << 15
# How the death of a worker shows: its connections close, its heartbeats (every second; ten missing
# ones are a death) stop, or what it took part in is aborted.
LOST_WORKER_ERRORS = (
  tf.errors.UnavailableError,
  tf.errors.DeadlineExceededError,
  tf.errors.AbortedError,
)


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The processes that train together, seen from one of them.

  Attributes:
    strategy: of all.
    index: of this worker; 0 is the chief, who alone writes.
    count: of workers.
  """

  strategy: tf.distribute.Strategy
  index: int = 0
  count: int = 1

  @property
  def is_chief(self) -> bool:
    return self.index == 0

  def all_gather(self, values: npt.ArrayLike) -> np.ndarray:
    """The values of all workers, [count, len(values)] int64; all call it with as many integers.

    Returns when the last worker has called it.
    """
    mine = np.asarray(values, np.int64)
    if self.count == 1:
      return mine[np.newaxis]
    table = np.zeros((self.count, len(mine)), np.int64)
    table[self.index] = mine
    replicas = self.strategy.num_replicas_in_sync // self.count

    def row_of(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
      is_first = context.replica_id_in_sync_group % replicas == 0  # one replica for its worker
      return tf.constant(table if is_first else np.zeros_like(table))

    rows = self.strategy.experimental_distribute_values_from_function(row_of)
    return self.strategy.reduce(tf.distribute.ReduceOp.SUM, rows, axis=None).numpy()

  def wait_for_all(self) -> None:
    """Returns when the last worker has called it."""
    self.all_gather([0])  # TensorFlow crashes at a sum of no numbers

  def all_gather_json(self, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The facts (JSON, at most 32 KiB) of all workers, the chief's first."""
    text = json.dumps(facts).encode().ljust(_MESSAGE_BYTES)
    table = self.all_gather(np.frombuffer(text, np.int64))
    return [json.loads(row.tobytes()) for row in table]


def check_same(cluster: Cluster, facts: Mapping[str, Any], what: str) -> None:
  """Raises ValueError on every worker where one has other facts than the chief; names both."""
  chiefs, *others = cluster.all_gather_json(facts)
  for worker, theirs in enumerate(others, 1):
    for name, value in chiefs.items():
      if theirs[name] != value:
        raise ValueError(
          f'{what}{name} is {value} on worker 0 and {theirs[name]} on worker {worker}: it must be '
          'the same on all'
        )


def make_cluster(num_clones: int | None, clone_on_cpu: bool) -> Cluster:
  """One device, a mirror over several, or a mirror over the workers of TF_CONFIG or Slurm.

  This must come before TensorFlow runs its first operation. With several workers it returns when
  all have been started.

  Args:
    num_clones: replicas in this process; None is all GPUs, or 1 without a GPU.
    clone_on_cpu: replicas are logical processors, which are made here.

  Raises:
    ValueError: there are not as many GPUs, or the environment describes no cluster.
    OSError: another process has this worker's port.
  """
  addresses_of, task_type, task_id = find_cluster(os.environ)
  if addresses_of is None:
    return Cluster(make_strategy(num_clones, clone_on_cpu))
  addresses = [*addresses_of.get('chief', ()), *addresses_of['worker']]
  index = task_id + (len(addresses_of.get('chief', ())) if task_type == 'worker' else 0)
  gpus = 0 if clone_on_cpu else len(tf.config.list_physical_devices('GPU'))
  if (num_clones or 1) > max(1, gpus):
    raise ValueError(
      f'--num_clones={num_clones}: this worker has {gpus} GPUs'
      + ('; without them a worker is one replica: start more workers' if not gpus else '')
    )
  logging.info(
    'Worker %d of %d at %s: waiting for the others', index, len(addresses), addresses[index]
  )
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    tf.train.ClusterSpec(addresses_of),
    task_type=task_type,
    task_id=task_id,
    num_accelerators={'GPU': num_clones or gpus} if gpus else {},
    rpc_layer='grpc',
  )
  try:
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
  except tf.errors.OpError as error:
    if 'start gRPC server' not in error.message:
      raise
    raise OSError(_why_not_listening(index, addresses[index])) from error
  return Cluster(strategy, index, len(addresses))


def _why_not_listening(index: int, address: str) -> str:
  """What to say of a worker whose server did not start; TensorFlow does not say why."""
  reason = 'its server did not start'
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
    try:
      probe.bind(('', int(address.rpartition(':')[2])))
    except OSError as error:
      reason = error.strerror or reason
  return (
    f'Worker {index} cannot listen at {address}: {reason}; has it been started twice? Else give '
    'it another port, on all workers'
  )


Addresses = dict[str, list[str]]


def find_cluster(environment: Mapping[str, str]) -> tuple[Addresses | None, str, int]:
  """The workers that TF_CONFIG or Slurm names: {'worker': ['host:port', ...]}, own type and index.

  The cluster is None where this process is the only one.

  Raises:
    ValueError: TF_CONFIG cannot be read or lacks this task; Slurm has given several tasks, but
      this process was not started by srun.
  """
  if environment.get('TF_CONFIG'):
    return _tf_config_cluster(environment['TF_CONFIG'])
  if int(environment.get('SLURM_STEP_NUM_TASKS') or 1) > 1:
    return _slurm_cluster(environment)
  if int(environment.get('SLURM_NTASKS') or 1) > 1 and 'SLURM_STEP_ID' not in environment:
    raise ValueError(
      'SLURM_NTASKS says that there are several tasks, but this is none of them: start training '
      'with srun, or with --ntasks=1'
    )
  return None, 'worker', 0


def _tf_config_cluster(text: str) -> tuple[Addresses | None, str, int]:
  try:
    config = json.loads(text)
    cluster = {kind: list(addresses) for kind, addresses in config.get('cluster', {}).items()}
    task = config.get('task', {})
    task_type, task_id = task.get('type', 'worker'), int(task.get('index', 0))
  except (ValueError, TypeError, AttributeError) as error:
    raise ValueError(f'TF_CONFIG cannot be read: {error}') from error
  if sum(map(len, cluster.values())) <= 1:
    return None, task_type, task_id
  for address in (address for addresses in cluster.values() for address in addresses):
    try:
      host_and_port(str(address))
    except ValueError as error:
      raise ValueError(f'TF_CONFIG: {address!r} {error}') from None
  if unknown := sorted(set(cluster) - {'chief', 'worker'}):
    raise ValueError(f'TF_CONFIG has {unknown[0]!r} tasks: choose "worker", and "chief" for one')
  if task_id not in range(len(cluster.get(task_type, ()))):
    raise ValueError(f'TF_CONFIG: the cluster has no task {task_type!r} {task_id}')
  return {'worker': [], **cluster}, task_type, task_id


def _slurm_cluster(environment: Mapping[str, str]) -> tuple[Addresses, str, int]:
  """Every task of the job step is a worker; ports are the job's own, so that jobs can share hosts.

  GPUs are Slurm's business: --gpus-per-task, or --ntasks-per-node=1.
  """
  tasks = int(environment['SLURM_STEP_NUM_TASKS'])
  resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
    port_base=10000 + int(environment.get('SLURM_JOB_ID') or 0) % 20000,
    gpus_per_node=tasks,  # not looked for with nvidia-smi, which not every host has
    gpus_per_task=1,
    auto_set_gpu=False,
  )
  cluster = resolver.cluster_spec().as_dict()
  return cluster, *resolver.get_task_info()


def lost_worker(error: tf.errors.OpError, checkpoint: str | None) -> Exception:
  """An error of one line for the death of another worker, from TensorFlow's of many."""
  task = re.search(r'/job:(\w+)/(?:replica:\d+/)?task:(\d+)', error.message)
  who = f'{task[1]} {task[2]}' if task else 'another worker'
  last = f'from {checkpoint}' if checkpoint else 'from the beginning: there is no checkpoint yet'
  return ConnectionError(
    f'{who} is gone (its own output may say why); start the same command on all workers again '
    f'to go on {last}'
  )


def make_strategy(num_clones: int | None, clone_on_cpu: bool) -> tf.distribute.Strategy:
  """One device, or a mirror over several of this process; arguments as in `make_cluster`."""
  gpus = [] if clone_on_cpu else tf.config.list_logical_devices('GPU')
  if num_clones is not None and num_clones > len(gpus) and not clone_on_cpu and num_clones > 1:
    raise ValueError(
      f'--num_clones={num_clones}: this machine has {len(gpus)} GPUs; '
      '--clone_on_cpu makes replicas of logical processors'
    )
  replicas = num_clones or max(1, len(gpus))
  if clone_on_cpu and replicas > 1:
    (processor,) = tf.config.list_physical_devices('CPU')
    if tf.config.get_logical_device_configuration(processor) is None:
      logical = [tf.config.LogicalDeviceConfiguration()] * replicas
      tf.config.set_logical_device_configuration(processor, logical)
    if (existing := len(tf.config.list_logical_devices('CPU'))) < replicas:
      raise ValueError(
        f'{replicas} logical processors are needed, TensorFlow started with {existing}'
      )
  kind = 'GPU' if gpus else 'CPU'
  if replicas == 1:
    return tf.distribute.OneDeviceStrategy(f'/{kind}:0')
  return tf.distribute.MirroredStrategy(
    [f'/{kind}:{i}' for i in range(replicas)],
    # Logical processors share their memory: adding up in one place moves the least.
    cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice(),
  )
