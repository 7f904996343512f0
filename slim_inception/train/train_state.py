"""The variables of a run, by the names that they have in slim's checkpoints."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from slim_inception.constants import (
  GLOBAL_STEP,
  INPUT_POSITION,
  LOSS_SCALE,
  LOSS_SCALE_GOOD_STEPS,
  OVERFLOW_STEPS,
  TRAINED_IMAGES,
)
from slim_inception.nets import checkpoints, initial_values
from slim_inception.nets.model import Model
from slim_inception.train.config import Config
from slim_inception.train.optimizers import Optimizer, adam_powers, check_scopes

GROWTH_STEPS = 2000
_COUNTERS = (GLOBAL_STEP, INPUT_POSITION, TRAINED_IMAGES)


class Counters(NamedTuple):
  """How far a run is.

  Attributes:
    step: updates made.
    record_index: records gone through, over all epochs: where the data go on.
    images: images trained on, by which epochs are counted. They are the records without what was
      skipped: broken images and, after going back, bad batches. Unlike the record index they are
      known before a step without waiting for the one before.
  """

  step: int = 0
  record_index: int = 0
  images: int = 0


class TrainState(tf.Module):
  """Model, slots of the optimizer and moving averages; create it in `strategy.scope()`.

  Args:
    config: the flags.
    model: the net.
    projections: variables by name that are trained beside the net, whatever --trainable_scopes
      says; checkpoints of the run have them, the net does not.
  """

  def __init__(
    self, config: Config, model: Model, projections: Mapping[str, tf.Variable] | None = None
  ):
    super().__init__()
    self._optimizer_config = config.optimizer
    self._averages_decay = config.model.moving_average_decay or None  # 0 is none too
    self.model = model
    self.projections = dict(projections or {})
    of_net = trained_variables(config.finetune.trainable_scopes, model)
    self.trained = {**of_net, **self.projections}
    self.optimizer = Optimizer(
      config.optimizer, self.trained, model.regularized_names, rows_of(model)
    )
    self.loss_scale = LossScale() if config.devices.precision == 'float16' else None
    self.averages: dict[str, tf.Variable] = {}  # by the variable's name
    if self._averages_decay is not None:
      for name, variable in model.variables_by_name.items():
        # A name of its own would cost TensorFlow 0.3 ms; checkpoints have those of this dictionary.
        self.averages[name] = initial_values.variable(
          variable.read_value,
          variable.shape,
          trainable=False,
          # As the variable: moving statistics belong to a replica, weights are mirrored.
          synchronization=variable.synchronization,
          aggregation=variable.aggregation,
        )

  def named_variables(self) -> dict[str, tf.Variable]:
    """Everything that a checkpoint holds in variables."""
    averages = {name + checkpoints.EMA_SUFFIX: v for name, v in self.averages.items()}
    scale = self.loss_scale.named_variables() if self.loss_scale else {}
    of_net = self.model.variables_by_name
    return {**of_net, **self.projections, **self.optimizer.slots, **averages, **scale}

  def is_finite(self) -> bool:
    """Whether no weight, moving statistic or projection has an infinity or a NaN."""
    variables = (*self.model.variables, *self.projections.values())
    return bool(all_finite([v.read_value() for v in variables]))

  def restart_averages(self) -> None:
    """Sets the moving averages to the variables, as after loading a checkpoint without them."""
    for name, average in self.averages.items():
      average.assign(self.model.variables_by_name[name].read_value())

  def move_averages(self, step: tf.Tensor) -> None:
    """average -= (1 - decay) * (average - variable); called in replica context."""
    if self._averages_decay is None:
      return
    share = 1.0 - averaging_decay(self._averages_decay, step)
    for name, average in self.averages.items():  # in each replica its own
      # As assign_sub, with one pass over memory less.
      tf.raw_ops.ResourceApplyGradientDescent(
        var=average.handle, alpha=share, delta=average - self.model.variables_by_name[name]
      )

  def save(self, prefix: str, counters: Counters) -> None:
    """Writes a checkpoint; raises tf.errors.OpError where the disk is full."""
    numbers = dict(zip(_COUNTERS, (tf.constant(n, tf.int64) for n in counters), strict=True))
    if self._optimizer_config.optimizer == 'adam':
      powers = adam_powers(self._optimizer_config, tf.constant(counters.step + 1))
      numbers |= dict(zip(('beta1_power', 'beta2_power'), powers, strict=True))
    checkpoints.save(prefix, {**self.named_variables(), **numbers})

  def restore(self, prefix: str) -> tuple[str, ...]:
    """Loads a checkpoint of this run, or of slim's.

    Returns:
      The names of slots and averages that it does not have: another optimizer's for example.

    Raises:
      ValueError: it is damaged or another net's.
    """
    checkpoints.restore(self.model.variables_by_name, prefix)
    stored = checkpoints.shapes(prefix)
    rest = {
      name: variable
      for name, variable in self.named_variables().items()
      if name not in self.model.variables_by_name
    }
    fresh = tuple(name for name in rest if name not in stored)
    if len(fresh) < len(rest):
      checkpoints.restore(rest, prefix, ignore_missing=True)
    if self.averages and not any(name + checkpoints.EMA_SUFFIX in stored for name in self.averages):
      self.restart_averages()
    return fresh


def averaging_decay(decay: float, step: tf.Tensor) -> tf.Tensor:
  """The decay at a step, small at first, as in tf.train.ExponentialMovingAverage."""
  step = tf.cast(step, tf.float32)
  return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def read_counters(prefix: str, global_batch_size: int) -> Counters:
  """How far a run was at its checkpoint; slim's know the step alone: all had this batch."""
  stored = checkpoints.shapes(prefix)
  values = checkpoints.read(prefix, [name for name in _COUNTERS if name in stored])
  step = int(values.get(GLOBAL_STEP, 0))
  record_index = int(values.get(INPUT_POSITION, step * global_batch_size))
  return Counters(step, record_index, int(values.get(TRAINED_IMAGES, record_index)))


