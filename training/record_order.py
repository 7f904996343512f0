"""The order in which training goes through records: a function of seed and position alone.

The shards of an epoch are shuffled and dealt out to lanes, which are read side by side, a record of
each in turn. What comes is cut in windows, and each window is shuffled as a whole. So the place of
every record can be counted without reading it, and going on in the middle of an epoch reads one
window again at most.
"""

import concurrent.futures
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from datasets import dataset_info, shards
from datasets.dataset_factory import Dataset

_READ_AHEAD = 16  # records a lane


def records_from(
  dataset: Dataset, *, seed: int, position: int, num_lanes: int, window: int
) -> tf.data.Dataset:
  """Endless pairs (place, record): int64 scalar, counted over all epochs, and string scalar.

  Args:
    dataset: what to read.
    seed: of the order.
    position: first place.
    num_lanes: shards read side by side.
    window: records shuffled together; up to three times as many are held.

  Raises:
    ValueError, OSError: a shard that has to be counted is damaged or not there.
  """
  paths = tuple(sorted(dataset.paths))
  num_lanes = min(num_lanes, len(paths))
  start, within = divmod(position, dataset.num_samples)
  done_windows = within // window
  # Of the epoch that is begun in the middle; zero of all others.
  shards_done = np.zeros(num_lanes, np.int64)
  records_done = np.zeros(num_lanes, np.int64)
  turn = 0
  if done_windows:
    lanes = [_shuffled(paths, seed, start).numpy()[i::num_lanes] for i in range(num_lanes)]
    counts = count_shards([os.fsdecode(path) for lane in lanes for path in lane])
    in_lanes = [[counts[os.fsdecode(path)] for path in lane] for lane in lanes]
    taken, turn = take_turns(done_windows * window, [sum(lane) for lane in in_lanes])
    for i, (lane, number) in enumerate(zip(in_lanes, taken, strict=True)):
      ends = np.cumsum(lane)
      shards_done[i] = np.searchsorted(ends, number, side='right')
      records_done[i] = number - (ends[shards_done[i] - 1] if shards_done[i] else 0)

  def epoch_of_records(epoch: tf.Tensor) -> tf.data.Dataset:
    order = _shuffled(paths, seed, epoch)
    is_first = tf.cast(epoch == start, tf.int64)

    def lane_of_records(number: tf.Tensor) -> tf.data.Dataset:
      lane = (number + turn * is_first) % num_lanes
      left = order[lane::num_lanes][tf.gather(shards_done, lane) * is_first :]
      begun = tf.data.TFRecordDataset(left[:1]).skip(tf.gather(records_done, lane) * is_first)
      return begun.concatenate(tf.data.TFRecordDataset(left[1:])).prefetch(_READ_AHEAD)

    def shuffle(number: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
      seeds = tf.random.fold_in([tf.cast(seed, tf.int64), epoch], number)
      return tf.random.experimental.stateless_shuffle(found, seeds)

    first_window = done_windows * is_first
    found = tf.data.Dataset.range(num_lanes).interleave(lane_of_records, cycle_length=num_lanes)
    windows = found.batch(window).enumerate(first_window).map(shuffle).prefetch(1)
    first = epoch * dataset.num_samples
    return (
      windows.unbatch()
      .enumerate(first + first_window * window)
      .skip(tf.maximum(position - first - first_window * window, 0))
    )

  return tf.data.Dataset.range(start, tf.int64.max).flat_map(epoch_of_records)


def _shuffled(paths: Sequence[str], seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
  return tf.random.experimental.stateless_shuffle(
    tf.constant(paths), [seed, tf.cast(epoch, tf.int32)]
  )


def take_turns(count: int, lengths: Sequence[int]) -> tuple[list[int], int]:
  """How `count` records are taken from lanes that take turns, lanes at their end left out.

  Returns:
    Records taken of each lane, and the lane whose turn it is.
  """
  taken = [0] * len(lengths)
  while True:
    open_lanes = [i for i, length in enumerate(lengths) if taken[i] < length]
    if count < len(open_lanes) or not open_lanes:
      break
    rounds = min(count // len(open_lanes), *(lengths[i] - taken[i] for i in open_lanes))
    for i in open_lanes:
      taken[i] += rounds
    count -= rounds * len(open_lanes)
  for i in open_lanes[:count]:
    taken[i] += 1
  return taken, open_lanes[count] if open_lanes else 0


def count_shards(paths: Sequence[str]) -> dict[str, int]:
  """{path: records}: from `dataset.json`, or by the framing where there is none."""
  info = dataset_info.read_info(os.path.dirname(paths[0]))
  listed = [shard for split in info.splits.values() for shard in split.shards] if info else []
  known = {shard.name: shard.num_images for shard in listed}
  unknown = [path for path in paths if os.path.basename(path) not in known]
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    counted = dict(zip(unknown, pool.map(_count, unknown), strict=True))
  return {path: counted.get(path, known.get(os.path.basename(path))) for path in paths}


def _count(path: str) -> int:
  return shards.count_records([path])
