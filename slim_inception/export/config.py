"""The configuration of an export: flags, and what the config.json of the run says."""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import flags
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.config import (
  CalibratedNetsConfig,
  ComputeConfig,
  EnsembleRequest,
  RecordsConfig,
  Runs,
)
from slim_inception.flags import field

QUANTIZATIONS = ('none', 'float16', 'int8')
# Each format, and the packages that it needs besides TensorFlow: the extra of its name has them.
PACKAGES: dict[str, tuple[str, ...]] = {
  'saved_model': (),
  'tflite': ('ai_edge_litert',),  # tf.lite.Interpreter is to go, its converter stays
  'onnx': ('onnx', 'onnxruntime'),
}


class Variant(NamedTuple):
  """One of the exports of a checkpoint."""

  format: str
  quantize: str

  @property
  def name(self) -> str:
    """Of its folder, where there are several: 'tflite_int8'."""
    return self.format if self.quantize == 'none' else f'{self.format}_{self.quantize}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatConfig:
  """Format."""

  output: str = field(
    flags.REQUIRED,
    'The export is this folder, e.g. models/flowers/1, which must not exist; several exports are '
    'folders in it.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  format: tuple[str, ...] = field(
    ('saved_model',), 'The classifier is written in these formats.', choices=tuple(PACKAGES)
  )
  quantize: tuple[str, ...] = field(
    ('none',),
    'With --format=tflite, float16 makes the weights half as large; int8 computes in whole numbers '
    'throughout, with ranges measured on images of the training split. Several make several '
    'models.',
    choices=QUANTIZATIONS,
  )
  calibration_images: int | None = field(
    None,
    'With --quantize=int8, ranges are measured on so many images; by default on 200 or as many as '
    'there are.',
    at_least=1,
  )
  batch_size: int = field(
    100, 'Each of the batches of --batch_norm_batches has so many images.', at_least=1
  )

  @property
  def variants(self) -> list[Variant]:
    """What is written: TFLite in each quantization, the others as they are."""
    return [
      Variant(chosen, quantize)
      for chosen in dict.fromkeys(self.format)
      for quantize in (dict.fromkeys(self.quantize) if chosen == 'tflite' else ('none',))
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyConfig:
  """Verification."""

  verify_on: str | None = field(
    None,
    'The exports are compared with the checkpoint on all images of this split, by every program at '
    'hand that runs them: accuracy, agreement and largest difference, with 95 % intervals, are '
    'printed and written to verification.json in --output.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsConfig:
  """Classes."""

  labels: str | None = field(
    None,
    'This file names the classes, as in slim-inception classify; by default the run and its '
    "records do, or it is ImageNet's names for a net of 1000 or 1001 outputs.",
    form='FILE',
    place=flags.Place.INPUT,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
  """What is exported; the config.json of the run says what the flags do not."""

  nets: CalibratedNetsConfig
  format: FormatConfig
  verification: VerifyConfig
  classes: LabelsConfig
  records: RecordsConfig


class ExportRequest(NamedTuple):
  """What is exported, and how."""

  config: ExportConfig
  ensemble: EnsembleRequest  # of one net
  runs: Runs  # of its checkpoint


def resolve(flag_values: Mapping[str, Any]) -> ExportRequest:
  """Takes from the config.json beside the checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible, or the format needs a package that is not
      installed.
  """
  values = flags.convert(ExportConfig, flag_values)
  runs = eval_config.read_runs(values)
  config = flags.build(ExportConfig, values | _records(values, runs))
  chosen = config.format
  if len(runs.paths) > 1:
    raise ValueError('--checkpoint_path must be one checkpoint: an ensemble is not exported')
  if not chosen.format or not chosen.quantize:
    raise ValueError(f'--{"quantize" if chosen.format else "format"} must name one or several')
  if chosen.quantize != ('none',) and 'tflite' not in chosen.format:
    quantize, formats = ','.join(chosen.quantize), ','.join(chosen.format)
    raise ValueError(f'--quantize={quantize} is for --format=tflite, not {formats}')
  if chosen.calibration_images is not None and 'int8' not in chosen.quantize:
    raise ValueError('--calibration_images is for --quantize=int8')
  needs_records = {
    '--quantize=int8 measures ranges on images of the training split': 'int8' in chosen.quantize,
    '--batch_norm_batches takes images of the training split': config.records.batch_norm_batches,
    '--verify_on takes the images of a split': config.verification.verify_on is not None,
  }
  for what in (what for what, is_so in needs_records.items() if is_so):
    if not config.records.dataset_dir:
      raise ValueError(f'{what}: --dataset_dir must be given')
  for name in chosen.format:
    if not all(importlib.util.find_spec(package) for package in PACKAGES[name]):
      raise ValueError(f"--format={name} needs packages: pip install 'slim-inception[{name}]'")
  ensemble = EnsembleRequest(
    eval_config.members(config.nets, runs),
    loss=config.records.loss,
    compute=ComputeConfig(batch_size=chosen.batch_size),
    batch_norm_batches=config.records.batch_norm_batches,
    calibrated=config.nets.calibrated,
  )
  return ExportRequest(config, ensemble, runs)


def _records(values: Mapping[str, Any], runs: Runs) -> dict[str, str]:
  """As `eval_config.records_of_runs`; no `dataset_dir` where there are no records to compare on.

  A released checkpoint has none, nor has one that was brought from where its run was.
  """
  folder = eval_config.agreed('dataset_dir', values, runs)
  if folder is None or (not values.get('dataset_dir') and not os.path.isdir(folder)):
    return {'loss': eval_config.agreed('loss', values, runs) or 'softmax'}
  return eval_config.records_of_runs(values, runs)
