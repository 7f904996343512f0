"""What the steps of one size of images take, and how it is made in time."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable

import tensorflow as tf

from slim_inception.cluster import Cluster
from slim_inception.input.pipeline import Batch
from slim_inception.input.training_batches import TrainingBatches
from slim_inception.train.plan import Stage
from slim_inception.train.train_step import TrainStep

# Batch -> [N, H, W, C] in [-1, 1], and names of the classes.
Preview = Callable[[Batch], tuple[tf.Tensor, list[str]]]


@dataclasses.dataclass(frozen=True)
class StageRun:
  """What the steps of a stage are made of.

  Attributes:
    batches: of this worker.
    step_after: the compiled step that follows when so many are done.
    preview: shows images of a batch as the net sees them.
  """

  batches: TrainingBatches
  step_after: Callable[[int], TrainStep]
  preview: Preview


def describe(stage: Stage, epoch: float) -> str:
  """A line on a change of size or batch."""
  passes = f' in {stage.accumulate_steps} passes' if stage.accumulate_steps > 1 else ''
  size = stage.image_size
  return (
    f'From step {stage.step}, epoch {epoch:.2f}, on images have {size} x {size} pixels and steps '
    f'{stage.global_batch_size} images{passes}'
  )


def trace_ahead(step: TrainStep, batch: Batch, stage: Stage, cluster: Cluster) -> threading.Thread:
  """Traces the step of a later stage in a thread, while the present one trains.

  Once the stage begins its first step waits for what is left, or raises what went wrong. Workers of
  a cluster would have to trace in the same order: theirs is not for this.

  Args:
    step: of the later stage.
    batch: of the present one.
    stage: the later one.
    cluster: of one worker.
  """
  strategy = cluster.strategy
  side, size = stage.image_size, stage.per_replica_batch * stage.accumulate_steps

  def like(name: str, value: tf.Tensor) -> tf.Tensor:
    first = strategy.experimental_local_results(value)[0]
    rest = (side, side, first.shape[-1]) if name == 'image' else first.shape[1:]
    zeros = tf.zeros((size, *rest), first.dtype)
    if tf.is_tensor(value):
      return zeros
    return strategy.experimental_distribute_values_from_function(lambda _: zeros)

  example = {name: like(name, value) for name, value in batch.items()}

  def trace() -> None:
    with contextlib.suppress(Exception):  # the step that follows raises it again, in its place
      step.trace(example)

  thread = threading.Thread(target=trace, name=f'tracing {side} x {side}')
  thread.start()
  return thread
