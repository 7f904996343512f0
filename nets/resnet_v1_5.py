"""ResNet-v1.5: ResNet-v1 as torchvision and timm train it, with strides in other places.

A block has its stride in the 3 x 3 of its first unit, where slim's and the paper's have a 1 x 1
there: that one sees pixels which these nets never compute, so that weights of one are of no use to
the other. The first pooling pads by one pixel on all sides. torchvision's and timm's resnet50,
resnet101 and resnet152 give the same logits; names are slim's for ResNet-v1.
"""

import tensorflow as tf

from . import resnet_utils
from .blocks import Bottleneck, Unit
from .build import EndPoints, scale_depth
from .net import Net, NetworkFn, Paper
from .resnet_utils import UNITS, resnet_arg_scope

__all__ = [
  'resnet_arg_scope', 'resnet_v1_5_50', 'resnet_v1_5_101', 'resnet_v1_5_152', 'resnet_v1_5_block',
]  # fmt: skip


def resnet_v1_5_block(scope: str, base_depth: int, num_units: int, stride: int) -> tuple[Unit, ...]:
  """The rows of a block, as of `resnet_v1.resnet_v1_block` with the stride in the first unit."""
  units = [Bottleneck(base_depth, stride)] + [Bottleneck(base_depth)] * (num_units - 1)
  return resnet_utils.block(scope, 'bottleneck_v1', units)


# fmt: off
def blocks(
  layers: int, min_base_depth: int = 8, depth_multiplier: float = 1
) -> tuple[tuple[Unit, ...], ...]:
  """The blocks of the net of so many layers; `depth_multiplier` <= 0 raises ValueError."""
  conv2_x, conv3_x, conv4_x, conv5_x = UNITS[layers]
  depth = scale_depth(min_base_depth, depth_multiplier)
  return (                                                       # Table 1  output of 224 x 224 x 3
    resnet_v1_5_block('block1', depth(64), conv2_x, stride=1),   # conv2_x  56 x 56 x 256
    resnet_v1_5_block('block2', depth(128), conv3_x, stride=2),  # conv3_x  28 x 28 x 512
    resnet_v1_5_block('block3', depth(256), conv4_x, stride=2),  # conv4_x  14 x 14 x 1024
    resnet_v1_5_block('block4', depth(512), conv5_x, stride=2),  # conv5_x  7 x 7 x 2048
  )
# fmt: on


def _network_fn(layers: int) -> NetworkFn:
  def network_fn(
    inputs: tf.Tensor,
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = True,
    global_pool: bool = True,
    output_stride: int | None = None,
    spatial_squeeze: bool = True,
    min_base_depth: int = 8,
    depth_multiplier: float = 1,
    reuse: bool | None = None,
    scope: str = f'resnet_v1_5_{layers}',
    activation_scale: float | None = None,
  ) -> tuple[tf.Tensor, EndPoints]:
    """As `resnet_v1.resnet_v1_50`, of the blocks of ResNet-v1.5.

    torchvision's and timm's weights take RGB of 0..1 less the means 0.485, 0.456 and 0.406, over
    the deviations 0.229, 0.224 and 0.225.
    """
    return resnet_utils.run(
      inputs,
      resnet_utils.rows(blocks(layers, min_base_depth, depth_multiplier)),
      num_classes,
      is_training,
      global_pool=global_pool,
      output_stride=output_stride,
      spatial_squeeze=spatial_squeeze,
      padding='torch',
      activation_scale=activation_scale,
      reuse=reuse,
      scope=scope,
      default_scope=f'resnet_v1_5_{layers}',
    )

  return resnet_utils.named(network_fn, f'resnet_v1_5_{layers}')


resnet_v1_5_50 = _network_fn(50)
resnet_v1_5_101 = _network_fn(101)
resnet_v1_5_152 = _network_fn(152)


def _net(layers: int, network_fn: NetworkFn) -> Net:
  return resnet_utils.make_net(
    f'resnet_v1_5_{layers}',
    lambda **depths: blocks(layers, **depths),
    network_fn,
    Paper(f'ResNet-v1.5-{layers}', 'arXiv:1512.03385, Table 1'),
    num_classes=1000,
    preprocessing='torch',
    padding='torch',
  )


NETS = (_net(50, resnet_v1_5_50), _net(101, resnet_v1_5_101), _net(152, resnet_v1_5_152))
