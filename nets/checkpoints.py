"""Checkpoints as slim's: TensorFlow bundles of named tensors, read and written by name.

slim's own checkpoints open here (the single-file format of its 2016 releases too) and ours open
with `tf.compat.v1.train.Saver`.
"""

import contextlib
import errno
import glob
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from . import checkpoint_files

EMA_SUFFIX = '/ExponentialMovingAverage'
# A tensor of names: variables that nobody has trained, which a conversion had no weights for.
FRESH = 'fresh_variables'

_MAX_RATIO = 100  # blocks of the single-file format are compressed


class Restored(NamedTuple):
  """What `restore` did, by variable name."""

  path: str  # the checkpoint's prefix
  restored: tuple[str, ...]
  excluded: tuple[str, ...]  # by `exclude_scopes`: left as they were
  missing: tuple[str, ...]  # not in the checkpoint: left as they were
  mismatched: tuple[str, ...]  # of another shape in the checkpoint: left as they were
  unused: tuple[str, ...]  # in the checkpoint alone


def latest_sound(directory: str | os.PathLike) -> str | None:
  """The newest checkpoint of a run whose every tensor can be read; None where there is none.

  One that is damaged is passed over with a warning.

  Raises:
    ValueError: there is none that is not damaged.
    FileNotFoundError: as `latest`.
  """
  reasons = []
  for prefix in checkpoint_files.newest_first(os.fspath(directory)):
    reason = find_damage(prefix)
    if reason is None:
      return prefix
    logging.warning('%s', reason)
    reasons.append(reason)
  if not reasons:
    return None
  raise ValueError(
    f'{reasons[0]}; {os.fspath(directory)} has no other checkpoint of this run that can be read'
  )


def find_damage(prefix: str) -> str | None:
  """Reads a whole checkpoint, checksums included; what is wrong with it, or None."""
  try:
    read(prefix, list(shapes(prefix)))
  except ValueError as error:
    return str(error) if 'is damaged' in str(error) else f'{prefix} is damaged: {error}'
  return None


def shapes(path: str | os.PathLike) -> dict[str, list[int]]:
  """{name: shape} of every tensor in a checkpoint.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it cannot be read.
  """
  return _reader(checkpoint_files.resolve(path)).get_variable_to_shape_map()


