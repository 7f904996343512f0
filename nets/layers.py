"""slim's layers on tf.nn primitives: same parameters, defaults and variable names.

tf-slim's own layers fail on today's TensorFlow; its arg_scope machinery does not. Each layer here
answers to the arg-scope key of the slim op of its name, so that

    with slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(4e-5)):
      net = layers.conv2d(images, 32, 3, stride=2, scope='Conv2d_1a_3x3')

sets our convolution's defaults, and a scope over ours sets slim's. Variables are asked for through
`slim.model_variable` (tf.compat.v1.get_variable underneath): in a TF1 graph reuse, collections,
device functions and custom getters work as ever; in TF2 `nets.model.Model` answers the requests.

Variables are float32 whatever the inputs are; the computation takes the type of the inputs.
`batch_norm` leaves out slim's `batch_weights`, `renorm`, `adjustment` and
`zero_debias_moving_mean`, which no net of the family uses.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_slim as slim

Initializer = Callable[..., tf.Tensor]
Regularizer = Callable[[tf.Tensor], tf.Tensor | None]
Collections = str | Sequence[str] | None

_ZEROS = tf.compat.v1.zeros_initializer()
_ONES = tf.compat.v1.ones_initializer()
_XAVIER = slim.xavier_initializer()
_UPDATE_OPS = tf.compat.v1.GraphKeys.UPDATE_OPS


def _shares_arg_scope_with(slim_op: Callable) -> Callable[[Callable], Callable]:
  """Decorator: arg scopes over `slim_op` reach the layer, and the other way round."""

  def decorate(layer: Callable) -> Callable:
    layer._key_op = slim_op._key_op
    return slim.add_arg_scope(layer)

  return decorate


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
  """3 -> (3, 3); (1, 7), [1, 7] and TensorShape([1, 7]) -> (1, 7)."""
  if isinstance(value, tf.TensorShape):
    value = value.as_list()
  if isinstance(value, int):
    return value, value
  height, width = value
  return int(height), int(width)


def _channels(inputs: tf.Tensor, data_format: str) -> int:
  channels = inputs.shape[-1 if data_format == 'NHWC' else 1]
  if channels is None:
    raise ValueError(f'The channels of {inputs.name} must be known; its shape is {inputs.shape}')
  return channels


def _data_format(data_format: str | None) -> str:
  if data_format not in (None, 'NHWC', 'NCHW'):
    raise ValueError(f"data_format is {data_format!r}; choose 'NHWC' or 'NCHW'")
  return data_format or 'NHWC'


def _model_variable(
  name: str,
  shape: Sequence[int],
  initializer: Initializer,
  variables_collections: Collections | dict[str, Collections] = None,
  **kwargs: Any,
) -> tf.Variable:
  collections = slim.utils.get_variable_collections(variables_collections, name)
  if isinstance(collections, str):
    collections = [collections]
  return slim.model_variable(
    name, shape=shape, initializer=initializer, collections=collections, **kwargs
  )


def _is_slim_batch_norm(normalizer_fn: Callable | None) -> bool:
  return getattr(normalizer_fn, '_key_op', None) == slim.batch_norm._key_op


def _normalize(
  outputs: tf.Tensor, normalizer_fn: Callable, normalizer_params: dict[str, Any] | None
) -> tf.Tensor:
  params = dict(normalizer_params or {})
  if _is_slim_batch_norm(normalizer_fn):  # slim's own would fail: ours answers for it
    return batch_norm(outputs, **{'scope': 'BatchNorm', **params})
  return normalizer_fn(outputs, **params)


def _collect(outputs: tf.Tensor, collections: Collections, alias: str) -> tf.Tensor:
  """Adds `outputs` to graph collections under its scope's name; there are none in TF2."""
  if collections and not tf.compat.v1.executing_eagerly_outside_functions():
    slim.utils.collect_named_outputs(collections, alias, outputs)
  return outputs


