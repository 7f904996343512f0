"""Converts weights: from Keras, PyTorch's libraries, facenet and slim, to slim, Keras and PyTorch.

  --model_name=inception_v4 --source=model.safetensors --output=inception_v4.ckpt
  --model_name=inception_v3 --source=inception_v3_2016_08_28.tar.gz --output=v3.weights.h5
  --model_name=inception_resnet_v2 --source=TRAIN_DIR --output=resnet.safetensors

The content of the source says what it is: slim's and facenet's checkpoints, archives and frozen
graphs, a train_dir, Keras Applications' .h5, .weights.h5 and .keras, deepface's and keras-facenet's
.h5, timm's, torchvision's and facenet-pytorch's .safetensors and .pth. The name of the output says
what is written: .weights.h5 for Keras Applications, .h5 for deepface and keras-facenet,
.safetensors for PyTorch, else a TensorFlow checkpoint with slim's names.
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slim_inception import choices, files, flags
from slim_inception.cli import console, quiet
from slim_inception.constants import CONFIG_SUFFIX
from slim_inception.datasets.progress_bar import waiting

if TYPE_CHECKING:  # imports TensorFlow, as do imports in functions here: --help needs none
  from slim_inception.needs import Needs
  from slim_inception.nets.convert.conversion import Weights

# What images a source was trained on: names in `preprocessing.normalization`.
NORMALIZATIONS = {
  'inception': 'INCEPTION',
  'zero_to_one': 'ZERO_TO_ONE',
  'imagenet': 'TORCHVISION',
  'caffe': 'VGG',
  'facenet': 'FACENET',
}
_AUTO = 'auto'
_BGR = ('caffe',)  # blue first

# Functions of `conversion`, by the end of the output's name; see `_writers`.
_SAFETENSORS = '.safetensors'
_WRITERS = {'.weights.h5': 'write_keras', _SAFETENSORS: 'write_timm'}
_WRITERS_OF_FACENET = {'.h5': 'write_keras', _SAFETENSORS: 'write_timm'}
_NOT_WRITTEN = ('.h5', '.hdf5', '.keras', '.pth', '.pt', '.pb', '.gz')


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
  """Conversion."""

  model_name: str = flags.field(
    flags.REQUIRED, 'The weights are of this net.', choices=choices.net_names
  )
  source: str = flags.field(
    flags.REQUIRED,
    'The weights are read from this file, this folder or the checkpoint of this prefix.',
    place=flags.Place.INPUT,
  )
  output: str = flags.field(
    flags.REQUIRED,
    'The weights are written to this NAME.weights.h5 (of inception_resnet_v1: NAME.h5), '
    'NAME.safetensors, or prefix of a TensorFlow checkpoint.',
    place=flags.Place.OUTPUT_FILE,
  )
  source_scope: tuple[str, ...] = flags.field(
    (),
    'The net is in this scope of the names in the source, e.g. FirstStageFeatureExtractor of a '
    'detector, or in several; by default wherever it is, if that is one place.',
    form='SCOPE,SCOPE,...',
  )
  overwrite: bool = flags.field(False, 'Replace the output if it exists.')
  source_preprocessing: str = flags.field(
    _AUTO,
    'Images that the source was trained on: inception is [-1, 1], zero_to_one is [0, 1], imagenet '
    'its mean and standard deviation, caffe blue, green and red without their mean, facenet '
    "(pixel - 127.5) / 128. auto is what the file says (Keras' Rescaling and Normalization, timm's "
    'config.json), or else [-1, 1]. What is not [-1, 1] is folded into the first layer.',
    choices=(_AUTO, *NORMALIZATIONS),
  )
  use_ema: str = flags.field(
    'auto',
    "Take the moving averages of the weights that a checkpoint of TensorFlow, or of timm's or "
    "torchvision's training, has beside them; auto takes them if there are any.",
    choices=tuple(choices.USE_EMA),
  )
  classifier: bool = flags.field(
    True,
    'Convert the heads too; --noclassifier takes the net below them alone, as of a file whose '
    'head has layers that slim does not have.',
  )
  auxiliary_head: bool = flags.field(
    True, 'Write the auxiliary head too, where the net of the output has one.'
  )
  precision: str = flags.field(
    'float32',
    'Type of the numbers in a .safetensors: half of the size, for what is rounded to 11 bits '
    '(float16) or 8 (bfloat16).',
    choices=choices.PRECISIONS,
  )
  batch_norm_scale: bool = flags.field(
    False,
    'Keep gamma as variables of their own in a TensorFlow checkpoint, for a model whose arg scope '
    'has batch_norm_scale=True; else gamma is folded into the weights.',
  )


_REMOVED = choices.renamed('weights')


def define_flags() -> None:
  flags.define(ConvertConfig, _REMOVED)


def main(_: list[str]) -> None:
  config = flags.parse(ConvertConfig, None, _REMOVED, quiet.import_tensorflow)
  console.say(*convert(config))


def convert(config: ConvertConfig) -> list[str]:
  """Converts one file.

  A run's configuration goes with its weights, as it does with each of its checkpoints: the names of
  the classes are in it. So does what other weights need that the net has otherwise.

  Returns:
    Lines on what was read, what became of it and what differs.

  Raises:
    OSError, ValueError: as `conversion.read`; or the output exists, or cannot be written. Then it
      is as it was.
  """
  from slim_inception.nets.convert import conversion, description
  from slim_inception.preprocessing import normalization

  writers = _writers(config.model_name)
  output, suffix = config.output, _suffix(config.output, writers)
  if config.batch_norm_scale and suffix:
    raise ValueError(f'--batch_norm_scale is for TensorFlow checkpoints, not for {suffix}')
  if config.precision != 'float32' and suffix != _SAFETENSORS:
    raise ValueError(f'--precision={config.precision} is for {_SAFETENSORS}: {output} has float32')
  of_format = {'dtype': config.precision} if suffix == _SAFETENSORS else {}
  _check_output(output, suffix, config.overwrite)
  name = NORMALIZATIONS.get(config.source_preprocessing)
  trained_on = None if name is None else getattr(normalization, name)
  with waiting(f'Reading {config.model_name} from {config.source}'):
    weights = conversion.read(
      config.source,
      config.model_name,
      mean=trained_on and trained_on.mean,
      std=trained_on and trained_on.std,
      bgr=None if trained_on is None else config.source_preprocessing in _BGR,
      use_ema=choices.USE_EMA[config.use_ema],
      with_classifier=config.classifier,
      source_scope=config.source_scope,
    )
  scale = _scale_of_residuals(weights)
  if scale is not None and suffix:
    raise ValueError(
      f'{weights.path} is of a run with --activation_scale={scale}: nets of other libraries have '
      'factors of their own, so only a TensorFlow checkpoint can be written'
    )
  files.make_folder_of(output)
  if not config.auxiliary_head:
    weights = conversion.without_auxiliary_head(weights)
  with waiting(f'Writing {output}'):
    if suffix:
      with files.atomic_path(output) as temporary:
        left_out = getattr(conversion, writers[suffix])(temporary, weights, **of_format)
      not_there = f'layers that the output has no place for: {", ".join(left_out) or "none"}'
      lines = [description.about(weights), *weights.notes, not_there]
    else:
      lines = _write_checkpoint(weights, config)
  needed = _needs(weights)
  run = _run_of(weights) or (None if suffix else _needs_as_run(needed, weights.net))
  _write_run(output + CONFIG_SUFFIX, run)
  differences = description.differences(weights, suffix == _SAFETENSORS)
  if needed.released:
    differences.append(needed.describe())
  if scale is not None:
    differences.append(f'residuals: trained with --activation_scale={scale}, which is no variable')
  return [*lines, *differences, f'written to {output}']


def _write_checkpoint(weights: 'Weights', config: ConvertConfig) -> list[str]:
  from slim_inception.nets import nets_factory
  from slim_inception.nets.convert import conversion, description

  net = nets_factory.get_net(weights.net)
  model = nets_factory.create_model(
    weights.net,
    weights.num_classes,
    arg_scope=net.arg_scope(batch_norm_scale=config.batch_norm_scale or net.has_gamma),
    **net.select(create_aux_logits=config.auxiliary_head),
    **weights.arguments,
  )
  filled = conversion.fill(model.variables_by_name, weights, net.head_scopes)
  model.mark_untrained(filled.fresh)
  model.save(config.output)
  return description.report(weights, filled)


def _beside(weights: 'Weights') -> tuple[str, dict[str, Any]] | None:
  from slim_inception.train import config_json

  with contextlib.suppress(ValueError):  # somebody else's config.json
    return config_json.read_beside(weights.path)
  return None


def _scale_of_residuals(weights: 'Weights') -> float | None:
  """What the run of the weights had as --activation_scale."""
  _, run = _beside(weights) or ('', {})
  return run.get('activation_scale') if run.get('model_name') == weights.net else None


def _needs(weights: 'Weights') -> 'Needs':
  from slim_inception import needs

  return needs.of_weights(weights.path, weights.net, (_beside(weights) or ('', {}))[1])


def _needs_as_run(needed: 'Needs', model_name: str) -> dict[str, Any] | None:
  """What a checkpoint of weights that are of no run must say; None where nets' own values do."""
  from slim_inception.nets import nets_factory

  net = nets_factory.get_net(model_name)
  own = net.preprocessing, net.default_image_size, None
  if not needed.released or own == needed[2:5]:
    return None
  return {
    'model_name': model_name,
    'preprocessing_name': needed.preprocessing_name,
    'padding': needed.padding,
    'run': {'image_size': needed.image_size},
  }


