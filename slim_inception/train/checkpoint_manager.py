"""The checkpoints that a run keeps in its train_dir."""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence

import tensorflow as tf
from absl import logging

from slim_inception import files
from slim_inception.cluster import Cluster
from slim_inception.constants import (
  BEST_FOLDER,
  CALIBRATION_SUFFIX,
  CONFIG_FILE,
  CONFIG_SUFFIX,
  EVALUATION_METRICS_FILE,
  EVENTS_FILE,
  METRICS_FILE,
  TRACKER_FILE,
)
from slim_inception.nets import checkpoint_files
from slim_inception.train.train_state import Counters, TrainState

# What is written into a train_dir by way of temporary files.
_NAMES = '|'.join(
  [
    rf'model\.ckpt-\d+({"|".join(map(re.escape, (*checkpoint_files.SUFFIXES, CONFIG_SUFFIX)))})?',
    *map(
      re.escape,
      (
        checkpoint_files.STATE_FILE,
        CONFIG_FILE,
        METRICS_FILE,
        EVENTS_FILE,
        TRACKER_FILE,
        EVALUATION_METRICS_FILE,
      ),
    ),
  ]
)


class CheckpointManager:
  """Saves checkpoints in a directory and deletes all of the run but the newest.

  What a killed run left half-written there is deleted at the start, see `files.sweep`. With several
  workers all create one and call it, but the chief alone writes.

  Args:
    directory: the train_dir.
    max_to_keep: number of checkpoints.
    cluster: the workers.
    step: that the run goes on from, or 0. Checkpoints of other branches
      (`checkpoint_files.of_run`) and of later steps, which are damaged, are no longer the run's:
      they are neither counted nor deleted.
  """

  def __init__(self, directory: str, max_to_keep: int, cluster: Cluster, step: int):
    self._directory = directory
    self._max_to_keep = max_to_keep
    self._cluster = cluster
    self._own: list[str] = []
    if not cluster.is_chief:
      return
    for folder in (directory, os.path.join(directory, BEST_FOLDER)):
      files.sweep(folder, _NAMES)
    of_run = [
      p for p in checkpoint_files.of_run(directory) if (checkpoint_files.step_of(p) or 0) <= step
    ]
    # The file `checkpoint` may name one of another folder, which is not ours to delete.
    here = os.path.realpath(directory)
    self._own = [p for p in of_run if os.path.realpath(os.path.dirname(p)) == here]
    others = [p for p in checkpoint_files.numbered(directory) if p not in self._own]
    if others:
      logging.warning(
        '%s: not of this run, which is at step %d: %s; they are left there until the run itself '
        'comes to their steps',
        directory,
        step,
        files.some(map(os.path.basename, others)),
      )

  def path(self, step: int) -> str:
    """Prefix of the checkpoint of a step."""
    return os.path.join(self._directory, f'model.ckpt-{step}')

  def save(self, state: TrainState, counters: Counters) -> None:
    """Writes model.ckpt-<step>, then the file that names it, then deletes the oldest.

    A copy of config.json goes with each: it may be taken elsewhere alone.
    """
    path = self.path(counters.step)
    if not self._cluster.is_chief:
      for variable in state.named_variables().values():
        tf.convert_to_tensor(variable)  # moving statistics are the mean over all workers
      self._cluster.wait_for_all()
      return
    state.save(path, counters)
    config = os.path.join(self._directory, CONFIG_FILE)
    if os.path.exists(config):
      _copy(config, path + CONFIG_SUFFIX)
    before = [p for p in self._own if p != path and checkpoint_files.is_complete(p)]
    kept = [*before, path][-self._max_to_keep :]
    write_checkpoint_state(self._directory, kept)
    for prefix in set(self._own) - set(kept):
      checkpoint_files.remove(prefix)
      for suffix in (CONFIG_SUFFIX, CALIBRATION_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
          os.remove(prefix + suffix)
    self._own = kept
    logging.info('Saved %s', path)
    self._cluster.wait_for_all()  # nobody goes on, or ends, before the checkpoint is there

  def keep_best(self, prefix: str, metrics: Mapping[str, float]) -> None:
    """Copies a checkpoint to `best/`, with the configuration and its metrics, in place of the last.

    The file that names it changes when the copy is complete: one of the two is always there.
    """
    if not self._cluster.is_chief:
      return
    best = os.path.join(self._directory, BEST_FOLDER)
    os.makedirs(best, exist_ok=True)
    copy = os.path.join(best, os.path.basename(prefix))
    for suffix in checkpoint_files.SUFFIXES:  # complete when the index is there
      _copy(prefix + suffix, copy + suffix)
    config = os.path.join(self._directory, CONFIG_FILE)
    if os.path.exists(config):
      _copy(config, os.path.join(best, CONFIG_FILE))
    content = {**metrics, 'checkpoint': os.path.basename(copy)}
    files.write_json(os.path.join(best, EVALUATION_METRICS_FILE), content)
    write_checkpoint_state(best, [copy])
    for other in checkpoint_files.numbered(best):
      if other != copy:
        checkpoint_files.remove(other)
    logging.info('Best so far, kept as %s', copy)


def _copy(source: str, target: str) -> None:
  with files.atomic_path(target) as temporary:
    shutil.copyfile(source, temporary)


def write_checkpoint_state(directory: str, prefixes: Sequence[str]) -> None:
  """Writes the file `checkpoint`, which tf.train.latest_checkpoint reads; newest prefix last.

  Names are relative, so that the directory can be moved.
  """
  names = [os.path.relpath(prefix, directory) for prefix in prefixes]
  lines = [checkpoint_files.STATE_COMMENT, f'model_checkpoint_path: "{names[-1]}"']
  lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
  with files.atomic_text(os.path.join(directory, checkpoint_files.STATE_FILE)) as file:
    file.write('\n'.join(lines) + '\n')
