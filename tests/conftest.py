"""Set-up shared by all tests."""

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Processes that tests start import this checkout, from whichever folder.
os.environ['PYTHONPATH'] = str(pathlib.Path(__file__).resolve().parents[1])

import pytest
import tensorflow as tf

from tests import tiny

# Three logical processors stand for GPUs; they must be made before TensorFlow starts up.
_CPU = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 3)


tiny.register()


@pytest.fixture(scope='session')
def mirrored() -> tf.distribute.Strategy:
  return tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])


@pytest.fixture(autouse=True)
def seed() -> None:
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