def _reader(prefix: str):
  try:
    return tf.train.load_checkpoint(prefix)
  except (tf.errors.OpError, RuntimeError) as error:
    raise ValueError(f'{prefix} is not a readable checkpoint: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
  text = str(getattr(error, 'message', None) or error).splitlines()[0]
  return re.sub(r'\{\{.*?\}\} | \[Op:\w+\]', '', text)  # TensorFlow's names of nodes


def read(path: str | os.PathLike, names: Sequence[str]) -> dict[str, tf.Tensor]:
  """{name: value} of the tensors `names` of a checkpoint.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: it cannot be read, or a name is not in it.
  """
  prefix = checkpoint_files.resolve(path)
  reader = _reader(prefix)
  types, sizes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
  for name in names:
    if name not in types:
      raise ValueError(f'{prefix} has no {name}')
  if not names:
    return {}
  declared, stored = sum(math.prod(sizes[n]) * types[n].size for n in names), _stored_bytes(prefix)
  if declared > _MAX_RATIO * stored:  # or memory would be taken for it first
    raise ValueError(f'{prefix} is damaged: it declares {declared:,} bytes, and has {stored:,}')
  try:
    # Not the reader's get_tensor: it knows no partitioned variables of the single-file format.
    with tf.device('/cpu:0'):
      values = tf.raw_ops.RestoreV2(
        prefix=prefix,
        tensor_names=list(names),
        shape_and_slices=[''] * len(names),
        dtypes=[types[name] for name in names],
      )
  except tf.errors.OpError as error:  # a flipped byte, a cut file
    raise ValueError(f'{prefix} is damaged: {_first_line(error)}') from error
  return dict(zip(names, values, strict=True))


def read_fresh(path: str | os.PathLike) -> frozenset[str]:
  """The variables of a checkpoint that a conversion has left at their random initial values.

  Raises:
    FileNotFoundError, ValueError: as `read`.
  """
  if FRESH not in shapes(path):
    return frozenset()
  return frozenset(name.decode() for name in read(path, [FRESH])[FRESH].numpy().tolist())


def _stored_bytes(prefix: str) -> int:
  """The size of a checkpoint's files."""
  if not os.path.exists(prefix + checkpoint_files.INDEX):
    return os.path.getsize(prefix)
  return sum(os.path.getsize(path) for path in glob.glob(f'{glob.escape(prefix)}.*'))


def save(
  path: str | os.PathLike,
  tensors: Mapping[str, tf.Tensor | tf.Variable],
  fresh: Sequence[str] = (),
) -> None:
  """Writes a checkpoint; until the end of it `path` is untouched.

  Args:
    path: the prefix, e.g. 'train_dir/model.ckpt-1000'; its directory exists.
    tensors: {name: value}.
    fresh: those that have random values still; the tensor `FRESH` names them.

  Raises:
    OSError: the disk is full, or the directory is gone or not writable.
  """
  path = os.path.abspath(path)
  directory, name = os.path.split(path)
  if fresh:
    tensors = {**tensors, FRESH: tf.constant(list(fresh))}
  # Named as by datasets/files.py, whose `sweep` removes what a killed process leaves. The dot at
  # the end tells the files of process 12 from those of process 123.
  host = platform.node().partition('.')[0] or 'localhost'
  temporary = os.path.join(directory, f'.{name}.{host}-{os.getpid()}.partial')
  try:
    with tf.device('/cpu:0'):
      tf.raw_ops.SaveV2(
        prefix=temporary,
        tensor_names=list(tensors),
        shape_and_slices=[''] * len(tensors),
        tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
      )
    for suffix in checkpoint_files.SUFFIXES:
      _flush(temporary + suffix)
    if os.path.exists(path + checkpoint_files.INDEX):
      os.remove(path + checkpoint_files.INDEX)  # never the new data under the old index
    for suffix in checkpoint_files.SUFFIXES:
      os.replace(temporary + suffix, path + suffix)
    with contextlib.suppress(OSError):  # a file system that cannot do so with a directory
      _flush(directory)
  except (OSError, tf.errors.OpError) as error:
    number = error.errno if isinstance(error, OSError) else _system_errno(error)
    if number is None:
      raise
    raise OSError(number, os.strerror(number), path) from error
  finally:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it has been removed
      for entry in os.scandir(directory):
        if entry.name.startswith(f'{os.path.basename(temporary)}.'):
          os.remove(entry)


def _system_errno(error: tf.errors.OpError) -> int | None:
  """The operating system's number of TensorFlow's '{{...}} PATH; REASON'; None for other errors."""
  reasons = {os.strerror(number): number for number in errno.errorcode}
  return next((n for reason, n in reasons.items() if f'; {reason}' in error.message), None)


def _flush(path: str) -> None:
  """Has the file or directory on the disk, in case the power fails."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def restore(
  variables: Mapping[str, tf.Variable],
  path: str | os.PathLike,
  *,
  exclude_scopes: Sequence[str] = (),
  ignore_missing: bool = False,
  ignore_mismatched: bool = False,
  use_ema: bool = False,
  sum_channels: str | None = None,
) -> Restored:
  """Assigns to `variables` what a checkpoint holds under their names.

  Args:
    variables: {name: variable}.
    path: a checkpoint's prefix, or a directory, whose latest is taken.
    exclude_scopes: variables whose names start with one of these are left as they are.
    ignore_missing: variables that are not in the checkpoint are left as they are.
    ignore_mismatched: so are variables that have another shape there.
    use_ema: take `<name>/ExponentialMovingAverage` where the checkpoint has it.
    sum_channels: the variable that sees the image, [h, w, 1, c]. If it is of n channels in the
      checkpoint, `for_one_channel` makes it fit, and that is logged.

  Returns:
    What was done.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: it cannot be read; a variable is missing or of another shape and that is not
      ignored; or nothing at all fits. Then no variable has changed.
  """
  if isinstance(exclude_scopes, str):
    exclude_scopes = (exclude_scopes,)
  prefix = checkpoint_files.resolve(path)
  stored = shapes(prefix)
  excluded = [name for name in variables if name.startswith(tuple(exclude_scopes))]
  targets = {name: variable for name, variable in variables.items() if name not in set(excluded)}
  sources = {
    name: name + EMA_SUFFIX if use_ema and name + EMA_SUFFIX in stored else name for name in targets
  }
  missing = [name for name, source in sources.items() if source not in stored]
  mismatched = [
    name
    for name, source in sources.items()
    if source in stored
    and not _fits(name, stored[source], targets[name].shape.as_list(), name == sum_channels)
  ]
  if targets and len(missing) == len(targets):
    raise ValueError(
      f'{prefix} has nothing for this net: it holds {min(stored, default="no tensor")}, ..., '
      f'and {next(iter(targets))}, ... are looked for'
    )
  if mismatched and not ignore_mismatched:
    name = mismatched[0]
    raise ValueError(
      f'{name} has shape {targets[name].shape.as_list()}, but {stored[sources[name]]} in {prefix}'
      f'{_and_more(mismatched)}'
    )
  if missing and not ignore_missing:
    raise ValueError(f'{prefix} has no {missing[0]}{_and_more(missing)}')
  fits = [name for name in targets if name not in {*missing, *mismatched}]
  values = read(prefix, [sources[name] for name in fits])
  for name in fits:
    value, variable = values[sources[name]], targets[name]
    if value.shape != variable.shape:
      logging.info('%s: the sum over the %d input channels', name, value.shape[2])
      value = for_one_channel(name, value.numpy())
    variable.assign(value)
  fresh = sorted(read_fresh(prefix).intersection(fits))
  if fresh:
    logging.warning('%s: %s%s: random, never trained', prefix, fresh[0], _and_more(fresh))
  unused = sorted(set(stored) - {FRESH} - {sources[name] for name in fits} - set(mismatched))
  return Restored(
    prefix, tuple(fits), tuple(excluded), tuple(missing), tuple(mismatched), tuple(unused)
  )


def for_one_channel(name: str, weights: np.ndarray) -> np.ndarray:
  """Weights that see images of n channels, for those of one: the same output for grey images.

  Args:
    name: of the variable.
    weights: [h, w, n, c].

  Returns:
    The sum over the channels, [h, w, 1, c]; of a separable convolution, whose 1 x 1 weights sum,
    the filters of all channels, [h, w, 1, n * c].
  """
  if _is_depthwise(name):
    return weights.reshape((*weights.shape[:2], 1, -1))
  return weights.sum(axis=2, keepdims=True)


def _fits(name: str, stored: Sequence[int], shape: Sequence[int], may_sum: bool) -> bool:
  """Whether the shape is the variable's, or with `may_sum` one that `for_one_channel` makes so."""
  if stored == shape or not may_sum or len(stored) != 4:
    return stored == shape
  filters = stored[2] * stored[3] if _is_depthwise(name) else stored[3]
  return [*stored[:2], 1, filters] == shape


def _is_depthwise(name: str) -> bool:
  return name.endswith('/depthwise_weights')


def _and_more(names: Sequence[str]) -> str:
  return f' (and {len(names) - 1} more like it)' if len(names) > 1 else ''
