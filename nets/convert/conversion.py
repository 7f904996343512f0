"""From anyone's weights to a model's variables, and out to other libraries' files."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .. import checkpoints
from ..blocks import CONV
from ..heads import AUX_LOGITS
from ..registry import get_net
from . import facenet_names, formats, keras_applications, slim_files, torch_family
from .layers import CENTER, Layer, fold_gamma, fold_normalization, has_gamma
from .stored import Images, Stored

# {preprocessing: the images of a net of that preprocessing}; of the others [-1, 1]
_OWN_IMAGES = {
  'vgg': Images((123.68, 116.78, 103.94), (1.0,)),
  'torch': Images((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
_SAME_PIXELS = 0.01  # of 0..255: Caffe's and slim's means are as close


class Weights(NamedTuple):
  """What a file gave."""

  path: str
  format: str  # a key of `formats.SOURCES`
  net: str
  layers: dict[str, Layer]  # by our scopes, without the net's own
  left_out: Mapping[str, str]  # {what else is in the file, by its name there: why}
  averages: bool  # whether they are moving averages of the weights
  notes: tuple[str, ...]  # lines on what is to be known besides
  images: Images | None = None  # that the layers are for, where file, library or caller know

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
  def padding(self) -> str | None:
    """What the argument `padding` must be for the net to be that library's; None: as it is."""
    family = formats.SOURCES[self.format].family
    return getattr(family, 'PADDINGS', {}).get(self.net)

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
    counting = {'count_padding': True} if self.counts_padding else {}
    return self.widths | counting | ({'padding': self.padding} if self.padding else {})


class Filled(NamedTuple):
  """What `fill` did, by variable name."""

  filled: tuple[str, ...]
  fresh: tuple[str, ...]  # heads that the file does not have, or for another number of classes
  unused: tuple[str, ...]  # variables that the file has and the model does not
  folded: int  # batch norms whose gamma went into weights
  summed: int  # input channels that became one; 0: as many as the model has
  num_classes: int | None = None  # of the model; None: it has no classifier


def read(
  path: str | os.PathLike,
  net: str,
  *,
  mean: Sequence[float] | None = None,
  std: Sequence[float] | None = None,
  bgr: bool | None = None,
  net_images: Images | None = None,
  use_ema: bool | None = None,
  with_classifier: bool = True,
  source_scope: Sequence[str] = (),
) -> Weights:
  """Reads weights of any format that `formats` knows.

  Every array of the file is used, or left out by a rule that `Weights.left_out` names.

  Args:
    path: a file, a checkpoint's prefix, or a folder: see `formats.locate`.
    net: whose weights they are, e.g. 'inception_v4'.
    mean: of pixels in 0..255, one or one a channel: they were trained on (pixel - mean) / std. None
      is what the file says (Keras' layers Rescaling and Normalization, timm's config.json), or what
      its library's nets take (facenet-pytorch's), or else `net_images`.
    std: likewise. What differs from `net_images` is folded into the first layer, where that has no
      padding.
    bgr: whether they were trained on images whose channels are blue, green, red; `mean` and `std`
      are red's first nevertheless. None: as Keras' ResNet50, ResNet101 and ResNet152 were.
    net_images: the images that the net will be given; None: those of its own preprocessing.
    use_ema: whether to take the moving averages of the weights that are stored beside them; None:
      if there are any.
    with_classifier: whether the classifier and the auxiliary head are read; a net with another
      kind of head than slim's is read without.
    source_scope: where the net lies among the names of a checkpoint or a state dict, e.g.
      'FirstStageFeatureExtractor'; several, if its layers are in several. None: wherever it is, if
      that is in one place.

  Raises:
    OSError: there is no such file.
    ValueError: it is of no known format, damaged, or of another net; it has layers that are not
      known; it has no moving averages, or nothing else.
  """
  path = formats.locate(path)
  kind = formats.recognise(path)
  source = formats.SOURCES[kind]
  stored = _read(source, path, net, use_ema)
  if use_ema and not stored.averages:
    raise ValueError(
      f'{path} has no moving averages of the weights: --use_ema=false takes the others'
    )
  if use_ema is False and stored.averages:
    raise ValueError(
      f'{path} has the moving averages of the weights alone: --use_ema=true takes them'
    )
  try:
    originals = _in_source_scope(stored.arrays, source_scope, source.family, net)
    within = {name: stored.arrays[original] for name, original in originals.items()}
    layers, left_out, unknown = source.family.layers(within, net)
    left_out = {originals[name]: rule for name, rule in left_out.items()}
    outside = stored.arrays.keys() - originals.values()
    left_out |= dict.fromkeys(sorted(outside), f'not in {", ".join(source_scope)}')
    _check_shapes(layers)
    if with_classifier:
      _refuse(unknown, stored.head_fault)
    else:
      layers = _without_heads(layers, net)
      left_out = {**left_out, **dict.fromkeys(unknown, 'no layer of the net below its head')}
    net_images = net_images or _OWN_IMAGES.get(
      get_net(net).preprocessing, Images((CENTER,), (CENTER,))
    )
    images, notes = _images_of(stored, source.family, net, mean, std)
    if bgr is None:
      bgr = net in getattr(source.family, 'BGR', ())
    if bgr:
      notes.append('trained on blue, green, red: the first layer now takes red, green, blue')
    layers = _for_images(layers, net, images or net_images, net_images, bgr)
  except ValueError as error:
    raise ValueError(f'{path} is {source.text}, but not of {net}: {error}') from error
  left_out = {**stored.left_out, **left_out}
  known = net_images if images else None
  notes = [*stored.notes, *notes]
  return Weights(path, kind, net, layers, left_out, stored.averages, tuple(notes), known)


