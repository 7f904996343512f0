"""What follows from a configuration, the data and how far a run is."""

import math
from typing import NamedTuple

from slim_inception.nets import nets_factory
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import BatchConfig, ScheduleConfig
from slim_inception.train.train_state import Counters


class Plan(NamedTuple):
  """The sizes and lengths of a run.

  From `start` on every step takes a global batch; before, when there were more replicas for
  example, they may have been larger or smaller.

  Attributes:
    per_replica_batch: images of one forward pass of a replica.
    global_batch_size: images of a step: of all replicas and --accumulate_steps.
    total_steps: None: until stopped.
    start: how far the run is when this process starts.
  """

  num_samples: int
  num_classes: int
  image_size: int
  num_replicas: int
  per_replica_batch: int
  global_batch_size: int
  steps_per_epoch: float
  total_steps: int | None = None
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

  def start_from(self, start: Counters, schedule: ScheduleConfig) -> 'Plan':
    """The plan of a run that has come so far; --num_epochs counts what other batches have done."""
    plan = self._replace(start=start, total_steps=schedule.max_number_of_steps)
    if plan.total_steps is None and schedule.num_epochs:
      plan = plan._replace(total_steps=plan.steps_until(schedule.num_epochs))
    return plan


def make_plan(config: Config, num_samples: int, num_classes: int, num_replicas: int) -> Plan:
  """The plan of a run that begins; epochs count the global batch.

  Raises:
    ValueError: --global_batch_size cannot be divided evenly.
  """
  each = per_replica_batch(config.batch, num_replicas)
  global_batch_size = each * num_replicas * config.batch.accumulate_steps
  net = nets_factory.get_net(config.model.model_name)
  plan = Plan(
    num_samples,
    num_classes,
    config.model.train_image_size or net.default_image_size,
    num_replicas,
    each,
    global_batch_size,
    steps_per_epoch=num_samples / global_batch_size,
  )
  return plan.start_from(Counters(), config.schedule)


def per_replica_batch(config: BatchConfig, num_replicas: int) -> int:
  """Images of one forward pass of a replica.

  Raises:
    ValueError: --global_batch_size cannot be divided evenly.
  """
  if config.global_batch_size is None:
    return config.batch_size
  parts = num_replicas * config.accumulate_steps
  each, rest = divmod(config.global_batch_size, parts)
  if rest:
    nearest = [n * parts for n in (each, each + 1) if n]
    by = f' in {config.accumulate_steps} steps each' if config.accumulate_steps > 1 else ''
    raise ValueError(
      f'--global_batch_size={config.global_batch_size} cannot be divided among {num_replicas} '
      f'replicas{by}: choose {" or ".join(map(str, nearest))}'
    )
  return each
