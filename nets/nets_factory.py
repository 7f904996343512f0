"""The registry of nets: one entry owns a net's function, arg scope, size and classes."""

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from . import (
  inception,
  inception_resnet_v1,
  inception_resnet_v2,
  inception_v3,
  inception_v4,
  slim,
)
from .feature_pyramid import FeaturePyramid
from .inception_blocks import Head, Row, Variant
from .model import Model, NetworkFn


def _unchanged() -> Variant:
  return Variant()


def _residual(activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu) -> Variant:
  return Variant(activation_fn=activation_fn)


class Net(NamedTuple):
  """What the library knows of a net."""

  network_fn: NetworkFn
  arg_scope: Callable[..., dict[str, Any]]
  head_scopes: tuple[str, ...]  # where the shapes depend on the number of classes
  body: tuple[Row, ...]  # the last of its end points is what the head pools
  logits_scope: str  # the layer that makes logits of the pooled features
  head: Head
  default_image_size: int = 299
  make_variant: Callable[..., Variant] = _unchanged  # of the arguments that change the body

  @property
  def scope(self) -> str:
    """The variable scope of the net: 'InceptionV3'."""
    return self.logits_scope.partition('/')[0]

  @property
  def first_weights(self) -> str:
    """The name of the weights that see the image, [3, 3, channels, 32]."""
    return f'{self.scope}/{self.body[0].scope}/weights'


NETS: dict[str, Net] = {
  'inception_v3': Net(
    inception.inception_v3,
    inception.inception_v3_arg_scope,
    ('InceptionV3/Logits', 'InceptionV3/AuxLogits'),
    inception_v3.BODY,
    'InceptionV3/Logits/Conv2d_1c_1x1',
    inception_v3.HEAD,
    make_variant=inception_v3.make_variant,
  ),
  'inception_v4': Net(
    inception.inception_v4,
    inception.inception_v4_arg_scope,
    ('InceptionV4/Logits', 'InceptionV4/AuxLogits'),
    inception_v4.BODY,
    'InceptionV4/Logits/Logits',
    inception_v4.HEAD,
  ),
  'inception_resnet_v1': Net(
    inception.inception_resnet_v1,
    inception.inception_resnet_v1_arg_scope,
    ('InceptionResnetV1/Logits', 'InceptionResnetV1/Bottleneck'),
    inception_resnet_v1.BODY,
    'InceptionResnetV1/Logits/Logits',
    inception_resnet_v1.HEAD,
    make_variant=_residual,
  ),
  'inception_resnet_v2': Net(
    inception.inception_resnet_v2,
    inception.inception_resnet_v2_arg_scope,
    ('InceptionResnetV2/Logits', 'InceptionResnetV2/AuxLogits'),
    inception_resnet_v2.BODY,
    'InceptionResnetV2/Logits/Logits',
    inception_resnet_v2.HEAD,
    make_variant=_residual,
  ),
}


# slim's two dictionaries, for code that goes through them.
networks_map = {name: net.network_fn for name, net in NETS.items()}
arg_scopes_map = {name: net.arg_scope for name, net in NETS.items()}


def get_net(name: str) -> Net:
  """The registry's entry.

  Raises:
    ValueError: unknown name.
  """
  if name not in NETS:
    raise ValueError(f'Unknown net {name!r}; choose one of {", ".join(NETS)}')
  return NETS[name]


