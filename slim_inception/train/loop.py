"""The loop of a run: step after step, with what is said and saved between them."""

import collections
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from slim_inception.nets import checkpoints
from slim_inception.train import schedules
from slim_inception.train.boundary import Boundary, StopSignal
from slim_inception.train.config import Config
from slim_inception.train.distribution import Team
from slim_inception.train.keeper import Keeper
from slim_inception.train.progress import Progress, read_metrics
from slim_inception.train.train_state import Counters, TrainState, read_counters
from slim_inception.train.train_step import Batch, TrainStep


class Plan(NamedTuple):
  """What follows from a configuration, the data and how far the run is when this process starts.

  From then on every step takes a global batch; before, when there were more replicas say, they may
  have been larger or smaller.
  """

  num_samples: int
  num_classes: int
  image_size: int
  num_replicas: int
  global_batch_size: int
  steps_per_epoch: float
  total_steps: int | None  # None: until stopped
  start: Counters = Counters()

  def images(self, step: int) -> int:
    """Images trained on when `step` steps are done."""
    return self.start.images + (step - self.start.step) * self.global_batch_size

  def epoch(self, step: int) -> float:
    """Epochs that are over when `step` steps are done, with their fraction."""
    return self.images(step) / self.num_samples

  def steps_until(self, epoch: float) -> int:
    """Steps done when an epoch is reached, with its fraction."""
    left = epoch * self.num_samples - self.start.images
    return self.start.step + math.ceil(left / self.global_batch_size)


# Prefix of a checkpoint -> num_images, top_1, top_5.
Evaluate = Callable[[str], dict[str, float]]
# Batch -> [N, H, W, C] in [-1, 1], and names of the classes.
Preview = Callable[[Batch], tuple[tf.Tensor, list[str]]]
# A loss beyond this many times ln(classes), which is that of a net that knows nothing, is lost.
_EXPLODED = 1000.0
_MOST_ROLLBACKS = 3  # from one checkpoint


class Due(NamedTuple):
  """What is to be done after a step."""

  log: bool
  evaluate: bool
  save: bool


def run(
  config: Config,
  plan: Plan,
  state: TrainState,
  make_batches: Callable[[int], Iterator[Batch]],
  train_step: TrainStep,
  evaluate: Evaluate | None = None,
  preview: Preview | None = None,
  *,
  team: Team,
) -> int:
  """Trains from the plan's start to its end, or until an evaluation or a signal says to stop.

  Args:
    config: the flags.
    plan: what follows from them and the data.
    state: the variables, restored.
    make_batches: batches from a position in the data on.
    train_step: the compiled step.
    evaluate: evaluates a checkpoint; None where the run does not ask for it.
    preview: shows images of a batch as the net sees them.
    team: the workers; the chief alone writes and evaluates.

  Returns:
    The number of the signal that stopped it, after saving; else 0.

  Raises:
    ValueError: the loss is not finite or exploded, and there is nothing to go back to.
  """
  step, position, _ = plan.start
  progress, profile = Silent(), Silent()
  if team.is_chief:
    progress = Progress(
      config.run.train_dir,
      step,
      plan.total_steps,
      plan.global_batch_size,
      config.saving.save_summaries_secs,
    )
    profile = Profile(config)
  keeper = Keeper(config.run.train_dir, config.saving.max_to_keep, team)
  boundary = Boundary(
    team, step, config.saving.save_interval_secs, config.saving.save_interval_steps
  )
  recovery = Recovery(config, plan)
  history = EvaluationHistory.read(config.run.train_dir, step)
  batches = make_batches(position)
  first_step, first_position = step, position
  with contextlib.closing(progress), contextlib.closing(profile), StopSignal() as signal:
    while plan.total_steps is None or step < plan.total_steps:
      profile.before(step + 1)
      rate = schedules.learning_rate(config.schedule, step, plan.epoch(step), plan.steps_per_epoch)
      batch = next(batches)
      results = train_step(batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32))
      step += 1
      if step == first_step + 1:
        progress.start_clock(step)
      decision = boundary.after(step, signal.received, step == plan.total_steps)
      due = what_is_due(config, plan, step, decision.save)
      saves = due.save or bool(due.evaluate and evaluate)
      if any(due) and (ill := recovery.what_is_wrong(float(results['loss']), state, saves)):
        failed_at = _position_after(team, results)
        step = recovery.go_back(state, step, rate, ill)
        progress.rewind(step)
        batches, first_step, first_position = make_batches(failed_at), step, failed_at
        continue
      if due.log:
        if preview and progress.is_summary_due():
          progress.draw(step, *preview(batch))
          if config.saving.histograms:
            progress.draw_histograms(step, state.trained)
        values = {name: float(value) for name, value in results.items() if name != 'position'}
        consumed = (step - first_step) * plan.global_batch_size
        skipped = int(results['position']) + 1 - first_position - consumed
        values |= {'learning_rate': rate, 'skipped_images': max(0, skipped)}
        progress.log(step, plan.epoch(step), values)
      if saves:
        position = _position_after(team, results)
        keeper.save(state, Counters(step, position, plan.images(step)))
      if decision.stop:
        return decision.stop
      if due.evaluate and evaluate:
        progress.pause()
        prefix = keeper.path(step)
        metrics = team.exchange_facts(evaluate(prefix) if team.is_chief else {})[0]
        progress.log_evaluation(step, plan.epoch(step), metrics)
        if history.add(step, metrics['top_1']):
          keeper.keep_best(prefix, metrics)
        if reason := history.reason_to_stop(config):
          logging.info('Stopped at step %d: %s', step, reason)
          return 0
  return 0


