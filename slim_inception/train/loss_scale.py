"""Dynamic loss scaling: float16 gradients below 6e-8 are 0, so the loss is scaled up before them.

As in "Mixed Precision Training" (arXiv:1710.03740 section 3.2) and NVIDIA's Apex: a step whose
gradients overflow is skipped and the scale halved; after enough good steps it is doubled.
"""

from collections.abc import Sequence

import tensorflow as tf

from slim_inception.constants import LOSS_SCALE, LOSS_SCALE_GOOD_STEPS, OVERFLOW_STEPS

GROWTH_STEPS = 2000
_INITIAL_SCALE = 2.0**15


class LossScale(tf.Module):
  """The scale and its counters; create it in `strategy.scope()`."""

  def __init__(self):
    super().__init__()
    self.scale = _variable(LOSS_SCALE, tf.constant(_INITIAL_SCALE))
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
  return tf.Variable(
    value,
    trainable=False,
    name=name,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )
