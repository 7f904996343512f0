"""Units as tensors: builds the rows of a body in the variable scope that is open."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from . import layers, slim
from .blocks import AVG_POOL, CONV, MAX_POOL, Body, Branch, Cell, Unit
from .geometry import check_size, rows_to

Activation = Callable[[tf.Tensor], tf.Tensor] | None
EndPoints = dict[str, tf.Tensor]


class Variant(NamedTuple):
  """What a net's arguments change in its table."""

  depth: Callable[[int], int] = int  # filters of a convolution (depth_multiplier)
  valid_padding: str = 'VALID'  # 'SAME' aligns the feature maps
  activation_fn: Activation = tf.nn.relu  # after a residual sum
  strided: bool = True  # False: strides are left out, dilation takes their place
  rate: int = 1  # dilation


def residual_variant(activation_fn: Activation = tf.nn.relu) -> Variant:
  """What the argument of the residual nets changes."""
  return Variant(activation_fn=activation_fn)


@contextlib.contextmanager
def net_scope(
  inputs: tf.Tensor,
  scope: str | tf.compat.v1.VariableScope | None,
  default_scope: str,
  *,
  reuse: bool | None,
  is_training: bool | tf.Tensor,
) -> Iterator[tf.compat.v1.VariableScope]:
  """What a net function opens around body and head; gives the variable scope."""
  with (
    tf.compat.v1.variable_scope(scope, default_scope, [inputs], reuse=reuse) as opened,
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    yield opened


def run_body(
  images: tf.Tensor,
  body: Body,
  final_endpoint: str | None = None,
  variant: Variant | None = None,
  max_stride: int | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """Builds the rows of `body` up to `final_endpoint`.

  Args:
    images: [N, H, W, C]; N, H and W may be unknown.
    body: the rows of a net.
    final_endpoint: the last end point to build; None is the end.
    variant: see `Variant`; None changes nothing.
    max_stride: once the feature maps are this many times smaller than the images, further strides
      become dilation of all that follows (as in arXiv:1606.00915), with the same weights.

  Returns:
    The last output, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: no such end point, or the images are too small for it.
  """
  rows = rows_to(body, final_endpoint)
  variant = variant or Variant()
  if variant.valid_padding == 'VALID':
    check_size(images, rows)
  end_points: EndPoints = {}
  net, stride = images, 1
  for unit in rows:
    dilate = max_stride is not None and stride * unit.reduction > max_stride
    net = run_unit(net, unit, variant._replace(strided=not dilate))
    if dilate:
      variant = variant._replace(rate=variant.rate * unit.reduction)
    else:
      stride *= unit.reduction
    if unit.end_point is not None:
      end_points[unit.end_point] = net
  return net, end_points


def run_unit(net: tf.Tensor, unit: Unit, variant: Variant) -> tf.Tensor:
  """Builds one row."""
  if unit.join == 'none':
    return _run_branch(net, unit.branches[0], variant)
  with tf.compat.v1.variable_scope(unit.scope):
    return run_branches(net, unit, variant)


def run_branches(net: tf.Tensor, unit: Unit, variant: Variant) -> tf.Tensor:
  """Builds the branches of a unit, and joins them, in the variable scope that is open."""
  outputs = []
  for branch in unit.branches:
    with tf.compat.v1.variable_scope(branch.scope):
      outputs.append(_run_branch(net, branch, variant))
  mixed = tf.concat(outputs, axis=3)
  return _add_residual(net, mixed, unit, variant) if unit.join == 'add' else mixed


def _run_branch(net: tf.Tensor, branch: Branch, variant: Variant) -> tf.Tensor:
  if _is_pooled_projection(branch):
    return _run_pooled_projection(net, branch, variant)
  for step in branch.steps:
    outputs = [run_cell(net, cell, variant) for cell in step]
    net = outputs[0] if len(step) == 1 else tf.concat(outputs, axis=3)
  return net


def _is_pooled_projection(branch: Branch) -> bool:
  """Whether it is the "Avg Pooling, 1x1 Conv" of the figures."""
  cells = [(cell.op, cell.stride) for cell in branch.cells]
  return cells == [(AVG_POOL, 1), (CONV, 1)] and branch.cells[1].kernel == (1, 1)


def _run_pooled_projection(net: tf.Tensor, branch: Branch, variant: Variant) -> tf.Tensor:
  """Pools between the convolution and its batch norm: see `inception_v3`.

  A mean over places commutes with a sum over channels.
  """
  pool, projection = branch.cells
  with tf.name_scope(pool.scope) as pool_scope:  # where it would be if it came first
    pool_fn = functools.partial(_run_pool, cell=pool, scope=pool_scope, variant=variant)
  depth = variant.depth(projection.depth)
  return layers.conv2d(net, depth, 1, rate=variant.rate, pool_fn=pool_fn, scope=projection.scope)


def run_cell(net: tf.Tensor, cell: Cell, variant: Variant) -> tf.Tensor:
  """Builds a convolution or a pooling."""
  if cell.op != CONV:
    return _run_pool(net, cell, cell.scope, variant)
  return layers.conv2d(
    net,
    variant.depth(cell.depth),
    cell.kernel,
    cell.stride if variant.strided else 1,
    _padding(cell, variant),
    rate=variant.rate,
    scope=cell.scope,
  )


def _padding(cell: Cell, variant: Variant) -> str:
  return variant.valid_padding if cell.padding == 'VALID' else 'SAME'


def _run_pool(net: tf.Tensor, cell: Cell, scope: str, variant: Variant) -> tf.Tensor:
  pool = layers.max_pool2d if cell.op == MAX_POOL else layers.avg_pool2d
  return pool(
    net,
    cell.kernel,
    cell.stride if variant.strided else 1,
    _padding(cell, variant),
    rate=variant.rate,
    scope=scope,
  )


def _add_residual(net: tf.Tensor, mixed: tf.Tensor, unit: Unit, variant: Variant) -> tf.Tensor:
  """The tail of every residual block: a linear 1 x 1 convolution without batch norm, scaled."""
  residual = layers.conv2d(
    mixed,
    net.shape[3],
    1,
    normalizer_fn=None,
    activation_fn=None,
    scope=unit.projection.rpartition('/')[2],
    scale=unit.scale,  # of the weights: fewer than activations, and then TensorFlow fuses the sum
  )
  activation_fn = variant.activation_fn if unit.activate else None
  if activation_fn is tf.nn.relu6:
    residual = tf.clip_by_value(residual, -6.0, 6.0)  # for slim's quantized variant
  net += residual
  return activation_fn(net) if activation_fn else net
