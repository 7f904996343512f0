"""Replicas of a step: sums over them, and functions that are traced once for all of them.

"grappler" is TensorFlow's optimizer of graphs, which works before a function's first call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf


def sum_over_replicas(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """The sums over all replicas, of each tensor; called in replica context by all of them.

  As `ReplicaContext.all_reduce`, gradient included. That one makes Python walk, in each replica,
  through the graph of all the others, in a time that grows with the square of its size: with
  eight replicas of Inception-v3 minutes before the first step.
  """
  if tf.distribute.get_strategy().num_replicas_in_sync == 1:
    return list(tensors)

  def sum_all(strategy: tf.distribute.Strategy, *values) -> list:
    pairs = [(value, value) for value in values]
    # tf.distribute.StrategyExtended is part of the public API, for the inside of `merge_call`.
    return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs)

  @tf.custom_gradient
  def summed(*tensors):
    sums = tf.distribute.get_replica_context().merge_call(sum_all, args=tensors)
    # tf.custom_gradient looks for variables behind its results; here it need not go further.
    sums = [tf.stop_gradient(x) for x in sums]
    # What a replica's summand does, it does to the sum that every replica goes on with.
    return sums, lambda *upstream: sum_over_replicas(upstream)

  return summed(*tensors)


# What grappler need not do with a step on processors: a second round, the pass that saves memory of
# GPUs and the one that chooses their layouts. All three find nothing there, in half of its time.
_OPTIMIZATION = tf.compat.v1.ConfigProto(allow_soft_placement=True)  # as eager calls have it
_OPTIMIZATION.graph_options.rewrite_options.meta_optimizer_iterations = 1
_OPTIMIZATION.graph_options.rewrite_options.memory_optimization = 1  # none
_OPTIMIZATION.graph_options.rewrite_options.layout_optimizer = 2  # off


def can_be_apart() -> bool:
  """Whether TensorFlow may optimize a function by itself, not in what calls it: without GPUs.

  A function that is called does not know the shapes of the variables that it is given; layouts for
  GPUs are chosen by them.
  """
  return not tf.config.list_physical_devices('GPU')


def call(concrete: Any, inputs: Sequence[tf.Tensor], apart: bool) -> Any:
  """What a traced function gives.

  Args:
    concrete: the function.
    inputs: its flat arguments, then what it captures.
    apart: see `can_be_apart`. The results are the same to the last bit, unless it has a loop.

  Returns:
    As the function, in its structure.
  """
  outputs = tf.raw_ops.StatefulPartitionedCall(
    args=inputs,
    Tout=[x.dtype for x in concrete.outputs],
    f=concrete,
    config_proto=_OPTIMIZATION.SerializeToString() if apart else '',
    # An eager call without it gets TensorFlow's executor of small functions: one operation after
    # the other, in one thread, which profiles do not show. In a graph it is the graph's own.
    executor_type='DEFAULT' if tf.executing_eagerly() else '',
  )
  if not tf.executing_eagerly():
    for output, known in zip(outputs, concrete.outputs, strict=True):
      output.set_shape(known.shape)
  return tf.nest.pack_sequence_as(concrete.structured_outputs, outputs)


class SharedFunction:
  """A function of each replica that Python traces in the first one alone.

  The others call what was traced with their own parts of the variables. Traced in each, a step of
  eight replicas is eight times the work before the first one.

  Args:
    function: of tensors, or structures of them, and of `variables`; to be called in replica
      context. It must take from its arguments what differs between replicas, may not sum over
      them, and gives tensors.
    variables: {name: variable} that it may read or change. Where it has others, or says itself on
      which device something is, it is traced in each replica after all.
    apart: TensorFlow optimizes it by itself; see `can_be_apart`.
  """

  def __init__(
    self, function: Callable[..., Any], variables: Mapping[str, tf.Variable], apart: bool = False
  ):
    self._function, self._variables, self._apart = function, variables, apart
    self._traced: dict[Any, _Traced | None] = {}  # by graph and types of the arguments

  def __call__(self, *arguments: Any) -> Any:
    """What `function` gives; one replica after the other calls it, as `Strategy.run` does."""
    flat = [value for value in tf.nest.flatten(arguments) if value is not None]
    types = tuple((value.dtype, tuple(value.shape)) for value in flat)
    key = tf.compat.v1.get_default_graph(), types
    if key not in self._traced:
      self._traced[key] = self._trace(arguments)
    traced = self._traced[key]
    if traced is None:
      return self._function(*arguments)
    concrete, captures = traced
    # The handle of a mirrored variable is that of the replica that asks.
    handles = [self._variables[x].handle if isinstance(x, str) else x for x in captures]
    return call(concrete, [*flat, *handles], self._apart)

  def _trace(self, arguments: Any) -> '_Traced | None':
    """The function, for any device; None: it is one replica's alone."""
    with tf.device(None):  # that of whoever calls it
      # Grappler takes longer for one graph of all replicas than for theirs.
      attributes = {'_noinline': True} if self._apart else None
      function = tf.function(self._function, autograph=False, experimental_attributes=attributes)
      concrete = function.get_concrete_function(*arguments)
    names = {id(variable.handle): name for name, variable in self._variables.items()}
    captures = [names.get(id(x), x) for x in concrete.captured_inputs]
    others = any(not isinstance(x, str) and x.dtype == tf.resource for x in captures)
    placed = any(operation.device for operation in concrete.graph.get_operations())
    return None if others or placed else _Traced(concrete, captures)


class _Traced(NamedTuple):
  """A concrete function, and what it takes beside its arguments: names of variables, tensors."""

  concrete: Any
  captures: list[str | tf.Tensor]
