"""The order of the records: what it must be, whoever reads and wherever they begin."""

import dataclasses
import itertools
import pathlib
import shutil

import pytest
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


def read(dataset, number, first=0, seed=3, readers=2, window=4, **kwargs):
  found = record_order.records_from(
    dataset, seed=seed, first=first, num_readers=readers, window=window, **kwargs
  )
  return [(int(p), r.decode()) for p, r in itertools.islice(found.as_numpy_iterator(), number)]


@pytest.mark.parametrize(('readers', 'window'), [(3, 1), (30, 60), (4, 10)])
def test_it_goes_on_anywhere_as_if_it_had_not_stopped(dataset, readers, window):
  whole = read(dataset, 3 * NUMBER + 2, readers=readers, window=window)
  assert [index for index, _ in whole] == list(range(len(whole)))
  epochs = [[record for _, record in whole[i : i + NUMBER]] for i in (0, NUMBER, 2 * NUMBER)]
  assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
  assert len(set(epochs[0])) == NUMBER
  assert epochs[0] != epochs[1] != epochs[2]
  for first in (8, NUMBER + 19):
    rest = read(dataset, NUMBER + 2, first, readers=readers, window=window)
    assert rest == whole[first:][: len(rest)]


@pytest.mark.parametrize('counts', [(7,), (0, 0, 2)])
def test_small_sets(tmp_path, counts):
  """One shard; fewer records than readers."""
  dataset, total = write(tmp_path, counts), sum(counts)
  whole = read(dataset, 5 * total, readers=4, window=8)
  for i in range(0, 5 * total, total):
    assert len({record for _, record in whole[i : i + total]}) == total
  assert read(dataset, total, 2 * total + 1, readers=4, window=8) == whole[2 * total + 1 :][:total]
  for i in range(2):
    rest = read(dataset, total, 1, readers=4, window=8, worker=i, num_workers=2)
    assert rest == [(index, record) for index, record in whole[1:] if index % 2 == i][:total]


@pytest.mark.parametrize('readers', [4, 25])
def test_readers_end_to_end_are_the_shards(dataset, readers):
  """A window of one record a reader shuffles nothing but the shards."""
  found = [record for _, record in read(dataset, NUMBER, readers=readers, window=1)]
  epoch = [record for reader in range(readers) for record in found[reader::readers]]
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
      a, b = (found[reader::2][start : start + 5] for found in (plain, shuffled))
      assert sorted(a) == sorted(b)
  assert plain != shuffled


@pytest.mark.parametrize(
  ('readers', 'workers', 'first'), [(4, 2, 9), (6, 3, 21), (3, 2, 0), (4, 6, 7)]
)
def test_workers_take_turns_in_the_same_order(dataset, readers, workers, first):
  """Also where the readers cannot be divided evenly."""
  whole = read(dataset, 60, first, readers=readers)
  for worker in range(min(workers, 3)):
    own = [(index, record) for index, record in whole if index % workers == worker]
    found = read(dataset, len(own), first, readers=readers, worker=worker, num_workers=workers)
    assert found == own


@pytest.mark.parametrize(('readers', 'workers'), [(4, 2), (2, 4)])
def test_a_worker_opens_no_file_but_those_of_its_readers(tmp_path, readers, workers):
  """The others may be gone."""
  dataset = write(tmp_path, [5] * 24)
  whole = read(dataset, 120, readers=readers)
  opened = 0
  for worker in range(workers):
    own_readers = range(worker % readers, readers, workers)
    own = {int(r.split('/')[0]) for reader in own_readers for _, r in whole[reader::readers]}
    opened += len(own)
    (tmp_path / f'of {worker}').mkdir()
    paths = [str(tmp_path / f'of {worker}' / pathlib.Path(path).name) for path in dataset.paths]
    for i in own:
      shutil.copy(dataset.paths[i], paths[i])
    moved = dataclasses.replace(dataset, paths=tuple(paths))
    found = read(moved, 120 // workers, readers=readers, worker=worker, num_workers=workers)
    assert found == whole[worker::workers]
  assert opened <= max(1, workers // readers) * (24 + readers)


def test_what_lies_before_an_index_is_not_read(dataset, tmp_path):
  """Shards that are behind may be gone."""
  paths = [shutil.copy(path, tmp_path) for path in dataset.paths]
  moved = dataclasses.replace(dataset, paths=tuple(map(str, paths)))
  whole = read(moved, NUMBER, readers=1)
  last = {record.split('/')[0] for _, record in whole[16:]}
  gone = [path for i, path in enumerate(paths) if str(i) not in last and COUNTS[i]]
  for path in gone:
    pathlib.Path(path).unlink()
  assert gone
  assert read(moved, 6, 16, readers=1) == whole[16:]


def test_records_that_nobody_has_counted_are(dataset):
  unknown = dataclasses.replace(dataset, shard_sizes=None, num_samples=99)
  found = record_order.counted(unknown)
  assert (found.shard_sizes, found.num_samples) == (COUNTS, NUMBER)
  assert read(unknown, 50) == read(dataset, 50)
