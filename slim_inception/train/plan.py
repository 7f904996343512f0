"""What follows from a configuration, the data and how far a run is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from slim_inception.train.config import Config
from slim_inception.train.flag_groups import AUTO_BATCH_SIZE, BatchConfig, ScheduleConfig
from slim_inception.train.image_sizes import Phase, phases
from slim_inception.train.train_state import Counters


class Stage(NamedTuple):
  """Steps of one size of images and one batch.

  A step belongs to the last stage whose `first_image` is not above the images trained on before
  the step: a function of these alone, so that a run that goes on is where it would have been.

  Attributes:
    first_image: so many images are trained on, over all epochs, before it can begin.
    image_size: pixels a side.
    per_replica_batch: images of one forward pass of a replica.
    accumulate_steps: passes of a replica in a step.
    global_batch_size: images of a step, of all replicas.
    step: done when it begins.
    images: trained on when it begins: `first_image`, or a part of a batch more.
  """

  first_image: int
  image_size: int
  per_replica_batch: int
  accumulate_steps: int
  global_batch_size: int
  step: int = 0
  images: int = 0

  @property
  def pass_pixels(self) -> int:
    """Pixels of one forward pass of a replica."""
    return self.per_replica_batch * self.image_size**2


class Plan(NamedTuple):
  """The sizes and lengths of a run.

  From `start` on every step takes the global batch of its stage; before, when there were more
  replicas for example, they may have been larger or smaller.

  Attributes:
    image_size: that of the last stage, for which the net is made.
    stages: one, or by --image_size_schedule those from `start` on.
    total_steps: None: until stopped.
    start: how far the run is when this process starts.
  """

  num_samples: int
  num_classes: int
  image_size: int
  num_replicas: int
  stages: tuple[Stage, ...]
  total_steps: int | None = None
  start: Counters = Counters()

  @property
  def per_replica_batch(self) -> int:
    """That of the stage at `start`."""
    return self.stages[0].per_replica_batch

  @property
  def global_batch_size(self) -> int:
    """That of the stage at `start`."""
    return self.stages[0].global_batch_size

  @property
  def steps_per_epoch(self) -> float:
    """With the batch of the stage at `start`."""
    return self.num_samples / self.global_batch_size

  def stage(self, step: int) -> Stage:
    """That of the step that follows when `step` steps are done."""
    return next((s for s in reversed(self.stages) if s.step <= step), self.stages[0])

  def stage_after(self, stage: Stage) -> Stage | None:
    """The next one that has steps; None at the last."""
    later = [s.step for s in self.stages if s.step > stage.step]
    return self.stage(later[0]) if later else None

  def images(self, step: int) -> int:
    """Images trained on when `step` steps are done."""
    stage = self.stage(step)
    return stage.images + (step - stage.step) * stage.global_batch_size

  def epoch(self, step: int) -> float:
    """Epochs that are over when `step` steps are done, with their fraction."""
    return self.images(step) / self.num_samples

  def steps_until(self, epoch: float) -> int:
    """Steps done when an epoch is reached, with its fraction."""
    images = epoch * self.num_samples
    stage = next((s for s in reversed(self.stages) if s.images < images), self.stages[0])
    return stage.step + math.ceil((images - stage.images) / stage.global_batch_size)

  def start_from(self, start: Counters, schedule: ScheduleConfig) -> 'Plan':
    """The plan of a run that has come so far; --num_epochs counts what other batches have done."""
    stages = _from(self.stages, start)
    plan = self._replace(start=start, stages=stages, total_steps=schedule.max_number_of_steps)
    if plan.total_steps is None and schedule.num_epochs:
      plan = plan._replace(total_steps=plan.steps_until(schedule.num_epochs))
    return plan

  def facts(self) -> dict[str, object]:
    """For config.json: sizes, and the stages where there are several."""
    facts = {name: value for name, value in self._asdict().items() if name != 'stages'}
    now = self.stages[0]
    facts |= {
      'start': self.start._asdict(),
      'per_replica_batch': now.per_replica_batch,
      'accumulate_steps': now.accumulate_steps,
      'global_batch_size': now.global_batch_size,
      'steps_per_epoch': self.steps_per_epoch,
    }
    if len(self.stages) > 1:
      facts['stages'] = [stage._asdict() for stage in self.stages]
    return facts


def _from(stages: Sequence[Stage], start: Counters) -> tuple[Stage, ...]:
  """The stages of a run that is at `start`, with the steps at which they begin."""
  step, images, _ = start.step, start.images, None
  current = max(i for i, stage in enumerate(stages) if i == 0 or stage.first_image <= images)
  result: list[Stage] = []
  for stage in stages[current:]:
    if result:
      before = result[-1]
      steps = max(0, -(-(stage.first_image - images) // before.global_batch_size))
      step, images = step + steps, images + steps * before.global_batch_size
    result.append(stage._replace(step=step, images=images))
  return tuple(result)


def make_plan(
  config: Config,
  num_samples: int,
  num_classes: int,
  num_replicas: int,
  pass_pixels: int | None = None,
) -> Plan:
  """The plan of a run that begins; epochs count the global batch.

  Args:
    config: the flags.
    num_samples: images of the split.
    num_classes: of the head.
    num_replicas: over all workers.
    pass_pixels: a forward pass of a replica may have so many pixels; larger ones are divided, and
      their gradients are added up. None: any number.

  Raises:
    ValueError: --global_batch_size cannot be divided evenly.
  """
  stages = [
    _make_stage(config.batch, phase, num_samples, num_replicas, pass_pixels)
    for phase in phases(config.model)
  ]
  plan = Plan(num_samples, num_classes, stages[-1].image_size, num_replicas, tuple(stages))
  return plan.start_from(Counters(), config.schedule)


def _make_stage(
  config: BatchConfig,
  phase: Phase,
  num_samples: int,
  num_replicas: int,
  pass_pixels: int | None,
) -> Stage:
  each = per_replica_batch(config, num_replicas, phase.batch_size)
  parts = 1
  if pass_pixels is not None:
    parts = divided(each, pass_pixels // phase.image_size**2)
  return Stage(
    math.ceil(phase.epoch * num_samples),
    phase.image_size,
    each // parts,
    config.accumulate_steps * parts,
    each * num_replicas * config.accumulate_steps,
  )


def divided(images: int, most: int) -> int:
  """Into how many equal parts a batch of `images` falls, of at most `most` images, or of one."""
  divisors = (parts for parts in range(1, images + 1) if images % parts == 0)
  return next(parts for parts in divisors if images // parts <= max(1, most))


def per_replica_batch(config: BatchConfig, num_replicas: int, batch_size: int = 0) -> int:
  """Images of one forward pass of a replica.

  Args:
    config: the flags.
    num_replicas: over all workers.
    batch_size: in place of --global_batch_size, or of --batch_size where that is not given; 0: as
      the flags say.

  Raises:
    ValueError: --global_batch_size cannot be divided evenly.
  """
  if config.global_batch_size is None:
    if not batch_size and config.batch_size == AUTO_BATCH_SIZE:
      raise ValueError('--batch_size=auto: `batch_size.resolve` has not found a number yet')
    return batch_size or config.batch_size
  whole = batch_size or config.global_batch_size
  parts = num_replicas * config.accumulate_steps
  each, rest = divmod(whole, parts)
  if rest:
    nearest = [n * parts for n in (each, each + 1) if n]
    by = f' in {config.accumulate_steps} steps each' if config.accumulate_steps > 1 else ''
    of_schedule = ' of --image_size_schedule' if batch_size else ''
    raise ValueError(
      f'--global_batch_size={whole}{of_schedule} cannot be divided among {num_replicas} '
      f'replicas{by}: choose {" or ".join(map(str, nearest))}'
    )
  return each
