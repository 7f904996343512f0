"""The configuration of an evaluation: flags, and what the config.json of each run says."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from slim_inception.datasets import dataset_factory
from slim_inception.evaluate.views import CROPS, RESIZES, ViewSpec
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.preprocessing import preprocessing_factory, resizing
from slim_inception.preprocessing.inception_preprocessing import CHANNELS
from slim_inception.train import config as train_config
from slim_inception.train.config import option

WEIGHTS = ('auto', 'ema', 'plain')
AVERAGES = ('logits', 'probabilities')


def _one_of(choices: Sequence[str]) -> str:
  return f' (one of {", ".join(choices)})'


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How checkpoints are evaluated; what is not given comes from the config.json of their runs.

  Those of the first group take one value, or in an ensemble one for each checkpoint, with commas.
  """

  checkpoint_path: str = option(
    None, 'A checkpoint, or the train_dir whose latest is taken; several, with commas: an ensemble.'
  )
  model_name: str = option(None, "Net; the run's by default." + _one_of(tuple(nets_factory.NETS)))
  depth_multiplier: str = option(None, "Factor of the filters; the run's by default, or 1.")
  input_channels: str = option(
    None, "Channels of the images, 3 for RGB, 1 for grey; the run's by default, or 3."
  )
  preprocessing_name: str = option(
    None,
    "Preprocessing; the run's by default." + _one_of(tuple(preprocessing_factory.PREPROCESSING)),
  )
  eval_image_size: str = option(None, "Pixels a side; the run's by default, or the net's.")
  labels_offset: str = option(
    None,
    'Subtracted from a label of the data set to get the output of the net; the '
    "run's by default, else found by the number of outputs.",
  )
  weights: str = option(
    'auto',
    'ema: the moving averages of the weights; auto: those if the checkpoint has any.'
    + _one_of(WEIGHTS),
  )
  member_weights: str = option('1', 'Share of each net in the average of an ensemble.')

  dataset_name: str = option(
    None, "Data set; the run's by default.", tuple(dataset_factory.DATASETS)
  )
  dataset_split_name: str = option('validation', 'Split to evaluate.')
  dataset_dir: str = option(None, "Folder of the records; the run's by default.")
  loss: str = option(
    None, 'Loss of the run: with sigmoid an image may have several labels.', train_config.LOSSES
  )
  exclude_list: str = option(
    None, "Images to leave out: a file of names, or imagenet_2014 for the papers' 1,762."
  )
  real_labels: str = option(
    None, "JSON file of each image's right answers, as ReaL's; images without are left out."
  )
  max_images: int = option(None, 'Evaluate the first so many records of the split.')
  max_num_batches: int = option(None, "slim's: max_images as a multiple of batch_size.")

  crops: str = option('1', 'Views of an image; dense: the net slides over all of it.', CROPS)
  crop_scales: str = option(
    None,
    'Shorter sides of the image, with commas; by default 256,288,320,352 times the image size '
    'over 224.',
  )
  resize: str = option(
    None,
    'With --crops=1. slim (default): the central 0.875 of each side, squeezed to a square; aspect: '
    'the shorter side resized, then the centre.',
    RESIZES,
  )
  interpolation: str = option(
    None,
    'Of resizing to shorter sides, antialiased; bilinear by default.',
    resizing.INTERPOLATIONS,
  )
  crop_fraction: float = option(
    None, 'With --crops=1: the share of the image that is kept; 0.875 by default.'
  )
  average: str = option('probabilities', 'What is averaged over views and nets.', AVERAGES)

  eval_dir: str = option(None, 'Where the results go; by default "eval" beside the checkpoint.')
  report: bool = option(False, 'Write report.html, one page that needs no network.')
  num_example_images: int = option(0, 'Draw so many images with their labels into predictions.png.')
  follow: bool = option(
    False, 'Evaluate each new checkpoint of a train_dir once, until its run has ended.'
  )
  follow_timeout_secs: float = option(
    None, 'With --follow: end when there was no new checkpoint for so long.'
  )

  batch_size: int = option(100, 'Views a replica and step.')
  num_clones: int = option(None, 'Replicas; all GPUs by default, or 1 without one.')
  clone_on_cpu: bool = option(False, 'Replicas are logical processors rather than GPUs.')
  precision: str = option('float32', 'Type of the computation.', train_config.PRECISIONS)
  num_preprocessing_threads: int = option(None, 'For decoding; as many as help by default.')
  batch_norm_batches: int = option(
    0, 'Batches of the training split to measure batch norm statistics with; 0 takes those stored.'
  )


