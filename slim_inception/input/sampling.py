"""Records drawn by class or by set: which, is a function of seed and record index alone.

The sets of a mixture take turns in blocks in which each has its share; within a set, or in all
records where there is no mixture, classes take turns in rounds in which each comes once; and a
class goes through its records pass after pass. Blocks, rounds and passes are shuffled, each in an
order of its own. So after any block and round a class has been drawn as often as another, and each
of its records as often as another, but for one.

There are no readers that go side by side, as in `record_order`: an index says where a record is.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.datasets import joined, record_index, shards
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import record_order

_CHUNK = 16  # records that are read in one go
_PARTS = 10_000  # of a block of several sets, at most, give or take their number


@dataclasses.dataclass(frozen=True)
class Sampling:
  """What is drawn of records.

  Attributes:
    balanced: each class equally often, in each set of a mixture.
    mixture: the proportions of the sets that the data set is joined of; () for all of them as one.
  """

  balanced: bool = False
  mixture: tuple[float, ...] = ()

  @property
  def is_uniform(self) -> bool:
    """Whether each record comes once an epoch, which is the matter of `record_order`."""
    return not self.balanced and not self.mixture


UNIFORM = Sampling()


class RecordError(ValueError):
  """A record cannot be read; TensorFlow passes on the name of this class and the message."""


def message_of(error: tf.errors.OpError) -> str | None:
  """What a `RecordError` said that TensorFlow has made another error of; None: it is none."""
  match = re.search(rf'{RecordError.__name__}: (.*)', error.message)
  return match and match[1]


def records_from(
  dataset: Dataset,
  sampling: Sampling,
  *,
  seed: int,
  first: int,
  worker: int = 0,
  num_workers: int = 1,
  num_threads: int | None = None,
) -> tf.data.Dataset:
  """Endless pairs (record index, record), as those of `record_order.records_from`.

  Args:
    dataset: what to read, of one set or of several.
    sampling: what is drawn of it.
    seed: of the order.
    first: index of the first record.
    worker: which of `num_workers`, who take turns in the indices.
    num_workers: that share the records; the order is the same whatever their number.
    num_threads: that read; None: as many as there are cores.

  Raises:
    ValueError, OSError: see `Draws`.
  """
  draws = Draws(dataset, sampling, seed)

  def read(indices: np.ndarray) -> np.ndarray:
    return np.array([draws.read(int(index)) for index in indices], object)

  def read_chunk(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    records = tf.numpy_function(read, [indices], tf.string)
    return indices, tf.ensure_shape(records, indices.shape)

  begin = first + (worker - first) % num_workers
  chunks = tf.data.Dataset.range(begin, tf.int64.max, num_workers).batch(_CHUNK)
  threads = num_threads or tf.data.AUTOTUNE
  return chunks.map(read_chunk, num_parallel_calls=threads, deterministic=True).unbatch()


class _Group(NamedTuple):
  """What takes turns in a round: the records of each class of a set, or all of them.

  Attributes:
    records: by class, indices of records.
    share: turns in a block.
  """

  records: Sequence[np.ndarray]
  share: int


class Draws:
  """Which record each index is.

  Args:
    dataset: what to read.
    sampling: what is drawn of it.
    seed: of the order.

  Raises:
    ValueError: a shard is damaged, has another number of records than was said, or an image has no
      label or several where classes are to come equally often.
    OSError: a shard cannot be read.
  """

  def __init__(self, dataset: Dataset, sampling: Sampling, seed: int):
    indices = [_index_of(part) for part in joined.parts(dataset)]
    self._paths = [path for part in joined.parts(dataset) for path in sorted(part.paths)]
    firsts = np.cumsum([0, *(len(part.paths) for part in joined.parts(dataset)[:-1])])
    self._shards = np.concatenate(
      [index.shards + first for index, first in zip(indices, firsts, strict=True)]
    )
    self._offsets = np.concatenate([index.offsets for index in indices])
    self._sizes = np.concatenate([index.sizes for index in indices])
    self._seed = seed
    self._groups = list(_groups([index.labels for index in indices], sampling, dataset.name))
    self._turns = np.repeat(range(len(self._groups)), [group.share for group in self._groups])
    self._first_turns = np.searchsorted(self._turns, range(len(self._groups)))
    permutations = 2 * sum(len(group.records) + 1 for group in self._groups) + 2
    self._shuffled = functools.lru_cache(permutations)(shuffled)  # those in use, and their next

  def position(self, index: int) -> int:
    """Which of the records, in the order of sets and shards, has a record index."""
    block, place = divmod(index, len(self._turns))
    turn = self._shuffle(place, len(self._turns), 0, block)
    number = int(self._turns[turn])
    group = self._groups[number]
    drawn = block * group.share + turn - int(self._first_turns[number])  # of this group, before
    round_, place = divmod(drawn, len(group.records))
    chosen = self._shuffle(place, len(group.records), 1, number, round_)
    of_class = group.records[chosen]
    pass_, place = divmod(round_, len(of_class))
    return int(of_class[self._shuffle(place, len(of_class), 2, number, chosen, pass_)])

  def _shuffle(self, place: int, size: int, *key: int) -> int:
    """What comes at a place of so many in the order that has a key."""
    return int(self._shuffled(size, (self._seed, *key))[place]) if size > 1 else 0

  def read(self, index: int) -> bytes:
    """The record of an index; raises RecordError where it cannot be read."""
    position = self.position(index)
    offset, size = (int(values[position]) for values in (self._offsets, self._sizes))
    try:
      return shards.read_record(self._paths[self._shards[position]], offset, size)
    except (OSError, ValueError) as error:
      raise RecordError(str(error)) from error


def _index_of(dataset: Dataset) -> record_index.RecordIndex:
  index = record_index.read(sorted(dataset.paths), dataset.split_name, dataset.schema)
  if len(index.labels) != dataset.num_samples:
    raise ValueError(record_order.miscounted(dataset))
  return index


def _groups(labels: Sequence[np.ndarray], sampling: Sampling, name: str) -> list[_Group]:
  """Groups of records by set, if sets are mixed, and in each by class, if these are balanced.

  Args:
    labels: of the records of each set.
    sampling: what is drawn.
    name: of the data set, for messages.
  """
  if not sampling.mixture:
    labels = [np.concatenate(labels)]
  groups, first = [], 0
  for of_set, share in zip(labels, shares_of(sampling.mixture or (1.0,)), strict=True):
    records = np.arange(first, first + len(of_set))
    first += len(of_set)
    classes = [records]
    if sampling.balanced:
      if np.any(of_set == record_index.MANY):
        raise ValueError(f'--sampling=balanced: each image of {name} must have one label')
      by_label = np.argsort(of_set, kind='stable')
      bounds = np.flatnonzero(np.diff(of_set[by_label])) + 1
      classes = np.split(records[by_label], bounds)
    groups.append(_Group(classes, share))
  return groups


def shares_of(mixture: Sequence[float]) -> list[int]:
  """Turns of each set in a block: proportions in whole numbers, to a ten-thousandth of all."""
  parts = [max(1, round(_PARTS * weight / sum(mixture))) for weight in mixture]
  divisor = int(np.gcd.reduce(parts))
  return [part // divisor for part in parts]


def shuffled(size: int, key: Iterable[int]) -> np.ndarray:
  """[size] integers: a permutation that depends on the key alone, on no version of a generator."""
  seed = np.zeros(1, np.uint64)
  for part in key:
    seed = _mixed(seed ^ np.uint64(part % 2**64))
  return np.argsort(_mixed(np.arange(size, dtype=np.uint64) + seed), kind='stable')


def _mixed(bits: np.ndarray) -> np.ndarray:
  """SplitMix64 (Steele, Lea and Flood 2014) of [N] uint64: one to one, each bit depends on all."""
  bits = bits + np.uint64(0x9E3779B97F4A7C15)
  bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
  bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
  return bits ^ bits >> np.uint64(31)


def describe(dataset: Dataset, sampling: Sampling, places: Sequence[str]) -> str:
  """What is drawn how often, in words.

  Args:
    dataset: what is read.
    sampling: what is drawn of it.
    places: of the sets that it is joined of.
  """
  texts = []
  if sampling.mixture:
    shares, total = shares_of(sampling.mixture), dataset.num_samples
    for share, part, place in zip(shares, joined.parts(dataset), places, strict=True):
      number = part.num_samples
      times = f'{total * share / sum(shares) / number:.3g} times an epoch'
      each = f'{times} on average' if sampling.balanced else f'each {times}'
      texts.append(f'{share / sum(shares):.2%} of {place} ({number:,} images, {each})')
  if sampling.balanced:
    texts.append('each class equally often' + (' in each set' if sampling.mixture else ''))
  return f'Images are drawn: {", ".join(texts)}'
