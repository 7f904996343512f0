"""The order of the records, against a plain model of it."""

import itertools
import pathlib
import shutil

import pytest

from datasets import dataset_factory, shards
from training import record_order

COUNTS = (5, 1, 9, 3, 4)  # records of each shard


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = tmp_path_factory.mktemp('records')
  paths = [directory / shards.shard_name('train', i, len(COUNTS)) for i in range(len(COUNTS))]
  for i, (path, count) in enumerate(zip(paths, COUNTS, strict=True)):
    shards.write_shard(path, [[f'{i}/{j}'.encode()] for j in range(count)])
  return dataset_factory.Dataset('x', 'train', tuple(map(str, paths)), 22, 2, {}, (0, 1))


def read(dataset, number, position=0, seed=3, lanes=2, window=4):
  found = record_order.records_from(
    dataset, seed=seed, position=position, num_lanes=lanes, window=window
  )
  return [(int(p), r.decode()) for p, r in itertools.islice(found.as_numpy_iterator(), number)]


@pytest.mark.parametrize(('lanes', 'window'), [(1, 1), (2, 4), (3, 1), (9, 5), (2, 100)])
def test_it_goes_on_anywhere_as_if_it_had_not_stopped(dataset, lanes, window):
  whole = read(dataset, 68, lanes=lanes, window=window)
  assert [place for place, _ in whole] == list(range(68))
  epochs = [[record for _, record in whole[i : i + 22]] for i in (0, 22, 44)]
  assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
  assert len(set(epochs[0])) == 22
  assert epochs[0] != epochs[1] != epochs[2]
  for position in (1, 8, 17, 22, 43):
    assert read(dataset, 24, position, lanes=lanes, window=window) == whole[position:][:24]


def test_lanes_take_turns(dataset):
  found = [record.split('/') for _, record in read(dataset, 22, lanes=2, window=1)]
  for shard, count in enumerate(COUNTS):
    assert [int(j) for i, j in found if i == str(shard)] == list(range(count))
  changes = [a != b for (a, _), (b, _) in itertools.pairwise(found)]
  assert all(changes[: 2 * min(COUNTS[0] + COUNTS[1], 6)])  # until the first lane ends


def test_what_lies_before_a_position_is_not_read(dataset, tmp_path):
  """Shards that are behind may be unreadable."""
  copies = []
  for path in dataset.paths:
    copies.append(pathlib.Path(shutil.copy(path, tmp_path)))
  moved = dataset_factory.Dataset('x', 'train', tuple(map(str, copies)), 22, 2, {}, (0, 1))
  whole = read(moved, 22, lanes=1, window=4)
  last = {record.split('/')[0] for _, record in whole[16:]}
  spoiled = 0
  for i, path in enumerate(copies):
    if str(i) not in last:
      content = bytearray(path.read_bytes())
      content[12] ^= 255  # the framing is sound, the record is not
      path.write_bytes(content)
      spoiled += 1
  assert spoiled
  assert read(moved, 6, 16, lanes=1, window=4) == whole[16:]


@pytest.mark.parametrize('lengths', [(3,), (2, 5, 1), (4, 4), (0, 2)])
def test_take_turns(lengths):
  turns = [
    lane for round_ in range(max(lengths)) for lane, length in enumerate(lengths) if round_ < length
  ]
  for count in range(len(turns)):
    taken, turn = record_order.take_turns(count, lengths)
    assert taken == [turns[:count].count(lane) for lane in range(len(lengths))]
    assert turn == turns[count]
  assert record_order.take_turns(len(turns), lengths)[0] == list(lengths)
