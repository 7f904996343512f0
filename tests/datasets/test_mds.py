"""MDS shards that MosaicML's `streaming` wrote (tests/data/make_sets.py)."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, formats, mds

from tests.datasets.written import report, rows_of

DATA = Path(__file__).parents[1] / 'data' / 'mds'
# The same images, as TensorFlow Datasets wrote them.
TFDS = DATA.parent / 'tfds' / 'pets' / '1.2.0'


def convert(source, out, **options):
  return formats.convert(str(source), out, conversion.Options(**{'train_shards': 2} | options))


def written(out, split):
  """{image: labels} of the records."""
  return {image: labels for _, image, labels in rows_of(out, split, 'mds')}


def pets(split):
  """{image: labels} of the fixture of TensorFlow Datasets, by TensorFlow."""
  features = [
    tf.train.Example.FromString(serialized.numpy()).features.feature
    for serialized in tf.data.TFRecordDataset(sorted(map(str, TFDS.glob(f'*-{split}.tfrecord-*'))))
  ]
  return {f['image'].bytes_list.value[0]: tuple(f['label'].int64_list.value) for f in features}


def copied(root, name='pets'):
  return Path(shutil.copytree(DATA / name, root / name))


def edited(index, change):
  content = json.loads(index.read_text())
  change(content['shards'])
  index.write_text(json.dumps(content))


@pytest.mark.parametrize('name', ['pets', 'packed'])
def test_records_are_the_samples(tmp_path, name):
  if name == 'packed':
    pytest.importorskip('pyarrow', reason='extra parquet')
  out = tmp_path / 'out'
  result = convert(DATA / name, out)
  assert (result.info.name, result.info.labels) == ('mds', ('0', '1', '2'))
  assert result.skipped == []
  for split in ('train', 'validation'):
    assert written(out, split) == pets(split)
  assert 'is recognized as mds: ' in report(out)['recognized']
  assert any('2 images without a label are left out' in note for note in report(out)['notes'])
  assert not (out / conversion.WORK_FOLDER).exists()


def test_images_are_read_in_place_and_called_by_their_names(tmp_path):
  listing = mds.read([DATA / 'pets' / 'train'], conversion.Options(), tmp_path / 'work')
  images = list(listing.images)
  assert all(image.source.path.startswith(str(DATA)) for image in images)
  assert [image.filename.rpartition('/')[2] for image in images] == [
    f'photo_{number}.jpg' for number in range(8)
  ]
  assert not (tmp_path / 'work').exists()


def test_several_labels_a_sample(tmp_path):
  result = convert(DATA / 'several', tmp_path / 'out', validation_fraction=0.0)
  assert result.info.multi_label and result.info.labels == ('cat', 'fish')
  labels = list(written(tmp_path / 'out', 'train').values())
  assert sorted(labels) == [(), (), (0,), (0,), (0, 1), (0, 1)]


def test_columns_by_flag(tmp_path):
  with pytest.raises(ValueError, match=r"index.json: no column 'z' \(--label_column\); it has "):
    convert(DATA / 'pets', tmp_path / 'out', label_column='z')
  with pytest.raises(ValueError, match="image column 'y' is encoded as int; valid are jpeg, png"):
    convert(DATA / 'pets', tmp_path / 'out', image_column='y')
  with pytest.raises(ValueError, match="label column 'x' is encoded as jpeg; valid are int, "):
    convert(DATA / 'pets', tmp_path / 'out', label_column='x')
  convert(DATA / 'pets', tmp_path / 'out', label_column='filename', split='train')
  assert written(tmp_path / 'out', 'train').keys() == pets('train').keys()


def cut(folder):
  os.truncate(folder / 'shard.00001.mds', 900)


def missing(folder):
  (folder / 'shard.00001.mds').unlink()


def other_count(folder):
  path = folder / 'shard.00001.mds'
  path.write_bytes(struct.pack('<I', 9) + path.read_bytes()[4:])


def offsets_that_lead_nowhere(folder):
  path = folder / 'shard.00001.mds'
  path.write_bytes(path.read_bytes()[:4] + bytes([255]) * 8 + path.read_bytes()[12:])


def leads_outside(folder):
  shutil.copy(folder / 'shard.00001.mds', folder.parent)
  outside = {'basename': '../shard.00001.mds', 'bytes': 1}
  edited(folder / 'index.json', lambda shards: shards[1].update(raw_data=outside))


def other_columns(folder):
  edited(folder / 'index.json', lambda shards: shards[1]['column_names'].__setitem__(2, 'z'))


def other_format(folder):
  edited(folder / 'index.json', lambda shards: shards[1].update(format='csv'))


@pytest.mark.parametrize(
  ('damage', 'reason'),
  [
    (cut, 'is cut short or damaged: 900 bytes, index.json says '),
    (missing, 'is missing'),
    (other_count, 'holds 9 samples, index.json says '),
    (offsets_that_lead_nowhere, 'is damaged: '),
    (leads_outside, 'its path leads out of the folder: ../shard.00001.mds'),
    (other_columns, 'has other columns than the first: '),
    (other_format, 'is csv 2, expected mds 2'),
  ],
)
def test_a_shard_that_is_of_no_use_is_listed_and_the_others_are_read(tmp_path, damage, reason):
  folder = copied(tmp_path)
  damage(folder / 'train')
  result = convert(folder, tmp_path / 'out')
  ((file, why),) = [(entry['file'], entry['reason']) for entry in result.skipped]
  assert file.startswith('train/') and file.endswith('shard.00001.mds')
  assert why.startswith(reason) and '\n' not in why
  rest = written(tmp_path / 'out', 'train')
  assert rest and rest.items() < pets('train').items()
  with pytest.raises(ValueError, match='on_bad_image=fail'):
    convert(folder, tmp_path / 'strict', skip_bad=False)


def test_compressed_shards_that_are_of_no_use(tmp_path):
  pytest.importorskip('pyarrow', reason='extra parquet')
  folder = copied(tmp_path, 'packed')
  os.truncate(folder / 'train' / 'shard.00001.mds.zstd', 300)
  edited(folder / 'validation' / 'index.json', lambda shards: shards[0].update(compression='bz2'))
  result = convert(folder, tmp_path / 'out')
  reasons = [entry['reason'] for entry in result.skipped]
  assert reasons[0].startswith('compressed data are cut short or damaged: ')
  assert reasons[1] == 'is compressed as bz2; br, gz, snappy, zstd are read'


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda index: index.unlink(), 'index.json is missing: it says what the shards of MDS besi'),
    (lambda index: index.write_text('{"shards": ['), 'index.json is no valid JSON: '),
    (lambda index: index.write_text('{}'), 'index.json: shards is missing'),
    (
      lambda index: edited(index, lambda s: s[1].pop('samples')),
      r': shards\[1\].samples is missing',
    ),
    (lambda index: edited(index, lambda s: s.clear()), 'index.json lists no shards of MDS'),
    (lambda index: edited(index, lambda s: s[0].update(raw_data=1)), 'raw_data must be an object'),
  ],
  ids=['missing', 'cut', 'empty', 'field', 'none', 'type'],
)
@pytest.mark.parametrize('of_split', [True, False])
def test_a_broken_index_is_named(tmp_path, damage, message, of_split):
  """Also of one split of several, which is not left out without a word."""
  folder = copied(tmp_path)
  damage(folder / 'train' / 'index.json')
  source = folder if of_split else folder / 'train'
  assert formats.recognize(str(source))[0].name == 'mds'
  with pytest.raises(ValueError, match=message) as error:
    convert(source, tmp_path / 'out')
  assert str(folder / 'train' / 'index.json') in str(error.value) and '\n' not in str(error.value)


def test_an_index_without_shards(tmp_path):
  (tmp_path / 'index.json').write_text('{"shards": []}')
  with pytest.raises(ValueError, match='is of no known format; valid are .*; mds: MDS of Mosaic'):
    formats.recognize(str(tmp_path))
  with pytest.raises(ValueError, match='has no index.json of MDS; expected MDS of MosaicML'):
    formats.FORMATS[[each.name for each in formats.FORMATS].index('mds')].convert(
      str(tmp_path), tmp_path / 'out'
    )
