"""Initial values that a thread draws, beside those of variables that have them at once."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import initial_values, nets_factory

from tests import tiny
from tests.train import steps


def _model(strategy: tf.distribute.Strategy, drawing: initial_values.Drawing | None):
  tf.random.set_seed(3)
  with strategy.scope(), initial_values.drawn_by(drawing):
    return nets_factory.create_model(tiny.NAME, num_classes=3)


@pytest.mark.parametrize('is_mirrored', [False, True])
def test_values_are_those_of_variables_made_at_once(mirrored, is_mirrored):
  strategy = mirrored if is_mirrored else tf.distribute.OneDeviceStrategy('/cpu:0')
  expected = steps.arrays(_model(strategy, None).variables_by_name)
  drawing = initial_values.Drawing()
  model = _model(strategy, drawing)
  drawing.wait()
  for name, variable in model.variables_by_name.items():
    for copy in strategy.experimental_local_results(variable):
      np.testing.assert_array_equal(copy.numpy(), expected[name], err_msg=name)
  assert len(np.unique(expected['InceptionTiny/Conv2d_1a_3x3/weights'])) > 100


def test_values_come_one_after_the_other_from_another_thread():
  drawing, threads = initial_values.Drawing(), []

  def value(number):
    threads.append(threading.get_ident())
    return tf.constant([number])

  with initial_values.drawn_by(drawing):
    first = initial_values.variable(lambda: value(2.0), [1])
    second = initial_values.variable(lambda: first.read_value() + 1.0, [1])
  drawing.wait()
  assert second.numpy() == [3.0]
  assert threads and threading.get_ident() not in threads


def test_a_value_that_cannot_be_made_is_said_when_it_is_waited_for():
  drawing = initial_values.Drawing()
  with initial_values.drawn_by(drawing):
    initial_values.variable(lambda: tf.ones([3]), [2])
  with pytest.raises(ValueError, match='(?i)shape'):
    drawing.wait()
