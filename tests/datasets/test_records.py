import json
import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from datasets import records
from tests.datasets.slim_records import example, flowers_example, imagenet_example, write


def test_reads_slims_flowers():
  parsed = records.parse_example(tf.constant(flowers_example()))
  assert parsed['encoded'].numpy() == b'jpg bytes'
  assert (parsed['label'].numpy(), parsed['label'].dtype) == (3, tf.int64)
  assert parsed['bbox'].shape == (0, 4)
  assert parsed['filename'].numpy() == b''


def test_reads_slims_imagenet():
  parsed = records.parse_example(tf.constant(imagenet_example()))
  assert parsed['label'].numpy() == 231
  assert parsed['filename'].numpy() == b'n02105855_2933.JPEG'
  np.testing.assert_allclose(parsed['bbox'], [[0.2, 0.1, 0.6, 0.4], [0, 0.5, 1, 0.75]], rtol=1e-6)


def test_one_map_reads_both_layouts_in_tf_data(tmp_path):
  path = write(tmp_path / 'mixed', [flowers_example(), imagenet_example()])
  dataset = tf.data.TFRecordDataset(str(path)).map(records.parse_example)
  for got, serialized in zip(dataset, [flowers_example(), imagenet_example()], strict=True):
    eager = records.parse_example(tf.constant(serialized))
    assert got.keys() == eager.keys()
    for key in got:
      np.testing.assert_array_equal(got[key], eager[key])


def test_boxes_are_brought_into_the_picture_and_need_area():
  boxes = [[-0.1, 0.2, 1.2, 0.9], [0.5, 0.5, 0.5, 0.8], [0.6, 0.1, 0.4, 0.2]]
  serialized = records.encode_example(
    b'', label=1, image_format='JPEG', height=2, width=2, boxes=boxes
  )
  bbox = records.parse_example(tf.constant(serialized))['bbox']
  np.testing.assert_allclose(bbox, [[0, 0.2, 1, 0.9]], rtol=1e-6)


def test_encodes_what_slim_encodes():
  ours = records.encode_example(
    b'jpeg bytes',
    label=231,
    image_format='JPEG',
    height=375,
    width=500,
    text='Shetland sheepdog',
    synset='n02105855',
    filename='n02105855_2933.JPEG',
    boxes=[(0.2, 0.1, 0.6, 0.4), (0.0, 0.5, 1.0, 0.75)],
  )
  assert tf.train.Example.FromString(ours) == tf.train.Example.FromString(imagenet_example())


def test_what_a_data_set_has_not_is_left_out():
  serialized = records.encode_example(b'x', label=0, image_format='PNG', height=1, width=1)
  keys = set(tf.train.Example.FromString(serialized).features.feature)
  assert keys == {
    'image/encoded', 'image/format', 'image/class/label', 'image/height', 'image/width',
    'image/colorspace', 'image/channels',
  }  # fmt: skip


@pytest.mark.parametrize(
  'template', ['{split}-{i:05d}-of-00003', 'flowers_{split}_{i:05d}-of-00003.tfrecord']
)
def test_finds_shards_of_both_namings(tmp_path, template):
  folder = tmp_path / 'Bilder für später'
  folder.mkdir()
  for split in ('train', 'validation'):
    for i in (2, 0, 1):
      (folder / template.format(split=split, i=i)).write_bytes(b'x')
  (folder / '.train-00003-of-00004.partial').write_bytes(b'x')
  (folder / 'labels.txt').write_text('0:a')
  expected = [str(folder / template.format(split='train', i=i)) for i in range(3)]
  assert records.find_shards(folder, 'train') == expected
  assert records.find_shards(folder, 'train', '*%s*') == expected


def test_shard_names_are_found_again(tmp_path):
  for i in range(2):
    (tmp_path / records.shard_name('validation', i, 2)).write_bytes(b'x')
  assert [os.path.basename(path) for path in records.find_shards(tmp_path, 'validation')] == [
    'validation-00000-of-00002',
    'validation-00001-of-00002',
  ]


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    ([], 'no records in .*expected names such as train-00000-of-00004'),
    (['notes.txt'], 'no records in'),
    (
      ['train-00000-of-00001', 'flowers_validation_00000-of-00001.tfrecord'],
      "no split 'test' in .*it has: train, validation",
    ),
    (['test-00000-of-00002'], 'test-00001-of-00002 of the .* missing \\(1 of 2'),
    (['test-00000-of-00009'], 'test-00001-of-00009 and 7 more'),
    (
      ['test-00000-of-00001', 'test-00000-of-00002', 'test-00001-of-00002'],
      'more than one set of .*test-00000-of-00001, test-00000-of-00002',
    ),
    (['test-00000-of-00001 (empty)'], 'is empty'),
  ],
)
def test_says_what_is_wrong_with_a_folder(tmp_path, names, message):
  for name in names:
    (tmp_path / name.removesuffix(' (empty)')).write_bytes(b'' if 'empty' in name else b'x')
  with pytest.raises((ValueError, OSError), match=message):
    records.find_shards(tmp_path, 'test')


