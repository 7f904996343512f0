"""The order in which training goes through records: a function of seed and record index alone.

An epoch is its shards, shuffled and put end to end, and cut into a section of consecutive records
for each reader, whose lengths differ by one at most. Readers go side by side and take turns: record
q of an epoch comes from reader q % num_readers. Each shuffles window after window of its records.

So the index of every record can be counted without reading it. Going on at an index reads a window
again at most; and workers that take turns in the indices have readers of their own.
"""

import concurrent.futures
import dataclasses
import math
import os

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.datasets import dataset_info, shards
from slim_inception.datasets.dataset_factory import Dataset

# Windows that are held at once: one that is read, one that waits, one that is given out.
# Measured with records of 1 MB: 2.2 to 3.1.
_HELD = 3


def records_from(
  dataset: Dataset,
  *,
  seed: int,
  first: int,
  num_readers: int,
  window: int,
  worker: int = 0,
  num_workers: int = 1,
) -> tf.data.Dataset:
  """Endless pairs (record index, record): int64 scalar, over all epochs, and string scalar.

  The indices are those from `first` on with index % num_workers == worker. A worker has the readers
  that can come to such indices: its own alone where num_workers divides num_readers. A reader
  begins inside a shard as a rule, and passes over what is before.

  Args:
    dataset: what to read.
    seed: of the order.
    first: index of the first record.
    num_readers: readers of an epoch.
    window: records shuffled together, divided among the readers; see `shuffle_window`.
    worker: which of `num_workers`.
    num_workers: that share the records; the order is the same whatever their number.

  Raises:
    ValueError, OSError: a shard that has to be counted is damaged or not there.
  """
  epochs = _Epochs(dataset, seed, num_readers, -(-window // num_readers))
  stride = math.gcd(num_workers, num_readers)
  begin = first + (worker - first) % stride
  begins = np.arange(begin, begin + num_readers, stride, dtype=np.int64)
  records = tf.data.Dataset.from_tensor_slices(begins).interleave(epochs.reader_from, len(begins))
  numbered = tf.data.Dataset.zip(tf.data.Dataset.range(begin, tf.int64.max, stride), records)
  if stride == num_workers:
    return numbered
  return numbered.filter(lambda index, _: index % num_workers == worker)


class _Epochs:
  """What one reader reads in one epoch, in windows."""

  def __init__(self, dataset: Dataset, seed: int, num_readers: int, window: int):
    by_path = sorted(zip(dataset.paths, shard_sizes(dataset), strict=True))
    self._paths, self._sizes = map(np.array, zip(*by_path, strict=True))
    self._total = int(self._sizes.sum())
    self._seed, self._num_readers, self._window = seed, num_readers, window

  @tf.autograph.experimental.do_not_convert
  def reader_from(self, begin: tf.Tensor) -> tf.data.Dataset:
    """The records with indices begin, begin + num_readers, ..."""
    epochs = tf.data.Dataset.range(begin // self._total, tf.int64.max)
    windows = epochs.flat_map(lambda epoch: self._windows(begin, epoch))
    done_of_window = begin % self._total // self._num_readers % self._window
    return windows.prefetch(1).unbatch().skip(done_of_window)

  def _windows(self, begin: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
    """The shuffled windows of an epoch, from the one that has record `begin` on."""
    total, num_readers = self._total, self._num_readers
    reader = (begin - epoch * total) % num_readers
    start = reader * (total // num_readers) + tf.minimum(reader, total % num_readers)
    end = start + total // num_readers + tf.cast(reader < total % num_readers, tf.int64)
    # Windows that are done: 0 but for the first epoch.
    done = tf.maximum(begin - epoch * total, 0) // num_readers // self._window
    records = self._read(epoch, start + done * self._window, end)
    seeds = tf.random.fold_in([tf.cast(self._seed, tf.int64), epoch], reader)

    def shuffle(number: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
      return tf.random.experimental.stateless_shuffle(window, tf.random.fold_in(seeds, number))

    return records.batch(self._window).enumerate(done).map(shuffle)

  def _read(self, epoch: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
    """Records `begin` to `end` of the shards in the epoch's order."""
    seeds = [self._seed, tf.cast(epoch, tf.int32)]
    order = tf.random.experimental.stateless_shuffle(tf.range(len(self._paths)), seeds)
    sizes = tf.gather(tf.constant(self._sizes, tf.int64), order)
    bounds = tf.concat([[0], tf.cumsum(sizes)], 0)
    first = tf.searchsorted(bounds[1:], begin[tf.newaxis], 'right')[0]
    last = tf.searchsorted(bounds[1:], end[tf.newaxis], 'left')[0]
    paths = tf.gather(self._paths, order)[first : last + 1]
    # Indices are counted: a record less or more would move all that follow, without a word.
    is_last = end == self._total
    records = tf.data.TFRecordDataset(paths).skip(begin - bounds[first])
    records = records.take(tf.where(is_last, tf.constant(-1, tf.int64), end - begin))
    return records.apply(tf.data.experimental.assert_cardinality(end - begin))


def shuffle_window(dataset: Dataset, most_records: int, most_bytes: int) -> int:
  """How many records can be shuffled together: `most_records` where memory is enough.

  Args:
    dataset: records of a mean size that the sizes of its files say; others may be larger.
    most_records: as many where they fit.
    most_bytes: that may be held, with the next windows, which are read meanwhile.
  """
  size = mean_bytes(dataset)
  return max(1, min(most_records, int(most_bytes / (_HELD * size)) if size else most_records))


def shuffle_bytes(dataset: Dataset, window: int) -> float:
  """What is held at most to shuffle so many records together, if all are of mean size."""
  return _HELD * min(window, dataset.num_samples) * mean_bytes(dataset)


def mean_bytes(dataset: Dataset) -> float:
  """Of a record on disk; 0 for noise."""
  return sum(map(os.path.getsize, dataset.paths)) / max(1, dataset.num_samples)


def counted(dataset: Dataset) -> Dataset:
  """The data set with the numbers of records of its shards: from `dataset.json`, or counted.

  Raises:
    ValueError, OSError: a shard is damaged or not there.
  """
  sizes = shard_sizes(dataset)
  return dataclasses.replace(dataset, shard_sizes=sizes, num_samples=sum(sizes))


def shard_sizes(dataset: Dataset) -> tuple[int, ...]:
  """The numbers of records of the shards, see `counted`."""
  if dataset.shard_sizes is not None:
    return dataset.shard_sizes
  logging.info('Counting the records of %d shards: no dataset.json does', len(dataset.paths))
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    return tuple(pool.map(lambda path: shards.count_records([path]), dataset.paths))


def miscounted(dataset: Dataset) -> str:
  """Says which shard has another number of records than the data set says, and both numbers."""
  for path, expected in zip(dataset.paths, shard_sizes(dataset), strict=True):
    number = shards.count_records([path])
    if number != expected:
      info_path = os.path.join(os.path.dirname(path), dataset_info.INFO_FILE)
      before = f'it had {expected} when they were counted'
      if os.path.exists(info_path):
        before = f'{info_path} says {expected}'
      return f'{path} has {number} records, {before}'
  return f'{dataset.name} {dataset.split_name} has other records than it had at the start'


def sharing_advice(num_readers: int, num_workers: int) -> str:
  """What to say where workers cannot have readers of their own; '' where they can."""
  own = math.gcd(num_readers, num_workers)
  if own == num_workers:
    return ''
  return (
    f'--num_readers={num_readers} is no multiple of the {num_workers} workers: each reads '
    f'{f"1/{own} of the" if own > 1 else "all"} records to keep 1/{num_workers}; with '
    f'--num_readers={-(-num_readers // num_workers) * num_workers} it reads its own alone (in '
    'another order)'
  )
