"""slim's seven optimizers in TF1's form (TF1's kernels, slot names and initial values), and three.

Keras' RMSprop is another rule (its epsilon stands outside the root, its averages start at zero):
with the papers' epsilon of 1.0 the difference is large. The kernels here are those that
`tf.compat.v1.train` runs; calling them directly leaves out its second sum over the replicas and
gives the slots the names by which slim's checkpoints know them, e.g. `<variable>/RMSProp_1`.

AdamW, LAMB and LARS apply --weight_decay themselves, in place of the L2 loss, and to the variables
that would have it: weights, neither biases nor batch norm. LAMB and LARS adapt the length of the
steps of the same variables.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from slim_inception.nets import initial_values
from slim_inception.train.flag_groups import OptimizerConfig

ops = tf.raw_ops


class Slot(NamedTuple):
  """A variable beside each trained variable: `<variable>/<suffix>`."""

  suffix: str
  initial_value: Callable[[OptimizerConfig], float] = lambda config: 0.0


# What the variables share in a step; one tensor for all keeps a graph, and its tracing, small.
Numbers = Mapping[str, float | tf.Tensor]


class Rule(NamedTuple):
  """An optimizer."""

  slots: tuple[Slot, ...]
  # (config, the shared numbers, handle of the variable, handles of its slots, gradient, learning
  # rate), and with `own_decay` whether the variable decays
  apply: Callable[..., tf.Operation]
  own_decay: bool = False  # applies --weight_decay itself
  # (config, step)
  shared: Callable[[OptimizerConfig, tf.Tensor], Numbers] = lambda config, step: {}


def _kernel(
  kernel: Callable[..., tf.Operation],
  slots: Mapping[str, Slot],
  numbers: Callable[[OptimizerConfig], dict[str, float]],
) -> Rule:
  """The rule of a kernel that takes `var`, `grad`, `lr`, these slots and these numbers."""

  def apply(config: OptimizerConfig, shared: Numbers, var, handles, grad, lr) -> tf.Operation:
    return kernel(var=var, grad=grad, lr=lr, **dict(zip(slots, handles, strict=True)), **shared)

  return Rule(tuple(slots.values()), apply, shared=lambda config, step: numbers(config))


def _shared_of_adam(config: OptimizerConfig, step: tf.Tensor) -> Numbers:
  beta1_power, beta2_power = adam_powers(config, step + 1)
  of_adam = config.optimizer == 'adam'
  return {
    'beta1_power': beta1_power,
    'beta2_power': beta2_power,
    'beta1': config.adam_beta1,
    'beta2': config.adam_beta2,
    'epsilon': config.opt_epsilon if of_adam else config.adamw_epsilon,
  }


def _adam(config: OptimizerConfig, shared: Numbers, var, slots, grad, lr):
  return ops.ResourceApplyAdam(var=var, m=slots[0], v=slots[1], lr=lr, grad=grad, **shared)


def _adamw(config: OptimizerConfig, shared: Numbers, var, slots, grad, lr, decays):
  """arXiv:1711.05101 with the learning rate as a factor of the decay, as in Keras and PyTorch."""
  if decays:
    _subtract(var, lr * config.weight_decay * _read(var))
  return _adam(config, shared, var, slots, grad, lr)


def _lamb(config: OptimizerConfig, shared: Numbers, var, slots, grad, lr, decays):
  """arXiv:1904.00962 Algorithm 2: Adam's direction plus decay, as long as the weight x lr."""
  value = _read(var)
  m = config.adam_beta1 * _read(slots[0]) + (1.0 - config.adam_beta1) * grad
  v = config.adam_beta2 * _read(slots[1]) + (1.0 - config.adam_beta2) * tf.square(grad)
  direction = m / (1.0 - shared['beta1_power'])
  direction /= tf.sqrt(v / (1.0 - shared['beta2_power'])) + shared['epsilon']
  if decays:
    direction += config.weight_decay * value
    direction *= _ratio(tf.norm(value), tf.norm(direction))
  ops.AssignVariableOp(resource=slots[0], value=m)
  ops.AssignVariableOp(resource=slots[1], value=v)
  return _subtract(var, lr * direction)


