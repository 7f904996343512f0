"""A run from its flags to its end: data, strategy, variables, checkpoint, and then the loop."""

import dataclasses
import functools
import gc
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import tensorflow as tf
from absl import logging

import slim_inception
from slim_inception import files, flags, kernels, memory, provenance
from slim_inception.cluster import (
  LOST_WORKER_ERRORS,
  Cluster,
  check_same,
  describe_devices,
  gpus_of,
  kernels_of,
  lost_worker,
  make_cluster,
)
from slim_inception.datasets import dataset_factory, joined
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import batch_norm_statistics
from slim_inception.input import data_service, record_order, sampling
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input.pipeline import Batch, InputOptions, Source
from slim_inception.input.training_batches import TrainingBatches
from slim_inception.nets import checkpoint_files, inception_utils, nets_factory, processor
from slim_inception.nets.model import Model
from slim_inception.train import (
  config_json,
  events,
  loop,
  resumption,
  schedules,
  stages,
  start,
  trackers,
)
from slim_inception.train.augmentation import Augmentation, make_augmentation
from slim_inception.train.config import Config
from slim_inception.train.distillation import Distillation, load_teachers, warn_of_changes
from slim_inception.train.flag_groups import BALANCED, DataConfig, OptimizerConfig
from slim_inception.train.plan import Plan, Stage, divided, make_plan
from slim_inception.train.train_state import TrainState, read_counters, rows_of
from slim_inception.train.train_step import TrainStep

_PREVIEWED = 8  # images in TensorBoard
_LITTLE_BYTES = 100e6  # of memory, of which nothing is said


def train(config: Config, evaluate: loop.Evaluate | None = None) -> None:
  """Trains until the last step, from the latest checkpoint in `train_dir` if there is one.

  Args:
    config: the flags.
    evaluate: evaluates a checkpoint, see `loop.Run`.

  Raises:
    ValueError, OSError: a flag, the data or a checkpoint is not as it should be; the loss is not
      finite; another worker is gone; another training owns `train_dir`. The last checkpoint stays
      as it is.
    KeyboardInterrupt: Ctrl-C, after saving.
  """
  trackers.check(config.saving.log)
  config = start.of_checkpoint(config)
  dataset = open_dataset(config.data)
  num_classes = input_pipeline.check_labels(dataset, config.data.labels_offset)
  input_pipeline.check_loss(dataset, config.loss.loss)
  if config.run.deterministic:
    tf.random.set_seed(config.run.seed)
    tf.config.experimental.enable_op_determinism()
  cluster = make_cluster(config.devices.num_clones, config.devices.clone_on_cpu)
  if not cluster.is_chief:
    logging.set_verbosity(logging.WARNING)
  stopped_by, train_dir = 0, config.run.train_dir
  try:
    with (
      explaining_errors(config, dataset, cluster),
      files.locked_folder(train_dir, 'training') if cluster.is_chief else nullcontext() as lock,
    ):
      if cluster.is_chief:
        resumption.begin(config, dataset, num_classes)
      stopped_by = _train(config, dataset, num_classes, cluster, evaluate, lock)
  except LOST_WORKER_ERRORS as error:
    if cluster.count == 1:
      raise
    raise lost_worker(error, checkpoint_files.latest(train_dir), cluster.strategy) from error
  if stopped_by:
    message = f'interrupted; started again it goes on from {checkpoint_files.latest(train_dir)}'
    if stopped_by == signal.SIGINT:
      raise KeyboardInterrupt(message)
    logging.info('%s', message)


def make_tracker(run: loop.Run) -> trackers.Tracker:
  """What --log names, for the chief."""
  config = {**flags.flatten(run.config), **run.plan.facts()}
  del config['start']
  return trackers.start(
    run.config.saving.log, run.config.run.train_dir, config, run.plan.start.step
  )


