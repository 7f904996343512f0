"""Records of an evaluation, dealt out to workers."""

import numpy as np
import pytest
from slim_inception.datasets import dataset_factory

from slim_inception.evaluate import examples
from tests import records

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = records.write_set(tmp_path_factory.mktemp('data'), count=23, num_shards=5)
  return dataset_factory.get_dataset('image_folder', 'train', directory)


def read(dataset, indices, **kwargs):
  found = list(examples.read(dataset, indices, **kwargs).as_numpy_iterator())
  return {int(example['record_index']): example['filename'].decode() for example in found}


def test_every_record_in_the_order_of_the_shards(dataset):
  found = read(dataset, range(23))
  assert list(found) == list(range(23))
  assert list(found.values()) == [f'{i}.jpg' for shard in range(5) for i in range(shard, 23, 5)]


@pytest.mark.parametrize('count', [23, 7, 1])
@pytest.mark.parametrize('workers', [1, 2, 3, 8])
def test_workers_share_what_one_would_read(dataset, count, workers):
  shares = [examples.share_of(count, worker, workers) for worker in range(workers)]
  assert max(map(len, shares)) - min(map(len, shares)) <= 1
  parts = [read(dataset, share) for share in shares]
  assert sum(map(len, parts)) == count
  together = {place: name for part in parts for place, name in part.items()}
  everything = read(dataset, range(23))
  assert together == {place: everything[place] for place in range(count)}


def test_shards_of_others_are_not_opened(dataset, tmp_path):
  paths, before = examples._shards_of(dataset, range(6, 12))
  assert [path[-14:] for path in paths] == ['00001-of-00005', '00002-of-00005']
  assert before == 5


def test_some_are_left_out(dataset):
  asked = []

  def keep(index, name):
    asked.append((index, name))
    return name not in ('3.jpg', '11.jpg')

  found = read(dataset, range(23), keep=keep)
  assert len(found) == 21
  assert sorted(asked) == sorted(read(dataset, range(23)).items())
  assert {'3.jpg', '11.jpg'}.isdisjoint(found.values())


def test_labels(dataset):
  one = list(examples.read(dataset, range(23)).as_numpy_iterator())
  several = list(examples.read(dataset, range(23), multi_label=True).as_numpy_iterator())
  assert len(one) == len(several) == 23
  for example, of_several in zip(one, several, strict=True):
    number = int(example['filename'].decode().removesuffix('.jpg'))
    assert example['label'] == number % 3
    assert of_several['filename'] == example['filename']
    np.testing.assert_array_equal(of_several['label'], np.eye(3)[number % 3])