@_shares_arg_scope_with(slim.conv2d)
def conv2d(
  inputs: tf.Tensor,
  num_outputs: int,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int] = 1,
  padding: str = 'SAME',
  data_format: str | None = None,
  rate: int | Sequence[int] = 1,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  normalizer_fn: Callable[..., tf.Tensor] | None = None,
  normalizer_params: dict[str, Any] | None = None,
  weights_initializer: Initializer = _XAVIER,
  weights_regularizer: Regularizer | None = None,
  biases_initializer: Initializer | None = _ZEROS,
  biases_regularizer: Regularizer | None = None,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  scope: str | None = None,
) -> tf.Tensor:
  """Convolution, then normalizer or biases, then activation.

  Args:
    inputs: [N, H, W, C], any float type ([N, C, H, W] with `data_format='NCHW'`).
    num_outputs: the number of filters.
    kernel_size: one number, or height and width.
    stride: one number, or height and width.
    padding: 'SAME' or 'VALID'.
    rate: dilation of the kernel; goes with stride 1 only.
    normalizer_fn: takes the place of the biases; `slim.batch_norm` means `layers.batch_norm`.
    scope: the variable scope: `scope/weights` [h, w, C, num_outputs], and `scope/biases` or
      `scope/BatchNorm/...`.

  Returns:
    [N, h, w, num_outputs], the type of `inputs`.

  Raises:
    ValueError: stride and rate both differ from 1, or the channels are unknown.
  """
  inputs = tf.convert_to_tensor(inputs)
  data_format = _data_format(data_format)
  kernel, stride, rate = _pair(kernel_size), _pair(stride), _pair(rate)
  if stride != (1, 1) and rate != (1, 1):
    raise ValueError(f'stride {stride} and rate {rate} can not both differ from 1')
  with tf.compat.v1.variable_scope(scope, 'Conv', [inputs], reuse=reuse) as sc:
    weights = _model_variable(
      'weights',
      (*kernel, _channels(inputs, data_format), num_outputs),
      weights_initializer,
      variables_collections,
      regularizer=weights_regularizer,
      trainable=trainable,
    )
    outputs = tf.nn.conv2d(
      inputs,
      tf.cast(weights, inputs.dtype),
      stride,
      padding,
      data_format=data_format,
      dilations=rate,
      name='Conv2D',
    )
    if normalizer_fn is not None:
      outputs = _normalize(outputs, normalizer_fn, normalizer_params)
    elif biases_initializer is not None:
      biases = _model_variable(
        'biases',
        (num_outputs,),
        biases_initializer,
        variables_collections,
        regularizer=biases_regularizer,
        trainable=trainable,
      )
      outputs = tf.nn.bias_add(outputs, tf.cast(biases, inputs.dtype), data_format=data_format)
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    return _collect(outputs, outputs_collections, sc.name)


@_shares_arg_scope_with(slim.fully_connected)
def fully_connected(
  inputs: tf.Tensor,
  num_outputs: int,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  normalizer_fn: Callable[..., tf.Tensor] | None = None,
  normalizer_params: dict[str, Any] | None = None,
  weights_initializer: Initializer = _XAVIER,
  weights_regularizer: Regularizer | None = None,
  biases_initializer: Initializer | None = _ZEROS,
  biases_regularizer: Regularizer | None = None,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  scope: str | None = None,
) -> tf.Tensor:
  """Product with [C, num_outputs] weights, then normalizer or biases, then activation.

  Args:
    inputs: [..., C], two dimensions or more.
    num_outputs: the number of units.
    normalizer_fn: takes the place of the biases; `slim.batch_norm` means `layers.batch_norm`.
    scope: the variable scope.

  Returns:
    [..., num_outputs], the type of `inputs`.

  Raises:
    ValueError: the last dimension of `inputs` is unknown.
  """
  inputs = tf.convert_to_tensor(inputs)
  with tf.compat.v1.variable_scope(scope, 'fully_connected', [inputs], reuse=reuse) as sc:
    weights = _model_variable(
      'weights',
      (_channels(inputs, 'NHWC'), num_outputs),
      weights_initializer,
      variables_collections,
      regularizer=weights_regularizer,
      trainable=trainable,
    )
    outputs = tf.linalg.matmul(inputs, tf.cast(weights, inputs.dtype))
    if normalizer_fn is not None:
      outputs = _normalize(outputs, normalizer_fn, normalizer_params)
    elif biases_initializer is not None:
      biases = _model_variable(
        'biases',
        (num_outputs,),
        biases_initializer,
        variables_collections,
        regularizer=biases_regularizer,
        trainable=trainable,
      )
      outputs = tf.nn.bias_add(outputs, tf.cast(biases, inputs.dtype))
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    return _collect(outputs, outputs_collections, sc.name)


