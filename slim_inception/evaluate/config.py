"""The configuration of an evaluation: flags, and what the config.json of each run says."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging

from slim_inception import choices, flags, provenance
from slim_inception.constants import CONFIG_FILE, EVAL_FOLDER
from slim_inception.datasets import dataset_factory, joined
from slim_inception.flags import PerMember, field
from slim_inception.preprocessing.values import CHANNELS, INTERPOLATIONS
from slim_inception.provenance import TrainedOn
from slim_inception.train import config_json, flag_groups

if TYPE_CHECKING:  # imports TensorFlow, as do imports in functions here: --help needs none
  from slim_inception.evaluate.views import ViewSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointsConfig:
  """Nets: one value, or in an ensemble one for each checkpoint, with commas."""

  checkpoint_path: PerMember[str] = field(
    flags.REQUIRED,
    'The weights are those of this checkpoint, of the latest in this train_dir, or of a file of'
    ' another library.',
    place=flags.Place.INPUT,
  )
  model_name: PerMember[str] | None = field(
    None, "The checkpoint is of this net; by default the run's.", choices=choices.net_names
  )
  depth_multiplier: PerMember[float] | None = field(
    None, "The number of filters has this factor; by default the run's, or 1.", above=0
  )
  activation_scale: PerMember[float] | None = field(
    None,
    "Residuals have this factor before they are added; by default the run's, or the net's own.",
    above=0,
  )
  padding: PerMember[str] | None = field(
    None,
    "Layers pad as those of this library; by default the run's, or as the weights need it.",
    choices=choices.PADDINGS,
  )
  input_channels: PerMember[int] | None = field(
    None,
    "The images have 3 channels, RGB, or 1, grey; the run's number by default, or 3.",
    choices=CHANNELS,
  )
  preprocessing_name: PerMember[str] | None = field(
    None,
    'Images go through this preprocessing: inception, inception_2015, vgg, torch, facenet or '
    "facenet_whitened; by default the run's, or that of released weights.",
    check=choices.check_preprocessing,
  )
  eval_image_size: PerMember[int] | None = field(
    None,
    "The net sees views of this side in pixels; by default the run's, or that of released weights.",
    at_least=1,
  )
  use_ema: PerMember[str] = field(
    PerMember(('auto',)),
    'The moving averages of the weights are taken; auto takes them if the checkpoint has any.',
    choices=tuple(choices.USE_EMA),
  )
  ensemble_weights: PerMember[float] = field(
    PerMember((1.0,)), 'The nets have these weights in the average of an ensemble.', above=0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetsConfig(CheckpointsConfig):
  """Nets: one value, or in an ensemble one for each checkpoint, with commas."""

  labels_offset: PerMember[int] | None = field(
    None,
    "This number is subtracted from a label to get the net's output; by default the run's, or what "
    'the number of outputs tells.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibratedNetsConfig(NetsConfig):
  """Nets: one value, or in an ensemble one for each checkpoint, with commas."""

  calibrated: bool | None = field(
    None,
    'Probabilities are calibrated by what slim-inception calibrate wrote beside the checkpoint; by '
    'default they are if it wrote anything.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropsConfig:
  """Views of an image."""

  crops: str = field(
    '1',
    'The net sees so many views of an image; with dense it slides over all of it.',
    choices=choices.CROPS,
  )
  crop_scales: tuple[int, ...] = field(
    (),
    'The shorter side of the image is resized to these numbers of pixels; by default to 256,288,'
    '320,352 times the image size over 224.',
    at_least=1,
  )
  resize: str | None = field(
    None,
    'With --crops=1, slim (default) sees the single view of the preprocessing, and aspect the '
    'centre of the image, whose shorter side is resized with antialiasing.',
    choices=choices.RESIZES,
  )
  interpolation: str | None = field(
    None,
    "Shorter sides are resized with this interpolation; the preprocessing's by default.",
    choices=INTERPOLATIONS,
  )
  crop_fraction: float | None = field(
    None,
    "With --crops=1, this share of the image is kept; the preprocessing's by default (0.875).",
    above=0,
    at_most=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewsConfig(CropsConfig):
  """Views of an image."""

  average: str = field(
    'probabilities',
    'The average over views and nets is that of their probabilities or of their logits.',
    choices=('logits', 'probabilities'),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordsConfig:
  """Records."""

  dataset_name: str = field(
    '',
    "The images are those of this data set; by default the run's.",
    choices=choices.dataset_names,
  )
  dataset_split_name: str = field('validation', 'The images are those of this split.')
  dataset_dir: str = field(
    '',
    "The records are in this folder; by default the run's. Of a folder, archive or list of images "
    'the first evaluation makes records beside it.',
    place=flags.Place.INPUT,
  )
  cache_dir: str | None = field(
    None,
    'The records of a --dataset_dir that is no folder of records lie in this folder; by default in '
    '.slim_inception_records beside it.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  loss: str = field(
    'softmax',
    "The net was trained with this loss; the run's by default. With sigmoid an image may have "
    'several labels.',
    choices=choices.PROBABILITIES,
  )
  batch_norm_batches: int = field(
    0,
    'So many batches of the training split estimate the batch norm statistics anew; 0 takes those '
    'of the checkpoint.',
    at_least=0,
  )

  def split(self, name: str) -> dataset_factory.Dataset:
    """A split of the data set; ValueError or OSError where there is none."""
    return dataset_factory.get_dataset(self.dataset_name, name, self.dataset_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
  """Images that count."""

  exclude_list: str | None = field(
    None,
    'The images named in this file are left out: names, one a line, or the problems.csv of '
    'slim-inception doctor; imagenet_2014 leaves out the 1,762 that the papers do.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  real_labels: str | None = field(
    None,
    "This JSON file has the right labels of each image, as ReaL's has; images without a label "
    'are left out.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  valid_labels: str | None = field(
    None,
    'The net chooses among these classes alone, and images of others are left out: imagenet_a, '
    'imagenet_r and imagenet_o are 200 each, objectnet 125; a file has numbers from 0, synsets or '
    'names, one a line.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  max_images: int | None = field(
    None, 'Only the first so many records of the split are evaluated.', at_least=1
  )
  max_num_batches: int | None = field(
    None, "Only the first so many batches are evaluated: slim's way of --max_images.", at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultsConfig:
  """Results."""

  eval_dir: str = field(
    EVAL_FOLDER,
    'The results go to this folder; by default it lies beside the checkpoint.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  report: bool = field(False, 'Write report.html, one page that needs no network.')
  num_example_images: int = field(
    0, 'So many images are drawn with their labels into predictions.png.', at_least=0
  )
  follow: bool = field(
    False, 'Evaluate each new checkpoint of a train_dir once, until its run has ended.'
  )
  follow_timeout_secs: float | None = field(
    None,
    'With --follow, the evaluation ends when there was no new checkpoint for so many seconds.',
    at_least=0,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig:
  """Computation."""

  batch_size: int = field(100, 'Each replica takes so many views a step.', at_least=1)
  precision: str = field('float32', 'The net computes with this type.', choices=choices.PRECISIONS)
  num_preprocessing_threads: int | None = field(
    None, 'So many threads decode images; by default one for each core, at most 8.', at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevicesConfig:
  """Devices."""

  num_clones: int | None = field(
    None, 'So many replicas of the net run; by default one on each GPU, or 1.', at_least=1
  )
  clone_on_cpu: bool = field(False, 'Replicas run on logical processors rather than on GPUs.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """How checkpoints are evaluated; the config.json of their runs says what the flags do not."""

  nets: CalibratedNetsConfig
  records: RecordsConfig
  images: ImagesConfig
  views: ViewsConfig
  results: ResultsConfig
  compute: ComputeConfig
  devices: DevicesConfig


REMOVED = {
  **choices.renamed('calibrate_batches', 'member_weights', 'pictures', 'weights'),
  'master': 'evaluation runs in this process',
  'moving_average_decay': '--use_ema=true takes the moving averages, and is the default',
  'quantize': 'quantization-aware training is gone with tf.contrib.quantize',
}


class Member(NamedTuple):
  """One net of an ensemble."""

  checkpoint_path: str  # a checkpoint, or a folder whose latest is taken
  model_name: str
  spec: 'ViewSpec'  # how it looks at images
  depth_multiplier: float = 1.0
  labels_offset: int | None = None  # None: the number of outputs tells
  use_ema: bool | None = None  # None: if there are averages
  weight: float = 1.0  # in the average, relative to the others'
  trained_on: TrainedOn | None = None  # what its run says of that
  activation_scale: float | None = None  # None: the net's own
  padding: str | None = None  # whose; None: as the weights need it

  @property
  def net_arguments(self) -> dict[str, Any]:
    """See `flag_groups.net_arguments`."""
    return flag_groups.net_arguments(
      self.model_name, self.depth_multiplier, self.activation_scale, self.padding
    )


@dataclasses.dataclass(frozen=True)
class EnsembleRequest:
  """Which nets predict, and how; see the flags of these names."""

  members: tuple[Member, ...]
  loss: str = 'softmax'
  average: str = 'probabilities'
  compute: ComputeConfig = ComputeConfig()
  batch_norm_batches: int = 0
  calibrated: bool | None = False  # None: where the checkpoint has a calibration

  def __post_init__(self) -> None:
    if not self.calibrated:
      return
    if len(self.members) > 1:
      raise ValueError('--calibrated is for one checkpoint: an ensemble is not calibrated')
    if self.loss == 'sigmoid':
      raise ValueError('--calibrated is for nets of one label an image, not for --loss=sigmoid')
    if self.batch_norm_batches:
      raise ValueError('--calibrated is for the net of the checkpoint, not with other statistics')


class Request(NamedTuple):
  """What is evaluated, and how."""

  config: EvalConfig
  ensemble: EnsembleRequest


class Runs(NamedTuple):
  """The checkpoints of an ensemble, and what is known of the runs that they are of."""

  paths: tuple[str, ...]  # of the flag
  prefixes: tuple[str, ...]  # of the checkpoints, or the files
  folders: tuple[str, ...]  # that the checkpoints are in
  configs: tuple[Mapping[str, Any], ...]  # of config.json there; {} without one
  trained_on: tuple[TrainedOn | None, ...]  # what these say of their data sets


def resolve(flag_values: Mapping[str, Any]) -> Request:
  """Takes from the config.json beside each checkpoint what the flags do not say.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: a value is missing or impossible.
  """
  values = flags.convert(EvalConfig, flag_values)
  runs = read_runs(values)
  values |= records_of_runs(values, runs)
  folder = EVAL_FOLDER if len(runs.paths) == 1 else f'{EVAL_FOLDER}_ensemble'
  values.setdefault('eval_dir', os.path.join(runs.folders[0], folder))
  config = flags.build(EvalConfig, values)
  _check_together(config)
  if config.images.max_num_batches is not None:
    max_images = config.images.max_num_batches * config.compute.batch_size
    config = flags.replace(config, max_images=max_images)
  ensemble = EnsembleRequest(
    members(config.nets, runs, config.views),
    loss=config.records.loss,
    average=config.views.average,
    compute=config.compute,
    batch_norm_batches=config.records.batch_norm_batches,
    calibrated=config.nets.calibrated,
  )
  return Request(config, ensemble)


def read_runs(values: Mapping[str, Any]) -> Runs:
  """Looks up the checkpoints of `checkpoint_path` and reads what lies beside them.

  Args:
    values: typed values of flags.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: none is named, or a config.json is damaged.
  """
  from slim_inception.nets.convert import formats

  paths, follow = tuple(values.get('checkpoint_path', ())), values.get('follow', False)
  if not paths:
    raise ValueError('--checkpoint_path must be given: a checkpoint or a train_dir')
  if follow and (len(paths) > 1 or not os.path.isdir(paths[0])):
    raise ValueError('--follow is for one train_dir')
  # Of a run that is to be followed there may be no checkpoint yet.
  prefixes = [os.path.join(p, 'model.ckpt') if follow else formats.locate(p) for p in paths]
  beside = [config_json.read_beside(prefix) or ('', {}) for prefix in prefixes]
  return Runs(
    paths,
    tuple(prefixes),
    tuple(os.path.dirname(prefix) or '.' for prefix in prefixes),
    tuple(_as_evaluated(config) for _, config in beside),
    tuple(provenance.trained_on(*each) for each in beside),
  )


def _as_evaluated(run: Mapping[str, Any]) -> Mapping[str, Any]:
  """A run's config.json, its loss by what makes its probabilities."""
  return {**run, 'loss': choices.probabilities_of(run['loss'])} if run.get('loss') else run


