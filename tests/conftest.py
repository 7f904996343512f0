"""Set-up shared by all tests."""

import contextlib
import gc
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Processes that tests start import this checkout, from whichever folder.
os.environ['PYTHONPATH'] = str(pathlib.Path(__file__).resolve().parents[1])

import pytest

from tests import zygote


def pytest_configure(config: pytest.Config) -> None:
  if not hasattr(config, 'workerinput') and config.getoption('numprocesses', None):
    # The process that only hands out tests: its workers share a zygote, and need TensorFlow.
    os.environ[zygote.ADDRESS] = zygote.launch(tempfile.mkdtemp(prefix='zygote-'))
    return
  from slim_inception.cli import quiet

  quiet.import_tensorflow()
  import tensorflow as tf

  # Three logical processors stand for GPUs; they must be made before TensorFlow starts up.
  cpu = tf.config.list_physical_devices('CPU')[0]
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
  from tests import tiny

  tiny.register()  # before the flags list their choices


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Long tests first: at the end, all processes still have some."""
  items.sort(key=lambda item: item.get_closest_marker('integration') is None)


def pytest_collection_finish() -> None:
  gc.collect()
  gc.freeze()  # TensorFlow's and the tests' objects stay: no need to walk through them again


@pytest.fixture(scope='session')
def mirrored():
  """A strategy of two replicas."""
  import tensorflow as tf

  return tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder of the module's own with 24 training records of three classes."""
  from tests import records

  return records.write_set(tmp_path_factory.mktemp('data'))


@pytest.fixture(autouse=True)
def seed() -> None:
  import tensorflow as tf

  tf.random.set_seed(0)


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A file system of 4 MB; skips where mounting is not allowed."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]
  if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
    # Mounting needs root: whoever tests as another user has no other way to fill a disk.
    pytest.skip('mounting a small file system needs root')
  yield disk
  subprocess.run(['umount', disk], check=True)


@pytest.fixture
def full_disk(small_disk: pathlib.Path) -> pathlib.Path:
  """An empty folder on a file system without room for a byte; `../others` takes all of it."""
  folder = small_disk / 'folder'
  folder.mkdir()
  with contextlib.suppress(OSError), open(small_disk / 'others', 'wb', buffering=0) as file:
    while file.write(b'x' * 4096):
      pass
  return folder