def _position_after(team: Team, results: Mapping[str, tf.Tensor]) -> int:
  """Where the records begin that no worker has gone through."""
  return int(team.exchange([int(results['position'])]).max()) + 1


class Silent:
  """Stands for what the chief alone does, on the other workers: does nothing."""

  def __getattr__(self, name: str) -> Callable[..., None]:
    return lambda *args, **kwargs: None


def what_is_due(config: Config, plan: Plan, step: int, save: bool) -> Due:
  """What follows step number `step`, counted from 1; `save` is the boundary's decision."""
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

  def __init__(self, config: Config, plan: Plan):
    self._config = config
    self._plan = plan
    self._limit = _EXPLODED * math.log(max(2, plan.num_classes))
    self._rollbacks: collections.Counter[str] = collections.Counter()

  def what_is_wrong(self, loss: float, state: TrainState, is_to_be_saved: bool) -> str:
    """'' if the loss is as it should be; and the weights, which are looked at before saving."""
    if not (math.isfinite(loss) and loss < self._limit):
      return f'The loss is {loss:.4g}'
    # The loss is that of before the update: a gradient that overflows does not show in it.
    return '' if not is_to_be_saved or state.is_finite() else 'Weights are not finite'

  def go_back(self, state: TrainState, step: int, rate: float, ill: str) -> int:
    """Restores the last checkpoint, if the run may; returns its step.

    Raises:
      ValueError: it may not, there is none, or going back to it has not helped.
    """
    latest = checkpoints.latest(self._config.run.train_dir)
    what = f'{ill} at step {step} (learning rate {rate:.3g})'
    advice = 'try a smaller --learning_rate or --clip_gradient_norm=2'
    if self._config.run.on_nan == 'stop' or latest is None:
      more = '; --on_nan=rollback goes back there and skips these batches' if latest else ''
      raise ValueError(f'{what}: {advice}; the last good checkpoint is {latest}{more}')
    self._rollbacks[latest] += 1
    if self._rollbacks[latest] > _MOST_ROLLBACKS:
      raise ValueError(
        f'{what}, and went back to {latest} {_MOST_ROLLBACKS} times without help: {advice}'
      )
    state.restore(latest)
    logging.warning('%s: going back to %s and skipping the batches since', what, latest)
    return read_counters(latest, self._plan.global_batch_size).step


class EvaluationHistory:
  """The top-1 accuracies of a run so far, for the best and for stopping early."""

  def __init__(self, entries: Iterable[tuple[int, float]] = ()):
    self._entries = list(entries)  # step, top-1

  @classmethod
  def read(cls, train_dir: str, step: int) -> 'EvaluationHistory':
    """Of the evaluations that metrics.jsonl has up to a step: a resumed run goes on counting."""
    return cls(
      (entry['step'], entry['eval_top_1'])
      for entry in read_metrics(train_dir)
      if 'eval_top_1' in entry and entry['step'] <= step
    )

  def add(self, step: int, top_1: float) -> bool:
    """Whether this is the best so far."""
    is_best = top_1 > max((value for _, value in self._entries), default=-1.0)
    self._entries.append((step, top_1))
    return is_best

  def reason_to_stop(self, config: Config) -> str:
    """'' where there is none."""
    values = [value for _, value in self._entries]
    if (
      config.evaluation.stop_at_top_1 is not None and values[-1] >= config.evaluation.stop_at_top_1
    ):
      return f'top-1 {values[-1]:.4f} has reached --stop_at_top_1={config.evaluation.stop_at_top_1}'
    best = values.index(max(values))
    if (
      config.evaluation.patience is not None
      and len(values) - 1 - best >= config.evaluation.patience
    ):
      return (
        f'{config.evaluation.patience} evaluations without a top-1 better than {values[best]:.4f} '
        f'of step {self._entries[best][0]} (--patience)'
      )
    return ''


class Profile:
  """Has TensorFlow's profiler watch the steps of --profile_steps, for TensorBoard."""

  def __init__(self, config: Config):
    self._directory = config.run.train_dir
    self._first, self._last = config.saving.profile_steps or (0, 0)
    self._running = False

  def before(self, step: int) -> None:
    """Called before step number `step`, counted from 1."""
    if self._running and step > self._last:
      self.close()
    elif step == self._first and not self._running:
      tf.profiler.experimental.start(self._directory)
      self._running = True

  def close(self) -> None:
    if self._running:
      self._running = False
      tf.profiler.experimental.stop()
      logging.info('Profile of steps %d to %d: %s', self._first, self._last, self._directory)
