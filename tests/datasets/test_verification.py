"""Whatever is wrong with a set of records is found and named."""

import json
import os

import pytest
from slim_inception.datasets import (
  conversion,
  dataset_info,
  image_folder,
  records,
  shards,
  verification,
)

from tests.datasets.odd_images import JPEG, PNG, tree
from tests.datasets.slim_records import example, write

SHARD = 'train-00001-of-00003'


@pytest.fixture
def folder(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=10)
  (root / 'a' / '0.jpg').write_bytes(PNG)
  options = conversion.Options(train_shards=3, validation_fraction=0.2)
  image_folder.convert(str(root), tmp_path / 'out', options)
  return tmp_path / 'out'


@pytest.mark.parametrize('num_processes', [1, 2])
def test_all_is_well(folder, num_processes):
  assert verification.verify(folder, num_processes) == verification.Verification(20, 4, ())


def flip(path, position):
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(content)


def problems_of(folder):
  return '\n'.join(verification.verify(folder).problems)


def test_flipped_byte(folder):
  offsets = [offset for offset, _ in shards.walk_shard(folder / SHARD)]
  flip(folder / SHARD, offsets[2] + 40)
  problems = problems_of(folder)
  assert f'{SHARD}: record 2 at byte {offsets[2] - 12} does not match its checksum' in problems
  assert f'{SHARD} has the CRC-32C' in problems
  assert "'train' has 15 records, dataset.json says 16" in problems


def test_damaged_length_short_missing_and_surplus_shards(folder):
  (_, first), *_ = shards.walk_shard(folder / SHARD)
  flip(folder / SHARD, 16 + first)
  os.truncate(folder / 'train-00000-of-00003', 100)
  (folder / 'train-00002-of-00003').rename(folder / 'train-00007-of-00009')
  problems = problems_of(folder)
  place = f'{SHARD}: record 1 at byte {16 + first}'
  assert f'{place} has a length that does not match its checksum' in problems
  assert 'train-00000-of-00003: record 0 at byte 0 runs past the end of the file' in problems
  assert 'train-00000-of-00003 has 100 bytes, dataset.json says' in problems
  assert 'train-00002-of-00003 is missing; dataset.json lists it' in problems
  assert 'train-00007-of-00009 is not in dataset.json' in problems


def test_wrong_counts_in_dataset_json(folder):
  path = folder / 'dataset.json'
  content = json.loads(path.read_text())
  content['splits']['train']['label_counts'] = [7, 9]
  content['labels'] = ['a']
  path.write_text(json.dumps(content))
  problems = problems_of(folder)
  assert "'train' has 8 records of label 0, dataset.json says 7" in problems
  assert 'dataset.json: 1 labels, but num_classes is 2' in problems


def test_wrong_counts_of_shards(folder):
  """The sums are right: only reading tells."""
  path = folder / 'dataset.json'
  content = json.loads(path.read_text())
  first, second = content['splits']['train']['shards'][:2]
  first['num_images'] += 1
  second['num_images'] -= 1
  path.write_text(json.dumps(content))
  assert problems_of(folder) == '\n'.join(
    f'{shard["name"]} has {shard["num_images"] - change} records, dataset.json says '
    f'{shard["num_images"]}'
    for shard, change in ((first, 1), (second, -1))
  )
  first['num_images'] += 92
  path.write_text(json.dumps(content))
  assert 'dataset.json: splits.train.num_images is 16, but those of its shards' in problems_of(
    folder
  )


def imagenet_set(folder, **changes):
  """One record of a Shetland sheepdog."""
  values = {
    'encoded': JPEG, 'label': 231, 'synset': 'n02105855', 'image_format': 'JPEG', 'height': 24,
    'width': 32,
  } | changes  # fmt: skip
  shard = shards.write_shard(
    folder / 'train-00000-of-00001', [records.encode_example(values.pop('encoded'), **values)]
  )
  counts = tuple(int(label == values['label']) for label in range(1001))
  info = dataset_info.DatasetInfo(
    'imagenet', {'train': dataset_info.Split(1, 1, counts, (shard,))}, 1001, ('',) * 1001, 1
  )
  dataset_info.write_info(folder, info)


@pytest.mark.parametrize(
  ('changes', 'problem'),
  [
    ({}, ''),
    ({'label': 230}, "label 230 is n02105641, its synset says 'n02105855'"),
    ({'label': 1001}, 'label 1001 is outside the classes 0..1000'),
    ({'height': 25}, 'height is stored as 25, the image has 24'),
    ({'encoded': JPEG[:-20]}, 'JPEG is truncated: it has no end of image'),
    ({'encoded': b''}, 'empty file'),
    ({'synset': None}, "no 'image/class/synset'"),
  ],
)
def test_record_that_is_wrong_in_itself(tmp_path, changes, problem):
  imagenet_set(tmp_path, **changes)
  problems = problems_of(tmp_path)
  if problem:
    assert f'train-00000-of-00001: record 0 at byte 0: {problem}' in problems
  else:
    assert problems == ''


def test_records_made_elsewhere(tmp_path):
  good = example(image_encoded=JPEG, image_class_label=0)
  write(tmp_path / 'flowers_train_00000-of-00001.tfrecord', [good, example(label=3), b'\xff\xff'])
  result = verification.verify(tmp_path)
  assert (result.num_records, result.num_shards) == (1, 1)
  place = f'{tmp_path}/flowers_train_00000-of-00001.tfrecord: record'
  first, second = result.problems
  assert first.startswith(
    f"{place} 1 at byte {len(good) + 16}: no 'image/encoded'; its keys: label"
  )
  assert second.startswith(f'{place} 2 at byte') and 'no tf.train.Example' in second


def test_thousands_of_problems_are_summed_up(tmp_path):
  write(tmp_path / 'train-00000-of-00001', [example(label=3)] * 50)
  problems = verification.verify(tmp_path).problems
  assert len(problems) == 21
  assert problems[-1].endswith('train-00000-of-00001: and 30 more of its records')


@pytest.mark.parametrize(
  ('record', 'problem'),
  [
    ({'image_class_label': b'3'}, "'image/class/label' is bytes, expected int"),
    ({'image_class_label': 1.5}, "'image/class/label' is float, expected int"),
    ({'image_encoded': 3}, "'image/encoded' is int, expected bytes"),
    ({'image_class_synset': 1.0}, "'image/class/synset' is float, expected bytes"),
    ({'image_class_synset': b'n15075141'}, "label 1 is n01440764, its synset says 'n15075141'"),
    ({'image_class_synset': b'n01440764'}, ''),
  ],
)
def test_types_and_synsets_of_records_made_elsewhere(tmp_path, record, problem):
  record = {'image_encoded': JPEG, 'image_class_label': 1} | record
  write(tmp_path / 'train-00000-of-00001', [example(**record)])
  result = verification.verify(tmp_path)
  assert not result.has_info
  if problem:
    (found,) = result.problems
    assert found.endswith(problem)
  else:
    assert result.problems == ()
