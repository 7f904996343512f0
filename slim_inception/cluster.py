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

from slim_inception import kernels
from slim_inception.datasets.runners import num_cores
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
    ValueError: TF_CONFIG cannot be read or describes no cluster, or this process is none of its
      workers; Slurm has given several tasks, but this process was not started by srun.
  """
  if environment.get('TF_CONFIG'):
    try:
      return _tf_config_cluster(environment['TF_CONFIG'])
    except ValueError as error:
      raise ValueError(f'TF_CONFIG {error}') from error
  if _number(environment, 'SLURM_STEP_NUM_TASKS', 1) > 1:
    return _slurm_cluster(environment)
  if _number(environment, 'SLURM_NTASKS', 1) > 1 and 'SLURM_STEP_ID' not in environment:
    raise ValueError(
      'SLURM_NTASKS says that there are several tasks, but this is none of them: start training '
      'with srun, or with --ntasks=1'
    )
  return None, 'worker', 0


def _tf_config_cluster(text: str) -> tuple[Addresses | None, str, int]:
  """Errors say what TF_CONFIG is or has; it comes before them."""
  try:
    config = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'is no valid JSON: {error}') from error
  if config == {}:
    return None, 'worker', 0
  if not isinstance(config, dict) or not isinstance(config.get('cluster'), dict):
    has = f', only {", ".join(map(repr, config))}' if isinstance(config, dict) else ''
    raise ValueError(
      f'has no object "cluster"{has}: {_EXAMPLE} is expected; unset it to work with one process'
    )
  cluster = {kind: _addresses(kind, tasks) for kind, tasks in config['cluster'].items()}
  for kind in (kind for kind, tasks in cluster.items() if tasks):
    _check_kind(kind)
  addresses = [address for tasks in cluster.values() for address in tasks]
  if twice := [address for address in addresses if addresses.count(address) > 1]:
    raise ValueError(f'names {twice[0]} twice: each process has an address of its own')
  if len(cluster.get('chief', ())) > 1:
    raise ValueError('has more than one "chief": the others are "worker"s')
  task_type, task_id = _task(config.get('task'), cluster)
  if len(addresses) <= 1:
    return None, task_type, task_id
  return {'worker': [], **cluster}, task_type, task_id


_KINDS = 'worker', 'chief'
_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def _check_kind(kind: object) -> None:
  if kind not in _KINDS:
    raise ValueError(
      f'has {kind!r} tasks, which train nothing here: choose "worker", and "chief" for one; unset '
      'it where a process is to work alone'
    )


def _addresses(kind: str, tasks: Any) -> list[str]:
  """The addresses of the tasks of a kind: a list, or an object with their numbers as keys."""
  if isinstance(tasks, dict):
    if sorted(tasks) != sorted(str(index) for index in range(len(tasks))):
      raise ValueError(
        f'numbers its {kind!r} tasks {", ".join(map(str, tasks))}: 0 .. {len(tasks) - 1} are '
        'expected, for a run has all of its workers'
      )
    tasks = [tasks[str(index)] for index in range(len(tasks))]
  if not isinstance(tasks, list):
    raise ValueError(f'has {kind!r} tasks {tasks!r}: a list of "host:port" is expected')
  for address in tasks:
    try:
      host_and_port(str(address))
    except ValueError as error:
      raise ValueError(f'has {kind!r} task {address!r}, which {error}') from None
  return tasks


def _task(task: Any, cluster: Addresses) -> tuple[str, int]:
  """What this process is."""
  task = task or {}
  kinds = [kind for kind, tasks in cluster.items() if tasks]
  if not isinstance(task, dict):
    raise ValueError(f'has task {task!r}: {{"type": "worker", "index": 0}} is expected')
  kind = task.get('type')
  if kind is None and len(kinds) == 1:
    kind = kinds[0]
  if kind is None:
    raise ValueError('does not say which "type" its "task" has: "worker" or "chief"')
  _check_kind(kind)
  tasks, index = cluster.get(kind, []), task.get('index')
  if index is None and len(tasks) == 1:
    index = 0
  if str(index) not in map(str, range(len(tasks))):
    missing = (
      'does not say the "index" of its "task"' if index is None else f'has no {kind!r} {index}'
    )
    raise ValueError(f'{missing}: the cluster has {len(tasks)} tasks {kind!r}')
  return kind, int(str(index))


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
  text = environment.get(name) or str(default)
  if not text.isdecimal():
    raise ValueError(f'{name} must be a whole number, not {text!r}')
  return int(text)


def _slurm_cluster(environment: Mapping[str, str]) -> tuple[Addresses, str, int]:
  """Every task of the job step is a worker; ports are the job's own, so that jobs can share hosts.

  GPUs are Slurm's business: --gpus-per-task, or --ntasks-per-node=1.
  """
  tasks = _number(environment, 'SLURM_STEP_NUM_TASKS', 1)
  rank = _number(environment, 'SLURM_PROCID', 0)
  if rank >= tasks:
    raise ValueError(f'SLURM_PROCID is {rank}, but SLURM_STEP_NUM_TASKS is {tasks}')
  try:
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
      port_base=10000 + _number(environment, 'SLURM_JOB_ID', 0) % 20000,
      gpus_per_node=tasks,  # not looked for with nvidia-smi, which not every host has
      gpus_per_task=1,
      auto_set_gpu=False,
    )
  except (RuntimeError, ValueError) as error:
    raise ValueError(f"Slurm's environment describes no job step: {error}") from error
  cluster = resolver.cluster_spec().as_dict()
  return cluster, *resolver.get_task_info()


def lost_worker(
  error: tf.errors.OpError, checkpoint: str | None, strategy: tf.distribute.Strategy
) -> Exception:
  """An error of one line for the death of another worker, from TensorFlow's of many.

  Args:
    error: of a computation with the others.
    checkpoint: the latest one.
    strategy: of this worker, which the message names too.
  """
  own = strategy.cluster_resolver.task_type, str(strategy.cluster_resolver.task_id)
  tasks = re.findall(r'/job:(\w+)/(?:replica:\d+/)?task:(\d+)', error.message)
  who = next((f'{kind} {number}' for kind, number in tasks if (kind, number) != own), None)
  who = who or 'another worker'
  last = f'from {checkpoint}' if checkpoint else 'from the beginning: there is no checkpoint yet'
  return ConnectionError(
    f'{who} is gone (its own output may say why); start the same command on all workers again '
    f'to go on {last}'
  )


def gpus_of(strategy: tf.distribute.Strategy) -> list[str]:
  """The GPUs that a strategy computes on in this process; TensorFlow's default: the first."""
  try:
    devices = strategy.extended.worker_devices
  except RuntimeError:  # the default lists none
    # Not by list_logical_devices: it starts TensorFlow, which then takes no cluster any more.
    return ['/device:GPU:0'] if tf.config.get_visible_devices('GPU') else []
  return [device for device in devices if 'GPU' in device]


def describe_devices(strategy: tf.distribute.Strategy) -> str:
  """What a strategy computes on in this process: '4 x NVIDIA H100'.

  Of a processor also with which kernels: 'CPU (2 cores, oneDNN kernels, AVX2)'.
  """
  gpus = gpus_of(strategy)
  if not gpus:
    return f'CPU ({num_cores()} cores, {kernels.describe()})'
  details = tf.config.experimental.get_device_details(tf.config.list_physical_devices('GPU')[0])
  return f'{len(gpus)} x {details.get("device_name", "GPU")}'


def kernels_of(strategy: tf.distribute.Strategy) -> str | None:
  """With which kernels of the processor a strategy computes; None: on GPUs."""
  return None if gpus_of(strategy) else kernels.describe()


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
