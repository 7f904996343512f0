"""What comes out of the residual stages of a net in training: how much of it is zero."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.nets import nets_factory
from slim_inception.nets.blocks import Body, Unit

from slim_inception.evaluate import examples, views
from slim_inception.train.augmentation import make_augmentation
from slim_inception.train.config import Config

KEYS = ('zeros', 'dead_filters', 'mean')


class Activations(NamedTuple):
  """The activations of a row.

  Attributes:
    zeros: the share of them that are 0.
    dead_filters: the share of its filters that give 0 everywhere in all images.
    mean: of them.
  """

  zeros: float
  dead_filters: float
  mean: float


def measure(values: np.ndarray) -> Activations:
  """Of [N, h, w, C]."""
  is_zero, mean = values == 0, values.mean(dtype=np.float64)
  return Activations(float(is_zero.mean()), float(is_zero.all((0, 1, 2)).mean()), float(mean))


def probed_rows(body: Body) -> tuple[str, ...]:
  """The rows whose activations tell whether a net dies: scopes within the net's, in order.

  They are the last of each stage of residual sums that ends in an activation (rows that share the
  first part of their scope), and the last of all rows that does: what comes before the pooling,
  unless linear rows follow.

  Raises:
    ValueError: no row ends in an activation.
  """
  activated = [unit for unit in body if _is_activated(unit)]
  if not activated:
    raise ValueError('the net has no row that ends in an activation')
  stages = {unit.scope.rpartition('/')[0]: unit for unit in activated if unit.join == 'add'}
  chosen = {unit.scope for unit in (*stages.values(), activated[-1])}
  return tuple(unit.scope for unit in activated if unit.scope in chosen)


def _is_activated(unit: Unit) -> bool:
  if unit.join == 'add':
    return unit.activate
  ends = [branch.cells[-1] for branch in unit.branches]
  return any(cell.depth and cell.activate for cell in ends)  # a pooling has no depth


class Probe:
  """Looks at a run's checkpoints as its training sees them, with the same images each time.

  Batch norm takes the statistics of these images, and weights are the trained ones, not their
  averages: both averages lag behind, and a net can be dead for long before they show it.

  Args:
    config: of the run.
    num_images: the first ones of the evaluated split, cropped as for evaluation.

  Raises:
    ValueError, OSError: there are no such records, or the net has no activations.
  """

  def __init__(self, config: Config, num_images: int):
    model = config.model
    net = nets_factory.get_net(model.model_name)
    self._model = nets_factory.create_model(
      model.model_name,
      features_only=True,
      input_channels=model.input_channels,
      **model.net_arguments,
    )
    self.rows = probed_rows(net.body)
    self._images = _images(config, num_images)
    self._run = tf.function(self._activations, autograph=False)

  def _activations(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs = self._model.end_points(images, training=True)
    return {row: outputs[row] for row in self.rows}

  def measure(self, prefix: str) -> dict[str, float]:
    """{'zeros Repeat_2/block8_5': share, ...} of a checkpoint: `KEYS`, of each row.

    Args:
      prefix: of the checkpoint.

    Raises:
      ValueError, OSError: it does not fit.
    """
    self._model.restore(prefix)
    return {
      key_of(key, row): value
      for row, values in self._run(self._images).items()
      for key, value in measure(values.numpy())._asdict().items()
    }


def key_of(key: str, row: str) -> str:
  """What a figure of a row is called among those of an evaluation."""
  return f'{key} {row}'


def rows_of(keys: Sequence[str]) -> tuple[str, ...]:
  """The rows that names of `key_of` are of, in order."""
  prefix = key_of(KEYS[0], '')
  return tuple(key.removeprefix(prefix) for key in keys if key.startswith(prefix))


def _images(config: Config, count: int) -> tf.Tensor:
  """[N, H, W, C] as the net takes them."""
  data = config.data
  dataset = dataset_factory.get_dataset(
    data.dataset_name, config.evaluation.eval_split_name, data.records_dirs[0]
  )
  net = nets_factory.get_net(config.model.model_name)
  size = config.model.train_image_size or net.default_image_size
  spec = views.make_spec(make_augmentation(config).preprocessing, size)
  records = examples.read(
    dataset,
    range(min(count, dataset.num_samples)),
    multi_label=config.loss.loss == 'sigmoid',
  )
  stream = views.view_stream(
    records, lambda record: {'image': spec.decode(record['encoded'])}, spec, count
  )
  batch = next(iter(stream))
  return views.to_float(batch['image'], spec, tf.float32)
