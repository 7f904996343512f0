"""What follows a body: pooling, dropout, logits and probabilities; and the auxiliary classifiers.

A head says what it is by units, as a body does, and builds just those: scopes, windows and depths
of the tensors that `build` and `add` make are those of `units` and `unit`.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from . import layers, slim
from .blocks import BATCH_NORM, CONV, SEPARABLE, Cell, Unit, avg_pool, chain, conv
from .build import EndPoints, Variant, run_cell
from .geometry import check_sides, spatial_size

# What `Cell.op` can be in a head besides; FLATTEN makes [C] of [1, 1, C].
DENSE, DROPOUT, FLATTEN, SOFTMAX = 'Dense', 'Dropout', 'Flatten', 'Softmax'

# Variable scopes and end points, the same in all Inception nets.
LOGITS, AUX_LOGITS, PREDICTIONS, GLOBAL_POOL = 'Logits', 'AuxLogits', 'Predictions', 'global_pool'

AUX_POOL = 5  # pixels a side: below that an auxiliary head has nothing to pool
_PLAIN = Variant()


def cell(op: str, name: str, depth: int = 0) -> Cell:
  """A layer of a head that is neither a convolution nor a pooling, by its path."""
  return Cell(op, depth, (1, 1), 1, 'SAME', name)


def weighted(units: Sequence[Unit]) -> tuple[str, ...]:
  """Paths of the layers that have variables, in order of building."""
  paths: list[str] = []
  for unit in units:
    paths += [c.name for c in unit.cells if c.op in (CONV, SEPARABLE, BATCH_NORM, DENSE)]
    paths += [unit.projection] if unit.projection else []
  return tuple(paths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuxiliaryHead:
  """A classifier of an inner end point: pooling, two convolutions, logits.

  Inception-v3's (Figure 8 of arXiv:1512.00567 with batch norm, section 10: BN-auxiliary) has a
  `window`, and logits by a 1 x 1 convolution. Elsewhere the second convolution spans all that is
  left, and the logits are a fully connected layer; where height or width is unknown the images must
  be at least 299 x 299 then, and the logits of larger ones are averages over all places.
  """

  end_point: str  # what it classifies
  pool: str  # scopes of its layers; '{}x{}' stands for the window
  conv: str
  logits: str
  window: int | None = None  # of `conv`; less where the features are smaller

  def unit(
    self, height: int | None, width: int | None, num_classes: int, depth: Callable[[int], int] = int
  ) -> Unit:
    """Its layers on features of height x width, at least `AUX_POOL`; None is unknown."""
    pool = avg_pool(AUX_POOL, stride=3, name=f'{AUX_LOGITS}/{self.pool}')
    left = [side and (side - AUX_POOL) // pool.stride + 1 for side in (height, width)]
    logits = f'{AUX_LOGITS}/{self.logits}'
    if self.window:
      window = tuple(min(side or self.window, self.window) for side in left)
      ends = conv(num_classes, 1, name=logits), cell(FLATTEN, f'{AUX_LOGITS}/SpatialSqueeze')
    else:
      window = tuple(side or AUX_POOL for side in left) if all(left) else (AUX_POOL, AUX_POOL)
      ends = cell(FLATTEN, f'{AUX_LOGITS}/Flatten'), cell(DENSE, logits, num_classes)
    reduce = conv(depth(128), 1, name=f'{AUX_LOGITS}/Conv2d_1b_1x1')
    name = f'{AUX_LOGITS}/{self.conv.format(*window)}'
    spanning = conv(depth(768), (window[0], window[1]), padding='VALID', name=name)
    return chain(AUX_LOGITS, (pool, reduce, spanning, *ends), AUX_LOGITS)

  def add(
    self,
    end_points: EndPoints,
    num_classes: int,
    is_training: bool | tf.Tensor,
    depth: Callable[[int], int] = int,
    spatial_squeeze: bool = True,
  ) -> None:
    """Adds 'AuxLogits', [N, num_classes] float32, to the end points; not where there is no room."""
    net = end_points[self.end_point]
    if not has_room(net, is_training):
      return
    pool, reduce, *rest = self.unit(*spatial_size(net), num_classes, depth).cells
    rows, columns = (AUX_POOL + pool.stride * (side - 1) for side in rest[0].kernel)
    text = (
      f'Features of {{}} x {{}} are too small for the auxiliary head, made for {rows} x {columns} '
      'as the size of the images was unknown: set it (images.set_shape), or create_aux_logits=False'
    )
    net = check_sides(net, text, least=(rows, columns))
    with tf.compat.v1.variable_scope(AUX_LOGITS):
      net = run_cell(run_cell(net, pool, _PLAIN), reduce, _PLAIN)
      if self.window:
        end_points[AUX_LOGITS] = _by_convolutions(net, *rest, spatial_squeeze=spatial_squeeze)
      else:
        end_points[AUX_LOGITS] = _by_spanning(net, *rest)


def _by_convolutions(
  net: tf.Tensor, windows: Cell, logits: Cell, flat: Cell, *, spatial_squeeze: bool
) -> tf.Tensor:
  normal = functools.partial(tf.compat.v1.truncated_normal_initializer, 0.0)
  with slim.arg_scope([layers.conv2d], weights_initializer=normal(0.01)):
    net = run_cell(net, windows, _PLAIN)
  net = _linear(tf.cast(net, tf.float32), logits, weights_initializer=normal(0.001))
  what = 'AuxLogits: give create_aux_logits=False or spatial_squeeze=False'
  return _squeeze(net, flat, what) if spatial_squeeze else net


def _by_spanning(net: tf.Tensor, spanning: Cell, flat: Cell, logits: Cell) -> tf.Tensor:
  is_one_place = None not in spatial_size(net)
  net = run_cell(net, spanning, _PLAIN)
  net = layers.flatten(net, scope=flat.scope) if is_one_place else tf.reduce_mean(net, (1, 2))
  net = tf.cast(net, tf.float32)
  return layers.fully_connected(net, logits.depth, activation_fn=None, scope=logits.scope)


def _linear(net: tf.Tensor, logits: Cell, **kwargs: Any) -> tf.Tensor:
  return layers.conv2d(
    net, logits.depth, 1, activation_fn=None, normalizer_fn=None, scope=logits.scope, **kwargs
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head(abc.ABC):
  """What the library asks of a head; how it is built is between it and its net's function."""

  auxiliary: AuxiliaryHead | None = None
  before: str | None = None  # another end point of the body's last output

  @property
  @abc.abstractmethod
  def logits_path(self) -> str:
    """The layer that makes logits of the pooled features, within the net's scope."""

  @abc.abstractmethod
  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    """Its layers, by paths within the net's scope, on features of height x width (or unknown)."""

  @property
  def optional(self) -> dict[str, str]:
    """{path of a layer: the argument of the net function that wants it, and says how wide}.

    Of a classifier what such a layer gives is an end point of that path.
    """
    return {}

  @property
  def weights(self) -> dict[str, tuple[str, ...]]:
    """{scope: paths of its layers that have weights}, in order of building, the logits last.

    They depend on the number of classes, or may be missing in a file of weights.
    """
    weights: dict[str, tuple[str, ...]] = {path: (path,) for path in self.optional}
    if self.auxiliary:
      weights[AUX_LOGITS] = weighted([self.auxiliary.unit(None, None, 0)])
    return weights | {self.logits_path.partition('/')[0]: weighted(self.units(None, None, 0))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionHead(Head):
  """Means over windows, dropout, and logits by a 1 x 1 convolution: Inception-v1's to -v3's."""

  window: int  # pixels a side; less where the features are smaller
  stride: int = 2  # slim's default
  pool: str  # scopes in the scope Logits; '{}x{}' stands for the window
  pooled: str  # the end point of the pooling
  dropout: str
  features: str | None = None  # the end point of what the logits are made of
  logits: str

  @property
  def logits_path(self) -> str:
    return f'{LOGITS}/{self.logits}'

  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    window = min(height or self.window, self.window), min(width or self.window, self.window)
    stride = 1 if window == (height, width) else self.stride
    pool = avg_pool(window, stride, 'VALID', f'{LOGITS}/{self.pool.format(*window)}')
    drop = cell(DROPOUT, f'{LOGITS}/{self.dropout}')
    logits = conv(num_classes, 1, name=self.logits_path), cell(FLATTEN, f'{LOGITS}/SpatialSqueeze')
    return (
      chain(pool.name, [pool], self.pooled),
      chain(drop.name, [drop], self.features),
      chain(self.logits_path, logits, LOGITS),
      chain(PREDICTIONS, [cell(SOFTMAX, PREDICTIONS)], PREDICTIONS),
    )

  def build(
    self,
    net: tf.Tensor,
    end_points: EndPoints,
    num_classes: int | None,
    is_training: bool | tf.Tensor,
    dropout_keep_prob: float,
    create_aux_logits: bool = False,
    *,
    prediction_fn: Callable[..., tf.Tensor],
    spatial_squeeze: bool,
    global_pool: bool,
    depth: Callable[[int], int] = int,
  ) -> tuple[tf.Tensor, EndPoints]:
    """Logits, or features where there are no classes, and the end points.

    See `inception_v3.inception_v3` for the arguments; `depth` is `Variant.depth`.
    """
    if self.auxiliary and create_aux_logits and num_classes:
      self.auxiliary.add(end_points, num_classes, is_training, depth, spatial_squeeze)
    units = self.units(*spatial_size(net), num_classes or 0)
    (pool,), (drop,), (logits, flat), (predictions,) = (unit.cells for unit in units)
    with tf.compat.v1.variable_scope(LOGITS):
      net = tf.cast(net, tf.float32)  # heads compute in float32 whatever the body does
      if global_pool:
        net = tf.reduce_mean(net, (1, 2), keepdims=True, name='GlobalPool')
        end_points[GLOBAL_POOL] = net
      else:
        net, factor = _filled_to(net, pool.kernel)
        net = layers.avg_pool2d(
          net, pool.kernel, stride=self.stride, padding=pool.padding, scope=pool.scope
        )
        net = end_points[self.pooled] = net if factor is None else net * factor
      if not num_classes:
        return net, end_points
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope=drop.scope)
      if self.features:
        end_points[self.features] = net
      net = _linear(net, logits)
      if spatial_squeeze:
        net = _squeeze(net, flat, 'the logits: give global_pool=True or spatial_squeeze=False')
    end_points[LOGITS] = net
    end_points[PREDICTIONS] = prediction_fn(net, scope=predictions.scope)
    return net, end_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanHead(Head):
  """The mean over all places, and logits by a 1 x 1 convolution: slim's ResNets'."""

  scope: str  # the net's: end points begin with it
  logits_path = 'logits'

  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    pool = avg_pool((height or 1, width or 1), padding='VALID', name='pool5')
    return (
      chain(pool.name, [pool], GLOBAL_POOL),
      chain('logits', [conv(num_classes, 1, name='logits')], f'{self.scope}/logits'),
      chain('SpatialSqueeze', [cell(FLATTEN, 'SpatialSqueeze')], f'{self.scope}/spatial_squeeze'),
      chain('predictions', [cell(SOFTMAX, 'predictions')], 'predictions'),
    )

  def build(
    self,
    net: tf.Tensor,
    end_points: EndPoints,
    num_classes: int | None,
    *,
    global_pool: bool,
    spatial_squeeze: bool,
  ) -> tuple[tf.Tensor, EndPoints]:
    """Logits, or features where there are no classes, and the end points.

    See `resnet_v1.resnet_v1` for the arguments.
    """
    units = self.units(None, None, num_classes or 0)
    (pool,), (logits,), (flat,), (predictions,) = (unit.cells for unit in units)
    if global_pool:
      net = tf.reduce_mean(tf.cast(net, tf.float32), (1, 2), keepdims=True, name=pool.scope)
      end_points[GLOBAL_POOL] = net
    if not num_classes:
      return net, end_points
    net = _linear(tf.cast(net, tf.float32), logits)
    end_points[units[1].end_points[0]] = net
    if spatial_squeeze:
      net = _squeeze(net, flat, 'the logits: give global_pool=True or spatial_squeeze=False')
      end_points[units[2].end_points[0]] = net
    end_points[predictions.name] = layers.softmax(net, scope=predictions.scope)
    return net, end_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseHead(Head):
  """The mean over all places, dropout, and one fully connected layer."""

  pool: str  # scopes in the scope Logits
  dropout: str
  flatten: str = ''  # of flattening after dropout; '': before it, in slim's own scope
  bottleneck: str = ''  # beside Logits: a linear embedding that the logits are made of, if wanted
  logits_path = f'{LOGITS}/Logits'

  @property
  def optional(self) -> dict[str, str]:
    return {self.bottleneck: 'bottleneck_layer_size'} if self.bottleneck else {}

  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    pool = avg_pool((height or 1, width or 1), padding='VALID', name=f'{LOGITS}/{self.pool}')
    drop = cell(DROPOUT, f'{LOGITS}/{self.dropout}')
    flat = cell(FLATTEN, f'{LOGITS}/{self.flatten or "Flatten"}')
    predictions = cell(SOFTMAX, f'{LOGITS}/{PREDICTIONS}')
    return (
      chain(pool.name, [pool], GLOBAL_POOL),
      chain(drop.name, (drop, flat) if self.flatten else (flat, drop), 'PreLogitsFlatten'),
      chain(self.logits_path, [cell(DENSE, self.logits_path, num_classes)], LOGITS),
      chain(predictions.name, [predictions], PREDICTIONS),
    )

  def build(
    self,
    net: tf.Tensor,
    end_points: EndPoints,
    num_classes: int | None,
    is_training: bool | tf.Tensor,
    dropout_keep_prob: float,
    create_aux_logits: bool,
    bottleneck_size: int | None = None,
    depth: Callable[[int], int] = int,
  ) -> tuple[tf.Tensor, EndPoints]:
    """Logits, or the embedding or features where there are no classes, and the end points.

    See `inception_resnet_v1.inception_resnet_v1` for the arguments; `depth` is `Variant.depth`.
    """
    if self.auxiliary and create_aux_logits and num_classes:
      self.auxiliary.add(end_points, num_classes, is_training, depth)
    pool, features, *ends = self.units(*spatial_size(net), num_classes or 0)
    with tf.compat.v1.variable_scope(LOGITS):
      if self.before:
        end_points[self.before] = net
      net = _global_pool(net, pool.cells[0].scope)
      if not bottleneck_size:  # facenet's nets do not have the end point
        end_points[GLOBAL_POOL] = net
        if not num_classes:
          return net, end_points
      for layer in features.cells:
        if layer.op == FLATTEN:
          net = layers.flatten(net, scope=layer.scope)
        else:
          net = layers.dropout(net, keep_prob=dropout_keep_prob, scope=layer.scope)
      end_points['PreLogitsFlatten'] = net
      if not self.bottleneck:
        return _classify(net, ends, end_points)
    if bottleneck_size:
      net = layers.fully_connected(net, bottleneck_size, activation_fn=None, scope=self.bottleneck)
      if not num_classes:
        return net, end_points
      end_points[self.bottleneck] = net
    with tf.compat.v1.variable_scope(LOGITS):  # the arg scope's normalizer is for the bottleneck
      return _classify(net, ends, end_points, normalizer_fn=None)


