"""Initial values of variables: at once, or by a thread, while Python goes on to what needs none.

    drawing = initial_values.Drawing()
    with initial_values.drawn_by(drawing):
      model = nets_factory.create_model('inception_v3', num_classes=1001)
    step = trace(model)  # knows the variables, not their values
    drawing.wait()
    step()

Of Inception-v3 with optimizer and averages they take a second, in which Python has nothing to do.
"""

import concurrent.futures
import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf


class Drawing:
  """Values that a thread gives to variables, one after the other, in the order of `assign`.

  So random numbers are those of variables that get their values at once, as long as the rest of the
  process asks for none of TensorFlow's global generator before `wait`.
  """

  def __init__(self):
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'initial values')
    self._values: list[concurrent.futures.Future] = []

  def assign(self, variable: tf.Variable, value: Callable[[], tf.Tensor]) -> None:
    """Gives `variable` what `value` returns; it has no value of its own until `wait`."""
    strategy = tf.distribute.get_strategy()

    def run() -> None:
      with strategy.scope():
        variable.assign(value(), read_value=False)

    self._values.append(self._thread.submit(run))

  def wait(self) -> None:
    """Returns when all variables have their values; raises what went wrong."""
    self._thread.shutdown()
    while self._values:
      self._values.pop(0).result()


_drawing: contextvars.ContextVar[Drawing | None] = contextvars.ContextVar('_drawing', default=None)


@contextlib.contextmanager
def drawn_by(drawing: Drawing | None) -> Iterator[None]:
  """Variables that are made within get their values from `drawing`; from None at once."""
  token = _drawing.set(drawing)
  try:
    yield
  finally:
    _drawing.reset(token)


def variable(
  value: Callable[[], tf.Tensor],
  shape: Sequence[int] | tf.TensorShape,
  dtype: tf.DType = tf.float32,
  **kwargs: Any,
) -> tf.Variable:
  """A variable with the initial value that `value` returns, which it may have to wait for.

  Args:
    value: is called once.
    shape: of the value.
    dtype: of the value.
    **kwargs: of tf.Variable.
  """
  drawing = _drawing.get()
  if drawing is None:
    return tf.Variable(value, **kwargs)
  made = tf.Variable(lambda: tf.raw_ops.Empty(shape=shape, dtype=dtype), **kwargs)
  drawing.assign(made, value)
  return made
