"""slim's layers on tf.nn primitives: same parameters, defaults and variable names.

tf-slim's own batch_norm fails on today's TensorFlow; its arg scopes do not. Each layer here answers
to the arg-scope key of the slim op of its name, so that

    with slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(4e-5)):
      net = layers.conv2d(images, 32, 3, stride=2, scope='Conv2d_1a_3x3')

sets our convolution's defaults, and a scope over ours sets slim's. Variables are asked for through
`slim.model_variable` (tf.compat.v1.get_variable underneath): in a TF1 graph reuse, collections,
device functions and custom getters work as ever; in TF2 `nets.model.Model` answers the requests.

Variables are float32 whatever the inputs are; the computation takes the type of the inputs.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from . import recompute, slim
from .batch_norm import batch_norm
from .convolution import add_biases, convolve
from .layer_support import (
  ZEROS,
  Collections,
  Initializer,
  Regularizer,
  channels_of,
  check_data_format,
  collect,
  model_variable,
  pair,
)

__all__ = [
  'avg_pool2d', 'batch_norm', 'conv2d', 'drop_path', 'dropout', 'flatten', 'fully_connected',
  'max_pool2d', 'separable_conv2d', 'softmax',
]  # fmt: skip

# Where `recompute` is on, convolutions of more products a value are kept. As many or fewer have the
# first ones of a net, and 1 x 1 ones of the first blocks: large maps, few of all products. With 320
# the whole stem of Inception-v3 is computed again at once, which takes more memory, not less.
_MOST_PRODUCTS_AGAIN = 256

_XAVIER: Initializer = slim.xavier_initializer()
_DROP_PATH = 1000  # folded into a seed from there on; smaller numbers are of others with that seed


def _normalize(
  outputs: tf.Tensor, normalizer_fn: Callable, normalizer_params: dict[str, Any] | None
) -> tf.Tensor:
  params = dict(normalizer_params or {})
  if isinstance(normalizer_fn, functools.partial) and not normalizer_fn.args:
    params = {**normalizer_fn.keywords, **params}
    normalizer_fn = normalizer_fn.func
  if slim.key_of(normalizer_fn) == slim.key_of(batch_norm):  # slim's own would fail
    return batch_norm(outputs, **{'scope': 'BatchNorm', **params})
  return normalizer_fn(outputs, **params)


def _scaled(variable: tf.Variable, scale: float) -> tf.Variable | tf.Tensor:
  return variable if scale == 1.0 else variable * scale


@slim.layer
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
  biases_initializer: Initializer | None = ZEROS,
  biases_regularizer: Regularizer | None = None,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  scope: str | None = None,
  pool_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
  scale: float = 1.0,
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
    pool_fn: what the convolution goes through before normalizer or biases.
    scale: a factor of weights and biases where they are used; their variables are without it.

  Returns:
    [N, h, w, num_outputs], the type of `inputs`.

  Raises:
    ValueError: stride and rate both differ from 1, or the channels are unknown.
  """
  inputs = tf.convert_to_tensor(inputs)
  data_format = check_data_format(data_format)
  kernel, stride, rate = pair(kernel_size), pair(stride), pair(rate)
  if stride != (1, 1) and rate != (1, 1):
    raise ValueError(f'stride {stride} and rate {rate} cannot both differ from 1')
  with tf.compat.v1.variable_scope(scope, 'Conv', [inputs], reuse=reuse) as sc:
    variable = functools.partial(
      model_variable, variables_collections=variables_collections, trainable=trainable
    )
    shape: tuple[int, ...] = (*kernel, channels_of(inputs, data_format), num_outputs)
    weights = variable('weights', shape, weights_initializer, regularizer=weights_regularizer)
    weights = tf.cast(_scaled(weights, scale), inputs.dtype)
    outputs = recompute.run(
      functools.partial(
        convolve, stride=stride, padding=padding, rate=rate, data_format=data_format
      ),
      [inputs],
      [weights],
      keep=pool_fn is not None or weights.shape[:3].num_elements() > _MOST_PRODUCTS_AGAIN,
    )
    if pool_fn is not None:
      outputs = pool_fn(outputs)
    if normalizer_fn is not None:
      outputs = _normalize(outputs, normalizer_fn, normalizer_params)
    elif biases_initializer is not None:
      shape = (num_outputs,)
      biases = variable('biases', shape, biases_initializer, regularizer=biases_regularizer)
      outputs = add_biases(outputs, tf.cast(_scaled(biases, scale), inputs.dtype), data_format)
    if activation_fn is not None:
      outputs = recompute.run_activation(activation_fn, outputs)
    return collect(outputs, outputs_collections, sc.name)


