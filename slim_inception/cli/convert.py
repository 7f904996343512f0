"""Converts weights: from Keras, timm, torchvision, facenet and slim, to slim, Keras and timm.

  --model_name=inception_v4 --source=model.safetensors --output=inception_v4.ckpt
  --model_name=inception_v3 --source=inception_v3_2016_08_28.tar.gz --output=v3.weights.h5
  --model_name=inception_resnet_v2 --source=TRAIN_DIR --output=resnet.safetensors

The source's format is told by its content: slim's and facenet's checkpoints, archives and frozen
graphs, a train_dir, Keras Applications' .h5, .weights.h5 and .keras, timm's and torchvision's
.safetensors and .pth. The output's format is told by its name: .weights.h5 for Keras Applications,
.safetensors for timm and torchvision, else a TensorFlow checkpoint with slim's names.
"""

import os
from pathlib import Path

from absl import flags

from slim_inception import files
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.nets.convert import conversion, structure
from slim_inception.preprocessing import normalization

NORMALIZATIONS = {
  'inception': normalization.INCEPTION,
  'imagenet': normalization.TORCHVISION,
  'facenet': normalization.FACENET,
}
USE_EMA = {'auto': None, 'true': True, 'false': False}

_WRITERS = {'.weights.h5': conversion.write_keras, '.safetensors': conversion.write_timm}
_NOT_WRITTEN = ('.h5', '.hdf5', '.keras', '.pth', '.pt', '.pb', '.gz')


def define_flags() -> None:
  flags.DEFINE_enum(
    'model_name',
    None,
    list(structure.STRUCTURES),
    'The net that the weights are of.',
    required=True,
  )
  flags.DEFINE_string('source', None, 'A file, a folder or a checkpoint prefix.', required=True)
  flags.DEFINE_string(
    'output',
    None,
    'NAME.weights.h5, NAME.safetensors, or the prefix of a TensorFlow checkpoint.',
    required=True,
  )
  flags.DEFINE_bool('overwrite', False, 'Replace the output.')
  flags.DEFINE_enum(
    'source_preprocessing',
    'inception',
    list(NORMALIZATIONS),
    'Images that the source was trained on: inception is [-1, 1], imagenet its mean and standard '
    'deviation, facenet (x - 127.5) / 128. What is not [-1, 1] is folded into the first layer.',
  )
  flags.DEFINE_enum(
    'use_ema',
    'auto',
    list(USE_EMA),
    "Whether to take the moving averages of a checkpoint's weights; auto: if there are any.",
  )
  flags.DEFINE_bool(
    'auxiliary_head', True, 'With the auxiliary head, where the net of the output has one.'
  )
  flags.DEFINE_bool(
    'batch_norm_scale',
    False,
    'Keep gamma as variables of their own in a TensorFlow checkpoint, for a model whose arg scope '
    'has batch_norm_scale=True; else gamma is folded into the weights.',
  )


def main(_: list[str]) -> None:
  values = flags.FLAGS
  for line in convert(
    values.source,
    values.output,
    values.model_name,
    overwrite=values.overwrite,
    source_preprocessing=values.source_preprocessing,
    use_ema=values.use_ema,
    auxiliary_head=values.auxiliary_head,
    batch_norm_scale=values.batch_norm_scale,
  ):
    print(line)


def convert(
  source: str,
  output: str,
  model_name: str,
  *,
  overwrite: bool = False,
  source_preprocessing: str = 'inception',
  use_ema: str = 'auto',
  auxiliary_head: bool = True,
  batch_norm_scale: bool = False,
) -> list[str]:
  """Converts one file; the arguments are the flags.

  Returns:
    Lines on what was read, what became of it and what differs.

  Raises:
    OSError, ValueError: as `conversion.read`; or the output exists, or cannot be written. Then it
      is as it was.
  """
  suffix = _suffix(output)
  if batch_norm_scale and suffix:
    raise ValueError(f'--batch_norm_scale is for TensorFlow checkpoints, not for {suffix}')
  _check_output(output, suffix, overwrite)
  trained_on = NORMALIZATIONS[source_preprocessing]
  weights = conversion.read(
    source, model_name, mean=trained_on.mean, std=trained_on.std, use_ema=USE_EMA[use_ema]
  )
  if not auxiliary_head:
    weights = conversion.without_auxiliary_head(weights)
  if suffix:
    with files.atomic_path(output) as temporary:
      left_out = _WRITERS[suffix](temporary, weights)
    lines = [conversion.about(weights), f'left out: {", ".join(left_out) or "none"}']
  else:
    lines = _write_checkpoint(weights, output, auxiliary_head, batch_norm_scale)
  return [*lines, *_differences(weights, suffix), f'written to {output}']


def _write_checkpoint(
  weights: conversion.Weights, prefix: str, auxiliary_head: bool, scale: bool
) -> list[str]:
  net = nets_factory.get_net(weights.net)
  model = nets_factory.create_model(
    weights.net,
    weights.num_classes,
    arg_scope=net.arg_scope(batch_norm_scale=scale),
    create_aux_logits=auxiliary_head,
    **weights.arguments,
  )
  filled = conversion.fill(model.variables_by_name, weights, net.head_scopes)
  model.save(prefix)
  return conversion.report(weights, filled)


def _suffix(output: str) -> str:
  """The key of `_WRITERS` that the output ends in, '' for a TensorFlow checkpoint."""
  for suffix in _WRITERS:
    if output.endswith(suffix):
      return suffix
  if output.endswith(_NOT_WRITTEN):
    raise ValueError(
      f'--output={output}: choose {", ".join(_WRITERS)} or the prefix of a TensorFlow checkpoint'
    )
  return ''


def _check_output(output: str, suffix: str, overwrite: bool) -> None:
  folder = Path(output).absolute().parent
  if not folder.is_dir():
    raise ValueError(f'--output={output}: there is no folder {folder}')
  if os.path.isdir(output):
    raise ValueError(f'--output={output} is a folder: name a file in it')
  suffixes = ('',) if suffix else ('', *checkpoints.SUFFIXES)
  there = [output + end for end in suffixes if os.path.exists(output + end)]
  if there and not overwrite:
    raise ValueError(f'{there[0]} exists: --overwrite replaces it')


def _differences(weights: conversion.Weights, suffix: str) -> list[str]:
  """What the user would not see in the numbers."""
  counts_padding = 'count_padding' in weights.arguments
  if weights.net == 'inception_v3' and counts_padding != (suffix == '.safetensors'):
    return [
      "average pools: timm's and torchvision's inception_v3 count the zeros around the image, "
      "slim's and Keras' do not: logits differ a little; count_padding=True of ours does as they do"
    ]
  return []