def _classify(
  net: tf.Tensor, ends: Sequence[Unit], end_points: EndPoints, **kwargs: Any
) -> tuple[tf.Tensor, EndPoints]:
  (logits,), (predictions,) = (unit.cells for unit in ends)
  net = layers.fully_connected(net, logits.depth, activation_fn=None, scope=logits.scope, **kwargs)
  end_points[LOGITS] = net
  end_points[PREDICTIONS] = tf.nn.softmax(net, name=predictions.scope)
  return net, end_points


def _global_pool(net: tf.Tensor, scope: str) -> tf.Tensor:
  """[N, h, w, C] -> [N, 1, 1, C] float32: heads compute in float32 whatever the body does."""
  net = tf.cast(net, tf.float32)
  height, width = spatial_size(net)
  if height and width:
    return layers.avg_pool2d(net, (height, width), padding='VALID', scope=scope)
  return tf.reduce_mean(net, (1, 2), keepdims=True, name=GLOBAL_POOL)


def _filled_to(net: tf.Tensor, window: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor | None]:
  """Features as large as the window, for means over windows, and a factor of these means, or None.

  Where a side is unknown while tracing, smaller features get zeros around, and the factor makes
  up for them: as ever the mean is over what is there.
  """
  if None not in spatial_size(net):
    return net, None
  sides = tf.shape(net)[1:3]
  rows, columns = tf.unstack(tf.maximum(tf.constant(window) - sides, 0))
  factor = math.prod(window) / tf.cast(tf.reduce_prod(tf.minimum(sides, window)), net.dtype)
  return tf.pad(net, ((0, 0), (0, rows), (0, columns), (0, 0))), factor


