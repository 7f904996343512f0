"""Batches from a tf.data service: other hosts decode and crop where the trainers' own can not.

The shards of all epochs stand in one endless queue, each epoch's in an order of its own, and a
worker of the service that has room takes the next. So a record comes once an epoch, if no worker
dies, but in an order that depends on how fast they are; and epochs overlap by what workers hold.
"""

import queue
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.flags import host_and_port
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

CONNECT_SECS = 20.0  # until a dispatcher that does not answer is said not to be there
SILENCE_SECS = 180.0  # without a batch: the first needs a window of records
_ASK_SECS = 5.0  # between questions whether it is still there


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


def train_batches(
  dataset: Dataset,
  preprocessing: Preprocessing,
  distortion: Distortion,
  *,
  data_service: str,
  job_name: str,
  image_size: int,
  batch_size: int,
  global_batch_size: int,
  replicas: int,
  labels_offset: int = 0,
  multi_label: bool = False,
  seed: int = 0,
  position: int = 0,
  shuffle_buffer: int = 4096,
  num_readers: int = 4,
  num_threads: int | None = None,
) -> tf.data.Dataset:
  """Endless batches like those of `input_pipeline.train_batches`, of which see the arguments.

  Args:
    data_service: HOST:PORT of the dispatcher.
    job_name: those who train with the same name divide the batches among them.
    global_batch_size: images of a step of all of them.
    position: records gone through. The epoch in which they end begins anew, in another order.

  Yields:
    The same, but for 'position', which says how many images all have taken, less one: the place
    of a record, epoch * number + index, is its second seed.
  """
  found = _records(dataset, seed, position, shuffle_buffer, num_readers)
  decoded = input_pipeline.decode_records(
    found,
    dataset,
    preprocessing,
    distortion,
    image_size=image_size,
    labels_offset=labels_offset,
    multi_label=multi_label,
    seed=seed,
    num_threads=num_threads,
  )
  batches = decoded.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
  batches = batches.apply(
    tf.data.experimental.service.distribute(
      tf.data.experimental.service.ShardingPolicy.DYNAMIC,
      f'grpc://{data_service}',
      job_name=job_name,
      compression=None,  # images' noise does not get smaller
    )
  )

  def count(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    last = position + (number // replicas + 1) * global_batch_size - 1
    return {**batch, 'position': tf.fill([batch_size], last)}

  batches = batches.enumerate().map(count).prefetch(tf.data.AUTOTUNE)
  return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _records(
  dataset: Dataset, seed: int, position: int, shuffle_buffer: int, num_readers: int
) -> tf.data.Dataset:
  """Endless pairs (place, record), shard after shard: its source is what the service deals out."""
  dataset = record_order.counted(dataset)
  sizes = np.array(dataset.shard_sizes, np.int64)
  paths, starts, number = list(dataset.paths), np.cumsum(sizes) - sizes, len(sizes)
  total = int(sizes.sum())

  def records_of(turn: tf.Tensor) -> tf.data.Dataset:
    epoch = turn // number
    seeds = tf.random.fold_in([tf.cast(seed, tf.int64), epoch], position)
    shard = tf.random.experimental.stateless_shuffle(tf.range(number), seeds)[turn % number]
    found = tf.data.TFRecordDataset(tf.gather(paths, shard))
    return found.enumerate(epoch * total + tf.gather(starts, shard))

  turns = tf.data.Dataset.range(position // total * number, tf.int64.max)
  found = turns.interleave(records_of, min(num_readers, number))
  return found.shuffle(min(shuffle_buffer, total), seed)


class Watched:
  """Batches of a service, with an end if it does not give any more: TensorFlow waits for ever.

  Args:
    batches: what to take.
    data_service: HOST:PORT of the dispatcher.
  """

  def __init__(self, batches: Iterator, data_service: str):
    self._data_service = data_service
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
        found = self._taken.get(timeout=_ASK_SECS)
        break
      except queue.Empty:
        connect(self._data_service, _ASK_SECS)
      if time.monotonic() - since > SILENCE_SECS:
        raise ConnectionError(
          f'The data service at {self._data_service} has given no batch for {SILENCE_SECS:.0f} s: '
          'are its workers running (slim-inception data-service --role=worker)?'
        )
    if isinstance(found, Exception):
      raise found
    return found
