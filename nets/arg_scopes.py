"""The arg scopes of threads that take turns in nets.

tf_slim has one stack of arg scopes for the whole process. The replicas of a mirrored strategy are
threads, of which one at a time runs, until it waits for the others in a collective. So a thread
that enters a net keeps other threads out of the stack, and a collective in the midst of a net puts
the thread's scopes aside, as a coroutine does with its frame.
"""

import contextlib
import threading
from collections.abc import Iterator

# Not public, but tf_slim 1.1.0 is its last release, and nothing public reaches below the top.
from tf_slim.ops.arg_scope import _get_arg_stack

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
