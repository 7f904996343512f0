"""Units as tensors: builds the rows of a body in the variable scope that is open."""

import contextlib
import functools
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from . import convolution, layers, recompute, slim
from .blocks import (
  AVG_POOL,
  BATCH_NORM,
  CEIL,
  CONV,
  MAX_POOL,
  SEPARABLE,
  ZEROS,
  Body,
  Branch,
  Cell,
  Unit,
  depthwise_multiplier,
)
from .geometry import check_size, rows_to, spatial_size

Activation = Callable[[tf.Tensor], tf.Tensor] | None
EndPoints = dict[str, tf.Tensor]


class Variant(NamedTuple):
  """What a net's arguments change in its table."""

  depth: Callable[[int], int] = int  # filters of a convolution (depth_multiplier)
  valid_padding: str = 'VALID'  # 'SAME' aligns the feature maps
  activation_fn: Activation = tf.nn.relu  # after a residual sum
  residual_scale: float | None = None  # of what is added there; None: what the table says
  strided: bool = True  # False: strides are left out, dilation takes their place
  rate: int = 1  # dilation
  kept: tf.Tensor | None = None  # [N, 1, 1, 1] factors of a residual by image: `layers.drop_path`


def scale_depth(min_depth: int, depth_multiplier: float) -> Callable[[int], int]:
  """Makes the filters of a convolution from those of the table, at least `min_depth`.

  Raises:
    ValueError: `depth_multiplier` <= 0.
  """
  if not depth_multiplier > 0:  # NaN too
    raise ValueError(f'depth_multiplier is {depth_multiplier}; it must be greater than zero')
  return lambda depth: max(int(depth * depth_multiplier), min_depth)


def scaled_variant(min_depth: int = 16, depth_multiplier: float = 1.0) -> Variant:
  """What the arguments of `inception_v3_base`, -v2's and -v4's change; see `scale_depth`."""
  return Variant(depth=scale_depth(min_depth, depth_multiplier))


def residual_variant(
  activation_fn: Activation = tf.nn.relu, activation_scale: float | None = None
) -> Variant:
  """What arguments of the residual nets change.

  Args:
    activation_fn: after the residual sums.
    activation_scale: factor of every residual before it is added; None: what the table says.

  Raises:
    ValueError: `activation_scale` is not above 0.
  """
  is_number = isinstance(activation_scale, numbers.Real) and not isinstance(activation_scale, bool)
  if activation_scale is not None and not (is_number and 0 < activation_scale < math.inf):
    raise ValueError(
      f'activation_scale is {activation_scale!r}; it must be a number greater than zero, or None'
    )
  return Variant(activation_fn=activation_fn, residual_scale=activation_scale)


