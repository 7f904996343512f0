"""One synchronous step: forward, backward, sum over the replicas, update."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from slim_inception.nets.replicas import sum_over_replicas
from slim_inception.preprocessing import mixing
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing
from slim_inception.preprocessing.rand_augment import rand_augment
from slim_inception.train import class_weights, losses
from slim_inception.train.config import Config
from slim_inception.train.loss_scale import all_finite
from slim_inception.train.optimizers import RULES
from slim_inception.train.train_state import TrainState

Batch = dict[str, tf.Tensor]
# (batch of `input_pipeline.train_batches`, step int64, learning rate float32) -> scalars
TrainStep = Callable[[Batch, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


# What a small batch says of itself; the step reports the means.
_METRICS = ('loss', 'cross_entropy', 'regularization_loss', 'top_1')
Gradients = list[tf.Tensor]


def make_train_step(
  strategy: tf.distribute.Strategy,
  state: TrainState,
  config: Config,
  preprocessing: Preprocessing,
  distortion: Distortion,
  scopes: tuple[str, ...] = (),
) -> TrainStep:
  """The compiled step; `scopes` says which of the trained variables it trains, () all.

  It returns the means over the replicas of 'loss' (all terms), 'cross_entropy' (of the main head),
  'regularization_loss' and 'top_1', the norm of the summed gradients before it is clipped,
  'gradient_norm', and 'position', the largest of the batch; with float16 also
  'loss_scale' and 'overflow_steps', the updates skipped so far.

  With --accumulate_steps=N a replica's batch is N small ones, one after the other.

  Raises:
    ValueError, OSError: see `class_weights.load`.
  """
  names = [name for name in state.trained if not scopes or name.startswith(scopes)]
  trained = [state.trained[name] for name in names]
  weights = class_weights.load(config)
  parts = strategy.num_replicas_in_sync * config.batch.accumulate_steps  # of the global batch

  def forward_and_backward(
    batch: Batch, drawn: mixing.Mix | None, loss_scale: tf.Tensor | None
  ) -> tuple[Gradients, Batch]:
    images, kept = augment(config, preprocessing, distortion, batch, drawn)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(trained)
      # The seed of the batch's first image belongs to this step and replica alone.
      logits, end_points = state.model(images, training=True, dropout_seed=batch['seed'][0])
      targets = losses.as_targets(batch['label'], logits.shape[-1])
      if kept is not None:
        targets = mixing.mix_targets(targets, kept)
      metrics = batch_losses(config, logits, end_points, targets, weights)
      metrics['regularization_loss'] = regularization_loss(config, state)
      metrics['loss'] += metrics['regularization_loss']
      share = metrics['loss'] / parts
      if loss_scale is not None:
        share *= loss_scale
    return tape.gradient(share, trained), metrics

  def small_step(batch: Batch, loss_scale: tf.Tensor | None) -> tuple[Gradients, Batch]:
    drawn = draw_mix(config, batch)  # not compiled: XLA has no gamma distribution
    compute = forward_and_backward
    if config.devices.jit_compile:  # no sum over the replicas in it: XLA compiles for one device
      compute = tf.function(compute, jit_compile=True, autograph=False)
    return compute(batch, drawn, loss_scale)

  def replica_step(batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor) -> Batch:
    scaling, is_finite = state.loss_scale, None
    gradients, metrics = accumulate(
      functools.partial(small_step, loss_scale=scaling and scaling.scale.read_value()),
      batch,
      trained,
      config,
    )
    *gradients, loss = sum_over_replicas([*gradients, metrics['loss']])
    if scaling:
      gradients = scaling.unscale(gradients)
      # Where the loss overflows without its scale, batch norm's averages are lost as well. Skipping
      # the update would hide that; made, it shows in all that follows.
      is_finite = all_finite(gradients) | ~tf.math.is_finite(loss)
    metrics['gradient_norm'] = tf.linalg.global_norm(gradients)
    if config.optimizer.clip_gradient_norm:
      gradients, _ = tf.clip_by_global_norm(
        gradients, config.optimizer.clip_gradient_norm, use_norm=metrics['gradient_norm']
      )
    state.optimizer.apply(gradients, step, learning_rate, is_finite, names)
    if scaling:
      scaling.update(is_finite)
      metrics['loss_scale'] = scaling.scale.read_value()
      metrics['overflow_steps'] = tf.cast(scaling.overflow_steps.read_value(), tf.float32)
    if config.model.moving_average_decay:
      move_averages(state, averaging_decay(config.model.moving_average_decay, step))
    return {**metrics, 'position': tf.reduce_max(batch['position'])}

  @tf.function(autograph=False)
  def train_step(batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor) -> Batch:
    results = strategy.run(replica_step, args=(batch, step, learning_rate))
    means = {
      name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
      for name, value in results.items()
      if name != 'position'
    }
    positions = strategy.experimental_local_results(results['position'])
    return {**means, 'position': tf.reduce_max(tf.stack(positions))}

  return train_step


def accumulate(
  small_step: Callable[[Batch], tuple[Gradients, Batch]],
  batch: Batch,
  trained: Sequence[tf.Variable],
  config: Config,
) -> tuple[Gradients, Batch]:
  """Runs a replica's batch in --accumulate_steps parts, in the memory of one.

  Args:
    small_step: gradients and metrics of a part.
    batch: of `accumulate_steps * batch_size` images.
    trained: what the gradients are of.
    config: has both numbers.

  Returns:
    The sums of the gradients and the means of the metrics.

  Raises:
    ValueError: the batch has another size.
  """
  count = config.batch.accumulate_steps
  if count == 1:
    return small_step(batch)
  size = batch['image'].shape[0]
  if size != count * config.batch.batch_size:
    raise ValueError(
      f'--accumulate_steps={count} with --batch_size={config.batch.batch_size} takes '
      f'{count * config.batch.batch_size} images a replica and step, not {size}'
    )
  parts = {
    name: tf.reshape(value, (count, config.batch.batch_size, *value.shape[1:]))
    for name, value in batch.items()
  }

  def body(i, gradients, metrics):
    more, values = small_step({name: part[i] for name, part in parts.items()})
    gradients = [a + b for a, b in zip(gradients, more, strict=True)]
    return i + 1, gradients, {name: metrics[name] + values[name] for name in _METRICS}

  start = 0, [tf.zeros(v.shape) for v in trained], dict.fromkeys(_METRICS, tf.constant(0.0))
  _, gradients, metrics = tf.while_loop(
    lambda i, *_: i < count, body, start, parallel_iterations=1, maximum_iterations=count
  )
  return gradients, {name: value / count for name, value in metrics.items()}


def regularization_loss(config: Config, state: TrainState) -> tf.Tensor:
  """Weight decay as a loss, float32 scalar; 0 where the optimizer does it by itself."""
  if RULES[config.optimizer.optimizer].own_decay:
    return tf.constant(0.0)
  return state.model.regularization_loss()


def draw_mix(config: Config, batch: Batch) -> mixing.Mix | None:
  """How to mix a replica's batch, by the seed of its first image; None without such flags."""
  if not (config.augment.mixup_alpha or config.augment.cutmix_alpha):
    return None
  return mixing.sample(batch['seed'][0], config.augment.mixup_alpha, config.augment.cutmix_alpha)