def _run_of(weights: 'Weights') -> dict[str, Any] | None:
  """The configuration of the run that the weights are of; None where nothing tells its classes."""
  from slim_inception import provenance

  beside = _beside(weights)
  is_known = beside is not None and provenance.trained_on(*beside) is not None
  return beside[1] if beside and is_known and weights.num_classes is not None else None


def _write_run(path: str, run: dict[str, Any] | None) -> None:
  """Writes it; where there is none, that of what was here before goes."""
  if run is not None:
    files.write_json(path, run)
  else:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)


def _writers(model_name: str) -> dict[str, str]:
  """Functions of `conversion`, by the end of the output's name."""
  from slim_inception.nets.convert import facenet_names

  return _WRITERS_OF_FACENET if model_name == facenet_names.NET else _WRITERS


def _suffix(output: str, writers: Mapping[str, str]) -> str:
  """The key of `writers` that the output ends in, '' for a TensorFlow checkpoint."""
  for suffix in writers:
    if output.endswith(suffix) and output.endswith('.weights.h5') == (suffix == '.weights.h5'):
      return suffix
  if output.endswith(_NOT_WRITTEN):
    raise ValueError(
      f'--output={output}: choose {", ".join(writers)} or the prefix of a TensorFlow checkpoint'
    )
  return ''


def _check_output(output: str, suffix: str, overwrite: bool) -> None:
  from slim_inception.nets import checkpoint_files

  suffixes = ('', CONFIG_SUFFIX, *(() if suffix else checkpoint_files.SUFFIXES))
  files.refuse_existing([output + end for end in suffixes], overwrite)
