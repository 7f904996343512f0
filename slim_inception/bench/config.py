"""The flags of slim-inception benchmark, and which mode has which."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from slim_inception import flags
from slim_inception.bench.peers import PEERS
from slim_inception.choices import PRECISIONS, dataset_names, net_names
from slim_inception.flags import field
from slim_inception.train.flag_groups import recipe_names

MODES = ('train', 'infer', 'input', 'startup')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """What is measured."""

  mode: str = field(
    'train',
    'The benchmark measures the training step on images in memory (train), the net (infer), '
    'reading, decoding and cropping records (input), or the time from the command to the first '
    'training step (startup).',
    choices=MODES,
  )
  model_name: str = field('inception_v3', 'This net is measured.', choices=net_names)
  image_size: int | None = field(
    None, "Images have this side in pixels; by default the net's own.", at_least=1
  )
  batch_size: int = field(32, 'Each replica takes so many images in a step.', at_least=1)
  precision: str = field('float32', 'The net computes with this type.', choices=PRECISIONS)
  num_clones: int | None = field(
    None, 'The net has so many replicas; by default one on each GPU, or 1.', at_least=1
  )
  clone_on_cpu: bool = field(False, 'Replicas run on logical processors rather than on GPUs.')
  jit_compile: bool = field(False, 'XLA compiles the net.')
  recompute: bool = field(
    False,
    'The training keeps the outputs of most convolutions and little else and computes the rest '
    'again.',
  )
  recipe: str = field(
    'paper',
    'The recipe of the training decides on the optimizer, averages and so on.',
    choices=recipe_names,
  )

  dataset_name: str = field(
    'image_folder', 'This data set is in --dataset_dir.', choices=dataset_names
  )
  dataset_dir: str | None = field(
    None,
    'The records (split train) are in this folder; by default photographs are generated.',
    place=flags.Place.INPUT,
  )
  num_preprocessing_threads: int | None = field(
    None,
    'So many threads decode images; by default one for each core, at most 8.',
    at_least=1,
  )

  warmup_steps: int = field(5, 'So many steps are taken before those that count.', at_least=2)
  num_rounds: int | None = field(
    None,
    'So many rounds of half a second or more count (10 by default), or so many starts (3 by '
    'default).',
    at_least=1,
  )

  peers: tuple[str, ...] = field(
    (),
    'These libraries take turns with ours; all of them are in memory at once.',
    choices=tuple(PEERS),
    form='PEER,PEER,...',
  )
  timm_python: str | None = field(
    None,
    'This Python interpreter has timm and torch.',
    form='PATH',
    place=flags.Place.INPUT,
  )
  output_json: str | None = field(
    None,
    'One JSON object for each result is added to this file.',
    place=flags.Place.OUTPUT_FILE,
  )
  output_csv: str | None = field(
    None,
    "Rows like those of timm's result tables are added to this file.",
    place=flags.Place.OUTPUT_FILE,
  )

  @property
  def side(self) -> int:
    """Pixels a side of the images."""
    from slim_inception.nets import nets_factory  # imports TensorFlow, which takes seconds

    return self.image_size or nets_factory.get_net(self.model_name).default_image_size

  @property
  def rounds(self) -> int:
    """Rounds, or starts, that count."""
    return self.num_rounds or (3 if self.mode == 'startup' else 10)


_EVERYWHERE = ('mode', 'num_rounds', 'output_json')
_STEP = ('model_name', 'image_size', 'batch_size', 'precision', 'num_clones', 'clone_on_cpu')
_NET = (*_STEP, 'jit_compile', 'warmup_steps', 'peers', 'timm_python', 'output_csv')
_DATA = ('dataset_name', 'dataset_dir', 'num_preprocessing_threads')
# The flags that make a difference in a mode.
_FLAGS = {
  'train': (*_NET, 'recompute', 'recipe'),
  'infer': _NET,
  'input': (*_DATA, 'image_size', 'batch_size', 'warmup_steps', 'recipe'),
  'startup': (*_DATA, *_STEP, 'jit_compile', 'recipe'),
}


def resolve(flag_values: Mapping[str, Any]) -> Config:
  """The configuration from the flags on the command line, checked before anything takes time.

  Raises:
    ValueError: a flag that is impossible, or means nothing in this mode; names it.
  """
  config = flags.build(Config, flag_values)
  allowed = (*_EVERYWHERE, *_FLAGS[config.mode])
  for name in flag_values:
    if name not in allowed:
      raise ValueError(
        f'--{name} means nothing with --mode={config.mode}: flags are {", ".join(allowed)}'
      )
  if config.dataset_name != Config.dataset_name and not config.dataset_dir:
    raise ValueError(f'--dataset_name={config.dataset_name} needs --dataset_dir')
  for name in config.peers:
    _check_peer(config, name)
  if config.timm_python and not any('timm' in name for name in config.peers):
    raise ValueError('--timm_python needs --peers=timm')
  return config


def _check_peer(config: Config, name: str) -> None:
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
