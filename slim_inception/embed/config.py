"""The flags of slim-inception embed, and what the runs of the checkpoints say."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from slim_inception import flags
from slim_inception.classify.config import SmallBatchesConfig
from slim_inception.evaluate import config as eval_config
from slim_inception.flags import field

CSV, NPY, PARQUET = '.csv', '.npy', '.parquet'
FORMATS = (CSV, NPY, PARQUET)
STANDARD_OUTPUT = '-'


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
  """Embeddings."""

  end_point: str | None = field(
    None,
    'The embedding is this end point of the net, a map by its mean over all places; by default it '
    'is what the logits are made of.',
    form='NAME',
  )
  normalize: bool = field(
    False,
    'Embeddings get length 1, after the average over views; in an ensemble each by itself, with '
    'the square root of its share.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
  """Output."""

  output: str = field(
    flags.REQUIRED,
    'The embeddings go to this NAME.csv, NAME.npy (with NAME.npy.csv, the names of the images) or '
    'NAME.parquet; - is standard output, as CSV.',
    place=flags.Place.OUTPUT_FILE,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedConfig:
  """How images are embedded; the config.json of the run says what the flags do not."""

  nets: eval_config.CheckpointsConfig
  embedding: EmbeddingConfig
  views: eval_config.CropsConfig
  output: OutputConfig
  compute: SmallBatchesConfig


class EmbedRequest(NamedTuple):
  """What is embedded, and how."""

  config: EmbedConfig
  ensemble: eval_config.EnsembleRequest

  @property
  def format(self) -> str:
    """One of `FORMATS`."""
    return _format(self.config.output.output)


def resolve(flag_values: Mapping[str, Any]) -> EmbedRequest:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(EmbedConfig, flag_values)
  runs = eval_config.read_runs(values)
  config = flags.build(EmbedConfig, values)
  _format(config.output.output)
  if config.views.crops == 'dense':
    raise ValueError('--crops=dense is for classifiers: choose a number of views')
  members = eval_config.members(config.nets, runs, config.views)
  if len({member.weight for member in members}) > 1 and not config.embedding.normalize:
    raise ValueError('--ensemble_weights needs --normalize: else embeddings stand side by side')
  num_threads = config.compute.num_preprocessing_threads or os.cpu_count() or 1
  compute = dataclasses.replace(config.compute, num_preprocessing_threads=num_threads)
  return EmbedRequest(
    config, eval_config.EnsembleRequest(members, average='logits', compute=compute)
  )


def _format(output: str) -> str:
  suffix = CSV if output == STANDARD_OUTPUT else os.path.splitext(output)[1]
  if suffix not in FORMATS:
    raise ValueError(f'--output={output}: choose a name that ends in {", ".join(FORMATS)}')
  return suffix
