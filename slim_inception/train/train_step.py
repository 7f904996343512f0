"""One synchronous step: forward, backward, sum over the replicas, update.

`TrainStep` is to be read from the top: a step of the cluster is a step of each replica, which takes
its batch in one or more passes, and sums the gradients over the replicas before the update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from slim_inception.input.pipeline import Batch
from slim_inception.nets.model import Model
from slim_inception.nets.replicas import (
  SharedFunction,
  call,
  can_be_apart,
  sum_over_replicas,
)
from slim_inception.preprocessing import mixing
from slim_inception.train import distillation, losses
from slim_inception.train.augmentation import Augmentation
from slim_inception.train.config import Config
from slim_inception.train.distillation import Distillation
from slim_inception.train.flag_groups import OptimizerConfig
from slim_inception.train.optimizers import RULES
from slim_inception.train.train_state import TrainState, all_finite

Metrics = dict[str, tf.Tensor]
Gradients = list[tf.Tensor]

# What a pass says of itself; the step reports the means.
_METRICS = ('loss', 'cross_entropy', 'top_1', 'regularization_loss')


class StepResult(NamedTuple):
  """What a step says of itself.

  Attributes:
    metrics: float32 scalars, the means over the replicas of 'loss' (all terms), 'cross_entropy' (of
      the main head), 'top_1' and 'regularization_loss'; 'gradient_norm', that of the summed
      gradients before it is clipped; with float16 also 'loss_scale' and 'overflow_steps', the
      updates skipped so far.
    last_index: int64 scalar, the largest record index of the batch.
  """

  metrics: Metrics
  last_index: tf.Tensor


class TrainStep:
  """The compiled step.

  Args:
    strategy: of the replicas.
    state: what the step changes.
    config: the flags.
    augmentation: of the images.
    scopes: of the variables that are trained, of those that --trainable_scopes leaves; () all.
    teaching: of --teacher; None without.
    num_passes: that make a step; None: --accumulate_steps.

  Raises:
    ValueError, OSError: see `losses.load_class_weights`.
  """

  def __init__(
    self,
    strategy: tf.distribute.Strategy,
    state: TrainState,
    config: Config,
    augmentation: Augmentation,
    scopes: tuple[str, ...] = (),
    teaching: Distillation | None = None,
    num_passes: int | None = None,
  ):
    self._strategy = strategy
    self._state = state
    self._config = config
    self._augmentation = augmentation
    self._names = [name for name in state.trained if not scopes or name.startswith(scopes)]
    self._trained = [state.trained[name] for name in self._names]
    self._class_weights = losses.load_class_weights(config.loss, config.data)
    self._num_passes = num_passes or config.batch.accumulate_steps
    self._teaching = teaching
    self._pass_metrics = (*_METRICS, *(distillation.METRICS if teaching else ()))
    if config.loss.jsd_weight:
      self._pass_metrics += (losses.DIVERGENCE,)
    if config.loss.embedding_norm_weight:
      self._pass_metrics += (losses.EMBEDDING_NORM,)
    self._compiled = tf.function(self._step, autograph=False)
    replicas = len(strategy.experimental_local_results(self._trained[0]))  # in this process
    # A loop over passes stays in what calls it, where TensorFlow optimizes its inside too.
    self._apart = self._num_passes == 1 and can_be_apart()
    self._is_one_call = self._apart and replicas == strategy.num_replicas_in_sync
    # Batch norm of all replicas together sums over them in the midst of a pass.
    shares = replicas > 1 and not config.model.sync_batch_norm
    self._gradients = self._shared(self._accumulate) if shares else self._accumulate
    self._update = self._shared(self._clip_and_apply) if shares else self._clip_and_apply

  def __call__(self, batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor) -> StepResult:
    """Takes a step.

    Args:
      batch: of `input.pipeline`, of each replica its own.
      step: int64 scalar, from 0.
      learning_rate: float32 scalar.
    """
    if not self._is_one_call:
      return self._compiled(batch, step, learning_rate)
    concrete = self.trace(batch)
    flat = tf.nest.flatten((batch, step, learning_rate), expand_composites=True)
    return call(concrete, [*flat, *concrete.captured_inputs], self._apart)

  def trace(self, batch: Any) -> Any:
    """Traces the step for batches like `batch`, or of such types; returns the concrete function."""
    step, learning_rate = tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.float32)
    return self._compiled.get_concrete_function(batch, step, learning_rate)

  def _step(self, batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor) -> StepResult:
    result = self._strategy.run(self._replica_step, args=(batch, step, learning_rate))
    means = {
      name: self._strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
      for name, value in result.metrics.items()
    }
    last = self._strategy.experimental_local_results(result.last_index)
    return StepResult(means, tf.reduce_max(tf.stack(last)))

  def _replica_step(self, batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor) -> StepResult:
    scaling, is_finite = self._state.loss_scale, None
    gradients, metrics = self._gradients(batch, scaling and scaling.scale.read_value())
    *gradients, loss = sum_over_replicas([*gradients, metrics['loss']])
    if scaling:
      gradients = scaling.unscale(gradients)
      # Where the loss overflows without its scale, batch norm's averages are lost as well. Skipping
      # the update would hide that; made, it shows in all that follows.
      is_finite = all_finite(gradients) | ~tf.math.is_finite(loss)
    metrics['gradient_norm'] = self._update(gradients, step, learning_rate, is_finite)
    if scaling:
      scaling.update(is_finite)
      metrics['loss_scale'] = scaling.scale.read_value()
      metrics['overflow_steps'] = tf.cast(scaling.overflow_steps.read_value(), tf.float32)
    return StepResult(metrics, tf.reduce_max(batch['record_index']))

  def _shared(self, function: Callable[..., Any]) -> Callable[..., Any]:
    of_teachers = self._teaching.variables if self._teaching else {}
    variables = {**self._state.named_variables(), **of_teachers}
    return SharedFunction(function, variables, self._apart)

  def _clip_and_apply(
    self,
    gradients: Gradients,
    step: tf.Tensor,
    learning_rate: tf.Tensor,
    is_finite: tf.Tensor | None,
  ) -> tf.Tensor:
    """Updates the variables and their averages; returns the norm of the gradients as they come."""
    norm, limit = tf.linalg.global_norm(gradients), self._config.optimizer.clip_gradient_norm
    if limit:
      gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
    self._state.optimizer.apply(gradients, step, learning_rate, is_finite, self._names)
    self._state.move_averages(step)
    return norm

  def _accumulate(self, batch: Batch, loss_scale: tf.Tensor | None) -> tuple[Gradients, Metrics]:
    """The sums of the gradients and the means of the metrics of all passes, in the memory of one.

    Raises:
      ValueError: the batch cannot be divided into --accumulate_steps parts.
    """
    count, size = self._num_passes, batch['image'].shape[0]
    if count == 1:
      return self._pass(batch, loss_scale)
    if size % count:
      raise ValueError(
        f'--accumulate_steps={count}: a batch of {size} images cannot be divided into as many parts'
      )
    parts = {
      name: tf.reshape(value, (count, size // count, *value.shape[1:]))
      for name, value in batch.items()
    }

    def body(i: tf.Tensor, gradients: Gradients, metrics: Metrics):
      more, values = self._pass({name: part[i] for name, part in parts.items()}, loss_scale)
      gradients = [a + b for a, b in zip(gradients, more, strict=True)]
      return i + 1, gradients, {name: metrics[name] + values[name] for name in metrics}

    zeros = [tf.zeros(variable.shape) for variable in self._trained]
    start = 0, zeros, dict.fromkeys(self._pass_metrics, tf.constant(0.0))
    _, gradients, metrics = tf.while_loop(
      lambda i, *_: i < count, body, start, parallel_iterations=1, maximum_iterations=count
    )
    return gradients, {name: value / count for name, value in metrics.items()}

  def _pass(self, batch: Batch, loss_scale: tf.Tensor | None) -> tuple[Gradients, Metrics]:
    mix = self._augmentation.sample_mix(batch)  # not compiled: XLA has no gamma distribution
    compute = self._loss_and_gradients
    if self._config.devices.jit_compile:  # no sum over the replicas: XLA compiles for one device
      compute = tf.function(compute, jit_compile=True, autograph=False)
    return compute(batch, mix, loss_scale)

  def _loss_and_gradients(
    self, batch: Batch, mix: mixing.Mix | None, loss_scale: tf.Tensor | None
  ) -> tuple[Gradients, Metrics]:
    config, model = self._config, self._state.model
    images, shares = self._augmentation.apply(batch, mix)
    taught = self._teaching.teach(images) if self._teaching else None
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self._trained)
      # The seed of the batch's first image belongs to this step and replica alone.
      logits, end_points = model(images, training=True, dropout_seed=batch['seed'][0])
      targets = losses.as_targets(batch['label'], logits.shape[-1])
      if shares is not None:
        targets = mixing.mix_targets(targets, shares)
      metrics = losses.batch_losses(config.loss, logits, end_points, targets, self._class_weights)
      if self._teaching and taught:
        projections = self._state.projections
        metrics = self._teaching.add(metrics, logits, end_points, taught, projections)
      if weight := config.loss.embedding_norm_weight:
        embedding = losses.embedding_of(model.config.net, end_points)
        norm = losses.embedding_norm(embedding, config.loss.embedding_norm_p)
        metrics = {**metrics, losses.EMBEDDING_NORM: norm, 'loss': metrics['loss'] + weight * norm}
      scaled_loss = self._scaled(metrics['loss'], loss_scale)
    gradients = tape.gradient(scaled_loss, self._trained)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self._trained)
      metrics['regularization_loss'] = regularization_loss(config.optimizer, model)
      scaled_loss = self._scaled(metrics['regularization_loss'], loss_scale)
    metrics['loss'] += metrics['regularization_loss']
    # They need the weights alone. TensorFlow would compute them at once, and keep as much as the
    # weights take until the net's gradients are there.
    with tf.control_dependencies([x for x in gradients if x is not None]):
      of_decay = tape.gradient(scaled_loss, self._trained)
    return [_sum(*pair) for pair in zip(gradients, of_decay, strict=True)], metrics

  def _scaled(self, loss: tf.Tensor, loss_scale: tf.Tensor | None) -> tf.Tensor:
    """Of the mean over the replicas and passes, whose gradients are summed."""
    loss /= self._strategy.num_replicas_in_sync * self._num_passes
    return loss if loss_scale is None else loss * loss_scale


def _sum(one: tf.Tensor | None, other: tf.Tensor | None) -> tf.Tensor | None:
  """Of gradients; None is that of a loss that does not depend on the variable."""
  if one is None or other is None:
    return other if one is None else one
  return one + other


def regularization_loss(config: OptimizerConfig, model: Model) -> tf.Tensor:
  """Weight decay as a loss, float32 scalar; 0 where the optimizer does it by itself."""
  if RULES[config.optimizer].own_decay:
    return tf.constant(0.0)
  return model.regularization_loss()
