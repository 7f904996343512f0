"""Inception-v4: "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning" (arXiv:1602.07261).

Figures and tables are the paper's, names are slim's. Where the paper factorizes a convolution, slim
has some pairs the other way round (7 x 1 before 1 x 7 in the long branch of Figure 5, 3 x 1 before
1 x 3 in that of Figure 6, 1 x 7 before 7 x 1 in the stem): its checkpoints decide.
"""

import tensorflow as tf

from . import inception_utils, layers, slim
from .inception_blocks import (
  AuxiliaryHead,
  Block,
  EndPoints,
  Head,
  Row,
  avg_pool,
  conv,
  max_pool,
  repeat,
  row,
  run_body,
  split,
)

INCEPTION_A: Block = (  # Figure 4
  [conv(96, 1)],
  [conv(64, 1), conv(96, 3)],
  [conv(64, 1), conv(96, 3), conv(96, 3)],
  [avg_pool(3), conv(96, 1)],
)

INCEPTION_B: Block = (  # Figure 5
  [conv(384, 1)],
  [conv(192, 1), conv(224, (1, 7)), conv(256, (7, 1))],
  [conv(192, 1), conv(192, (7, 1)), conv(224, (1, 7)), conv(224, (7, 1)), conv(256, (1, 7))],
  [avg_pool(3), conv(128, 1)],
)

INCEPTION_C: Block = (  # Figure 6
  [conv(256, 1)],
  [conv(384, 1), split(conv(256, (1, 3)), conv(256, (3, 1)))],
  [
    conv(384, 1),
    conv(448, (3, 1)),
    conv(512, (1, 3)),
    split(conv(256, (1, 3)), conv(256, (3, 1))),
  ],
  [avg_pool(3), conv(256, 1)],
)

REDUCTION_A: Block = (  # Figure 7; k, l, m, n = 192, 224, 256, 384 (Table 1)
  [conv(384, 3, stride=2)],
  [conv(192, 1), conv(224, 3), conv(256, 3, stride=2)],
  [max_pool(3, stride=2)],
)

REDUCTION_B: Block = (  # Figure 8
  [conv(192, 1), conv(192, 3, stride=2)],
  [conv(256, 1), conv(256, (1, 7)), conv(320, (7, 1)), conv(320, 3, stride=2)],
  [max_pool(3, stride=2)],
)

STEM_3A: Block = (
  [max_pool(3, stride=2, name='MaxPool_0a_3x3')],
  [conv(96, 3, stride=2, name='Conv2d_0a_3x3')],
)

STEM_4A: Block = (
  [conv(64, 1), conv(96, 3, padding='VALID')],
  [conv(64, 1), conv(64, (1, 7)), conv(64, (7, 1)), conv(96, 3, padding='VALID')],
)

STEM_5A: Block = (
  [conv(192, 3, stride=2)],
  [max_pool(3, stride=2)],
)

# fmt: off
BODY: tuple[Row, ...] = (                                    # Figure 9     output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),               # Figure 3     149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),        #              147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                         #              147 x 147 x 64
  row('Mixed_3a', STEM_3A),                                  #              73 x 73 x 160
  row('Mixed_4a', STEM_4A),                                  #              71 x 71 x 192
  row('Mixed_5a', STEM_5A),                                  #              35 x 35 x 384
  *repeat('Mixed_5{}', 'bcde', INCEPTION_A),                 # 4 x Figure 4 35 x 35 x 384
  row('Mixed_6a', REDUCTION_A),                              # Figure 7     17 x 17 x 1024
  *repeat('Mixed_6{}', 'bcdefgh', INCEPTION_B),              # 7 x Figure 5 17 x 17 x 1024
  row('Mixed_7a', REDUCTION_B),                              # Figure 8     8 x 8 x 1536
  *repeat('Mixed_7{}', 'bcd', INCEPTION_C),                  # 3 x Figure 6 8 x 8 x 1536
)
# fmt: on

HEAD = Head(
  'InceptionV4',
  pool='AvgPool_1a',
  pooled='global_pool',
  dropout='Dropout_1b',
  features='PreLogitsFlatten',
  logits='Logits',
  auxiliary=AuxiliaryHead('Mixed_6h', 'AvgPool_1a_5x5', 'Conv2d_2a', 'Aux_logits'),
)


def inception_v4_base(
  inputs: tf.Tensor, final_endpoint: str = 'Mixed_7d', scope: str | None = None
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v4 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper, at least 75 x 75.
    final_endpoint: the last end point to build, any row of `BODY`.
    scope: variable scope, 'InceptionV4' by default.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, or images too small for it.
  """
  with tf.compat.v1.variable_scope(scope, 'InceptionV4', [inputs]):
    return run_body(inputs, BODY, final_endpoint)


def inception_v4(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = 'InceptionV4',
  create_aux_logits: bool = True,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v4 (arXiv:1602.07261, Figure 9), with slim's auxiliary classifier on Mixed_6h.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    is_training: batch statistics and dropout, or moving averages and none.
    dropout_keep_prob: the share of features that dropout keeps.
    reuse: of the variables; needs `scope`.
    scope: variable scope.
    create_aux_logits: adds 'AuxLogits'; left out below 107 x 107 pixels.

  Returns:
    Logits [N, num_classes] (or features, [N, 1, 1, 1536]), and the end points: those of the base,
    'AuxLogits', 'global_pool', 'PreLogitsFlatten', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small.
  """
  with (
    tf.compat.v1.variable_scope(scope, 'InceptionV4', [inputs], reuse=reuse) as scope,
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    net, end_points = inception_v4_base(inputs, scope=scope)
    if create_aux_logits and num_classes:
      aux = end_points['Mixed_6h']
      if inception_utils.has_room_for_auxiliary_head(aux, is_training):
        end_points['AuxLogits'] = inception_utils.fully_connected_auxiliary_head(
          aux, num_classes, pool='AvgPool_1a_5x5', conv='Conv2d_2a', logits='Aux_logits'
        )

    with tf.compat.v1.variable_scope('Logits'):
      net = inception_utils.global_pool(net, 'AvgPool_1a')
      end_points['global_pool'] = net
      if not num_classes:
        return net, end_points
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope='Dropout_1b')
      net = layers.flatten(net, scope='PreLogitsFlatten')
      end_points['PreLogitsFlatten'] = net
      logits = layers.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
      end_points['Logits'] = logits
      end_points['Predictions'] = tf.nn.softmax(logits, name='Predictions')
  return logits, end_points


inception_v4.default_image_size = 299

inception_v4_arg_scope = inception_utils.inception_arg_scope
