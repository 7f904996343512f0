"""Evaluates a checkpoint: every picture counts exactly once."""

import json
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from datasets import dataset_factory
from evaluation import calibration, pictures
from evaluation.config import EvalConfig
from nets import checkpoints, nets_factory
from nets.model import Model
from preprocessing import preprocessing_factory
from training import input_pipeline

METRICS_FILE = 'metrics.json'
PICTURE_FILE = 'predictions.png'


class Counts(NamedTuple):
  """What was counted over a data set."""

  num_images: int
  top_1: int
  top_5: int


class Evaluation:
  """A split and a net, ready to evaluate one checkpoint after the other.

  Args:
    config: what to evaluate and how; its `checkpoint_path` is not looked at.

  Raises:
    ValueError, OSError: a flag or the data is not as it should be.
  """

  def __init__(self, config: EvalConfig):
    self._config = config
    self.dataset = self._split(config.dataset_split_name)
    num_classes = input_pipeline.check_labels(self.dataset, config.labels_offset)
    net = nets_factory.get_net(config.model_name)
    self._image_size = config.eval_image_size or net.default_image_size
    self._preprocessing = preprocessing_factory.get(config.preprocessing_name or config.model_name)
    self._model = make_model(
      config.model_name,
      num_classes,
      self._image_size,
      config.depth_multiplier,
      batch_norm_decay=calibration.BATCH_NORM_DECAY if config.calibrate_batches else None,
    )
    self._step = make_step(self._model, tf.as_dtype(config.precision))

  def evaluate(self, prefix: str) -> tuple[dict[str, object], list[pictures.Sample]]:
    """The metrics of a checkpoint, and the first pictures with their predictions.

    Raises:
      ValueError, OSError: the checkpoint does not fit, or the data is damaged.
    """
    config = self._config
    weights = load_weights(self._model, prefix, config.weights)
    if config.calibrate_batches:
      self._calibrate()
    started = time.monotonic()
    try:
      counts, samples = count(self._step, self._batches(), config.pictures)
    except input_pipeline.READ_ERRORS as error:
      raise input_pipeline.read_error(self.dataset, config.labels_offset, error) from error
    if not counts.num_images:
      raise ValueError(
        f'No picture of {self.dataset.name} {self.dataset.split_name} could be decoded'
      )
    seconds = time.monotonic() - started
    metrics = {
      'num_images': counts.num_images,
      'top_1': counts.top_1 / counts.num_images,
      'top_5': counts.top_5 / counts.num_images,
      'images_per_second': round(counts.num_images / seconds, 2),
      'weights': weights,
      'checkpoint': prefix,
      'model_name': config.model_name,
      'dataset_name': self.dataset.name,
      'dataset_split_name': self.dataset.split_name,
      'image_size': self._image_size,
      'calibrate_batches': config.calibrate_batches,
    }
    if config.max_num_batches is None:
      metrics['skipped_images'] = self.dataset.num_samples - counts.num_images
    return metrics, samples

  def _split(self, name: str) -> dataset_factory.Dataset:
    return dataset_factory.get_dataset(self._config.dataset_name, name, self._config.dataset_dir)

  def _batches(self) -> tf.data.Dataset:
    batches = input_pipeline.eval_batches(
      self.dataset,
      self._preprocessing,
      image_size=self._image_size,
      batch_size=self._config.batch_size,
      labels_offset=self._config.labels_offset,
      multi_label=self._config.loss == 'sigmoid',
      num_threads=self._config.num_preprocessing_threads,
    )
    most = self._config.max_num_batches
    return batches if most is None else batches.take(most)

  def _calibrate(self) -> None:
    calibration.calibrate(
      self._model,
      self._split('train'),
      self._preprocessing,
      self._config.calibrate_batches,
      batch_size=self._config.batch_size,
      labels_offset=self._config.labels_offset,
      dtype=tf.as_dtype(self._config.precision),
    )


