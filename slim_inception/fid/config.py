"""The flags of slim-inception fid."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from slim_inception import flags
from slim_inception.evaluate.config import ComputeConfig
from slim_inception.flags import field

FIGURES = ('fid', 'kid', 'is', 'sfid', 'precision_recall')
STANDARD_OUTPUT = '-'
RESIZINGS = ('legacy_pytorch', 'legacy_tensorflow', 'clean')


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
  """Network."""

  checkpoint_path: str | None = field(
    None,
    'The weights of the network of December 2015 are in this file: the frozen graph, its archive, '
    "pytorch-fid's file, or a checkpoint of inception_v3_2015.",
    place=flags.Place.INPUT,
  )
  resizing: str = field(
    'legacy_pytorch',
    'Images become 299 x 299 pixels as pytorch-fid does it, as the graph itself does, or as '
    'clean-fid does; statistics of a file must be of the same way.',
    choices=RESIZINGS,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiguresConfig:
  """Figures."""

  figures: tuple[str, ...] = field(FIGURES, 'These figures are computed.', choices=FIGURES)
  kid_subsets: int = field(
    100, 'KID is the average over so many random subsets of both sets.', at_least=1
  )
  kid_subset_size: int = field(1000, 'A subset of KID has so many images.', at_least=2)
  splits: int = field(
    10, 'The Inception Score is the average over so many parts of the images.', at_least=1
  )
  neighbors: int = field(
    3, 'Precision and recall reach to this nearest neighbour of an image.', at_least=1
  )
  seed: int = field(0, 'The subsets of KID follow from this number.', at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
  """Output."""

  json: str | None = field(
    None,
    'The figures go to this JSON file too; - is standard output.',
    place=flags.Place.OUTPUT_FILE,
  )
  save_statistics: str | None = field(
    None,
    'The statistics of REAL, mu and sigma, go to this .npz, which pytorch-fid, clean-fid and this '
    'command read in place of the images.',
    place=flags.Place.OUTPUT_FILE,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchesConfig(ComputeConfig):
  """Computation."""

  batch_size: int = field(
    8,
    'The network takes so many images a step. More of them take memory and, on a processor, no '
    'less time; for a GPU take 64.',
    at_least=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FidConfig:
  """How generated images are measured."""

  network: NetworkConfig
  figures: FiguresConfig
  output: OutputConfig
  compute: BatchesConfig


def resolve(flag_values: Mapping[str, Any]) -> FidConfig:
  """The configuration of flags.

  Raises:
    ValueError: a value is impossible.
  """
  config = flags.build(FidConfig, flags.convert(FidConfig, flag_values))
  path = config.output.save_statistics
  if path is not None and not path.endswith('.npz'):
    raise ValueError(f'--save_statistics={path}: choose a name that ends in .npz')
  num_threads = config.compute.num_preprocessing_threads or os.cpu_count() or 1
  return flags.replace(config, num_preprocessing_threads=num_threads)