def _read(source: formats.Source, path: str, net: str, use_ema: bool | None) -> Stored:
  """What a reader gives; whatever it fails with is an error that names file and format."""
  try:
    return source.read(path, net, use_ema)
  except Exception as error:
    if isinstance(error, (ValueError, OSError)) and path in str(error):
      raise
    line = next(iter(str(error).splitlines()), '')
    raise ValueError(
      f'{path} is {source.text} that cannot be read: {type(error).__name__} {line}'
    ) from error


def _in_source_scope(
  names: Iterable[str], source_scope: Sequence[str], family: ModuleType, net: str
) -> dict[str, str]:
  """{name as of a file of the net alone: name} of what lies in scopes, or of everything.

  A scope may be the net's own, whatever it is called: what slim's checkpoints have in one is put
  into that of the net.

  Raises:
    ValueError: there is nothing in one of the scopes; the format has none.
  """
  names = list(names)
  if not source_scope:
    return {name: name for name in names}
  if family is keras_applications:
    raise ValueError(
      'source_scope is for checkpoints of TensorFlow and PyTorch: Keras has no scopes'
    )
  separator = '.' if family is torch_family else '/'
  top = f'{get_net(net).scope}/'
  inside: dict[str, str] = {}
  for scope in source_scope:
    start = scope.rstrip(separator) + separator
    rests = {name.removeprefix(start): name for name in names if name.startswith(start)}
    if not rests:
      scopes = dict.fromkeys(name.split(separator)[0] for name in names if separator in name)
      raise ValueError(f'it has nothing in {scope}; its scopes are {", ".join(sorted(scopes))}')
    if family is slim_files and not any(f'/{top}' in f'/{rest}' for rest in rests):
      rests = {top + rest: name for rest, name in rests.items()}
    if twice := next((rest for rest in rests if rest in inside), None):
      raise ValueError(f'{twice} is in several of {", ".join(source_scope)}')
    inside |= rests
  return inside


