"""Sets that TensorFlow Datasets prepared (tests/data/make_sets.py)."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from slim_inception.datasets import (
  conversion,
  formats,
  imagenet,
  images,
  tfds,
)

from tests.datasets.odd_images import JPEG
from tests.datasets.written import report, rows_of

DATA = Path(__file__).parents[1] / 'data' / 'tfds'
CLASSES = ('cat', 'dog', 'fish')


def convert(source, out, **options):
  options = {'train_shards': 2} | options
  return formats.convert(str(source), out, conversion.Options(**options))


def written(out, split):
  """{name: (image, labels)} of the records."""
  return {
    name.rpartition('/')[2]: (image, labels) for name, image, labels in rows_of(out, split, 'tfds')
  }


def prepared(split, name='pets', image='image', label='label'):
  """The same of the fixture: a list, by TensorFlow's own classes."""
  paths = sorted(map(str, DATA.glob(f'{name}/*/*-{split}.tfrecord-*')))
  features = [
    tf.train.Example.FromString(serialized.numpy()).features.feature
    for serialized in tf.data.TFRecordDataset(paths)
  ]
  return {
    (f['file_name'].bytes_list.value[0].decode() if 'file_name' in f else f'{number:08d}'): (
      f[image].bytes_list.value[0],
      tuple(f[label].int64_list.value),
    )
    for number, f in enumerate(features)
  }


def copied(root):
  return Path(shutil.copytree(DATA / 'pets' / '1.2.0', root / 'pets' / '1.2.0'))


def edited(folder, name, change):
  content = json.loads((folder / name).read_text())
  change(content)
  (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize('below', ['pets/1.2.0', 'pets'])
def test_records_are_those_of_the_set(tmp_path, below):
  out = tmp_path / 'out'
  result = convert(DATA / below, out)
  assert (result.info.name, result.info.labels, result.skipped) == ('tfds', CLASSES, [])
  for split in ('train', 'validation', 'test'):
    assert written(out, split) == prepared(split)
  recognized = report(out)['recognized']
  assert recognized.endswith(f'as tfds: features.json and dataset_info.json in {DATA}/pets/1.2.0')


def test_several_labels_a_record(tmp_path):
  result = convert(DATA / 'several', tmp_path / 'out', validation_fraction=0.0)
  assert result.info.multi_label and result.info.labels == CLASSES
  of_set = prepared('train', 'several', 'picture', 'tags')
  assert written(tmp_path / 'out', 'train') == of_set


def test_images_of_records_are_read_in_place(tmp_path):
  listing = tfds.read([DATA / 'pets'], conversion.Options(), tmp_path / 'work')
  for image in listing.images:
    assert image.source.path.startswith(str(DATA))
    assert image.source.read() == prepared(image.split)[image.filename.rpartition('/')[2]][0]
  assert not (tmp_path / 'work').exists()


def test_what_the_set_says_of_itself_decides(tmp_path):
  """Its names of files, and which of several features are input and output."""
  folder = copied(tmp_path)
  for path in folder.glob('pets-train*'):
    path.rename(folder / 'of train, part 00000')

  def change(info):
    info['splits'][-1 if info['splits'][-1]['name'] == 'train' else 0]['filepathTemplate'] = (
      'of {SPLIT}, part {SHARD_INDEX}'
    )
    items = [{'featureKey': name} for name in ('mask', 'label')]
    info['supervisedKeys'] = {'tuple': {'items': items}}

  edited(folder, 'dataset_info.json', change)
  convert(folder, tmp_path / 'out')
  assert {image[:4] for image, _ in written(tmp_path / 'out', 'train').values()} == {b'\x89PNG'}
  convert(folder, tmp_path / 'by_flag', image_column='image')
  assert written(tmp_path / 'by_flag', 'train') == prepared('train')


def test_classes_without_a_file_of_names(tmp_path):
  folder = copied(tmp_path)
  (folder / 'label.labels.txt').unlink()
  assert convert(folder, tmp_path / 'out').info.labels == ('0', '1', '2')


def test_imagenet_is_said_to_begin_with_0(tmp_path):
  folder = copied(tmp_path)
  (folder / 'label.labels.txt').write_text('\n'.join(imagenet.synsets()) + '\n')
  label = {'classLabel': {'numClasses': '1000'}}
  edited(folder, 'features.json', lambda f: f['featuresDict']['features'].update(label=label))
  convert(folder, tmp_path / 'out')
  assert "these are ImageNet's classes, with labels 0 to 999" in str(report(tmp_path / 'out'))


def without(name):
  return lambda features: features['featuresDict']['features'].pop(name)


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('features.json', without('label'), 'features.json: no label column: it has file_name, image,'),
    ('features.json', lambda f: f.pop('featuresDict'), 'features.json does not list features'),
    (
      'dataset_info.json',
      lambda info: info.update(fileFormat='riegeli'),
      'has files of the format riegeli; tfrecord and array_record are read',
    ),
    ('dataset_info.json', lambda info: info.update(name='dogs'), 'no file of dogs in '),
    ('dataset_info.json', lambda info: info.pop('splits'), 'dataset_info.json: splits is missing'),
  ],
)
def test_folders_that_are_of_no_use(tmp_path, name, change, message):
  folder = copied(tmp_path)
  edited(folder, name, change)
  with pytest.raises(ValueError, match=message) as error:
    convert(folder, tmp_path / 'out')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'out').exists()


def test_several_versions(tmp_path):
  copied(tmp_path)
  shutil.copytree(tmp_path / 'pets' / '1.2.0', tmp_path / 'pets' / '2.0.0')
  with pytest.raises(ValueError, match=r'several sets or versions .* give one: .*1.2.0, .*2.0.0'):
    convert(tmp_path / 'pets', tmp_path / 'out')