def trained_variables(scopes: tuple[str, ...], model: Model) -> Mapping[str, tf.Variable]:
  """{name: variable} that --trainable_scopes leaves to train.

  Raises:
    ValueError: no variable is in one of those scopes.
  """
  trainable = {n: v for n, v in model.variables_by_name.items() if v.trainable}
  check_scopes('--trainable_scopes', scopes, trainable)
  return {n: v for n, v in trainable.items() if not scopes or n.startswith(scopes)}


def rows_of(model: Model) -> list[str]:
  """The scopes of the rows of a model's net, from the image on."""
  net = model.config.net
  return list(dict.fromkeys(f'{net.scope}/{unit.scope}/' for unit in net.body))


class LossScale(tf.Module):
  """The scale of the loss and its counters; create it in `strategy.scope()`.

  float16 gradients below 6e-8 are 0, so the loss is scaled up before them, as in "Mixed Precision
  Training" (arXiv:1710.03740 section 3.2) and NVIDIA's Apex: a step whose gradients overflow is
  skipped and the scale halved; after GROWTH_STEPS good steps it is doubled.
  """

  def __init__(self):
    super().__init__()
    self.scale = _variable(LOSS_SCALE, tf.constant(2.0**15))
    self.good_steps = _variable(LOSS_SCALE_GOOD_STEPS, tf.constant(0, tf.int64))
    self.overflow_steps = _variable(OVERFLOW_STEPS, tf.constant(0, tf.int64))

  def named_variables(self) -> dict[str, tf.Variable]:
    """By their names in a checkpoint."""
    return {
      LOSS_SCALE: self.scale,
      LOSS_SCALE_GOOD_STEPS: self.good_steps,
      OVERFLOW_STEPS: self.overflow_steps,
    }

  def unscale(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The gradients of the loss, from those of the scaled loss."""
    return [gradient / self.scale.read_value() for gradient in gradients]

  def update(self, is_finite: tf.Tensor) -> None:
    """Takes note of a step; called in replica context, with the same value in each.

    Args:
      is_finite: whether no gradient had overflown, bool scalar.
    """
    scale, good_steps = self.scale.read_value(), self.good_steps.read_value() + 1
    grows = good_steps >= GROWTH_STEPS
    grown = tf.where(grows, 2.0 * scale, scale)
    self.scale.assign(tf.where(is_finite, grown, tf.maximum(scale / 2.0, 1.0)))
    restarts = tf.logical_or(grows, tf.logical_not(is_finite))
    self.good_steps.assign(tf.where(restarts, tf.zeros_like(good_steps), good_steps))
    self.overflow_steps.assign_add(tf.where(is_finite, tf.constant(0, tf.int64), 1))


def all_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
  """Whether no tensor has an infinity or a NaN, bool scalar."""
  return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])


def _variable(name: str, value: tf.Tensor) -> tf.Variable:
  aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
  return tf.Variable(value, trainable=False, name=name, aggregation=aggregation)
