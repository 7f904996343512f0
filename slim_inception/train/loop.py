"""The loop of a run: step after step, what is reported and saved between them, when it ends."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import signal as signals
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from slim_inception import files, memory
from slim_inception.cluster import Cluster
from slim_inception.constants import BEST_FOLDER
from slim_inception.datasets import progress_bar
from slim_inception.files import FolderLock
from slim_inception.input.pipeline import Batch
from slim_inception.nets import checkpoint_files
from slim_inception.train import events, schedules, stages
from slim_inception.train.checkpoint_manager import CheckpointManager
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import EvaluationConfig, RunConfig
from slim_inception.train.plan import Plan, Stage
from slim_inception.train.progress import Profile, Progress, read_metrics
from slim_inception.train.save_trigger import SaveTrigger, StopSignal
from slim_inception.train.trackers import Tracker
from slim_inception.train.train_state import Counters, TrainState, read_counters
from slim_inception.train.train_step import StepResult, TrainStep

# A loss beyond this many times ln(classes), which is that of a net that knows nothing, is lost.
_EXPLODED = 1000.0
_MOST_ROLLBACKS = 3  # from one checkpoint
_TRACING = 'Tracing and compiling the step: the first one takes longer'

# Prefix of a checkpoint -> num_images, top_1, top_5.
Evaluate = Callable[[str], dict[str, float]]


class DivergedError(ValueError):
  """The loss, or a weight, is not finite or explodes, and the run does not go back any more.

  Args:
    message: says so.
    step: after which.
  """

  def __init__(self, message: str, step: int):
    super().__init__(message)
    self.step = step


class OutOfMemoryError(Exception):
  """A step needed more memory than there is; the variables may be those of a part of it.

  Args:
    stage: of the step.
    step: done before it.
    reason: a line.
  """

  def __init__(self, stage: Stage, step: int, reason: str):
    super().__init__(reason)
    self.stage = stage
    self.step = step


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run is made of.

  Attributes:
    config: the flags.
    plan: what follows from them, the data and the checkpoint that it goes on from.
    cluster: the workers; the chief alone writes and evaluates.
    state: the variables, restored.
    at: what belongs to a stage of the plan.
    evaluate: evaluates a checkpoint; None where the run does not ask for it.
    estimate_batch_norm: replaces batch norm's moving averages, by --batch_norm_batches; None: no.
    memory_limit: bytes that this process may take; None: any number.
    lock: of train_dir, in the chief.
    tracker: gets the figures too.
  """

  config: Config
  plan: Plan
  cluster: Cluster
  state: TrainState
  at: Callable[[Stage], stages.StageRun]
  evaluate: Evaluate | None = None
  estimate_batch_norm: Callable[[], None] | None = None
  memory_limit: int | None = None
  lock: FolderLock | None = None
  tracker: Tracker | None = None

  @property
  def directory(self) -> str | None:
    """The train_dir, in the chief."""
    return self.config.run.train_dir if self.cluster.is_chief else None


def train(run: Run) -> int:
  """Trains from the plan's start to its end, or until an evaluation or a signal says to stop.

  Returns:
    The number of the signal that stopped it, after saving; else 0.

  Raises:
    DivergedError: the loss is not finite or exploded, and there is nothing to go back to.
    OutOfMemoryError: a step needed too much: what there is, and the last checkpoint stays as it
      is; or more than the limit, after saving.
  """
  plan = run.plan
  progress = Progress(
    run.directory,
    plan.start.step,
    plan.total_steps,
    plan.images,
    run.config.saving.save_summaries_secs,
    plan.num_classes,
    run.tracker,
  )
  with contextlib.closing(progress):
    try:
      stopped_by, reason = _train(run, progress)
    except BaseException as error:
      with contextlib.suppress(OSError):  # the disk may be full, or the folder another one
        if run.lock:
          run.lock.check()
        progress.end(events.FAILED, f'{type(error).__name__}: {error}'.splitlines()[0])
      raise
    progress.end(events.INTERRUPTED if stopped_by else events.FINISHED, reason)
  return stopped_by