def cut(path):
  os.truncate(path, path.stat().st_size - 300)


def cut_between_records(path):
  content = path.read_bytes()
  length = int.from_bytes(content[:8], 'little')
  path.write_bytes(content[: 8 + 4 + length + 4])


def no_examples(path):
  path.write_bytes((5).to_bytes(8, 'little') + b'crc.' + b'hello' + b'crc.')


@pytest.mark.parametrize(
  ('damage', 'reason'),
  [
    (cut, 'is cut short or damaged: record '),
    (cut_between_records, 'holds 1 records, dataset_info.json says 2'),
    (no_examples, 'record 0: no tf.train.Example'),
    (lambda path: path.write_bytes(b''), 'holds 0 records, dataset_info.json says 2'),
  ],
)
def test_a_file_that_is_of_no_use_is_listed_and_the_others_are_read(tmp_path, damage, reason):
  folder = copied(tmp_path)
  damage(folder / 'pets-test.tfrecord-00000-of-00001')
  result = convert(folder, tmp_path / 'out')
  assert list(result.info.splits) == ['train', 'validation']
  ((file, why),) = [(entry['file'], entry['reason']) for entry in result.skipped]
  assert file == 'pets-test.tfrecord-00000-of-00001' and why.startswith(reason)
  assert '\n' not in why
  with pytest.raises(ValueError, match=r'pets-test.*on_bad_image=fail'):
    convert(folder, tmp_path / 'strict', skip_bad=False)


def test_missing_files(tmp_path):
  folder = copied(tmp_path)
  name = 'pets-{}.tfrecord-0000{}-of-0000{}'
  (folder / name.format('train', 0, 1)).rename(folder / name.format('train', 0, 2))
  (folder / name.format('test', 0, 1)).unlink()

  def change(info):
    for split in info['splits']:
      split['shardLengths'] *= 2 if split['name'] == 'train' else 1

  edited(folder, 'dataset_info.json', change)
  result = convert(folder, tmp_path / 'out')
  assert result.skipped == [
    {'file': name.format('train', 1, 2), 'reason': 'is missing: 1 of 2 files are there'}
  ]
  assert f'no file of the split test is in {folder}' in report(tmp_path / 'out')['notes']
  assert written(tmp_path / 'out', 'train') == prepared('train')


# array_record


def as_array_records(folder, group_size=1):
  """The same records, written as TensorFlow Datasets does."""
  module = pytest.importorskip(
    'array_record.python.array_record_module', reason='extra array_record'
  )
  for path in folder.glob('*.tfrecord-*'):
    writer = module.ArrayRecordWriter(
      str(path).replace('.tfrecord-', '.array_record-'), f'group_size:{group_size}'
    )
    for serialized in tf.data.TFRecordDataset([str(path)]):
      writer.write(serialized.numpy())
    writer.close()
    path.unlink()
  edited(folder, 'dataset_info.json', lambda info: info.update(fileFormat='array_record'))
  return folder


@pytest.mark.parametrize('group_size', [1, 3])
def test_array_records_are_those_of_the_set(tmp_path, group_size):
  folder = as_array_records(copied(tmp_path), group_size)
  result = convert(folder, tmp_path / 'out')
  assert (result.info.labels, result.skipped) == (CLASSES, [])
  for split in ('train', 'validation', 'test'):
    assert written(tmp_path / 'out', split) == prepared(split)
  assert not (tmp_path / 'out' / conversion.WORK_FOLDER).exists()


def test_images_of_array_records_are_read_in_place(tmp_path):
  """As those of TFRecord files, where records are not compressed together."""
  folder, work = as_array_records(copied(tmp_path)), tmp_path / 'work'
  for image in tfds.read([folder], conversion.Options(), work).images:
    assert image.source.path.startswith(str(folder))
    content = pickle.loads(pickle.dumps(image.source)).read()
    assert content == prepared(image.split)[image.filename.rpartition('/')[2]][0]
    assert image.source.size == len(content)
  assert not work.exists()


def test_an_array_record_that_breaks_later_is_one_bad_image(tmp_path):
  folder = as_array_records(copied(tmp_path))
  path = next(folder.glob('*-test.array_record-*'))
  listing = tfds.read([folder], conversion.Options(), tmp_path)
  sources = [image.source for image in listing.images if image.source.path == str(path)]
  content = bytearray(path.read_bytes())
  content[150] ^= 0xFF
  path.write_bytes(content)
  with pytest.raises(images.BadImageError, match=f'record 0 of {path} is damaged: '):
    sources[0].read()
  assert sources[1].read().startswith(JPEG[:2])


def test_array_records_that_are_damaged(tmp_path):
  folder = as_array_records(copied(tmp_path))
  path = folder / 'pets-test.array_record-00000-of-00001'
  os.truncate(path, path.stat().st_size // 2)
  result = convert(folder, tmp_path / 'out')
  ((file, why),) = [(entry['file'], entry['reason']) for entry in result.skipped]
  assert file == path.name
  assert why.startswith('is no array_record file, cut short or damaged: ') and '\n' not in why


def test_array_records_without_the_package(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'array_record.python', None)
  folder = copied(tmp_path)
  edited(folder, 'dataset_info.json', lambda info: info.update(fileFormat='array_record'))
  for path in folder.glob('*.tfrecord-*'):
    path.rename(str(path).replace('.tfrecord-', '.array_record-'))
  with pytest.raises(ValueError, match=r'array_record: pip install .slim-inception\[array_record'):
    convert(folder, tmp_path / 'out')
