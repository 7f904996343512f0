"""All that is used of tf-slim, and the only file that imports it or touches its private names.

tf-slim's last release is 1.1.0; its `batch_norm` fails on today's TensorFlow. `layer` makes our
layers answer to arg scopes over users' `slim.conv2d`, ..., and the other way round.

tf_slim has one stack of arg scopes for the whole process. The replicas of a mirrored strategy are
threads, of which one at a time runs, until it waits for the others in a collective. So a thread
that enters a net, or makes an arg scope, keeps other threads out of the stack (`exclusively`), and
a collective in the midst of a net puts the thread's scopes aside (`put_aside`), as a coroutine does
with its frame.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import tensorflow as tf
from absl import logging

try:
  import tf_slim
  from tf_slim.ops.arg_scope import _get_arg_stack  # nothing public reaches below the top
except (ImportError, AttributeError) as error:
  logging.warning('Nets do without tf_slim, which this TensorFlow does not let in: %s', error)
  from . import slim_fallback as tf_slim
  from .slim_fallback import _get_arg_stack

arg_scope = tf_slim.arg_scope
current_arg_scope = tf_slim.current_arg_scope
key_of = tf_slim.arg_scope_func_key  # what a layer's arguments stand under in an arg scope
model_variable = tf_slim.model_variable


@dataclasses.dataclass(frozen=True)
class Made:
  """What a factory of tf_slim makes, which says how: a closure cannot be compared or pickled.

  Args:
    factory: a function of tf_slim, 'l2_regularizer'.
    arguments: of the factory, as pairs.
  """

  factory: str
  arguments: tuple[tuple[str, Any], ...] = ()

  def __post_init__(self):
    _closure(self.factory, self.arguments)  # complains of the arguments


class MadeRegularizer(Made):
  """A regularizer."""

  def __call__(self, weights: tf.Tensor) -> tf.Tensor | None:
    """The loss; None where it is switched off."""
    return _closure(self.factory, self.arguments)(weights)


class MadeInitializer(Made):
  """An initializer."""

  def __call__(self, shape, dtype=tf.float32, partition_info=None) -> tf.Tensor:
    """Values of the shape."""
    closure = _closure(self.factory, self.arguments)
    return closure(shape, dtype=dtype, partition_info=partition_info)


@functools.cache
def _closure(factory: str, arguments: tuple[tuple[str, Any], ...]) -> Callable:
  return getattr(tf_slim, factory)(**dict(arguments))


_FACTORIES = {
  'l2_regularizer': MadeRegularizer,
  'variance_scaling_initializer': MadeInitializer,
  'xavier_initializer': MadeInitializer,
}


def make(factory: str, arguments: Mapping[str, Any]) -> Any:
  """What a factory that the nets use makes.

  Raises:
    ValueError: another factory.
  """
  if factory not in _FACTORIES:
    raise ValueError(f'{factory!r} is none of {", ".join(_FACTORIES)}')
  return _FACTORIES[factory](factory, tuple(sorted(arguments.items())))


def l2_regularizer(scale: float) -> MadeRegularizer:
  """`scale` times half the sum of squares; None with a scale of 0."""
  return make('l2_regularizer', {'scale': scale})


def variance_scaling_initializer(**arguments: Any) -> MadeInitializer:
  """tf_slim's, with its arguments."""
  return make('variance_scaling_initializer', arguments)


def xavier_initializer(**arguments: Any) -> MadeInitializer:
  """tf_slim's, with its arguments."""
  return make('xavier_initializer', arguments)


_Layer = TypeVar('_Layer', bound=Callable[..., Any])
# {name of a layer: its key}, by `layer`
_KEYS: dict[str, str] = {'model_variable': key_of(model_variable)}


def layer(function: _Layer) -> _Layer:
  """Decorator: arg scopes over slim's op of the same name reach the layer, and the reverse."""
  slims = getattr(tf_slim, function.__name__, function)
  key = _KEYS[function.__name__] = key_of(slims)
  function._key_op = key  # type: ignore[attr-defined]
  return tf_slim.add_arg_scope(function)


def by_layer(scope: Mapping[str, Any]) -> dict[str, Any]:
  """An arg scope by the names of the layers, for another process: keys have addresses in them.

  Raises:
    ValueError: it has arguments of something that is no layer.
  """
  names = {key: name for name, key in _KEYS.items()}
  for key in scope:
    if key not in names:
      raise ValueError(f'The arg scope is over {key}, none of the layers {", ".join(_KEYS)}')
  return {names[key]: arguments for key, arguments in scope.items()}


def by_key(scope: Mapping[str, Any]) -> dict[str, Any]:
  """The arg scope of which `by_layer` gave this.

  Raises:
    ValueError: there is no such layer.
  """
  for name in scope:
    if name not in _KEYS:
      raise ValueError(f'There is no layer {name!r}; there are {", ".join(_KEYS)}')
  return {_KEYS[name]: arguments for name, arguments in scope.items()}


_lock = threading.RLock()


class _Turn(threading.local):
  """How many nets, one in the other, this thread is in, and the stack's height outside of them."""

  depth = 0
  height = 0


_turn = _Turn()


@contextlib.contextmanager
def exclusively() -> Iterator[None]:
  """The stack belongs to this thread; to be entered again, or left by `put_aside`."""
  with _lock:
    if not _turn.depth:
      _turn.height = len(_get_arg_stack())
    _turn.depth += 1
    try:
      yield
    finally:
      _turn.depth -= 1


@contextlib.contextmanager
def put_aside() -> Iterator[None]:
  """Lets other threads into nets while this one waits for them; then all is as it was.

  Raises:
    RuntimeError: this thread is not within `exclusively`.
  """
  depth, height = _turn.depth, _turn.height
  if not depth:
    raise RuntimeError('Only a thread that has the arg scopes to itself can put them aside')
  own = _get_arg_stack()[height:]
  del _get_arg_stack()[height:]
  _turn.depth = 0
  for _ in range(depth):
    _lock.release()
  try:
    yield
  finally:
    for _ in range(depth):
      _lock.acquire()
    _turn.depth, _turn.height = depth, len(_get_arg_stack())
    _get_arg_stack().extend(own)
