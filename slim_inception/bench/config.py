"""The flags of slim-inception benchmark, and which mode has which."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from slim_inception.bench.peers import PEERS
from slim_inception.nets import nets_factory
from slim_inception.train.config import PRECISIONS, RECIPES, check_ranges, option

MODES = ('train', 'infer', 'input', 'startup')


@dataclasses.dataclass(frozen=True)
class Config:
  """What is measured."""

  mode: str = option(
    'train',
    'train: the training step on images in memory; infer: the net; input: reading, decoding and '
    'cropping records; startup: from the command to the first training step.',
    MODES,
  )
  model_name: str = option('inception_v3', 'Net.', tuple(nets_factory.NETS))
  image_size: int = option(None, "Pixels a side; the net's by default (299).")
  batch_size: int = option(32, 'Images a replica and step.')
  precision: str = option('float32', 'Type of the computation.', PRECISIONS)
  num_clones: int = option(None, 'Replicas; all GPUs by default, or 1 without one.')
  clone_on_cpu: bool = option(False, 'Replicas are logical processors rather than GPUs.')
  jit_compile: bool = option(False, 'Compile with XLA.')
  recipe: str = option('paper', 'Of the training: decides optimizer, averages and so on.')

  dataset_name: str = option('image_folder', 'Data set of --dataset_dir.')
  dataset_dir: str = option(None, 'Records, split train; generated photographs by default.')
  num_preprocessing_threads: int = option(None, 'For decoding; as many as help by default.')

  warmup_steps: int = option(5, 'Steps that do not count, at least 2.')
  num_rounds: int = option(
    None, 'Rounds of half a second or more that count, or starts; 10, of starts 3, by default.'
  )

  peers: str = option(
    None,
    f'Libraries that take turns with ours, comma-separated: {", ".join(PEERS)}. All of them are in '
    'memory at once.',
  )
  timm_python: str = option(None, 'Python interpreter that has timm and torch.')
  output_json: str = option(None, 'File that gets one JSON object a line and result.')
  output_csv: str = option(None, "File that gets rows like those of timm's result tables.")


_EVERYWHERE = ('mode', 'num_rounds', 'output_json')
_STEP = ('model_name', 'image_size', 'batch_size', 'precision', 'num_clones', 'clone_on_cpu')
_NET = (*_STEP, 'jit_compile', 'warmup_steps', 'peers', 'timm_python', 'output_csv')
_DATA = ('dataset_name', 'dataset_dir', 'num_preprocessing_threads')
# The flags that make a difference in a mode.
_FLAGS = {
  'train': (*_NET, 'recipe'),
  'infer': _NET,
  'input': (*_DATA, 'image_size', 'batch_size', 'warmup_steps', 'recipe'),
  'startup': (*_DATA, *_STEP, 'jit_compile', 'recipe'),
}

_RANGES = {
  'image_size': (1, float('inf')),
  'batch_size': (1, float('inf')),
  'num_clones': (1, float('inf')),
  'num_preprocessing_threads': (1, float('inf')),
  'warmup_steps': (2, float('inf')),
  'num_rounds': (1, float('inf')),
}


def resolve(given: Mapping[str, Any]) -> Config:
  """The configuration from the flags that were given, checked before anything takes time.

  Raises:
    ValueError: a flag that is impossible, or means nothing in this mode; names it.
  """
  config = Config(**given)
  allowed = (*_EVERYWHERE, *_FLAGS[config.mode])
  for name in given:
    if name not in allowed:
      raise ValueError(
        f'--{name} means nothing with --mode={config.mode}: flags are {", ".join(allowed)}'
      )
  check_ranges(config, _RANGES)
  if config.recipe not in RECIPES:
    raise ValueError(f'--recipe={config.recipe}: choose one of {", ".join(RECIPES)}')
  if config.dataset_name != Config.dataset_name and not config.dataset_dir:
    raise ValueError(f'--dataset_name={config.dataset_name} needs --dataset_dir')
  for name in peers_of(config):
    _check_peer(config, name)
  if config.timm_python and not any('timm' in name for name in peers_of(config)):
    raise ValueError('--timm_python needs --peers=timm')
  for name in ('output_json', 'output_csv'):
    folder = os.path.dirname(os.path.abspath(getattr(config, name) or ''))
    if not os.path.isdir(folder):
      raise ValueError(f'--{name}={getattr(config, name)}: there is no folder {folder}')
  size = config.image_size or nets_factory.get_net(config.model_name).default_image_size
  rounds = config.num_rounds or (3 if config.mode == 'startup' else 10)
  return dataclasses.replace(config, image_size=size, num_rounds=rounds)


def peers_of(config: Config) -> tuple[str, ...]:
  """'keras,timm' -> ('keras', 'timm')."""
  return tuple(name.strip() for name in (config.peers or '').split(',') if name.strip())


def _check_peer(config: Config, name: str) -> None:
  if name not in PEERS:
    raise ValueError(f'--peers: {name!r} is none of {", ".join(PEERS)}')
  peer = PEERS[name]
  if config.model_name not in peer.nets:
    raise ValueError(f'--peers: {name} has no {config.model_name}; it has {", ".join(peer.nets)}')
  if config.precision not in peer.precisions:
    raise ValueError(
      f'--peers: {name} is measured with {" or ".join(peer.precisions)}, not {config.precision}'
    )
  if (config.num_clones or 1) > 1:
    raise ValueError(f'--peers: {name} is measured on one device; leave out --num_clones')
  if peer.interpreter is None and not config.timm_python:
    raise ValueError(f'--peers={name} needs --timm_python=PATH, an interpreter that has timm')
