"""The registry of nets: one entry owns a net's function, arg scope, size and classes."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from absl import logging

from nets import (
  inception,
  inception_resnet_v1,
  inception_resnet_v2,
  inception_v3,
  inception_v4,
)
from nets.inception_blocks import Head, Row
from nets.model import Model, NetworkFn


class Net(NamedTuple):
  """What the library knows of a net."""

  network_fn: NetworkFn
  arg_scope: Callable[..., dict[str, Any]]
  head_scopes: tuple[str, ...]  # where the shapes depend on the number of classes
  body: tuple[Row, ...]  # the last of its end points is what the head pools
  logits_scope: str  # the layer that makes logits of the pooled features
  head: Head
  default_image_size: int = 299


NETS: dict[str, Net] = {
  'inception_v3': Net(
    inception.inception_v3,
    inception.inception_v3_arg_scope,
    ('InceptionV3/Logits', 'InceptionV3/AuxLogits'),
    inception_v3.BODY,
    'InceptionV3/Logits/Conv2d_1c_1x1',
    inception_v3.HEAD,
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
  ),
  'inception_resnet_v2': Net(
    inception.inception_resnet_v2,
    inception.inception_resnet_v2_arg_scope,
    ('InceptionResnetV2/Logits', 'InceptionResnetV2/AuxLogits'),
    inception_resnet_v2.BODY,
    'InceptionResnetV2/Logits/Logits',
    inception_resnet_v2.HEAD,
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
  arg_scope: dict[str, Any] | None = None,
  **kwargs: Any,
) -> Model:
  """A net with its variables, for TF2: eager, `tf.function`, any distribution strategy.

  Args:
    name: of the net, see `NETS`.
    num_classes: the number of logits; 0 or None gives features; 'auto' is 1001, or as many as
      `weights` have.
    weights: a file, folder or checkpoint of any kind that `nets.foreign` reads: slim's checkpoints
      and archives, Keras' .h5 and .keras, timm's .safetensors, ... A head for another number of
      classes starts fresh, as does an auxiliary head that is not there; the log says so.
    image_size: pixels a side to train at; the net's own by default. It matters for the auxiliary
      head alone, whose last convolution spans the picture: at inference other sizes work too,
      without that head.
    arg_scope: e.g. `inception_v3_arg_scope(batch_norm_decay=0.99)`; the net's own by default. It
      is the scope of every call; arg scopes around a call of the model do not reach into it.
    **kwargs: arguments of the net function (`create_aux_logits`, `dropout_keep_prob`, ...).

  Returns:
    The model; its variables are made by the first call, or `build()`.

  Raises:
    ValueError: unknown name, or `weights` are of another net, damaged or of no known format.
    OSError: there are no `weights`.
  """
  net = get_net(name)
  source = None
  if weights is not None:
    from nets.foreign import conversion  # most programs never need it

    source = conversion.read(weights, name)
    kwargs = source.arguments | kwargs
  if num_classes == 'auto':
    num_classes = source.num_classes if source else 1001
  network_fn = functools.partial(net.network_fn, num_classes=num_classes, **kwargs)
  model = Model(
    network_fn,
    net.arg_scope() if arg_scope is None else arg_scope,
    image_size=image_size or net.default_image_size,
    name=name,
  )
  if source:
    filled = conversion.fill(model.variables_by_name, source, net.head_scopes)
    for line in conversion.report(source, filled):
      logging.info('%s', line)
  return model