def _lars(config: OptimizerConfig, shared: Numbers, var, slots, grad, lr, decays):
  """arXiv:1708.03888 Algorithm 1: momentum of steps that are a share of the weight long."""
  if decays:
    value = _read(var)
    length = tf.norm(value)
    lr *= _ratio(
      config.lars_trust_coefficient * length, tf.norm(grad) + config.weight_decay * length
    )
    grad += config.weight_decay * value
  momentum = config.momentum * _read(slots[0]) + lr * grad
  ops.AssignVariableOp(resource=slots[0], value=momentum)
  return _subtract(var, momentum)


def _ratio(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
  """1 where either is 0: at a weight of 0, or without a gradient."""
  is_usual = tf.logical_and(numerator > 0.0, denominator > 0.0)
  return tf.where(is_usual, tf.math.divide_no_nan(numerator, denominator), 1.0)


def _read(handle: tf.Tensor) -> tf.Tensor:
  return ops.ReadVariableOp(resource=handle, dtype=tf.float32)


def _subtract(handle: tf.Tensor, value: tf.Tensor) -> tf.Operation:
  return ops.AssignSubVariableOp(resource=handle, value=value)


def adam_powers(config: OptimizerConfig, updates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """beta1 and beta2 to the power of `updates`: 'beta1_power' and 'beta2_power' of a checkpoint."""
  exponent = tf.cast(updates, tf.float32)
  return tf.pow(config.adam_beta1, exponent), tf.pow(config.adam_beta2, exponent)


RULES: dict[str, Rule] = {
  'adadelta': _kernel(
    ops.ResourceApplyAdadelta,
    {'accum': Slot('Adadelta'), 'accum_update': Slot('Adadelta_1')},
    lambda config: {'rho': config.adadelta_rho, 'epsilon': config.opt_epsilon},
  ),
  'adagrad': _kernel(
    ops.ResourceApplyAdagrad,
    {'accum': Slot('Adagrad', lambda config: config.adagrad_initial_accumulator_value)},
    lambda config: {},
  ),
  'adam': Rule((Slot('Adam'), Slot('Adam_1')), _adam, shared=_shared_of_adam),
  'adamw': Rule((Slot('AdamW'), Slot('AdamW_1')), _adamw, own_decay=True, shared=_shared_of_adam),
  'ftrl': _kernel(
    ops.ResourceApplyFtrl,
    {
      'accum': Slot('Ftrl', lambda config: config.ftrl_initial_accumulator_value),
      'linear': Slot('Ftrl_1'),
    },
    lambda config: {
      'l1': config.ftrl_l1,
      'l2': config.ftrl_l2,
      'lr_power': config.ftrl_learning_rate_power,
    },
  ),
  'lamb': Rule((Slot('LAMB'), Slot('LAMB_1')), _lamb, own_decay=True, shared=_shared_of_adam),
  'lars': Rule((Slot('LARS'),), _lars, own_decay=True),
  'momentum': _kernel(
    ops.ResourceApplyMomentum,
    {'accum': Slot('Momentum')},
    lambda config: {'momentum': config.momentum},
  ),
  'rmsprop': _kernel(
    ops.ResourceApplyRMSProp,
    {'ms': Slot('RMSProp', lambda config: 1.0), 'mom': Slot('RMSProp_1')},
    lambda config: {
      'rho': config.rmsprop_decay,
      'momentum': config.rmsprop_momentum,
      'epsilon': config.opt_epsilon,
    },
  ),
  'sgd': Rule(
    (),
    lambda config, shared, var, slots, grad, lr: ops.ResourceApplyGradientDescent(
      var=var, alpha=lr, delta=grad
    ),
  ),
}


class Optimizer(tf.Module):
  """Applies gradients to variables; create it in `strategy.scope()`.

  Args:
    config: chooses the rule and its numbers.
    variables: {name: variable} to train.
    decayed: names of the variables that weight decay is for.
    rows: scopes of the net's rows from the image on, for --layer_decay.

  Attributes:
    scales: factors of the learning rate by variable; those that have none are left out.

  Raises:
    ValueError: --learning_rate_scales names a scope without variables.
  """

  def __init__(
    self,
    config: OptimizerConfig,
    variables: Mapping[str, tf.Variable],
    decayed: Collection[str] = (),
    rows: Sequence[str] = (),
  ):
    super().__init__()
    self._config = config
    self._rule = RULES[config.optimizer]
    self._variables = dict(variables)
    self._decayed = frozenset(decayed)
    self.scales = scale_learning_rates(config, self._variables, rows)
    self.slots: dict[str, tf.Variable] = {}  # by checkpoint name
    for name, variable in self._variables.items():
      for slot in self._rule.slots:
        value = functools.partial(tf.fill, variable.shape, slot.initial_value(config))
        # A name of its own would cost TensorFlow 0.3 ms; checkpoints have those of this dictionary.
        self.slots[f'{name}/{slot.suffix}'] = initial_values.variable(
          value, variable.shape, trainable=False
        )

  def apply(
    self,
    gradients: Sequence[tf.Tensor],
    step: tf.Tensor,
    learning_rate: tf.Tensor,
    is_wanted: tf.Tensor | None = None,
    names: Collection[str] | None = None,
  ) -> None:
    """Updates the variables; called in replica context.

    Args:
      gradients: of the variables in their order, already summed over the replicas.
      step: int64 scalar, from 0.
      learning_rate: float32 scalar.
      is_wanted: bool scalar; False leaves everything as it is.
      names: of the variables that the gradients are of; None: all.
    """
    own = [name for name in self._variables if names is None or name in names]
    numbers = self._rule.shared(self._config, step)
    shared = {key: tf.convert_to_tensor(number, tf.float32) for key, number in numbers.items()}
    for name, gradient in zip(own, gradients, strict=True):
      arguments = name, gradient, learning_rate, shared
      if is_wanted is None:
        self._update(*arguments)
      else:
        tf.cond(is_wanted, functools.partial(self._updated, *arguments), lambda: False)

  def _updated(self, *arguments: Any) -> bool:
    self._update(*arguments)
    return True

  def _update(
    self, name: str, gradient: tf.Tensor, learning_rate: tf.Tensor, shared: Numbers
  ) -> tf.Operation:
    # tf.raw_ops are public and want a resource, which a variable has as its `handle` alone, of a
    # mirrored one that of this replica. All replicas do the same: their gradients are sums.
    if name in self.scales:
      learning_rate *= self.scales[name]
    slots = [self.slots[f'{name}/{slot.suffix}'].handle for slot in self._rule.slots]
    decays = (name in self._decayed,) if self._rule.own_decay else ()
    handle = self._variables[name].handle
    return self._rule.apply(self._config, shared, handle, slots, gradient, learning_rate, *decays)


def scale_learning_rates(
  config: OptimizerConfig, names: Collection[str], rows: Sequence[str] = ()
) -> dict[str, float]:
  """The factors of --learning_rate_scales and --layer_decay by variable.

  Args:
    config: the flags.
    names: of the variables.
    rows: see `layer_scales`.

  Returns:
    {name: factor}; variables that have none are left out.

  Raises:
    ValueError: no variable is in one of the scopes of --learning_rate_scales.
  """
  check_scopes('--learning_rate_scales', [scope for scope, _ in config.learning_rate_scales], names)
  factors: dict[str, float] = {}
  for scope, factor in (*config.learning_rate_scales, *layer_scales(config, names, rows)):
    inside = [name for name in names if name.startswith(scope)]
    factors = {**dict.fromkeys(inside, factor), **factors}  # the first that fits stays
  return factors


def layer_scales(
  config: OptimizerConfig, names: Collection[str], rows: Sequence[str]
) -> list[tuple[str, float]]:
  """Scopes and factors of --layer_decay: decay^k for the row k below the heads (arXiv:2106.08254).

  Rows without variables, pools, do not count. What is in no row, the heads, has no factor.

  Args:
    config: the flags.
    names: of the variables.
    rows: scopes of the net's rows from the image on, each with a slash at its end.
  """
  if config.layer_decay == 1:
    return []
  having = [row for row in rows if any(name.startswith(row) for name in names)]
  return [(row, config.layer_decay ** (len(having) - i)) for i, row in enumerate(having)]


def check_scopes(flag: str, scopes: Iterable[str], names: Collection[str]) -> None:
  """Raises ValueError, naming the flag, where a scope has none of these variables."""
  for scope in scopes:
    if not any(name.startswith(scope) for name in names):
      known = sorted({'/'.join(name.split('/')[:2]) for name in names})
      raise ValueError(f'{flag}: {scope} has no variable; scopes are {", ".join(known)}')
