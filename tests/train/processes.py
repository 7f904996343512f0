"""Small runs: their configuration, and as processes of their own, alone or together."""

import contextlib
import json
import pathlib
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
from slim_inception.nets import checkpoints

from slim_inception.train.config import Config, resolve
from tests import tiny, zygote
from tests.zygote import TIMEOUT


def flags_of(train_dir: pathlib.Path, data: pathlib.Path, **flags) -> dict:
  """The flags of a small run, {name: value}."""
  return {
    'dataset_name': 'image_folder',
    'dataset_dir': str(data),
    'train_dir': str(train_dir),
    'model_name': tiny.NAME,
    'preprocessing_name': 'inception',
    'batch_size': 4,
    'max_number_of_steps': 6,
    'log_every_n_steps': 1,
    'batch_norm_decay': 0.5,
    'learning_rate_decay_type': 'fixed',
    'clone_on_cpu': True,
    **flags,
  }


def config(train_dir: pathlib.Path, data: pathlib.Path, **flags) -> Config:
  """The configuration of a small run."""
  return resolve(flags_of(train_dir, data, **flags))


def start(train_dir, data, environment=None, **flags) -> zygote.Process:
  """One process; flags as keywords, True for a switch."""
  return command('train', environment, **flags_of(train_dir, data, **flags))


def command(name: str, environment=None, **flags) -> zygote.Process:
  """`slim-inception NAME` with these flags; stdout and stderr are one."""
  arguments = (f'--{name}={str(v).lower() if v is True else v}' for name, v in flags.items())
  return zygote.start(name, *arguments, env=environment, merge=True)


def free_ports(count: int) -> list[int]:
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [each.getsockname()[1] for each in sockets]


def task(ports: list[int], index: int) -> dict[str, str]:
  """The environment of a worker."""
  workers = [f'127.0.0.1:{port}' for port in ports]
  config = {'cluster': {'worker': workers}, 'task': {'type': 'worker', 'index': index}}
  return {'TF_CONFIG': json.dumps(config)}


@contextlib.contextmanager
def cluster(train_dir, data, *, of_worker=({}, {}), **flags) -> Iterator[list[zygote.Process]]:
  """Workers on this machine; `of_worker` has flags of each. They end with the block."""
  ports = free_ports(len(of_worker))
  processes = []
  try:
    for index, own in enumerate(of_worker):
      processes.append(start(train_dir, data, task(ports, index), **{**flags, **own}))
    yield processes
  finally:
    for process in processes:
      process.close()


def finish(*processes) -> list[tuple[int, str]]:
  """Status and output of each."""
  outputs = [process.communicate()[0] for process in processes]
  return [(p.returncode, output) for p, output in zip(processes, outputs, strict=True)]


def metrics(train_dir) -> list[dict]:
  path = pathlib.Path(train_dir, 'metrics.jsonl')
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith('}')]


def weights(train_dir) -> dict[str, np.ndarray]:
  """All that a checkpoint has."""
  stored = checkpoints.read(train_dir, checkpoints.shapes(train_dir))
  return {name: value.numpy() for name, value in stored.items()}


def wait_for_step(train_dir, step: int, *processes) -> None:
  """Returns when metrics.jsonl has a step; an end of one of the processes before is an error."""
  wait_until(lambda: any(e['step'] >= step for e in metrics(train_dir)), *processes)


def wait_until(is_so: Callable[[], bool], *processes) -> None:
  deadline = time.monotonic() + TIMEOUT
  while not is_so():
    for process in processes:
      assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.02)
