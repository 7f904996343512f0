"""Inception-v4: "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning" (arXiv:1602.07261).

Figures and tables are the paper's, names are slim's. Of the pairs that the paper factorizes a
convolution into slim has three the other way round, marked "swapped": its checkpoints decide.
"""

import tensorflow as tf

from . import inception_utils
from .blocks import Columns, avg_pool, conv, max_pool, repeat, row, split
from .build import EndPoints, net_scope, run_body, scale_depth, scaled_variant
from .heads import AuxiliaryHead, DenseHead
from .inception_parts import reduction_a, reduction_b
from .net import Errors, Net, Paper

SCOPE = 'InceptionV4'

INCEPTION_A: Columns = (  # Figure 4
  [conv(96, 1)],
  [conv(64, 1), conv(96, 3)],
  [conv(64, 1), conv(96, 3), conv(96, 3)],
  [avg_pool(3), conv(96, 1)],
)

INCEPTION_B: Columns = (  # Figure 5
  [conv(384, 1)],
  [conv(192, 1), conv(224, (1, 7)), conv(256, (7, 1))],
  # Swapped: 1 x 7 before 7 x 1 in the figure.
  [conv(192, 1), conv(192, (7, 1)), conv(224, (1, 7)), conv(224, (7, 1)), conv(256, (1, 7))],
  [avg_pool(3), conv(128, 1)],
)

INCEPTION_C: Columns = (  # Figure 6
  [conv(256, 1)],
  [conv(384, 1), split(conv(256, (1, 3)), conv(256, (3, 1)))],
  [
    conv(384, 1),
    conv(448, (3, 1)),  # swapped
    conv(512, (1, 3)),
    split(conv(256, (1, 3)), conv(256, (3, 1))),
  ],
  [avg_pool(3), conv(256, 1)],
)

STEM_3A: Columns = (  # Figure 3, its three forks
  [max_pool(3, stride=2, name='MaxPool_0a_3x3')],
  [conv(96, 3, stride=2, name='Conv2d_0a_3x3')],
)

STEM_4A: Columns = (
  [conv(64, 1), conv(96, 3, padding='VALID')],
  # Swapped: 7 x 1 before 1 x 7 in the figure.
  [conv(64, 1), conv(64, (1, 7)), conv(64, (7, 1)), conv(96, 3, padding='VALID')],
)

STEM_5A: Columns = (
  [conv(192, 3, stride=2)],
  [max_pool(3, stride=2)],
)

# fmt: off
BODY = (                                                     # Figure 9     output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),               # Figure 3     149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),        #              147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                         #              147 x 147 x 64
  row('Mixed_3a', STEM_3A),                                  #              73 x 73 x 160
  row('Mixed_4a', STEM_4A),                                  #              71 x 71 x 192
  row('Mixed_5a', STEM_5A),                                  #              35 x 35 x 384
  *repeat('Mixed_5{}', 'bcde', INCEPTION_A),                 # 4 x Figure 4 35 x 35 x 384
  row('Mixed_6a', reduction_a(192, 224, 256, 384)),          # Figure 7     17 x 17 x 1024
  *repeat('Mixed_6{}', 'bcdefgh', INCEPTION_B),              # 7 x Figure 5 17 x 17 x 1024
  row('Mixed_7a',                                            # Figure 8     8 x 8 x 1536
      reduction_b(left=(192, 192), right=(256, 320, 320))),
  *repeat('Mixed_7{}', 'bcd', INCEPTION_C),                  # 3 x Figure 6 8 x 8 x 1536
)
# fmt: on

HEAD = DenseHead(
  pool='AvgPool_1a',
  dropout='Dropout_1b',
  flatten='PreLogitsFlatten',
  auxiliary=AuxiliaryHead(
    end_point='Mixed_6h', pool='AvgPool_1a_5x5', conv='Conv2d_2a', logits='Aux_logits'
  ),
)


def inception_v4_base(
  inputs: tf.Tensor,
  final_endpoint: str = 'Mixed_7d',
  scope: str | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v4 without its head.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; 299 x 299 x 3 in the paper, at least 75 x 75.
    final_endpoint: the last end point to build, any row of `BODY`.
    scope: variable scope, 'InceptionV4' by default.
    min_depth: no convolution gets fewer filters than this.
    depth_multiplier: factor of the filters of every convolution, above 0.

  Returns:
    The output of `final_endpoint`, and {name: [N, h, w, c]} in the order of building.

  Raises:
    ValueError: unknown `final_endpoint`, images too small for it, `depth_multiplier` <= 0.
  """
  variant = scaled_variant(min_depth, depth_multiplier)
  with tf.compat.v1.variable_scope(scope, SCOPE, [inputs]):
    return run_body(inputs, BODY, final_endpoint, variant)


def inception_v4(
  inputs: tf.Tensor,
  num_classes: int | None = 1001,
  is_training: bool | tf.Tensor = True,
  dropout_keep_prob: float = 0.8,
  reuse: bool | None = None,
  scope: str = SCOPE,
  create_aux_logits: bool = True,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> tuple[tf.Tensor, EndPoints]:
  """Inception-v4 (arXiv:1602.07261, Figure 9), with slim's auxiliary classifier on Mixed_6h.

  The arguments that are not described here are those of `inception_v3.inception_v3`.

  Args:
    inputs: [N, H, W, C] in [-1, 1]; N, H, W may be unknown; at least 75 x 75. Its type is that of
      the computation; variables and logits are float32.
    num_classes: the number of logits; 0 or None returns the features before dropout.
    create_aux_logits: adds 'AuxLogits'; left out below 107 x 107 pixels.
    min_depth: see `inception_v4_base`.
    depth_multiplier: see `inception_v4_base`.

  Returns:
    Logits [N, num_classes] (or features, [N, 1, 1, 1536]), and the end points: those of the base,
    'AuxLogits', 'global_pool', 'PreLogitsFlatten', 'Logits', 'Predictions'.

  Raises:
    ValueError: images too small, `depth_multiplier` <= 0.
  """
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training) as opened:
    net, end_points = inception_v4_base(
      inputs, scope=opened, min_depth=min_depth, depth_multiplier=depth_multiplier
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


inception_v4_arg_scope = inception_utils.inception_arg_scope

NET = Net(
  'inception_v4',
  SCOPE,
  BODY,
  HEAD,
  inception_v4_arg_scope,
  inception_v4,
  make_variant=scaled_variant,
  paper=Paper(
    'Inception-v4',
    'arXiv:1602.07261, Figure 9',
    one_crop=Errors(20.0, 5.0),
    crops_12=Errors(18.7, 4.2),
    crops_144=Errors(17.7, 3.8),
  ),
)
