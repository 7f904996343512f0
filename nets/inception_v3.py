"""Inception-v3: "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).

Figures and tables are the paper's, where slim's released net differs it is slim's: in the stem of
Table 1 a 1 x 1 convolution and a max pooling stand for one 3 x 3 convolution each, and there are 3,
4 and 2 Inception blocks rather than 3, 5 and 2. Names are slim's, slips of the pen included
(`name=`): released checkpoints have them.
"""

from collections.abc import Callable

import tensorflow as tf

from . import inception_utils, layers, slim
from .inception_blocks import (
  AUX_DEPTHS,
  AuxiliaryHead,
  Branches,
  EndPoints,
  Head,
  Row,
  Variant,
  avg_pool,
  conv,
  max_pool,
  row,
  run_body,
  spatial_size,
  split,
)


def inception_a(
  pool_depth: int, *, reduce_5x5: str | None = None, conv_5x5: str | None = None
) -> Branches:
  """Figure 5, with a 5 x 5 where the figure has a lone 3 x 3; 35 x 35."""
  return (
    [conv(64, 1)],
    [conv(48, 1, name=reduce_5x5), conv(64, 5, name=conv_5x5)],
    [conv(64, 1), conv(96, 3), conv(96, 3)],
    [avg_pool(3), conv(pool_depth, 1)],
  )


def inception_b(depth: int) -> Branches:
  """Figure 6, n = 7; 17 x 17. `depth` is that of the inner convolutions."""
  return (
    [conv(192, 1)],
    [conv(depth, 1), conv(depth, (1, 7)), conv(192, (7, 1))],
    [
      conv(depth, 1),
      conv(depth, (7, 1)),
      conv(depth, (1, 7)),
      conv(depth, (7, 1)),
      conv(192, (1, 7)),
    ],
    [avg_pool(3), conv(192, 1)],
  )


def inception_c(conv_3x1: str | None = None) -> Branches:
  """Figure 7; 8 x 8."""
  return (
    [conv(320, 1)],
    [conv(384, 1), split(conv(384, (1, 3)), conv(384, (3, 1), name=conv_3x1))],
    [conv(448, 1), conv(384, 3), split(conv(384, (1, 3)), conv(384, (3, 1)))],
    [avg_pool(3), conv(192, 1)],
  )


REDUCTION_A: Branches = (  # Figure 10; without a 1 x 1 before the lone 3 x 3
  [conv(384, 3, stride=2, name='Conv2d_1a_1x1')],
  [conv(64, 1), conv(96, 3), conv(96, 3, stride=2, name='Conv2d_1a_1x1')],
  [max_pool(3, stride=2)],
)

REDUCTION_B: Branches = (  # Figure 10, the 3 x 3 factorized into 1 x 7 and 7 x 1 before it
  [conv(192, 1), conv(320, 3, stride=2)],
  [conv(192, 1), conv(192, (1, 7)), conv(192, (7, 1)), conv(192, 3, stride=2)],
  [max_pool(3, stride=2)],
)

# fmt: off
BODY: tuple[Row, ...] = (                                       # Table 1   output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),                            # 149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),                     # 147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                                      # 147 x 147 x 64
  row('MaxPool_3a_3x3', max_pool(3, stride=2)),                           # 73 x 73 x 64
  row('Conv2d_3b_1x1', conv(80, 1)),                                      # 73 x 73 x 80
  row('Conv2d_4a_3x3', conv(192, 3, padding='VALID')),                    # 71 x 71 x 192
  row('MaxPool_5a_3x3', max_pool(3, stride=2)),                           # 35 x 35 x 192
  row('Mixed_5b', inception_a(32)),                                       # 35 x 35 x 256
  row('Mixed_5c',                                                         # 35 x 35 x 288
      inception_a(64, reduce_5x5='Conv2d_0b_1x1', conv_5x5='Conv_1_0c_5x5')),
  row('Mixed_5d', inception_a(64)),                                       # 35 x 35 x 288
  row('Mixed_6a', REDUCTION_A),                                           # 17 x 17 x 768
  row('Mixed_6b', inception_b(128)),                                      # 17 x 17 x 768
  row('Mixed_6c', inception_b(160)),                                      # 17 x 17 x 768
  row('Mixed_6d', inception_b(160)),                                      # 17 x 17 x 768
  row('Mixed_6e', inception_b(192)),                                      # 17 x 17 x 768
  row('Mixed_7a', REDUCTION_B),                                           # 8 x 8 x 1280
  row('Mixed_7b', inception_c(conv_3x1='Conv2d_0b_3x1')),                 # 8 x 8 x 2048
  row('Mixed_7c', inception_c()),                                         # 8 x 8 x 2048
)
# fmt: on

