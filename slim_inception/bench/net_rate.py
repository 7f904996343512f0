"""The training step and the net, on images in memory."""

import time
from collections.abc import Sequence

import tensorflow as tf

from slim_inception.bench import roofline, timing
from slim_inception.bench.common import NUM_CLASSES, Result, facts, figures, training_config
from slim_inception.bench.config import Config
from slim_inception.cluster import gpus_of, make_strategy
from slim_inception.datasets.progress_bar import ProgressBar, waiting
from slim_inception.input.pipeline import Batch
from slim_inception.nets import nets_factory, summary
from slim_inception.train import schedules
from slim_inception.train.augmentation import make_augmentation
from slim_inception.train.plan import make_plan
from slim_inception.train.train_state import TrainState
from slim_inception.train.train_step import TrainStep
from slim_inception.train.trainer import make_model

_IMAGENET = 1281167  # images an epoch, for the schedule
_WARMING_UP = 'Tracing and compiling the step, and warming up: the first one takes longer'

Measured = tuple[Result, list[timing.Times]]  # ours, and of those that took turns with it


def train(config: Config, beside: Sequence[timing.Program] = ()) -> Measured:
  """The step of training.train_step, on one batch in memory that goes the way of real ones."""
  strategy = make_strategy(config.num_clones, config.clone_on_cpu)
  replicas = strategy.num_replicas_in_sync
  run = training_config(config)
  plan = make_plan(run, _IMAGENET, NUM_CLASSES, replicas)
  begin = time.perf_counter()
  with strategy.scope():
    state = TrainState(run, make_model(run, plan))
  build_seconds = time.perf_counter() - begin
  batches = iter(
    strategy.distribute_datasets_from_function(
      lambda _: tf.data.Dataset.from_tensors(_batch(config)).repeat()
    )
  )
  step_number = tf.constant(0, tf.int64)
  schedule = schedules.scaled(run.schedule, plan.global_batch_size)
  rate = tf.constant(
    schedules.learning_rate(schedule, 0, plan.epoch(0), plan.steps_per_epoch), tf.float32
  )
  step = TrainStep(strategy, state, run, make_augmentation(run))
  with waiting(_WARMING_UP):
    program = timing.prepare(
      lambda: step(next(batches), step_number, rate),
      lambda result: float(result.metrics['loss']),
      config.warmup_steps,
    )
  return _measured(config, strategy, build_seconds, [program, *beside])


def _batch(config: Config) -> Batch:
  """As of `input.pipeline`."""
  size = config.side
  shape = (config.batch_size, size, size, 3)
  images = tf.random.stateless_uniform(shape, (0, 0), 0, 256, tf.int32)
  numbers = tf.range(config.batch_size)
  return {
    'image': tf.cast(images, tf.uint8),
    'label': numbers % NUM_CLASSES,
    'seed': tf.stack([tf.zeros_like(numbers), numbers], axis=1),
    'record_index': tf.cast(numbers, tf.int64),
  }


def infer(config: Config, beside: Sequence[timing.Program] = ()) -> Measured:
  """Logits of images in memory; everything is there but reading them."""
  strategy = make_strategy(config.num_clones, config.clone_on_cpu)
  begin = time.perf_counter()
  with strategy.scope():
    net = nets_factory.create_model(config.model_name, NUM_CLASSES, image_size=config.side)
    model = net.fold_batch_norm()  # as evaluation and exported models do
    del net  # its weights are a copy
  build_seconds = time.perf_counter() - begin

  def logits(images: tf.Tensor) -> tf.Tensor:
    return model(images)[0]

  of_replica = (
    tf.function(logits, jit_compile=True, autograph=False) if config.jit_compile else logits
  )
  step = tf.function(lambda images: strategy.run(of_replica, args=(images,)), autograph=False)

  def images_of(_: tf.distribute.experimental.ValueContext) -> tf.Tensor:
    shape = (config.batch_size, config.side, config.side, 3)
    images = tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0)
    return tf.cast(images, config.precision)

  images = strategy.experimental_distribute_values_from_function(images_of)
  with waiting(_WARMING_UP):
    program = timing.prepare(
      lambda: step(images),
      lambda logits: [x.numpy() for x in strategy.experimental_local_results(logits)],
      config.warmup_steps,
    )
  return _measured(config, strategy, build_seconds, [program, *beside])


MODES = {'train': train, 'infer': infer}


def _measured(
  config: Config,
  strategy: tf.distribute.Strategy,
  build_seconds: float,
  programs: Sequence[timing.Program],
) -> Measured:
  with ProgressBar('Measuring', config.rounds, 'rounds') as bar:
    times, *others = timing.take_turns(programs, config.rounds, bar.update)
  peak_bytes = _peak_bytes(strategy)  # before anything else needs memory
  replicas = strategy.num_replicas_in_sync
  images = config.batch_size * replicas
  net = summary.summarize(config.model_name, config.side, NUM_CLASSES)
  is_training = config.mode == 'train'
  per_image = net.training_multiply_adds if is_training else net.multiply_adds
  # Logical processors share the machine that the roofline is of, GPUs are one each.
  devices = replicas if gpus_of(strategy) else 1
  convolution = roofline.convolution_rate(config.precision) * devices
  achieved = 2 * per_image * images / times.median
  ours = {
    **facts(config, num_replicas=replicas),
    **figures(times, images),
    'build_seconds': build_seconds,
    'first_step_seconds': times.first,
    'peak_bytes': peak_bytes,
    'num_parameters': net.parameters,
    'gmacs_per_image': per_image / 1e9,
    'gflops': achieved / 1e9,
    'convolution_gflops': convolution / 1e9,
    'product_gflops': roofline.product_rate(config.precision) * devices / 1e9,
    'roofline_share': achieved / convolution,
  }
  return ours, others


def _peak_bytes(strategy: tf.distribute.Strategy) -> int:
  """Of one GPU, the fullest; of the process where there is none."""
  if gpus := gpus_of(strategy):
    names = [f'GPU:{device.rpartition(":")[2]}' for device in gpus]
    return max(tf.config.experimental.get_memory_info(name)['peak'] for name in names)
  return timing.peak_resident_bytes()