def records_of_runs(values: Mapping[str, Any], runs: Runs) -> dict[str, str]:
  """`dataset_name`, `dataset_dir` and `loss`, of the flags or of the runs.

  Raises:
    ValueError: the runs contradict each other, or nothing says where the records are.
  """
  records = {name: agreed(name, values, runs) for name in ('dataset_name', 'dataset_dir')}
  for name, value in records.items():
    if value is None:
      folder = runs.folders[0]
      raise ValueError(f'--{name} must be given: {folder} has no {CONFIG_FILE} that says it')
    if value == dataset_factory.SYNTHETIC:
      raise ValueError(
        'synthetic images are for training alone: --dataset_name and --dataset_dir choose others'
      )
  return {**records, 'loss': agreed('loss', values, runs) or 'softmax'}


def agreed(name: str, values: Mapping[str, Any], runs: Runs) -> Any:
  """The value of a flag, or of the runs, who must not contradict each other; None if of nobody.

  Of several sets that a run was trained on, the first counts: it evaluates itself on that.
  """
  if values.get(name) is not None:
    return values[name]
  folder_of = {
    joined.folders(config[name])[0] if name == 'dataset_dir' else config[name]: folder
    for config, folder in zip(runs.configs, runs.folders, strict=True)
    if config.get(name)
  }
  if len(folder_of) > 1:
    texts = [f'{value} in {folder}' for value, folder in folder_of.items()]
    raise ValueError(f'--{name} must be given, for the runs differ: {", ".join(texts)}')
  return next(iter(folder_of), None)


