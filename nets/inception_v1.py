"""Inception-v1, GoogLeNet: "Going Deeper with Convolutions" (arXiv:1409.4842), with batch norm.

Table 1 is the paper's; where slim's released net differs the row says so. There are no auxiliary
heads, and the 5 x 5 of the paper's blocks are 3 x 3.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from . import blocks, inception_utils, layers
from .blocks import CEIL, CONV, FIXED, MAX_POOL, Body, Columns, max_pool, row
from .build import EndPoints, net_scope, run_body
from .heads import ConvolutionHead
from .net import Net, Paper

SCOPE = 'InceptionV1'

conv = functools.partial(blocks.conv, stddev=0.01)  # of slim's initial weights


def inception(
  b0: int, b1: tuple[int, int], b2: tuple[int, int], b3: int, *, conv_5x5: str = ''
) -> Columns:
  """Figure 2b, by the filters of its columns; `conv_5x5` names what the figure has as 5 x 5."""
  return (
    [conv(b0, 1)],
    [conv(b1[0], 1), conv(b1[1], 3)],
    [conv(b2[0], 1), conv(b2[1], 3, name=conv_5x5)],
    [max_pool(3), conv(b3, 1)],
  )


# fmt: off
ROOT = (                                                        # Table 1   output of 224 x 224 x 3
  row('Conv2d_1a_7x7', conv(64, 7, stride=2, padding='SAME')),            # 112 x 112 x 64
  # No local response normalization, neither here nor two rows below.
  row('MaxPool_2a_3x3', max_pool(3, stride=2, padding='SAME')),           # 56 x 56 x 64
  row('Conv2d_2b_1x1', conv(64, 1)),                                      # 56 x 56 x 64
  row('Conv2d_2c_3x3', conv(192, 3)),                                     # 56 x 56 x 192
  row('MaxPool_3a_3x3', max_pool(3, stride=2, padding='SAME')),           # 28 x 28 x 192
)
BODY = (
  *ROOT,
  row('Mixed_3b', inception(64, (96, 128), (16, 32), 32)),      # 3a        28 x 28 x 256
  row('Mixed_3c', inception(128, (128, 192), (32, 96), 64)),    # 3b        28 x 28 x 480
  row('MaxPool_4a_3x3', max_pool(3, stride=2, padding='SAME')),           # 14 x 14 x 480
  row('Mixed_4b', inception(192, (96, 208), (16, 48), 64)),     # 4a        14 x 14 x 512
  row('Mixed_4c', inception(160, (112, 224), (24, 64), 64)),    # 4b        14 x 14 x 512
  row('Mixed_4d', inception(128, (128, 256), (24, 64), 64)),    # 4c        14 x 14 x 512
  row('Mixed_4e', inception(112, (144, 288), (32, 64), 64)),    # 4d        14 x 14 x 528
  row('Mixed_4f', inception(256, (160, 320), (32, 128), 128)),  # 4e        14 x 14 x 832
  # The paper's window is 3 x 3.
  row('MaxPool_5a_2x2', max_pool(2, stride=2, padding='SAME')),           # 7 x 7 x 832
  row('Mixed_5b', inception(256, (160, 320), (32, 128), 128,
                            conv_5x5='Conv2d_0a_3x3')),         # 5a        7 x 7 x 832
  row('Mixed_5c', inception(384, (192, 384), (48, 128), 128)),  # 5b        7 x 7 x 1024
)
# fmt: on

HEAD = ConvolutionHead(
  window=7,
  stride=1,
  pool='AvgPool_0a_7x7',
  pooled='AvgPool_0a_7x7',
  dropout='Dropout_0b',
  logits='Conv2d_0c_1x1',
)

# Whose padding -> that of strided layers: {operation: padding}.
PADDINGS = {'slim': {}, 'torch': {CONV: FIXED, MAX_POOL: CEIL}}


def make_body(padding: str = 'slim') -> Body:
  """`BODY`, with the padding of slim's or, for weights from there, of torchvision's googlenet.

  torchvision pads the first convolution by 3 on each side, where TensorFlow's SAME pads 224 pixels
  by 2 before and 3 after, and has max pooling with `ceil_mode`.

  Raises:
    ValueError: another `padding`.
  """
  return blocks.with_paddings(BODY, PADDINGS, padding)


def inception_v1_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_5c',
  include_root_block: bool = True,
  scope: str = SCOPE,
  padding: str = 'slim',
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v1 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 224 x 224 x 3 in the paper. Without root block, features,
      28 x 28 x 192 in the paper.
    final_endpoint: the last end point to build, any row of `BODY`.
    include_root_block: builds the rows of `ROOT` first.
    scope: variable scope.
    padding: see `make_body`.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, or another `padding`.
  """
  body = make_body(padding)[0 if include_root_block else len(ROOT) :]
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    return run_body(inputs, body, final_endpoint)


def inception_v1(
  inputs: tf.Tensor,
  num_classes: int | None = 1000,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  prediction_fn: Callable[..., tf.Tensor] = layers.softmax,
  spatial_squeeze: bool = True,
  reuse: bool | None = None,
  scope: str = SCOPE,
  global_pool: bool = False,
  padding: str = 'slim',
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v1 (arXiv:1409.4842, Table 1), as slim trained and released it.

  The arguments that are not described here are those of `inception_v3.inception_v3`.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown. Its type is that of the computation;
      variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    spatial_squeeze: logits [N, num_classes] rather than [N, h, w, num_classes]; needs them to be
      1 x 1, as they are up to 224 x 224 pixels.
    global_pool: average over all places rather than over windows of 7 x 7.
    padding: see `make_body`.

  Returns:
    Logits (or features, [N, h, w, 1024]), and the end points: those of the base,
    'AvgPool_0a_7x7' or 'global_pool', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too large for `spatial_squeeze`, or another `padding`.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_v1_base(inputs, scope=opened, padding=padding)
    return HEAD.build(
      net,
      end_points,
      num_classes,
      is_training,
      dropout_keep_prob,
      prediction_fn=prediction_fn,
      spatial_squeeze=spatial_squeeze,
      global_pool=global_pool,
    )


inception_v1_arg_scope = inception_utils.inception_arg_scope

NET = Net(
  'inception_v1',
  SCOPE,
  BODY,
  HEAD,
  inception_v1_arg_scope,
  inception_v1,
  default_image_size=224,
  make_body=make_body,
  paper=Paper('Inception-v1', 'arXiv:1409.4842, Table 1'),
)