@slim.layer
def separable_conv2d(
  inputs: tf.Tensor,
  num_outputs: int,
  kernel_size: int | Sequence[int],
  depth_multiplier: int = 1,
  stride: int | Sequence[int] = 1,
  padding: str = 'SAME',
  data_format: str | None = None,
  rate: int | Sequence[int] = 1,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  normalizer_fn: Callable[..., tf.Tensor] | None = None,
  normalizer_params: dict[str, Any] | None = None,
  weights_initializer: Initializer = _XAVIER,
  pointwise_initializer: Initializer | None = None,
  weights_regularizer: Regularizer | None = None,
  pointwise_regularizer: Regularizer | None = None,
  biases_initializer: Initializer | None = ZEROS,
  biases_regularizer: Regularizer | None = None,
  reuse: bool | None = None,
  variables_collections: Collections | dict[str, Collections] = None,
  outputs_collections: Collections = None,
  trainable: bool = True,
  scope: str | None = None,
) -> tf.Tensor:
  """A convolution of each channel alone, then a 1 x 1 convolution; the rest as of `conv2d`.

  Args:
    inputs: [N, H, W, C].
    num_outputs: the number of filters of the 1 x 1 convolution.
    kernel_size: of the former: one number, or height and width.
    depth_multiplier: how many filters of the former each channel has.
    data_format: 'NHWC' alone.
    pointwise_initializer: of the 1 x 1 weights; None is `weights_initializer`.
    pointwise_regularizer: of the 1 x 1 weights, None is `weights_regularizer`.
    scope: the variable scope: `scope/depthwise_weights` [h, w, C, depth_multiplier],
      `scope/pointwise_weights` [1, 1, C * depth_multiplier, num_outputs], then as of `conv2d`.

  Returns:
    [N, h, w, num_outputs], the type of `inputs`.

  Raises:
    ValueError: stride and rate both differ from 1, the channels are unknown, or `data_format`.
  """
  inputs = tf.convert_to_tensor(inputs)
  kernel, stride, rate = pair(kernel_size), pair(stride), pair(rate)
  if check_data_format(data_format) != 'NHWC':
    raise ValueError("separable_conv2d takes data_format 'NHWC' alone")
  if stride != (1, 1) and rate != (1, 1):
    raise ValueError(f'stride {stride} and rate {rate} cannot both differ from 1')
  with tf.compat.v1.variable_scope(scope, 'SeparableConv2d', [inputs], reuse=reuse) as sc:
    variable = functools.partial(
      model_variable, variables_collections=variables_collections, trainable=trainable
    )
    channels = channels_of(inputs, 'NHWC')
    depthwise = variable(
      'depthwise_weights',
      (*kernel, channels, depth_multiplier),
      weights_initializer,
      regularizer=weights_regularizer,
    )
    pointwise = variable(
      'pointwise_weights',
      (1, 1, channels * depth_multiplier, num_outputs),
      pointwise_initializer or weights_initializer,
      regularizer=pointwise_regularizer or weights_regularizer,
    )
    outputs = tf.nn.separable_conv2d(
      inputs,
      tf.cast(depthwise, inputs.dtype),
      tf.cast(pointwise, inputs.dtype),
      strides=(1, *stride, 1),
      padding=padding,
      dilations=rate,
    )
    if normalizer_fn is not None:
      outputs = _normalize(outputs, normalizer_fn, normalizer_params)
    elif biases_initializer is not None:
      biases = variable(
        'biases', (num_outputs,), biases_initializer, regularizer=biases_regularizer
      )
      outputs = add_biases(outputs, tf.cast(biases, inputs.dtype), 'NHWC')
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    return collect(outputs, outputs_collections, sc.name)


