"""slim's seven optimizers in TF1's form: TF1's kernels, slot names and initial values.

Keras' RMSprop is another rule (its epsilon stands outside the root, its averages start at zero):
with the papers' epsilon of 1.0 the difference is large. The kernels here are those that
`tf.compat.v1.train` runs; calling them directly leaves out its second sum over the replicas and
gives the slots the names by which slim's checkpoints know them, e.g. `<variable>/RMSProp_1`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from training.config import Config

ops = tf.raw_ops


class Slot(NamedTuple):
  """A variable beside each trained variable: `<variable>/<suffix>`."""

  suffix: str
  initial_value: Callable[[Config], float]


class Rule(NamedTuple):
  """An optimizer."""

  slots: tuple[Slot, ...]
  # (config, step, handle of the variable, handles of its slots, gradient, learning rate)
  apply: Callable[..., tf.Operation]


def _zero(config: Config) -> float:
  return 0.0


def _adam(config: Config, step, var, slots, grad, lr):
  beta1_power, beta2_power = adam_powers(config, step + 1)
  return ops.ResourceApplyAdam(
    var=var,
    m=slots[0],
    v=slots[1],
    beta1_power=beta1_power,
    beta2_power=beta2_power,
    lr=lr,
    beta1=config.adam_beta1,
    beta2=config.adam_beta2,
    epsilon=config.opt_epsilon,
    grad=grad,
  )


def adam_powers(config: Config, updates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """beta1 and beta2 to the power of `updates`: 'beta1_power' and 'beta2_power' of a checkpoint."""
  exponent = tf.cast(updates, tf.float32)
  return tf.pow(config.adam_beta1, exponent), tf.pow(config.adam_beta2, exponent)


RULES: dict[str, Rule] = {
  'adadelta': Rule(
    (Slot('Adadelta', _zero), Slot('Adadelta_1', _zero)),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyAdadelta(
      var=var,
      accum=slots[0],
      accum_update=slots[1],
      lr=lr,
      rho=c.adadelta_rho,
      epsilon=c.opt_epsilon,
      grad=grad,
    ),
  ),
  'adagrad': Rule(
    (Slot('Adagrad', lambda c: c.adagrad_initial_accumulator_value),),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyAdagrad(
      var=var, accum=slots[0], lr=lr, grad=grad
    ),
  ),
  'adam': Rule((Slot('Adam', _zero), Slot('Adam_1', _zero)), _adam),
  'ftrl': Rule(
    (Slot('Ftrl', lambda c: c.ftrl_initial_accumulator_value), Slot('Ftrl_1', _zero)),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyFtrl(
      var=var,
      accum=slots[0],
      linear=slots[1],
      grad=grad,
      lr=lr,
      l1=c.ftrl_l1,
      l2=c.ftrl_l2,
      lr_power=c.ftrl_learning_rate_power,
    ),
  ),
  'momentum': Rule(
    (Slot('Momentum', _zero),),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyMomentum(
      var=var, accum=slots[0], lr=lr, grad=grad, momentum=c.momentum
    ),
  ),
  'rmsprop': Rule(
    (Slot('RMSProp', lambda config: 1.0), Slot('RMSProp_1', _zero)),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyRMSProp(
      var=var,
      ms=slots[0],
      mom=slots[1],
      lr=lr,
      rho=c.rmsprop_decay,
      momentum=c.rmsprop_momentum,
      epsilon=c.opt_epsilon,
      grad=grad,
    ),
  ),
  'sgd': Rule(
    (),
    lambda c, step, var, slots, grad, lr: ops.ResourceApplyGradientDescent(
      var=var, alpha=lr, delta=grad
    ),
  ),
}


class Optimizer(tf.Module):
  """Applies gradients to variables; create it in `strategy.scope()`.

  Args:
    config: chooses the rule and its numbers.
    variables: {name: variable} to train.
  """

  def __init__(self, config: Config, variables: Mapping[str, tf.Variable]):
    super().__init__()
    self._config = config
    self._rule = RULES[config.optimizer]
    self._variables = dict(variables)
    self.slots: dict[str, tf.Variable] = {}  # by checkpoint name
    for name, variable in self._variables.items():
      for slot in self._rule.slots:
        slot_name = f'{name}/{slot.suffix}'
        value = tf.fill(variable.shape, slot.initial_value(config))
        self.slots[slot_name] = tf.Variable(value, trainable=False, name=slot_name)

  def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, learning_rate: tf.Tensor):
    """Updates every variable; called in replica context.

    Args:
      gradients: of the variables in their order, already summed over the replicas.
      step: int64 scalar, from 0.
      learning_rate: float32 scalar.
    """
    replica_context = tf.distribute.get_replica_context()
    replica_context.merge_call(self._update, args=(list(gradients), step, learning_rate))

  def _update(self, strategy: tf.distribute.Strategy, gradients, step, learning_rate) -> None:
    def update(variable, gradient, step, learning_rate, *slots):
      handles = [slot.handle for slot in slots]
      return self._rule.apply(self._config, step, variable.handle, handles, gradient, learning_rate)

    for (name, variable), gradient in zip(self._variables.items(), gradients, strict=True):
      slots = [self.slots[f'{name}/{slot.suffix}'] for slot in self._rule.slots]
      strategy.extended.update(variable, update, args=(gradient, step, learning_rate, *slots))
