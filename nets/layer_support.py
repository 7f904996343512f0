"""What every layer needs: arg scopes shared with slim's, variables, collections, sizes."""

import contextlib
import contextvars
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from . import slim

Initializer = Callable[..., tf.Tensor]
Regularizer = Callable[[tf.Tensor], tf.Tensor | None]
Collections = str | Sequence[str] | None

ZEROS = tf.compat.v1.zeros_initializer()
ONES = tf.compat.v1.ones_initializer()


_shared_tensors: contextvars.ContextVar[dict | None] = contextvars.ContextVar(
  '_shared_tensors', default=None
)


@contextlib.contextmanager
def sharing_tensors() -> Iterator[None]:
  """Layers that are traced within share tensors: constants that each of them would have."""
  token = _shared_tensors.set({})
  try:
    yield
  finally:
    _shared_tensors.reset(token)


def shared_tensor(key: Hashable, make: Callable[[], tf.Tensor]) -> tf.Tensor:
  """What `make` returns, once for the layers of a graph; see `sharing_tensors`."""
  tensors = _shared_tensors.get()
  if tensors is None or tf.executing_eagerly():
    return make()
  of_graph = tf.compat.v1.get_default_graph(), key
  if of_graph not in tensors:
    with tf.control_dependencies(None):
      tensors[of_graph] = make()
  return tensors[of_graph]


def pair(value: int | Sequence[int]) -> tuple[int, int]:
  """3 -> (3, 3); (1, 7), [1, 7] and TensorShape([1, 7]) -> (1, 7)."""
  if isinstance(value, tf.TensorShape):
    value = value.as_list()
  if isinstance(value, int):
    return value, value
  height, width = value
  return int(height), int(width)


def channels_of(inputs: tf.Tensor, data_format: str) -> int:
  """The static number of channels; ValueError where it is unknown."""
  channels = inputs.shape.as_list()[-1 if data_format == 'NHWC' else 1]
  if channels is None:
    raise ValueError(f'The number of channels must be known; the shape is {inputs.shape}')
  return channels


def check_data_format(data_format: str | None) -> str:
  """'NHWC' or 'NCHW'; ValueError for anything else but None, which is 'NHWC'."""
  if data_format not in (None, 'NHWC', 'NCHW'):
    raise ValueError(f"data_format is {data_format!r}; choose 'NHWC' or 'NCHW'")
  return data_format or 'NHWC'


def model_variable(
  name: str,
  shape: Sequence[int],
  initializer: Initializer,
  variables_collections: Collections | dict[str, Collections] = None,
  **kwargs: Any,
) -> tf.Variable:
  """`slim.model_variable`, float32: arg scopes, variable scopes and custom getters decide.

  `variables_collections` are of a graph; a dictionary has them by name.
  """
  if isinstance(variables_collections, dict):
    variables_collections = variables_collections.get(name)
  if isinstance(variables_collections, str):
    variables_collections = [variables_collections]
  return slim.model_variable(
    name, shape=shape, initializer=initializer, collections=variables_collections, **kwargs
  )


def collect(outputs: tf.Tensor, collections: Collections, alias: str) -> tf.Tensor:
  """Adds `outputs` to graph collections, as slim does under its scope's name; none in TF2."""
  if collections and not tf.compat.v1.executing_eagerly_outside_functions():
    outputs.aliases = [*getattr(outputs, 'aliases', ()), alias.removesuffix('/')]
    tf.compat.v1.add_to_collections(collections, outputs)
  return outputs
