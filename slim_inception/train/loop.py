"""The loop of a run: step after step, what is reported and saved between them, when it ends."""

import concurrent.futures
import contextlib
import dataclasses
import signal as signals
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from slim_inception import files, memory
from slim_inception.cluster import Cluster
from slim_inception.datasets import progress_bar
from slim_inception.files import FolderLock
from slim_inception.input.pipeline import Batch
from slim_inception.nets.initial_values import Drawing
from slim_inception.train import events, schedules, stages
from slim_inception.train.checkpoint_manager import CheckpointManager
from slim_inception.train.config import Config
from slim_inception.train.evaluation_history import EvaluationHistory
from slim_inception.train.plan import Plan, Stage
from slim_inception.train.progress import Profile, Progress
from slim_inception.train.recovery import Recovery
from slim_inception.train.save_trigger import SaveTrigger, StopSignal
from slim_inception.train.trackers import Tracker
from slim_inception.train.train_state import Counters, TrainState
from slim_inception.train.train_step import StepResult, TrainStep

_TRACING = 'Tracing and compiling the step: the first one takes longer'

# Prefix of a checkpoint -> num_images, top_1, top_5.
Evaluate = Callable[[str], dict[str, float]]


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
    initial_values: of the variables, which may still be drawn; None: they are there.
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
  initial_values: Drawing | None = None

  @property
  def directory(self) -> str | None:
    """The train_dir, in the chief."""
    return self.config.run.train_dir if self.cluster.is_chief else None


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


class Ending(NamedTuple):
  """Why a run stops.

  Attributes:
    signal: the number of the one that stopped it; 0: none did.
    reason: a line; '' where it is at its last step.
  """

  signal: int = 0
  reason: str = ''


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
  profiled = run.config.saving.profile_steps if run.cluster.is_chief else None
  profile = Profile(run.config.run.train_dir, profiled)
  with contextlib.closing(progress):
    try:
      with contextlib.closing(profile), StopSignal() as signal:
        ending = _Loop(run, progress, profile, signal).to_the_end()
    except BaseException as error:
      with contextlib.suppress(OSError):  # the disk may be full, or the folder another one
        if run.lock:
          run.lock.check()
        progress.end(events.FAILED, f'{type(error).__name__}: {error}'.splitlines()[0])
      raise
    progress.end(events.INTERRUPTED if ending.signal else events.FINISHED, ending.reason)
  return ending.signal


class _Taken(NamedTuple):
  """A step that has been taken, at this learning rate; the first since a start or a trace?"""

  batch: Batch
  result: StepResult
  rate: float
  is_first: bool