def test_says_which_pattern_matches_nothing(tmp_path):
  with pytest.raises(FileNotFoundError, match="matches 'birds_train_\\*'"):
    records.find_shards(tmp_path, 'train', 'birds_%s_*')


def test_written_shard_reads_back_and_is_described(tmp_path):
  shard = records.write_shard(tmp_path / 'train-00000-of-00001', [b'a', b'bc'])
  path = tmp_path / shard.name
  assert [r.numpy() for r in tf.data.TFRecordDataset(str(path))] == [b'a', b'bc']
  assert (shard.num_images, shard.num_bytes) == (2, path.stat().st_size)
  assert len(shard.sha256) == 64
  assert os.listdir(tmp_path) == [shard.name]


def failing_examples():
  yield b'a'
  raise RuntimeError('no more')


def test_failed_writing_keeps_the_old_shard(tmp_path):
  path = tmp_path / 'shard'
  path.write_bytes(b'old')
  with pytest.raises(RuntimeError, match='no more'):
    records.write_shard(path, failing_examples())
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['shard']


def test_full_disk_leaves_nothing(tmp_path):
  """The kernel refuses to let files grow, as it does when a disk is full."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
  try:
    with pytest.raises((OSError, tf.errors.OpError)):
      records.write_shard(tmp_path / 'shard', (b'x' * (1 << 18) for _ in range(16)))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert os.listdir(tmp_path) == []


RECORDS = [flowers_example(label) for label in (4, 2, 7)]


def damaged(path, kind):
  """Damages the second record of a shard of RECORDS; returns the byte offset of that record."""
  content = bytearray(write(path, RECORDS).read_bytes())
  start = len(RECORDS[0]) + 16
  if kind == 'truncated':
    del content[start + 40 :]
  else:
    content[start + {'length': 2, 'length checksum': 9, 'data': 30}[kind]] ^= 0x40
  path.write_bytes(content)
  return start


@pytest.mark.parametrize('kind', ['truncated', 'length', 'length checksum', 'data'])
def test_names_file_and_offset_of_damage(tmp_path, kind):
  good = write(tmp_path / 'good', RECORDS)
  bad = tmp_path / 'bad'
  offset = damaged(bad, kind)
  assert records.find_damage([good]) is None
  message = records.find_damage([good, bad, tmp_path / 'not reached'])
  assert str(bad) in message
  assert f'record 1 at byte {offset}' in message


def test_counts_by_framing(tmp_path):
  good, bad = write(tmp_path / 'good', RECORDS), tmp_path / 'bad'
  assert records.count_records([good, good]) == 6
  damaged(bad, 'truncated')
  with pytest.raises(ValueError, match='bad is cut short or damaged: record 1'):
    records.count_records([good, bad])


def test_label_range_looks_into_every_shard(tmp_path):
  paths = [write(tmp_path / str(i), [flowers_example(i)] * 5) for i in range(4)]  # sorted by class
  assert records.label_range(paths) == (0, 3, 20)
  assert records.label_range(paths, max_records=8) == (0, 3, 8)


@pytest.mark.parametrize(
  ('serialized', 'message'),
  [
    (example(image=b'x', label=3), "0 has no integer 'image/class/label'; its keys: image, label"),
    (b'\xff\xff\xff', 'record 0 is no tf.train.Example'),
  ],
)
def test_foreign_records_are_named(tmp_path, serialized, message):
  with pytest.raises(ValueError, match=message):
    records.label_range([write(tmp_path / 'foreign', [serialized])])


def info_of(folder):
  shard = records.write_shard(folder / 'train-00000-of-00001', RECORDS)
  split = records.Split(3, 1, (0, 0, 1, 0, 1, 0, 0, 1), (shard,))
  return records.DatasetInfo('birds', {'train': split}, 8, tuple('abcdefgü'))


def test_info_reads_back(tmp_path):
  info = info_of(tmp_path)
  records.write_info(tmp_path, info)
  assert records.read_info(tmp_path) == info
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
    records.read_info(tmp_path)


def test_no_info(tmp_path):
  assert records.read_info(tmp_path) is None


def test_sizes_are_checked(tmp_path):
  info = info_of(tmp_path)
  records.check_sizes(tmp_path, info, 'train')
  with pytest.raises(ValueError, match=r"no split 'test'.*it has: train"):
    records.check_sizes(tmp_path, info, 'test')
  path = tmp_path / 'train-00000-of-00001'
  os.truncate(path, 100)
  with pytest.raises(ValueError, match=r'train-00000-of-00001 has 100 bytes, dataset.json says'):
    records.check_sizes(tmp_path, info, 'train')
  path.unlink()
  with pytest.raises(FileNotFoundError, match='train-00000-of-00001 is missing'):
    records.check_sizes(tmp_path, info, 'train')
