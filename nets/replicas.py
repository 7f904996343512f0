"""Replicas of a step: sums over them, and functions that are traced once for all of them."""

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
  """

  def __init__(self, function: Callable[..., Any], variables: Mapping[str, tf.Variable]):
    self._function, self._variables = function, variables
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
    outputs = tf.raw_ops.StatefulPartitionedCall(
      args=[*flat, *handles], Tout=[x.dtype for x in concrete.outputs], f=concrete
    )
    for output, known in zip(outputs, concrete.outputs, strict=True):
      output.set_shape(known.shape)
    return tf.nest.pack_sequence_as(concrete.structured_outputs, outputs)

  def _trace(self, arguments: Any) -> '_Traced | None':
    """The function, for any device; None: it is one replica's alone."""
    with tf.device(None):  # that of whoever calls it
      function = tf.function(self._function, autograph=False)
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