def _images_of(
  stored: Stored,
  family: ModuleType,
  net: str,
  mean: Sequence[float] | None,
  std: Sequence[float] | None,
) -> tuple[Images | None, list[str]]:
  """The images that weights were trained on, if anyone knows, and notes on who says so.

  Args:
    stored: what was read.
    family: of the library.
    net: whose weights they are.
    mean: what the caller says, which takes precedence; see `read`.
    std: likewise.

  Raises:
    ValueError: what the file says of them is not understood, and the caller says nothing.
  """
  if mean is not None or std is not None:
    stated = Images(*((CENTER,) if x is None else tuple(x) for x in (mean, std)))
    if stored.images and str(stated) != str(stored.images):
      return stated, [f'taken as trained on {stated}, although the file says {stored.images}']
    return stated, []
  if stored.images_fault:
    raise ValueError(f'{stored.images_fault}: give mean and std of the images')
  if stored.images:
    return stored.images, [f'trained on {stored.images}, as the file says']
  by_library = torch_family.images_of(net, stored.arrays) if family is torch_family else None
  if by_library:
    return by_library, [f"trained on {by_library}, as this library's net"]
  return None, []


def _check_shapes(layers: Mapping[str, Layer]) -> None:
  """Raises ValueError for a layer whose arrays do not go together."""
  for scope, layer in layers.items():
    leaves = layer.leaves()
    kernels = {leaf: leaves.pop(leaf) for leaf in ('weights', 'pointwise') if leaf in leaves}
    for kernel in kernels.values():
      if kernel.ndim not in (2, 4):
        raise ValueError(f'{scope} has weights of shape {list(kernel.shape)}')
    *_, last = [*leaves.values(), *kernels.values()]  # the outputs are its last axis
    for leaf, value in leaves.items():
      if value.shape != last.shape[-1:]:
        shapes = f'{list(last.shape)}, but {leaf} of shape {list(value.shape)}'
        raise ValueError(f'{scope} has weights of shape {shapes}')


def _refuse(unknown: Iterable[str], head_fault: str) -> None:
  """Refuses what slim's net would compute otherwise, or not at all."""
  without = 'num_classes=None of create_model and --noclassifier take the net without its head'
  if unknown:
    layers = list(dict.fromkeys(re.split(r'[./](?=[^./]*$)', name)[0] for name in unknown))
    more = f' and {len(layers) - 5} more' if len(layers) > 5 else ''
    raise ValueError(f'it also has {", ".join(layers[:5])}{more}: {without}')
  if head_fault:
    raise ValueError(f'{head_fault}: {without}')


def _without_heads(layers: Mapping[str, Layer], net: str) -> dict[str, Layer]:
  """The layers below the heads, those of an embedding included."""
  head = get_net(net).head
  of_heads = {path for paths in head.weights.values() for path in paths} - set(head.optional)
  return {path: layer for path, layer in layers.items() if path not in of_heads}


def _for_images(
  layers: Mapping[str, Layer], net: str, images: Images, net_images: Images, bgr: bool = False
) -> dict[str, Layer]:
  """The layers for the images `net_images`, red first, of those that were trained on `images`."""
  first = get_net(net).body[0]
  layer = layers[first.scope]
  if layer.weights.ndim != 4:
    raise ValueError(f'{first.scope} is no convolution: its weights are a matrix')
  if bgr:
    layer = layer._replace(weights=layer.weights[:, :, ::-1])
  same = [np.allclose(x, y, atol=_SAME_PIXELS) for x, y in zip(images, net_images, strict=True)]
  if not all(same):
    folded = fold_normalization(layer, images.mean, images.std, net_images)
    if first.cells[0].padding != 'VALID' and not same[0]:
      raise ValueError(
        f'it was trained on {images}, which cannot be folded into a first convolution with padding'
      )
    layer = folded
  return {**layers, first.scope: layer}