@slim.layer
def fully_connected(
  inputs: tf.Tensor,
  num_outputs: int,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  normalizer_fn: Callable[..., tf.Tensor] | None = None,
  normalizer_params: dict[str, Any] | None = None,
  weights_initializer: Initializer = _XAVIER,
  weights_regularizer: Regularizer | None = None,
  biases_initializer: Initializer | None = ZEROS,
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
    variable = functools.partial(
      model_variable, variables_collections=variables_collections, trainable=trainable
    )
    shape: tuple[int, ...] = (channels_of(inputs, 'NHWC'), num_outputs)
    weights = variable('weights', shape, weights_initializer, regularizer=weights_regularizer)
    outputs = tf.linalg.matmul(inputs, tf.cast(weights, inputs.dtype))
    if normalizer_fn is not None:
      outputs = _normalize(outputs, normalizer_fn, normalizer_params)
    elif biases_initializer is not None:
      shape = (num_outputs,)
      biases = variable('biases', shape, biases_initializer, regularizer=biases_regularizer)
      outputs = tf.nn.bias_add(outputs, tf.cast(biases, inputs.dtype))
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    return collect(outputs, outputs_collections, sc.name)


def _pool(
  kind: str,
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int],
  padding: str,
  data_format: str | None,
  outputs_collections: Collections,
  scope: str | None,
  rate: int,
  count_padding: bool = False,
) -> tf.Tensor:
  kernel, stride, data_format = pair(kernel_size), pair(stride), check_data_format(data_format)
  if rate > 1 or (count_padding and padding == 'SAME'):
    if stride != (1, 1) or data_format != 'NHWC':
      raise ValueError(
        f'stride {stride} and data_format {data_format}: dilated pooling, and means that count the '
        'padding, need stride 1 and NHWC'
      )
    outputs = _pool_with_holes(kind, inputs, kernel, padding, rate, count_padding, scope)
    return collect(outputs, outputs_collections, scope or f'{kind}Pool2D')
  name = f'{kind}Pool'  # deployed graphs fetch InceptionV3/Logits/AvgPool_1a_8x8/AvgPool
  pool = tf.nn.max_pool2d if kind == 'Max' else tf.nn.avg_pool2d
  with tf.name_scope(scope or f'{name}2D') as alias:
    outputs = recompute.run(
      functools.partial(
        pool, ksize=kernel, strides=stride, padding=padding, data_format=data_format, name=name
      ),
      [inputs],
    )
    return collect(outputs, outputs_collections, alias)


