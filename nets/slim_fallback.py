"""What the nets need of tf-slim, for the day when a release of TensorFlow breaks tf-slim.

tf-slim imports 259 private modules of TensorFlow, of whose public API this makes do. The same in
every respect that the nets use: `tests/nets/test_slim.py` compares the two.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

Scope = dict[str, dict[str, Any]]  # {key of a layer: {argument: its default}}

_stack: list[Scope] = [{}]  # of the process: see nets/slim.py on threads


def _get_arg_stack() -> list[Scope]:
  return _stack


def current_arg_scope() -> Scope:
  return _stack[-1]


def arg_scope_func_key(function: Callable) -> str:
  return getattr(function, '_key_op', str(function))


@contextlib.contextmanager
def arg_scope(layers_or_scope: Sequence[Callable] | Scope, **defaults: Any) -> Iterator[Scope]:
  """Sets arguments' defaults of layers, or all those of a scope that was yielded earlier."""
  if isinstance(layers_or_scope, dict):
    if defaults:
      raise ValueError('Where a scope is used again, kwargs must be empty')
    scope = layers_or_scope.copy()
  else:
    scope = current_arg_scope().copy()
    for layer in layers_or_scope:
      if not hasattr(layer, '_key_op'):
        raise ValueError(f'{layer.__name__} is not decorated with @add_arg_scope')
      scope[layer._key_op] = {**scope.get(layer._key_op, {}), **defaults}
  _stack.append(scope)
  try:
    yield scope
  finally:
    _stack.pop()


def add_arg_scope(function: Callable) -> Callable:
  key = arg_scope_func_key(function)

  @functools.wraps(function)
  def with_defaults(*args: Any, **kwargs: Any) -> Any:
    return function(*args, **{**current_arg_scope().get(key, {}), **kwargs})

  with_defaults._key_op = key  # type: ignore[attr-defined]
  return with_defaults


@add_arg_scope
def model_variable(
  name: str, *, collections: Sequence[str] | None = None, device: Any = None, **kwargs: Any
) -> tf.Variable:
  keys = tf.compat.v1.GraphKeys
  collections = [*{*(collections or ()), keys.GLOBAL_VARIABLES, keys.MODEL_VARIABLES}]
  with tf.compat.v1.device(device or ''):
    return tf.compat.v1.get_variable(name, collections=collections, **kwargs)


def l2_regularizer(scale: float) -> Callable[[tf.Tensor], tf.Tensor | None]:
  def l2(weights: tf.Tensor) -> tf.Tensor | None:
    return scale * tf.nn.l2_loss(weights) if scale else None

  return l2


def xavier_initializer() -> Callable[..., tf.Tensor]:
  """Uniform, variance 2 / (inputs + outputs) (Glorot and Bengio, 2010)."""

  def initializer(shape, dtype=tf.float32, partition_info=None) -> tf.Tensor:
    limit = math.sqrt(6.0 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return tf.random.uniform(shape, -limit, limit, dtype)

  return initializer


def variance_scaling_initializer() -> Callable[..., tf.Tensor]:
  """Normal within 2 deviations, variance 2 / inputs (arXiv:1502.01852); the 1.3 is slim's."""

  def initializer(shape, dtype=tf.float32, partition_info=None) -> tf.Tensor:
    return tf.random.truncated_normal(
      shape, stddev=math.sqrt(1.3 * 2.0 / math.prod(shape[:-1])), dtype=dtype
    )

  return initializer
