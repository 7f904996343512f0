"""Learning rates as functions of the step, in plain numbers."""

import math

from training.config import Config, epochs


def learning_rate(
  config: Config, step: int, steps_per_epoch: float, total_steps: int | None
) -> float:
  """The learning rate of a step.

  Epochs are those of the global batch: slim's schedules forgot the clones and decayed too late.

  Args:
    config: see the flags of the learning rate.
    step: from 0.
    steps_per_epoch: pictures of the split / global batch.
    total_steps: the length of the run, for `cosine`.
  """
  warmup_steps = config.warmup_epochs * steps_per_epoch
  if step < warmup_steps:
    return config.learning_rate * (step + 1) / math.ceil(warmup_steps)
  return _SCHEDULES[config.learning_rate_decay_type](config, step, steps_per_epoch, total_steps)


def _fixed(config: Config, step: int, steps_per_epoch: float, total_steps: int | None) -> float:
  return config.learning_rate


def _exponential(
  config: Config, step: int, steps_per_epoch: float, total_steps: int | None
) -> float:
  stairs = step // _decay_steps(config, steps_per_epoch)
  return config.learning_rate * config.learning_rate_decay_factor**stairs


def _polynomial(
  config: Config, step: int, steps_per_epoch: float, total_steps: int | None
) -> float:
  left = 1 - min(1, step / _decay_steps(config, steps_per_epoch))
  return config.end_learning_rate + left * (config.learning_rate - config.end_learning_rate)


def _cosine(config: Config, step: int, steps_per_epoch: float, total_steps: int | None) -> float:
  """Half a cosine from the end of the warm-up to the end of the run (arXiv:1608.03983)."""
  warmup_steps = config.warmup_epochs * steps_per_epoch
  done = min(1, (step - warmup_steps) / max(1, total_steps - warmup_steps))
  factor = (1 + math.cos(math.pi * done)) / 2
  return config.end_learning_rate + factor * (config.learning_rate - config.end_learning_rate)


def _step(config: Config, step: int, steps_per_epoch: float, total_steps: int | None) -> float:
  """Stairs at given epochs, as of arXiv:1706.02677 (30, 60 and 80 of 90, by 0.1)."""
  stairs = sum(step >= epoch * steps_per_epoch for epoch in epochs(config.learning_rate_steps))
  return config.learning_rate * config.learning_rate_decay_factor**stairs


def _decay_steps(config: Config, steps_per_epoch: float) -> int:
  return max(1, int(steps_per_epoch * config.num_epochs_per_decay))


_SCHEDULES = {
  'cosine': _cosine,
  'exponential': _exponential,
  'fixed': _fixed,
  'polynomial': _polynomial,
  'step': _step,
}
