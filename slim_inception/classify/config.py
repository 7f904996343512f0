"""The flags of slim-inception classify, and what the runs of the checkpoints say."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception.classify.sources import STANDARD_INPUT
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.config import EvalConfig, Request, Runs
from slim_inception.train import config as train_config
from slim_inception.train.config import option

_EVALUATION = {field.name: field for field in dataclasses.fields(EvalConfig)}


def _as_evaluation(name: str, **other: Any) -> Any:
  """The flag of the same name of slim-inception eval."""
  field = _EVALUATION[name]
  default = other.get('default', field.default)
  return option(default, other.get('text', field.metadata['help']), field.metadata['choices'])


@dataclasses.dataclass(frozen=True)
class ClassifyConfig:
  """How images are classified; what is not given comes from the config.json of the run.

  Those of the first group take one value, or in an ensemble one for each checkpoint, with commas.
  """

  checkpoint_path: str = option(
    None,
    'A train_dir, whose latest checkpoint is taken, a checkpoint, or weights of another library; '
    'several, with commas: an ensemble.',
  )
  model_name: str = _as_evaluation('model_name')
  depth_multiplier: str = _as_evaluation('depth_multiplier')
  eval_image_size: str = _as_evaluation('eval_image_size')
  input_channels: str = _as_evaluation('input_channels')
  labels_offset: str = option(
    None, "Label less output; the run's by default, else found by the number of outputs."
  )
  weights: str = _as_evaluation('weights')
  member_weights: str = _as_evaluation('member_weights')

  labels: str = option(
    None,
    "File that names the classes, lines index:name; by default the labels of the run's records, or "
    "ImageNet's of a net of 1000 or 1001 outputs.",
  )
  loss: str = _as_evaluation('loss')

  crops: str = _as_evaluation('crops')
  crop_scales: str = _as_evaluation('crop_scales')
  resize: str = _as_evaluation('resize')
  interpolation: str = _as_evaluation('interpolation')
  crop_fraction: float = _as_evaluation('crop_fraction')
  average: str = _as_evaluation('average')

  top_k: int = option(5, 'How many classes of an image are given, the most probable ones.')
  csv: str = option(None, 'File for a table, a row for each image; - is standard output.')
  json: str = option(None, 'File for a JSON list, an object for each image; - likewise.')
  explain: str = option(
    None,
    'Folder for a PNG of each image: where in it its most probable class was seen.',
  )

  batch_size: int = _as_evaluation('batch_size', default=32, text='Views a step.')
  precision: str = _as_evaluation('precision')
  num_preprocessing_threads: int = option(
    None, 'For reading and decoding; as many as there are processors by default.'
  )


class ClassifyRequest(NamedTuple):
  """What is classified, and how."""

  config: ClassifyConfig
  evaluation: Request
  runs: Runs


def resolve(given: Mapping[str, Any]) -> ClassifyRequest:
  """Fills in what was not given, as an evaluation does.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: something is neither given nor there, or a value is impossible.
  """
  config = ClassifyConfig(**given)
  train_config.check_ranges(
    config, {'top_k': (1, math.inf), 'num_preprocessing_threads': (1, math.inf)}
  )
  if config.explain and config.crops != '1':
    raise ValueError(f'--explain shows the one view of --crops=1, not those of {config.crops}')
  _check_outputs(config)
  runs = eval_config.read_runs(given)
  shared = {name: value for name, value in vars(config).items() if name in _EVALUATION}
  shared['num_preprocessing_threads'] = config.num_preprocessing_threads or os.cpu_count()
  shared['loss'] = eval_config.agreed('loss', config.loss, runs) or 'softmax'
  return ClassifyRequest(config, eval_config.make_request(EvalConfig(**shared), runs, given), runs)


def _check_outputs(config: ClassifyConfig) -> None:
  """Finds at the beginning what would otherwise be found at the end."""
  if config.csv and config.csv == config.json:
    raise ValueError(f'--csv and --json are both {config.csv}')
  for flag in ('csv', 'json'):
    path = getattr(config, flag)
    if path is None or path == STANDARD_INPUT:
      continue
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
      raise ValueError(f'--{flag}={path}: there is no folder {folder}')
    if not path or os.path.isdir(path):
      raise ValueError(f'--{flag}={path}: the name of a file is expected, or - for standard output')
  if config.explain and os.path.lexists(config.explain) and not os.path.isdir(config.explain):
    raise ValueError(f'--explain={config.explain} is no folder')
