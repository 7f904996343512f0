"""Steps of the net of test size: batches, state and results."""

import numpy as np
import tensorflow as tf

from slim_inception.train import distillation
from slim_inception.train.augmentation import Augmentation, make_augmentation
from slim_inception.train.plan import make_plan
from slim_inception.train.train_state import TrainState
from slim_inception.train.train_step import TrainStep
from slim_inception.train.trainer import make_model


def batch(count: int = 4, side: int = 32, start: int = 0) -> dict[str, tf.Tensor]:
  """Noise of three classes; the record indices are those from `start` on."""
  images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3))
  indices = np.arange(count)
  return {
    'image': tf.constant(images, tf.uint8),
    'label': tf.constant(indices % 3, tf.int32),
    'seed': tf.constant([[0, start + i] for i in indices], tf.int32),
    'record_index': tf.constant(start + indices, tf.int64),
  }


def make(
  settings, strategy=None, model=None, augmentation: Augmentation | None = None, dataset=None
) -> tuple[TrainState, TrainStep]:
  """The state, of another net if there is one, and the step; `dataset` where there are teachers."""
  strategy = strategy or tf.distribute.get_strategy()
  num_classes = dataset.num_classes - settings.data.labels_offset if dataset else 3
  plan = make_plan(settings, 100, num_classes, strategy.num_replicas_in_sync)
  augmentation = augmentation or make_augmentation(settings)
  teaching = None
  if dataset:
    teachers = distillation.load_teachers(settings, dataset, strategy)
    preprocessing = augmentation.preprocessing
    teaching = distillation.Distillation(settings, teachers, preprocessing, plan.image_size)
  tf.random.set_seed(0)
  with strategy.scope():
    net = model() if model else make_model(settings, plan)
    state = TrainState(settings, net, teaching.make_projections(0) if teaching else {})
  return state, TrainStep(strategy, state, settings, augmentation, teaching=teaching)


def run(train_step, value, steps: int = 1, rate: float = 0.01) -> dict[str, float]:
  """The metrics of the last step."""
  for step in range(steps):
    result = train_step(value, tf.constant(step, tf.int64), tf.constant(rate))
  metrics = {name: float(value) for name, value in result.metrics.items()}
  return {**metrics, 'last_index': int(result.last_index)}


def arrays(variables) -> dict[str, np.ndarray]:
  """The values of {name: variable}, copied."""
  return {name: variable.read_value().numpy() for name, variable in variables.items()}


def mirror(strategy, value) -> dict:
  """A batch that all replicas share."""
  return {
    key: strategy.experimental_distribute_values_from_function(lambda _, v=v: v)
    for key, v in value.items()
  }
