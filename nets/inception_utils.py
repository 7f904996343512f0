"""What the four nets share besides their blocks: the arg scope and the parts of the heads."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_slim as slim
from absl import logging

from nets import layers

# Below 5 x 5 there is nothing for the pooling of the auxiliary heads to pool.
_AUX_POOL = 5


def inception_arg_scope(
  weight_decay: float = 0.00004,
  use_batch_norm: bool = True,
  batch_norm_decay: float = 0.9997,
  batch_norm_epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
  batch_norm_scale: bool = False,
) -> dict[str, Any]:
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
  normalizer = batch_norm_arguments(
    use_batch_norm,
    batch_norm_decay,
    batch_norm_epsilon,
    batch_norm_updates_collections,
    batch_norm_scale,
  )
  with (
    slim.arg_scope(
      [layers.conv2d, layers.fully_connected],
      weights_regularizer=slim.l2_regularizer(weight_decay),
    ),
    slim.arg_scope(
      [layers.conv2d],
      weights_initializer=slim.variance_scaling_initializer(),
      activation_fn=activation_fn,
      **normalizer,
    ) as scope,
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


def has_room_for_auxiliary_head(net: tf.Tensor, scope: str) -> bool:
  """Whether [N, h, w, C] `net` is large enough for the auxiliary head; says so when it is not.

  At 96 x 96 pixels Inception-v3 has 4 x 4 features there: slim raises, we leave the head out.
  """
  sides = [side for side in net.shape[1:3] if side is not None]
  if min(sides, default=_AUX_POOL) >= _AUX_POOL:
    return True
  logging.log_first_n(
    logging.WARNING,
    '%s: features of %d x %d are too small for the auxiliary head (it needs %d x %d): left out',
    1,
    scope,
    *net.shape[1:3],
    _AUX_POOL,
    _AUX_POOL,
  )
  return False


def fully_connected_auxiliary_head(
  net: tf.Tensor, num_classes: int, *, pool: str, conv: str, logits: str
) -> tf.Tensor:
  """The auxiliary classifier of Inception-v4 and Inception-ResNet-v2; scopes as given.

  Args:
    net: [N, 17, 17, C] at 299 x 299.
    num_classes: the number of logits.
    pool: scope of the 5 x 5 pooling.
    conv: scope of the convolution over all that is left, 5 x 5 at 299 x 299.
    logits: scope of the fully connected layer.

  Returns:
    Logits, [N, num_classes] float32.
  """
  with tf.compat.v1.variable_scope('AuxLogits'):
    aux = layers.avg_pool2d(net, _AUX_POOL, stride=3, padding='VALID', scope=pool)
    aux = layers.conv2d(aux, 128, 1, scope='Conv2d_1b_1x1')
    if aux.shape[1:3].is_fully_defined():
      aux = layers.conv2d(aux, 768, aux.shape[1:3], padding='VALID', scope=conv)
      aux = layers.flatten(aux)
    else:  # 5 x 5 as at 299 x 299; at any larger size the average over all places
      aux = layers.conv2d(aux, 768, 5, padding='VALID', scope=conv)
      aux = tf.reduce_mean(aux, (1, 2))
    aux = tf.cast(aux, tf.float32)
    return layers.fully_connected(aux, num_classes, activation_fn=None, scope=logits)


def global_pool(net: tf.Tensor, scope: str) -> tf.Tensor:
  """[N, h, w, C] -> [N, 1, 1, C] float32: heads compute in float32 whatever the body does."""
  net = tf.cast(net, tf.float32)
  if net.shape[1:3].is_fully_defined():
    return layers.avg_pool2d(net, net.shape[1:3], padding='VALID', scope=scope)
  return tf.reduce_mean(net, (1, 2), keepdims=True, name='global_pool')
