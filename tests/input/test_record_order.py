"""The order of the records: what it must be, whoever reads and wherever they begin."""

import dataclasses
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import hypothesis
import pytest
from hypothesis import strategies
from slim_inception.datasets import dataset_factory, shards

from slim_inception.input import record_order

COUNTS = (5, 1, 0, 9, 3, 4)  # records of each shard
NUMBER = sum(COUNTS)


def write(directory, counts):
  paths = [directory / shards.shard_name('train', i, len(counts)) for i in range(len(counts))]
  for i, (path, count) in enumerate(zip(paths, counts, strict=True)):
    shards.write_shard(path, [[f'{i}/{j}'.encode()] for j in range(count)])
  paths = tuple(map(str, paths))
  return dataset_factory.Dataset(
    'x', 'train', paths, sum(counts), 2, {}, (0, 1), shard_sizes=tuple(counts)
  )


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return write(tmp_path_factory.mktemp('records'), COUNTS)


def read(dataset, number, first=0, seed=3, num_readers=2, window=4, **kwargs):
  records = record_order.records_from(
    dataset, seed=seed, first=first, num_readers=num_readers, window=window, **kwargs
  )
  return [(int(i), r.decode()) for i, r in itertools.islice(records.as_numpy_iterator(), number)]


@hypothesis.settings(max_examples=3, derandomize=True, database=None, deadline=None)
@hypothesis.given(
  counts=strategies.lists(strategies.integers(0, 9), min_size=1, max_size=6).filter(any),
  first=strategies.integers(0, 60),
  num_readers=strategies.integers(1, 5),
  window=strategies.integers(1, 30),
  num_workers=strategies.integers(1, 4),
)
@hypothesis.example(counts=[0, 0, 2], first=5, num_readers=4, window=8, num_workers=2)
@hypothesis.example(counts=list(COUNTS), first=9, num_readers=4, window=10, num_workers=2)
@hypothesis.example(counts=list(COUNTS), first=21, num_readers=4, window=4, num_workers=6)
def test_epochs_are_permutations_and_starts_and_workers_change_nothing(
  counts, first, num_readers, window, num_workers
):
  """Whatever the shards, readers, windows and workers."""
  with tempfile.TemporaryDirectory() as folder:
    dataset, total = write(pathlib.Path(folder), counts), sum(counts)
    order = {'num_readers': num_readers, 'window': window}
    whole = read(dataset, first // total * total + 2 * total, **order)
    assert [index for index, _ in whole] == list(range(len(whole)))
    for start in range(0, len(whole), total):
      assert len({record for _, record in whole[start : start + total]}) == total
    assert read(dataset, len(whole) - first, first, **order) == whole[first:]
    for worker in {first % num_workers, num_workers - 1}:
      own = [pair for pair in whole[first:] if pair[0] % num_workers == worker]
      share = {'worker': worker, 'num_workers': num_workers}
      assert read(dataset, len(own), first, **order, **share) == own


def test_every_epoch_and_seed_has_an_order_of_its_own(dataset):
  records = [record for _, record in read(dataset, 3 * NUMBER)]
  epochs = [records[i : i + NUMBER] for i in (0, NUMBER, 2 * NUMBER)]
  epochs.append([record for _, record in read(dataset, NUMBER, seed=4)])
  assert len(set(map(tuple, epochs))) == 4


@pytest.mark.parametrize('num_readers', [4, 25])
def test_sections_of_the_readers_end_to_end_are_the_shards(dataset, num_readers):
  """A window of one record a reader shuffles nothing but the shards."""
  records = [record for _, record in read(dataset, NUMBER, num_readers=num_readers, window=1)]
  epoch = [record for reader in range(num_readers) for record in records[reader::num_readers]]
  in_order = [list(group) for _, group in itertools.groupby(epoch, lambda r: r.split('/')[0])]
  assert sorted(in_order) == [
    [f'{i}/{j}' for j in range(count)] for i, count in enumerate(COUNTS) if count
  ]


def test_a_window_is_shuffled_within_a_reader(dataset):
  plain, shuffled = (
    [record for _, record in read(dataset, NUMBER, window=window)] for window in (1, 10)
  )
  for reader in range(2):
    for start in range(0, NUMBER // 2, 5):
      a, b = (records[reader::2][start : start + 5] for records in (plain, shuffled))
      assert sorted(a) == sorted(b)
  assert plain != shuffled


@pytest.mark.parametrize(('num_readers', 'workers'), [(4, 2), (2, 4)])
def test_a_worker_opens_no_file_but_those_of_its_readers(tmp_path, num_readers, workers):
  """The others may be gone."""
  dataset = write(tmp_path, [5] * 24)
  whole = read(dataset, 120, num_readers=num_readers)
  opened = 0
  for worker in range(workers):
    readers = range(worker % num_readers, num_readers, workers)
    own = {int(r.split('/')[0]) for reader in readers for _, r in whole[reader::num_readers]}
    opened += len(own)
    (tmp_path / f'of {worker}').mkdir()
    paths = [str(tmp_path / f'of {worker}' / pathlib.Path(path).name) for path in dataset.paths]
    for i in own:
      shutil.copy(dataset.paths[i], paths[i])
    moved = dataclasses.replace(dataset, paths=tuple(paths))
    order = {'num_readers': num_readers, 'worker': worker, 'num_workers': workers}
    assert read(moved, 120 // workers, **order) == whole[worker::workers]
  assert opened <= max(1, workers // num_readers) * (24 + num_readers)


def test_what_lies_before_a_position_is_not_read(dataset, tmp_path):
  """Shards that are behind may be gone."""
  paths = [shutil.copy(path, tmp_path) for path in dataset.paths]
  moved = dataclasses.replace(dataset, paths=tuple(map(str, paths)))
  whole = read(moved, NUMBER, num_readers=1)
  last = {record.split('/')[0] for _, record in whole[16:]}
  gone = [path for i, path in enumerate(paths) if str(i) not in last and COUNTS[i]]
  for path in gone:
    pathlib.Path(path).unlink()
  assert gone
  assert read(moved, 6, 16, num_readers=1) == whole[16:]


@pytest.mark.parametrize(
  ('most_records', 'most_bytes', 'expected'),
  [(6, 10**9, 6), (6, 3 * 4 * 1016, 4), (6, 3 * 4 * 1016 - 1, 3), (6, 1, 1)],
)
def test_a_window_is_bounded_by_the_bytes_of_records(tmp_path, most_records, most_bytes, expected):
  """Three windows of records are held, each of 1000 bytes and 16 of the framing."""
  path = tmp_path / 'train-00000-of-00001'
  shards.write_shard(path, [[bytes(500 + 100 * i)] for i in range(11)])
  dataset = dataset_factory.Dataset('x', 'train', (str(path),), 11, 2, {}, (0, 1))
  assert record_order.shuffle_window(dataset, most_records, most_bytes) == expected
  assert record_order.shuffle_bytes(dataset, expected) == 3 * expected * 1016
  assert record_order.shuffle_bytes(dataset, 4096) == 3 * 11 * 1016  # there are no more
  noise = dataset_factory.synthetic('train')
  assert record_order.shuffle_window(noise, most_records, most_bytes) == most_records


HELD = """
import sys, tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.input import record_order

def held():
  with open('/proc/self/statm') as file:
    return int(file.read().split()[1]) * 4096

paths, sizes = tuple(sys.argv[1:]), (40,) * 4
dataset = dataset_factory.Dataset('x', 'train', paths, 160, 2, {}, (0, 1), shard_sizes=sizes)
for most in (48 << 20, 10**11):
  window = record_order.shuffle_window(dataset, 4096, most)
  records = record_order.records_from(dataset, seed=1, first=0, num_readers=4, window=window)
  next(iter(tf.data.Dataset.range(2)))
  before = held()
  print(window, max(held() - before for _ in zip(range(200), records)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='Linux has it')
def test_large_records_take_no_more_memory_than_is_allowed(tmp_path):
  """The memory of another process: 160 records of 1 MB, of which all would be one window."""
  paths = [str(tmp_path / shards.shard_name('train', i, 4)) for i in range(4)]
  for path in paths:
    shards.write_shard(path, [[bytes(1 << 20)] for _ in range(40)])
  command = [sys.executable, '-c', HELD, *paths]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  (window, bounded), (whole, unbounded) = (
    map(int, line.split()) for line in done.stdout.split('\n')[:2]
  )
  assert (window, whole) == (15, 4096)
  assert bounded < 80 << 20
  assert unbounded > 140 << 20


def test_records_that_nobody_has_counted_are(dataset):
  unknown = dataclasses.replace(dataset, shard_sizes=None, num_samples=99)
  found = record_order.counted(unknown)
  assert (found.shard_sizes, found.num_samples) == (COUNTS, NUMBER)
  assert read(unknown, 50) == read(dataset, 50)
