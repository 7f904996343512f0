"""ResNet-v1: "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), as slim's.

The layers are Table 1's, the names slim's. As in slim a block has its stride in its last unit: the
same function as the paper's nets, whose next block has it in its first 1 x 1 convolutions, for less
work.
"""

from collections.abc import Iterable

import tensorflow as tf

from . import resnet_utils
from .blocks import Bottleneck, Unit
from .build import EndPoints, scale_depth
from .net import Errors, Net, NetworkFn, Paper
from .resnet_utils import UNITS, resnet_arg_scope

__all__ = [
  'resnet_arg_scope', 'resnet_v1', 'resnet_v1_50', 'resnet_v1_101', 'resnet_v1_152',
  'resnet_v1_200', 'resnet_v1_block',
]  # fmt: skip


def resnet_v1_block(scope: str, base_depth: int, num_units: int, stride: int) -> tuple[Unit, ...]:
  """The rows of a block: what `resnet_v1` takes several of.

  Args:
    scope: 'block1', ...
    base_depth: of the first two convolutions of a unit; the output is four times as deep.
    num_units: how many units.
    stride: of the last unit.
  """
  units = [Bottleneck(base_depth)] * (num_units - 1) + [Bottleneck(base_depth, stride)]
  return resnet_utils.block(scope, 'bottleneck_v1', units)


# fmt: off
def blocks(
  layers: int, min_base_depth: int = 8, depth_multiplier: float = 1
) -> tuple[tuple[Unit, ...], ...]:
  """The blocks of the net of so many layers; `depth_multiplier` <= 0 raises ValueError."""
  conv2_x, conv3_x, conv4_x, conv5_x = UNITS[layers]
  depth = scale_depth(min_base_depth, depth_multiplier)
  return (                                                     # Table 1  output of 224 x 224 x 3
    resnet_v1_block('block1', depth(64), conv2_x, stride=2),   # conv2_x  28 x 28 x 256
    resnet_v1_block('block2', depth(128), conv3_x, stride=2),  # conv3_x  14 x 14 x 512
    resnet_v1_block('block3', depth(256), conv4_x, stride=2),  # conv4_x  7 x 7 x 1024
    resnet_v1_block('block4', depth(512), conv5_x, stride=1),  # conv5_x  7 x 7 x 2048
  )
# fmt: on


