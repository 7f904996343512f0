"""dataset.json beside the records."""

import json
import os

import pytest
from slim_inception.datasets import dataset_info, shards

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
  [('{', 'dataset.json is no valid JSON'), ('[]', 'no description'), ('{}', "KeyError\\('splits")],
)
def test_broken_info_is_named(tmp_path, text, message):
  (tmp_path / 'dataset.json').write_text(text)
  with pytest.raises(ValueError, match=message):
    dataset_info.read_info(tmp_path)


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
