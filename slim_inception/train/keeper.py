"""The checkpoints that a run keeps in its train_dir."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence

import tensorflow as tf
from absl import logging

from slim_inception import files
from slim_inception.constants import BEST_FOLDER, CONFIG_FILE, EVALUATION_METRICS_FILE
from slim_inception.nets import checkpoints
from slim_inception.train.distribution import Team
from slim_inception.train.train_state import Counters, TrainState

_OWN_FILES = r'model\.ckpt-\d+(\..*)?|checkpoint|config\.json|metrics\.jsonl?'


class Keeper:
  """Saves checkpoints in a directory and deletes all but the newest.

  What a killed run left half-written there is deleted at the start. With several workers all
  create one and call it, but the chief alone writes.
  """

  def __init__(self, directory: str, max_to_keep: int, team: Team):
    self._directory = directory
    self._max_to_keep = max_to_keep
    self._team = team
    if team.is_chief:
      for folder in (directory, os.path.join(directory, BEST_FOLDER)):
        files.sweep(folder, _OWN_FILES)

  def path(self, step: int) -> str:
    """Prefix of the checkpoint of a step."""
    return os.path.join(self._directory, f'model.ckpt-{step}')

  def save(self, state: TrainState, counters: Counters) -> None:
    """Writes model.ckpt-<step>, then the file that names it, then deletes the oldest."""
    path = self.path(counters.step)
    if not self._team.is_chief:
      for variable in state.named_variables().values():
        tf.convert_to_tensor(variable)  # moving statistics are the mean over all workers
      self._team.wait_for_all()
      return
    state.save(path, counters)
    found = checkpoints.numbered(self._directory)
    complete = [prefix for prefix in found if checkpoints.is_complete(prefix) and prefix != path]
    kept = [*complete, path][-self._max_to_keep :]
    write_checkpoint_state(self._directory, kept)
    for prefix in set(found) - set(kept):
      for suffix in ('.index', '.data-00000-of-00001'):
        with contextlib.suppress(FileNotFoundError):
          os.remove(prefix + suffix)
    logging.info('Saved %s', path)
    self._team.wait_for_all()  # nobody goes on, or ends, before the checkpoint is there

  def keep_best(self, prefix: str, metrics: Mapping[str, float]) -> None:
    """Copies a checkpoint to `best/`, with the configuration and its metrics, in place of the last.

    The file that names it changes when the copy is complete: one of the two is always there.
    """
    if not self._team.is_chief:
      return
    best = os.path.join(self._directory, BEST_FOLDER)
    os.makedirs(best, exist_ok=True)
    copy = os.path.join(best, os.path.basename(prefix))
    for suffix in ('.data-00000-of-00001', '.index'):  # complete when the index is there
      _copy(prefix + suffix, copy + suffix)
    config = os.path.join(self._directory, CONFIG_FILE)
    if os.path.exists(config):
      _copy(config, os.path.join(best, CONFIG_FILE))
    facts = {**metrics, 'checkpoint': os.path.basename(copy)}
    files.write_json(os.path.join(best, EVALUATION_METRICS_FILE), facts)
    write_checkpoint_state(best, [copy])
    for name in os.listdir(best):
      if name.startswith('model.ckpt-') and not name.startswith(f'{os.path.basename(copy)}.'):
        os.remove(os.path.join(best, name))
    logging.info('Best so far, kept as %s', copy)


def _copy(source: str, target: str) -> None:
  with files.atomic_path(target) as temporary:
    shutil.copyfile(source, temporary)


def write_checkpoint_state(directory: str, prefixes: Sequence[str]) -> None:
  """Writes the file `checkpoint`, which tf.train.latest_checkpoint reads; newest prefix last.

  Names are relative, so that the directory can be moved.
  """
  names = [os.path.relpath(prefix, directory) for prefix in prefixes]
  lines = [f'model_checkpoint_path: "{names[-1]}"']
  lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
  with files.atomic_text(os.path.join(directory, 'checkpoint')) as file:
    file.write('\n'.join(lines) + '\n')
