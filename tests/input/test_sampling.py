"""Records drawn by class and by set: how often each comes, whoever reads, wherever they begin."""

import collections
import dataclasses
import itertools
import os

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import (
  dataset_factory,
  joined,
  record_index,
  records,
  shards,
)
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.input import pipeline, sampling
from slim_inception.input.sampling import Sampling
from tests import records as small_sets

BALANCED = Sampling(balanced=True)
COUNTS = (9, 1, 3)  # images of each class
TOTAL = sum(COUNTS)


def write(directory, counts=COUNTS, num_shards=3, first_label=0):
  """Records whose image is `set/label/number`."""
  directory.mkdir(exist_ok=True)
  labels = [label for label, count in enumerate(counts, first_label) for _ in range(count)]
  numbers = [number for count in counts for number in range(count)]
  examples = [
    records.encode_example(
      f'{directory.name}/{label}/{number}'.encode(),
      label=label,
      image_format='JPEG',
      height=1,
      width=1,
    )
    for label, number in zip(labels, numbers, strict=True)
  ]
  names = [shards.shard_name('train', i, num_shards) for i in range(num_shards)]
  for i, name in enumerate(names):
    shards.write_shard(directory / name, examples[i::num_shards])
  return dataset_factory.Dataset(
    'x',
    'train',
    tuple(str(directory / name) for name in names),
    len(examples),
    len(counts) + first_label,
    {},
    (first_label, first_label + len(counts) - 1),
    shard_sizes=tuple(len(examples[i::num_shards]) for i in range(num_shards)),
  )


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return write(tmp_path_factory.mktemp('skewed'))


@pytest.fixture(scope='module')
def both(tmp_path_factory):
  folders = [tmp_path_factory.mktemp(name) for name in ('first', 'second')]
  sets = [write(folders[0]), write(folders[1], (2, 2, 40), num_shards=2)]
  return joined.join(sets, [*map(str, folders)])


def read(dataset, chosen, number, first=0, seed=3, **kwargs):
  """[(record index, set, label, number in its class)]."""
  drawn = sampling.records_from(dataset, chosen, seed=seed, first=first, **kwargs)
  rows = []
  for index, record in itertools.islice(drawn.as_numpy_iterator(), number):
    (image,) = records.decode_features(record)['image/encoded']
    of_set, label, name = image.decode().split('/')
    rows.append((int(index), of_set.rstrip('0'), int(label), int(name)))
  return rows


