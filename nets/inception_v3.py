"""Inception-v3: "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).

Figures and tables are the paper's; where slim's released net differs it is slim's, and the row says
so. Names are slim's, slips of the pen included (`name=`): released checkpoints have them.

The pooled projection of the Inception blocks, "Avg Pooling, 1 x 1 Conv" in the figures, is built
the other way round in all nets: the convolution, then the pooling of its few filters, then batch
norm. Both are linear, so the outputs are the same up to rounding, at 0.88 to 0.93 of these layers'
time in training and 0.94 to 0.97 at inference, measured when it was introduced.
"""

from collections.abc import Callable

import tensorflow as tf

from . import inception_utils, layers
from .blocks import Cell, Columns, avg_pool, conv, max_pool, repeat, row, split
from .build import EndPoints, net_scope, run_body, scale_depth, scaled_variant
from .heads import AuxiliaryHead, ConvolutionHead
from .inception_parts import STEM, reduction_a, reduction_b
from .net import Errors, Net, Paper

SCOPE = 'InceptionV3'


def inception_a(pool_depth: int, *, reduce_5x5: str = '', conv_5x5: str = '') -> Columns:
  """Figure 5, with a 5 x 5 where the figure has a lone 3 x 3; 35 x 35."""
  return (
    [conv(64, 1)],
    [conv(48, 1, name=reduce_5x5), conv(64, 5, name=conv_5x5)],
    [conv(64, 1), conv(96, 3), conv(96, 3)],
    [avg_pool(3), conv(pool_depth, 1)],
  )


def inception_b(depth: int) -> Columns:
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


def inception_c(conv_3x1: str = '', pool: Callable[[int], Cell] = avg_pool) -> Columns:
  """Figure 7; 8 x 8. `pool` makes the pooling of the last column."""
  return (
    [conv(320, 1)],
    [conv(384, 1), split(conv(384, (1, 3)), conv(384, (3, 1), name=conv_3x1))],
    [conv(448, 1), conv(384, 3), split(conv(384, (1, 3)), conv(384, (3, 1)))],
    [pool(3), conv(192, 1)],
  )


# fmt: off
BODY = (                                                        # Table 1   output of 299 x 299 x 3
  # Table 1 has a 3 x 3 for the 1 x 1 after the first pooling, and a strided one for the second.
  *STEM,                                                                  # 71 x 71 x 192
  row('MaxPool_5a_3x3', max_pool(3, stride=2)),                           # 35 x 35 x 192
  row('Mixed_5b', inception_a(32)),                             # Figure 5  35 x 35 x 256
  row('Mixed_5c',                                               # Figure 5  35 x 35 x 288
      inception_a(64, reduce_5x5='Conv2d_0b_1x1', conv_5x5='Conv_1_0c_5x5')),
  row('Mixed_5d', inception_a(64)),                             # Figure 5  35 x 35 x 288
  # Figure 10, without a 1 x 1 before the lone 3 x 3.
  row('Mixed_6a', reduction_a(64, 96, 96, 384, last='Conv2d_1a_1x1')),    # 17 x 17 x 768
  # Four blocks where Table 1 has five.
  row('Mixed_6b', inception_b(128)),                            # Figure 6  17 x 17 x 768
  *repeat('Mixed_6{}', 'cd', inception_b(160)),                 # Figure 6  17 x 17 x 768
  row('Mixed_6e', inception_b(192)),                            # Figure 6  17 x 17 x 768
  # Figure 10, the 3 x 3 factorized into 1 x 7 and 7 x 1 before it.
  row('Mixed_7a', reduction_b(left=(192, 320), right=(192, 192, 192))),   # 8 x 8 x 1280
  row('Mixed_7b', inception_c(conv_3x1='Conv2d_0b_3x1')),       # Figure 7  8 x 8 x 2048
  row('Mixed_7c', inception_c()),                               # Figure 7  8 x 8 x 2048
)
# fmt: on

HEAD = ConvolutionHead(
  window=8,
  pool='AvgPool_1a_{}x{}',
  pooled='AvgPool_1a',
  dropout='Dropout_1b',
  features='PreLogits',
  logits='Conv2d_1c_1x1',
  auxiliary=AuxiliaryHead(
    end_point='Mixed_6e',
    pool='AvgPool_1a_5x5',
    conv='Conv2d_2a_{}x{}',
    logits='Conv2d_2b_1x1',
    window=5,
  ),
)


def inception_v3_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_7c',
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  scope: str | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v3 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper, at least 75 x 75.
    final_endpoint: the last end point to build, any row of `BODY`.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0.
    scope: variable scope, 'InceptionV3' by default.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, `depth_multiplier` <= 0.
  """
  variant = scaled_variant(min_depth, depth_multiplier)
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
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
  scope: str = SCOPE,
  global_pool: bool = False,
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

  Returns:
    Logits (or features, [N, h, w, 2048]), and the end points: those of the base, 'AuxLogits',
    'AvgPool_1a' or 'global_pool', 'PreLogits', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small, `depth_multiplier` <= 0.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_v3_base(
      inputs, scope=opened, min_depth=min_depth, depth_multiplier=depth_multiplier
    )
    return HEAD.build(
      net,
      end_points,
      num_classes,
      is_training,
      dropout_keep_prob,
      create_aux_logits,
      prediction_fn=prediction_fn,
      spatial_squeeze=spatial_squeeze,
      global_pool=global_pool,
      depth=scale_depth(min_depth, depth_multiplier),
    )


inception_v3_arg_scope = inception_utils.inception_arg_scope

NET = Net(
  'inception_v3',
  SCOPE,
  BODY,
  HEAD,
  inception_v3_arg_scope,
  inception_v3,
  make_variant=scaled_variant,
  paper=Paper(
    'Inception-v3',
    'arXiv:1512.00567, Table 1',
    one_crop=Errors(21.2, 5.6),
    crops_12=Errors(19.8, 4.6),
    crops_144=Errors(18.9, 4.3),
  ),
)
