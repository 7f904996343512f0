"""From anyone's weights to a model's variables, and out to other libraries' files."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ..heads import AUX_LOGITS
from ..nets_factory import get_net
from . import formats, keras_applications, slim_files, torch_family
from .layers import CENTER, Layer, fold_gamma, fold_normalization, has_gamma


class Weights(NamedTuple):
  """What a file gave."""

  path: str
  format: str  # a key of `formats.SOURCES`
  net: str
  layers: dict[str, Layer]  # by our scopes, without the net's own
  ignored: tuple[str, ...]  # what else was in the file, by its names there

  @property
  def num_classes(self) -> int | None:
    """The number of logits, as the file has it; None without classifier."""
    logits = self.layers.get(get_net(self.net).head.logits_path)
    return None if logits is None else logits.weights.shape[-1]

  @property
  def counts_padding(self) -> bool:
    """Whether the net has average pools that count the zeros around the image, in that library."""
    is_torchs = formats.SOURCES[self.format].family is torch_family
    return is_torchs and self.net in torch_family.COUNTING_PADDING

  @property
  def widths(self) -> dict[str, int]:
    """Arguments of the net function that make the layers of the file that not every net has."""
    return {
      argument: self.layers[path].weights.shape[-1]
      for path, argument in get_net(self.net).head.optional.items()
      if path in self.layers
    }

  @property
  def arguments(self) -> dict[str, Any]:
    """What `create_model` must be told to give the outputs of the net that the file is of."""
    return self.widths | ({'count_padding': True} if self.counts_padding else {})


class Filled(NamedTuple):
  """What `fill` did, by variable name."""

  filled: tuple[str, ...]
  fresh: tuple[str, ...]  # heads that the file does not have, or for another number of classes
  unused: tuple[str, ...]  # variables that the file has and the model does not
  folded: int  # batch norms whose gamma went into weights
  summed: int  # input channels that became one; 0: as many as the model has


def read(
  path: str | os.PathLike,
  net: str,
  *,
  mean: Sequence[float] = (CENTER,),
  std: Sequence[float] = (CENTER,),
  use_ema: bool | None = None,
) -> Weights:
  """Reads weights of any format that `formats` knows.

  Args:
    path: a file, a folder with a checkpoint, or a checkpoint's prefix.
    net: whose weights they are, e.g. 'inception_v4'.
    mean: of pixels in 0..255, one or one a channel: they were trained on (pixel - mean) / std.
    std: likewise. That is folded into the first layer, so that the result takes images in [-1, 1].
    use_ema: whether to take the moving averages of a checkpoint's weights; None: if there are any.

  Raises:
    OSError: there is no such file.
    ValueError: it is of no known format, damaged, or of another net.
  """
  path = os.fspath(path)
  first = get_net(net).body[0].scope
  kind = formats.recognise(path)
  source = formats.SOURCES[kind]
  tensors = source.read(path, net, use_ema)
  try:
    layers, used = source.family.layers(tensors, net)
    layers[first] = fold_normalization(layers[first], mean, std)
  except ValueError as error:
    raise ValueError(f'{path} is {source.text}, but not of {net}: {error}') from error
  return Weights(path, kind, net, layers, tuple(sorted(set(tensors) - used)))


def fill(
  variables: Mapping[str, tf.Variable], weights: Weights, head_scopes: tuple[str, ...]
) -> Filled:
  """Assigns weights to a model's variables.

  Where the model's batch norm has no gamma, that of the weights is folded: see `layers.fold_gamma`.
  A model of one input channel gets the sum over those of the weights, which is exact for images
  whose channels are equal.

  Args:
    variables: {name: variable} of the model.
    weights: of the same net.
    head_scopes: of variables that may stay as they are, if they are missing or of another shape.

  Raises:
    ValueError: another variable is missing or of another shape. Then none has changed.
  """
  shapes = {name: variable.shape.as_list() for name, variable in variables.items()}
  keeps_gamma = any(name.endswith('BatchNorm/gamma') for name in shapes)
  layers = weights.layers if keeps_gamma else without_gamma(weights.layers)
  values = slim_files.as_variables(layers, shapes, weights.net)
  first = get_net(weights.net).first_weights
  summed = 0
  if shapes.get(first, [0] * 4)[2] == 1 < values[first].shape[2]:
    summed = values[first].shape[2]
    values[first] = values[first].sum(axis=2, keepdims=True)
  fits = {n for n, shape in shapes.items() if n in values and list(values[n].shape) == shape}
  for name, shape in shapes.items():
    if name not in fits and not name.startswith(head_scopes):
      theirs = f'shape {list(values[name].shape)}' if name in values else 'nothing'
      raise ValueError(
        f'{weights.path} has {theirs} for {name}, which has shape {shape} in this model'
      )
  for name in fits:
    variables[name].assign(values[name])
  return Filled(
    tuple(name for name in shapes if name in fits),
    tuple(name for name in shapes if name not in fits),
    tuple(name for name in values if name not in shapes),
    0 if keeps_gamma else sum(map(has_gamma, weights.layers.values())),
    summed,
  )


def report(weights: Weights, filled: Filled) -> list[str]:
  """Lines on what was read and what became of it."""
  scopes = sorted({name.rsplit('/', 2 if '/BatchNorm/' in name else 1)[0] for name in filled.fresh})
  lines = [
    about(weights),
    f'{len(filled.filled)} variables filled, left fresh: {", ".join(scopes) or "none"}',
  ]
  if filled.unused:
    lines.append(f'of no use here: {summarise(filled.unused)}')
  if filled.summed:
    lines.append(
      f'first convolution summed over its {filled.summed} input channels: exact for grey'
    )
  if filled.folded:
    lines.append(
      f'gamma of {filled.folded} batch norms folded into weights: exact, but not for training with '
      'the statistics of batches (keep gamma by batch_norm_scale)'
    )
  return lines


def about(weights: Weights) -> str:
  """A line on what was read."""
  ignored = f'; ignored: {summarise(weights.ignored)}' if weights.ignored else ''
  classes = {
    None: 'no classifier',
    1000: '1000 classes, no background among them',
    1001: '1001 classes, 0 is the background',
  }.get(weights.num_classes, f'{weights.num_classes} classes')
  text = formats.SOURCES[weights.format].text
  return f'{weights.path}: {text}, {weights.net}, {classes}{ignored}'


def without_gamma(layers: Mapping[str, Layer]) -> dict[str, Layer]:
  """See `layers.fold_gamma`."""
  return {scope: fold_gamma(layer) for scope, layer in layers.items()}


def without_auxiliary_head(weights: Weights) -> Weights:
  """The same without the layers of the auxiliary head."""
  auxiliary = get_net(weights.net).head.weights.get(AUX_LOGITS, ())
  layers = {path: layer for path, layer in weights.layers.items() if path not in auxiliary}
  return weights._replace(layers=layers)


def write_keras(path: str | os.PathLike, weights: Weights) -> list[str]:
  """Writes a .weights.h5 that Keras Applications' net loads; gamma is folded.

  Returns:
    The scopes of the layers that the net of Keras does not have.

  Raises:
    ValueError: Keras Applications does not have the net.
    OSError: the file cannot be written.
  """
  layers = without_gamma(weights.layers)
  keras_applications.write(path, layers, weights.net)
  return sorted(set(layers) - set(keras_applications.names_for(weights.net)))


def write_timm(path: str | os.PathLike, weights: Weights) -> list[str]:
  """Writes a .safetensors with timm's names.

  Returns:
    The scopes of the layers that the net of timm does not have.

  Raises:
    ValueError: timm does not have the net, or the package safetensors is not installed.
    OSError: the file cannot be written.
  """
  torch_family.write_safetensors(path, torch_family.tensors(weights.layers, weights.net))
  return sorted(set(weights.layers) - set(torch_family.names_for(weights.net)))


def summarise(names: Iterable[str]) -> str:
  """'378 x num_batches_tracked, global_step': names counted by their last part."""
  counts = Counter(re.split(r'[./]', name)[-1] for name in names)
  return ', '.join(f'{count} x {name}' if count > 1 else name for name, count in counts.items())