def _train(run: Run, progress: Progress) -> tuple[int, str]:
  """As `train`; also returns why it stopped, '' after the last step."""
  config, plan, state, cluster = run.config, run.plan, run.state, run.cluster
  train_dir, saving = config.run.train_dir, config.saving
  step, first_index, _ = plan.start
  first_step = step
  profile = Profile(train_dir, saving.profile_steps if cluster.is_chief else None)
  manager = CheckpointManager(train_dir, saving.max_to_keep, cluster, step)
  trigger = SaveTrigger(cluster, step, saving.save_interval_secs, saving.save_interval_steps)
  recovery = Recovery(config.run, plan)
  history = EvaluationHistory.read(train_dir, step)
  watch = memory.Watch(run.memory_limit)
  index, stage = first_index, plan.stage(step)
  batches: Iterator[Batch] | None = None
  traced: TrainStep | None = None
  tracing: threading.Thread | None = None
  with contextlib.closing(profile), StopSignal() as signal:
    while plan.total_steps is None or step < plan.total_steps:
      if batches is None or stage != plan.stage(step):
        stage = plan.stage(step)
        if step > first_step:
          logging.info('%s', stages.describe(stage, plan.epoch(step)))
        own = run.at(stage)
        before: list[Iterator[Batch] | None] = [batches]
        batches = None
        stages.discard(before)
        batches = own.batches.start_at(index)
        schedule = schedules.scaled(config.schedule, stage.global_batch_size)
      profile.before(step + 1)
      steps_per_epoch = plan.num_samples / stage.global_batch_size
      rate = schedules.learning_rate(schedule, step, plan.epoch(step), steps_per_epoch)
      train_step = own.step_after(step)
      is_new = train_step is not traced
      with progress_bar.waiting(_TRACING) if is_new else contextlib.nullcontext():
        if is_new:
          batch = _read_and_trace(train_step, batches)
        else:
          with progress.waiting_for_input():
            batch = next(batches)
        result = _take(train_step, batch, step, rate, stage)
      is_first = is_new or step == first_step
      step, traced = step + 1, train_step
      if is_first:
        progress.start_clock(step)
        if (upcoming := plan.stage_after(stage)) and cluster.count == 1:
          later = run.at(upcoming).step_after(upcoming.step)
          tracing = stages.trace_ahead(later, batch, upcoming, cluster)
      decision = trigger.after(step, signal.received, step == plan.total_steps)
      is_boundary = plan.stage(step) != stage
      due = what_is_due(config, plan, step, decision.save or is_boundary)
      excess = watch.excess() if is_first or due.log else ''
      saves = bool(due.save or excess or (due.evaluate and run.evaluate))
      if (any(due) or saves) and (
        problem := recovery.problem(float(result.metrics['loss']), state, saves)
      ):
        index = first_index = _index_after(cluster, result)
        failed_at = step
        step = first_step = recovery.go_back(state, step, rate, problem)
        events.add(run.directory, 'rollback', failed_at, to=step, reason=problem)
        progress.rewind(step)
        batches = None
        continue
      if (any(due) or saves) and run.lock:
        run.lock.check()
      if due.log and progress.is_summary_due():
        progress.show_images(step, *own.preview(batch))
        if saving.histograms:
          progress.show_histograms(step, state.trained)
      if due.log or (cluster.is_chief and (is_first or progress.is_line_due())):
        values = {name: float(value) for name, value in result.metrics.items()}
        trained_on = plan.images(step) - plan.images(first_step)
        skipped = int(result.last_index) + 1 - first_index - trained_on
        values |= {'learning_rate': rate, 'skipped_images': max(0, skipped)}
        (progress.log if due.log else progress.show)(step, plan.epoch(step), values)
      if tracing and (due.evaluate or step == plan.total_steps):
        tracing.join()  # before this thread traces nets of its own
      if run.estimate_batch_norm and (due.evaluate or step == plan.total_steps):
        run.estimate_batch_norm()
      if saves:
        begin = time.monotonic()
        index = _index_after(cluster, result)
        manager.save(state, Counters(step, index, plan.images(step)))
        seconds = round(time.monotonic() - begin, 3)
        events.add(run.directory, 'checkpoint', step, seconds=seconds)
      if decision.stop:
        return decision.stop, f'{signals.Signals(decision.stop).name} after step {step}'
      if due.evaluate and run.evaluate:
        progress.pause()
        prefix = manager.path(step)
        metrics = cluster.all_gather_json(run.evaluate(prefix) if cluster.is_chief else {})[0]
        progress.log_evaluation(step, plan.epoch(step), metrics)
        if history.add(step, metrics['top_1']):
          manager.keep_best(prefix, metrics)
        if reason := history.reason_to_stop(config.evaluation):
          logging.info('Stopped at step %d: %s', step, reason)
          return 0, reason
      if excess and step != plan.total_steps:
        raise OutOfMemoryError(stage, step, excess)
  return 0, ''


def _read_and_trace(train_step: TrainStep, batches: Iterator[Batch]) -> Batch:
  """The next batch, which is read while Python traces the step that it is for."""
  spec = getattr(batches, 'element_spec', None)
  if spec is None:  # a service's
    return next(batches)
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    batch = pool.submit(next, batches)
    train_step.trace(spec)
  return batch.result()


def _take(train_step: TrainStep, batch: Batch, step: int, rate: float, stage: Stage) -> StepResult:
  try:
    return train_step(batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32))
  except tf.errors.OpError as error:
    reason = memory.exhausted(error)
    if not reason or files.system_error(error):  # of a disk
      raise
    raise OutOfMemoryError(stage, step, reason) from error