def _train(
  config: Config,
  dataset: Dataset,
  num_classes: int,
  cluster: Cluster,
  evaluate: loop.Evaluate | None,
  lock: files.FolderLock | None,
) -> int:
  """Trains. Where memory runs out it is as if the run was started again with smaller passes.

  So the images are those that would have come, and the variables those of the last checkpoint: in a
  step that has failed some may have moved. A change of size saves one, and before the first
  checkpoint a run begins as it did; so where the first step with a size fails nothing is lost.

  Returns:
    The number of the signal that stopped it; 0: none did.
  """
  pass_pixels = known_pass_pixels(config, cluster)
  while True:
    run = make_run(config, dataset, num_classes, cluster, evaluate, pass_pixels)
    if run is None:
      return 0
    try:
      tracker = make_tracker(run) if lock else None
      return loop.train(dataclasses.replace(run, lock=lock, tracker=tracker))
    except loop.OutOfMemoryError as error:
      pass_pixels = smaller_passes(config, cluster, error)
    del run
    gc.collect()  # the variables of the net, which hang in cycles


def known_pass_pixels(config: Config, cluster: Cluster) -> int | None:
  """What a pass may have on these devices, as this run has learned before; None: nothing."""
  facts = (config_json.read(config.run.train_dir) or {}).get('run', {})
  same = facts.get('devices') == describe_devices(cluster.strategy)
  return facts.get('pass_pixels') if same else None


