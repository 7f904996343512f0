"""The arg scopes of the Inception nets."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from . import build, layers, slim
from .net import ArgScope


def inception_arg_scope(
  weight_decay: float = 0.00004,
  use_batch_norm: bool = True,
  batch_norm_decay: float = 0.9997,
  batch_norm_epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
  batch_norm_scale: bool = False,
) -> ArgScope:
  """The default arguments of the layers of Inception-v1 to -v4, as slim's.

  Args:
    weight_decay: factor of the L2 loss of convolution and fully connected weights.
    use_batch_norm: False gives convolutions biases instead.
    batch_norm_decay: of the moving averages. 0.9997 suits 100,000 steps and more; after a few
      hundred the averages are still near their start and evaluation is at chance: 0.9 to 0.99.
    batch_norm_epsilon: added to the variance.
    activation_fn: of the convolutions.
    batch_norm_updates_collections: see `layers.batch_norm`.
    batch_norm_scale: adds `gamma`, which the released checkpoints do not have.

  Returns:
    For `with slim.arg_scope(...):`.
  """
  return make_arg_scope(
    {'weights_regularizer': slim.l2_regularizer(float(weight_decay))},
    {'weights_initializer': slim.variance_scaling_initializer(), 'activation_fn': activation_fn},
    batch_norm_arguments(
      use_batch_norm,
      batch_norm_decay,
      batch_norm_epsilon,
      batch_norm_updates_collections,
      batch_norm_scale,
    ),
  )


def make_arg_scope(
  both: dict[str, Any], conv: dict[str, Any], normalizer: dict[str, Any]
) -> ArgScope:
  """An arg scope: `both` for convolutions and fully connected layers, the rest for the former."""
  with (
    slim.exclusively(),
    slim.arg_scope([layers.conv2d, layers.fully_connected], **both),
    slim.arg_scope([layers.conv2d], **conv, **normalizer) as scope,
  ):
    return scope


def with_frozen_batch_norm(arg_scope: ArgScope) -> ArgScope:
  """An arg scope in which batch norm stays as it was restored, in training too."""
  return _with(arg_scope, layers.batch_norm, frozen=True)


def with_synchronized_batch_norm(arg_scope: ArgScope) -> ArgScope:
  """An arg scope in which the batches of all replicas are one to batch norm in training."""
  return _with(arg_scope, layers.batch_norm, synchronized=True)


def with_counted_padding(arg_scope: ArgScope) -> ArgScope:
  """An arg scope whose average pools count the zeros around the image: see `layers.avg_pool2d`."""
  return _with(arg_scope, layers.avg_pool2d, count_padding=True)


def with_recomputed_gradients(arg_scope: ArgScope) -> ArgScope:
  """An arg scope in which training keeps the outputs of most convolutions, and little else.

  Batch norm, ReLU, pools, concatenations and convolutions of few products a value are computed
  again for the gradients (gradient checkpointing, arXiv:1604.06174): see `nets.recompute`.
  Gradients are the same, and batch norm moves its averages once. For models (`create_model`).
  """
  return _with(arg_scope, build.run_unit, forget=True)


def with_stochastic_depth(arg_scope: ArgScope, rate: float) -> ArgScope:
  """An arg scope in which training drops residuals: see `layers.drop_path`.

  Args:
    arg_scope: of a net that has residuals; of others nothing changes.
    rate: the probability that an image loses the last residual; at least 0, below 1.

  Raises:
    ValueError: another `rate`.
  """
  if not 0 <= rate < 1:  # NaN too
    raise ValueError(f'rate is {rate}; it must be at least 0 and below 1')
  return _with(arg_scope, layers.drop_path, rate=rate)


def _with(arg_scope: ArgScope, layer: Callable, **arguments: float) -> ArgScope:
  with (
    slim.exclusively(),
    slim.arg_scope(arg_scope),
    slim.arg_scope([layer], **arguments) as scope,
  ):
    return scope


def batch_norm_arguments(
  use_batch_norm: bool, decay: float, epsilon: float, updates_collections: str | None, scale: bool
) -> dict[str, Any]:
  """`normalizer_fn` and `normalizer_params` of a layer; none without batch norm."""
  if not use_batch_norm:
    return {'normalizer_fn': None, 'normalizer_params': {}}
  params = {
    'decay': decay,
    'epsilon': epsilon,
    'updates_collections': updates_collections,
    'fused': None,
    'scale': scale,
  }
  return {'normalizer_fn': layers.batch_norm, 'normalizer_params': params}