class Member(NamedTuple):
  """One net of an ensemble."""

  checkpoint_path: str  # a checkpoint, or a directory whose latest is taken
  model_name: str
  depth_multiplier: float
  preprocessing_name: str
  image_size: int
  labels_offset: int | None  # None: found by the number of outputs
  weights: str
  share: float  # of the average, relative to the others'
  input_channels: int


class Runs(NamedTuple):
  """The checkpoints of an ensemble, and what is known of the runs that they are of."""

  paths: tuple[str, ...]  # as given
  directories: tuple[str, ...]  # where they lie
  configs: tuple[Mapping[str, Any], ...]  # of config.json there; {} without one


class Request(NamedTuple):
  """What is evaluated, and how."""

  config: EvalConfig
  members: tuple[Member, ...]


_RANGES = {
  'batch_size': (1, math.inf),
  'max_images': (1, math.inf),
  'max_num_batches': (1, math.inf),
  'num_clones': (1, math.inf),
  'num_preprocessing_threads': (1, math.inf),
  'num_example_images': (0, math.inf),
  'batch_norm_batches': (0, math.inf),
  'follow_timeout_secs': (0, math.inf),
}

GONE = {
  'master': 'evaluation runs in this process',
  'moving_average_decay': '--weights=ema takes the moving averages, and is the default',
  'quantize': 'quantization-aware training is gone with tf.contrib.quantize',
}


def resolve(given: Mapping[str, Any]) -> Request:
  """Fills in what was not given from the config.json beside each checkpoint.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: something is neither given nor there, or a value is impossible.
  """
  runs = read_runs(given)
  shared = {}
  for name in ('dataset_name', 'dataset_dir', 'loss'):
    shared[name] = agreed(name, given.get(name), runs)
    if shared[name] is None and name != 'loss':
      raise ValueError(
        f'--{name} must be given: {runs.directories[0]} has no {train_config.CONFIG_FILE} that '
        'says it'
      )
    if shared[name] == dataset_factory.SYNTHETIC:
      raise ValueError(
        'synthetic images are for training alone: --dataset_name and --dataset_dir choose others'
      )
  folder = 'eval' if len(runs.paths) == 1 else 'eval_ensemble'
  defaults = {'loss': 'softmax', 'eval_dir': os.path.join(runs.directories[0], folder)}
  found = {name: value for name, value in shared.items() if value is not None}
  return make_request(EvalConfig(**{**defaults, **found, **given}), runs, given)


def read_runs(given: Mapping[str, Any]) -> Runs:
  """Finds the checkpoints of `--checkpoint_path` and reads what lies beside them.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: none is given, or a config.json is damaged.
  """
  paths = _items(given.get('checkpoint_path'))
  if not paths:
    raise ValueError('--checkpoint_path must be given: a checkpoint or a train_dir')
  if given.get('follow') and (len(paths) > 1 or not os.path.isdir(paths[0])):
    raise ValueError('--follow is for one train_dir')
  directories = [_directory(path, bool(given.get('follow'))) for path in paths]
  configs = [train_config.read(directory) or {} for directory in directories]
  return Runs(tuple(paths), tuple(directories), tuple(configs))


def make_request(config: EvalConfig, runs: Runs, given: Mapping[str, Any]) -> Request:
  """The nets, from the flags that were given and from what their runs say.

  Raises:
    ValueError: a value is impossible, or the flags do not go together.
  """
  train_config.check_ranges(config, _RANGES)
  _check_together(config)
  if config.max_num_batches is not None:
    config = dataclasses.replace(config, max_images=config.max_num_batches * config.batch_size)
  members = _members(runs, given)
  for member in members:
    view_spec(config, member)  # says at once what is wrong with the flags
  return Request(config, members)


def view_spec(config: EvalConfig, member: Member) -> ViewSpec:
  """The views that the flags ask for, of a net.

  Raises:
    ValueError: the flags do not go together, or a value is impossible.
  """
  try:
    scales = tuple(int(text) for text in _items(config.crop_scales))
  except ValueError:
    raise ValueError(
      f'--crop_scales={config.crop_scales}: whole numbers with commas are expected'
    ) from None
  return ViewSpec(
    preprocessing_factory.get(member.preprocessing_name, member.input_channels),
    member.image_size,
    config.crops,
    config.resize,
    config.interpolation,
    config.crop_fraction,
    scales or None,
  )


