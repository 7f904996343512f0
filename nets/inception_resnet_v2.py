"""Inception-ResNet-v2 (arXiv:1602.07261), as slim trained and released it.

Differs from the paper, where slim does: the stem is that of Inception-v3 with one Inception block
(Mixed_5b) rather than Figure 3; blocks are 320, 1088 and 2080 wide rather than 384, 1154 and 2048;
there are 10, 20 and 9 + 1 of them rather than 5, 10 and 5;
the last residual block is linear and unscaled; a 1 x 1 convolution (Conv2d_7b_1x1) comes before
the pooling. Names are slim's.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from . import inception_utils, layers, slim
from .inception_blocks import (
  HIDDEN,
  AuxiliaryHead,
  Block,
  Branches,
  EndPoints,
  Head,
  Residual,
  Row,
  Variant,
  avg_pool,
  conv,
  max_pool,
  repeat,
  row,
  run_body,
  run_branches,
)

BLOCK_35: Branches = (  # Figure 16
  [conv(32, 1, name='Conv2d_1x1')],
  [conv(32, 1), conv(32, 3)],
  [conv(32, 1), conv(48, 3), conv(64, 3)],
)

BLOCK_17: Branches = (  # Figure 17
  [conv(192, 1, name='Conv2d_1x1')],
  [conv(128, 1), conv(160, (1, 7)), conv(192, (7, 1))],
)

BLOCK_8: Branches = (  # Figure 19
  [conv(192, 1, name='Conv2d_1x1')],
  [conv(192, 1), conv(224, (1, 3)), conv(256, (3, 1))],
)

MIXED_5B: Block = (
  [conv(96, 1, name='Conv2d_1x1')],
  [conv(48, 1), conv(64, 5)],
  [conv(64, 1), conv(96, 3), conv(96, 3)],
  [avg_pool(3), conv(64, 1)],
)

REDUCTION_A: Block = (  # Figure 7; k, l, m, n = 256, 256, 384, 384 (Table 1)
  [conv(384, 3, stride=2)],
  [conv(256, 1), conv(256, 3), conv(384, 3, stride=2)],
  [max_pool(3, stride=2)],
)

REDUCTION_B: Block = (  # Figure 18
  [conv(256, 1), conv(384, 3, stride=2)],
  [conv(256, 1), conv(288, 3, stride=2)],
  [conv(256, 1), conv(288, 3), conv(320, 3, stride=2)],
  [max_pool(3, stride=2)],
)

# fmt: off
BODY: tuple[Row, ...] = (                                      # Figure 15  output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),                            # 149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),                     # 147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                                      # 147 x 147 x 64
  row('MaxPool_3a_3x3', max_pool(3, stride=2)),                           # 73 x 73 x 64
  row('Conv2d_3b_1x1', conv(80, 1)),                                      # 73 x 73 x 80
  row('Conv2d_4a_3x3', conv(192, 3, padding='VALID')),                    # 71 x 71 x 192
  row('MaxPool_5a_3x3', max_pool(3, stride=2)),                           # 35 x 35 x 192
  row('Mixed_5b', MIXED_5B),                                              # 35 x 35 x 320
  *repeat('Repeat/block35_{}', range(1, 11), Residual(BLOCK_35, scale=0.17), end_point=HIDDEN),
  row('Mixed_6a', REDUCTION_A),                                           # 17 x 17 x 1088
  *repeat('Repeat_1/block17_{}', range(1, 21), Residual(BLOCK_17, scale=0.10),
          end_point='PreAuxLogits'),                                      # 17 x 17 x 1088
  row('Mixed_7a', REDUCTION_B),                                           # 8 x 8 x 2080
  *repeat('Repeat_2/block8_{}', range(1, 10), Residual(BLOCK_8, scale=0.20), end_point=HIDDEN),
  row('Block8', Residual(BLOCK_8, scale=1.0, activate=False), HIDDEN),    # 8 x 8 x 2080
  row('Conv2d_7b_1x1', conv(1536, 1)),                                    # 8 x 8 x 1536
)
# fmt: on

HEAD = Head(
  'InceptionResnetV2',
  pool='AvgPool_1a_8x8',
  pooled='global_pool',
  dropout='Dropout',
  features='PreLogitsFlatten',
  logits='Logits',
  auxiliary=AuxiliaryHead('PreAuxLogits', 'Conv2d_1a_3x3', 'Conv2d_2a_5x5', 'Logits'),
)


def _residual_block(name: str, branches: Branches) -> Callable[..., tf.Tensor]:
  """A block as a function of its own: slim.repeat(net, 9, block8, scale=0.20)."""

  def block(
    net: tf.Tensor,
    scale: float = 1.0,
    activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
    scope: str | None = None,
    reuse: bool | None = None,
  ) -> tf.Tensor:
    with tf.compat.v1.variable_scope(scope, name.capitalize(), [net], reuse=reuse):
      return run_branches(net, Residual(branches, scale), Variant(activation_fn=activation_fn))

  block.__name__ = name  # slim.repeat makes variable names of it
  return block


block35 = _residual_block('block35', BLOCK_35)
block17 = _residual_block('block17', BLOCK_17)
block8 = _residual_block('block8', BLOCK_8)


def inception_resnet_v2_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Conv2d_7b_1x1',
  output_stride: int = 16,
  align_feature_maps: bool = False,
  scope: str | None = None,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v2 without its head; a back-bone for detection and segmentation.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper, at least 75 x 75 (any size with
      `align_feature_maps`).
    final_endpoint: the last end point to build, any that `BODY` names.
    output_stride: 16 is the classifier: PreAuxLogits at 1/16 of the image, the end at 1/32. With 8
      nothing is smaller than 1/8: later strides become dilation, with the same weights, also past
      PreAuxLogits (where slim raises): every fourth row and column at the end is the classifier's.
    align_feature_maps: SAME padding everywhere, so that features lie where their pixels are.
    scope: variable scope, 'InceptionResnetV2' by default.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, or another `output_stride`.
  """
  if output_stride not in (8, 16):
    raise ValueError(f'output_stride is {output_stride}; choose 8 or 16')
  variant = Variant(
    valid_padding='SAME' if align_feature_maps else 'VALID', activation_fn=activation_fn
  )
  max_stride = 8 if output_stride == 8 else None
  with tf.compat.v1.variable_scope(scope, 'InceptionResnetV2', [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant, max_stride)


def inception_resnet_v2(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = 'InceptionResnetV2',
  create_aux_logits: bool = True,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v2 (arXiv:1602.07261), with an auxiliary classifier on PreAuxLogits.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    is_training: batch statistics and dropout, or moving averages and none.
    dropout_keep_prob: the share of features that dropout keeps.
    reuse: of the variables; needs `scope`.
    scope: variable scope.
    create_aux_logits: adds 'AuxLogits'; left out below 107 x 107 pixels.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.

  Returns:
    Logits [N, num_classes] (or features, [N, 1, 1, 1536]), and the end points: those of the base,
    'AuxLogits', 'global_pool', 'PreLogitsFlatten', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small.
  """
  with (
    tf.compat.v1.variable_scope(scope, 'InceptionResnetV2', [inputs], reuse=reuse) as scope,
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    net, end_points = inception_resnet_v2_base(inputs, scope=scope, activation_fn=activation_fn)
    if create_aux_logits and num_classes:
      aux = end_points['PreAuxLogits']
      if inception_utils.has_room_for_auxiliary_head(aux, is_training):
        end_points['AuxLogits'] = inception_utils.fully_connected_auxiliary_head(
          aux, num_classes, pool='Conv2d_1a_3x3', conv='Conv2d_2a_5x5', logits='Logits'
        )

    with tf.compat.v1.variable_scope('Logits'):
      net = inception_utils.global_pool(net, 'AvgPool_1a_8x8')
      end_points['global_pool'] = net
      if not num_classes:
        return net, end_points
      net = layers.flatten(net)
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope='Dropout')
      end_points['PreLogitsFlatten'] = net
      logits = layers.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
      end_points['Logits'] = logits
      end_points['Predictions'] = tf.nn.softmax(logits, name='Predictions')
  return logits, end_points


inception_resnet_v2.default_image_size = 299


def inception_resnet_v2_arg_scope(
  weight_decay: float = 0.00004,
  batch_norm_decay: float = 0.9997,
  batch_norm_epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
  batch_norm_scale: bool = False,
  use_batch_norm: bool = True,
) -> dict[str, Any]:
  """As `inception_utils.inception_arg_scope`, with slim's differences for this net.

  The L2 loss takes in the biases, and weights start from slim's default (Xavier).

  Returns:
    For `with slim.arg_scope(...):`.
  """
  regularizer = slim.l2_regularizer(float(weight_decay))
  return inception_utils.make_arg_scope(
    {'weights_regularizer': regularizer, 'biases_regularizer': regularizer},
    {'activation_fn': activation_fn},
    inception_utils.batch_norm_arguments(
      use_batch_norm,
      batch_norm_decay,
      batch_norm_epsilon,
      batch_norm_updates_collections,
      batch_norm_scale,
    ),
  )
