"""Batches from a tf.data service: other hosts decode and crop where the trainers' own cannot.

The shards of all epochs stand in one endless queue, each epoch's in an order of its own, and a
worker of the service that has room takes the next. So a record comes once an epoch, if no worker
dies, but in an order that depends on how fast they are; and epochs overlap by what workers hold.
"""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.flags import host_and_port
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order
from slim_inception.input.pipeline import InputOptions, Source

CONNECT_SECS = 20.0  # until a dispatcher that does not answer is said not to be there
SILENCE_SECS = 180.0  # without a batch: the first needs a window of records


def connect(data_service: str, seconds: float) -> None:
  """Returns when somebody answers at HOST:PORT; ConnectionError when nobody has for so long."""
  address = host_and_port(data_service)
  deadline = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection(address, timeout=seconds).close()
      return
    except OSError as error:
      if time.monotonic() > deadline:
        raise ConnectionError(
          f'No data service answers at {data_service} ({error}): slim-inception data-service '
          '--role=dispatcher must be running there'
        ) from error
    time.sleep(0.5)


class Job(NamedTuple):
  """A use of a service: those who train with the same name divide the batches among them.

  Attributes:
    address: HOST:PORT of the dispatcher.
    name: which no job has had: one that has begun goes on elsewhere.
    global_batch_size: images of a step of all of them.
  """

  address: str
  name: str
  global_batch_size: int


def service_batches(source: Source, options: InputOptions, first: int, job: Job) -> tf.data.Dataset:
  """Endless batches like those of `pipeline.record_batches`, of which see the arguments.

  The epoch in which `first` lies begins anew, in another order.

  Yields:
    The same, but for 'record_index', which says how many images all have taken, less one: the index
    of a record, epoch * number + index, is its second seed.
  """
  images = input_pipeline.decode_records(_records(source.dataset, options, first), source, options)
  batches = images.batch(options.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
  batches = batches.apply(
    tf.data.experimental.service.distribute(
      tf.data.experimental.service.ShardingPolicy.DYNAMIC,
      f'grpc://{job.address}',
      job_name=job.name,
      compression=None,  # images' noise does not get smaller
    )
  )

  def count(number: tf.Tensor, batch: input_pipeline.Batch) -> input_pipeline.Batch:
    last = first + (number // options.replicas + 1) * job.global_batch_size - 1
    return {**batch, 'record_index': tf.fill([options.batch_size], last)}

  return input_pipeline.endless(batches.enumerate().map(count).prefetch(tf.data.AUTOTUNE))


def _records(dataset: Dataset, options: InputOptions, first: int) -> tf.data.Dataset:
  """Endless pairs (record index, record), shard after shard: the service divides its source."""
  sizes = np.array(record_order.shard_sizes(dataset), np.int64)
  paths, starts, number = list(dataset.paths), np.cumsum(sizes) - sizes, len(sizes)
  total = int(sizes.sum())

  def records_of(turn: tf.Tensor) -> tf.data.Dataset:
    epoch = turn // number
    seeds = tf.random.fold_in([tf.cast(options.seed, tf.int64), epoch], first)
    shard = tf.random.experimental.stateless_shuffle(tf.range(number), seeds)[turn % number]
    records = tf.data.TFRecordDataset(tf.gather(paths, shard))
    return records.enumerate(epoch * total + tf.gather(starts, shard))

  turns = tf.data.Dataset.range(first // total * number, tf.int64.max)
  records = turns.interleave(records_of, min(options.num_readers, number))
  return records.shuffle(min(options.shuffle_buffer, total), options.seed)


class Watched:
  """Batches of a service, with an end if it does not give any more: TensorFlow waits for ever.

  Args:
    batches: what to take.
    data_service: HOST:PORT of the dispatcher.
    silence_secs: without a batch, after which it is said to give none.
    ask_secs: between questions whether the dispatcher is there.
  """

  def __init__(
    self,
    batches: Iterator,
    data_service: str,
    silence_secs: float = SILENCE_SECS,
    ask_secs: float = 5.0,
  ):
    self._data_service = data_service
    self._silence_secs, self._ask_secs = silence_secs, ask_secs
    self._taken: queue.Queue = queue.Queue(1)
    threading.Thread(target=self._take, args=(batches,), daemon=True).start()

  def _take(self, batches: Iterator) -> None:
    try:
      for batch in batches:
        self._taken.put(batch)
    except Exception as error:  # which the loop is to see
      self._taken.put(error)

  def __iter__(self) -> 'Watched':
    return self

  def __next__(self) -> dict[str, tf.Tensor]:
    """The next batch.

    Raises:
      ConnectionError: the dispatcher is gone, or nobody gives batches.
    """
    since = time.monotonic()
    while True:
      try:
        batch = self._taken.get(timeout=self._ask_secs)
        break
      except queue.Empty:
        connect(self._data_service, self._ask_secs)
      if time.monotonic() - since > self._silence_secs:
        raise ConnectionError(
          f'The data service at {self._data_service} has given no batch for '
          f'{self._silence_secs:.0f} s: are its workers running '
          '(slim-inception data-service --role=worker)?'
        )
    if isinstance(batch, Exception):
      raise batch
    return batch
