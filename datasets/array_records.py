"""Records of array_record files, each of which is read alone, by the package of that name."""

import functools
import os
import resource
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from .images import BadImageError

# No threads of its own, and no more read than asked for. All versions from 0.8 on know these.
_OPTIONS = 'readahead_buffer_size:65536,max_parallelism:0'
_ALONE = 'group_size:1'  # records are compressed one by one, as TensorFlow Datasets has them
# Files of a process, for opening one takes 0.1 ms: half of those that the system allows.
_MOST_OPEN = min(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
_DAMAGE = RuntimeError, IndexError  # what the package raises
_one_at_a_time = threading.Lock()  # readers are not made for several threads


class RecordSlice(NamedTuple):
  """Bytes within a record."""

  path: str
  number: int  # of the record in its file
  offset: int
  size: int

  def read(self) -> bytes:
    try:
      with _one_at_a_time:
        (record,) = _kept_open(self.path).read([self.number])
    except _DAMAGE as error:
      raise BadImageError(f'record {self.number} of {self.path} is damaged: {error}') from error
    return record[self.offset : self.offset + self.size]


def read(path: str | os.PathLike) -> Iterator[bytes]:
  """Yields the records of a file.

  Raises:
    ValueError: the package is not installed, or the file is damaged.
    OSError: it cannot be read.
  """
  try:
    reader = _opened(path)
    for number in range(reader.num_records()):
      yield from reader.read([number])
    reader.close()
  except _DAMAGE as error:
    raise ValueError(f'{path} is no array_record file, cut short or damaged: {error}') from error


def are_alone(path: str | os.PathLike) -> bool:
  """Whether a record is read without others: they are not compressed together.

  Raises:
    ValueError, OSError: see `read`.
  """
  try:
    reader = _opened(path)
    options = reader.writer_options_string()
    reader.close()
  except _DAMAGE as error:
    raise ValueError(f'{path} is no array_record file, cut short or damaged: {error}') from error
  return _ALONE in (options or '').split(',')


def module(path: str | os.PathLike) -> Any:
  """The package's module; raises ValueError where it is not installed.

  Args:
    path: of a file that needs it, for the message.
  """
  try:
    from array_record.python import array_record_module
  except ImportError as error:
    raise ValueError(
      f"{path}: array_record files need array_record: pip install 'slim-inception[array_record]'"
    ) from error
  return array_record_module


def _opened(path: str | os.PathLike) -> Any:
  os.stat(path)  # the system's error, where it is not there
  return module(path).ArrayRecordReader(os.fspath(path), _OPTIONS)


_kept_open = functools.lru_cache(_MOST_OPEN)(_opened)
