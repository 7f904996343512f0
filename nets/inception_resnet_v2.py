"""Inception-ResNet-v2 (arXiv:1602.07261), as slim trained and released it.

Where slim's net is not the paper's the rows say so; blocks are 320, 1088 and 2080 wide rather than
384, 1154 and 2048. Names are slim's.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from . import inception_utils, slim
from .blocks import Columns, Residual, avg_pool, conv, max_pool, repeat, row
from .build import EndPoints, net_scope, run_body, run_branches, scale_depth
from .heads import AuxiliaryHead, DenseHead
from .inception_parts import (
  STEM,
  block_8,
  block_17,
  block_35,
  reduction_a,
  residual_reduction_b,
  residual_variant,
)
from .net import Errors, Net, Paper

SCOPE = 'InceptionResnetV2'

MIXED_5B: Columns = (
  [conv(96, 1, name='Conv2d_1x1')],
  [conv(48, 1), conv(64, 5)],
  [conv(64, 1), conv(96, 3), conv(96, 3)],
  [avg_pool(3), conv(64, 1)],
)

BLOCK_35, BLOCK_17, BLOCK_8 = block_35(48, 64), block_17(160, 192), block_8(224, 256)

# fmt: off
BODY = (                                                       # Figure 15  output of 299 x 299 x 3
  # Inception-v3's stem and one Inception block rather than Figure 3.
  *STEM,                                                       #            71 x 71 x 192
  row('MaxPool_5a_3x3', max_pool(3, stride=2)),                #            35 x 35 x 192
  row('Mixed_5b', MIXED_5B),                                   #            35 x 35 x 320
  # 10, 20 and 9 + 1 residual blocks rather than 5, 10 and 5.
  *repeat('Repeat/block35_{}', range(1, 11), Residual(BLOCK_35, scale=0.17),
          end_point=None),                                     # Figure 16  35 x 35 x 320
  row('Mixed_6a', reduction_a(256, 256, 384, 384)),            # Figure 7   17 x 17 x 1088
  *repeat('Repeat_1/block17_{}', range(1, 21), Residual(BLOCK_17, scale=0.10),
          end_point='PreAuxLogits'),                           # Figure 17  17 x 17 x 1088
  row('Mixed_7a', residual_reduction_b(288, 320)),             # Figure 18  8 x 8 x 2080
  *repeat('Repeat_2/block8_{}', range(1, 10), Residual(BLOCK_8, scale=0.20),
          end_point=None),                                     # Figure 19  8 x 8 x 2080
  # Not in the paper: the last block linear and unscaled, and a convolution before the pooling.
  row('Block8', Residual(BLOCK_8, scale=1.0, activate=False),
      end_point=None),                                         # Figure 19  8 x 8 x 2080
  row('Conv2d_7b_1x1', conv(1536, 1)),                         #            8 x 8 x 1536
)
# fmt: on

HEAD = DenseHead(
  pool='AvgPool_1a_8x8',
  dropout='Dropout',
  auxiliary=AuxiliaryHead(
    end_point='PreAuxLogits', pool='Conv2d_1a_3x3', conv='Conv2d_2a_5x5', logits='Logits'
  ),
)


def _residual_block(name: str, columns: Columns) -> Callable[..., tf.Tensor]:
  """A block as a function of its own: slim.repeat(net, 9, block8, scale=0.20)."""

  def block(
    net: tf.Tensor,
    scale: float = 1.0,
    activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
    scope: str | None = None,
    reuse: bool | None = None,
  ) -> tf.Tensor:
    with tf.compat.v1.variable_scope(scope, name.capitalize(), [net], reuse=reuse):
      unit = row(name, Residual(columns, scale))
      return run_branches(net, unit, residual_variant(activation_fn))

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
  activation_scale: float | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
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
    activation_scale: factor of every residual before it is added, those of the last block
      included; None is the table's: 0.17, 0.10, 0.20, and 1 for the last.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0; the 1 x 1 convolution at
      the end of a residual has as many as its input.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, another `output_stride`, or an
      impossible `activation_scale`.
  """
  if output_stride not in (8, 16):
    raise ValueError(f'output_stride is {output_stride}; choose 8 or 16')
  variant = residual_variant(activation_fn, activation_scale, min_depth, depth_multiplier)
  variant = variant._replace(valid_padding='SAME' if align_feature_maps else 'VALID')
  max_stride = 8 if output_stride == 8 else None
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant, max_stride)


def inception_resnet_v2(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = SCOPE,
  create_aux_logits: bool = True,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  activation_scale: float | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v2 (arXiv:1602.07261), with an auxiliary classifier on PreAuxLogits.

  The arguments that are not described here are those of `inception_v3.inception_v3`.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    create_aux_logits: adds 'AuxLogits'; left out below 107 x 107 pixels.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.
    activation_scale: see `inception_resnet_v2_base`.
    min_depth: see `inception_resnet_v2_base`.
    depth_multiplier: see `inception_resnet_v2_base`.

  Returns:
    Logits [N, num_classes] (or features, [N, 1, 1, 1536]), and the end points: those of the base,
    'AuxLogits', 'global_pool', 'PreLogitsFlatten', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_resnet_v2_base(
      inputs,
      scope=opened,
      activation_fn=activation_fn,
      activation_scale=activation_scale,
      min_depth=min_depth,
      depth_multiplier=depth_multiplier,
    )
    return HEAD.build(
      net,
      end_points,
      num_classes,
      is_training,
      dropout_keep_prob,
      create_aux_logits,
      depth=scale_depth(min_depth, depth_multiplier),
    )


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


NET = Net(
  'inception_resnet_v2',
  SCOPE,
  BODY,
  HEAD,
  inception_resnet_v2_arg_scope,
  inception_resnet_v2,
  make_variant=residual_variant,
  paper=Paper(
    'Inception-ResNet-v2',
    'arXiv:1602.07261, Figure 15',
    one_crop=Errors(19.9, 4.9),
    crops_12=Errors(18.7, 4.1),
    crops_144=Errors(17.8, 3.7),
  ),
)