def augment(
  config: Config,
  preprocessing: Preprocessing,
  distortion: Distortion,
  batch: Batch,
  drawn: mixing.Mix | None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
  """The device's half of the work on images.

  Returns:
    [N, H, W, C] of the type of --precision, and the share of each in its mixture (None: not mixed).
  """
  images, seeds = batch['image'], batch['seed']
  chosen = config.augment
  if chosen.randaugment_layers:
    images = rand_augment(images, seeds, chosen.randaugment_layers, chosen.randaugment_magnitude)
  dtype = tf.as_dtype(config.devices.precision)
  images = preprocessing.train_device(images, seeds, distortion, dtype)
  if chosen.random_erasing:
    images = mixing.erase(images, seeds, chosen.random_erasing, preprocessing.normalization)
  return (images, None) if drawn is None else mixing.mix(images, drawn)


def batch_losses(
  config: Config,
  logits: tf.Tensor,
  end_points: dict[str, tf.Tensor],
  labels: tf.Tensor,
  weights: Sequence[float] | None = None,
) -> dict[str, tf.Tensor]:
  """'loss' without weight decay, 'cross_entropy' of the main head, 'top_1': float32 scalars.

  Args:
    config: chooses the loss.
    logits: [N, K] float32 of the main head.
    end_points: 'AuxLogits', [N, K] float32, if the net has them.
    labels: [N] integers or [N, K] targets.
    weights: K weights of the classes.
  """
  targets = losses.as_targets(labels, logits.shape[-1])
  of_classes = None if weights is None else tf.constant(weights, tf.float32)

  def loss_of(logits: tf.Tensor) -> tf.Tensor:
    return losses.LOSSES[config.loss.loss](logits, targets, config.loss.label_smoothing, of_classes)

  cross_entropy = loss_of(logits)
  loss = cross_entropy
  if 'AuxLogits' in end_points:
    loss += config.loss.aux_loss_weight * loss_of(end_points['AuxLogits'])
  return {'loss': loss, 'cross_entropy': cross_entropy, 'top_1': losses.top_1(logits, targets)}


def averaging_decay(decay: float, step: tf.Tensor) -> tf.Tensor:
  """The decay at a step, small at first, as in tf.train.ExponentialMovingAverage."""
  step = tf.cast(step, tf.float32)
  return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def move_averages(state: TrainState, decay: tf.Tensor) -> None:
  """average -= (1 - decay) * (average - variable); called in replica context."""

  def move(average: tf.Variable, variable: tf.Tensor, decay: tf.Tensor) -> None:
    # As assign_sub, with one pass over memory less.
    tf.raw_ops.ResourceApplyGradientDescent(
      var=average.handle, alpha=1.0 - decay, delta=average - variable
    )

  def move_mirrored(strategy: tf.distribute.Strategy, decay: tf.Tensor) -> None:
    for name, average in state.averages.items():
      variable = state.model.variables_by_name[name]
      if variable.trainable:
        strategy.extended.update(average, move, args=(variable, decay), group=False)

  tf.distribute.get_replica_context().merge_call(move_mirrored, args=(decay,))
  for name, average in state.averages.items():
    variable = state.model.variables_by_name[name]
    if not variable.trainable:  # moving statistics: each replica averages its own
      move(average, variable, decay)