@_shares_arg_scope_with(slim.batch_norm)
def batch_norm(
  inputs: tf.Tensor,
  decay: float = 0.999,
  center: bool = True,
  scale: bool = False,
  epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
  param_initializers: dict[str, Initializer] | None = None,
  param_regularizers: dict[str, Regularizer] | None = None,
  updates_collections: Collections = _UPDATE_OPS,
  is_training: bool | tf.Tensor = True,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  fused: bool | None = None,
  data_format: str | None = 'NHWC',
  scope: str | None = None,
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
    scope: the variable scope of `beta`, `gamma`, `moving_mean`, `moving_variance`, each [C].

  Returns:
    The normalized tensor: shape and type of `inputs`.

  Raises:
    ValueError: `inputs` has neither 2 nor 4 dimensions, or its channels are unknown.
  """
  inputs = tf.convert_to_tensor(inputs)
  data_format = _data_format(data_format)
  rank = inputs.shape.rank
  if rank not in (2, 4):
    raise ValueError(f'batch_norm takes 2 or 4 dimensions; {inputs.name} has shape {inputs.shape}')
  if rank == 2:
    data_format = 'NHWC'
  with tf.compat.v1.variable_scope(scope, 'BatchNorm', [inputs], reuse=reuse) as sc:
    shape = (_channels(inputs, data_format),)
    initializers, regularizers = param_initializers or {}, param_regularizers or {}

    def parameter(name: str, default: Initializer, wanted: bool) -> tf.Tensor:
      if not wanted:
        return default(shape, tf.float32)
      return _model_variable(
        name,
        shape,
        initializers.get(name, default),
        variables_collections,
        regularizer=regularizers.get(name),
        trainable=trainable,
      )

    def statistic(name: str, default: Initializer) -> tf.Variable:
      return _model_variable(
        name,
        shape,
        initializers.get(name, default),
        variables_collections,
        trainable=False,
        # Each replica moves its own average; reading or saving takes their mean.
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
      )

    beta = parameter('beta', _ZEROS, center)
    gamma = parameter('gamma', _ONES, scale)
    moving_mean = statistic('moving_mean', _ZEROS)
    moving_variance = statistic('moving_variance', _ONES)

    kernel = _batch_norm_by_moments if fused is False else _batch_norm_fused
    images = inputs if rank == 4 else inputs[:, tf.newaxis, tf.newaxis, :]

    def normalize(training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      moving = None if training else (moving_mean, moving_variance)
      return kernel(images, gamma, beta, moving, epsilon, data_format)

    if tf.is_tensor(is_training):
      outputs, mean, variance = tf.cond(
        is_training, lambda: normalize(True), lambda: normalize(False)
      )
      decay = tf.where(is_training, decay, 1.0)
    else:
      outputs, mean, variance = normalize(bool(is_training))
    if tf.is_tensor(is_training) or is_training:
      updates = [
        moving.assign_sub((1.0 - decay) * (moving - batch), read_value=False)
        for moving, batch in ((moving_mean, mean), (moving_variance, variance))
      ]
      outputs = _schedule(updates, updates_collections, outputs)

    outputs = outputs if rank == 4 else tf.squeeze(outputs, (1, 2))
    outputs.set_shape(inputs.shape)
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    return _collect(outputs, outputs_collections, sc.name)


Statistics = tuple[tf.Tensor, tf.Tensor] | None


def _batch_norm_fused(
  images: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  moving: Statistics,
  epsilon: float,
  data_format: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Output, mean and variance; `moving` statistics None means those of the batch."""
  mean, variance = moving or (None, None)
  return tf.compat.v1.nn.fused_batch_norm(
    images,
    gamma,
    beta,
    mean=mean,
    variance=variance,
    epsilon=epsilon,
    data_format=data_format,
    is_training=moving is None,
  )


def _batch_norm_by_moments(
  images: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  moving: Statistics,
  epsilon: float,
  data_format: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """As `_batch_norm_fused`, with the biased variance of the batch."""
  images_f32 = tf.cast(images, tf.float32)
  if data_format == 'NCHW':
    images_f32 = tf.transpose(images_f32, (0, 2, 3, 1))
  mean, variance = moving or tf.nn.moments(images_f32, (0, 1, 2))
  outputs = tf.nn.batch_normalization(images_f32, mean, variance, beta, gamma, epsilon)
  if data_format == 'NCHW':
    outputs = tf.transpose(outputs, (0, 3, 1, 2))
  return tf.cast(outputs, images.dtype), tf.identity(mean), tf.identity(variance)


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


def _pool(
  kernel: Callable,
  default_scope: str,
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int],
  padding: str,
  data_format: str | None,
  outputs_collections: Collections,
  scope: str | None,
) -> tf.Tensor:
  with tf.name_scope(scope or default_scope) as name:
    outputs = kernel(
      inputs, _pair(kernel_size), _pair(stride), padding, data_format=_data_format(data_format)
    )
    return _collect(outputs, outputs_collections, name)


@_shares_arg_scope_with(slim.max_pool2d)
def max_pool2d(
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int] = 2,
  padding: str = 'VALID',
  data_format: str | None = 'NHWC',
  outputs_collections: Collections = None,
  scope: str | None = None,
) -> tf.Tensor:
  """Largest value of each window of [N, H, W, C] `inputs`; slim's defaults: stride 2, VALID."""
  return _pool(
    tf.nn.max_pool2d,
    'MaxPool2D',
    inputs,
    kernel_size,
    stride,
    padding,
    data_format,
    outputs_collections,
    scope,
  )


