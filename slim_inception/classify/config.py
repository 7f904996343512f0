"""The flags of slim-inception classify, and what the runs of the checkpoints say."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import choices, flags
from slim_inception.evaluate import config as eval_config
from slim_inception.flags import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassesConfig:
  """Classes."""

  labels: str | None = field(
    None,
    'This file names the classes, in lines index:name or name, as JSON, a label map, or the '
    "labels.txt of an export; by default the labels of the run's records do, or ImageNet's for a "
    'net of 1000 or 1001 outputs.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  loss: str = field(
    'softmax',
    "The net was trained with this loss; the run's by default. With sigmoid an image may have "
    'several labels.',
    choices=choices.PROBABILITIES,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
  """Output."""

  top_k: int = field(
    5, 'So many classes of an image are given, the most probable ones.', at_least=1
  )
  csv: str | None = field(
    None,
    'A table with a row for each image goes to this file; - is standard output.',
    place=flags.Place.OUTPUT_FILE,
  )
  json: str | None = field(
    None,
    'A JSON list with an object for each image goes to this file; - is standard output.',
    place=flags.Place.OUTPUT_FILE,
  )
  explain: str | None = field(
    None,
    'A PNG for each image goes to this folder, which shows where in the image its most probable '
    'class was seen.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  explain_method: str | None = field(
    None,
    'With --explain, the heat map is the class activation map (cam, default, exact, of nets whose '
    'logits are a linear layer of the pooled features), that of gradients (grad_cam, '
    'grad_cam_plus_plus) or how far the logit falls when a part is covered (occlusion).',
    choices=choices.EXPLAIN_METHODS,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallBatchesConfig(eval_config.ComputeConfig):
  """Computation."""

  batch_size: int = field(32, 'The nets take so many views a step.', at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
  """How images are classified; the config.json of the run says what the flags do not."""

  nets: eval_config.CalibratedNetsConfig
  classes: ClassesConfig
  views: eval_config.ViewsConfig
  output: OutputConfig
  compute: SmallBatchesConfig


class ClassifyRequest(NamedTuple):
  """What is classified, and how."""

  config: ClassifyConfig
  ensemble: eval_config.EnsembleRequest
  runs: eval_config.Runs


def resolve(flag_values: Mapping[str, Any]) -> ClassifyRequest:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(ClassifyConfig, flag_values)
  runs = eval_config.read_runs(values)
  loss = eval_config.agreed('loss', values, runs) or 'softmax'
  config = flags.build(ClassifyConfig, {**values, 'loss': loss})
  if config.output.explain and config.views.crops != '1':
    raise ValueError(
      f'--explain shows the one view of --crops=1, not those of {config.views.crops}'
    )
  if config.output.explain_method and not config.output.explain:
    method = config.output.explain_method
    raise ValueError(f'--explain_method={method} needs --explain, the folder of the heat maps')
  if config.output.csv and config.output.csv == config.output.json:
    raise ValueError(f'--csv and --json are both {config.output.csv}')
  members = eval_config.members(config.nets, runs, config.views)
  num_threads = config.compute.num_preprocessing_threads or os.cpu_count() or 1
  compute = dataclasses.replace(config.compute, num_preprocessing_threads=num_threads)
  ensemble = eval_config.EnsembleRequest(
    members, loss, config.views.average, compute, calibrated=config.nets.calibrated
  )
  return ClassifyRequest(config, ensemble, runs)
