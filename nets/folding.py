"""Batch norm folded into the weights before it, for inference.

With moving averages a batch norm is a factor and a sum, which the convolution can have itself:

    gamma (W x - m) / sqrt(v + eps) + beta  =  (s W) x + (beta - s m),   s = gamma / sqrt(v + eps)

Grappler does the same in a float32 graph on processors, and nowhere else: in bfloat16 batch norm is
a sixth of the time of Inception-v3 (docs/performance.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from . import layers, slim
from .layer_support import ZEROS

_MEAN = '/BatchNorm/moving_mean'


def without_batch_norm(arg_scope: dict[str, Any]) -> dict[str, Any]:
  """The arg scope with biases in place of batch norm, and weights that wait to be assigned."""
  with (
    slim.exclusively(),
    slim.arg_scope(arg_scope),
    slim.arg_scope(
      [layers.conv2d, layers.fully_connected],
      normalizer_fn=None,
      normalizer_params={},
      weights_initializer=ZEROS,  # random numbers would take seconds
    ) as scope,
  ):
    return scope


def batch_norm_parameters(arg_scope: dict[str, Any]) -> dict[str, Any]:
  """The arguments of the batch norm of a convolution in this arg scope."""
  of_conv = arg_scope.get(slim.key_of(layers.conv2d), {}).get('normalizer_params') or {}
  return arg_scope.get(slim.key_of(layers.batch_norm), {}) | of_conv


def epsilon_of(arg_scope: dict[str, Any]) -> float:
  """What batch norm adds to the variance in this arg scope."""
  return batch_norm_parameters(arg_scope).get('epsilon', 0.001)


def fold(variables: Mapping[str, tf.Variable], epsilon: float) -> Iterator[tuple[str, tf.Tensor]]:
  """The weights and biases of the net without batch norm that gives the same.

  One after the other: all of them together are as much memory again as the net.

  Args:
    variables: {name: variable} of the net with batch norm.
    epsilon: what batch norm adds to the variance.

  Returns:
    Name and value, float32, of all variables of the net without batch norm.

  Raises:
    ValueError: a batch norm does not stand behind weights.
  """
  scopes = [name.removesuffix(_MEAN) for name in variables if name.endswith(_MEAN)]
  for scope in scopes:
    if f'{scope}/weights' not in variables:
      raise ValueError(f'{scope}{_MEAN}: there are no {scope}/weights to fold it into')
  return _fold(variables, epsilon, frozenset(scopes))


def _fold(
  variables: Mapping[str, tf.Variable], epsilon: float, scopes: frozenset[str]
) -> Iterator[tuple[str, tf.Tensor]]:
  for name, variable in variables.items():
    scope, _, leaf = name.rpartition('/')
    if '/BatchNorm/' in name:
      continue
    if scope not in scopes or leaf != 'weights':
      yield name, variable.read_value()
      continue
    norm = {
      leaf: variables[path].read_value()
      for leaf in ('beta', 'gamma', 'moving_mean', 'moving_variance')
      if (path := f'{scope}/BatchNorm/{leaf}') in variables
    }
    factor = norm.get('gamma', 1.0) * tf.math.rsqrt(norm['moving_variance'] + epsilon)
    yield name, variable.read_value() * factor  # [..., filters] * [filters]
    yield f'{scope}/biases', norm.get('beta', 0.0) - factor * norm['moving_mean']
