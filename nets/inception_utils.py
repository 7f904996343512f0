"""What the four nets share besides their blocks: the arg scope and the parts of the heads."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from absl import logging

from . import layers, slim
from .inception_blocks import AUX_DEPTHS, AUX_POOL, AUX_STRIDE, spatial_size

ArgScope = dict[str, Any]


def inception_arg_scope(
  weight_decay: float = 0.00004,
  use_batch_norm: bool = True,
  batch_norm_decay: float = 0.9997,
  batch_norm_epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
  batch_norm_scale: bool = False,
) -> ArgScope:
  """The default arguments of the layers of Inception-v3 and -v4, as slim's.

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
    slim.arg_scope([layers.conv2d, layers.fully_connected], **both),
    slim.arg_scope([layers.conv2d], **conv, **normalizer) as scope,
  ):
    return scope


def with_frozen_batch_norm(arg_scope: ArgScope) -> ArgScope:
  """An arg scope in which batch norm stays as it was restored, in training too."""
  with (
    slim.arg_scope(arg_scope),
    slim.arg_scope([layers.batch_norm], frozen=True) as scope,
  ):
    return scope


def with_synchronized_batch_norm(arg_scope: ArgScope) -> ArgScope:
  """An arg scope in which the batches of all replicas are one to batch norm in training."""
  with (
    slim.arg_scope(arg_scope),
    slim.arg_scope([layers.batch_norm], synchronized=True) as scope,
  ):
    return scope


def batch_norm_arguments(
  use_batch_norm: bool,
  decay: float,
  epsilon: float,
  updates_collections: str | None,
  scale: bool,
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


def has_room_for_auxiliary_head(net: tf.Tensor, is_training: bool | tf.Tensor) -> bool:
  """Whether [N, h, w, C] `net` is large enough for the auxiliary head; training says when not.

  At 96 x 96 pixels Inception-v3 has 4 x 4 features there: slim raises, we leave the head out.
  """
  height, width = spatial_size(net)
  if min(side for side in (height, width, AUX_POOL) if side is not None) == AUX_POOL:
    return True
  if tf.is_tensor(is_training) or is_training:
    _say_left_out(tf.compat.v1.get_variable_scope().name, height, width)
  return False


@functools.cache  # once for each net and size, not once for each replica
def _say_left_out(scope: str, height: int | None, width: int | None) -> None:
  logging.warning(
    '%s: features of %s x %s are too small for the auxiliary head (it needs %d x %d): left out',
    scope,
    height or 'unknown',
    width or 'unknown',
    AUX_POOL,
    AUX_POOL,
  )


def auxiliary_features(net: tf.Tensor, pool: str, depth: int = AUX_DEPTHS[0]) -> tf.Tensor:
  """How every auxiliary head begins: pooling (scope `pool`), then a 1 x 1 convolution."""
  net = layers.avg_pool2d(net, AUX_POOL, stride=AUX_STRIDE, padding='VALID', scope=pool)
  return layers.conv2d(net, depth, 1, scope='Conv2d_1b_1x1')


def fully_connected_auxiliary_head(
  net: tf.Tensor, num_classes: int, *, pool: str, conv: str, logits: str
) -> tf.Tensor:
  """The auxiliary classifier of Inception-v4 and Inception-ResNet-v2; scopes as given.

  Args:
    net: [N, 17, 17, C] at 299 x 299. Where height or width is unknown the images must be at
      least 299 x 299; the logits of larger ones are averages over all places.
    num_classes: the number of logits.
    pool: scope of the 5 x 5 pooling.
    conv: scope of the convolution over all that is left, 5 x 5 at 299 x 299.
    logits: scope of the fully connected layer.

  Returns:
    Logits, [N, num_classes] float32.
  """
  with tf.compat.v1.variable_scope('AuxLogits'):
    aux = auxiliary_features(net, pool)
    height, width = spatial_size(aux)
    if height and width:
      aux = layers.conv2d(aux, AUX_DEPTHS[1], (height, width), padding='VALID', scope=conv)
      aux = layers.flatten(aux)
    else:
      aux = layers.conv2d(aux, AUX_DEPTHS[1], 5, padding='VALID', scope=conv)
      aux = tf.reduce_mean(aux, (1, 2))
    aux = tf.cast(aux, tf.float32)
    return layers.fully_connected(aux, num_classes, activation_fn=None, scope=logits)


def global_pool(net: tf.Tensor, scope: str) -> tf.Tensor:
  """[N, h, w, C] -> [N, 1, 1, C] float32: heads compute in float32 whatever the body does."""
  net = tf.cast(net, tf.float32)
  height, width = spatial_size(net)
  if height and width:
    return layers.avg_pool2d(net, (height, width), padding='VALID', scope=scope)
  return tf.reduce_mean(net, (1, 2), keepdims=True, name='global_pool')