HEAD = Head(
  'InceptionV3',
  pool='AvgPool_1a_{}x{}',
  pooled='AvgPool_1a',
  dropout='Dropout_1b',
  features='PreLogits',
  logits='Conv2d_1c_1x1',
  is_convolution=True,
  window=8,
  auxiliary=AuxiliaryHead(
    'Mixed_6e', 'AvgPool_1a_5x5', 'Conv2d_2a_{}x{}', 'Conv2d_2b_1x1', window=5
  ),
)


def scaled_depth(depth_multiplier: float, min_depth: int = 16) -> Callable[[int], int]:
  """The filters of a convolution as a function of those in the table.

  Raises:
    ValueError: `depth_multiplier` <= 0.
  """
  if depth_multiplier <= 0:
    raise ValueError(f'depth_multiplier is {depth_multiplier}; it must be greater than zero')
  return lambda depth: max(int(depth * depth_multiplier), min_depth)


def make_variant(
  min_depth: int = 16, depth_multiplier: float = 1.0, count_padding: bool = False
) -> Variant:
  """What the arguments of `inception_v3_base` change in `BODY`.

  Raises:
    ValueError: `depth_multiplier` <= 0.
  """
  return Variant(depth=scaled_depth(depth_multiplier, min_depth), count_padding=count_padding)


