"""The groups of flags of a run, each with what its values are and do."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from slim_inception import choices, flags, memory
from slim_inception.datasets import joined
from slim_inception.flags import PerMember, field

SCHEDULES = ('cosine', 'exponential', 'fixed', 'polynomial', 'step')
OPTIMIZERS = (
  'adadelta', 'adagrad', 'adam', 'adamw', 'ftrl', 'lamb', 'lars', 'momentum', 'rmsprop', 'sgd',
)  # fmt: skip
BALANCED = 'balanced'  # of --class_weights and --sampling
UNIFORM = 'uniform'  # of --sampling
AUTO = 'auto'  # of --precision
FEATURE_LOSSES = ('attention', 'projection')
AUTO_BATCH_SIZE = -1  # what --batch_size=auto is before a number is found
RECIPES = Path(__file__).parent / 'recipes'
share = functools.partial(field, at_least=0, at_most=1)  # a number of 0 to 1


def recipe_names() -> tuple[str, ...]:
  """Names of the recipes that come with the package."""
  return tuple(sorted(path.name.removesuffix('.toml') for path in RECIPES.iterdir()))


def _check_ascending(epochs: tuple[float, ...]) -> None:
  if list(epochs) != sorted(set(epochs)):
    raise ValueError('must be epochs in ascending order, e.g. 30,60,80')


def _check_schedule(entries: tuple[tuple[float, int, int], ...]) -> None:
  epochs = [epoch for epoch, _, _ in entries]
  if entries and (epochs[0] != 0 or epochs != sorted(set(epochs))):
    raise ValueError('must begin at epoch 0 and ascend, e.g. 0:128:64,6:192:48,12:224:32')
  if any(size < 1 for _, size, _ in entries):
    raise ValueError('sizes must be at least 1 pixel')


def _check_below_one(probability: float) -> None:
  if probability == 1:
    raise ValueError('must be below 1')


def _check_range(steps: tuple[int, int]) -> None:
  if steps[0] > steps[1]:
    raise ValueError('must be FIRST,LAST, e.g. 10,20')


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
  """The run."""

  train_dir: str = field(
    flags.REQUIRED,
    'The run writes checkpoints, config.json, metrics.jsonl and TensorBoard events to this folder; '
    'a run that it holds is continued.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  recipe: str = field(
    'paper',
    'The recipe sets the defaults; the values of --config and other flags override it.',
    choices=recipe_names,
  )
  config: str | None = field(
    None,
    'This JSON or TOML file overrides the recipe, and flags override it: a recipe of your own, or '
    'the config.json of another run (not its train_dir). Paths are of the working directory.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  resume_from: str | None = field(
    None,
    'A new train_dir goes on exactly where the run in this folder is, or at this checkpoint of a '
    'run, which stays as it is; its flags are the defaults, of which e.g. --num_epochs, '
    '--learning_rate and the batch may change.',
    form='RUN_FOLDER|CHECKPOINT',
    place=flags.Place.INPUT,
  )
  seed: int = field(
    0,
    'This number seeds the initial weights, the record order, distortions and dropout.',
    at_least=0,
    at_most=2**63 - 1,
  )
  deterministic: bool = field(
    False, 'The same flags give the same bits, resumed or not; this is slower on GPUs.'
  )
  on_nan: str = field(
    'stop',
    'When the loss explodes or is not finite, the run stops, or rolls back to the last checkpoint '
    'and skips the batches since.',
    choices=('rollback', 'stop'),
  )
  find_learning_rate: str | None = field(
    None,
    'Nothing is trained for good: the learning rate rises from step to step, the curve of the loss '
    'goes to this path with .csv, .png and .svg, and train_dir stays as it is.',
    place=flags.Place.OUTPUT_PREFIX,
  )
  find_learning_rate_steps: int = field(
    100, 'So many steps take --find_learning_rate from 0.000001 to 10.', at_least=20
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Data."""

  dataset_name: str = field(
    'imagenet',
    'The run trains on this data set; synthetic is noise, to try hardware.',
    choices=choices.dataset_names,
  )
  dataset_split_name: str = field('train', 'The run trains on this split of the data set.')
  dataset_dir: str | None = field(
    None,
    'The records are in this folder, or in several with commas between them; synthetic needs none. '
    'Of a folder, archive or list of images, as slim-inception data --source takes, the first run '
    'makes records beside it.',
    form='DIR,DIR,...',
    place=flags.Place.INPUTS,
  )
  cache_dir: str | None = field(
    None,
    'The records of a --dataset_dir that is no folder of records lie in this folder; by default in '
    '.slim_inception_records beside it.',
    place=flags.Place.OUTPUT_FOLDER,
  )
  labels_offset: int = field(
    0, 'This number is subtracted from every label; 1 drops a background class.'
  )
  sampling: str = field(
    UNIFORM,
    'Images are drawn so that each comes equally often (uniform), or each class (balanced), in '
    'each set of a --mixture. An epoch is as many images as there are, either way.',
    choices=(BALANCED, UNIFORM),
  )
  mixture: tuple[float, ...] = field(
    (),
    'The images of a step come in these proportions from the sets in --dataset_dir, e.g. 0.7,0.3; '
    'by default each image comes equally often.',
    above=0,
    at_most=1e6,
  )
  shuffle_buffer: int = field(
    4096,
    'So many records are shuffled together, within the shuffled shards, where '
    '--shuffle_buffer_mb is enough for them.',
    at_least=1,
  )
  shuffle_buffer_mb: int = field(
    2000,
    'Shuffling holds at most so many MB of memory on a worker; of larger records fewer are '
    'shuffled together.',
    at_least=1,
  )
  num_readers: int = field(
    4, 'So many readers go through the records side by side, over all workers.', at_least=1
  )
  num_preprocessing_threads: int | None = field(
    None, 'So many threads decode images; by default one for each core, at most 8.', at_least=1
  )
  data_service: str | None = field(
    None,
    'The tf.data service at this address decodes the images (see slim-inception data-service).',
    form='HOST:PORT',
    check=flags.host_and_port,
  )

  @property
  def records_dirs(self) -> tuple[str, ...]:
    """The folders of the records; raises ValueError where none is given."""
    if not self.dataset_dir:
      raise ValueError('--dataset_dir must be given')
    return joined.folders(self.dataset_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The net."""

  model_name: str = field('inception_v3', 'The run trains this net.', choices=choices.net_names)
  depth_multiplier: float = field(
    1.0, 'The number of filters has this factor, in nets that have one, e.g. inception_v3.', above=0
  )
  activation_scale: float | None = field(
    None,
    'Residuals have this factor before they are added, in nets that have residuals, e.g. 0.1 in '
    "inception_resnet_v2; by default the net's own factors.",
    above=0,
  )
  bottleneck_layer_size: int | None = field(
    None,
    'The logits are made of a linear embedding of so many numbers, in inception_resnet_v1; 0 is '
    'none. By default it is as wide as that of --checkpoint_path, if it has one.',
    at_least=0,
  )
  padding: str | None = field(
    None,
    'Layers pad as those of this library, in nets that have a choice; by default as the weights of '
    '--checkpoint_path need it, or as slim.',
    choices=choices.PADDINGS,
  )
  train_image_size: int | None = field(
    None, "Training images have this side in pixels; by default the net's own.", at_least=1
  )
  image_size_schedule: tuple[tuple[float, int, int], ...] = field(
    (),
    'From each of these epochs on training images have this side and steps this batch, in place '
    'of --batch_size or a given --global_batch_size; 0 keeps these: 0:128:64,6:192:48,12:224:32.',
    at_least=0,
    form='EPOCH:SIZE:BATCH,EPOCH:SIZE:BATCH,...',
    check=_check_schedule,
  )
  image_size_ramp: int = field(
    0,
    'Between two entries of --image_size_schedule the size rises in stairs of so many pixels; with '
    '0 it leaps.',
    at_least=0,
  )
  input_channels: int = field(
    3, 'Images are decoded to so many channels: 3 for RGB, 1 for grey.', choices=(1, 3)
  )
  dropout_keep_prob: float = field(
    0.8, 'Dropout before the logits keeps this share of the features.', above=0, at_most=1
  )
  drop_path_rate: float = share(
    0.0,
    'In training an image loses residuals at random (stochastic depth), the last of the net with '
    'this probability and earlier ones less often, e.g. 0.05; 0 drops none.',
    check=_check_below_one,
  )
  batch_norm_decay: float = share(
    0.9997,
    'The moving averages of batch norm decay by this factor a step; 0.9997 needs tens of thousands '
    'of steps to settle, 0.97 hundreds.',
  )
  sync_batch_norm: bool = field(
    False, 'Batch norm takes the statistics of the global batch rather than of each replica.'
  )
  freeze_batch_norm: bool = field(
    False, 'Batch norm keeps to the restored moving averages, which suits small batches.'
  )
  moving_average_decay: float | None = share(
    None,
    'Evaluation uses weights that are averaged with this decay, e.g. 0.9999; by default there '
    'are no averages.',
  )

  @property
  def net_arguments(self) -> dict[str, Any]:
    """See the function of this name."""
    return net_arguments(
      self.model_name,
      self.depth_multiplier,
      self.activation_scale,
      self.padding,
      self.bottleneck_layer_size,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchConfig:
  """The batch."""

  batch_size: int = field(
    32,
    'Each replica takes so many images in one forward and backward pass; auto tries which is the '
    'largest that fits into memory, on processors into --memory_limit.',
    at_least=1,
    words={'auto': AUTO_BATCH_SIZE},
  )
  accumulate_steps: int = field(
    1, 'Each replica adds up the gradients of so many passes for an update.', at_least=1
  )
  global_batch_size: int | None = field(
    None,
    'An update takes so many images, over all replicas; this overrides --batch_size.',
    at_least=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevicesConfig:
  """Devices."""

  num_clones: int | None = field(
    None, 'This process has so many replicas; by default one on each GPU, or 1.', at_least=1
  )
  clone_on_cpu: bool = field(False, 'Replicas run on logical processors rather than on GPUs.')
  precision: str = field(
    'float32',
    'The net computes with this type; variables are float32. auto is bfloat16 where the device has '
    'instructions for it, and else float32.',
    choices=(AUTO, *choices.PRECISIONS),
  )
  memory_limit: str | None = field(
    None,
    'The process, or on GPUs each of them, may take so much memory, e.g. 8GB: --batch_size=auto '
    'keeps to it, and on processors passes that take more are divided.',
    form='SIZE',
    check=memory.num_bytes,
  )
  jit_compile: bool = field(False, 'XLA compiles the forward and the backward pass.')
  recompute: bool = field(
    False,
    'The forward pass keeps the outputs of most convolutions and little else, and the backward '
    'pass computes the rest again: less memory, a little more time, the same gradients.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
  """Length and learning rate."""

  num_epochs: float | None = field(
    None, 'The run ends after so many epochs; by default it goes on until it is stopped.', above=0
  )
  max_number_of_steps: int | None = field(
    None, 'The run ends after so many steps; this overrides --num_epochs.', at_least=1
  )
  learning_rate: float = field(
    0.01, 'The learning rate begins with this value; see --learning_rate_per.', at_least=0
  )
  learning_rate_per: int | None = field(
    None,
    'Learning rates are for so many images a step, e.g. 256, and are scaled linearly to the global '
    'batch, with all replicas and --accumulate_steps; by default no batch size scales them.',
    at_least=1,
  )
  learning_rate_decay_type: str = field(
    'exponential', 'The learning rate follows this schedule.', choices=SCHEDULES
  )
  learning_rate_decay_factor: float = field(
    0.94, 'Each stair of exponential and step multiplies the learning rate by this factor.', above=0
  )
  num_epochs_per_decay: float = field(
    2.0, 'A stair of exponential, or the whole of polynomial, takes so many epochs.', above=0
  )
  learning_rate_steps: tuple[float, ...] = field(
    (),
    'The schedule step multiplies by the decay factor at these epochs, e.g. 30,60,80.',
    above=0,
    form='EPOCH,EPOCH,...',
    check=_check_ascending,
  )
  end_learning_rate: float = field(
    0.0001, 'The schedules polynomial and cosine end at this learning rate.', at_least=0
  )
  warmup_epochs: float = field(
    0.0, 'The learning rate rises linearly from 0 for so many epochs.', at_least=0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """The optimizer."""

  optimizer: str = field(
    'rmsprop', "Updates follow this rule; slim's seven are in TF1's form.", choices=OPTIMIZERS
  )
  weight_decay: float = field(
    0.00004,
    'The L2 loss of the weights has this factor, or the decay of adamw (e.g. 0.05), lamb and lars.',
    at_least=0,
  )
  learning_rate_scales: tuple[tuple[str, float], ...] = field(
    (),
    'Variables whose names begin with a scope have the learning rate times its factor; the first '
    'scope that fits counts, e.g. InceptionV3/Logits:10,InceptionV3:0.1.',
    at_least=0,
    form='SCOPE:FACTOR,SCOPE:FACTOR,...',
  )
  layer_decay: float = field(
    1.0,
    'The heads have the whole learning rate, and each row of the net this share of the one above '
    'it, e.g. 0.75; --learning_rate_scales overrides it, and 1 is no difference.',
    above=0,
    at_most=1,
  )
  clip_gradient_norm: float = field(
    0.0, 'The norm of all gradients together is clipped to this value; 0 does not clip.', at_least=0
  )
  momentum: float = share(0.9, 'This is the momentum of momentum and lars.')
  rmsprop_decay: float = share(0.9, 'This is the decay of the mean squared gradients of rmsprop.')
  rmsprop_momentum: float = field(0.9, 'This is the momentum of rmsprop.', at_least=0)
  opt_epsilon: float = field(1.0, 'This is the epsilon of rmsprop, adam and adadelta.', at_least=0)
  adadelta_rho: float = share(0.95, 'This is the decay of the mean squares of adadelta.')
  adagrad_initial_accumulator_value: float = field(
    0.1, 'The accumulators of adagrad start at this value.', at_least=0
  )
  adam_beta1: float = share(0.9, 'This is the decay of the first moment of adam, adamw and lamb.')
  adam_beta2: float = share(
    0.999, 'This is the decay of the second moment of adam, adamw and lamb.'
  )
  adamw_epsilon: float = field(
    1e-8, 'This is the epsilon of adamw and lamb, for which --opt_epsilon is too large.', above=0
  )
  lars_trust_coefficient: float = field(
    0.001, 'An update of lars has this share of the norm of the weights.', above=0
  )
  ftrl_learning_rate_power: float = field(
    -0.5, 'This is the power of the learning rate of ftrl.', at_most=0
  )
  ftrl_initial_accumulator_value: float = field(
    0.1, 'The accumulators of ftrl start at this value.', at_least=0
  )
  ftrl_l1: float = field(0.0, 'This is the strength of the L1 regularization of ftrl.', at_least=0)
  ftrl_l2: float = field(0.0, 'This is the strength of the L2 regularization of ftrl.', at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
  """Preprocessing and augmentation."""

  preprocessing_name: str | None = field(
    None,
    'Images go through this preprocessing: inception, inception_2015, vgg, torch, facenet or '
    "facenet_whitened; by default the net's own.",
    check=choices.check_preprocessing,
  )
  min_crop_area: float = field(
    0.05, 'A training crop has at least this share of the area of its image.', above=0, at_most=1
  )
  random_flip: bool = field(True, 'Half of the training images are mirrored.')
  random_flip_vertical: bool = field(
    False, 'Half of the training images are turned upside down, for images that have no up.'
  )
  random_rotation: bool = field(
    False, 'Training images are rotated by 0, 90, 180 or 270 degrees, for images that have no up.'
  )
  distort_color: bool = field(True, 'The colours of training images are distorted.')
  fast_mode: bool = field(
    True, 'Training images get two of the four colour distortions, and are resized bilinearly.'
  )
  mixup_alpha: float = field(
    0.0, 'Mixup mixes images in shares from Beta(alpha, alpha), e.g. 0.2; 0 does not.', at_least=0
  )
  cutmix_alpha: float = field(
    0.0,
    'CutMix keeps a share from Beta(alpha, alpha) of an image, e.g. 1, beside a window of another; '
    '0 does not cut.',
    at_least=0,
  )
  random_erasing: float = share(0.0, 'In this share of the images a rectangle turns to noise.')
  randaugment_layers: int = field(
    0, 'RandAugment does so many operations with an image; 0 does none.', at_least=0, at_most=20
  )
  randaugment_magnitude: float = field(
    9.0, 'RandAugment has this strength; at 10 it rotates by 30 degrees.', at_least=0, at_most=30
  )
  randaugment_std: float = field(
    0.0,
    'The strength of each operation of RandAugment is a sample of a normal distribution that is so '
    'wide, e.g. 0.5.',
    at_least=0,
  )
  randaugment_probability: float = share(
    1.0, 'An operation of RandAugment is done with this probability.'
  )
  augment_policy: str | None = field(
    None,
    'Images are distorted by TrivialAugment, AugMix or 3-Augment, which have no strength to '
    'choose; by default by none of them.',
    choices=choices.POLICIES,
  )
  repeated_augmentation: int = field(
    1,
    'An image comes so many times in a row, in the same batches and distorted otherwise each time, '
    'and an epoch has so many times fewer different images.',
    at_least=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
  """The loss."""

  loss: str = field(
    'softmax',
    'The loss is softmax for one label an image, sigmoid for one or more, or bce: binary cross '
    'entropy for one label, also of a mixed image.',
    choices=choices.LOSSES,
  )
  bce_target_threshold: float | None = share(
    None,
    'The targets of --loss=bce above this number, e.g. 0.2, become 1 and the others 0; by default '
    'they stay as mixing and smoothing make them.',
  )
  class_weights: str | None = field(
    None,
    'The loss of each class has a weight: balanced is the inverse of its frequency, a file has '
    'lines class name or label:weight, with 1 for the others.',
    form=f'{BALANCED}|FILE',
    place=flags.Place.INPUT,
  )
  label_smoothing: float = share(0.0, 'This share of the target is spread over all classes.')
  jsd_weight: float = field(
    0.0,
    'The net sees each image as it is and in two versions of --augment_policy, and so many times '
    'the Jensen-Shannon divergence of the three joins the loss, e.g. 12 with augmix; 0 is without.',
    at_least=0,
  )
  embedding_norm_weight: float = field(
    0.0,
    'So many times the mean norm of the embeddings joins the loss, e.g. 0.0005, in nets that have '
    'them; 0 is without.',
    at_least=0,
  )
  embedding_norm_p: float = field(
    1.0,
    'The norm of --embedding_norm_weight is this one: 1 is the sum of the absolute values, 2 the '
    'length.',
    at_least=1,
  )
  aux_loss_weight: float = field(
    0.4, 'The loss of the auxiliary head has this weight; 0 leaves the head out.', at_least=0
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationConfig:
  """Distillation."""

  teacher: tuple[str, ...] = field(
    (),
    'The net also learns from these nets: checkpoints, train_dirs, whose latest is taken, or files '
    'of other libraries. The probabilities of several are averaged.',
    form='CHECKPOINT,CHECKPOINT,...',
    place=flags.Place.INPUT,
  )
  teacher_model_name: PerMember[str] | None = field(
    None,
    "The teacher is this net, or with commas one for each; by default its run's.",
    choices=choices.net_names,
  )
  teacher_preprocessing_name: PerMember[str] | None = field(
    None,
    "The teacher sees the values of this preprocessing; by default its run's, or that of released "
    'weights.',
    check=choices.check_preprocessing,
  )
  teacher_image_size: PerMember[int] | None = field(
    None,
    "The distorted image is resized to this side in pixels for the teacher; by default its run's, "
    'or that of released weights.',
    at_least=1,
  )
  distill_weight: float = share(
    0.9, 'This share of the loss is that against the teacher, the rest that against the labels.'
  )
  distill_temperature: float = field(
    4.0,
    'The logits of net and teacher are divided by this number before they are compared.',
    above=0,
  )
  distill_feature_weight: float = field(
    0.0, "The loss of the net's features against the teacher's has this weight.", at_least=0
  )
  distill_feature_loss: str = field(
    'attention',
    'Features are compared by where they are large (attention), or by a trained projection of the '
    "net's to the teacher's (projection).",
    choices=FEATURE_LOSSES,
  )
  distill_end_points: tuple[tuple[str, str], ...] = field(
    (),
    'These end points of net and teacher are compared; by default what their heads pool.',
    form='END_POINT:END_POINT,...',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
  """Fine-tuning."""

  checkpoint_path: str | None = field(
    None,
    'A new run starts from this checkpoint, from the latest in this folder, or from a file of'
    ' another library.',
    place=flags.Place.INPUT,
  )
  checkpoint_exclude_scopes: tuple[str, ...] = field(
    (), 'Variables in these scopes are not taken from --checkpoint_path.', form='SCOPE,SCOPE,...'
  )
  source_scope: tuple[str, ...] = field(
    (),
    'The net is in this scope of the names in --checkpoint_path, e.g. FirstStageFeatureExtractor '
    'of a detector, or in several; by default wherever it is, if that is one place.',
    form='SCOPE,SCOPE,...',
  )
  ignore_missing_vars: bool = field(
    False, 'Variables that --checkpoint_path lacks start with fresh values.'
  )
  trainable_scopes: tuple[str, ...] = field(
    (), 'The variables in these scopes are trained; by default all are.', form='SCOPE,SCOPE,...'
  )
  head_epochs: float = field(
    0.0,
    'After a start from --checkpoint_path the heads alone are trained for so many epochs.',
    at_least=0,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
  """Evaluation by the run itself."""

  eval_interval_epochs: float | None = field(
    None,
    'The run evaluates itself every so many epochs, and best/ keeps the best checkpoint; by '
    'default it does not.',
    above=0,
  )
  eval_split_name: str = field(
    'validation', 'The run evaluates itself on this split, of the first --dataset_dir.'
  )
  eval_image_size: int | None = field(
    None,
    "The images of evaluation have this side in pixels; by default that of training's end. "
    'Evaluation and export of the checkpoints take it from config.json.',
    at_least=1,
  )
  batch_norm_batches: int = field(
    0,
    "Before each evaluation of the run, and at its end, batch norm's moving averages are "
    'estimated anew on so many batches of the training split, at the size of evaluation; 0 keeps '
    'them as training left them.',
    at_least=0,
  )
  stop_at_top_1: float | None = share(
    None, 'The run stops when an evaluation reaches this top-1 accuracy, from 0 to 1.'
  )
  patience: int | None = field(
    None, 'The run stops after so many evaluations without a better top-1.', at_least=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavingConfig:
  """Checkpoints and progress."""

  save_interval_secs: float = field(
    600.0, 'A checkpoint is saved every so many seconds.', at_least=0
  )
  save_interval_steps: int | None = field(
    None, 'A checkpoint is saved every so many steps too; by default by time alone.', at_least=1
  )
  max_to_keep: int = field(5, 'So many checkpoints are kept, the latest ones.', at_least=1)
  log_every_n_steps: int = field(
    10,
    'The log and metrics.jsonl get the figures of a step every so many steps; the log also '
    'every 30 seconds.',
    at_least=1,
  )
  log: str | None = field(
    None,
    "The figures also go to Weights & Biases or MLflow, where these packages' own environment "
    'variables say.',
    choices=('mlflow', 'wandb'),
  )
  save_summaries_secs: float = field(
    60.0, "TensorBoard's events are written every so many seconds.", at_least=0
  )
  histograms: bool = field(False, 'TensorBoard shows histograms of the weights.')
  profile_steps: tuple[int, int] | None = field(
    None,
    'The profiler of TensorBoard watches these steps, from the first to the last, e.g. 10,20.',
    at_least=1,
    form='FIRST,LAST',
    check=_check_range,
  )


def net_arguments(
  model_name: str,
  depth_multiplier: float = 1.0,
  activation_scale: float | None = None,
  padding: str | None = None,
  bottleneck_layer_size: int | None = None,
) -> dict[str, Any]:
  """What flags of these names change of a net, as arguments of `create_model`.

  Raises:
    ValueError: the net does not have the argument.
  """
  arguments: dict[str, Any] = {}
  if depth_multiplier != 1:
    arguments['depth_multiplier'] = depth_multiplier
  if activation_scale is not None:
    arguments['activation_scale'] = activation_scale
  if padding not in (None, 'slim'):
    arguments['padding'] = padding
  if bottleneck_layer_size:
    arguments['bottleneck_layer_size'] = bottleneck_layer_size
  if arguments:
    from slim_inception.nets import nets_factory  # as in `choices.net_names`
    from slim_inception.nets.convert.torch_family import COUNTING_PADDING

    for name in arguments:
      having = nets_factory.nets_with(name)
      if name == 'padding' and padding == 'torch':
        having = [*having, *COUNTING_PADDING]
      if model_name not in having:
        raise ValueError(f'--{name} is for {", ".join(having)}; {model_name} has none')
    if padding == 'torch' and model_name in COUNTING_PADDING:
      del arguments['padding']
      arguments['count_padding'] = True
  return arguments
