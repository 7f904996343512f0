"""The features of a net by stride, for detectors and whatever else looks at several sizes."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from . import checkpoints, geometry, layers, model_inputs, slim
from .blocks import move_strides_behind
from .build import run_body
from .model import NetModule
from .net import NetworkFn

OUTPUT_STRIDES = (8, 16, 32)


class FeaturePyramid(NetModule):
  """A net without head, whose call gives the last features at each stride.

      pyramid = nets_factory.create_model('inception_v4', features_only=True, strides=(8, 16, 32))
      pyramid.restore('inception_v4.ckpt')  # heads are passed over
      pyramid.channels  # {8: 384, 16: 1024, 32: 1536}
      features = pyramid(images)  # {8: [N, 35, 35, 384], 16: ..., 32: ...} of 299 x 299 pixels

  The nets' strided layers have no padding (VALID), so a map of stride s has somewhat less than
  H / s rows: 35, 17 and 8 of 299. Feature i lies around pixel `offsets[s] + s * i`.

  See `NetModule` for what it shares with `Model`. These are arguments of `create_model`:

  Args:
    strides: which to give; None is all, 2, 4, 8, 16 and 32. No variables are made for what is above
      the largest.
    output_stride: no features get smaller than 1 / output_stride of the image: further strides
      become dilation (arXiv:1606.00915) with the same weights, and the features of the largest
      stride are those of the end of the net. Every so many-th is the classifier's own. 32 changes
      nothing.
    align_feature_maps: SAME padding everywhere: ceil(H / s) rows, and images as small as you
      like. Near the border features are others than the classifier's.
    **kwargs: of the function of the net's body (`depth_multiplier`, `activation_fn`, ...).

  Raises:
    ValueError: another `output_stride`, or a stride that there is not.
  """

  def _make_network_fn(self) -> NetworkFn:
    return self._choose(**self.config.arguments)

  def _choose(
    self,
    *,
    strides: Iterable[int] | None = None,
    output_stride: int = 32,
    align_feature_maps: bool = False,
    **kwargs: Any,
  ) -> NetworkFn:
    net = self.config.net
    if output_stride not in OUTPUT_STRIDES:
      raise ValueError(f'output_stride is {output_stride!r}; choose 8, 16 or 32')
    if not isinstance(align_feature_maps, bool):
      raise ValueError(f'align_feature_maps is {align_feature_maps!r}; choose True or False')
    try:
      body, variant = net.vary(**kwargs)
    except TypeError as error:
      raise ValueError(f'Features of {net.name} do not take all of {[*kwargs]}: {error}') from error
    body = move_strides_behind(body)  # so that all of a block has the block's stride
    levels = geometry.levels(body, output_stride)
    self._strides = _sorted_strides(levels if strides is None else strides, levels, output_stride)
    rows = body[: levels[self._strides[-1]].row + 1]
    # A row that is no end point of slim's can be the last of its stride: Inception-ResNet-v2's
    # end point of stride 8 is before its ten residual blocks.
    rows = tuple(unit._replace(end_point=unit.scope) for unit in rows)
    names = {stride: rows[levels[stride].row].scope for stride in self._strides}
    if align_feature_maps:
      variant = variant._replace(valid_padding='SAME')
    is_fixed = not align_feature_maps and geometry.is_fixed(rows)
    self._offsets = [levels[s].offset for s in self._strides] if is_fixed else None
    self._smallest = geometry.smallest_input(rows)

    def network_fn(images: tf.Tensor, is_training: bool | tf.Tensor):
      with (
        tf.compat.v1.variable_scope(net.scope),
        slim.arg_scope([layers.batch_norm], is_training=is_training),
      ):
        _, outputs = run_body(images, rows, None, variant, output_stride)
      return {stride: outputs[name] for stride, name in names.items()}, outputs

    return network_fn

  @property
  def image_size(self) -> int:
    """Pixels a side of the smallest image that the net takes."""
    return self._smallest

  def __call__(self, images: tf.Tensor, training: bool | tf.Tensor = False) -> dict[int, tf.Tensor]:
    """{stride: [N, h, w, channels[stride]]} in the type of the images.

    Args:
      images: [N, H, W, C] in [-1, 1], of any size that the net takes (75 x 75 and more for stride
        32); H and W may be unknown and differ from call to call.
      training: batch norm takes the statistics of the batch, and moves its averages.

    Raises:
      ValueError: the images are too small, or have other channels.
    """
    training = model_inputs.as_training(training)
    return self._run(self._as_images(images), is_training=training)[0]

  def end_points(
    self, images: tf.Tensor, training: bool | tf.Tensor = False
  ) -> dict[str, tf.Tensor]:
    """The output of every row up to the largest stride, those that slim keeps nowhere included.

    Args:
      images: as for a call.
      training: as for a call.

    Returns:
      {scope of the row within the net's, 'Repeat_2/block8_5': [N, h, w, C]}.
    """
    training = model_inputs.as_training(training)
    return self._run(self._as_images(images), is_training=training)[1]

  def outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a SavedModel of this gives: {'stride_8': [N, h, w, C], ...}."""
    return {f'stride_{stride}': features for stride, features in self(images).items()}

  @property
  def strides(self) -> tuple[int, ...]:
    """Those of the features, in rising order."""
    return tuple(self._strides)

  @property
  def channels(self) -> dict[int, int]:
    """{stride: channels of its features}."""
    return dict(zip(self.strides, self._output_channels, strict=True))

  @property
  def offsets(self) -> dict[int, int]:
    """{stride: the pixel, counted from 0, around which the first feature lies, in both directions}.

    Raises:
      ValueError: that depends on the size of the image, as with `align_feature_maps`, and in nets
        whose strided layers have padding SAME: slim's ResNets, Inception-v1 and -v2.
    """
    if self._offsets is None:
      raise ValueError(
        'With padding SAME in strided layers (align_feature_maps, or such a net) the places of '
        'features depend on the image size'
      )
    return dict(zip(self.strides, self._offsets, strict=True))

  def restore(self, path: str | os.PathLike, **kwargs: Any) -> checkpoints.Restored:
    """Loads a checkpoint by slim's names, and logs which parts of it the pyramid has no use for.

    See `checkpoints.restore` for the arguments and what is raised.
    """
    done = super().restore(path, **kwargs)
    own = {_part(name) for name in self.variables_by_name}
    others = {
      _part(name) for name in done.unused if name.startswith(f'{self.config.net.scope}/')
    } - own
    logging.info(
      '%s: %d variables restored; not in the pyramid: %s',
      done.path,
      len(done.restored),
      ', '.join(sorted(others)) or 'nothing',
    )
    return done


def _sorted_strides(
  strides: Iterable[int], levels: Mapping[int, geometry.Level], output_stride: int
) -> tuple[int, ...]:
  """The strides in rising order; ValueError where the net does not have one."""
  choices = ', '.join(map(str, levels))
  limit = f' with output_stride={output_stride}' if output_stride < 32 else ''
  if not isinstance(strides, Iterable) or isinstance(strides, str):
    raise ValueError(
      f'strides is {strides!r}; it must be a tuple, e.g. strides=(8,), of {choices}{limit}'
    )
  strides = tuple(strides)
  if not strides or not all(stride in levels for stride in strides):
    raise ValueError(f'strides are {strides}; choose among {choices}{limit}')
  return tuple(sorted({int(stride) for stride in strides}))


def _part(name: str) -> str:
  """'InceptionV3/Logits/Conv2d_1c_1x1/weights' -> 'InceptionV3/Logits'."""
  return '/'.join(name.split('/')[:2])