def get_network_fn(
  name: str, num_classes: int | None, weight_decay: float = 0.0, is_training: bool = False
) -> NetworkFn:
  """slim's entry: the net function within its arg scope, for TF1 graphs.

  Args:
    name: of the net, see `NETS`.
    num_classes: the number of logits; 0 or None returns features.
    weight_decay: factor of the L2 loss.
    is_training: batch statistics and dropout.

  Returns:
    `network_fn(images, **kwargs) -> (logits, end_points)`, with `default_image_size`.

  Raises:
    ValueError: unknown name.
  """
  net = get_net(name)

  @functools.wraps(net.network_fn)
  def network_fn(images: tf.Tensor, **kwargs: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    with slim.arg_scope(net.arg_scope(weight_decay=weight_decay)):
      return net.network_fn(images, num_classes=num_classes, is_training=is_training, **kwargs)

  network_fn.default_image_size = net.default_image_size
  return network_fn


def create_model(
  name: str,
  num_classes: int | str | None = 'auto',
  *,
  weights: str | os.PathLike | None = None,
  image_size: int | None = None,
  input_channels: int = 3,
  features_only: bool = False,
  arg_scope: dict[str, Any] | None = None,
  **kwargs: Any,
) -> Model | FeaturePyramid:
  """A net with its variables, for TF2: eager, `tf.function`, any distribution strategy.

  Args:
    name: of the net, see `NETS`.
    num_classes: the number of logits; 0 or None gives features; 'auto' is 1001, or as many as
      `weights` have.
    weights: a file, folder or checkpoint of any kind that `nets.convert` reads: slim's checkpoints
      and archives, Keras' .h5 and .keras, timm's .safetensors, ... A head for another number of
      classes starts fresh, as does an auxiliary head that is not there; the log says so. A net of
      one input channel gets the sum over theirs: grey images give the same features.
    image_size: pixels a side to train at; the net's own by default. It matters for the auxiliary
      head alone, whose last convolution spans the image: at inference other sizes work too,
      without that head.
    input_channels: of the images: 3 for colours, 1 for grey, any other number for what you have.
    features_only: a net without head, whose call gives {stride: features}: see `FeaturePyramid`,
      which has more arguments: `strides`, `output_stride` and `align_feature_maps`.
    arg_scope: e.g. `inception_v3_arg_scope(batch_norm_decay=0.99)`; the net's own by default. It
      is the scope of every call; arg scopes around a call of the model do not reach into it.
    **kwargs: arguments of the net function (`create_aux_logits`, `dropout_keep_prob`, ...), or with
      `features_only` of the function of its body (`depth_multiplier`, `activation_fn`, ...).

  Returns:
    The model; its variables are made by the first call, or `build()`.

  Raises:
    ValueError: unknown name, or `weights` are of another net, damaged or of no known format.
    OSError: there are no `weights`.
  """
  net = get_net(name)
  if input_channels < 1:
    raise ValueError(f'input_channels is {input_channels}; it must be at least 1')
  if features_only and not (num_classes in ('auto', None, 0) and image_size is None):
    raise ValueError('features_only takes no num_classes and no image_size: it has no head')
  source = None
  if weights is not None:
    from .convert import conversion  # most programs never need it

    source = conversion.read(weights, name)
    kwargs = (source.body_arguments if features_only else source.arguments) | kwargs
  if num_classes == 'auto':
    num_classes = source.num_classes if source else 1001
  arg_scope = net.arg_scope() if arg_scope is None else arg_scope
  if features_only:
    model = _make_pyramid(net, arg_scope, input_channels=input_channels, name=name, **kwargs)
  else:
    model = Model(
      functools.partial(net.network_fn, num_classes=num_classes, **kwargs),
      arg_scope,
      image_size=image_size or net.default_image_size,
      input_channels=input_channels,
      name=name,
    )
  if source:
    filled = conversion.fill(model.variables_by_name, source, net.head_scopes)
    for line in conversion.report(source, filled):
      logging.info('%s', line)
  return model


def _make_pyramid(
  net: Net,
  arg_scope: dict[str, Any],
  *,
  input_channels: int,
  name: str,
  strides: Iterable[int] | None = None,
  output_stride: int = 32,
  align_feature_maps: bool = False,
  **kwargs: Any,
) -> FeaturePyramid:
  return FeaturePyramid(
    net.body,
    net.scope,
    arg_scope,
    strides=strides,
    output_stride=output_stride,
    align_feature_maps=align_feature_maps,
    variant=net.make_variant(**kwargs),
    input_channels=input_channels,
    name=name,
  )
