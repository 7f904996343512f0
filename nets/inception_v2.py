"""Inception-v2, BN-Inception: "Batch Normalization" (arXiv:1502.03167), as slim released it.

The table is Figure 5 of the paper; where slim's net differs the row says so. There are no
auxiliary heads.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from . import inception_utils, layers
from .blocks import Body, Cell, Columns, avg_pool, conv, max_pool, row, separable_conv
from .build import EndPoints, net_scope, run_body, scaled_variant
from .heads import ConvolutionHead
from .layer_support import check_data_format
from .net import Net, Paper

SCOPE = 'InceptionV2'

POOL = avg_pool(3)
reduce = functools.partial(conv, kernel=1, stddev=0.09)  # of slim's initial weights
project = functools.partial(conv, kernel=1, stddev=0.1)
halve = functools.partial(conv, kernel=3, stride=2, padding='SAME')


def inception(
  b0: int, b1: tuple[int, int], b2: tuple[int, int], b3: int, *, pool: Cell = POOL
) -> Columns:
  """The block of the paper, two 3 x 3 in place of the 5 x 5, by the filters of its columns."""
  return (
    [conv(b0, 1)],
    [reduce(b1[0]), conv(b1[1], 3)],
    [reduce(b2[0]), conv(b2[1], 3), conv(b2[1], 3)],
    [pool, project(b3)],
  )


def reduction(b0: tuple[int, int], b1: tuple[int, int]) -> Columns:
  """The block that halves the map."""
  return (
    [reduce(b0[0]), halve(b0[1])],
    [reduce(b1[0]), conv(b1[1], 3), halve(b1[1])],
    [max_pool(3, stride=2, padding='SAME')],
  )


# fmt: off
ROOT = (                                                        # Figure 5  output of 224 x 224 x 3
  # An ordinary convolution in the paper.
  row('Conv2d_1a_7x7',
      separable_conv(64, 7, stride=2, padding='SAME', stddev=1.0)),       # 112 x 112 x 64
  row('MaxPool_2a_3x3', max_pool(3, stride=2, padding='SAME')),           # 56 x 56 x 64
  row('Conv2d_2b_1x1', project(64)),                                      # 56 x 56 x 64
  row('Conv2d_2c_3x3', conv(192, 3)),                                     # 56 x 56 x 192
  row('MaxPool_3a_3x3', max_pool(3, stride=2, padding='SAME')),           # 28 x 28 x 192
)
BODY = (
  *ROOT,
  row('Mixed_3b', inception(64, (64, 64), (64, 96), 32)),       # 3a        28 x 28 x 256
  row('Mixed_3c', inception(64, (64, 96), (64, 96), 64)),       # 3b        28 x 28 x 320
  row('Mixed_4a', reduction((128, 160), (64, 96))),             # 3c        14 x 14 x 576
  row('Mixed_4b', inception(224, (64, 96), (96, 128), 128)),    # 4a        14 x 14 x 576
  row('Mixed_4c', inception(192, (96, 128), (96, 128), 128)),   # 4b        14 x 14 x 576
  # 96 filters after the pooling where the paper has 128, in these two.
  row('Mixed_4d', inception(160, (128, 160), (128, 160), 96)),  # 4c        14 x 14 x 576
  row('Mixed_4e', inception(96, (128, 192), (160, 192), 96)),   # 4d        14 x 14 x 576
  row('Mixed_5a', reduction((128, 192), (192, 256))),           # 4e        7 x 7 x 1024
  row('Mixed_5b', inception(352, (192, 320), (160, 224), 128)),  # 5a       7 x 7 x 1024
  row('Mixed_5c', inception(352, (192, 320), (192, 224), 128,
                            pool=max_pool(3))),                 # 5b        7 x 7 x 1024
)
# fmt: on

HEAD = ConvolutionHead(
  window=7,
  pool='AvgPool_1a_{}x{}',
  pooled='AvgPool_1a',
  dropout='Dropout_1b',
  logits='Conv2d_1c_1x1',
)


def make_body(use_separable_conv: bool = True) -> Body:
  """`BODY`, or with `use_separable_conv=False` an ordinary convolution as its first row."""
  if use_separable_conv:
    return BODY
  first = row('Conv2d_1a_7x7', conv(64, 7, stride=2, padding='SAME', stddev=1.0))
  return (first, *BODY[1:])


def inception_v2_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_5c',
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  use_separable_conv: bool = True,
  data_format: str = 'NHWC',
  include_root_block: bool = True,
  scope: str | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v2 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 224 x 224 x 3 in the paper. Without root block, features,
      28 x 28 x 192 in the paper.
    final_endpoint: the last end point to build, any row of `BODY`.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0.
    use_separable_conv: the first convolution is separable, with biases and without batch norm;
      False makes it an ordinary one with batch norm.
    data_format: 'NHWC', or 'NCHW' for inputs and outputs [N, C, H, W]. (slim's has 'NCHW' without
      `use_separable_conv` alone.) Layers are NHWC, which all processors have.
    include_root_block: builds the rows of `ROOT` first.
    scope: variable scope, 'InceptionV2' by default.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building; with 'NCHW'
    [N, c, h, w].

  Raises:
    ValueError: unknown `final_endpoint`, `depth_multiplier` <= 0, another `data_format`.
  """
  variant = scaled_variant(min_depth, depth_multiplier)
  is_nchw = check_data_format(data_format) == 'NCHW'
  body = make_body(use_separable_conv)[0 if include_root_block else len(ROOT) :]
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    if is_nchw:
      inputs = tf.transpose(inputs, (0, 2, 3, 1))
    net, end_points = run_body(inputs, body, final_endpoint, variant)
    if is_nchw:
      end_points = {name: tf.transpose(ends, (0, 3, 1, 2)) for name, ends in end_points.items()}
      net = end_points[final_endpoint]
    return net, end_points


def inception_v2(
  inputs: tf.Tensor,
  num_classes: int | None = 1000,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  prediction_fn: Callable[..., tf.Tensor] = layers.softmax,
  spatial_squeeze: bool = True,
  reuse: bool | None = None,
  scope: str = SCOPE,
  global_pool: bool = False,
  use_separable_conv: bool = True,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v2 (arXiv:1502.03167, Figure 5).

  The arguments that are not described here are those of `inception_v3.inception_v3`.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown. Its type is that of the computation;
      variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    min_depth: see `inception_v2_base`.
    depth_multiplier: see `inception_v2_base`.
    spatial_squeeze: logits [N, num_classes] rather than [N, h, w, num_classes]; needs them to be
      1 x 1, as they are up to 256 x 256 pixels.
    global_pool: average over all places rather than over windows of 7 x 7.
    use_separable_conv: see `inception_v2_base`.

  Returns:
    Logits (or features, [N, h, w, 1024]), and the end points: those of the base, 'AvgPool_1a' or
    'global_pool', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too large for `spatial_squeeze`, or `depth_multiplier` <= 0.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_v2_base(
      inputs,
      scope=opened,
      min_depth=min_depth,
      depth_multiplier=depth_multiplier,
      use_separable_conv=use_separable_conv,
    )
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


inception_v2_arg_scope = inception_utils.inception_arg_scope

NET = Net(
  'inception_v2',
  SCOPE,
  BODY,
  HEAD,
  inception_v2_arg_scope,
  inception_v2,
  default_image_size=224,
  make_variant=scaled_variant,
  make_body=make_body,
  paper=Paper('Inception-v2', 'arXiv:1502.03167, Figure 5'),
)
