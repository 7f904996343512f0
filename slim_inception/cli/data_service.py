"""Runs a part of a tf.data service, which decodes and crops images for --data_service.

  slim-inception data-service --role=dispatcher --port=5050
  slim-inception data-service --role=worker --port=5051 --dispatcher=HOST:5050

One dispatcher, and workers on any number of hosts; all see the records under the path that the
training has. They run until they are stopped.
"""

import socket
import threading

import tensorflow as tf
from absl import flags, logging

from slim_inception.input import data_service


def define_flags() -> None:
  flags.DEFINE_enum('role', None, ['dispatcher', 'worker'], 'Which part.', required=True)
  flags.DEFINE_integer(
    'port', None, 'Where to listen.', required=True, lower_bound=1, upper_bound=65535
  )
  flags.DEFINE_string('dispatcher', None, 'HOST:PORT of the dispatcher, for a worker.')
  flags.DEFINE_string(
    'host', None, "Name under which trainers reach this worker; the host's own by default."
  )


def main(_: list[str]) -> None:
  values = flags.FLAGS
  if (values.role == 'worker') != (values.dispatcher is not None):
    raise flags.Error('--role=worker and --dispatcher=HOST:PORT need each other')
  start = _dispatcher if values.role == 'dispatcher' else _worker
  try:
    server = start(values)
  except (tf.errors.OpError, RuntimeError) as error:
    raise OSError(f'--port={values.port}: the {values.role} does not start ({error})') from error
  logging.info('%s listens at port %d', values.role, values.port)
  threading.Event().wait()  # server.join() would not hear Ctrl-C
  del server


def _dispatcher(values: flags.FlagValues) -> tf.data.experimental.service.DispatchServer:
  config = tf.data.experimental.service.DispatcherConfig(port=values.port)
  return tf.data.experimental.service.DispatchServer(config)


def _worker(values: flags.FlagValues) -> tf.data.experimental.service.WorkerServer:
  data_service.connect(values.dispatcher, data_service.CONNECT_SECS)
  host = values.host or socket.gethostname()
  config = tf.data.experimental.service.WorkerConfig(
    dispatcher_address=values.dispatcher,
    worker_address=f'{host}:{values.port}',
    port=values.port,
  )
  return tf.data.experimental.service.WorkerServer(config)
