"""What slim's ResNets have in common: arg scope, table, and the function that builds them."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from . import inception_utils, layers, slim
from .blocks import (
  FIXED,
  MAX_POOL,
  ZEROS,
  Body,
  Bottleneck,
  Unit,
  conv,
  max_pool,
  move_strides_behind,
  resolve_short_cuts,
  row,
  under,
  with_paddings,
)
from .build import EndPoints, Variant, net_scope, residual_variant, run_body
from .heads import MeanHead
from .net import Net, NetworkFn, Paper

# Table 1 of arXiv:1512.03385: how often the units of conv2_x to conv5_x are repeated; 200 layers
# are Table 6 of arXiv:1603.05027.
UNITS: dict[int, tuple[int, int, int, int]] = {
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
  200: (3, 24, 36, 3),
}

# Whose padding -> that of the pooling after the first convolution. TensorFlow's SAME pads an even
# map by nothing before and one pixel after, the others by one on both sides, Keras with zeros.
PADDINGS: Mapping[str, Mapping[str, str]] = {
  'slim': {},
  'keras': {MAX_POOL: ZEROS},
  'torch': {MAX_POOL: FIXED},
}


def resnet_arg_scope(
  weight_decay: float = 0.0001,
  batch_norm_decay: float = 0.997,
  batch_norm_epsilon: float = 1e-5,
  batch_norm_scale: bool = True,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  use_batch_norm: bool = True,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
) -> dict[str, Any]:
  """The default arguments of the layers of ResNets, as slim's.

  Args:
    weight_decay: factor of the L2 loss of convolution weights.
    batch_norm_decay: of the moving averages: see `inception_utils.inception_arg_scope`.
    batch_norm_epsilon: added to the variance.
    batch_norm_scale: adds `gamma`, which the released checkpoints have.
    activation_fn: of the convolutions.
    use_batch_norm: False gives convolutions biases instead.
    batch_norm_updates_collections: see `layers.batch_norm`.

  Returns:
    For `with slim.arg_scope(...):`.
  """
  normalizer = inception_utils.batch_norm_arguments(
    use_batch_norm,
    batch_norm_decay,
    batch_norm_epsilon,
    batch_norm_updates_collections,
    batch_norm_scale,
  )
  with (
    slim.exclusively(),
    slim.arg_scope(
      [layers.conv2d],
      weights_regularizer=slim.l2_regularizer(float(weight_decay)),
      weights_initializer=slim.variance_scaling_initializer(),
      activation_fn=activation_fn,
      **normalizer,
    ),
    slim.arg_scope([layers.batch_norm], **normalizer['normalizer_params']),
    slim.arg_scope([layers.max_pool2d], padding='SAME') as scope,
  ):
    return scope


def conv2d_same(
  inputs: tf.Tensor,
  num_outputs: int,
  kernel_size: int,
  stride: int,
  rate: int = 1,
  scope: str | None = None,
) -> tf.Tensor:
  """A convolution that is SAME, then every stride-th position from the first on.

  TensorFlow's SAME starts elsewhere where a map is even.
  """
  if stride == 1:
    return layers.conv2d(inputs, num_outputs, kernel_size, rate=rate, scope=scope)
  around = rate * (kernel_size - 1)
  sides = around // 2, around - around // 2
  inputs = tf.pad(inputs, ((0, 0), sides, sides, (0, 0)))
  return layers.conv2d(
    inputs, num_outputs, kernel_size, stride=stride, padding='VALID', rate=rate, scope=scope
  )


def subsample(inputs: tf.Tensor, factor: int, scope: str | None = None) -> tf.Tensor:
  """Every `factor`-th pixel, down and across."""
  return inputs if factor == 1 else layers.max_pool2d(inputs, 1, stride=factor, scope=scope)


def root(*, preactivate: bool = False) -> Body:
  """conv1 and the pooling before conv2_x; `preactivate` leaves batch norm and ReLU to a unit."""
  conv1 = conv(64, 7, stride=2, padding=FIXED, norm=not preactivate, activate=not preactivate)
  return (
    row('conv1', conv1),  # 112 x 112 x 64
    row('pool1', max_pool(3, stride=2, padding='SAME'), end_point=None),  # 56 x 56 x 64
  )


def block(scope: str, kind: str, bottlenecks: Sequence[Bottleneck]) -> tuple[Unit, ...]:
  """The rows of a block, one for each unit; `kind` is the last part of their scopes."""
  rows = [
    row(f'{scope}/unit_{number}/{kind}', bottleneck)
    for number, bottleneck in enumerate(bottlenecks, 1)
  ]
  return (*rows[:-1], rows[-1]._replace(block=scope))


def rows(
  blocks: Iterable[Iterable[Unit]], include_root_block: bool = True, *, preactivate: bool = False
) -> Body:
  """The rows of the root and of blocks."""
  first = root(preactivate=preactivate) if include_root_block else ()
  return (*first, *(unit for block in blocks for unit in block))


def make_body(
  scope: str,
  rows: Body,
  channels: int = 3,
  padding: str = 'slim',
  store_non_strided_activations: bool = False,
) -> Body:
  """The rows of a net.

  Args:
    scope: the net's; end points begin with it.
    rows: those of root and blocks.
    channels: of the input.
    padding: whose, see `PADDINGS`.
    store_non_strided_activations: see `resnet_v1.resnet_v1`.

  Raises:
    ValueError: another `padding`.
  """
  body = resolve_short_cuts(with_paddings(rows, PADDINGS, padding), channels)
  return under(scope, move_strides_behind(body) if store_non_strided_activations else body)


def make_variant(activation_scale: float | None = None) -> Variant:
  """What an argument of ResNets changes: see `resnet_v1.resnet_v1`."""
  return residual_variant(activation_scale=activation_scale)


def run(
  inputs: tf.Tensor,
  rows: Body,
  num_classes: int | None,
  is_training: bool | tf.Tensor | None,
  *,
  global_pool: bool,
  output_stride: int | None,
  spatial_squeeze: bool,
  activation_scale: float | None,
  reuse: bool | None,
  scope: str | None,
  default_scope: str,
  **kwargs: Any,
) -> tuple[tf.Tensor, EndPoints]:
  """Builds a net of `rows`: see `resnet_v1.resnet_v1`; `kwargs` are of `make_body`."""
  with net_scope(inputs, scope, default_scope, reuse=reuse, is_training=is_training) as opened:
    body = make_body(opened.name, rows, inputs.shape[3], **kwargs)
    check_output_stride(body, output_stride)
    variant = make_variant(activation_scale)
    net, end_points = run_body(inputs, body, variant=variant, max_stride=output_stride)
    return MeanHead(scope=opened.name).build(
      net, end_points, num_classes, global_pool=global_pool, spatial_squeeze=spatial_squeeze
    )


def check_output_stride(body: Body, output_stride: int | None) -> None:
  """Raises ValueError where the rows do not have the stride."""
  if output_stride is None:
    return
  strides = [1]
  for unit in body:
    strides.append(strides[-1] * unit.reduction)
    if unit.scope == 'pool1':
      strides = strides[-1:]  # nothing is dilated in the root
  if output_stride not in strides:
    choices = ', '.join(map(str, dict.fromkeys(strides)))
    raise ValueError(f'output_stride is {output_stride}; choose one of {choices}')


def named(network_fn: NetworkFn, name: str) -> NetworkFn:
  """The function under the name by which its module has it."""
  network_fn.__name__ = network_fn.__qualname__ = name
  vars(network_fn)['default_image_size'] = 224  # of ResNet-v2 too, which slim evaluates at 299
  return network_fn


def swapped(network_fn: NetworkFn, first: str, second: str) -> NetworkFn:
  """The function with two neighbouring arguments the other way round."""
  signature = inspect.signature(network_fn)
  other = {first: second, second: first}
  names = [other.get(name, name) for name in signature.parameters]
  signature = signature.replace(parameters=[signature.parameters[name] for name in names])

  @functools.wraps(network_fn)
  def function(*args: Any, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
    return network_fn(**signature.bind(*args, **kwargs).arguments)

  vars(function)['__signature__'] = signature
  return function


def make_net(
  name: str,
  blocks: Callable[..., Iterable[Iterable[Unit]]],
  network_fn: NetworkFn,
  paper: Paper,
  *,
  num_classes: int,
  preprocessing: str,
  image_size: int = 224,
  preactivate: bool = False,
  ending: Body = (),
  padding: str = 'slim',
) -> Net:
  """What the library knows of a ResNet.

  Args:
    name: the net's, and its scope's.
    blocks: makes the rows of blocks, of the arguments that change their depths.
    network_fn: builds it.
    paper: where it comes from.
    num_classes, preprocessing, image_size: see `Net`.
    preactivate: whether the root is without batch norm and ReLU.
    ending: rows after the blocks.
    padding: whose, where nobody says another.
  """

  def body(padding: str = padding, **depths: float) -> Body:
    whole = (*rows(blocks(**depths), preactivate=preactivate), *ending)
    return make_body(name, whole, padding=padding)

  return Net(
    name,
    name,
    tuple(body()),
    MeanHead(scope=name),
    resnet_arg_scope,
    network_fn,
    default_image_size=image_size,
    num_classes=num_classes,
    preprocessing=preprocessing,
    make_variant=make_variant,
    make_body=body,
    paper=paper,
  )