def _squeeze(logits: tf.Tensor, cell: Cell, what: str) -> tf.Tensor:
  """[N, 1, 1, C] -> [N, C]; a clear error where the images are too large for that."""
  text = f'Images so large leave {{}} x {{}} places of {what}'
  logits = check_sides(logits, text, most=(1, 1))
  return tf.squeeze(logits, (1, 2), name=cell.scope)


def has_room(net: tf.Tensor, is_training: bool | tf.Tensor) -> bool:
  """Whether [N, h, w, C] `net` is large enough for an auxiliary head; training says when not.

  At 96 x 96 pixels Inception-v3 has 4 x 4 features there: slim raises, we leave the head out.
  """
  height, width = spatial_size(net)
  if min(side for side in (height, width, AUX_POOL) if side is not None) == AUX_POOL:
    return True
  if tf.is_tensor(is_training) or is_training:
    _warn_left_out(tf.compat.v1.get_variable_scope().name, height, width)
  return False


@functools.cache  # once for each net and size, not once for each replica
def _warn_left_out(scope: str, height: int | None, width: int | None) -> None:
  logging.warning(
    f'{scope}: features of {height or "unknown"} x {width or "unknown"} are too small for the '
    f'auxiliary head (it needs {AUX_POOL} x {AUX_POOL}): left out'
  )