class _Loop:
  """A run between its first step and its last: takes a step, does what is due after it, goes on."""

  def __init__(self, run: Run, progress: Progress, profile: Profile, signal: StopSignal):
    config, plan, saving = run.config, run.plan, run.config.saving
    self._run, self._progress, self._profile, self._signal = run, progress, profile, signal
    self._step, self._index, _ = plan.start
    self._first_step, self._first_index = self._step, self._index  # since going back, if it did
    directory = config.run.train_dir
    self._manager = CheckpointManager(directory, saving.max_to_keep, run.cluster, self._step)
    self._trigger = SaveTrigger(
      run.cluster, self._step, saving.save_interval_secs, saving.save_interval_steps
    )
    self._recovery = Recovery(config.run, plan)
    self._history = EvaluationHistory.read(directory, self._step)
    self._watch = memory.Watch(run.memory_limit)
    self._stage = plan.stage(self._step)
    self._batches: Iterator[Batch] | None = None
    self._traced: TrainStep | None = None
    self._tracing_ahead: threading.Thread | None = None

  def to_the_end(self) -> Ending:
    """Trains until the last step, or until there is a reason to stop before it."""
    while self._run.plan.total_steps is None or self._step < self._run.plan.total_steps:
      if ending := self._after(self._take_step()):
        return ending
    return Ending()

  def _take_step(self) -> _Taken:
    plan, step = self._run.plan, self._step
    if self._batches is None or self._stage != plan.stage(step):
      self._batches = self._begin_stage()
    self._profile.before(step + 1)
    rate = self._learning_rate()
    train_step = self._run.at(self._stage).step_after(step)
    is_new = train_step is not self._traced
    with progress_bar.waiting(_TRACING) if is_new else contextlib.nullcontext():
      if is_new:
        batch = _read_and_trace(train_step, self._batches)
        if self._run.initial_values:
          self._run.initial_values.wait()
      else:
        with self._progress.waiting_for_input():
          batch = next(self._batches)
      result = _take(train_step, batch, step, rate, self._stage)
    is_first = is_new or step == self._first_step
    self._step, self._traced = step + 1, train_step
    self._progress.done = self._step
    if is_first:
      self._progress.start_clock(self._step)
      self._trace_ahead(batch)
    return _Taken(batch, result, rate, is_first)

  def _after(self, taken: _Taken) -> Ending | None:
    """Does what is due after a step; returns why the run ends, if it does."""
    run, step = self._run, self._step
    decision = self._trigger.after(step, self._signal.received, self._is_last)
    is_boundary = run.plan.stage(step) != self._stage
    due = what_is_due(run.config, run.plan, step, decision.save or is_boundary)
    excess = self._watch.excess() if taken.is_first or due.log else ''
    evaluates = due.evaluate and run.evaluate is not None
    saves = due.save or evaluates or bool(excess)
    if any(due) or saves:
      loss = float(taken.result.metrics['loss'])
      if problem := self._recovery.problem(loss, run.state, saves):
        self._go_back(taken, problem)
        return None
      if run.lock:
        run.lock.check()
    self._report(taken, due)
    if due.evaluate or self._is_last:
      self._estimate_batch_norm()
    if saves:
      self._save(taken.result)
    if decision.stop:
      return Ending(decision.stop, f'{signals.Signals(decision.stop).name} after step {step}')
    if evaluates and (reason := self._evaluate()):
      return Ending(reason=reason)
    if excess and not self._is_last:
      raise OutOfMemoryError(self._stage, step, excess)
    return None

  @property
  def _is_last(self) -> bool:
    return self._step == self._run.plan.total_steps

  @property
  def _epoch(self) -> float:
    return self._run.plan.epoch(self._step)

  def _begin_stage(self) -> Iterator[Batch]:
    """Goes to the stage of the next step; returns its batches, those of before are let go."""
    self._stage = self._run.plan.stage(self._step)
    if self._step > self._first_step:
      logging.info('%s', stages.describe(self._stage, self._epoch))
    self._batches = None  # the old ones end before the new ones begin
    return self._run.at(self._stage).batches.start_at(self._index)

  def _learning_rate(self) -> float:
    size = self._stage.global_batch_size
    schedule = schedules.scaled(self._run.config.schedule, size)
    steps_per_epoch = self._run.plan.num_samples / size
    return schedules.learning_rate(schedule, self._step, self._epoch, steps_per_epoch)

  def _trace_ahead(self, batch: Batch) -> None:
    """Has a thread trace the first step of the next stage, if there is one."""
    run = self._run
    if (upcoming := run.plan.stage_after(self._stage)) and run.cluster.count == 1:
      later = run.at(upcoming).step_after(upcoming.step)
      self._tracing_ahead = stages.trace_ahead(later, batch, upcoming, run.cluster)

  def _go_back(self, taken: _Taken, problem: str) -> None:
    """To the last checkpoint, and on behind the batches since.

    Raises:
      DivergedError: see `Recovery.go_back`.
    """
    failed_at = self._step
    self._index = self._first_index = self._index_after(taken.result)
    self._step = self._recovery.go_back(self._run.state, failed_at, taken.rate, problem)
    self._first_step = self._step
    events.add(self._run.directory, 'rollback', failed_at, to=self._step, reason=problem)
    self._progress.rewind(self._step)
    self._batches = None

  def _report(self, taken: _Taken, due: Due) -> None:
    """The figures of a step, and now and then images and histograms, where they are due."""
    run, step, progress = self._run, self._step, self._progress
    if due.log and progress.is_summary_due():
      progress.show_images(step, *run.at(self._stage).preview(taken.batch))
      if run.config.saving.histograms:
        progress.show_histograms(step, run.state.trained)
    if due.log:
      progress.log(step, self._epoch, self._figures(taken))
    elif run.cluster.is_chief and (taken.is_first or progress.is_line_due()):
      progress.show(step, self._epoch, self._figures(taken))

  def _figures(self, taken: _Taken) -> dict[str, float]:
    images = self._run.plan.images
    trained_on = images(self._step) - images(self._first_step)
    skipped = int(taken.result.last_index) + 1 - self._first_index - trained_on
    return {
      **{name: float(value) for name, value in taken.result.metrics.items()},
      'learning_rate': taken.rate,
      'skipped_images': max(0, skipped),
    }

  def _estimate_batch_norm(self) -> None:
    if self._tracing_ahead:
      self._tracing_ahead.join()  # before this thread traces nets of its own
    if self._run.estimate_batch_norm:
      self._run.estimate_batch_norm()

  def _save(self, result: StepResult) -> None:
    begin = time.monotonic()
    step, images = self._step, self._run.plan.images(self._step)
    self._index = self._index_after(result)
    self._manager.save(self._run.state, Counters(step, self._index, images))
    seconds = round(time.monotonic() - begin, 3)
    events.add(self._run.directory, 'checkpoint', step, seconds=seconds)

  def _evaluate(self) -> str:
    """Evaluates the checkpoint of this step, keeps the best; returns a reason to stop, or ''."""
    run = self._run
    assert run.evaluate
    self._progress.pause()
    prefix = self._manager.path(self._step)
    metrics = run.cluster.all_gather_json(run.evaluate(prefix) if run.cluster.is_chief else {})[0]
    self._progress.log_evaluation(self._step, self._epoch, metrics)
    if self._history.add(self._step, metrics['top_1']):
      self._manager.keep_best(prefix, metrics)
    reason = self._history.reason_to_stop(run.config.evaluation)
    if reason:
      logging.info('Stopped at step %d: %s', self._step, reason)
    return reason

  def _index_after(self, result: StepResult) -> int:
    """Where the records begin that no worker has gone through."""
    return int(self._run.cluster.all_gather([int(result.last_index)]).max()) + 1


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
  """Takes a step.

  Raises:
    OutOfMemoryError: there is not enough.
  """
  try:
    return train_step(batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32))
  except tf.errors.OpError as error:
    reason = memory.exhausted(error)
    if not reason or files.system_error(error):  # of a disk
      raise
    raise OutOfMemoryError(stage, step, reason) from error