def evaluate(config: EvalConfig) -> dict[str, object]:
  """Evaluates, writes `metrics.json` and the pictures that were asked for, returns the metrics.

  Raises:
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be.
  """
  evaluation = Evaluation(config)
  metrics, samples = evaluation.evaluate(checkpoints.resolve(config.checkpoint_path))
  os.makedirs(config.eval_dir, exist_ok=True)
  write_json(os.path.join(config.eval_dir, METRICS_FILE), metrics)
  if samples:
    names = {k - config.labels_offset: v for k, v in evaluation.dataset.labels_to_names.items()}
    pictures.draw_predictions(os.path.join(config.eval_dir, PICTURE_FILE), samples, names)
  return metrics


def make_model(
  name: str,
  num_classes: int,
  image_size: int,
  depth_multiplier: float = 1.0,
  *,
  batch_norm_decay: float | None = None,
) -> Model:
  """A net for inference: without the auxiliary head, which only training needs."""
  kwargs = {'depth_multiplier': depth_multiplier} if depth_multiplier != 1 else {}
  if batch_norm_decay is not None:
    net = nets_factory.get_net(name)
    kwargs['arg_scope'] = net.arg_scope(batch_norm_decay=batch_norm_decay)
  return nets_factory.create_model(
    name, num_classes, image_size=image_size, create_aux_logits=False, **kwargs
  )


def load_weights(model: Model, prefix: str, weights: str) -> str:
  """Restores `model`.

  Args:
    model: the net.
    prefix: of the checkpoint.
    weights: 'ema', 'plain' or 'auto'.

  Returns:
    'ema' or 'plain': what was loaded.

  Raises:
    ValueError: the checkpoint does not fit, or has no moving averages.
  """
  has_averages = any(name.endswith(checkpoints.EMA_SUFFIX) for name in checkpoints.shapes(prefix))
  if weights == 'ema' and not has_averages:
    raise ValueError(f'{prefix} has no moving averages of the weights: choose --weights=plain')
  use_ema = has_averages and weights != 'plain'
  model.build()
  try:
    model.restore(prefix, use_ema=use_ema)
  except ValueError as error:
    raise ValueError(
      f'{error}; --model_name, --labels_offset and the data set decide what is looked for'
    ) from error
  return 'ema' if use_ema else 'plain'


# (images, labels) -> predictions, whether each is right, whether the label is among the first five
Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def make_step(model: Model, dtype: tf.DType) -> Step:
  """The compiled step; `dtype` is that of the computation."""

  @tf.function(autograph=False, reduce_retracing=True)
  def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    logits, _ = model(tf.cast(images, dtype))
    predictions = tf.argmax(logits, -1, output_type=tf.int32)
    first_five = min(5, logits.shape[-1])
    if labels.shape.rank == 1:
      in_top_5 = tf.math.in_top_k(labels, logits, first_five)
      return predictions, tf.equal(predictions, labels), in_top_5
    # Several labels: right is any of them.
    chosen = tf.gather(labels, tf.math.top_k(logits, first_five).indices, batch_dims=1) > 0
    return predictions, chosen[:, 0], tf.reduce_any(chosen, -1)

  return step


def count(
  step: Step, batches: tf.data.Dataset, num_samples: int = 0
) -> tuple[Counts, list[pictures.Sample]]:
  """Counts right answers over the batches of `input_pipeline.eval_batches`.

  Returns:
    The counts, and the first `num_samples` pictures with their labels and predictions.
  """
  counts = np.zeros(3, np.int64)
  samples: list[pictures.Sample] = []
  for batch in batches:
    predictions, right, in_top_5 = step(batch['image'], batch['label'])
    counts += [len(right), np.count_nonzero(right), np.count_nonzero(in_top_5)]
    for i in range(min(len(right), num_samples - len(samples))):
      label = batch['label'][i].numpy()
      label = int(label.argmax() if label.ndim else label)  # the first of several
      samples.append(pictures.Sample(batch['image'][i].numpy(), label, int(predictions[i])))
  return Counts(*counts.tolist()), samples


def write_json(path: str, content: dict[str, object]) -> None:
  """Writes a file in one piece."""
  temporary = f'{path}.part-{os.getpid()}'
  with open(temporary, 'w') as file:
    json.dump(content, file, indent=2)
    file.write('\n')
  os.replace(temporary, path)
