"""Which files of a folder are checkpoints, whose they are, and which is the newest.

What is in them: `checkpoints`.
"""

import contextlib
import hashlib
import os
import re
from typing import NamedTuple

import tensorflow as tf
from absl import logging

INDEX, DATA = '.index', '.data-00000-of-00001'
# Of the files of a checkpoint as `checkpoints.save` writes it; the index last: without it there is
# none.
SUFFIXES = (DATA, INDEX)
_SHARD = r'\.data-(\d{5})-of-(\d{5})'  # of one that several processes wrote
_OF_A_PART = re.compile(rf'(?:\.index|\.meta|{_SHARD})$')

STATE_FILE = 'checkpoint'
# Stands in the file `checkpoint` where that lists all that a run keeps: see `of_run`.
STATE_COMMENT = '# All checkpoints of the run in this folder, in the order that it wrote them.'


def resolve(path: str | os.PathLike) -> str:
  """The prefix of a checkpoint: `path` itself, or the latest in the directory `path`.

  Raises:
    FileNotFoundError: there is none.
  """
  path = os.fspath(path)
  if os.path.isdir(path):
    prefix = latest(path)
    if prefix is None:
      raise FileNotFoundError(f'{path} holds no checkpoint')
    return prefix
  path = prefix_of(path)  # people paste the names of files
  if not (os.path.exists(path + INDEX) or os.path.exists(path)):
    raise FileNotFoundError(f'No checkpoint {path}: neither {path}{INDEX} nor {path} exists')
  return path


def prefix_of(path: str) -> str:
  """The prefix of the checkpoint that a file is a part of, by its name; else `path` itself."""
  return _OF_A_PART.sub('', path)


def latest(directory: str | os.PathLike) -> str | None:
  """The prefix of the newest checkpoint of a run that is all there; None if it has none.

  It is the last of `of_run`. If that is not there (a lost file, a copy that is not finished), the
  one that was written before it is taken, with a warning.

  Raises:
    FileNotFoundError: the file `checkpoint` is there, but no complete checkpoint of the run.
  """
  return next(iter(newest_first(os.fspath(directory))), None)


def newest_first(directory: str) -> list[str]:
  """The complete checkpoints of a directory's run."""
  if not os.path.isdir(directory):
    return []
  state = _state(directory)
  own = _of_run(directory, state)
  complete = [prefix for prefix in reversed(own) if is_complete(prefix)]
  if not complete and state:
    others = [prefix for prefix in numbered(directory) if is_complete(prefix)]
    advice = f'; to take {others[-1]}, name it in the file "{STATE_FILE}"' if others else ''
    raise FileNotFoundError(
      f'{directory}: the checkpoint {own[-1]} is not there, nor any other of this run{advice}'
    )
  if complete and (state is None or complete[0] != own[-1]):
    missing = own[-1] if state else f'"{STATE_FILE}"'
    logging.warning('%s: %s is not there, %s is', directory, missing, complete[0])
  return complete


def of_run(directory: str | os.PathLike) -> list[str]:
  """The prefixes that the run of a directory has written, oldest first, complete or not.

  The run is that whose newest checkpoint the file `checkpoint` names: somebody can go back by
  naming an older one there. Steps of a run only grow, so larger ones are of a branch that it has
  left. So are those that our own file `checkpoint`, which lists all that are kept, does not have.
  TF1's Saver may list the last alone: where it wrote the file, all smaller steps count, and all
  steps where there is none.
  """
  directory = os.fspath(directory)
  return _of_run(directory, _state(directory))


def _of_run(directory: str, state: '_State | None') -> list[str]:
  if state is None:
    return numbered(directory)
  named, *listed = (_moved(directory, path) for path in (state.newest, *state.listed))
  last = step_of(named)
  earlier = listed if state.lists_all else [*numbered(directory), *listed]
  steps = {step_of(path): path for path in earlier}
  known = sorted(s for s in steps if s is not None and (last is None or s < last))
  return [*(steps[step] for step in known), named]


class _State(NamedTuple):
  """What the file `checkpoint` of a directory says."""

  newest: str
  listed: tuple[str, ...]
  lists_all: bool  # as ours does


def _state(directory: str) -> _State | None:
  """None where there is no such file, or it cannot be read or names nothing."""
  path = os.path.join(directory, STATE_FILE)
  try:
    state = tf.train.get_checkpoint_state(directory)
  except Exception as error:  # a text that is no CheckpointState: protobuf's own error class
    logging.warning('%s cannot be read: %s', path, error)
    return None
  if not (state and state.model_checkpoint_path):
    return None
  with open(path, encoding='utf-8', errors='replace') as file:
    lists_all = STATE_COMMENT in file.read()
  return _State(state.model_checkpoint_path, tuple(state.all_model_checkpoint_paths), lists_all)


def _moved(directory: str, path: str) -> str:
  """A checkpoint's path; in the directory itself, where that was moved and the path is absolute."""
  folder, name = os.path.split(path)
  is_elsewhere = os.path.realpath(folder) != os.path.realpath(directory) and is_complete(path)
  return path if is_elsewhere else os.path.join(directory, name)


def step_of(prefix: str) -> int | None:
  """The step in the name of a checkpoint, `model.ckpt-<step>`; None where it has none."""
  match = re.search(r'-(\d+)$', prefix)
  return int(match[1]) if match else None


def identity(prefix: str) -> str:
  """Tells apart checkpoints of the same name: a hash of the index, which has all checksums."""
  path = prefix + INDEX
  with open(path if os.path.exists(path) else prefix, 'rb') as file:
    return hashlib.sha256(file.read()).hexdigest()[:16]


def numbered(directory: str) -> list[str]:
  """The prefixes `model.ckpt-<step>` of a directory by step, complete or not."""
  steps = {
    int(match[1])
    for name in os.listdir(directory)
    if (match := re.fullmatch(r'model\.ckpt-(\d+)\.(index|data-\S+)', name))
  }
  return [os.path.join(directory, f'model.ckpt-{step}') for step in sorted(steps)]


def remove(prefix: str) -> None:
  """Removes the files of a checkpoint, the index first: without it there is none."""
  directory, base = os.path.split(prefix)
  names = [name for name in os.listdir(directory or '.') if prefix_of(name) == base]
  for name in sorted(names, key=lambda name: not name.endswith(INDEX)):
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(directory, name))


def is_complete(prefix: str) -> bool:
  """Whether all files of a checkpoint are there (not: whether they are sound)."""
  if not os.path.exists(prefix + INDEX):
    return os.path.isfile(prefix)  # the format of one file
  directory, base = os.path.split(prefix)
  shards = {  # {(number of a data file, how many they are)}
    (int(match[1]), int(match[2]))
    for name in os.listdir(directory or '.')
    if (match := re.fullmatch(re.escape(base) + _SHARD, name))
  }
  return any(count and all((i, count) in shards for i in range(count)) for _, count in shards)
