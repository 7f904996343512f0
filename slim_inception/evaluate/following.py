"""Evaluations that follow a run: each of its checkpoints once, as they come."""

import os
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from slim_inception import files
from slim_inception.cluster import Cluster, make_strategy
from slim_inception.constants import CONFIG_FILE, EVALUATIONS_FILE
from slim_inception.evaluate import run
from slim_inception.evaluate.config import Request
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.metrics import accuracies, accuracy_text, reported
from slim_inception.nets import checkpoint_files
from slim_inception.train import config_json

_POLL_SECS = 5.0
_REPORTED = ('num_images', 'top_1', 'top_5', 'mean_average_precision')


def wait_for_run(train_dir: str, timeout_secs: float | None) -> None:
  """Returns when `train_dir` has a configuration.

  Raises:
    TimeoutError: it has none after `timeout_secs`.
  """
  path = os.path.join(train_dir, CONFIG_FILE)
  patience = _Patience(timeout_secs)
  while not os.path.exists(path):
    if not patience.wait():
      raise TimeoutError(f'{path} has not appeared in {timeout_secs:g} s (--follow_timeout_secs)')


def follow(request: Request) -> Iterator[dict[str, Any]]:
  """Evaluates each checkpoint of a run once: those that are there, and those to come.

  `eval_dir/evaluations.jsonl` knows what was evaluated, also after a restart; TensorBoard shows it.
  Ends when the run's last checkpoint has been evaluated, or after `follow_timeout_secs` without a
  new one. Where a run goes back to an older checkpoint, the file forgets the branch that was left.

  Yields:
    What `metrics.json` holds, for each checkpoint.

  Raises:
    ValueError, OSError: a flag, the data or a checkpoint is not as it should be, or another
      evaluation owns `eval_dir`.
    TimeoutError: there was no checkpoint at all.
  """
  with files.locked_folder(request.config.results.eval_dir, run.PURPOSE) as lock:
    yield from _follow(request, lock)


def _follow(request: Request, lock: files.FolderLock) -> Iterator[dict[str, Any]]:
  config, devices = request.config.results, request.config.devices
  (member,) = request.ensemble.members
  train_dir = member.checkpoint_path
  history: dict[int, Any] = {entry['step']: entry for entry in read_history(config.eval_dir)}
  run_config = config_json.read(train_dir) or {}
  last_step = run_config.get('run', {}).get('total_steps')
  if _has_ended(train_dir, last_step, history):
    return
  cluster = Cluster(make_strategy(devices.num_clones, devices.clone_on_cpu))
  evaluation = Evaluation(request, cluster)
  logging.info('%s, each checkpoint of %s', evaluation.describe(), train_dir)
  writer = tf.summary.create_file_writer(config.eval_dir)
  patience = _Patience(config.follow_timeout_secs)
  while True:
    prefixes = checkpoint_files.of_run(train_dir)
    own = {s: prefix for prefix in prefixes if (s := checkpoint_files.step_of(prefix)) is not None}
    for step, prefix in own.items():
      if not checkpoint_files.is_complete(prefix):
        continue
      try:
        identity = checkpoint_files.identity(prefix)
        if step in history and history[step].get('checkpoint_id', identity) == identity:
          continue
        outcome = evaluation.evaluate([prefix])
      except (ValueError, OSError):
        if checkpoint_files.is_complete(prefix):
          raise
        continue  # deleted by the run, which keeps the newest only
      assert outcome  # this process is the only one
      metrics = run.write(config, lock, evaluation, outcome)
      line = {'step': step, 'checkpoint_id': identity}
      line |= {name: metrics[name] for name in _REPORTED if metrics.get(name) is not None}
      # Of the branch that was left are steps beyond the newest, or beyond one that was replaced.
      last = step if step in history else max(own)
      history = {s: each for s, each in history.items() if s <= last} | {step: line}
      files.write_json_lines(os.path.join(config.eval_dir, EVALUATIONS_FILE), history.values())
      _show(writer, step, metrics, accuracies(evaluation.dataset.num_classes))
      patience.renew()
      yield metrics
    if _has_ended(train_dir, last_step, history) or not patience.wait():
      break
  if not history:
    raise TimeoutError(
      f'{train_dir} had no checkpoint in {config.follow_timeout_secs:g} s (--follow_timeout_secs)'
    )


class Line(files.StepLine, total=False):
  """What is read again of a line of evaluations.jsonl."""

  checkpoint_id: str  # see `checkpoint_files.identity`; older lines have none


def read_history(eval_dir: str) -> list[Line]:
  """The evaluations of `--follow`; they also have num_images, top_1 and top_5. [] if none."""
  return files.read_json_lines(os.path.join(eval_dir, EVALUATIONS_FILE), Line)


def _show(
  writer: tf.summary.SummaryWriter, step: int, metrics: Mapping[str, Any], shown: Sequence[str]
) -> None:
  logging.info('step %d: %s', step, accuracy_text(metrics, shown))
  with writer.as_default():
    for name in reported(metrics, shown):
      tf.summary.scalar(f'eval/{name}', metrics[name], step)
  writer.flush()


def _has_ended(train_dir: str, last_step: int | None, evaluated: Container[int]) -> bool:
  """Whether a run has nothing more to come; one that went back is not at its last step."""
  own = checkpoint_files.of_run(train_dir)
  return last_step in evaluated and (not own or checkpoint_files.step_of(own[-1]) == last_step)


class _Patience:
  """Waits between looks, until nothing has happened for too long.

  Args:
    timeout_secs: how long that is; None: never.
  """

  def __init__(self, timeout_secs: float | None):
    self._timeout_secs = timeout_secs
    self.renew()

  def renew(self) -> None:
    """Something has happened."""
    self._since = time.monotonic()

  def wait(self) -> bool:
    """Waits a while; False at once where it was too long."""
    left = _POLL_SECS
    if self._timeout_secs is not None:
      left = self._since + self._timeout_secs - time.monotonic()
    if left <= 0:
      return False
    time.sleep(min(left, _POLL_SECS))
    return True
