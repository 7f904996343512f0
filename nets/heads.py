"""What follows a body: pooling, dropout, logits and probabilities; and the auxiliary classifiers.

A head says what it is by units, as a body does, and builds just those: scopes, windows and depths
of the tensors that `build` and `add` make are those of `units` and `unit`.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from . import layers
from .blocks import CONV, Cell, Unit, avg_pool, chain, conv
from .build import EndPoints, Variant, run_cell
from .geometry import spatial_size

DENSE, DROPOUT, FLATTEN, SOFTMAX = 'Dense', 'Dropout', 'Flatten', 'Softmax'

# Variable scopes and end points, the same in all four nets.
LOGITS, AUX_LOGITS, PREDICTIONS, GLOBAL_POOL = 'Logits', 'AuxLogits', 'Predictions', 'global_pool'

AUX_POOL = 5  # pixels a side: below that an auxiliary head has nothing to pool
_PLAIN = Variant()


def _cell(op: str, name: str, depth: int = 0) -> Cell:
  return Cell(op, depth, (1, 1), 1, 'SAME', name)


def dense(depth: int, name: str) -> Cell:
  """A fully connected layer with biases."""
  return _cell(DENSE, name, depth)


def dropout(name: str) -> Cell:
  """Dropout; at inference nothing."""
  return _cell(DROPOUT, name)


def flatten(name: str) -> Cell:
  """[1, 1, C] to [C]."""
  return _cell(FLATTEN, name)


def softmax(name: str) -> Cell:
  """Logits to probabilities."""
  return _cell(SOFTMAX, name)


def weighted(units: Sequence[Unit]) -> tuple[str, ...]:
  """Paths of the layers that have weights, in order of building."""
  return tuple(
    path
    for unit in units
    for path in (
      *(cell.name for cell in unit.cells if cell.op in (CONV, DENSE)),
      *((unit.projection,) if unit.projection else ()),
    )
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuxiliaryHead:
  """A classifier of an inner end point: pooling, two convolutions, a fully connected layer.

  The second convolution spans all that is left, 5 x 5 of 299 x 299 pixels. Where height or width
  is unknown the images must be at least 299 x 299; the logits of larger ones are averages over all
  places.
  """

  end_point: str  # what it classifies
  pool: str  # scopes of its layers
  conv: str  # '{}x{}' stands for the window
  logits: str

  def unit(
    self,
    height: int | None,
    width: int | None,
    num_classes: int,
    depth: Callable[[int], int] = int,
  ) -> Unit:
    """Its layers on features of height x width.

    Args:
      height: at least `AUX_POOL`; None is unknown.
      width: as `height`.
      num_classes: the number of logits.
      depth: filters of a convolution, as `Variant.depth`.
    """
    pool = avg_pool(AUX_POOL, stride=3, name=f'{AUX_LOGITS}/{self.pool}')
    left = [side and (side - AUX_POOL) // pool.stride + 1 for side in (height, width)]
    window = self._window(*left)
    name = f'{AUX_LOGITS}/{self.conv.format(*window)}'
    cells = (
      pool,
      conv(depth(128), 1, name=f'{AUX_LOGITS}/Conv2d_1b_1x1'),
      conv(depth(768), window, padding='VALID', name=name),
      *self._logits(num_classes),
    )
    return chain(AUX_LOGITS, cells, AUX_LOGITS)

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
    with tf.compat.v1.variable_scope(AUX_LOGITS):
      net = run_cell(run_cell(net, pool, _PLAIN), reduce, _PLAIN)
      end_points[AUX_LOGITS] = self._classify(net, rest, spatial_squeeze)

  def _window(self, height: int | None, width: int | None) -> tuple[int, int]:
    return (height, width) if height and width else (5, 5)

  def _logits(self, num_classes: int) -> tuple[Cell, ...]:
    return flatten(f'{AUX_LOGITS}/Flatten'), dense(num_classes, f'{AUX_LOGITS}/{self.logits}')

  def _classify(self, net: tf.Tensor, cells: list[Cell], spatial_squeeze: bool) -> tf.Tensor:
    del spatial_squeeze  # they are flat
    spanning, flat, logits = cells
    aux = run_cell(net, spanning, _PLAIN)
    is_single = None not in spatial_size(net)
    aux = layers.flatten(aux, scope=flat.scope) if is_single else tf.reduce_mean(aux, (1, 2))
    aux = tf.cast(aux, tf.float32)
    return layers.fully_connected(aux, logits.depth, activation_fn=None, scope=logits.scope)


class ConvolutionAuxiliaryHead(AuxiliaryHead):
  """As `AuxiliaryHead` with two other layers: a 5 x 5 convolution and 1 x 1 logits.

  Figure 8 of arXiv:1512.00567 with batch norm (section 10: BN-auxiliary). The window is as small as
  the features where those are smaller.
  """

  def _window(self, height: int | None, width: int | None) -> tuple[int, int]:
    return min(height or 5, 5), min(width or 5, 5)

  def _logits(self, num_classes: int) -> tuple[Cell, ...]:
    name = f'{AUX_LOGITS}/{self.logits}'
    return conv(num_classes, 1, name=name), flatten(f'{AUX_LOGITS}/SpatialSqueeze')

  def _classify(self, net: tf.Tensor, cells: list[Cell], spatial_squeeze: bool) -> tf.Tensor:
    windows, logits, flat = cells
    normal = tf.compat.v1.truncated_normal_initializer
    aux = layers.conv2d(
      net,
      windows.depth,
      windows.kernel,
      padding=windows.padding,
      weights_initializer=normal(0.0, 0.01),
      scope=windows.scope,
    )
    aux = layers.conv2d(
      tf.cast(aux, tf.float32),
      logits.depth,
      1,
      activation_fn=None,
      normalizer_fn=None,
      weights_initializer=normal(0.0, 0.001),
      scope=logits.scope,
    )
    if not spatial_squeeze:
      return aux
    return _squeeze(aux, flat, 'AuxLogits: give create_aux_logits=False or spatial_squeeze=False')


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
    """Its layers on features of height x width, whose paths are within the net's scope.

    Args:
      height: None is unknown.
      width: as `height`.
      num_classes: the number of logits.
    """

  @property
  def optional(self) -> dict[str, str]:
    """{path of a layer: the argument of the net function that wants it, and says how wide}."""
    return {}

  @property
  def weights(self) -> dict[str, tuple[str, ...]]:
    """{scope: paths of its layers that have weights}, in order of building, the logits last.

    They depend on the number of classes, or may be missing in a file of weights.
    """
    weights = {path: (path,) for path in self.optional}
    if self.auxiliary:
      weights[AUX_LOGITS] = weighted([self.auxiliary.unit(None, None, 0)])
    return weights | {self.logits_path.partition('/')[0]: weighted(self.units(None, None, 0))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionHead(Head):
  """Means over windows, dropout, and logits by a 1 x 1 convolution: Inception-v3's."""

  window: int  # pixels a side; less where the features are smaller
  pool: str  # scopes in the scope Logits; '{}x{}' stands for the window
  pooled: str  # the end point of the pooling
  dropout: str
  features: str  # the end point of what the logits are made of
  logits: str

  @property
  def logits_path(self) -> str:
    return f'{LOGITS}/{self.logits}'

  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    window = min(height or self.window, self.window), min(width or self.window, self.window)
    stride = 1 if window == (height, width) else 2
    pool = avg_pool(window, stride, 'VALID', f'{LOGITS}/{self.pool.format(*window)}')
    drop = dropout(f'{LOGITS}/{self.dropout}')
    logits = conv(num_classes, 1, name=self.logits_path), flatten(f'{LOGITS}/SpatialSqueeze')
    return (
      chain(pool.name, [pool], self.pooled),
      chain(drop.name, [drop], self.features),
      chain(self.logits_path, logits, LOGITS),
      chain(PREDICTIONS, [softmax(PREDICTIONS)], PREDICTIONS),
    )

  def build(
    self,
    net: tf.Tensor,
    end_points: EndPoints,
    num_classes: int | None,
    is_training: bool | tf.Tensor,
    *,
    dropout_keep_prob: float,
    create_aux_logits: bool,
    prediction_fn: Callable[..., tf.Tensor],
    spatial_squeeze: bool,
    global_pool: bool,
    depth: Callable[[int], int],
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
        # The stride is slim's default, 2.
        net = layers.avg_pool2d(net, pool.kernel, padding=pool.padding, scope=pool.scope)
        end_points[self.pooled] = net
      if not num_classes:
        return net, end_points
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope=drop.scope)
      end_points[self.features] = net
      net = layers.conv2d(
        net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope=logits.scope
      )
      if spatial_squeeze:
        net = _squeeze(net, flat, 'the logits: give global_pool=True or spatial_squeeze=False')
    end_points[LOGITS] = net
    end_points[PREDICTIONS] = prediction_fn(net, scope=predictions.scope)
    return net, end_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseHead(Head):
  """The mean over all places, dropout, and one fully connected layer."""

  pool: str  # scopes in the scope Logits
  dropout: str
  flatten: str = ''  # of flattening after dropout; '': before it, in slim's own scope
  bottleneck: str = ''  # beside Logits: a linear embedding that the logits are made of, if wanted

  @property
  def logits_path(self) -> str:
    return f'{LOGITS}/Logits'

  @property
  def optional(self) -> dict[str, str]:
    return {self.bottleneck: 'bottleneck_layer_size'} if self.bottleneck else {}

  def units(self, height: int | None, width: int | None, num_classes: int) -> tuple[Unit, ...]:
    pool = avg_pool((height or 1, width or 1), padding='VALID', name=f'{LOGITS}/{self.pool}')
    drop = dropout(f'{LOGITS}/{self.dropout}')
    flat = flatten(f'{LOGITS}/{self.flatten or "Flatten"}')
    predictions = f'{LOGITS}/{PREDICTIONS}'
    return (
      chain(pool.name, [pool], GLOBAL_POOL),
      chain(drop.name, (drop, flat) if self.flatten else (flat, drop), 'PreLogitsFlatten'),
      chain(self.logits_path, [dense(num_classes, self.logits_path)], LOGITS),
      chain(predictions, [softmax(predictions)], PREDICTIONS),
    )

  def build(
    self,
    net: tf.Tensor,
    end_points: EndPoints,
    num_classes: int | None,
    is_training: bool | tf.Tensor,
    *,
    dropout_keep_prob: float,
    create_aux_logits: bool,
    bottleneck_size: int | None = None,
  ) -> tuple[tf.Tensor, EndPoints]:
    """Logits, or the embedding or features where there are no classes, and the end points.

    See `inception_resnet_v1.inception_resnet_v1` for the arguments.
    """
    if self.auxiliary and create_aux_logits and num_classes:
      self.auxiliary.add(end_points, num_classes, is_training)
    pool, features, logits, predictions = self.units(*spatial_size(net), num_classes or 0)

    def classify(net: tf.Tensor, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
      (dense,), (probabilities,) = logits.cells, predictions.cells
      net = layers.fully_connected(
        net, dense.depth, activation_fn=None, scope=dense.scope, **kwargs
      )
      end_points[LOGITS] = net
      end_points[PREDICTIONS] = tf.nn.softmax(net, name=probabilities.scope)
      return net, end_points

    with tf.compat.v1.variable_scope(LOGITS):
      if self.before:
        end_points[self.before] = net
      net = _global_pool(net, pool.cells[0].scope)
      if not bottleneck_size:  # facenet's nets do not have the end point
        end_points[GLOBAL_POOL] = net
        if not num_classes:
          return net, end_points
      for cell in features.cells:
        if cell.op == FLATTEN:
          net = layers.flatten(net, scope=cell.scope)
        else:
          net = layers.dropout(net, keep_prob=dropout_keep_prob, scope=cell.scope)
      end_points['PreLogitsFlatten'] = net
      if not self.bottleneck:
        return classify(net)
    if bottleneck_size:
      net = layers.fully_connected(net, bottleneck_size, activation_fn=None, scope=self.bottleneck)
      if not num_classes:
        return net, end_points
    with tf.compat.v1.variable_scope(LOGITS):
      return classify(net, normalizer_fn=None)  # the arg scope's is for the bottleneck


def _global_pool(net: tf.Tensor, scope: str) -> tf.Tensor:
  """[N, h, w, C] -> [N, 1, 1, C] float32: heads compute in float32 whatever the body does."""
  net = tf.cast(net, tf.float32)
  height, width = spatial_size(net)
  if height and width:
    return layers.avg_pool2d(net, (height, width), padding='VALID', scope=scope)
  return tf.reduce_mean(net, (1, 2), keepdims=True, name=GLOBAL_POOL)


def _squeeze(logits: tf.Tensor, cell: Cell, what: str) -> tf.Tensor:
  """[N, 1, 1, C] -> [N, C]; a clear error where the images are too large for that."""
  height, width = spatial_size(logits)
  if (height or 1, width or 1) != (1, 1):
    raise ValueError(f'Images so large leave {height} x {width} places of {what}')
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
    '%s: features of %s x %s are too small for the auxiliary head (it needs %d x %d): left out',
    scope,
    height or 'unknown',
    width or 'unknown',
    AUX_POOL,
    AUX_POOL,
  )
