"""ResNet-v2: "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027), as slim's.

The layers are those of ResNet-v1; batch norm and ReLU stand before the convolutions, and after the
last unit. Names and strides are slim's: see `resnet_v1`.
"""

from collections.abc import Iterable

import tensorflow as tf

from . import resnet_utils
from .blocks import Bottleneck, Unit, batch_norm, row
from .build import EndPoints
from .net import Errors, Net, NetworkFn, Paper
from .resnet_utils import UNITS, resnet_arg_scope

__all__ = [
  'resnet_arg_scope', 'resnet_v2', 'resnet_v2_50', 'resnet_v2_101', 'resnet_v2_152',
  'resnet_v2_200', 'resnet_v2_block',
]  # fmt: skip

POSTNORM = row('postnorm', batch_norm(), end_point=None)  # slim does not keep its output


def resnet_v2_block(scope: str, base_depth: int, num_units: int, stride: int) -> tuple[Unit, ...]:
  """The rows of a block: see `resnet_v1.resnet_v1_block`."""
  units = [Bottleneck(base_depth, preactivate=True)] * num_units
  units[-1] = units[-1]._replace(stride=stride)
  return resnet_utils.block(scope, 'bottleneck_v2', units)


# fmt: off
def blocks(layers: int) -> tuple[tuple[Unit, ...], ...]:
  """The blocks of the net of so many layers."""
  conv2_x, conv3_x, conv4_x, conv5_x = UNITS[layers]
  return (                                              # Table 1  output of 224 x 224 x 3
    resnet_v2_block('block1', 64, conv2_x, stride=2),   # conv2_x  28 x 28 x 256
    resnet_v2_block('block2', 128, conv3_x, stride=2),  # conv3_x  14 x 14 x 512
    resnet_v2_block('block3', 256, conv4_x, stride=2),  # conv4_x  7 x 7 x 1024
    resnet_v2_block('block4', 512, conv5_x, stride=1),  # conv5_x  7 x 7 x 2048
  )
# fmt: on


def resnet_v2(
  inputs: tf.Tensor,
  blocks: Iterable[Iterable[Unit]],
  num_classes: int | None = None,
  is_training: bool | tf.Tensor | None = True,
  global_pool: bool = True,
  output_stride: int | None = None,
  include_root_block: bool = True,
  spatial_squeeze: bool = True,
  reuse: bool | None = None,
  scope: str | None = None,
  padding: str = 'slim',
  activation_scale: float | None = None,
) -> tuple[tf.Tensor, EndPoints]:
  """A ResNet-v2 of any blocks.

  The arguments that are not described here are those of `resnet_v1.resnet_v1`.

  Args:
    inputs: [N, H, W, C]; N, H, W may be unknown. The released nets take RGB in [-1, 1] of 299 x 299
      pixels. The type is that of the computation; variables and logits are float32.
    blocks: of `resnet_v2_block`.
    include_root_block: builds the first convolution and the pooling; without them `inputs` are the
      outputs of a convolution without activation.
    scope: variable scope, 'resnet_v2' by default.

  Returns:
    Logits, or features [N, 1, 1, C], or without `global_pool` [N, h, w, C]; and the end points:
    those of convolutions, units and blocks by the names of their scopes, 'resnet_v2/block1/...',
    'global_pool', 'resnet_v2/logits', 'resnet_v2/spatial_squeeze', 'predictions'.

  Raises:
    ValueError: an `output_stride` that the blocks do not have, another `padding`, an impossible
      `activation_scale`, or logits of more than one place and `spatial_squeeze`.
  """
  return resnet_utils.run(
    inputs,
    (*resnet_utils.rows(blocks, include_root_block, preactivate=True), POSTNORM),
    num_classes,
    is_training,
    global_pool=global_pool,
    output_stride=output_stride,
    spatial_squeeze=spatial_squeeze,
    padding=padding,
    activation_scale=activation_scale,
    reuse=reuse,
    scope=scope,
    default_scope='resnet_v2',
  )


def _network_fn(layers: int) -> NetworkFn:
  def network_fn(
    inputs: tf.Tensor,
    num_classes: int | None = None,
    is_training: bool | tf.Tensor | None = True,
    global_pool: bool = True,
    output_stride: int | None = None,
    spatial_squeeze: bool = True,
    reuse: bool | None = None,
    scope: str = f'resnet_v2_{layers}',
    padding: str = 'slim',
    activation_scale: float | None = None,
  ) -> tuple[tf.Tensor, EndPoints]:
    """`resnet_v2` of the net's blocks."""
    return resnet_v2(
      inputs,
      blocks(layers),
      num_classes,
      is_training,
      global_pool,
      output_stride,
      spatial_squeeze=spatial_squeeze,
      reuse=reuse,
      scope=scope,
      padding=padding,
      activation_scale=activation_scale,
    )

  return resnet_utils.named(network_fn, f'resnet_v2_{layers}')


resnet_v2_50 = _network_fn(50)
resnet_v2_101 = _network_fn(101)
resnet_v2_152 = _network_fn(152)
resnet_v2_200 = _network_fn(200)


def _net(layers: int, network_fn: NetworkFn, one_crop: Errors | None = None) -> Net:
  return resnet_utils.make_net(
    f'resnet_v2_{layers}',
    lambda: blocks(layers),
    network_fn,
    Paper(
      f'ResNet-v2-{layers}',
      'arXiv:1603.05027, appendix',
      one_crop=one_crop,
      source='arXiv:1603.05027, Table 5: 320 x 320 pixels',
    ),
    num_classes=1001,
    preprocessing='inception',
    image_size=299,
    preactivate=True,
    ending=(POSTNORM,),
  )


NETS = (
  _net(50, resnet_v2_50),
  _net(101, resnet_v2_101),
  _net(152, resnet_v2_152),
  _net(200, resnet_v2_200, Errors(20.1, 4.8)),
)
