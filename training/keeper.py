"""The checkpoints that a run keeps in its train_dir."""

import contextlib
import os
from collections.abc import Sequence

from absl import logging

from nets import checkpoints
from training.train_state import TrainState


class Keeper:
  """Saves checkpoints in a directory and deletes all but the newest.

  What a killed run left half-written there is deleted at the start.
  """

  def __init__(self, directory: str, max_to_keep: int):
    self._directory = directory
    self._max_to_keep = max_to_keep
    for name in os.listdir(directory):
      if '.part-' in name:
        os.remove(os.path.join(directory, name))

  def save(self, state: TrainState, step: int, position: int) -> None:
    """Writes model.ckpt-<step>, then the file that names it, then deletes the oldest."""
    path = os.path.join(self._directory, f'model.ckpt-{step}')
    state.save(path, step, position)
    found = checkpoints.numbered(self._directory)
    complete = [prefix for prefix in found if checkpoints.is_complete(prefix) and prefix != path]
    kept = [*complete, path][-self._max_to_keep :]
    write_checkpoint_state(self._directory, kept)
    for prefix in set(found) - set(kept):
      for suffix in ('.index', '.data-00000-of-00001'):
        with contextlib.suppress(FileNotFoundError):
          os.remove(prefix + suffix)
    logging.info('Saved %s', path)


def write_checkpoint_state(directory: str, prefixes: Sequence[str]) -> None:
  """Writes the file `checkpoint`, which tf.train.latest_checkpoint reads; newest prefix last.

  Names are relative, so that the directory can be moved.
  """
  names = [os.path.relpath(prefix, directory) for prefix in prefixes]
  lines = [f'model_checkpoint_path: "{names[-1]}"']
  lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
  path = os.path.join(directory, 'checkpoint')
  temporary = f'{path}.part-{os.getpid()}'
  with open(temporary, 'w') as file:
    file.write('\n'.join(lines) + '\n')
  os.replace(temporary, path)
