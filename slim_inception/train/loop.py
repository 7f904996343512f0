"""The loop of a run: step after step, with what is reported and saved between them."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from slim_inception.cluster import Cluster
from slim_inception.input.pipeline import Batch
from slim_inception.train import schedules
from slim_inception.train.checkpoint_manager import CheckpointManager
from slim_inception.train.config import Config
from slim_inception.train.plan import Plan
from slim_inception.train.progress import NullProgress, Profile, Progress
from slim_inception.train.recovery import EvaluationHistory, Recovery
from slim_inception.train.save_trigger import SaveTrigger, StopSignal
from slim_inception.train.train_state import Counters, TrainState
from slim_inception.train.train_step import StepResult, TrainStep
from slim_inception.train.training_batches import TrainingBatches

# Prefix of a checkpoint -> num_images, top_1, top_5.
Evaluate = Callable[[str], dict[str, float]]
# Batch -> [N, H, W, C] in [-1, 1], and names of the classes.
Preview = Callable[[Batch], tuple[tf.Tensor, list[str]]]


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run is made of.

  Attributes:
    config: the flags.
    plan: what follows from them, the data and the checkpoint that it goes on from.
    cluster: the workers; the chief alone writes and evaluates.
    state: the variables, restored.
    batches: of this worker.
    step_after: the compiled step that follows when so many are done.
    preview: shows images of a batch as the net sees them.
    evaluate: evaluates a checkpoint; None where the run does not ask for it.
  """

  config: Config
  plan: Plan
  cluster: Cluster
  state: TrainState
  batches: TrainingBatches
  step_after: Callable[[int], TrainStep]
  preview: Preview
  evaluate: Evaluate | None = None


def train(run: Run) -> int:
  """Trains from the plan's start to its end, or until an evaluation or a signal says to stop.

  Returns:
    The number of the signal that stopped it, after saving; else 0.

  Raises:
    ValueError: the loss is not finite or exploded, and there is nothing to go back to.
  """
  config, plan, state, cluster = run.config, run.plan, run.state, run.cluster
  train_dir, saving = config.run.train_dir, config.saving
  step, first_index, _ = plan.start
  first_step = step
  progress = make_progress(run)
  profile = Profile(train_dir, saving.profile_steps if cluster.is_chief else None)
  manager = CheckpointManager(train_dir, saving.max_to_keep, cluster)
  trigger = SaveTrigger(cluster, step, saving.save_interval_secs, saving.save_interval_steps)
  recovery = Recovery(config.run, plan)
  history = EvaluationHistory.read(train_dir, step)
  batches = run.batches.start_at(first_index)
  with contextlib.closing(progress), contextlib.closing(profile), StopSignal() as signal:
    while plan.total_steps is None or step < plan.total_steps:
      profile.before(step + 1)
      rate = schedules.learning_rate(config.schedule, step, plan.epoch(step), plan.steps_per_epoch)
      batch = next(batches)
      train_step = run.step_after(step)
      result = train_step(batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32))
      step += 1
      if step == first_step + 1:
        progress.start_clock(step)
      decision = trigger.after(step, signal.received, step == plan.total_steps)
      due = what_is_due(config, plan, step, decision.save)
      saves = due.save or bool(due.evaluate and run.evaluate)
      if any(due) and (problem := recovery.problem(float(result.metrics['loss']), state, saves)):
        first_index = _index_after(cluster, result)
        step = first_step = recovery.go_back(state, step, rate, problem)
        progress.rewind(step)
        batches = run.batches.start_at(first_index)
        continue
      if due.log:
        if progress.is_summary_due():
          progress.show_images(step, *run.preview(batch))
          if saving.histograms:
            progress.show_histograms(step, state.trained)
        values = {name: float(value) for name, value in result.metrics.items()}
        trained_on = (step - first_step) * plan.global_batch_size
        skipped = int(result.last_index) + 1 - first_index - trained_on
        values |= {'learning_rate': rate, 'skipped_images': max(0, skipped)}
        progress.log(step, plan.epoch(step), values)
      if saves:
        manager.save(state, Counters(step, _index_after(cluster, result), plan.images(step)))
      if decision.stop:
        return decision.stop
      if due.evaluate and run.evaluate:
        progress.pause()
        prefix = manager.path(step)
        metrics = cluster.all_gather_json(run.evaluate(prefix) if cluster.is_chief else {})[0]
        progress.log_evaluation(step, plan.epoch(step), metrics)
        if history.add(step, metrics['top_1']):
          manager.keep_best(prefix, metrics)
        if reason := history.reason_to_stop(config.evaluation):
          logging.info('Stopped at step %d: %s', step, reason)
          return 0
  return 0


def make_progress(run: Run) -> NullProgress:
  """Reports what the run does, on the chief."""
  if not run.cluster.is_chief:
    return NullProgress()
  return Progress(
    run.config.run.train_dir,
    run.plan.start.step,
    run.plan.total_steps,
    run.plan.global_batch_size,
    run.config.saving.save_summaries_secs,
  )


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
