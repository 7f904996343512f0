"""Imports TensorFlow without its start-up chatter."""

import contextlib
import faulthandler
import importlib
import logging
import os
import sys
from collections.abc import Iterator

from absl import logging as absl_logging

from slim_inception import kernels


def import_tensorflow() -> None:
  """Imports TensorFlow with file descriptor 2 closed to it, and with the kernels of this machine.

  For programs, not for libraries.

  Some of its lines do not care for TF_CPP_MIN_LOG_LEVEL, and come from C++, not through sys.stderr.
  `TF_CPP_MIN_LOG_LEVEL=0` shows everything. Where TensorFlow aborts the process, as on a processor
  that lacks its instructions, Python still says where on the real stderr.
  """
  kernels.choose()
  if os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2') == '0':
    return
  with _silent_stderr():
    tensorflow = importlib.import_module('tensorflow')
    tensorflow.config.list_physical_devices('GPU')  # says on a machine without that it has none
  tensorflow.get_logger().setLevel('ERROR')  # e.g. a line for every reduction over replicas
  folder = os.path.join(os.path.dirname(tensorflow.__file__ or ''), '')
  absl_logging.get_absl_handler().addFilter(  # e.g. a line for every name in a SavedModel
    lambda record: record.levelno >= logging.ERROR or not record.pathname.startswith(folder)
  )


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  sys.stderr.flush()
  saved = os.dup(2)
  faulthandler.enable(saved)
  try:
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    faulthandler.disable()
    os.dup2(saved, 2)
    os.close(saved)
