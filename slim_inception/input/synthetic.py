"""Batches of noise that cost the host nothing: --dataset_name=synthetic, to try hardware."""

import numpy as np
import tensorflow as tf

from slim_inception.input.pipeline import Batch, InputOptions, Source, endless, seeds_of


def noise_batches(source: Source, options: InputOptions, first: int = 0) -> tf.data.Dataset:
  """Endless batches like those of `pipeline.record_batches`, of which see the arguments.

  The images of all batches are the same; labels, evenly spread, and seeds of the distortions are
  functions of the record indices, which workers and replicas share as they share those of records.
  """
  dataset, size = source.dataset, options.image_size
  batch_size, replicas, workers = options.batch_size, options.replicas, options.num_workers
  shape = batch_size, size, size, source.preprocessing.channels
  images = tf.constant(np.random.default_rng(options.seed).integers(0, 256, shape, np.uint8))
  low, high = dataset.label_range
  own_first = first + (options.worker - first) % workers

  def make_batch(number: tf.Tensor) -> Batch:
    step, replica = number // replicas, number % replicas
    turns = (step * batch_size + tf.range(batch_size, dtype=tf.int64)) * replicas + replica
    indices = own_first + turns * workers
    labels = low + indices * 2654435761 // 65536 % (high - low + 1)  # Knuth's multiplicative hash
    labels = tf.cast(labels, tf.int32) - options.labels_offset
    if options.multi_label:
      labels = tf.one_hot(labels, dataset.num_classes - options.labels_offset)
    seeds = seeds_of(options.seed, indices)
    return {'image': images, 'label': labels, 'seed': seeds, 'record_index': indices}

  numbers = tf.data.Dataset.range(tf.int64.max)
  batches = numbers.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
  return endless(batches.prefetch(tf.data.AUTOTUNE))
