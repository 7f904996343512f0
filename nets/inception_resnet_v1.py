"""Inception-ResNet-v1 (arXiv:1602.07261, Figure 15), with the names of facenet's checkpoints.

slim never had this net; the TensorFlow code in use is facenet's, which embeds faces. Ours has the
classifier head of its sisters too. Differs from the paper where facenet does: a last residual block
(Block8), linear and unscaled. facenet has no auxiliary head and the paper draws none.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from . import inception_utils, layers, slim
from .inception_blocks import (
  Block,
  Branches,
  EndPoints,
  Head,
  Residual,
  Row,
  Variant,
  conv,
  max_pool,
  repeat,
  row,
  run_body,
)

BLOCK_35: Branches = (  # Figure 10
  [conv(32, 1, name='Conv2d_1x1')],
  [conv(32, 1), conv(32, 3)],
  [conv(32, 1), conv(32, 3), conv(32, 3)],
)

BLOCK_17: Branches = (  # Figure 11
  [conv(128, 1, name='Conv2d_1x1')],
  [conv(128, 1), conv(128, (1, 7)), conv(128, (7, 1))],
)

BLOCK_8: Branches = (  # Figure 13
  [conv(192, 1, name='Conv2d_1x1')],
  [conv(192, 1), conv(192, (1, 3)), conv(192, (3, 1))],
)

REDUCTION_A: Block = (  # Figure 7; k, l, m, n = 192, 192, 256, 384 (Table 1)
  [conv(384, 3, stride=2)],
  [conv(192, 1), conv(192, 3), conv(256, 3, stride=2)],
  [max_pool(3, stride=2)],
)

REDUCTION_B: Block = (  # Figure 12
  [conv(256, 1), conv(384, 3, stride=2)],
  [conv(256, 1), conv(256, 3, stride=2)],
  [conv(256, 1), conv(256, 3), conv(256, 3, stride=2)],
  [max_pool(3, stride=2)],
)

# fmt: off
BODY: tuple[Row, ...] = (                                      # Figure 15  output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),                 # Figure 14  149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),          #            147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                           #            147 x 147 x 64
  row('MaxPool_3a_3x3', max_pool(3, stride=2)),                #            73 x 73 x 64
  row('Conv2d_3b_1x1', conv(80, 1)),                           #            73 x 73 x 80
  row('Conv2d_4a_3x3', conv(192, 3, padding='VALID')),         #            71 x 71 x 192
  row('Conv2d_4b_3x3', conv(256, 3, stride=2)),                #            35 x 35 x 256
  *repeat('Repeat/block35_{}', range(1, 6), Residual(BLOCK_35, scale=0.17),
          end_point='Mixed_5a'),                               # 5 x        35 x 35 x 256
  row('Mixed_6a', REDUCTION_A),                                #            17 x 17 x 896
  *repeat('Repeat_1/block17_{}', range(1, 11), Residual(BLOCK_17, scale=0.10),
          end_point='Mixed_6b'),                               # 10 x       17 x 17 x 896
  row('Mixed_7a', REDUCTION_B),                                #            8 x 8 x 1792
  *repeat('Repeat_2/block8_{}', range(1, 6), Residual(BLOCK_8, scale=0.20),
          end_point='Mixed_8a'),                               # 5 x        8 x 8 x 1792
  row('Block8', Residual(BLOCK_8, scale=1.0, activate=False), 'Mixed_8b'),  # 8 x 8 x 1792
)
# fmt: on

HEAD = Head(
  'InceptionResnetV1',
  pool='AvgPool_1a_8x8',
  pooled='global_pool',
  dropout='Dropout',
  features='PreLogitsFlatten',
  logits='Logits',
  before='PrePool',
)


def inception_resnet_v1_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_8b',
  scope: str | None = None,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v1 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper (160 x 160 in facenet), at least
      75 x 75.
    final_endpoint: the last end point to build, any that `BODY` names.
    scope: variable scope, 'InceptionResnetV1' by default.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, or images too small for it.
  """
  with tf.compat.v1.variable_scope(scope, 'InceptionResnetV1', [inputs]):
    return run_body(inputs, BODY, final_endpoint, Variant(activation_fn=activation_fn))


def inception_resnet_v1(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = 'InceptionResnetV1',
  create_aux_logits: bool = True,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  bottleneck_layer_size: int | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v1: a classifier, or an embedding as facenet's.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout, or the
      embedding.
    is_training: batch statistics and dropout, or moving averages and none.
    dropout_keep_prob: the share of features that dropout keeps.
    reuse: of the variables; needs `scope`.
    scope: variable scope.
    create_aux_logits: of the sisters' signature; this net has no auxiliary head.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.
    bottleneck_layer_size: the width of facenet's linear embedding ('Bottleneck', after dropout);
      logits, if any, are computed from it. None: there is no such layer.

  Returns:
    Logits [N, num_classes], or the embedding [N, bottleneck_layer_size], or features
    [N, 1, 1, 1792]; and the end points: those of the base, 'PrePool', 'global_pool' (without
    bottleneck: facenet does not have it), 'PreLogitsFlatten', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small.
  """
  del create_aux_logits
  with (
    tf.compat.v1.variable_scope(scope, 'InceptionResnetV1', [inputs], reuse=reuse) as scope,
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    net, end_points = inception_resnet_v1_base(inputs, scope=scope, activation_fn=activation_fn)
    with tf.compat.v1.variable_scope('Logits'):
      end_points['PrePool'] = net
      net = inception_utils.global_pool(net, 'AvgPool_1a_8x8')
      if not bottleneck_layer_size:
        end_points['global_pool'] = net
        if not num_classes:
          return net, end_points
      net = layers.flatten(net)
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope='Dropout')
      end_points['PreLogitsFlatten'] = net
    if bottleneck_layer_size:
      net = layers.fully_connected(
        net, bottleneck_layer_size, activation_fn=None, scope='Bottleneck'
      )
      if not num_classes:
        return net, end_points
    with tf.compat.v1.variable_scope('Logits'):
      logits = layers.fully_connected(
        net, num_classes, activation_fn=None, normalizer_fn=None, scope='Logits'
      )
      end_points['Logits'] = logits
      end_points['Predictions'] = tf.nn.softmax(logits, name='Predictions')
  return logits, end_points


inception_resnet_v1.default_image_size = 299


def inception_resnet_v1_arg_scope(
  weight_decay: float = 0.00004,
  batch_norm_decay: float = 0.995,
  batch_norm_epsilon: float = 0.001,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  batch_norm_updates_collections: str | None = tf.compat.v1.GraphKeys.UPDATE_OPS,
  batch_norm_scale: bool = False,
  use_batch_norm: bool = True,
) -> dict[str, Any]:
  """facenet's arg scope: Xavier weights, batch norm (decay 0.995) on the bottleneck too.

  Returns:
    For `with slim.arg_scope(...):`; see `inception_utils.inception_arg_scope`.
  """
  normalizer = inception_utils.batch_norm_arguments(
    use_batch_norm,
    batch_norm_decay,
    batch_norm_epsilon,
    batch_norm_updates_collections,
    batch_norm_scale,
  )
  regularizer = slim.l2_regularizer(float(weight_decay))
  return inception_utils.make_arg_scope(
    {'weights_regularizer': regularizer, **normalizer}, {'activation_fn': activation_fn}, {}
  )
