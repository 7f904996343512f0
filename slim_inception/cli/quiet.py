"""Imports TensorFlow without its start-up chatter."""

import contextlib
import faulthandler
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator

from absl import logging as absl_logging

from slim_inception import kernels

_LEGACY_KERAS = 'TF_USE_LEGACY_KERAS'


def import_tensorflow() -> None:
  """Imports TensorFlow with file descriptor 2 closed to it, and with the kernels of this machine.

  For programs, not for libraries.

  Some of its lines do not care for TF_CPP_MIN_LOG_LEVEL, and come from C++, not through sys.stderr.
  `TF_CPP_MIN_LOG_LEVEL=0` shows everything. Where TensorFlow aborts the process, as on a processor
  that lacks its instructions, Python still says where on the real stderr.
  """
  kernels.choose()
  shows_all = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2') == '0'
  # Half of the time of the import would go into what no command uses: Keras, which TensorFlow
  # imports for optimizers in SavedModels (`tf.keras` still imports it where it is used), and
  # scikit-learn, which tf-slim imports for a loss.
  with _absent('sklearn'):
    with contextlib.nullcontext() if shows_all else _silent_stderr(), _legacy_keras():
      tensorflow = importlib.import_module('tensorflow')
      if not shows_all:
        tensorflow.config.list_physical_devices('GPU')  # says that there is none
    importlib.import_module('slim_inception.nets.slim')
  if shows_all:
    return
  tensorflow.get_logger().setLevel('ERROR')  # e.g. a line for every reduction over replicas
  folder = os.path.join(os.path.dirname(tensorflow.__file__ or ''), '')
  absl_logging.get_absl_handler().addFilter(  # e.g. a line for every name in a SavedModel
    lambda record: record.levelno >= logging.ERROR or not record.pathname.startswith(folder)
  )


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
  """An optional module cannot be imported meanwhile, unless it has been."""
  if name in sys.modules:
    yield
    return
  sys.modules[name] = None  # type: ignore[assignment]  # as Python's documentation has it
  try:
    yield
  finally:
    del sys.modules[name]


@contextlib.contextmanager
def _legacy_keras() -> Iterator[None]:
  """TensorFlow's import does not look further than for legacy Keras, where that is not there."""
  if _LEGACY_KERAS in os.environ or importlib.util.find_spec('tf_keras'):
    yield
    return
  os.environ[_LEGACY_KERAS] = '1'
  try:
    yield
  finally:
    del os.environ[_LEGACY_KERAS]


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