def smaller_passes(config: Config, cluster: Cluster, error: loop.OutOfMemoryError) -> int:
  """The pixels of a pass of half the images, or fewer where the batch cannot be halved; says so.

  Raises:
    ValueError: there is nothing to divide, or batch norm is of the whole batch, or of a cluster one
      worker has failed and the others wait for it.
  """
  stage = error.stage
  each, pixels = stage.per_replica_batch, stage.image_size**2
  if each == 1 or config.model.sync_batch_norm or cluster.count > 1:
    raise out_of_memory(config, stage, str(error)) from error
  parts = divided(each, each // 2)
  latest = checkpoint_files.latest(config.run.train_dir)
  logging.warning(
    'Out of memory at step %d with %d images of %d x %d pixels a pass (%s): going on from %s with '
    '%d image(s) a pass and %d passes, the same %d images a step (batch norm takes the statistics '
    'of a pass)',
    error.step, each, stage.image_size, stage.image_size, error, latest or 'the start',
    each // parts, stage.accumulate_steps * parts, stage.global_batch_size,
  )  # fmt: skip
  return each // parts * pixels


def open_dataset(data: DataConfig) -> Dataset:
  """The records of a run, counted; of synthetic images there are none."""
  if data.dataset_name == dataset_factory.SYNTHETIC:
    return dataset_factory.synthetic(data.dataset_split_name)
  if data.data_service:
    data_service.connect(data.data_service, data_service.CONNECT_SECS)
  name, split, folders = data.dataset_name, data.dataset_split_name, data.records_dirs
  opened = [dataset_factory.get_dataset(name, split, folder) for folder in folders]
  return joined.join([*map(record_order.counted, opened)], folders)


@contextmanager
def explaining_errors(config: Config, dataset: Dataset, cluster: Cluster) -> Iterator[None]:
  """Errors of TensorFlow in steps become a line on memory or on the data; not of lost workers."""
  try:
    yield
  except LOST_WORKER_ERRORS:
    raise
  except tf.errors.ResourceExhaustedError as error:
    if cause := files.system_error(error):  # e.g. the disk
      where = cause.filename or config.run.train_dir
      raise OSError(cause.errno, cause.strerror, where) from error
    plan = make_plan(config, 1, 1, cluster.strategy.num_replicas_in_sync)
    raise out_of_memory(config, plan.stages[0], error.message.splitlines()[0]) from error
  except input_pipeline.READ_ERRORS as error:
    raise input_pipeline.read_error(dataset, config.data.labels_offset, error) from error


def make_run(
  config: Config,
  dataset: Dataset,
  num_classes: int,
  cluster: Cluster,
  evaluate: loop.Evaluate | None,
  pass_pixels: int | None = None,
) -> loop.Run | None:
  """What is there before the first step; None where no step is left.

  Args:
    config: the flags.
    dataset: its records, counted.
    num_classes: of the head.
    cluster: the workers.
    evaluate: see `loop.Run`.
    pass_pixels: see `make_plan`.
  """
  strategy = cluster.strategy
  replicas = strategy.num_replicas_in_sync
  plan = make_plan(config, dataset.num_samples, num_classes, replicas, pass_pixels)
  latest = start.agreed_checkpoint(config, dataset, cluster)
  config = start.with_embedding(config, latest)
  changes: list[str] = []
  if latest:
    plan = plan.start_from(read_counters(latest, plan.global_batch_size), config.schedule)
    changes = start.check_same_run(config, plan, dataset, kernels_of(strategy))
  elif config.finetune.checkpoint_path:
    start.warn_of_differences(config, plan, dataset)  # says at once that it is not there
  _describe(config, plan, dataset, cluster)

  augmentation = make_augmentation(config)
  state, teaching = make_state(config, plan, dataset, cluster, augmentation)
  for line in describe_layer_decay(config.optimizer, state):
    logging.info('%s', line)
  name = augmentation.preprocessing.name
  restored = start.restore_or_init(config.finetune, config.model.model_name, name, state, latest)
  step = plan.start.step
  if plan.total_steps is not None and step >= plan.total_steps:
    train_dir = config.run.train_dir
    logging.info('Nothing to do: %s is at step %d of %d', train_dir, step, plan.total_steps)
    return None

  source = Source(dataset, augmentation.preprocessing, augmentation.distortion)
  if dataset.paths:
    input_pipeline.check_images(source, plan.image_size)
  if cluster.is_chief:
    before = config_json.read(config.run.train_dir) if latest else None
    of_data = provenance.facts(dataset, (before or {}).get('run', {}))
    schedule = schedules.scaled(config.schedule, plan.global_batch_size)
    facts = {**plan.facts(), **of_data}
    facts |= {'learning_rate': schedule.learning_rate, 'kernels': kernels_of(strategy)}
    if origin := (before or {}).get('run', {}).get('resumed_from'):
      facts['resumed_from'] = origin
    if teaching:
      warn_of_changes((before or {}).get('run', {}), teaching.teachers)
      facts['teachers'] = [teacher.facts for teacher in teaching.teachers]
    if pass_pixels is not None:
      facts |= {'pass_pixels': pass_pixels, 'devices': describe_devices(strategy)}
    config_json.write(config.run.train_dir, config, facts)
    on_what = describe_start(config, plan, strategy)
    more = {**on_what, **restored._asdict(), 'changes': changes}
    events.add(config.run.train_dir, 'start', step, **more)
  return loop.Run(
    config,
    plan,
    cluster,
    state,
    make_stages(config, plan, source, cluster, state, augmentation, teaching),
    evaluate,
    make_batch_norm_estimate(config, plan, source, state),
    memory_limit(config, cluster),
  )


def describe_start(config: Config, plan: Plan, strategy: tf.distribute.Strategy) -> events.Start:
  """On what a start runs, for history.jsonl."""
  return {
    'devices': describe_devices(strategy),
    'processor': processor.read_name(),
    'versions': {
      'slim-inception': slim_inception.__version__,
      'TensorFlow': tf.__version__,
      'Python': platform.python_version(),
    },
    'num_replicas': plan.num_replicas,
    'per_replica_batch': plan.per_replica_batch,
    'global_batch_size': plan.global_batch_size,
    'precision': config.devices.precision,
  }


def memory_limit(config: Config, cluster: Cluster) -> int | None:
  """Bytes that this process may take; None on GPUs, and where workers would have to agree."""
  text = config.devices.memory_limit
  if text is None or gpus_of(cluster.strategy) or cluster.count > 1:
    return None
  return memory.num_bytes(text)


def make_stages(
  config: Config,
  plan: Plan,
  source: Source,
  cluster: Cluster,
  state: TrainState,
  augmentation: Augmentation,
  teaching: Distillation | None = None,
) -> Callable[[Stage], stages.StageRun]:
  """What belongs to each stage of a plan, made when it is asked for, and once."""

  @functools.cache
  def at(stage: Stage) -> stages.StageRun:
    return stages.StageRun(
      make_batches(config, plan, stage, source, cluster),
      make_steps(config, plan, stage, cluster.strategy, state, augmentation, teaching),
      make_preview(
        config.data, stage, cluster.strategy, augmentation, source.dataset.labels_to_names
      ),
    )

  return at


def make_batch_norm_estimate(
  config: Config, plan: Plan, source: Source, state: TrainState
) -> Callable[[], None] | None:
  """Replaces batch norm's moving averages by estimates, by --batch_norm_batches; None: it is 0.

  They are those of the weights that evaluation takes: of the averaged ones, where there are any.

  Raises:
    ValueError: the data set has fewer images.
  """
  count, size = config.evaluation.batch_norm_batches, plan.stages[-1].per_replica_batch
  if not count:
    return None
  batch_norm_statistics.check_size(source.dataset, count, size)
  side = config.evaluation.eval_image_size or plan.image_size

  @functools.cache  # a second net is not made before it is needed
  def estimation() -> batch_norm_statistics.Estimation:
    model = make_model(config, plan, side, batch_norm_statistics.BATCH_NORM_DECAY)
    return batch_norm_statistics.Estimation(
      model,
      source,
      batch_size=size,
      labels_offset=config.data.labels_offset,
      dtype=tf.as_dtype(config.devices.precision),
    )

  def estimate() -> None:
    weights = {
      name: state.averages.get(name, variable).read_value()
      for name, variable in state.model.variables_by_name.items()
    }
    for name, value in estimation().of(weights, count).items():
      state.averages.get(name, state.model.variables_by_name[name]).assign(value)

  return estimate


def make_state(
  config: Config, plan: Plan, dataset: Dataset, cluster: Cluster, augmentation: Augmentation
) -> tuple[TrainState, Distillation | None]:
  """The variables of a run with their first values, and what --teacher asks for.

  Raises:
    ValueError, OSError: see `make_distillation`.
  """
  teaching = make_distillation(config, plan, dataset, cluster, augmentation)
  tf.random.set_seed(config.run.seed)  # after the teachers: weights begin as without them
  with cluster.strategy.scope():
    model = make_model(config, plan)
    projections = teaching.make_projections(config.run.seed) if teaching else {}
    return TrainState(config, model, projections), teaching


def make_model(
  config: Config,
  plan: Plan,
  image_size: int | None = None,
  batch_norm_decay: float | None = None,
) -> Model:
  """The net of a run, its variables made; call it in `strategy.scope()`.

  Args:
    config: the flags.
    plan: of the run.
    image_size: another one than the plan's.
    batch_norm_decay: in place of the flag's; the net is for estimates alone, without a head to
      train.
  """
  chosen = config.model
  net = nets_factory.get_net(chosen.model_name)
  is_trained = batch_norm_decay is None
  arg_scope = net.arg_scope(
    weight_decay=config.optimizer.weight_decay,
    batch_norm_decay=chosen.batch_norm_decay if is_trained else batch_norm_decay,
  )
  if chosen.freeze_batch_norm:
    arg_scope = inception_utils.with_frozen_batch_norm(arg_scope)
  if chosen.sync_batch_norm:
    arg_scope = inception_utils.with_synchronized_batch_norm(arg_scope)
  with_auxiliary = is_trained and config.loss.aux_loss_weight > 0
  if config.devices.recompute:
    arg_scope = inception_utils.with_recomputed_gradients(arg_scope)
  return nets_factory.create_model(
    chosen.model_name,
    plan.num_classes,
    image_size=image_size or plan.image_size,
    input_channels=chosen.input_channels,
    arg_scope=arg_scope,
    **net.select(dropout_keep_prob=chosen.dropout_keep_prob),
    **({} if with_auxiliary else net.select(create_aux_logits=False)),
    **chosen.net_arguments,
  )


def make_distillation(
  config: Config, plan: Plan, dataset: Dataset, cluster: Cluster, augmentation: Augmentation
) -> Distillation | None:
  """What --teacher asks for, the teachers loaded; None without it.

  Raises:
    ValueError, OSError: see `load_teachers` and `Distillation`, or workers have other teachers.
  """
  if not config.distillation.teacher:
    return None
  teachers = load_teachers(config, dataset, cluster.strategy)
  if cluster.count > 1:
    identities = [teacher.identity for teacher in teachers]
    check_same(cluster, {'weights of the teachers': identities}, 'The identity of the ')
  return Distillation(config, teachers, augmentation.preprocessing, plan.image_size)


def make_batches(
  config: Config, plan: Plan, stage: Stage, source: Source, cluster: Cluster
) -> TrainingBatches:
  """The batches of this worker in a stage."""
  options = input_options(config, plan, stage, source, cluster)
  service = config.data.data_service
  return TrainingBatches(source, options, cluster, service, stage.global_batch_size)


def input_options(
  config: Config, plan: Plan, stage: Stage, source: Source, cluster: Cluster
) -> InputOptions:
  """How records become the batches of this worker in a stage."""
  return InputOptions(
    image_size=stage.image_size,
    batch_size=stage.per_replica_batch * stage.accumulate_steps,
    labels_offset=config.data.labels_offset,
    multi_label=config.loss.loss == 'sigmoid',
    seed=config.run.seed,
    shuffle_buffer=shuffle_window(config.data, source.dataset),
    num_readers=config.data.num_readers,
    num_threads=config.data.num_preprocessing_threads,
    worker=cluster.index,
    num_workers=cluster.count,
    replicas=plan.num_replicas // cluster.count,
    repeats=config.augment.repeated_augmentation,
    sampling=sampling_of(config.data),
  )


def sampling_of(data: DataConfig) -> sampling.Sampling:
  """What is drawn of the records."""
  return sampling.Sampling(data.sampling == BALANCED, data.mixture)


def shuffle_window(data: DataConfig, dataset: Dataset) -> int:
  """Records shuffled together: the same for all workers and whenever a run goes on."""
  return record_order.shuffle_window(dataset, data.shuffle_buffer, data.shuffle_buffer_mb * 10**6)


def make_steps(
  config: Config,
  plan: Plan,
  stage: Stage,
  strategy: tf.distribute.Strategy,
  state: TrainState,
  augmentation: Augmentation,
  teaching: Distillation | None = None,
) -> Callable[[int], TrainStep]:
  """The step that follows when so many are done: at first that of the heads, by --head_epochs."""
  passes = stage.accumulate_steps
  train_step = TrainStep(
    strategy, state, config, augmentation, teaching=teaching, num_passes=passes
  )
  head_steps = plan.steps_until(config.finetune.head_epochs)
  first = max(plan.start.step, stage.step)
  if config.finetune.checkpoint_path is None or first >= head_steps:
    return lambda done: train_step
  heads = nets_factory.get_net(config.model.model_name).head_scopes
  head_step = TrainStep(strategy, state, config, augmentation, heads, teaching, passes)
  logging.info('The heads alone are trained until step %d (--head_epochs)', head_steps)
  return lambda done: head_step if done < head_steps else train_step


def make_preview(
  data: DataConfig,
  stage: Stage,
  strategy: tf.distribute.Strategy,
  augmentation: Augmentation,
  names: Mapping[int, str],
) -> stages.Preview:
  """Shows the first replica's first images, distorted, with the names of their classes."""

  def preview(batch: Batch) -> tuple[tf.Tensor, list[str]]:
    first = {  # the batch of one forward pass: mixing takes partners from it
      key: strategy.experimental_local_results(value)[0][: stage.per_replica_batch]
      for key, value in batch.items()
    }
    images, _ = augmentation.apply(first, augmentation.sample_mix(first))
    labels = first['label'][:_PREVIEWED].numpy()
    several = [np.flatnonzero(row) if np.ndim(row) else [row] for row in labels]
    return augmentation.preprocessing.denormalize(images[:_PREVIEWED]), [
      ' + '.join(names.get(int(label) + data.labels_offset, str(label)) for label in of_image)
      for of_image in several
    ]

  return preview


def out_of_memory(config: Config, stage: Stage, reason: str) -> ValueError:
  """An error that says what to try; TensorFlow's own is a page."""
  each, size, advice = stage.per_replica_batch, stage.image_size, []
  if each > 1:
    advice.append(
      f'--batch_size={each // 2}, which with --accumulate_steps={2 * stage.accumulate_steps} is '
      'the same global batch'
    )
  if not config.devices.recompute:
    advice.append('--recompute')
  if config.devices.precision == 'float32':
    advice.append('--precision=bfloat16')
  images = f'{each} image{"s" if each > 1 else ""} of {size} x {size} pixels a pass'
  advice.append('a smaller net or smaller images')
  return ValueError(f'Out of memory with {images}: try {", or ".join(advice)} ({reason})')


def _describe(config: Config, plan: Plan, dataset: Dataset, cluster: Cluster) -> None:
  data, size = config.data, plan.stages[0].image_size
  end = f'{plan.total_steps} steps' if plan.total_steps else 'until stopped'
  message = (
    f'{config.model.model_name} on {data.dataset_name} {data.dataset_split_name}: '
    f'{dataset.num_samples} images, {plan.num_classes} classes, {size} x {size} pixels; '
    f'{plan.num_replicas} replica(s) x {plan.per_replica_batch} images on '
    f'{describe_devices(cluster.strategy)}, '
    f'{plan.steps_per_epoch:.1f} steps an epoch, {end}; '
    f'recipe {config.run.recipe}, {config.optimizer.optimizer}, {config.devices.precision}'
  )
  logging.info('%s', message)
  for stage in plan.stages[1:]:
    logging.info('%s', stages.describe(stage, plan.epoch(stage.step)))
  kernels.warn_of_precision(config.devices.precision, bool(gpus_of(cluster.strategy)))
  if per := config.schedule.learning_rate_per:
    rate, batch = config.schedule.learning_rate, plan.global_batch_size
    own = schedules.scaled(config.schedule, batch).learning_rate
    logging.info(
      'The learning rate of %g for %d images a step is %g for %d (--learning_rate_per)',
      rate, per, own, batch,
    )  # fmt: skip
  chosen = sampling_of(data)
  if not chosen.is_uniform:
    logging.info('%s', sampling.describe(dataset, chosen, data.records_dirs))
  elif shuffling := describe_shuffling(data, dataset):
    logging.info('%s', shuffling)
  if config.model.input_channels == 1:
    remain = 'brightness' if config.augment.fast_mode else 'brightness and contrast'
    what = f'changed in {remain} alone' if config.augment.distort_color else 'not changed'
    logging.info('Images are grey (--input_channels=1): colours are %s', what)
  advice = record_order.sharing_advice(data.num_readers, cluster.count)
  if chosen.is_uniform and advice and cluster.is_chief:
    logging.warning('%s', advice)


def describe_layer_decay(config: OptimizerConfig, state: TrainState) -> list[str]:
  """The factors of the learning rate by row of the net, one a line; none without --layer_decay."""
  if config.layer_decay == 1:
    return []
  rows = rows_of(state.model)
  table = []
  heads = [name for name in state.trained if not name.startswith(tuple(rows))]
  in_rows = {row: [name for name in state.trained if name.startswith(row)] for row in rows}
  for scope, names in {**in_rows, 'heads': heads}.items():
    factors = sorted({state.optimizer.scales.get(name, 1.0) for name in names})
    if factors:
      table.append([scope.rstrip('/'), ' and '.join(f'{x:.4g}' for x in factors)])
  head = f'Factors of the learning rate (--layer_decay={config.layer_decay:g}):'
  return [head, *(f'  {line}' for line in files.text_table(table))]


def describe_shuffling(data: DataConfig, dataset: Dataset) -> str:
  """What memory the shuffling takes; '' where that is little."""
  window, size = shuffle_window(data, dataset), record_order.mean_bytes(dataset) / 1e3
  held, of_all = (
    record_order.shuffle_bytes(dataset, count) for count in (window, data.shuffle_buffer)
  )
  if held == of_all and held < _LITTLE_BYTES:
    return ''
  text = (
    f'Shuffling {min(window, dataset.num_samples):,} records together: up to {held / 1e6:,.0f} MB '
    f'of memory, {size:,.0f} kB a record'
  )
  if held < of_all:
    text += (
      f'; --shuffle_buffer={data.shuffle_buffer} would take {of_all / 1e6:,.0f} MB, more than '
      f'--shuffle_buffer_mb={data.shuffle_buffer_mb}'
    )
  return text
