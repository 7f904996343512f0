"""Batches of noise that cost the host nothing: --dataset_name=synthetic, to try hardware."""

import numpy as np
import tensorflow as tf

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import pipeline as input_pipeline


def train_batches(
  dataset: Dataset,
  *,
  image_size: int,
  batch_size: int,
  labels_offset: int = 0,
  multi_label: bool = False,
  seed: int = 0,
  position: int = 0,
  worker: int = 0,
  num_workers: int = 1,
  replicas: int = 1,
  channels: int = 3,
) -> tf.data.Dataset:
  """Endless batches like those of `input_pipeline.train_batches`, of which see the arguments.

  The images of all batches are the same; labels, evenly spread, and seeds of the distortions are
  functions of the positions, which workers and replicas share as they share those of records.
  Images have `channels`.
  """
  shape = batch_size, image_size, image_size, channels
  images = tf.constant(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
  low, high = dataset.label_range
  first = position + (worker - position) % num_workers

  def make_batch(number: tf.Tensor) -> dict[str, tf.Tensor]:
    step, replica = number // replicas, number % replicas
    turns = (step * batch_size + tf.range(batch_size, dtype=tf.int64)) * replicas + replica
    places = first + turns * num_workers
    labels = low + places * 2654435761 // 65536 % (high - low + 1)  # Knuth's multiplicative hash
    labels = tf.cast(labels, tf.int32) - labels_offset
    if multi_label:
      labels = tf.one_hot(labels, dataset.num_classes - labels_offset)
    seeds = input_pipeline.seeds_of(seed, places)
    return {'image': images, 'label': labels, 'seed': seeds, 'position': places}

  numbers = tf.data.Dataset.range(tf.int64.max)
  batches = numbers.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
  return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
