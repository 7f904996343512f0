"""Runs a part of a tf.data service, which decodes and crops images for --data_service.

  slim-inception data-service --role=dispatcher --port=5050
  slim-inception data-service --role=worker --port=5051 --dispatcher=HOST:5050

One dispatcher, and workers on any number of hosts; all see the records under the path that the
training has. They run until they are stopped.
"""

import dataclasses
import socket
import threading
from collections.abc import Mapping
from typing import Any

from absl import logging

from slim_inception import flags
from slim_inception.cli import quiet
from slim_inception.flags import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """A part of a service."""

  role: str = field(
    flags.REQUIRED,
    'This process is the one dispatcher, or one of the workers.',
    choices=('dispatcher', 'worker'),
  )
  port: int = field(flags.REQUIRED, 'The process listens at this port.', at_least=1, at_most=65535)
  dispatcher: str | None = field(
    None,
    'A worker works for the dispatcher at this address.',
    form='HOST:PORT',
    check=flags.host_and_port,
  )
  host: str | None = field(
    None, "Trainers reach this worker under this name; the host's own by default."
  )


def resolve(values: Mapping[str, Any]) -> Config:
  """The configuration; raises ValueError, naming the flag."""
  config = flags.build(Config, values)
  if (config.role == 'worker') != (config.dispatcher is not None):
    raise ValueError('--role=worker and --dispatcher=HOST:PORT need each other')
  return config


def define_flags() -> None:
  flags.define(Config)


def main(_: list[str]) -> None:
  config = flags.parse(Config, resolve, prepare=quiet.import_tensorflow)
  import tensorflow as tf

  try:
    server = start(config)
  except (tf.errors.OpError, RuntimeError) as error:
    raise OSError(f'--port={config.port}: the {config.role} does not start ({error})') from error
  logging.info('%s listens at port %d', config.role, config.port)
  threading.Event().wait()  # server.join() would not hear Ctrl-C
  del server


def start(config: Config) -> object:
  """The server, which runs as long as it is referred to."""
  import tensorflow as tf

  from slim_inception.input import data_service

  service = tf.data.experimental.service
  if config.dispatcher is None:
    return service.DispatchServer(service.DispatcherConfig(port=config.port))
  data_service.connect(config.dispatcher, data_service.CONNECT_SECS)
  host = config.host or socket.gethostname()
  return service.WorkerServer(
    service.WorkerConfig(
      dispatcher_address=config.dispatcher,
      worker_address=f'{host}:{config.port}',
      port=config.port,
    )
  )
