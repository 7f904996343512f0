"""Where a run starts: from its own latest checkpoint, from another one, or fresh."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from slim_inception import constants, files, flags, needs, provenance
from slim_inception.cluster import Cluster, check_same
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate.stored_weights import images_for
from slim_inception.nets import checkpoint_files, checkpoints, nets_factory
from slim_inception.nets.convert import conversion, description, formats
from slim_inception.train import config_json, optimizers, resumption
from slim_inception.train.augmentation import make_augmentation
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import FinetuneConfig, ModelConfig
from slim_inception.train.plan import Plan
from slim_inception.train.train_state import TrainState

# Flags in which workers may differ: where their host has what, and how fast it is.
_OF_THE_HOST = (
  'train_dir',
  'config',
  'resume_from',
  'dataset_dir',
  'cache_dir',
  'checkpoint_path',
  'teacher',
  'class_weights',
  'num_preprocessing_threads',
)
# Values of flags that older runs do not say.
_OF_OLDER_RUNS = {'input_channels': 3, 'learning_rate_per': None, 'embedding_norm_weight': 0.0}
# What a run cannot change when it goes on.
_OF_THE_NET = (
  'model_name', 'depth_multiplier', 'activation_scale', 'padding', 'bottleneck_layer_size',
  'input_channels', 'num_classes',
)  # fmt: skip
# Of an optimizer and the like: a checkpoint has hundreds that nobody misses.
_BOOKKEEPING = (
  checkpoints.EMA_SUFFIX,
  constants.GLOBAL_STEP,
  constants.INPUT_POSITION,
  constants.TRAINED_IMAGES,
  constants.LOSS_SCALE,
  constants.LOSS_SCALE_GOOD_STEPS,
  constants.OVERFLOW_STEPS,
  'beta1_power',
  'beta2_power',
  *(f'/{slot.suffix}' for rule in optimizers.RULES.values() for slot in rule.slots),
)


def of_checkpoint(config: Config) -> Config:
  """The configuration with what the weights of --checkpoint_path ask for, where no flag says it.

  That is preprocessing, size of images and padding; of a run that has begun, what it has, so that
  it goes on as it is.

  Raises:
    OSError, ValueError: there is no such checkpoint, or it is of no known format.
  """
  path, model_name = config.finetune.checkpoint_path, config.model.model_name
  before = config_json.read(config.run.train_dir)
  asked: dict[str, Any] = {}
  if before is not None and checkpoint_files.numbered(config.run.train_dir):
    asked['padding'] = before.get('padding')
    if path and before.get('checkpoint_path') == path:
      asked |= {name: before.get(name) for name in ('preprocessing_name', 'train_image_size')}
  elif path and config.run.resume_from is None:  # whose flags say it
    net, needed = nets_factory.get_net(model_name), _needs(formats.locate(path), model_name)
    asked['padding'] = needed.padding
    if needed.preprocessing_name != net.preprocessing:
      asked['preprocessing_name'] = needed.preprocessing_name
    has_sizes = bool(config.model.image_size_schedule)
    if needed.released and needed.image_size != net.default_image_size and not has_sizes:
      asked['train_image_size'] = needed.image_size
  now = flags.flatten(config)
  return flags.replace(config, **{name: v for name, v in asked.items() if now[name] is None})


def _needs(path: str, model_name: str) -> needs.Needs:
  run: Mapping[str, Any] = {}
  with contextlib.suppress(ValueError):  # somebody else's config.json
    _, run = config_json.read_beside(path) or ('', {})
  return needs.of_weights(path, model_name, run)


def agreed_checkpoint(config: Config, dataset: Dataset, cluster: Cluster) -> str | None:
  """The checkpoint to go on from: the chief's latest, on every worker; None: a run begins.

  Raises:
    ValueError: workers have other flags or records than the chief.
    FileNotFoundError: a worker does not see the chief's checkpoint.
  """
  train_dir = config.run.train_dir
  latest = checkpoints.latest_sound(train_dir)
  if cluster.count == 1:
    return latest
  shared = {n: v for n, v in flags.flatten(config).items() if n not in _OF_THE_HOST}
  check_same(cluster, shared, '--')
  shards = sorted(map(os.path.basename, dataset.paths))
  facts = {
    'first shard': shards[:1],
    'number of shards': len(shards),
    'number of records': dataset.num_samples,
    'hash of dataset.json': dataset.info_hash,
    'version of TensorFlow': tf.__version__,
  }
  check_same(cluster, facts, 'The ')
  chiefs = cluster.all_gather_json({'latest': latest and os.path.basename(latest)})[0]['latest']
  if chiefs is None:
    return None
  own = os.path.join(train_dir, chiefs)
  if not checkpoint_files.is_complete(own):
    raise FileNotFoundError(
      f'{own} is not there, but the chief goes on from it: --train_dir must be on a file system '
      'that all workers share'
    )
  return own


def check_same_run(
  config: Config, plan: Plan, dataset: Dataset, kernels: str | None = None
) -> list[str]:
  """Refuses a train_dir that holds a run of another net or other classes; says what has changed.

  Args:
    config: the flags.
    plan: what follows from them.
    dataset: the records.
    kernels: see `cluster.kernels_of`.

  Returns:
    A line for each change since the last start.
  """
  before = config_json.read(config.run.train_dir)
  if before is None:  # slim's own train_dir: the checkpoint will tell
    return []
  before = {**_OF_OLDER_RUNS, **before}
  then = {**before, **before.get('run', {})}
  now = {**flags.flatten(config), **plan.facts()}
  for name in _OF_THE_NET:
    if then.get(name) != now[name]:
      raise ValueError(
        f'{config.run.train_dir} holds a run with {name} {then.get(name)}, not {now[name]}: choose '
        'another --train_dir'
      )
  path = os.path.join(config.run.train_dir, constants.CONFIG_FILE)
  if known := provenance.trained_on(path, before):
    provenance.check_resumed(known, dataset, config.data.dataset_dir or '')
  changes = []
  replicas, global_batch = (then.get(n) for n in ('num_replicas', 'global_batch_size'))
  if (
    global_batch
    and not config.model.image_size_schedule
    and (replicas, global_batch) != (plan.num_replicas, plan.global_batch_size)
  ):
    changes.append(
      f'{replicas} replica(s) and {global_batch} images a step, now {plan.num_replicas} and '
      f'{plan.global_batch_size}; data and schedules go on where they were, in epoch '
      f'{plan.epoch(plan.start.step):.2f}'
    )
  if 'kernels' in then and then['kernels'] != kernels:
    old, new = (each or 'a GPU' for each in (then['kernels'], kernels))
    changes.append(f'{old}, now {new}: the same steps give other last bits')
  for name, value in flags.flatten(config).items():
    if name != 'train_dir' and name in before and before[name] != value:
      changes.append(f'--{name} from {flags.shown(before[name])} to {flags.shown(value)}')
  for line in changes:
    logging.info('Changed since the last start: %s', line)
  if rate := resumption.describe_rate(before, config.schedule, plan):
    logging.info('%s', rate)
    changes.append(rate)
  return changes


def warn_of_differences(config: Config, plan: Plan, dataset: Dataset) -> None:
  """Says it where weights of --checkpoint_path will be taken that fit but mean something else.

  They are heads of other classes, or of a net whose residuals have another factor.

  Raises:
    FileNotFoundError: there is no such checkpoint.
  """
  prefix = formats.locate(config.finetune.checkpoint_path or '')
  beside = None
  with contextlib.suppress(ValueError):  # somebody else's config.json
    beside = config_json.read_beside(prefix)
  needed = _needs(prefix, config.model.model_name)
  if needed.released:
    text = '%s (--preprocessing_name, --train_image_size and --padding override it)'
    logging.info(text, needed.describe())
  needed.check(make_augmentation(config).preprocessing.name)
  _warn_of_other_residuals(prefix, beside[1] if beside else {}, config.model)
  known = provenance.trained_on(*beside) if beside else None
  heads = nets_factory.get_net(config.model.model_name).head_scopes
  if known is None or set(heads) <= set(config.finetune.checkpoint_exclude_scopes):
    return
  labels = known.labels_with(config.data.labels_offset)
  difference = provenance.differences(labels, dataset.labels_to_names)
  if difference and sum(label >= config.data.labels_offset for label in labels) == plan.num_classes:
    text = (
      '%s is of as many other classes: %s; --checkpoint_exclude_scopes=%s begins with new heads'
    )
    logging.warning(text, prefix, difference, ','.join(heads))


def _warn_of_other_residuals(prefix: str, run: Mapping[str, Any], model: ModelConfig) -> None:
  if run.get('model_name') != model.model_name:
    return
  theirs, ours = run.get('activation_scale'), model.activation_scale
  if theirs != ours:
    old, new = (
      "the net's own factors of residuals" if scale is None else f'--activation_scale={scale}'
      for scale in (theirs, ours)
    )
    logging.warning('%s was trained with %s, this run has %s', prefix, old, new)


def with_embedding(config: Config, latest: str | None) -> Config:
  """With the width of the embedding of `latest` or `checkpoint_path`, where no flag says one.

  Raises:
    ValueError, OSError: a checkpoint cannot be read, or there is no embedding to have a loss.
  """
  config = _with_width(config, latest)
  if config.loss.embedding_norm_weight and not config.model.bottleneck_layer_size:
    raise ValueError(
      f'--embedding_norm_weight={config.loss.embedding_norm_weight:g} needs an embedding: give '
      '--bottleneck_layer_size, e.g. 512, or a --checkpoint_path that has one; '
      '--embedding_norm_weight=0 trains without'
    )
  return config


def _with_width(config: Config, latest: str | None) -> Config:
  model_name, finetune = config.model.model_name, config.finetune
  net = nets_factory.get_net(model_name)
  excluded = finetune.checkpoint_exclude_scopes
  taken = [path for path in net.head.optional if not f'{net.scope}/{path}'.startswith(excluded)]
  source = latest or (finetune.checkpoint_path if taken else None)
  if not net.head.optional or config.model.bottleneck_layer_size is not None or source is None:
    return config
  path, scope = formats.locate(source), () if latest else finetune.source_scope
  if scope or formats.needs_conversion(path, model_name):
    widths = conversion.read(path, model_name, with_classifier=False, source_scope=scope).widths
  else:
    widths = net.widths(checkpoints.shapes(path))
  return flags.replace(config, **widths)


class Restored(NamedTuple):
  """What the variables of a start come from; see `events.Start`."""

  source: str = ''
  restored: int = 0
  fresh: Mapping[str, str] = {}
  ignored: Sequence[str] = ()
  notes: Sequence[str] = ()


def restore_or_init(
  config: FinetuneConfig,
  model_name: str,
  preprocessing_name: str,
  state: TrainState,
  latest: str | None,
) -> Restored:
  """Goes on from the checkpoint `latest`, or starts from `checkpoint_path`, or fresh.

  Weights of other libraries become those for the images of the preprocessing.

  Raises:
    ValueError, OSError: a checkpoint cannot be read or does not fit.
  """
  if latest:
    fresh = state.restore(latest)
    ignored = f' (--checkpoint_path={config.checkpoint_path} is ignored)'
    logging.info('Going on from %s%s', latest, ignored if config.checkpoint_path else '')
    if fresh:
      logging.info('  fresh: %s, %d like it; %s has none', fresh[0], len(fresh), latest)
    num_restored = len(state.named_variables()) - len(fresh)
    return Restored(latest, num_restored, dict.fromkeys(fresh, 'not there'))
  if not config.checkpoint_path:
    return Restored()
  path = formats.locate(config.checkpoint_path)
  needs_conversion = config.source_scope or formats.needs_conversion(path, model_name)
  variables = state.model.variables_by_name
  if needs_conversion:
    restored = _init_from_converted(path, config, model_name, preprocessing_name, variables)
  else:
    restored = _init_from_checkpoint(path, config, model_name, variables)
  state.restart_averages()
  return restored


def _init_from_checkpoint(
  prefix: str, config: FinetuneConfig, model_name: str, variables: Mapping[str, tf.Variable]
) -> Restored:
  """Loads a checkpoint; heads whose shapes do not fit, or that it lacks, stay fresh."""
  net = nets_factory.get_net(model_name)
  stored = checkpoints.shapes(prefix)
  untrained = checkpoints.read_fresh(prefix)
  excluded = config.checkpoint_exclude_scopes
  optimizers.check_scopes('--checkpoint_exclude_scopes', excluded, variables)
  unfit = [
    name
    for name, variable in variables.items()
    if name.startswith(net.head_scopes)
    and not name.startswith(excluded)
    and (stored.get(name) != variable.shape.as_list() or name in untrained)
  ]
  try:
    restored = checkpoints.restore(
      variables,
      prefix,
      exclude_scopes=(*excluded, *unfit),
      ignore_missing=config.ignore_missing_vars,
      use_ema=True,
      sum_channels=net.first_weights,
    )
  except ValueError as error:
    raise ValueError(
      f'{error}; --checkpoint_exclude_scopes leaves scopes out, --ignore_missing_vars those that '
      'the checkpoint lacks'
    ) from error
  reasons = {**stored, **dict.fromkeys(untrained, 'not trained')}
  fresh = {
    name: 'excluded' if name.startswith(excluded) else reasons.get(name, 'not there')
    for name in (*restored.excluded, *restored.missing)
  }
  unknown = [n for n in restored.unused if n not in variables and not n.endswith(_BOOKKEEPING)]
  logging.info('Starting from %s', prefix)
  logging.info('  restored: %d of %d variables', len(restored.restored), len(variables))
  for name, reason in fresh.items():
    logging.info('  fresh: %s %s (checkpoint: %s)', name, variables[name].shape.as_list(), reason)
  logits = f'{net.logits_scope}/biases'
  if logits in unfit and logits in stored:
    for line in description.background(stored[logits][-1], variables[logits].shape[-1]):
      logging.info('  %s (--labels_offset)', line)
  names = f': {files.some(unknown)}' if unknown else ''
  logging.info('  ignored: %d that the net does not have%s', len(unknown), names)
  told = {
    n: reason if isinstance(reason, str) else f'{reason} there' for n, reason in fresh.items()
  }
  return Restored(prefix, len(restored.restored), told, unknown)


def _init_from_converted(
  path: str,
  config: FinetuneConfig,
  model_name: str,
  preprocessing_name: str,
  variables: Mapping[str, tf.Variable],
) -> Restored:
  """Loads another library's file; heads that it lacks, or that do not fit, stay fresh."""
  net = nets_factory.get_net(model_name)
  excluded = config.checkpoint_exclude_scopes
  optimizers.check_scopes('--checkpoint_exclude_scopes', excluded, variables)
  taken = {name: v for name, v in variables.items() if not name.startswith(excluded)}
  has_head = any(name.startswith(net.head_scopes) for name in taken)
  weights = conversion.read(
    path,
    model_name,
    with_classifier=has_head,
    source_scope=config.source_scope,
    **images_for(preprocessing_name),
  )
  filled = conversion.fill(taken, weights, net.head_scopes)
  logging.info('Starting from %s', path)
  notes = description.report(weights, filled)
  for line in notes:
    logging.info('  %s', line)
  if len(taken) < len(variables):
    logging.info('  fresh: %d variables in %s', len(variables) - len(taken), ', '.join(excluded))
  fresh = dict.fromkeys(filled.fresh, 'not there, or of another shape')
  fresh |= {name: 'excluded' for name in variables if name not in taken}
  return Restored(path, len(filled.filled), fresh, [*filled.unused], notes)
