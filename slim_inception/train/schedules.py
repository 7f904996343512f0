"""Learning rates as functions of where a run is, in plain numbers."""

import dataclasses
import math

from slim_inception.train.flag_groups import ScheduleConfig


def scaled(config: ScheduleConfig, global_batch_size: int) -> ScheduleConfig:
  """The schedule for a batch: rates in proportion to it (arXiv:1706.02677), by --learning_rate_per.

  Args:
    config: the flags.
    global_batch_size: images of a step, of all replicas and --accumulate_steps.
  """
  if config.learning_rate_per is None:
    return config
  factor = global_batch_size / config.learning_rate_per
  return dataclasses.replace(
    config,
    learning_rate=factor * config.learning_rate,
    end_learning_rate=factor * config.end_learning_rate,
    learning_rate_per=global_batch_size,
  )


def learning_rate(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  """The learning rate of a step.

  It follows the epochs, which are those of the global batch and go on where they were when the
  batch changes: slim's schedules forgot the clones and decayed too late. Only a cosine that ends at
  --max_number_of_steps follows the steps.

  Args:
    config: see the flags of the learning rate; of `scaled`.
    step: from 0.
    epoch: in which the step begins, with its fraction.
    steps_per_epoch: images of the split / global batch.
  """
  if epoch < config.warmup_epochs:
    return config.learning_rate * min(1, (epoch + 1 / steps_per_epoch) / config.warmup_epochs)
  return _SCHEDULES[config.learning_rate_decay_type](config, step, epoch, steps_per_epoch)


def _fixed(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  return config.learning_rate


def _exponential(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  stairs = math.floor(epoch / config.num_epochs_per_decay)
  return config.learning_rate * config.learning_rate_decay_factor**stairs


def _polynomial(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  left = 1 - min(1, epoch / config.num_epochs_per_decay)
  return config.end_learning_rate + left * (config.learning_rate - config.end_learning_rate)


def _cosine(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  """Half a cosine from the end of the warm-up to the end of the run (arXiv:1608.03983)."""
  now, start, end = epoch, config.warmup_epochs, config.num_epochs or 0.0
  if config.max_number_of_steps:
    now, start, end = step, config.warmup_epochs * steps_per_epoch, config.max_number_of_steps
  done = min(1, (now - start) / (end - start)) if start < end else 1
  factor = (1 + math.cos(math.pi * done)) / 2
  return config.end_learning_rate + factor * (config.learning_rate - config.end_learning_rate)


def _step(config: ScheduleConfig, step: int, epoch: float, steps_per_epoch: float) -> float:
  """Stairs at given epochs, as of arXiv:1706.02677 (30, 60 and 80 of 90, by 0.1)."""
  stairs = sum(epoch >= stair for stair in config.learning_rate_steps)
  return config.learning_rate * config.learning_rate_decay_factor**stairs


_SCHEDULES = {
  'cosine': _cosine,
  'exponential': _exponential,
  'fixed': _fixed,
  'polynomial': _polynomial,
  'step': _step,
}