def _index_after(cluster: Cluster, result: StepResult) -> int:
  """Where the records begin that no worker has gone through."""
  return int(cluster.all_gather([int(result.last_index)]).max()) + 1


class Due(NamedTuple):
  """What is to be done after a step."""

  log: bool
  evaluate: bool
  save: bool


def what_is_due(config: Config, plan: Plan, step: int, save: bool) -> Due:
  """What follows step number `step`, counted from 1; `save` is the trigger's decision."""
  done = step == plan.total_steps
  every = config.evaluation.eval_interval_epochs
  return Due(
    log=done or step % config.saving.log_every_n_steps == 0,
    evaluate=every is not None
    and (done or _times(plan.epoch(step), every) > _times(plan.epoch(step - 1), every)),
    save=save,
  )


def _times(epoch: float, every: float) -> int:
  """How often `every` epochs have passed."""
  return int(epoch / every + 1e-9)  # 0.3 / 0.1 is less than 3


class Recovery:
  """What is done when the loss is not finite or explodes: stop, or go back and skip the batches."""

  def __init__(self, config: RunConfig, plan: Plan):
    self._config = config
    self._plan = plan
    self._limit = _EXPLODED * math.log(max(2, plan.num_classes))
    self._rollbacks: collections.Counter[str] = collections.Counter()

  def problem(self, loss: float, state: TrainState, is_to_be_saved: bool) -> str:
    """'' if the loss is as it should be; and the weights, which are looked at before saving."""
    if not (math.isfinite(loss) and loss < self._limit):
      return f'The loss is {loss:.4g}'
    # The loss is that of before the update: a gradient that overflows does not show in it.
    return '' if not is_to_be_saved or state.is_finite() else 'Weights are not finite'

  def go_back(self, state: TrainState, step: int, rate: float, problem: str) -> int:
    """Restores the last checkpoint, if the run may; returns its step.

    Raises:
      DivergedError: it may not, there is none, or going back to it has not helped.
    """
    latest = checkpoint_files.latest(self._config.train_dir)
    what = f'{problem} at step {step} (learning rate {rate:.3g})'
    advice = 'try a smaller --learning_rate or --clip_gradient_norm=2'
    if self._config.on_nan == 'stop' or latest is None:
      more = '; --on_nan=rollback goes back there and skips these batches' if latest else ''
      raise DivergedError(f'{what}: {advice}; the last good checkpoint is {latest}{more}', step)
    self._rollbacks[latest] += 1
    if self._rollbacks[latest] > _MOST_ROLLBACKS:
      raise DivergedError(
        f'{what}, and went back to {latest} {_MOST_ROLLBACKS} times without help: {advice}', step
      )
    state.restore(latest)
    logging.warning('%s: going back to %s and skipping the batches since', what, latest)
    return read_counters(latest, self._plan.global_batch_size).step


class EvaluationHistory:
  """The top-1 accuracies of a run so far, for the best and for stopping early.

  Args:
    entries: (step, top-1).
    is_best_kept: whether the best checkpoint of these is; if not, the best is one of those to come.
  """

  def __init__(self, entries: Iterable[tuple[int, float]] = (), is_best_kept: bool = True):
    self._entries = list(entries)
    self._first = 0 if is_best_kept else len(self._entries)

  @classmethod
  def read(cls, train_dir: str, step: int) -> 'EvaluationHistory':
    """Of the evaluations that metrics.jsonl has up to a step: a resumed run goes on counting.

    A best checkpoint of a later step is of a branch that was left, see `checkpoint_files.of_run`.
    """
    best = os.path.join(train_dir, BEST_FOLDER)
    kept = checkpoint_files.of_run(best) if os.path.isdir(best) else []
    return cls(
      (
        (entry['step'], entry['eval_top_1'])
        for entry in read_metrics(train_dir)
        if 'eval_top_1' in entry and entry['step'] <= step
      ),
      is_best_kept=all((checkpoint_files.step_of(prefix) or 0) <= step for prefix in kept),
    )

  def add(self, step: int, top_1: float) -> bool:
    """Whether this is the best so far."""
    is_best = top_1 > max((value for _, value in self._entries[self._first :]), default=-1.0)
    self._entries.append((step, top_1))
    return is_best

  def reason_to_stop(self, config: EvaluationConfig) -> str:
    """'' where there is none."""
    values = [value for _, value in self._entries]
    if config.stop_at_top_1 is not None and values[-1] >= config.stop_at_top_1:
      return f'top-1 {values[-1]:.4f} has reached --stop_at_top_1={config.stop_at_top_1}'
    best = values.index(max(values))
    if config.patience is not None and len(values) - 1 - best >= config.patience:
      return (
        f'{config.patience} evaluations without a top-1 better than {values[best]:.4f} '
        f'of step {self._entries[best][0]} (--patience)'
      )
    return ''