def members(
  config: CheckpointsConfig, runs: Runs, views_config: CropsConfig = CropsConfig()
) -> tuple[Member, ...]:
  """The nets, from their flags and from what their runs say.

  Args:
    config: of the nets.
    runs: theirs.
    views_config: of all nets; slim's single view by default.

  Raises:
    ValueError: the flags do not go together.
  """
  each = zip(*runs, flags.of_members(config, len(runs.paths)), strict=True)
  return tuple(_member(views_config, *of_net) for of_net in each)


def _member(
  views_config: CropsConfig,
  path: str,
  prefix: str,
  folder: str,
  run: Mapping[str, Any],
  trained_on: TrainedOn | None,
  values: Mapping[str, Any],
) -> Member:
  from slim_inception import needs
  from slim_inception.evaluate import views
  from slim_inception.preprocessing import preprocessing_factory

  def value(name: str, default: Any) -> Any:
    candidates = (values.get(name), run.get(name), default)
    return next((each for each in candidates if each is not None), None)

  model_name = value('model_name', None)
  if model_name is None:
    raise ValueError(
      f'--model_name must be given: {folder} has no {CONFIG_FILE} that says it{_net_hint(path)}'
    )
  needed = needs.of_weights(prefix, model_name, run)
  if needed.released and not (values['preprocessing_name'] and values['eval_image_size']):
    text = '%s (--preprocessing_name and --eval_image_size override it)'
    logging.info(text, needed.describe())
  if model_name != run.get('model_name'):
    run = {**run, 'depth_multiplier': None, 'activation_scale': None, 'padding': None}
  preprocessing = preprocessing_factory.get(
    values['preprocessing_name'] or needed.preprocessing_name, value('input_channels', 3)
  )
  needed.check(preprocessing.name)
  looks = flags.flatten(views_config)
  looks.pop('average', None)  # of what the net says
  member = Member(
    path,
    model_name,
    views.make_spec(preprocessing, values['eval_image_size'] or needed.image_size, **looks),
    value('depth_multiplier', 1.0),
    value('labels_offset', None),
    choices.USE_EMA[values['use_ema']],
    values['ensemble_weights'],
    trained_on,
    value('activation_scale', None),
    value('padding', None),
  )
  _ = member.net_arguments  # of this net?
  return member


def _net_hint(path: str) -> str:
  """The net whose variables a checkpoint has, for an error; '' where that cannot be told."""
  from slim_inception.nets import checkpoints, nets_factory

  try:
    scopes = {name.partition('/')[0] for name in checkpoints.shapes(path)}
  except (OSError, ValueError):
    return ''
  names = [net.name for net in nets_factory.NETS.values() if net.scope in scopes]
  return f'; the checkpoint has variables of {" and ".join(names)}' if names else ''


def _check_together(config: EvalConfig) -> None:
  if config.images.max_images is not None and config.images.max_num_batches is not None:
    raise ValueError('--max_images and --max_num_batches say the same: give one')
  if config.results.follow_timeout_secs is not None and not config.results.follow:
    raise ValueError('--follow_timeout_secs needs --follow')
  if config.records.loss == 'sigmoid' and config.images.real_labels:
    raise ValueError('--real_labels is for nets of one label, not for --loss=sigmoid')
  if config.records.loss == 'sigmoid' and config.images.valid_labels:
    raise ValueError('--valid_labels is for nets of one label, not for --loss=sigmoid')
