"""What is computed again for its gradient rather than kept: less memory, more time.

Between the convolutions of a net stand batch norm, ReLU, pooling and concatenation, which take
little time and most of the memory of a training step. Here their outputs are not kept for the
gradients; these compute them again (gradient checkpointing, arXiv:1604.06174), from the outputs of
convolutions. Those are kept, but for the ones that cost few products a value.

    y = run(normalize, [x], [beta, gamma])
    y = run(tf.nn.relu, [y])
    z = run(convolve, [y], [weights], keep=True)

`z` is kept, and so is `x`; for the gradients of `z` and both `y` the first two lines run again,
once.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

_ATTRIBUTE = '_computed_again_by'  # of an output that is not kept

_is_on = contextvars.ContextVar('_is_on', default=False)


@contextlib.contextmanager
def forgetting(is_on: bool = True) -> Iterator[None]:
  """What `run` runs within is computed again for its gradient."""
  token = _is_on.set(is_on)
  try:
    yield
  finally:
    _is_on.reset(token)


def run(
  function: Callable[..., Any],
  inputs: Sequence[tf.Tensor],
  parameters: Sequence[tf.Tensor | tf.Variable] = (),
  *,
  keep: bool = False,
) -> Any:
  """`function(*inputs, *parameters)`, which is not kept for the gradient where `forgetting` is on.

  Args:
    function: gives a tensor, or a tensor and others that have no gradient; of nothing but its
      arguments, and without effects, because it runs twice.
    inputs: what it is computed of: kept, or themselves computed again.
    parameters: further arguments, small; they wait for the gradient, so that nothing is computed
      again before it is needed. Without them, and with kept inputs alone, outputs are kept too.
    keep: the output is kept; of the inputs what is needed is computed again all the same.
  """
  sources = [getattr(tensor, _ATTRIBUTE, None) for tensor in inputs]
  if not _is_on.get() or not (any(sources) or (parameters and not keep)):
    return function(*inputs, *parameters)
  parameters = [tf.convert_to_tensor(x) for x in parameters]
  step = _Step(function, [s or x for s, x in zip(sources, inputs, strict=True)], parameters)

  @tf.custom_gradient
  def forgetful(*arguments):
    outputs = function(*arguments)
    first, *others = tf.nest.flatten(outputs)
    others = [tf.stop_gradient(x) for x in others]
    return tf.nest.pack_sequence_as(outputs, [first, *others]), step.gradient

  outputs = forgetful(*inputs, *parameters)
  if not keep:
    setattr(tf.nest.flatten(outputs)[0], _ATTRIBUTE, step)
  return outputs


def run_activation(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
  """As `run`, of a function of tf.nn; others may have variables, and their outputs are kept."""
  if getattr(tf.nn, getattr(function, '__name__', ''), None) is not function:
    return function(inputs)
  return run(function, [inputs])


class _Step:
  """A function that has run, and runs again once for all who ask."""

  def __init__(
    self,
    function: Callable[..., Any],
    sources: 'Sequence[_Step | tf.Tensor]',
    parameters: Sequence[tf.Tensor],
  ):
    self._function, self._sources, self._parameters = function, sources, parameters
    self._again: tuple[tf.Graph, list[tf.Tensor], tf.Tensor, tf.GradientTape] | None = None

  def gradient(self, upstream: tf.Tensor, *unused: tf.Tensor) -> list[tf.Tensor | None]:
    """Of the inputs and parameters, with that of the first output."""
    arguments, output, tape = self._run_again(upstream)
    self._again = None
    return tape.gradient(output, arguments, upstream)

  def output(self, upstream: tf.Tensor) -> tf.Tensor:
    """The first output once more, not before there is `upstream`."""
    return self._run_again(upstream)[1]

  def _run_again(self, upstream: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor, tf.GradientTape]:
    graph = tf.compat.v1.get_default_graph()
    if self._again is None or self._again[0] is not graph:
      inputs = [s.output(upstream) if isinstance(s, _Step) else s for s in self._sources]
      parameters = list(self._parameters)
      if not any(isinstance(source, _Step) for source in self._sources):
        parameters = [x + _zero_after(upstream, x.dtype) for x in parameters]
      arguments = [*inputs, *parameters]
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(arguments)
        output = tf.nest.flatten(self._function(*arguments))[0]
      self._again = graph, arguments, output, tape
    return self._again[1:]


def _zero_after(tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """0, once `tensor` is there.

  A sum with it is known to nobody beforehand: XLA heeds no control dependencies, and both XLA and
  grappler make one of two that compute the same.
  """
  return tf.cast(tf.minimum(tf.abs(tf.reshape(tensor, [-1])[0]), 0), dtype)