def test_each_class_comes_once_a_round_and_its_records_as_often_as_each_other(dataset):
  rows = read(dataset, BALANCED, 3 * 40)
  assert [index for index, *_ in rows] == list(range(120))
  for start in range(0, 120, 3):
    assert {label for _, _, label, _ in rows[start : start + 3]} == {0, 1, 2}
  for label, count in enumerate(COUNTS):
    drawn = [number for _, _, of, number in rows if of == label]
    passes = [drawn[i : i + count] for i in range(0, 40 // count * count, count)]
    assert all(sorted(each) == list(range(count)) for each in passes)
    if count == 9:
      assert len(set(map(tuple, passes))) == len(passes)  # each in an order of its own


def test_sets_keep_their_shares_in_every_block(both):
  rows = read(both, Sampling(mixture=(0.7, 0.3)), 200)
  for start in range(0, 200, 10):
    counts = collections.Counter(of_set for _, of_set, *_ in rows[start : start + 10])
    assert counts == {'first': 7, 'second': 3}
  for name in ('first', 'second'):
    drawn = collections.Counter(row[1:] for row in rows if row[1] == name)
    assert len(drawn) == {'first': 13, 'second': 44}[name]
    assert max(drawn.values()) - min(drawn.values()) == 1


def test_classes_are_balanced_in_each_set_of_a_mixture_and_in_all_together(both):
  rows = read(both, Sampling(balanced=True, mixture=(3, 1)), 480)
  counts = collections.Counter((of_set, label) for _, of_set, label, _ in rows)
  assert counts == {(s, c): n for s, n in (('first', 120), ('second', 40)) for c in range(3)}
  together = read(both, BALANCED, 300)
  assert collections.Counter(label for _, _, label, _ in together) == {0: 100, 1: 100, 2: 100}
  drawn = collections.Counter(row[1:] for row in together if row[2] == 1)
  assert len(drawn) == 3  # one of the first set, two of the second
  assert set(drawn.values()) <= {33, 34}


@pytest.mark.parametrize('chosen', [BALANCED, Sampling(mixture=(2, 1)), Sampling(True, (0.1, 1))])
def test_starts_and_workers_change_nothing_and_seeds_do(both, chosen):
  whole = read(both, chosen, 90)
  assert read(both, chosen, 40, first=50) == whole[50:]
  for worker in range(3):
    own = read(both, chosen, 10, first=20, worker=worker, num_workers=3)
    assert own == [row for row in whole[20:50] if row[0] % 3 == worker]
  assert read(both, chosen, 90, seed=4) != whole


def test_shares_are_whole_numbers():
  assert sampling.shares_of((0.7, 0.3)) == [7, 3]
  assert sampling.shares_of((1, 1, 2)) == [1, 1, 2]
  assert sampling.shares_of((1.0,)) == [1]
  assert sampling.shares_of((1, 1e6)) == [1, 10_000]  # at least one turn


def test_permutations_are_even():
  """Each value comes as often at each place, and each order as often as another."""
  drawn = [tuple(sampling.shuffled(4, (0, 2, 1, n))) for n in range(4800)]
  counts = np.array([*collections.Counter(drawn).values()])
  assert len(counts) == 24
  chi2 = ((counts - 200) ** 2 / 200).sum()
  assert chi2 < 49.7  # the 99.9 % point of 23 degrees of freedom
  assert tuple(sampling.shuffled(5, (2**70, -1))) != tuple(sampling.shuffled(5, (2**70, -2)))
  # Runs that have begun go on with it: this order is not to change.
  assert sampling.shuffled(8, (0, 2, 0, 0, 0)).tolist() == [7, 5, 1, 3, 6, 0, 2, 4]


def test_batches_go_to_replicas_in_turn(tmp_path):
  folder = small_sets.write_set(tmp_path / 'set', count=20)
  dataset = dataset_factory.get_dataset('image_folder', 'train', folder)
  source = pipeline.Source(dataset, preprocessing_factory.get('inception'), Distortion())
  one = pipeline.InputOptions(image_size=32, batch_size=6, sampling=BALANCED)
  two = dataclasses.replace(one, batch_size=3, replicas=2)
  whole = next(iter(pipeline.record_batches(source, one, 6)))
  halves = [*itertools.islice(pipeline.record_batches(source, two, 6), 2)]
  for key, value in whole.items():
    for replica, half in enumerate(halves):
      np.testing.assert_array_equal(half[key], value[replica::2])
  assert sorted(whole['label'].numpy()) == [0, 0, 1, 1, 2, 2]


def test_the_index_is_kept_and_made_anew_where_a_shard_has_changed(dataset, tmp_path):
  own = write(tmp_path / 'own')
  kept = tmp_path / 'own' / '.train_index.npz'
  first = record_index.read(own.paths, 'train', own.schema)
  assert kept.exists()
  content = kept.read_bytes()
  np.testing.assert_equal(record_index.read(own.paths, 'train', own.schema), first)
  kept.write_bytes(b'PK damaged')
  np.testing.assert_equal(record_index.read(own.paths, 'train', own.schema), first)
  assert kept.read_bytes() == content
  write(tmp_path / 'own', (1, 2, 3))
  assert len(record_index.read(own.paths, 'train', own.schema).labels) == 6


@pytest.mark.skipif(os.getuid() == 0, reason='root writes everywhere')
def test_a_folder_that_cannot_be_written_to_does_not_matter(tmp_path):
  own = write(tmp_path / 'own')
  (tmp_path / 'own').chmod(0o555)
  assert len(record_index.read(own.paths, 'train', own.schema).labels) == TOTAL
  (tmp_path / 'own').chmod(0o755)


def test_a_damaged_record_is_named(tmp_path):
  own = write(tmp_path / 'own')
  path = tmp_path / 'own' / 'train-00001-of-00003'
  iterator = iter(sampling.records_from(own, BALANCED, seed=0, first=0))  # the index is made
  damaged = bytearray(path.read_bytes())
  damaged[60] ^= 1
  path.write_bytes(damaged)
  with pytest.raises(tf.errors.InvalidArgumentError) as caught:
    for _ in range(100):
      next(iterator)
  told = pipeline.read_error(own, 0, caught.value)
  assert isinstance(told, ValueError)
  assert str(told) == f'{path}: the record at byte 0 does not match its checksum'


def test_images_with_several_labels_cannot_be_balanced(tmp_path):
  own = write(tmp_path / 'own')
  example = records.encode_example(b'x', label=(0, 1), image_format='JPEG', height=1, width=1)
  shards.write_shard(own.paths[0], [example] * own.shard_sizes[0])
  with pytest.raises(ValueError, match='each image of x must have one label'):
    sampling.Draws(own, BALANCED, 0)


def test_sets_that_do_not_fit_are_refused_in_a_line(tmp_path):
  first, second = write(tmp_path / 'a'), write(tmp_path / 'b')
  names = {0: 'cat', 1: 'dog', 2: 'pig'}
  cases = {
    "label 1 is 'dog' in the first and 'cow' in the second": {
      'labels_to_names': {**names, 1: 'cow'}
    },
    'multi_label is False in the first and True in the second': {
      'labels_to_names': names,
      'multi_label': True,
    },
    'num_classes is 3 in the first and 4 in the second': {'num_classes': 4},
  }
  first = dataclasses.replace(first, labels_to_names=names)
  for problem, changes in cases.items():
    with pytest.raises(ValueError, match=problem):
      joined.join([first, dataclasses.replace(second, **changes)], ['a', 'b'])
  with pytest.raises(ValueError, match='are one set'):
    joined.join([first, first], [str(tmp_path / 'a'), str(tmp_path / 'b' / '..' / 'a')])
  assert joined.join([first], ['a']) is first


def test_what_is_drawn_is_said(both):
  text = sampling.describe(both, Sampling(False, (7, 3)), ['A', 'B'])
  assert text == (
    'Images are drawn: 70.00% of A (13 images, each 3.07 times an epoch), 30.00% of B '
    '(44 images, each 0.389 times an epoch)'
  )
  text = sampling.describe(both, Sampling(True, (7, 3)), ['A', 'B'])
  assert '(13 images, 3.07 times an epoch on average)' in text
  assert text.endswith(', each class equally often in each set')


def test_a_shard_without_records(tmp_path):
  """As an exclude list leaves one of which it names all images."""
  dataset = write(tmp_path / 'set', (1, 1), num_shards=3)
  assert not os.path.getsize(dataset.paths[2])
  rows = read(dataset, BALANCED, 4)
  assert collections.Counter(label for _, _, label, _ in rows) == {0: 2, 1: 2}
