"""Where the batches of a run come from: records, a tf.data service that reads them, or noise."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from slim_inception.cluster import Cluster
from slim_inception.datasets import dataset_factory
from slim_inception.input import data_service
from slim_inception.input.pipeline import (
  Batch,
  InputOptions,
  Source,
  endless,
  record_batches,
  seeds_of,
)


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
  """This worker's batches, from any record on.

  Attributes:
    source: what is read.
    options: how.
    cluster: those who share the batches.
    service: HOST:PORT of the tf.data service that reads; None: this process does.
    global_batch_size: images of a step.
  """

  source: Source
  options: InputOptions
  cluster: Cluster
  service: str | None
  global_batch_size: int

  def start_at(self, record_index: int) -> Iterator[Batch]:
    """The batches from a record on; all workers call it together."""
    start = self.source, self.options, record_index
    if self.source.dataset.name == dataset_factory.SYNTHETIC:
      return self._distribute(lambda: noise_batches(*start))
    if self.service is None:
      return self._distribute(lambda: record_batches(*start))
    name = self.cluster.all_gather_json({'job': f'train-{uuid.uuid4()}'})[0]['job']
    job = data_service.Job(self.service, name, self.global_batch_size)
    batches = self._distribute(lambda: data_service.service_batches(*start, job))
    return data_service.Watched(batches, self.service)

  def _distribute(self, make: Callable[[], tf.data.Dataset]) -> Iterator[Batch]:
    return iter(self.cluster.strategy.distribute_datasets_from_function(lambda _: make()))


def noise_batches(source: Source, options: InputOptions, first: int = 0) -> tf.data.Dataset:
  """Endless batches of noise that cost the host nothing: --dataset_name=synthetic.

  Arguments and batches are those of `pipeline.record_batches`. The images of all batches are the
  same; labels, evenly spread, and seeds of the distortions are functions of the record indices,
  which workers and replicas share as they share those of records.
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
