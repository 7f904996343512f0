"""Inception-ResNet-v1 (arXiv:1602.07261, Figure 15), with the names of facenet's checkpoints.

slim never had this net; the TensorFlow code in use is facenet's, which embeds faces. Ours has the
classifier head of its sisters too. facenet has no auxiliary head and the paper draws none.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from . import inception_utils, slim
from .blocks import Residual, conv, repeat, row
from .build import EndPoints, net_scope, run_body
from .heads import DenseHead
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

SCOPE = 'InceptionResnetV1'

BLOCK_8 = block_8(192, 192)

# fmt: off
BODY = (                                                       # Figure 15  output of 299 x 299 x 3
  *STEM,                                                       # Figure 14  71 x 71 x 192
  row('Conv2d_4b_3x3', conv(256, 3, stride=2)),                #            35 x 35 x 256
  *repeat('Repeat/block35_{}', range(1, 6), Residual(block_35(32, 32), scale=0.17),
          end_point='Mixed_5a'),                               # Figure 10  35 x 35 x 256
  row('Mixed_6a', reduction_a(192, 192, 256, 384)),            # Figure 7   17 x 17 x 896
  *repeat('Repeat_1/block17_{}', range(1, 11), Residual(block_17(128, 128), scale=0.10),
          end_point='Mixed_6b'),                               # Figure 11  17 x 17 x 896
  row('Mixed_7a', residual_reduction_b(256, 256)),             # Figure 12  8 x 8 x 1792
  *repeat('Repeat_2/block8_{}', range(1, 6), Residual(BLOCK_8, scale=0.20),
          end_point='Mixed_8a'),                               # Figure 13  8 x 8 x 1792
  # facenet's, not the paper's: a sixth, linear and unscaled.
  row('Block8', Residual(BLOCK_8, scale=1.0, activate=False),
      end_point='Mixed_8b'),                                   # Figure 13  8 x 8 x 1792
)
# fmt: on

HEAD = DenseHead(
  pool='AvgPool_1a_8x8', dropout='Dropout', bottleneck='Bottleneck', before='PrePool'
)


def inception_resnet_v1_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_8b',
  scope: str | None = None,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  activation_scale: float | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v1 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper (160 x 160 in facenet), at least
      75 x 75.
    final_endpoint: the last end point to build, any that `BODY` names.
    scope: variable scope, 'InceptionResnetV1' by default.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.
    activation_scale: factor of every residual before it is added, those of the last block
      included; None is the table's: 0.17, 0.10, 0.20, and 1 for the last.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0; the 1 x 1 convolution at
      the end of a residual has as many as its input.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, or an impossible
      `activation_scale`.
  """
  variant = residual_variant(activation_fn, activation_scale, min_depth, depth_multiplier)
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant)


def inception_resnet_v1(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = SCOPE,
  create_aux_logits: bool = True,
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  bottleneck_layer_size: int | None = None,
  activation_scale: float | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-ResNet-v1: a classifier, or an embedding as facenet's.

  The arguments that are not described here are those of `inception_v3.inception_v3`.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout, or the
      embedding.
    create_aux_logits: of the sisters' signature; this net has no auxiliary head.
    activation_fn: after the residual sums; that of the convolutions is the arg scope's.
    bottleneck_layer_size: the width of facenet's linear embedding ('Bottleneck', after dropout);
      logits, if any, are computed from it. None: there is no such layer.
    activation_scale: see `inception_resnet_v1_base`.
    min_depth: see `inception_resnet_v1_base`.
    depth_multiplier: see `inception_resnet_v1_base`.

  Returns:
    Logits [N, num_classes], or the embedding [N, bottleneck_layer_size], or features
    [N, 1, 1, 1792]; and the end points: those of the base, 'PrePool', 'global_pool' (without
    bottleneck: facenet does not have it), 'PreLogitsFlatten', 'Bottleneck' (the embedding, where
    logits are made of it), 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_resnet_v1_base(
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
      bottleneck_layer_size,
    )


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


NET = Net(
  'inception_resnet_v1',
  SCOPE,
  BODY,
  HEAD,
  inception_resnet_v1_arg_scope,
  inception_resnet_v1,
  make_variant=residual_variant,
  paper=Paper(
    'Inception-ResNet-v1',
    'arXiv:1602.07261, Figure 15',
    one_crop=Errors(21.3, 5.5),
    crops_12=Errors(19.8, 4.6),
    crops_144=Errors(18.8, 4.3),
  ),
)
