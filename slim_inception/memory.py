"""Memory: sizes as people write them, and what this process has taken."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

# That of the benchmarks, whose file works without this package.
from slim_inception.bench.timing import peak_resident_bytes as peak_resident_bytes

if TYPE_CHECKING:  # of flags, which need no TensorFlow
  import tensorflow as tf

_OF_ONEDNN = 'exception:Status: 1,'  # dnnl_out_of_memory, in an AbortedError
_UNITS = {'kB': 10**3, 'MB': 10**6, 'GB': 10**9, 'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30}


def num_bytes(text: str) -> int:
  """'8GB' -> 8,000,000,000; also a `flags.field` check.

  Raises:
    ValueError: it is no number above 0 with a unit.
  """
  match = re.fullmatch(rf'(\d+(?:\.\d+)?) ?({"|".join(_UNITS)})', text)
  size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
  if not size:
    raise ValueError(f'must be a number and one of {", ".join(_UNITS)}, e.g. 8GB')
  return size


def as_text(size: float) -> str:
  """A number of bytes for people: 1.72 GB, 48 MB."""
  return f'{size / 1e9:.3g} GB' if size >= 1e9 else f'{size / 1e6:.0f} MB'


def exhausted(error: 'tf.errors.OpError') -> str:
  """What an error of TensorFlow says where memory ran out, one line; '' where it did not."""
  import tensorflow as tf

  lines = [line.strip() for line in error.message.splitlines()]
  if isinstance(error, tf.errors.ResourceExhaustedError):
    return next((line[line.index('OOM') :] for line in lines if 'OOM' in line), lines[0])
  if isinstance(error, tf.errors.AbortedError):
    return next((line for line in lines if _OF_ONEDNN in line), '')
  return ''


def restart_peak() -> bool:
  """Has `peak_resident_bytes` begin again with what the process has now; False: it cannot."""
  try:
    Path('/proc/self/clear_refs').write_text('5')  # man 5 proc_pid_clear_refs
  except OSError:
    return False
  return True


class Watch:
  """Compares what the process takes with --memory_limit, from the start of a loop on.

  Memory that was freed need not have gone back to the system, so what the process has at the start
  is taken for its need where it is more than the limit by itself: then nothing is watched.

  Args:
    limit: bytes; None: there is none.
  """

  def __init__(self, limit: int | None):
    self._limit = limit
    if limit is None:
      return
    if not restart_peak():
      logging.warning(
        'This system does not say what a process takes: --memory_limit is not watched'
      )
      self._limit = None
    elif (now := peak_resident_bytes()) > limit:
      text = 'The process has %s before the first step, more than --memory_limit: it is not watched'
      logging.warning(text, as_text(now))
      self._limit = None

  def excess(self) -> str:
    """What the process took at most, if that is too much; else ''."""
    if self._limit is None or (peak := peak_resident_bytes()) <= self._limit:
      return ''
    return f'{as_text(peak)} are more than --memory_limit, {as_text(self._limit)}'