@contextlib.contextmanager
def net_scope(
  inputs: tf.Tensor,
  scope: str | tf.compat.v1.VariableScope | None,
  default_scope: str,
  *,
  reuse: bool | None,
  is_training: bool | tf.Tensor | None,
) -> Iterator[tf.compat.v1.VariableScope]:
  """What a net function opens around body and head; gives the variable scope.

  With `is_training` None the arg scope around the net says whether it trains.
  """
  modes = {} if is_training is None else {'is_training': is_training}
  with (
    tf.compat.v1.variable_scope(scope, default_scope, [inputs], reuse=reuse) as opened,
    slim.arg_scope([layers.batch_norm, layers.dropout, layers.drop_path], **modes),
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
    images = check_size(images, rows)
  end_points: EndPoints = {}
  residuals = [unit.scope for unit in body if unit.join == 'add']
  net, stride = images, 1
  for unit in rows:
    dilate = max_stride is not None and stride * unit.reduction > max_stride
    of_row = variant._replace(strided=not dilate)
    if unit.join == 'add':
      number = residuals.index(unit.scope)
      of_row = of_row._replace(kept=layers.drop_path(net, number, len(residuals)))
    net = run_unit(net, unit, of_row, end_points)
    if dilate:
      variant = variant._replace(rate=variant.rate * unit.reduction)
    else:
      stride *= unit.reduction
    end_points |= dict.fromkeys(unit.end_points, net)
  return net, end_points


@slim.layer
def run_unit(
  net: tf.Tensor, unit: Unit, variant: Variant, end_points: EndPoints, forget: bool = False
) -> tf.Tensor:
  """Builds one row; adds what is kept of its cells to `end_points`.

  With `forget` the gradient computes again what `recompute` says, in the training of a `Model`.
  """
  with recompute.forgetting(forget and convolution.is_training()):
    return _run_unit(net, unit, variant, end_points)


def _run_unit(net: tf.Tensor, unit: Unit, variant: Variant, end_points: EndPoints) -> tf.Tensor:
  if unit.join == 'none':
    return _run_branch(net, unit.branches[0], variant, end_points)
  with tf.compat.v1.variable_scope(unit.scope):
    return run_branches(net, unit, variant, end_points)


def run_branches(
  inputs: tf.Tensor, unit: Unit, variant: Variant, end_points: EndPoints | None = None
) -> tf.Tensor:
  """Builds the branches of a unit, and joins them, in the variable scope that is open."""
  end_points = {} if end_points is None else end_points
  net, short_cut = inputs, inputs
  if unit.preact:
    net = run_cell(net, unit.preact, variant)
  if unit.short_cut:
    source = net if unit.short_cut.op == CONV else inputs
    short_cut = _run_step(source, (unit.short_cut,), variant, end_points)
  outputs = []
  for branch in unit.branches:
    with tf.compat.v1.variable_scope(branch.scope) if branch.scope else contextlib.nullcontext():
      outputs.append(_run_branch(net, branch, variant, end_points))
  mixed = _concat(outputs)
  return _add_residual(short_cut, mixed, unit, variant) if unit.join == 'add' else mixed


def _concat(outputs: list[tf.Tensor]) -> tf.Tensor:
  if len(outputs) == 1:
    return outputs[0]
  return recompute.run(lambda *outputs: tf.concat(outputs, axis=3), outputs)


def _run_branch(
  net: tf.Tensor, branch: Branch, variant: Variant, end_points: EndPoints
) -> tf.Tensor:
  if _is_pooled_projection(branch):
    return _run_pooled_projection(net, branch, variant)
  for step in branch.steps:
    net = _run_step(net, step, variant, end_points)
  return net


def _run_step(
  net: tf.Tensor, step: Sequence[Cell], variant: Variant, end_points: EndPoints
) -> tf.Tensor:
  outputs = [run_cell(net, cell, variant) for cell in step]
  end_points |= {
    cell.end_point: output for cell, output in zip(step, outputs, strict=True) if cell.end_point
  }
  return _concat(outputs)


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
    pool_fn = functools.partial(_run_pool, cell=pool, variant=variant, scope=pool_scope)
  return _run_conv(net, projection, variant, pool_fn=pool_fn)


def run_cell(net: tf.Tensor, cell: Cell, variant: Variant) -> tf.Tensor:
  """Builds a convolution, a pooling or a batch norm."""
  return _RUN[cell.op](net, cell, variant)


def _run_conv(net: tf.Tensor, cell: Cell, variant: Variant, **kwargs: Any) -> tf.Tensor:
  net, padding = _pad(net, cell, variant)
  return layers.conv2d(
    net,
    variant.depth(cell.depth),
    cell.kernel,
    stride=_stride(cell, variant),
    padding=padding,
    rate=variant.rate if cell.kernel != (1, 1) else 1,  # a window of one pixel has no holes
    scope=cell.scope,
    **_own_arguments(cell),
    **kwargs,
  )


def _run_separable_conv(net: tf.Tensor, cell: Cell, variant: Variant) -> tf.Tensor:
  net, padding = _pad(net, cell, variant)
  depth = variant.depth(cell.depth)
  return layers.separable_conv2d(
    net,
    depth,
    cell.kernel,
    depthwise_multiplier(depth, net.shape[3]),
    stride=_stride(cell, variant),
    padding=padding,
    rate=variant.rate,
    scope=cell.scope,
    **_own_arguments(cell),
  )


def _own_arguments(cell: Cell) -> dict[str, Any]:
  """What a cell says that the arg scope says otherwise."""
  arguments: dict[str, Any] = {} if cell.norm else {'normalizer_fn': None}
  if not cell.activate:
    arguments['activation_fn'] = None
  if cell.stddev is not None:
    arguments['weights_initializer'] = tf.compat.v1.truncated_normal_initializer(0.0, cell.stddev)
  return arguments


def _run_batch_norm(net: tf.Tensor, cell: Cell, variant: Variant) -> tf.Tensor:
  del variant
  activation_fn = tf.nn.relu if cell.activate else None
  return layers.batch_norm(net, activation_fn=activation_fn, scope=cell.scope)


def _run_pool(net: tf.Tensor, cell: Cell, variant: Variant, scope: str | None = None) -> tf.Tensor:
  stride = _stride(cell, variant)
  if stride == 1 and cell.kernel == (1, 1):
    return net
  net, padding = _pad(net, cell, variant)
  pool = layers.max_pool2d if cell.op == MAX_POOL else layers.avg_pool2d
  # By keyword: arg scopes around, as slim's for ResNets, may have another padding.
  return pool(
    net,
    cell.kernel,
    stride=stride,
    padding=padding,
    rate=variant.rate,
    scope=scope or cell.scope,
  )


_RUN: dict[str, Callable[[tf.Tensor, Cell, Variant], tf.Tensor]] = {
  CONV: _run_conv,
  SEPARABLE: _run_separable_conv,
  MAX_POOL: _run_pool,
  AVG_POOL: _run_pool,
  BATCH_NORM: _run_batch_norm,
}


def _stride(cell: Cell, variant: Variant) -> int:
  return cell.stride if variant.strided else 1


def _pad(net: tf.Tensor, cell: Cell, variant: Variant) -> tuple[tf.Tensor, str]:
  """What goes into a layer, and the padding that TensorFlow knows."""
  if cell.padding in ('SAME', 'VALID'):
    return net, variant.valid_padding if cell.padding == 'VALID' else 'SAME'
  if _stride(cell, variant) == 1:
    return net, 'SAME'
  if cell.padding == CEIL:
    sides = zip(spatial_size(net), tf.unstack(tf.shape(net)[1:3]), cell.kernel, strict=True)
    around = [
      (0, _lack(static if static is not None else dynamic, kernel, cell.stride))
      for static, dynamic, kernel in sides
    ]
  else:
    around = [((kernel - 1) // 2, kernel // 2) for kernel in cell.kernel]
  outside = net.dtype.min if cell.op == MAX_POOL and cell.padding != ZEROS else 0
  pad = functools.partial(tf.pad, paddings=((0, 0), *around, (0, 0)), constant_values=outside)
  return recompute.run(pad, [net]), 'VALID'


def _lack(side: int | tf.Tensor, kernel: int, stride: int) -> int | tf.Tensor:
  """Pixels that the last window of a side lacks."""
  lack = (kernel - side) % stride
  return tf.maximum(kernel - side, lack) if tf.is_tensor(side) else max(kernel - side, lack)


def _add_residual(
  short_cut: tf.Tensor, mixed: tf.Tensor, unit: Unit, variant: Variant
) -> tf.Tensor:
  """The tail of every residual block: a linear 1 x 1 convolution without batch norm, scaled.

  ResNet's units have no convolution there.
  """
  scale = unit.scale if variant.residual_scale is None else variant.residual_scale
  if unit.projection:
    residual = layers.conv2d(
      mixed,
      short_cut.shape[3],
      1,
      normalizer_fn=None,
      activation_fn=None,
      scope=unit.projection.rpartition('/')[2],
      scale=scale,  # of the weights: fewer than activations, and then TensorFlow fuses the sum
    )
  else:
    residual = mixed if scale == 1 else scale * mixed
  activation_fn = variant.activation_fn if unit.activate else None
  if activation_fn is tf.nn.relu6:
    residual = tf.clip_by_value(residual, -6.0, 6.0)  # for slim's quantized variant
  if variant.kept is not None:
    residual *= variant.kept
  net = short_cut + residual
  return activation_fn(net) if activation_fn else net
