"""dataset.json beside the records."""

import json
import os

import pytest
from slim_inception.datasets import dataset_factory, dataset_info, shards

from tests.datasets.slim_records import flowers_example

RECORDS = [[flowers_example(label)] for label in (4, 2, 7)]


def info_of(folder):
  shard = shards.write_shard(folder / 'train-00000-of-00001', RECORDS)
  split = dataset_info.Split(3, 1, (0, 0, 1, 0, 1, 0, 0, 1), (shard,))
  return dataset_info.DatasetInfo('birds', {'train': split}, 8, tuple('abcdefgü'))


def test_info_reads_back(tmp_path):
  info = info_of(tmp_path)
  assert dataset_info.read_info(tmp_path) is None
  dataset_info.write_info(tmp_path, info)
  assert dataset_info.read_info(tmp_path) == info
  content = json.loads((tmp_path / 'dataset.json').read_text('utf-8'))
  assert content['splits']['train']['num_images'] == 3
  assert content['label_offset'] == 0
  assert content['labels'][7] == 'ü'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (b'{', ' is no valid JSON: '),
    (b'\xff\xfe{}', ' is no valid JSON: '),
    (b'[' * 100_000, ' is no valid JSON: '),
    (b'null', ': must be an object, not null'),
    (b'[]', ': must be an object, not []'),
    (b'{}', ': name is missing'),
  ],
)
def test_broken_info_is_named(tmp_path, text, message):
  (tmp_path / 'dataset.json').write_bytes(text)
  with pytest.raises(ValueError) as error:
    dataset_info.read_info(tmp_path)
  assert str(error.value).startswith(f'{tmp_path}/dataset.json{message}')


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('num_classes', '8', 'num_classes must be a whole number, not "8"'),
    ('num_classes', 1.5, 'num_classes must be a whole number, not 1.5'),
    ('num_classes', None, 'num_classes must be a whole number, not null'),
    ('num_classes', 0, 'num_classes must be at least 1, not 0'),
    ('name', 3, 'name must be text, not 3'),
    ('labels', [1, 2], 'labels[0] must be text, not 1'),
    ('labels', 'abc', 'labels must be a list, not "abc"'),
    ('splits', [], 'splits must be an object, not []'),
    ('splits.train', 3, 'splits.train must be an object, not 3'),
    ('splits.train.num_images', '3', 'splits.train.num_images must be a whole number, not "3"'),
    ('splits.train.num_images', -3, 'splits.train.num_images must be at least 0, not -3'),
    ('splits.train.num_images', 1.5, 'splits.train.num_images must be a whole number, not 1.5'),
    (
      'splits.train.label_counts',
      [],
      'splits.train.label_counts has 0 counts, but num_classes is 8',
    ),
    ('splits.train.label_counts', [0] * 8, 'splits.train.label_counts are all 0'),
    (
      'splits.train.label_counts',
      [1] * 8,
      'splits.train.num_images is 3, but label_counts add up to 8',
    ),
    (
      'splits.train.num_images',
      96,
      'splits.train.num_images is 96, but those of its shards add up to 3',
    ),
    ('splits.train.num_shards', 2, 'splits.train.num_shards is 2, but shards lists 1'),
    (
      'splits.train.label_counts',
      [*[0] * 7, None],
      'splits.train.label_counts[7] must be a whole number, not null',
    ),
    ('splits.train.shards', [{'name': 'a'}], 'splits.train.shards[0].num_images is missing'),
    ('label_offset', None, 'label_offset must be a whole number, not null'),
    ('label_offset', -1, 'label_offset must be at least 0, not -1'),
  ],
)
def test_a_field_of_another_kind_is_named(tmp_path, field, value, message):
  dataset_info.write_info(tmp_path, info_of(tmp_path))
  path = tmp_path / 'dataset.json'
  content = part = json.loads(path.read_text('utf-8'))
  *parents, last = field.split('.')
  for name in parents:
    part = part[name]
  part[last] = value
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError) as error:
    dataset_factory.get_dataset('image_folder', 'train', tmp_path)
  assert str(error.value) == f'{path}: {message}'


def test_sizes_are_checked(tmp_path):
  info = info_of(tmp_path)
  dataset_info.check_sizes(tmp_path, info, 'train')
  with pytest.raises(ValueError, match=r"no split 'test'.*it has: train"):
    dataset_info.check_sizes(tmp_path, info, 'test')
  path = tmp_path / 'train-00000-of-00001'
  os.truncate(path, 100)
  with pytest.raises(ValueError, match=r'train-00000-of-00001 has 100 bytes, dataset.json says'):
    dataset_info.check_sizes(tmp_path, info, 'train')
  path.unlink()
  with pytest.raises(FileNotFoundError, match='train-00000-of-00001 is missing'):
    dataset_info.check_sizes(tmp_path, info, 'train')