def _pool_with_holes(
  kind: str,
  inputs: tf.Tensor,
  kernel: tuple[int, int],
  padding: str,
  rate: int,
  count_padding: bool,
  scope: str | None,
) -> tf.Tensor:
  """Dilated pooling, of odd windows, not strided; TensorFlow has it without padding alone."""

  def pool(values: tf.Tensor, name: str | None = None) -> tf.Tensor:
    if padding == 'SAME':
      rows, columns = (rate * (side // 2) for side in kernel)
      outside = values.dtype.min if kind == 'Max' else 0
      paddings = (0, 0), (rows, rows), (columns, columns), (0, 0)
      values = tf.pad(values, paddings, constant_values=outside)
    dilations = [rate] * 2
    return tf.nn.pool(values, kernel, kind.upper(), padding='VALID', dilations=dilations, name=name)

  outputs = pool(inputs, scope)
  if padding == 'SAME' and kind == 'Avg' and not count_padding:
    outputs /= pool(tf.ones_like(inputs[:1, :, :, :1]))  # the share of the window in the image
  return outputs


@slim.layer
def max_pool2d(
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int] = 2,
  padding: str = 'VALID',
  data_format: str | None = 'NHWC',
  outputs_collections: Collections = None,
  scope: str | None = None,
  rate: int = 1,
) -> tf.Tensor:
  """Largest value of each window of [N, H, W, C] `inputs`; slim's defaults: stride 2, VALID.

  With `rate` the window has holes; its sides must be odd and the stride 1.
  """
  return _pool(
    'Max', inputs, kernel_size, stride, padding, data_format, outputs_collections, scope, rate
  )


@slim.layer
def avg_pool2d(
  inputs: tf.Tensor,
  kernel_size: int | Sequence[int],
  stride: int | Sequence[int] = 2,
  padding: str = 'VALID',
  data_format: str | None = 'NHWC',
  outputs_collections: Collections = None,
  scope: str | None = None,
  rate: int = 1,
  count_padding: bool = False,
) -> tf.Tensor:
  """Mean of each window of [N, H, W, C] `inputs`; slim's defaults: stride 2, VALID.

  Args:
    rate: see `max_pool2d`.
    count_padding: with padding SAME divide by the whole window, zeros around the image included, as
      torchvision's and timm's Inception-v3 do; slim's and Keras' divide by what is there.
  """
  return _pool(
    'Avg',
    inputs,
    kernel_size,
    stride,
    padding,
    data_format,
    outputs_collections,
    scope,
    rate,
    count_padding,
  )


@slim.layer
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

  Raises:
    ValueError: `keep_prob` is a number outside of (0, 1].
  """
  if not tf.is_tensor(keep_prob) and not 0 < keep_prob <= 1:
    raise ValueError(f'keep_prob is {keep_prob}; it must be above 0 and at most 1')
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
    return collect(outputs, outputs_collections, name)


@slim.layer
def drop_path(
  inputs: tf.Tensor,
  number: int,
  count: int,
  rate: float = 0.0,
  is_training: bool | tf.Tensor = True,
  seed: int | tf.Tensor | None = None,
) -> tf.Tensor | None:
  """Factors of a batch's residuals: 0 where one is dropped (stochastic depth, arXiv:1603.09382).

  Each image keeps a residual or loses it by itself. The probability of a loss grows evenly from 0,
  of a net's first residual, to `rate`, of its last, as in timm. What stays is divided by the
  probability to stay, so that outside training nothing is to be done.

  Args:
    inputs: [N, ...], what the residual is computed from.
    number: of the residual, from 0.
    count: how many residuals the net has.
    rate: the probability that an image loses the last one; at least 0, below 1.
    is_training: a bool, or a scalar bool tensor.
    seed: see `dropout`; each residual has samples of its own.

  Returns:
    [N, 1, 1, 1] of the type of `inputs`; None: all of them stay.
  """
  dropped = rate * number / (count - 1) if count > 1 else rate
  if not dropped or (not tf.is_tensor(is_training) and not is_training):
    return None
  with tf.name_scope('DropPath'):
    shape = tf.stack([tf.shape(inputs)[0], 1, 1, 1])
    if tf.is_tensor(seed):
      own = tf.random.experimental.stateless_fold_in(seed, _DROP_PATH + number)
      samples = tf.random.stateless_uniform(shape, own)
    else:
      samples = tf.random.uniform(shape, seed=None if seed is None else seed + number)
    factors = tf.where(samples < dropped, 0.0, 1.0 / (1.0 - dropped))
    if tf.is_tensor(is_training):
      factors = tf.where(is_training, factors, 1.0)
    factors.set_shape((inputs.shape[0], 1, 1, 1))
    return tf.cast(factors, inputs.dtype)


@slim.layer
def flatten(
  inputs: tf.Tensor, outputs_collections: Collections = None, scope: str | None = None
) -> tf.Tensor:
  """[N, ...] -> [N, product of the rest], static where the rest is."""
  with tf.name_scope(scope or 'Flatten') as name:
    inputs = tf.convert_to_tensor(inputs)
    rest = inputs.shape[1:]
    size = rest.num_elements() if rest.is_fully_defined() else tf.reduce_prod(tf.shape(inputs)[1:])
    with tf.name_scope('flatten'):  # slim's op is PreLogitsFlatten/flatten/Reshape
      outputs = tf.reshape(inputs, tf.stack([tf.shape(inputs)[0], size]))
    outputs.set_shape((inputs.shape[0], rest.num_elements()))
    return collect(outputs, outputs_collections, name)


@slim.layer
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
