"""A run from its flags to its end: data, strategy, variables, checkpoint, and then the loop."""

import dataclasses
import functools
import gc
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import files, flags, provenance
from slim_inception.cluster import (
  LOST_WORKER_ERRORS,
  Cluster,
  check_same,
  describe_devices,
  kernels_of,
  lost_worker,
  make_cluster,
)
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import batch_norm_statistics
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input.pipeline import Batch, Source
from slim_inception.nets import checkpoint_files, inception_utils, initial_values, nets_factory
from slim_inception.nets.initial_values import Drawing
from slim_inception.nets.model import Model
from slim_inception.train import (
  config_json,
  description,
  events,
  loop,
  passes,
  resumption,
  run_input,
  schedules,
  stages,
  start,
  trackers,
)
from slim_inception.train.augmentation import Augmentation, make_augmentation
from slim_inception.train.config import Config
from slim_inception.train.distillation import Distillation, load_teachers, warn_of_changes
from slim_inception.train.flag_groups import DataConfig
from slim_inception.train.plan import Plan, Stage, make_plan
from slim_inception.train.train_state import TrainState, read_counters
from slim_inception.train.train_step import TrainStep

_PREVIEWED = 8  # images in TensorBoard


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
  dataset = run_input.open_dataset(config.data)
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
  pass_pixels = passes.known_pass_pixels(config, cluster)
  while True:
    # Workers send each other the first values, and must do so in the same order.
    drawing = Drawing() if cluster.count == 1 else None
    run = make_run(config, dataset, num_classes, cluster, evaluate, pass_pixels, drawing)
    if run is None:
      return 0
    try:
      tracker = make_tracker(run) if lock else None
      return loop.train(dataclasses.replace(run, lock=lock, tracker=tracker))
    except loop.OutOfMemoryError as error:
      pass_pixels = passes.smaller_passes(config, cluster, error)
    del run
    gc.collect()  # the variables of the net, which hang in cycles


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
    raise passes.out_of_memory(config, plan.stages[0], error.message.splitlines()[0]) from error
  except input_pipeline.READ_ERRORS as error:
    raise input_pipeline.read_error(dataset, config.data.labels_offset, error) from error


def make_run(
  config: Config,
  dataset: Dataset,
  num_classes: int,
  cluster: Cluster,
  evaluate: loop.Evaluate | None,
  pass_pixels: int | None = None,
  drawing: Drawing | None = None,
) -> loop.Run | None:
  """What is there before the first step; None where no step is left.

  Args:
    config: the flags.
    dataset: its records, counted.
    num_classes: of the head.
    cluster: the workers.
    evaluate: see `loop.Run`.
    pass_pixels: see `make_plan`.
    drawing: gives variables their first values; `loop.train` waits for it. None: they have them.
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
  description.describe_run(config, plan, dataset, cluster)

  augmentation = make_augmentation(config)
  state, teaching = make_state(config, plan, dataset, cluster, augmentation, drawing)
  if drawing and (latest or config.finetune.checkpoint_path):
    drawing.wait()
  for line in description.describe_layer_decay(config.optimizer, state):
    logging.info('%s', line)
  name = augmentation.preprocessing.name
  restored = start.restore_or_init(config.finetune, config.model.model_name, name, state, latest)
  step = plan.start.step
  if plan.total_steps is not None and step >= plan.total_steps:
    train_dir = config.run.train_dir
    text = 'Nothing to do: %s is at step %d of %d (--num_epochs, --max_number_of_steps)'
    logging.info(text, train_dir, step, plan.total_steps)
    return None

  source = Source(dataset, augmentation.preprocessing, augmentation.distortion)
  if dataset.paths:
    input_pipeline.check_images(source, plan.image_size)
  if cluster.is_chief:
    before = config_json.read(config.run.train_dir) if latest else None
    facts = _facts(config, plan, dataset, strategy, teaching, (before or {}).get('run', {}))
    if pass_pixels is not None:
      facts |= {'pass_pixels': pass_pixels, 'devices': describe_devices(strategy)}
    config_json.write(config.run.train_dir, config, facts)
    on_what = description.describe_start(config, plan, strategy)
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
    passes.memory_limit(config, cluster),
    initial_values=drawing,
  )


def _facts(
  config: Config,
  plan: Plan,
  dataset: Dataset,
  strategy: tf.distribute.Strategy,
  teaching: Distillation | None,
  before: Mapping[str, Any],
) -> dict[str, Any]:
  """What config.json says under `run` beside the flags; `before` is what it said until now."""
  facts = {
    **plan.facts(),
    **provenance.facts(dataset, before),
    'learning_rate': schedules.scaled(config.schedule, plan.global_batch_size).learning_rate,
    'kernels': kernels_of(strategy),
  }
  if origin := before.get('resumed_from'):
    facts['resumed_from'] = origin
  if teaching:
    warn_of_changes(before, teaching.teachers)
    facts['teachers'] = [teacher.facts for teacher in teaching.teachers]
  return facts


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
      run_input.make_batches(config, plan, stage, source, cluster),
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
  config: Config,
  plan: Plan,
  dataset: Dataset,
  cluster: Cluster,
  augmentation: Augmentation,
  drawing: Drawing | None = None,
) -> tuple[TrainState, Distillation | None]:
  """The variables of a run, and what --teacher asks for.

  Args:
    config: the flags.
    plan: of the run.
    dataset: its records.
    cluster: the workers.
    augmentation: of the images.
    drawing: gives the variables their first values; None: they have them.

  Raises:
    ValueError, OSError: see `make_distillation`.
  """
  teaching = make_distillation(config, plan, dataset, cluster, augmentation)
  tf.random.set_seed(config.run.seed)  # after the teachers: weights begin as without them
  with cluster.strategy.scope(), initial_values.drawn_by(drawing):
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
  if chosen.drop_path_rate and is_trained:
    arg_scope = inception_utils.with_stochastic_depth(arg_scope, chosen.drop_path_rate)
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
    views, (count, *shape) = augmentation.num_views, images.shape
    by_view = tf.reshape(images, (views, count // views, *shape))
    images = tf.reshape(tf.transpose(by_view, (1, 0, 2, 3, 4)), images.shape)  # an image's views
    labels = np.repeat(first['label'], views, axis=0)[:_PREVIEWED]
    several = [np.flatnonzero(row) if np.ndim(row) else [row] for row in labels]
    return augmentation.preprocessing.denormalize(images[:_PREVIEWED]), [
      ' + '.join(names.get(int(label) + data.labels_offset, str(label)) for label in of_image)
      for of_image in several
    ]

  return preview
