"""The configuration of an export: flags, and what the config.json of the run says."""

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception.datasets import dataset_factory
from slim_inception.evaluate import config as eval_config
from slim_inception.train import config as train_config
from slim_inception.train.config import option

QUANTIZATIONS = ('none', 'float16', 'int8')
# Each format, and the packages that it needs besides TensorFlow: the extra of its name has them.
PACKAGES = {
  'saved_model': (),
  'tflite': ('ai_edge_litert',),  # tf.lite.Interpreter is to go, its converter stays
  'onnx': ('onnx', 'onnxruntime'),
}
_CALIBRATION_IMAGES = 200


@dataclasses.dataclass(frozen=True)
class ExportConfig:
  """What is exported; what is not given comes from the run's config.json."""

  checkpoint_path: str = option(None, 'A checkpoint, or the train_dir whose latest is taken.')
  output: str = option(None, 'Folder to write, e.g. models/flowers/1; it must not exist.')
  format: str = option('saved_model', 'What to write.', tuple(PACKAGES))
  quantize: str = option(
    'none',
    'With --format=tflite. float16: weights of half the size; int8: whole numbers throughout, by '
    'calibration on images of the training split.',
    QUANTIZATIONS,
  )
  calibration_images: int = option(
    None,
    f'With --quantize=int8: images that ranges are measured on; by default {_CALIBRATION_IMAGES} '
    'or as many as there are.',
  )
  model_name: str = option(None, "Net; the run's by default.")
  depth_multiplier: str = option(None, "Factor of the filters; the run's by default, or 1.")
  input_channels: str = option(None, "Channels of the images, 3 or 1; the run's, or 3.")
  eval_image_size: str = option(None, "Pixels a side; the run's by default, or the net's.")
  labels_offset: str = option(None, "Label less output; the run's by default, else found.")
  weights: str = option('auto', 'ema, plain, or auto: ema if there are any.', eval_config.WEIGHTS)
  dataset_name: str = option(
    None, "Data set that names the classes; the run's.", tuple(dataset_factory.DATASETS)
  )
  dataset_split_name: str = option('validation', 'Split that the export is tried on.')
  dataset_dir: str = option(None, "Folder of the records; the run's by default.")
  batch_norm_batches: int = option(
    0, 'Batches of the training split to measure batch norm statistics with; 0 takes those stored.'
  )
  batch_size: int = option(100, 'Images in each of them.')


class ExportRequest(NamedTuple):
  """What is exported, where to, and how."""

  request: eval_config.Request
  output: str
  format: str = 'saved_model'
  quantize: str = 'none'
  calibration_images: int = _CALIBRATION_IMAGES


def resolve(given: Mapping[str, Any]) -> ExportRequest:
  """Fills in what was not given, as an evaluation does.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: something is neither given nor there, a value is impossible, or the format needs a
      package that is not installed.
  """
  given = dict(given)
  own = {name: given.pop(name) for name in ExportRequest._fields if name in given}
  if not own.get('output'):
    raise ValueError('--output must be given: the folder to write')
  wanted = ExportRequest(eval_config.resolve(given), **own)
  if len(wanted.request.members) > 1:
    raise ValueError('--checkpoint_path must be one checkpoint: an ensemble is not exported')
  if wanted.quantize != 'none' and wanted.format != 'tflite':
    raise ValueError(f'--quantize={wanted.quantize} is for --format=tflite, not {wanted.format}')
  if 'calibration_images' in own and wanted.quantize != 'int8':
    raise ValueError('--calibration_images is for --quantize=int8')
  train_config.check_ranges(wanted, {'calibration_images': (1, math.inf)})
  if not all(importlib.util.find_spec(package) for package in PACKAGES[wanted.format]):
    raise ValueError(
      f"--format={wanted.format} needs packages: pip install 'slim-inception[{wanted.format}]'"
    )
  return wanted