def resnet_v1(
  inputs: tf.Tensor,
  blocks: Iterable[Iterable[Unit]],
  num_classes: int | None = None,
  is_training: bool | tf.Tensor | None = True,
  global_pool: bool = True,
  output_stride: int | None = None,
  include_root_block: bool = True,
  spatial_squeeze: bool = True,
  store_non_strided_activations: bool = False,
  reuse: bool | None = None,
  scope: str | None = None,
  padding: str = 'slim',
  activation_scale: float | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """A ResNet-v1 of any blocks.

  Args:
    inputs: [N, H, W, C]; N, H, W may be unknown. The released nets take RGB of 0..255 less the
      means 123.68, 116.78 and 103.94. The type is that of the computation; variables and logits are
      float32.
    blocks: of `resnet_v1_block`.
    num_classes: the number of logits; 0 or None returns features.
    is_training: batch statistics, or moving averages; None: as an arg scope around says.
    global_pool: averages the features over all places.
    output_stride: no features get smaller than 1 / output_stride of the images: further strides
      become dilation (arXiv:1606.00915) with the same weights.
    include_root_block: builds the first convolution and the pooling; without them `inputs` are
      features, and `output_stride` is relative to these.
    spatial_squeeze: logits [N, num_classes] rather than [N, h, w, num_classes]; needs them to be
      1 x 1.
    store_non_strided_activations: among the end points the outputs of blocks are those before the
      stride: four times as many places, which the last units then compute.
    reuse: of the variables; needs `scope`.
    scope: variable scope, 'resnet_v1' by default.
    padding: 'slim', or for weights of Keras Applications 'keras': the first pooling pads by zeros
      on all sides.
    activation_scale: factor of every residual before it is added, above 0; None: 1.

  Returns:
    Logits, or features [N, 1, 1, C], or without `global_pool` [N, h, w, C]; and the end points:
    those of convolutions, units and blocks by the names of their scopes, 'resnet_v1/block1/...',
    'global_pool', 'resnet_v1/logits', 'resnet_v1/spatial_squeeze', 'predictions'.

  Raises:
    ValueError: an `output_stride` that the blocks do not have, another `padding`, an impossible
      `activation_scale`, or logits of more than one place and `spatial_squeeze`.
  """
  return resnet_utils.run(
    inputs,
    resnet_utils.rows(blocks, include_root_block),
    num_classes,
    is_training,
    global_pool=global_pool,
    output_stride=output_stride,
    spatial_squeeze=spatial_squeeze,
    store_non_strided_activations=store_non_strided_activations,
    padding=padding,
    activation_scale=activation_scale,
    reuse=reuse,
    scope=scope,
    default_scope='resnet_v1',
  )


def _network_fn(layers: int) -> NetworkFn:
  def network_fn(
    inputs: tf.Tensor,
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = True,
    global_pool: bool = True,
    output_stride: int | None = None,
    spatial_squeeze: bool = True,
    store_non_strided_activations: bool = False,
    min_base_depth: int = 8,
    depth_multiplier: float = 1,
    reuse: bool | None = None,
    scope: str = f'resnet_v1_{layers}',
    padding: str = 'slim',
    activation_scale: float | None = None,
  ) -> tuple[tf.Tensor, EndPoints]:
    """`resnet_v1` of the net's blocks, with two arguments of its own.

    Args:
      min_base_depth: no unit's first convolutions get fewer filters than this.
      depth_multiplier: factor of the filters of the units, above 0.
    """
    return resnet_v1(
      inputs,
      blocks(layers, min_base_depth, depth_multiplier),
      num_classes,
      is_training,
      global_pool,
      output_stride,
      spatial_squeeze=spatial_squeeze,
      store_non_strided_activations=store_non_strided_activations,
      reuse=reuse,
      scope=scope,
      padding=padding,
      activation_scale=activation_scale,
    )

  named = resnet_utils.named(network_fn, f'resnet_v1_{layers}')
  if layers <= 101:
    return named
  # slim has these two the other way round in its deeper nets.
  return resnet_utils.swapped(named, 'spatial_squeeze', 'store_non_strided_activations')


resnet_v1_50 = _network_fn(50)
resnet_v1_101 = _network_fn(101)
resnet_v1_152 = _network_fn(152)
resnet_v1_200 = _network_fn(200)


def _net(layers: int, network_fn: NetworkFn, reference: str, *errors: Errors) -> Net:
  one_crop, crops_10 = errors or (None, None)
  return resnet_utils.make_net(
    f'resnet_v1_{layers}',
    lambda **depths: blocks(layers, **depths),
    network_fn,
    Paper(
      f'ResNet-v1-{layers}',
      reference,
      one_crop=one_crop,
      crops_10=crops_10,
      source='KaimingHe/deep-residual-networks, README.md, Results',
    ),
    num_classes=1000,
    preprocessing='vgg',
  )


NETS = (
  _net(50, resnet_v1_50, 'arXiv:1512.03385, Table 1', Errors(24.7, 7.8), Errors(22.9, 6.7)),
  _net(101, resnet_v1_101, 'arXiv:1512.03385, Table 1', Errors(23.6, 7.1), Errors(21.8, 6.1)),
  _net(152, resnet_v1_152, 'arXiv:1512.03385, Table 1', Errors(23.0, 6.7), Errors(21.4, 5.7)),
  _net(200, resnet_v1_200, 'arXiv:1603.05027, appendix'),
)
