import bisect
import os
import resource
import tempfile
from pathlib import Path

import google_crc32c
import hypothesis
import pytest
from hypothesis import strategies
from slim_inception.datasets import shards

from tests.datasets.slim_records import example, flowers_example, write


@pytest.mark.parametrize(
  'template', ['{split}-{i:05d}-of-00003', 'flowers_{split}_{i:05d}-of-00003.tfrecord']
)
def test_finds_shards_of_both_namings(tmp_path, template):
  folder = tmp_path / 'Bilder für später'
  folder.mkdir()
  for split in ('train', 'validation'):
    for i in (2, 0, 1):
      (folder / template.format(split=split, i=i)).write_bytes(b'x')
  (folder / '.train-00003-of-00004.host-12.partial').write_bytes(b'x')
  (folder / 'labels.txt').write_text('0:a')
  expected = [str(folder / template.format(split='train', i=i)) for i in range(3)]
  assert shards.find_shards(folder, 'train') == expected
  assert shards.find_shards(folder, 'train', '*%s*') == expected
  with pytest.raises(FileNotFoundError, match="matches 'birds_train_\\*'"):
    shards.find_shards(folder, 'train', 'birds_%s_*')


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
    shards.find_shards(tmp_path, 'test')


quick = hypothesis.settings(max_examples=40, derandomize=True, database=None, deadline=None)
PARTS = strategies.lists(strategies.binary(max_size=300), min_size=1, max_size=3)


@quick
@hypothesis.given(strategies.lists(PARTS, max_size=5))
def test_a_shard_is_a_tfrecord_file(examples):
  """Byte for byte as TensorFlow writes it; the description and our own reading agree."""
  contents = [b''.join(parts) for parts in examples]
  with tempfile.TemporaryDirectory() as folder:
    shard = shards.write_shard(f'{folder}/train-00000-of-00001', examples)
    assert os.listdir(folder) == [shard.name]
    path = Path(folder, shard.name)
    content = path.read_bytes()
    assert content == write(Path(folder, 'other'), contents).read_bytes()
    assert [record.data for record in shards.read_shard(path)] == contents
    assert [content[start : start + size] for start, size in shards.walk_shard(path)] == contents
    assert shards.count_records([path, path]) == 2 * len(contents)
  assert (shard.num_images, shard.num_bytes) == (len(contents), len(content))
  assert shard.crc32c == f'{google_crc32c.value(content):08x}'


@quick
@hypothesis.given(strategies.lists(strategies.binary(max_size=40), min_size=1), strategies.data())
def test_any_damage_is_named_with_its_record(contents, data):
  """Any bit flipped, or the end cut off."""
  with tempfile.TemporaryDirectory() as folder:
    good, bad = (write(Path(folder, name), contents) for name in ('good', 'bad'))
    starts = [start - 12 for start, _ in shards.walk_shard(good)]
    content = bytearray(bad.read_bytes())
    where = data.draw(strategies.integers(0, len(content) - 1))
    if data.draw(strategies.booleans()):
      content[where] ^= 1 << data.draw(strategies.integers(0, 7))
    else:
      hypothesis.assume(where not in starts)
      del content[where:]
    bad.write_bytes(content)
    assert shards.find_damage([good]) is None
    index = bisect.bisect_right(starts, where) - 1
    message = shards.find_damage([good, bad, Path(folder, 'not reached')])
    assert message.startswith(f'{bad}: record {index} at byte {starts[index]} ')


def test_full_disk_leaves_the_old_shard(tmp_path):
  """The kernel refuses to let files grow, as it does when a disk is full."""
  (tmp_path / 'shard').write_bytes(b'old')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
  try:
    with pytest.raises(OSError):
      shards.write_shard(tmp_path / 'shard', ([b'x' * (1 << 18)] for _ in range(16)))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert (os.listdir(tmp_path), (tmp_path / 'shard').read_bytes()) == (['shard'], b'old')


def test_counting_a_file_that_is_cut_short(tmp_path):
  path = write(tmp_path / 'bad', [b'a', b'b'])
  os.truncate(path, 20)
  with pytest.raises(ValueError, match='bad is cut short or damaged: record 1'):
    shards.count_records([path])


def test_label_range_looks_into_every_shard(tmp_path):
  labels = [[i, i, 9 - i] for i in range(4)]  # nearly sorted by class
  paths = [write(tmp_path / str(i), map(flowers_example, of)) for i, of in enumerate(labels)]
  assert shards.label_range(paths) == (0, 9)
  assert shards.label_range(paths, max_records=8) == (0, 3)


@pytest.mark.parametrize(
  ('serialized', 'message'),
  [
    (example(image=b'x', label=3), "0 has no integer 'image/class/label'; its keys: image, label"),
    (b'\xff\xff\xff', 'record 0 is no tf.train.Example'),
  ],
)
def test_foreign_records_are_named(tmp_path, serialized, message):
  with pytest.raises(ValueError, match=message):
    shards.label_range([write(tmp_path / 'foreign', [serialized])])
