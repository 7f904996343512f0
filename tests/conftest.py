"""Set-up shared by all tests."""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import pytest
import tensorflow as tf

from tests import tiny

# Two logical processors stand for two GPUs; they must be made before TensorFlow starts up.
_CPU = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


tiny.register()


@pytest.fixture(scope='session')
def mirrored() -> tf.distribute.Strategy:
  return tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])


@pytest.fixture(autouse=True)
def seed() -> None:
  tf.random.set_seed(0)
