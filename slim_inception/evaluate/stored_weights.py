"""Weights of a net as they are stored: in a checkpoint, or in a file of another library."""

import dataclasses
from typing import Any

from absl import logging

from slim_inception.nets import checkpoints, nets_factory
from slim_inception.nets.convert import conversion, formats
from slim_inception.nets.convert.stored import Images
from slim_inception.nets.model import Model
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.preprocessing_factory import Preprocessing


@dataclasses.dataclass(frozen=True)
class StoredWeights:
  """What a net can be loaded from; `open_weights` makes one.

  Attributes:
    path: prefix of the checkpoint, or the file.
    model_name: the net.
    use_ema: whether to take the moving averages of the weights; None: if there are any.
    converted: what another library's file holds, or a checkpoint in which the net lies within
      another scope; None for a checkpoint of slim's names.
  """

  path: str
  model_name: str
  use_ema: bool | None
  converted: conversion.Weights | None

  @property
  def num_outputs(self) -> int | None:
    """Outputs of the net; None where a checkpoint has no head of `model_name`."""
    if self.converted:
      return self.converted.num_classes
    biases = f'{nets_factory.get_net(self.model_name).logits_scope}/biases'
    return next(iter(checkpoints.shapes(self.path).get(biases, ())), None)

  @property
  def arguments(self) -> dict[str, Any]:
    """Arguments of the net that the weights are for."""
    if self.converted:
      return self.converted.arguments
    return nets_factory.get_net(self.model_name).widths(checkpoints.shapes(self.path))

  def load(self, model: Model) -> str:
    """Assigns all of the net's variables.

    Returns:
      'ema' or 'plain': what was loaded.

    Raises:
      ValueError: the weights do not fit, or have no moving averages.
    """
    if self.converted:
      head_scopes = nets_factory.get_net(self.model_name).head_scopes
      filled = conversion.fill(model.variables_by_name, self.converted, head_scopes)
      if filled.fresh:
        raise ValueError(
          f'{self.path} does not fit {filled.fresh[0]}; --model_name, --labels_offset and the data '
          'set decide what is looked for'
        )
      for note in self.converted.notes:
        logging.info('%s: %s', self.path, note)
      return 'ema' if self.converted.averages else 'plain'
    names = checkpoints.shapes(self.path)
    has_averages = any(name.endswith(checkpoints.EMA_SUFFIX) for name in names)
    if self.use_ema and not has_averages:
      raise ValueError(f'{self.path} has no moving averages of the weights: choose --use_ema=false')
    use_ema = has_averages and self.use_ema is not False
    try:
      model.restore(self.path, use_ema=use_ema)
    except ValueError as error:
      raise ValueError(
        f'{error}; --model_name, --input_channels, --labels_offset and the data set decide what is '
        'looked for'
      ) from error
    return 'ema' if use_ema else 'plain'


def open_weights(
  path: str,
  model_name: str,
  use_ema: bool | None = None,
  *,
  preprocessing: Preprocessing | None = None,
  with_classifier: bool = True,
) -> StoredWeights:
  """Opens a checkpoint, or weights of any kind that `nets.convert` reads.

  Args:
    path: of the file, or prefix of the checkpoint.
    model_name: of the net.
    use_ema: whether to take the moving averages of the weights; None: if there are any.
    preprocessing: of the images that the net will be given; None: the net's own.
    with_classifier: whether the net is needed with it; else the file may have none, or another.

  Raises:
    ValueError: they are damaged, of no known kind, of another net or without a classifier.
  """
  converted = None
  if formats.needs_conversion(path, model_name):
    images = images_for(preprocessing.name) if preprocessing else {}
    converted = conversion.read(
      path, model_name, use_ema=use_ema, with_classifier=with_classifier, **images
    )
    if with_classifier and converted.num_classes is None:
      raise ValueError(f'{path} has no classifier, only features of {model_name}')
  return StoredWeights(path, model_name, use_ema, converted)


def images_for(preprocessing_name: str) -> dict[str, Any]:
  """Arguments of `conversion.read` for a net whose images go through a preprocessing.

  Where each image has a mean and a deviation of its own nothing can be folded.
  """
  values = preprocessing_factory.get(preprocessing_name).normalization
  net_images = Images(values.mean, values.std)
  is_fixed = values.constants['mean'] is not None
  return (
    {'net_images': net_images} if is_fixed else {'net_images': net_images, **net_images._asdict()}
  )