def inception_v3_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_7c',
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  scope: str | None = None,
  count_padding: bool = False,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v3 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper, at least 75 x 75.
    final_endpoint: the last end point to build, any row of `BODY`.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0.
    scope: variable scope, 'InceptionV3' by default.
    count_padding: average pools count the zeros around the image, as torchvision's and timm's
      Inception-v3 do; slim's and Keras' do not.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, `depth_multiplier` <= 0.
  """
  variant = make_variant(min_depth, depth_multiplier, count_padding)
  with tf.compat.v1.variable_scope(scope, 'InceptionV3', [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant)


def inception_v3(
  inputs: tf.Tensor,
  num_classes: int | None = 1000,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  prediction_fn: Callable[..., tf.Tensor] = layers.softmax,
  spatial_squeeze: bool = True,
  reuse: bool | None = None,
  create_aux_logits: bool = True,
  scope: str = 'InceptionV3',
  global_pool: bool = False,
  count_padding: bool = False,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v3 (arXiv:1512.00567, Table 1), with the auxiliary classifier of section 4.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    is_training: batch statistics and dropout, or moving averages and none.
    dropout_keep_prob: the share of features that dropout keeps.
    min_depth: see `inception_v3_base`.
    depth_multiplier: see `inception_v3_base`.
    prediction_fn: makes 'Predictions' of the logits; called with `scope=`.
    spatial_squeeze: logits [N, num_classes] rather than [N, h, w, num_classes]; needs them to be
      1 x 1, as they are below 363 x 363 pixels (347 x 347 with auxiliary head).
    reuse: of the variables; needs `scope`.
    create_aux_logits: adds 'AuxLogits' on Mixed_6e; left out below 107 x 107 pixels.
    scope: variable scope.
    global_pool: average over all places rather than over windows of 8 x 8.
    count_padding: see `inception_v3_base`.

  Returns:
    Logits (or features, [N, h, w, 2048]), and the end points: those of the base, 'AuxLogits',
    'AvgPool_1a' or 'global_pool', 'PreLogits', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small, `depth_multiplier` <= 0.
  """
  depth = scaled_depth(depth_multiplier, min_depth)
  with (
    tf.compat.v1.variable_scope(scope, 'InceptionV3', [inputs], reuse=reuse) as scope,
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    net, end_points = inception_v3_base(
      inputs,
      scope=scope,
      min_depth=min_depth,
      depth_multiplier=depth_multiplier,
      count_padding=count_padding,
    )
    if create_aux_logits and num_classes:
      aux = end_points['Mixed_6e']
      if inception_utils.has_room_for_auxiliary_head(aux, is_training):
        end_points['AuxLogits'] = _auxiliary_head(aux, num_classes, depth, spatial_squeeze)

    with tf.compat.v1.variable_scope('Logits'):
      net = tf.cast(net, tf.float32)  # heads compute in float32 whatever the body does
      if global_pool:
        net = tf.reduce_mean(net, (1, 2), keepdims=True, name='GlobalPool')
        end_points['global_pool'] = net
      else:
        kernel = _reduced_kernel(net, 8)
        net = layers.avg_pool2d(
          net, kernel, padding='VALID', scope='AvgPool_1a_{}x{}'.format(*kernel)
        )
        end_points['AvgPool_1a'] = net
      if not num_classes:
        return net, end_points
      net = layers.dropout(net, keep_prob=dropout_keep_prob, scope='Dropout_1b')
      end_points['PreLogits'] = net
      logits = layers.conv2d(
        net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope='Conv2d_1c_1x1'
      )
      if spatial_squeeze:
        logits = _squeeze(logits, 'the logits: give global_pool=True or spatial_squeeze=False')
    end_points['Logits'] = logits
    end_points['Predictions'] = prediction_fn(logits, scope='Predictions')
  return logits, end_points


inception_v3.default_image_size = 299

inception_v3_arg_scope = inception_utils.inception_arg_scope


def _auxiliary_head(
  net: tf.Tensor, num_classes: int, depth: Callable[[int], int], spatial_squeeze: bool
) -> tf.Tensor:
  """Figure 8 with batch norm (section 10: BN-auxiliary): logits of 17 x 17 x 768, float32."""
  with tf.compat.v1.variable_scope('AuxLogits'):
    aux = inception_utils.auxiliary_features(net, 'AvgPool_1a_5x5', depth(AUX_DEPTHS[0]))
    kernel = _reduced_kernel(aux, 5)
    aux = layers.conv2d(
      aux,
      depth(AUX_DEPTHS[1]),
      kernel,
      padding='VALID',
      weights_initializer=tf.compat.v1.truncated_normal_initializer(0.0, 0.01),
      scope='Conv2d_2a_{}x{}'.format(*kernel),
    )
    aux = layers.conv2d(
      tf.cast(aux, tf.float32),
      num_classes,
      1,
      activation_fn=None,
      normalizer_fn=None,
      weights_initializer=tf.compat.v1.truncated_normal_initializer(0.0, 0.001),
      scope='Conv2d_2b_1x1',
    )
    if spatial_squeeze:
      aux = _squeeze(aux, 'AuxLogits: give create_aux_logits=False or spatial_squeeze=False')
    return aux


def _squeeze(logits: tf.Tensor, what: str) -> tf.Tensor:
  """[N, 1, 1, C] -> [N, C]; a clear error where the images are too large for that."""
  height, width = spatial_size(logits)
  if (height or 1, width or 1) != (1, 1):
    raise ValueError(f'Images so large leave {height} x {width} places of {what}')
  return tf.squeeze(logits, (1, 2), name='SpatialSqueeze')


def _reduced_kernel(net: tf.Tensor, side: int) -> tuple[int, int]:
  """A window of side x side, smaller where `net` is; unknown sizes are taken to be large."""
  height, width = (side if known is None else min(side, known) for known in spatial_size(net))
  return height, width
