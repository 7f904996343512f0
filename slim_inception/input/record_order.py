"""The order in which training goes through records: a function of seed and position alone.

An epoch is its shards, shuffled and put end to end, and cut in lanes of consecutive records whose
lengths differ by one at most. Lanes are read side by side and take turns: position q of an epoch
comes from lane q % num_lanes. In a lane, window after window of records is shuffled as a whole.

So the place of every record can be counted without reading it. Going on at a position reads a
window again at most; and workers that take turns in the positions read lanes of their own.
"""

import concurrent.futures
import dataclasses
import math

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.datasets import shards
from slim_inception.datasets.dataset_factory import Dataset


def records_from(
  dataset: Dataset,
  *,
  seed: int,
  position: int,
  num_lanes: int,
  window: int,
  worker: int = 0,
  num_workers: int = 1,
) -> tf.data.Dataset:
  """Endless pairs (place, record): int64 scalar, counted over all epochs, and string scalar.

  The places are those from `position` on with place % num_workers == worker. A worker reads the
  lanes that can have such places: its own alone where num_workers divides num_lanes. A lane begins
  inside a shard as a rule, and passes over what is before.

  Args:
    dataset: what to read.
    seed: of the order.
    position: first place.
    num_lanes: lanes of an epoch.
    window: records shuffled together, dealt out to the lanes; with the next ones, which are read
      meanwhile, up to three times as many are held.
    worker: which of `num_workers`.
    num_workers: that share the records; the order is the same whatever their number.

  Raises:
    ValueError, OSError: a shard that has to be counted is damaged or not there.
  """
  dataset = counted(dataset)
  by_path = sorted(zip(dataset.paths, dataset.shard_sizes, strict=True))
  paths, sizes = map(np.array, zip(*by_path, strict=True))
  total = sum(dataset.shard_sizes)
  window = -(-window // num_lanes)
  stride = math.gcd(num_workers, num_lanes)

  def lane_from(first: tf.Tensor) -> tf.data.Dataset:
    """The records of places first, first + num_lanes, ..."""

    def windows_of(epoch: tf.Tensor) -> tf.data.Dataset:
      lane = (first - epoch * total) % num_lanes
      begin = lane * (total // num_lanes) + tf.minimum(lane, total % num_lanes)
      end = begin + total // num_lanes + tf.cast(lane < total % num_lanes, tf.int64)
      done = (
        tf.maximum(first - epoch * total, 0) // num_lanes // window
      )  # 0 but for the first epoch
      found = _read(paths, sizes, [seed, tf.cast(epoch, tf.int32)], begin + done * window, end)
      seeds = tf.random.fold_in([tf.cast(seed, tf.int64), epoch], lane)

      def shuffle(number: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(records, tf.random.fold_in(seeds, number))

      return found.batch(window).enumerate(done).map(shuffle)

    windows = tf.data.Dataset.range(first // total, tf.int64.max).flat_map(windows_of)
    return windows.prefetch(1).unbatch().skip(first % total // num_lanes % window)

  first = position + (worker - position) % stride
  firsts = np.arange(first, first + num_lanes, stride, dtype=np.int64)
  found = tf.data.Dataset.from_tensor_slices(firsts).interleave(lane_from, len(firsts))
  numbered = tf.data.Dataset.zip(tf.data.Dataset.range(first, tf.int64.max, stride), found)
  if stride == num_workers:
    return numbered
  return numbered.filter(lambda place, _: place % num_workers == worker)


def _read(
  paths: np.ndarray, sizes: np.ndarray, seeds: list, begin: tf.Tensor, end: tf.Tensor
) -> tf.data.Dataset:
  """Records `begin` to `end` of the shards in the order that the seeds give."""
  order = tf.random.experimental.stateless_shuffle(tf.range(len(paths)), seeds)
  bounds = tf.concat([[0], tf.cumsum(tf.gather(tf.constant(sizes, tf.int64), order))], 0)
  first = tf.searchsorted(bounds[1:], begin[tf.newaxis], 'right')[0]
  last = tf.searchsorted(bounds[1:], end[tf.newaxis], 'left')[0]
  files = tf.gather(paths, order)[first : last + 1]
  found = tf.data.TFRecordDataset(files).skip(begin - bounds[first]).take(end - begin)
  # Places are counted: a record less would move all that follow, without a word.
  return found.apply(tf.data.experimental.assert_cardinality(end - begin))


def counted(dataset: Dataset) -> Dataset:
  """The data set with the numbers of records of its shards: from `dataset.json`, or counted.

  Raises:
    ValueError, OSError: a shard is damaged or not there.
  """
  if dataset.shard_sizes is not None:
    return dataset
  logging.info('Counting the records of %d shards: no dataset.json does', len(dataset.paths))
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    sizes = tuple(pool.map(lambda path: shards.count_records([path]), dataset.paths))
  return dataclasses.replace(dataset, shard_sizes=sizes, num_samples=sum(sizes))