def fill(
  variables: Mapping[str, tf.Variable], weights: Weights, head_scopes: tuple[str, ...]
) -> Filled:
  """Assigns weights to a model's variables.

  Where the model's batch norm has no gamma, that of the weights is folded: see `layers.fold_gamma`.
  A model of one input channel gets the sum over those of the weights: see
  `checkpoints.for_one_channel`.

  Args:
    variables: {name: variable} of the model.
    weights: of the same net.
    head_scopes: of variables that may stay as they are, if they are missing or of another shape;
      not the logits of as many classes.

  Raises:
    ValueError: another variable is missing or of another shape. Then none has changed.
  """
  shapes = {name: variable.shape.as_list() for name, variable in variables.items()}
  keeps_gamma = any(name.endswith('/gamma') for name in shapes)
  layers = weights.layers if keeps_gamma else without_gamma(weights.layers)
  values = slim_files.as_variables(layers, shapes, weights.net)
  first = get_net(weights.net).first_weights
  summed = 0
  if shapes.get(first, [0] * 4)[2] == 1 < values[first].shape[2]:
    summed = values[first].shape[2]
    values[first] = checkpoints.for_one_channel(first, values[first])
  fits = {n for n, shape in shapes.items() if n in values and list(values[n].shape) == shape}
  logits = f'{get_net(weights.net).logits_scope}/weights'
  for name, shape in shapes.items():
    as_many_classes = name == logits in values and values[name].shape[-1] == shape[-1]
    if name not in fits and (as_many_classes or not name.startswith(head_scopes)):
      layer, is_norm, _ = name.partition('/BatchNorm/')
      if is_norm and name not in values and f'{layer}/biases' in values:
        raise ValueError(
          f'{weights.path} has the batch norm of {layer} in its weights, as exports have: give the '
          'checkpoint that it was made from'
        )
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
    shapes[logits][-1] if logits in shapes else None,
  )


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

  Of Inception-ResNet-v1 it is an .h5 for the net of deepface and keras-facenet.

  Returns:
    The scopes of the layers that the net of Keras does not have.

  Raises:
    ValueError: Keras Applications does not have the net.
    OSError: the file cannot be written.
  """
  has_gamma = get_net(weights.net).has_gamma
  layers = weights.layers if has_gamma else without_gamma(weights.layers)
  if weights.net == facenet_names.NET:
    keras_applications.write_facenet(path, layers)
  else:
    keras_applications.write(path, layers, weights.net)
  return sorted(set(layers) - set(keras_applications.names_for(weights.net)))


def write_timm(path: str | os.PathLike, weights: Weights, dtype: str = 'float32') -> list[str]:
  """Writes a .safetensors with the names of timm, or of facenet-pytorch.

  Args:
    path: the file.
    weights: of a net that one of them has.
    dtype: 'float32', 'float16' or 'bfloat16', of the numbers in the file.

  Returns:
    The scopes of the layers that the net there does not have.

  Raises:
    ValueError: no library of PyTorch that is known has the net, or has it as narrow as the weights
      are; or the package safetensors is not installed.
    OSError: the file cannot be written.
  """
  _check_full_width(weights)
  layers, theirs = weights.layers, torch_family.images_of(weights.net)
  if theirs and weights.images:
    layers = _for_images(layers, weights.net, weights.images, theirs)
  torch_family.write_safetensors(path, torch_family.tensors(layers, weights.net), dtype)
  return sorted(set(weights.layers) - set(torch_family.names_for(weights.net)))


def _check_full_width(weights: Weights) -> None:
  """Refuses a net with a depth_multiplier: other libraries have none."""
  cells = (
    cell for unit in get_net(weights.net).body for branch in unit.branches for cell in branch.cells
  )
  for cell in cells:
    layer = weights.layers.get(cell.name)
    if cell.op == CONV and layer is not None and layer.weights.shape[-1] != cell.depth:
      raise ValueError(
        f'{weights.path}: {cell.name} has {layer.weights.shape[-1]} filters where {weights.net} of '
        f'other libraries has {cell.depth}: only a depth_multiplier of 1 can be written for them'
      )
