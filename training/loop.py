"""The loop of a run: step after step, with what is said and saved between them."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from nets import checkpoints
from training import schedules
from training.config import Config
from training.keeper import Keeper
from training.progress import Progress
from training.train_state import TrainState
from training.train_step import Batch, TrainStep


class Plan(NamedTuple):
  """What follows from a configuration and the data."""

  num_classes: int
  image_size: int
  num_replicas: int
  global_batch_size: int
  steps_per_epoch: float
  total_steps: int | None  # None: until stopped


def run(
  config: Config,
  plan: Plan,
  state: TrainState,
  batches: Iterator[Batch],
  train_step: TrainStep,
  step: int,
  position: int,
) -> None:
  """Trains from `step`, and from `position` in the data, to the last step.

  Raises:
    ValueError: the loss is not finite.
  """
  progress = Progress(
    config.train_dir, step, plan.total_steps, plan.global_batch_size, config.save_summaries_secs
  )
  keeper = Keeper(config.train_dir, config.max_to_keep)
  first_step, first_position, saved_at = step, position, time.monotonic()
  with contextlib.closing(progress):
    while plan.total_steps is None or step < plan.total_steps:
      rate = schedules.learning_rate(config, step, plan.steps_per_epoch, plan.total_steps)
      results = train_step(
        next(batches), tf.constant(step, tf.int64), tf.constant(rate, tf.float32)
      )
      step += 1
      done = step == plan.total_steps
      if step == first_step + 1:
        progress.start_clock(step)
      is_logged = done or step % config.log_every_n_steps == 0
      is_saved = done or time.monotonic() - saved_at >= config.save_interval_secs
      if (is_logged or is_saved) and not math.isfinite(loss := float(results['loss'])):
        raise ValueError(
          f'The loss is {loss} at step {step} (learning rate {rate:.3g}): try a smaller '
          '--learning_rate or --clip_gradient_norm=2; the last checkpoint is '
          f'{checkpoints.latest(config.train_dir)}'
        )
      if is_logged:
        values = {name: float(value) for name, value in results.items() if name != 'position'}
        consumed = (step - first_step) * plan.global_batch_size
        skipped = int(results['position']) + 1 - first_position - consumed
        values |= {'learning_rate': rate, 'skipped_images': max(0, skipped)}
        progress.log(step, step / plan.steps_per_epoch, values)
      if is_saved:
        keeper.save(state, step, int(results['position']) + 1)
        saved_at = time.monotonic()
