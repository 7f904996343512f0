"""Imports TensorFlow without its start-up chatter: import this before whatever imports TensorFlow.

Some of the lines do not care for TF_CPP_MIN_LOG_LEVEL; `TF_CPP_MIN_LOG_LEVEL=0` shows everything.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Sends file descriptor 2 nowhere: the chatter comes from C++, not through sys.stderr."""
  sys.stderr.flush()
  saved = os.dup(2)
  try:
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(saved, 2)
    os.close(saved)


def _import_tensorflow() -> None:
  if os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2') == '0':
    return
  with _silent_stderr():
    tensorflow = importlib.import_module('tensorflow')
    tensorflow.config.list_physical_devices('GPU')  # says on a machine without that it has none
  tensorflow.get_logger().setLevel('ERROR')  # e.g. a line for every reduction over replicas


_import_tensorflow()
