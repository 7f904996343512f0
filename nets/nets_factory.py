"""Models of nets by name, for TF2 and for TF1 graphs; the names are those of `nets.registry`."""

import functools
import os
from collections.abc import Iterable
from typing import Any, Literal, overload

import tensorflow as tf
from absl import logging

from . import inception_utils, slim
from .config import ModelConfig
from .feature_pyramid import FeaturePyramid
from .model import Model
from .net import ArgScope, NetworkFn
from .registry import NETS, arg_scopes_map, get_net, nets_with, networks_map, register

__all__ = [
  'NETS', 'arg_scopes_map', 'create_model', 'get_net', 'get_network_fn', 'nets_with',
  'networks_map', 'register',
]  # fmt: skip


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

  @functools.wraps(net.network_fn)  # its attribute default_image_size too
  def network_fn(images: tf.Tensor, **kwargs: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    with slim.arg_scope(net.arg_scope(weight_decay=weight_decay)):
      return net.network_fn(images, num_classes=num_classes, is_training=is_training, **kwargs)

  return network_fn


def _check_weights(weights: Any) -> None:
  """Raises ValueError for what other libraries take: they know names of weights, and download."""
  if not isinstance(weights, str | os.PathLike):
    raise ValueError(f'weights is {weights!r}; it must be the path of a file or folder')
  if os.fspath(weights) == 'imagenet' and not os.path.exists('imagenet'):
    raise ValueError(
      "weights is 'imagenet', which is no file here: nothing is downloaded; get one of "
      'the checkpoints that `slim-inception list` names, and give its path'
    )


@overload
def create_model(
  name: str,
  num_classes: int | Literal['auto'] | None = 'auto',
  *,
  weights: str | os.PathLike | None = None,
  image_size: int | None = None,
  input_channels: int = 3,
  features_only: Literal[False] = False,
  arg_scope: ArgScope | None = None,
  count_padding: bool | None = None,
  **kwargs: Any,
) -> Model: ...


@overload
def create_model(
  name: str,
  num_classes: Literal['auto', 0] | None = 'auto',
  *,
  weights: str | os.PathLike | None = None,
  image_size: None = None,
  input_channels: int = 3,
  features_only: Literal[True],
  arg_scope: ArgScope | None = None,
  count_padding: bool | None = None,
  strides: Iterable[int] | None = None,
  output_stride: int = 32,
  align_feature_maps: bool = False,
  **kwargs: Any,
) -> FeaturePyramid: ...


@overload
def create_model(
  name: str,
  num_classes: int | Literal['auto'] | None = 'auto',
  *,
  features_only: bool,
  **kwargs: Any,
) -> Model | FeaturePyramid: ...


def create_model(
  name: str,
  num_classes: int | Literal['auto'] | None = 'auto',
  *,
  weights: str | os.PathLike | None = None,
  image_size: int | None = None,
  input_channels: int = 3,
  features_only: bool = False,
  arg_scope: ArgScope | None = None,
  count_padding: bool | None = None,
  **kwargs: Any,
) -> Model | FeaturePyramid:
  """A net with its variables, for TF2: eager, `tf.function`, any distribution strategy.

  Args:
    name: of the net, see `NETS`.
    num_classes: the number of logits; 0 or None gives features; 'auto' is as many as `weights`
      have, or the net's own number, 1001.
    weights: a file, folder or checkpoint of any kind that `nets.convert` reads: slim's checkpoints
      and archives, Keras' .h5 and .keras, timm's .safetensors, ... Moving averages of the weights
      are taken where the file has them beside these. A head for another number of classes starts
      fresh, as does an auxiliary head that is not there; the log says so. A net of
      one input channel gets the sum over theirs: grey images give the same features. Keras'
      ResNet50 to 152 take blue, green, red, as they do there. `padding` is that of the library.
    image_size: pixels a side to train at; the net's own by default. It matters for the auxiliary
      head alone, whose last convolution spans the image: at inference other sizes work too,
      without that head.
    input_channels: of the images: 3 for colours, 1 for grey, any other number for what you have.
    features_only: a net without head, whose call gives {stride: features}: see `FeaturePyramid`,
      which has more arguments: `strides`, `output_stride` and `align_feature_maps`.
    arg_scope: e.g. `inception_v3_arg_scope(batch_norm_decay=0.99)`; the net's own by default. It
      is the scope of every call; arg scopes around a call of the model do not reach into it.
    count_padding: average pools count the zeros around the image (see `layers.avg_pool2d`); by
      default where `weights` are of a net that does: Inception-v3 of torchvision or timm.
    **kwargs: arguments of the net function (`create_aux_logits`, `dropout_keep_prob`, ...), or with
      `features_only` of the function of its body (`depth_multiplier`, `activation_fn`, ...).

  Returns:
    The model with its variables, in the strategy whose scope is open.

  Raises:
    ValueError: unknown name, or an argument that the net does not take, or a value that cannot be;
      or `weights` are of another net, damaged or of no known format.
    OSError: there are no `weights`.
  """
  net = get_net(name)
  if not isinstance(features_only, bool):
    raise ValueError(f'features_only is {features_only!r}; choose True or False')
  source = None
  if weights is not None:
    from .convert import conversion, description  # most programs never need them

    _check_weights(weights)
    has_classifier = not features_only and num_classes not in (None, 0)
    source = conversion.read(weights, name, bgr=False, with_classifier=has_classifier)
    kwargs = ({} if features_only else source.widths) | kwargs
    if source.padding:
      kwargs = {'padding': source.padding} | kwargs
    if count_padding is None:
      count_padding = source.counts_padding
  if num_classes == 'auto':
    num_classes = None if features_only else source.num_classes if source else net.num_classes
  arg_scope = net.arg_scope() if arg_scope is None else arg_scope
  if count_padding:
    arg_scope = inception_utils.with_counted_padding(arg_scope)
  config = ModelConfig(
    net=net,
    num_classes=num_classes,
    image_size=image_size,
    input_channels=input_channels,
    features_only=features_only,
    arg_scope=arg_scope,
    arguments=kwargs,
  )
  model = FeaturePyramid(config) if features_only else Model(config)
  if source:
    filled = conversion.fill(model.variables_by_name, source, net.head_scopes)
    model.mark_untrained(filled.fresh)
    for line in description.report(source, filled):
      logging.info('%s', line)
  return model
