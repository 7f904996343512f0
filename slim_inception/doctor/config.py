"""The flags of slim-inception doctor, and what the runs of the checkpoints say."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slim_inception import choices, flags
from slim_inception.classify.config import SmallBatchesConfig
from slim_inception.datasets import joined, source_records
from slim_inception.embed import config as embed_config
from slim_inception.evaluate import config as eval_config
from slim_inception.flags import PerMember, field


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
  """Images."""

  dataset_dir: str | None = field(
    None,
    'The images are those of the records in this folder, or of the folder, archive or list that '
    'training would make records of, or of several of either with commas between them.',
    form='DIR,DIR,...',
    place=flags.Place.INPUTS,
  )
  source: str | None = field(
    None,
    'The images are in this folder, archive or list, or in several, as slim-inception data takes '
    'them.',
    place=flags.Place.INPUTS,
  )
  dataset_name: str | None = field(
    None,
    'The images are of this data set, or in a source of this format; by default as dataset.json '
    'says, or as the source is recognized.',
    choices=choices.dataset_names,
  )
  dataset_split_name: str | None = field(
    None, 'Only the images of this split are looked at; by default all are.'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetsConfig(eval_config.CheckpointsConfig):
  """Nets: one value, or in an ensemble one for each checkpoint, with commas."""

  checkpoint_path: PerMember[str] = field(
    PerMember(()),
    'The embeddings are made by this checkpoint, by the latest in this train_dir, or by a file of '
    'another library; without one, labels are not looked at.',
    place=flags.Place.INPUT,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
  """Search."""

  duplicate_similarity: float = field(
    0.95,
    'Two images are near duplicates if the differences between their neighbouring pixels correlate '
    'at least so much; where all images are much alike, e.g. digits, 0.98 is better.',
    at_least=0.5,
    at_most=1,
  )
  end_point: str | None = field(
    None,
    'The embedding is this end point of the net, a map by its mean over all places; by default it '
    'is what the logits are made of.',
    form='NAME',
  )
  num_processes: int | None = field(
    None, 'So many processes read the images; by default one for each core.', at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultsConfig:
  """Results."""

  output_dir: str = field(
    flags.REQUIRED,
    'The page and the table of problems are written to this folder.',
    place=flags.Place.OUTPUT_FOLDER,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorConfig:
  """How a set of images is looked at."""

  images: ImagesConfig
  nets: NetsConfig
  search: SearchConfig
  results: ResultsConfig
  compute: SmallBatchesConfig


class DoctorRequest(NamedTuple):
  """What is looked at, and how.

  Attributes:
    config: the flags.
    embedding: what makes embeddings; None without a checkpoint.
    has_seen: a folder of records that a net was trained on, and that are these, or were made of
      these; '' if none was.
  """

  config: DoctorConfig
  embedding: embed_config.EmbedRequest | None
  has_seen: str = ''


def resolve(flag_values: Mapping[str, Any]) -> DoctorRequest:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(DoctorConfig, flag_values)
  config = flags.build(DoctorConfig, values)
  chosen = config.images
  if (chosen.dataset_dir is None) == (chosen.source is None):
    raise ValueError(
      'one of --dataset_dir (records, or what training makes them of) and --source (what '
      'slim-inception data takes) must be given'
    )
  if not config.nets.checkpoint_path:
    needless = [
      name for name in (*flags.fields(NetsConfig), 'end_point') if values.get(name) is not None
    ]
    if needless:
      raise ValueError(f'--{needless[0]} needs --checkpoint_path, whose net makes the embeddings')
    return DoctorRequest(config, None)
  names = flags.fields(embed_config.EmbedConfig)
  of_embedding = {name: value for name, value in values.items() if name in names}
  embedding = embed_config.resolve({**of_embedding, 'output': embed_config.STANDARD_OUTPUT})
  runs = eval_config.read_runs(of_embedding)
  folders = [folder for run in runs.configs for folder in joined.folders(run.get('dataset_dir'))]
  own = [Path(os.path.abspath(p)) for p in joined.folders(chosen.dataset_dir or chosen.source)]
  # Training makes records of a source in a folder of this name.
  made = {source_records.folder_name(path) for path in own if path.exists()}
  same = {os.path.realpath(path) for path in own}
  seen = next((f for f in folders if os.path.realpath(f) in same or Path(f).name in made), '')
  return DoctorRequest(config, embedding, seen)
