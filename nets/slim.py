"""All that is used of tf-slim, and the only file that imports it or touches its private names.

tf-slim's last release is 1.1.0; its `batch_norm` fails on today's TensorFlow. `layer` makes our
layers answer to arg scopes over users' `slim.conv2d`, ..., and the other way round.

tf_slim has one stack of arg scopes for the whole process. The replicas of a mirrored strategy are
threads, of which one at a time runs, until it waits for the others in a collective. So a thread
that enters a net keeps other threads out of the stack (`exclusively`), and a collective in the
midst of a net puts the thread's scopes aside (`put_aside`), as a coroutine does with its frame.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

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
l2_regularizer = tf_slim.l2_regularizer
model_variable = tf_slim.model_variable
variance_scaling_initializer = tf_slim.variance_scaling_initializer
xavier_initializer = tf_slim.xavier_initializer

_Layer = TypeVar('_Layer', bound=Callable[..., Any])


def layer(function: _Layer) -> _Layer:
  """Decorator: arg scopes over slim's op of the same name reach the layer, and the reverse."""
  slims = getattr(tf_slim, function.__name__, function)
  function._key_op = key_of(slims)  # type: ignore[attr-defined]
  return tf_slim.add_arg_scope(function)


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