def _check_together(config: EvalConfig) -> None:
  if config.max_images is not None and config.max_num_batches is not None:
    raise ValueError('--max_images and --max_num_batches say the same: give one')
  if config.follow_timeout_secs is not None and not config.follow:
    raise ValueError('--follow_timeout_secs needs --follow')
  if config.loss == 'sigmoid' and config.real_labels:
    raise ValueError('--real_labels is for nets of one answer, not for --loss=sigmoid')


def _items(comma_separated: str | None) -> list[str]:
  return [item.strip() for item in (comma_separated or '').split(',') if item.strip()]


def _directory(path: str, may_be_empty: bool) -> str:
  if may_be_empty:
    return path
  return os.path.dirname(checkpoints.resolve(path)) or '.'


def agreed(name: str, given: Any, runs: Runs) -> Any:
  """What was given, or what the runs say, who must not contradict each other; None if nobody."""
  if given is not None:
    return given
  said = {
    config[name]: directory
    for config, directory in zip(runs.configs, runs.directories, strict=True)
    if config.get(name)
  }
  if len(said) > 1:
    texts = [f'{value} in {place}' for value, place in said.items()]
    raise ValueError(f'--{name} must be given, for the runs differ: {", ".join(texts)}')
  return next(iter(said), None)


def _members(runs: Runs, given: Mapping[str, Any]) -> tuple[Member, ...]:
  dealt = {
    name: _deal(name, given.get(name), len(runs.paths), parse) for name, parse in _PARSERS.items()
  }
  return tuple(
    _member(path, directory, config, {name: values[i] for name, values in dealt.items()})
    for i, (path, directory, config) in enumerate(zip(*runs, strict=True))
  )


def _member(path: str, directory: str, run: Mapping[str, Any], given: Mapping[str, Any]) -> Member:
  def value(name: str, default: Any) -> Any:
    if given[name] is not None:
      return given[name]
    return default if run.get(name) is None else run[name]

  model_name = value('model_name', None)
  if model_name is None:
    raise ValueError(
      f'--model_name must be given: {directory} has no {train_config.CONFIG_FILE} that says it'
    )
  if model_name != run.get('model_name'):
    run = {**run, 'depth_multiplier': None}  # of the run's own net
  depth_multiplier = value('depth_multiplier', 1.0)
  having = nets_factory.nets_with('depth_multiplier')
  if depth_multiplier != 1 and model_name not in having:
    raise ValueError(f'--depth_multiplier is for {", ".join(having)}; {model_name} has none')
  image_size = given['eval_image_size'] or run.get('run', {}).get('image_size')
  return Member(
    path,
    model_name,
    depth_multiplier,
    value('preprocessing_name', model_name),
    image_size or nets_factory.get_net(model_name).default_image_size,
    value('labels_offset', None),
    given['weights'] or 'auto',
    given['member_weights'] or 1.0,
    value('input_channels', 3),
  )


def _choice(choices: Sequence[str]) -> Callable[[str], str]:
  def parse(text: str) -> str:
    if text not in choices:
      raise ValueError(f'choose one of {", ".join(choices)}')
    return text

  return parse


def _number(kind: type, least: float) -> Callable[[str], float]:
  def parse(text: str) -> float:
    try:
      number = kind(text)
    except ValueError:
      number = math.nan
    if not least <= number < math.inf:
      whole = 'a whole number' if kind is int else 'a number'
      raise ValueError(f'must be {whole}' + ('' if least == -math.inf else f' of at least {least}'))
    return number

  return parse


_PARSERS: dict[str, Callable[[str], Any]] = {
  'model_name': lambda text: _choice(tuple(nets_factory.NETS))(text),
  'depth_multiplier': _number(float, train_config.POSITIVE),
  'input_channels': lambda text: int(_choice(tuple(map(str, CHANNELS)))(text)),
  'preprocessing_name': _choice(tuple(preprocessing_factory.PREPROCESSING)),
  'eval_image_size': _number(int, 1),
  'labels_offset': _number(int, -math.inf),
  'weights': _choice(WEIGHTS),
  'member_weights': _number(float, train_config.POSITIVE),
}


def _deal(name: str, value: Any, count: int, parse: Callable[[str], Any]) -> list[Any]:
  """One value for each checkpoint; one that was given alone is for all."""
  if value is None:
    return [None] * count
  texts = _items(str(value))
  if len(texts) not in (1, count):
    raise ValueError(f'--{name}={value}: give one value, or one for each of {count} checkpoints')
  try:
    values = [parse(text) for text in texts]
  except ValueError as error:
    raise ValueError(f'--{name}={value}: {error}') from None
  return values * (count // len(values))
