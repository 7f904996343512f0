"""Inception-v3 as it was in December 2015: the network of the Frechet Inception Distance.

Generated images are measured by its features (arXiv:1706.08500, section 3), and by its classes
(arXiv:1606.03498, section 4). Google released it as a frozen graph (classify_image_graph_def.pb in
inception-2015-12-05.tgz), and pytorch-fid has the same weights with torchvision's names;
`nets.convert` reads both.

It differs from `inception_v3` in the last block, whose pooling takes the maximum, in its 1008
outputs, and in what it is given: whole images, (pixel - 128) / 128. Weights of one are of no use to
the other.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from . import inception_utils, layers
from .blocks import max_pool, row
from .build import EndPoints, net_scope, run_body, scale_depth, scaled_variant
from .inception_v3 import BODY as BODY_2016
from .inception_v3 import HEAD as HEAD_2016
from .inception_v3 import inception_c
from .net import Net, Paper

NAME = 'inception_v3_2015'
SCOPE = 'InceptionV3_2015'
OUTPUTS = 1008  # ImageNet's classes are the outputs 1 to 1000

BODY = (
  *BODY_2016[:-1],
  row('Mixed_7c', inception_c(pool=max_pool)),  # 8 x 8 x 2048
)
HEAD = dataclasses.replace(HEAD_2016, auxiliary=None)


def inception_v3_2015_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_7c',
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  scope: str | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """The network without its head; arguments, results and errors as `inception_v3_base`."""
  variant = scaled_variant(min_depth, depth_multiplier)
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant)


def inception_v3_2015(
  inputs: tf.Tensor,
  num_classes: int | None = OUTPUTS,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
  prediction_fn: Callable[..., tf.Tensor] = layers.softmax,
  spatial_squeeze: bool = True,
  reuse: bool | None = None,
  scope: str = SCOPE,
  global_pool: bool = False,
) -> tuple[tf.Tensor, EndPoints]:
  """The network of December 2015, see above.

  Args:
    inputs: [N, H, W, C], (pixel - 128) / 128; N, H, W may be unknown; 299 x 299 for the features
      that FID is made of, at least 75 x 75.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    is_training: as of `inception_v3`, and so are the others.

  Returns:
    Logits (or features, [N, h, w, 2048]: `pool_3` of the graph), and the end points: those of the
    base, 'AvgPool_1a' or 'global_pool', 'PreLogits', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small, `depth_multiplier` <= 0.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_v3_2015_base(
      inputs, scope=opened, min_depth=min_depth, depth_multiplier=depth_multiplier
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
      depth=scale_depth(min_depth, depth_multiplier),
    )


inception_v3_2015_arg_scope = inception_utils.inception_arg_scope

NET = Net(
  NAME,
  SCOPE,
  BODY,
  HEAD,
  inception_v3_2015_arg_scope,
  inception_v3_2015,
  num_classes=OUTPUTS,
  preprocessing='inception_2015',
  make_variant=scaled_variant,
  paper=Paper('Inception-v3 of 2015', 'arXiv:1706.08500, section 3'),
)