@_shares_arg_scope_with(slim.avg_pool2d)
def avg_pool2d(
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int] = 2,
  padding: str = 'VALID',
  data_format: str | None = 'NHWC',
  outputs_collections: Collections = None,
  scope: str | None = None,
) -> tf.Tensor:
  """Mean of each window of [N, H, W, C] `inputs`, padding not counted; stride 2, VALID."""
  return _pool(
    tf.nn.avg_pool2d,
    'AvgPool2D',
    inputs,
    kernel_size,
    stride,
    padding,
    data_format,
    outputs_collections,
    scope,
  )


@_shares_arg_scope_with(slim.dropout)
def dropout(
  inputs: tf.Tensor,
  keep_prob: float | tf.Tensor = 0.5,
  noise_shape: Sequence[int] | None = None,
  is_training: bool | tf.Tensor = True,
  outputs_collections: Collections = None,
  scope: str | None = None,
  seed: int | tf.Tensor | None = None,
) -> tf.Tensor:
  """Zeroes values with probability 1 - `keep_prob` and divides the others by `keep_prob`.

  Args:
    inputs: any float tensor.
    keep_prob: the probability that a value stays; 1 changes nothing.
    noise_shape: as in tf.nn.dropout.
    is_training: a bool, or a scalar bool tensor; outside training nothing changes.
    seed: a number, or an integer tensor [2]: then the pattern is a function of it alone, and a
      resumed run draws what an uninterrupted one would have drawn.

  Returns:
    Shape and type of `inputs`.
  """
  with tf.name_scope(scope or 'Dropout') as name:

    def drop() -> tf.Tensor:
      rate = 1.0 - keep_prob
      if tf.is_tensor(seed):
        return tf.nn.experimental.stateless_dropout(inputs, rate, seed, noise_shape=noise_shape)
      return tf.nn.dropout(inputs, rate, noise_shape=noise_shape, seed=seed)

    if tf.is_tensor(is_training):
      outputs = tf.cond(is_training, drop, lambda: tf.identity(inputs))
    else:
      outputs = drop() if is_training else tf.identity(inputs)
    return _collect(outputs, outputs_collections, name)


@_shares_arg_scope_with(slim.flatten)
def flatten(
  inputs: tf.Tensor, outputs_collections: Collections = None, scope: str | None = None
) -> tf.Tensor:
  """[N, ...] -> [N, product of the rest], static where the rest is."""
  with tf.name_scope(scope or 'Flatten') as name:
    inputs = tf.convert_to_tensor(inputs)
    rest = inputs.shape[1:]
    size = rest.num_elements() if rest.is_fully_defined() else tf.reduce_prod(tf.shape(inputs)[1:])
    outputs = tf.reshape(inputs, tf.stack([tf.shape(inputs)[0], size]))
    outputs.set_shape((inputs.shape[0], rest.num_elements()))
    return _collect(outputs, outputs_collections, name)


@_shares_arg_scope_with(slim.softmax)
def softmax(logits: tf.Tensor, scope: str | None = None) -> tf.Tensor:
  """Softmax over the last dimension of [..., C].

  The two reshapes are slim's: deployed graphs fetch `InceptionV3/Predictions/Reshape_1`.
  """
  with tf.name_scope(scope or 'softmax'):
    logits = tf.convert_to_tensor(logits)
    rows = tf.reshape(logits, (-1, logits.shape[-1]))
    predictions = tf.reshape(tf.nn.softmax(rows), tf.shape(logits))
    predictions.set_shape(logits.shape)
    return predictions
