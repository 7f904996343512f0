"""Batch normalization as slim's (arXiv:1502.03167), on TensorFlow's fused kernel."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from . import recompute, slim
from .layer_support import (
  ONES,
  ZEROS,
  Collections,
  Initializer,
  Regularizer,
  channels_of,
  check_data_format,
  collect,
  model_variable,
  shared_tensor,
)
from .replicas import sum_over_replicas


@slim.layer
def batch_norm(
  inputs: tf.Tensor,
  decay: float = 0.999,
  center: bool = True,
  scale: bool = False,
  epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
  param_initializers: dict[str, Initializer] | None = None,
  param_regularizers: dict[str, Regularizer] | None = None,
  updates_collections: Collections = tf.compat.v1.GraphKeys.UPDATE_OPS,
  is_training: bool | tf.Tensor = True,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  batch_weights: None = None,
  fused: bool | None = None,
  data_format: str | None = 'NHWC',
  zero_debias_moving_mean: bool = False,
  scope: str | None = None,
  renorm: bool = False,
  renorm_clipping: None = None,
  renorm_decay: float = 0.99,
  adjustment: None = None,
  frozen: bool = False,
  synchronized: bool = False,
) -> tf.Tensor:
  """Batch normalization (arXiv:1502.03167), moving averages included.

  Training normalizes with the statistics of the batch and moves the averages:
  `moving -= (1 - decay) * (moving - batch)`. The fused kernel feeds `moving_variance` with the
  unbiased variance (n - 1), as slim's does; `fused=False` with the biased one, as slim's does.

  Args:
    inputs: [N, H, W, C] or [N, C], any float type; statistics are float32.
    center: adds `beta`.
    scale: multiplies by `gamma`; the released Inception checkpoints have none.
    updates_collections: in a TF1 graph, where the update ops go (the training op must depend on
      them); None updates in place. In TF2 the updates are always in place.
    is_training: a bool, or a scalar bool tensor (then both ways are built).
    frozen: normalizes with the moving averages in training too, moves them no more, and trains
      neither `beta` nor `gamma`. (slim's `trainable=False` lets the averages move.)
    synchronized: training takes the statistics of the batches of all replicas together: R of N
      images are as one of R * N. For layers of a `Model`, in the replica context of a strategy.
    scope: the variable scope of `beta`, `gamma`, `moving_mean`, `moving_variance`, each [C].

  Returns:
    The normalized tensor: shape and type of `inputs`.

  Raises:
    ValueError: `inputs` has neither 2 nor 4 dimensions, or its channels are unknown, or one of
      slim's extras is asked for, or `synchronized` with a tensor `is_training`.
  """
  if batch_weights is not None or zero_debias_moving_mean or renorm or adjustment is not None:
    raise ValueError(
      'batch_norm has no batch_weights, zero_debias_moving_mean, renorm or adjustment: leave them '
      'at their defaults'
    )
  if frozen:
    is_training = trainable = False
  if synchronized and tf.is_tensor(is_training):
    raise ValueError('batch_norm with synchronized=True takes a bool as is_training, no tensor')
  inputs = tf.convert_to_tensor(inputs)
  data_format = check_data_format(data_format)
  rank = inputs.shape.rank
  if rank not in (2, 4):
    raise ValueError(f'batch_norm takes 2 or 4 dimensions; the shape is {inputs.shape}')
  if rank == 2:
    data_format = 'NHWC'
  with tf.compat.v1.variable_scope(scope, 'BatchNorm', [inputs], reuse=reuse) as sc:
    own = _make_variables(
      channels_of(inputs, data_format),
      center,
      scale,
      param_initializers or {},
      param_regularizers or {},
      variables_collections,
      trainable,
    )
    kernel = _choose_kernel(fused, synchronized and bool(is_training))
    images = inputs if rank == 4 else inputs[:, tf.newaxis, tf.newaxis, :]
    outputs, mean, variance = _normalize(kernel, images, own, is_training, epsilon, data_format)
    if tf.is_tensor(is_training):
      decay = tf.where(is_training, decay, 1.0)
    if tf.is_tensor(is_training) or is_training:
      updates = [
        _move(moving, batch, decay)
        for moving, batch in ((own.moving_mean, mean), (own.moving_variance, variance))
      ]
      outputs = _schedule(updates, updates_collections, outputs)

    outputs = outputs if rank == 4 else tf.squeeze(outputs, (1, 2))
    outputs.set_shape(inputs.shape)
    if activation_fn is not None:
      outputs = recompute.run_activation(activation_fn, outputs)
    return collect(outputs, outputs_collections, sc.name)


def _move(moving: tf.Variable, batch: tf.Tensor, decay: float | tf.Tensor) -> Any:
  """moving -= (1 - decay) * (moving - batch)."""
  delta = moving - batch
  if tf.is_tensor(decay) or not tf.compat.v1.executing_eagerly_outside_functions():
    return moving.assign_sub((1.0 - decay) * delta, read_value=False)
  share = shared_tensor(('share', decay), lambda: tf.constant(1.0 - decay))
  return moving.assign_sub(share * delta, read_value=False)


class Variables(NamedTuple):
  """What a batch norm owns, each [C] float32; beta 0 and gamma 1 where it has none."""

  beta: tf.Variable | tf.Tensor
  gamma: tf.Variable | tf.Tensor
  moving_mean: tf.Variable
  moving_variance: tf.Variable


def _make_variables(
  channels: int,
  center: bool,
  scale: bool,
  initializers: dict[str, Initializer],
  regularizers: dict[str, Regularizer],
  collections: Collections | dict[str, Collections],
  trainable: bool,
) -> Variables:
  def variable(name: str, default: Initializer, **kwargs: Any) -> tf.Variable:
    return model_variable(name, (channels,), initializers.get(name, default), collections, **kwargs)

  def parameter(name: str, default: Initializer, is_variable: bool) -> tf.Variable | tf.Tensor:
    if not is_variable:
      make = functools.partial(default, (channels,), tf.float32)
      return shared_tensor((default, channels), make)
    return variable(name, default, regularizer=regularizers.get(name), trainable=trainable)

  statistic = functools.partial(
    variable,
    trainable=False,
    # Each replica moves its own average; reading or saving takes their mean.
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.MEAN,
  )
  beta, gamma = parameter('beta', ZEROS, center), parameter('gamma', ONES, scale)
  # A partitioned variable cannot be assigned to as a whole; slim exempts these two as well.
  with tf.compat.v1.variable_scope(
    tf.compat.v1.get_variable_scope(), auxiliary_name_scope=False
  ) as statistics_scope:
    statistics_scope.set_partitioner(None)
    return Variables(
      beta, gamma, statistic('moving_mean', ZEROS), statistic('moving_variance', ONES)
    )


Statistics = tuple[tf.Tensor, tf.Tensor] | None
# Images, variables, statistics (None: those of the batch), epsilon and data format -> output, mean
# and variance.
Kernel = Callable[
  [tf.Tensor, Variables, Statistics, float, str], tuple[tf.Tensor, tf.Tensor, tf.Tensor]
]


def _choose_kernel(fused: bool | None, synchronized: bool) -> Kernel:
  replica = tf.distribute.get_replica_context()
  if synchronized and replica and replica.num_replicas_in_sync > 1:
    return functools.partial(_batch_norm_synchronized, unbiased=fused is not False)
  return _batch_norm_by_moments if fused is False else _batch_norm_fused


def _normalize(
  kernel: Kernel,
  images: tf.Tensor,
  own: Variables,
  is_training: bool | tf.Tensor,
  epsilon: float,
  data_format: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Output, mean and variance: in training those of the batch, else the moving averages."""

  def by_batch() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return kernel(images, own, None, epsilon, data_format)

  def by_averages() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # Not the kernel's own statistics: at inference cuDNN leaves them unwritten.
    moving = tf.convert_to_tensor(own.moving_mean), tf.convert_to_tensor(own.moving_variance)
    return kernel(images, own, moving, epsilon, data_format)[0], *moving

  if tf.is_tensor(is_training):
    return tf.cond(is_training, by_batch, by_averages)
  return by_batch() if is_training else by_averages()


def _batch_norm_fused(
  images: tf.Tensor, own: Variables, moving: Statistics, epsilon: float, data_format: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Output, mean and variance; `moving` statistics None means those of the batch."""
  none = functools.partial(shared_tensor, 'none', lambda: tf.constant([]))

  def normalize(images: tf.Tensor, beta: tf.Tensor, gamma: tf.Tensor, *moving: tf.Tensor):
    mean, variance = moving or (none(), none())
    return tf.compat.v1.nn.fused_batch_norm(
      images, gamma, beta, mean, variance, epsilon, data_format, is_training=not moving
    )

  return recompute.run(normalize, [images], [own.beta, own.gamma, *(moving or ())])


def _batch_norm_by_moments(
  images: tf.Tensor, own: Variables, moving: Statistics, epsilon: float, data_format: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """As `_batch_norm_fused`, with the biased variance of the batch."""

  def normalize(images: tf.Tensor, beta: tf.Tensor, gamma: tf.Tensor, *moving: tf.Tensor):
    images_f32 = _to_nhwc_f32(images, data_format)
    mean, variance = moving or tf.nn.moments(images_f32, (0, 1, 2))
    outputs = tf.nn.batch_normalization(images_f32, mean, variance, beta, gamma, epsilon)
    return _like(outputs, images, data_format), tf.identity(mean), tf.identity(variance)

  return recompute.run(normalize, [images], [own.beta, own.gamma, *(moving or ())])


def _batch_norm_synchronized(
  images: tf.Tensor, own: Variables, moving: None, epsilon: float, data_format: str, unbiased: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """As `_batch_norm_fused` in training, with the batches of all replicas as one."""

  def normalize(images: tf.Tensor, *statistics_and_own: tf.Tensor) -> tf.Tensor:
    images_f32 = _to_nhwc_f32(images, data_format)
    outputs = tf.nn.batch_normalization(images_f32, *statistics_and_own, epsilon)
    return _like(outputs, images, data_format)

  mean, variance, number = _moments_of_all_replicas(_to_nhwc_f32(images, data_format))
  outputs = recompute.run(normalize, [images], [mean, variance, own.beta, own.gamma])
  if unbiased:
    variance *= number / tf.maximum(number - 1.0, 1.0)
  return outputs, mean, variance


def _moments_of_all_replicas(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Mean and biased variance, [C] each, and how many values a channel has; one collective.

  The variance is that within the replicas plus that of their means. The mean of all squares less
  the square of the mean would be simpler, but float32 sums of 80,000 values make it wrong by 6e-4
  where the mean is 10 deviations, and by 5 % at 100; this is wrong by 1e-5 and 2e-3.
  """
  channels = images.shape[-1]
  number = tf.cast(tf.size(images) // channels, tf.float32)
  mean, within = tf.nn.moments(images, (0, 1, 2))
  sums = number * tf.concat([mean, within, mean**2, [1.0]], 0)
  with slim.put_aside():  # the other replicas come here in their own threads
    (sums,) = sum_over_replicas([sums])
  number = sums[-1]
  mean, within, squares = tf.split(sums[:-1] / number, 3)
  between = tf.maximum(squares - mean**2, 0.0)  # a difference: rounding may go below 0
  return mean, within + between, number


def _to_nhwc_f32(images: tf.Tensor, data_format: str) -> tf.Tensor:
  images = tf.cast(images, tf.float32)
  return tf.transpose(images, (0, 2, 3, 1)) if data_format == 'NCHW' else images


def _like(outputs: tf.Tensor, images: tf.Tensor, data_format: str) -> tf.Tensor:
  """NHWC float32 in the order and type of `images`."""
  if data_format == 'NCHW':
    outputs = tf.transpose(outputs, (0, 3, 1, 2))
  return tf.cast(outputs, images.dtype)


def _schedule(updates: list, collections: Collections, outputs: tf.Tensor) -> tf.Tensor:
  """Sees to it that `updates` run; returns `outputs`, depending on them where that is the way."""
  if tf.compat.v1.executing_eagerly_outside_functions():
    return outputs  # eager ran them; a tf.function runs every assignment it traced
  if collections is not None:
    for update in updates:
      tf.compat.v1.add_to_collections(collections, update)
    return outputs
  with tf.control_dependencies(updates):
    return tf.identity(outputs)
