"""Parquet and Arrow files that Hugging Face's `datasets` wrote (tests/data/make_sets.py)."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from slim_inception.datasets import (
  arrow,
  columns,
  conversion,
  dataset_factory,
  formats,
  imagenet,
  parquet,
  parquet_pages,
  records,
)

from tests.datasets import imagenet_layouts
from tests.datasets.archives import left_in
from tests.datasets.odd_images import JPEG, commented
from tests.datasets.written import report, rows_of

pyarrow = pytest.importorskip('pyarrow', reason='extra parquet')
pq = pytest.importorskip('pyarrow.parquet', reason='extra parquet')

DATA = Path(__file__).parents[1] / 'data' / 'huggingface'
CLASSES = ('cat', 'dog', 'fish')
FIRST, SECOND = (f'data/train-0000{index}-of-00002' for index in range(2))


def convert(source, out, **options):
  options = {'validation_fraction': None, 'train_shards': 2} | options
  return formats.convert(str(source), out, conversion.Options(**options))


def written(out, split, name='huggingface'):
  """{image: labels} of the records."""
  return {image: labels for _, image, labels in rows_of(out, split, name)}


def rows(*names):
  """{image: label} of the fixture's parquet files, by pyarrow."""
  tables = [pq.read_table(DATA / 'hub' / f'{name}.parquet').to_pylist() for name in names]
  return {row['image']['bytes']: (row['label'],) for table in tables for row in table}


# Layouts: each holds the images of the fixture and returns --source.


def hub(root):
  return DATA / 'hub'


def saved(root):
  return DATA / 'saved'


def hub_by_pattern(root):
  return DATA / 'hub' / 'data' / '*.parquet'


def packed(root):
  """As before version 5: compressed, in groups, with a dictionary."""
  for path in (DATA / 'hub' / 'data').iterdir():
    (root / 'data').mkdir(parents=True, exist_ok=True)
    pq.write_table(pq.read_table(path), root / 'data' / path.name, row_group_size=3)
  return root


def converted_by_the_hub(root):
  """The branch refs/convert/parquet."""
  for path in (DATA / 'hub' / 'data').iterdir():
    split, index = path.name.split('-')[:2]
    (root / 'default' / split).mkdir(parents=True, exist_ok=True)
    shutil.copy(path, root / 'default' / split / f'{int(index):04d}.parquet')
  return root


def saved_with_leftovers(root):
  """Beside the files that state.json names: a cache of `map`, and what is compressed in memory."""
  shutil.copytree(DATA / 'saved', root)
  shutil.copy(root / 'test' / 'data-00000-of-00001.arrow', root / 'train' / 'cache-0a1b.arrow')
  shutil.copy(root / 'test' / 'data-00000-of-00001.arrow', root / 'train' / 'old.arrow')
  return root


def saved_compressed(root):
  shutil.copytree(DATA / 'saved', root)
  options = pyarrow.ipc.IpcWriteOptions(compression='zstd')
  for path in root.rglob('*.arrow'):
    table = pyarrow.ipc.open_stream(path.read_bytes()).read_all()
    with pyarrow.ipc.new_stream(path, table.schema, options=options) as stream:
      stream.write_table(table)
  return root


LAYOUTS = (
  hub, saved, hub_by_pattern, packed, converted_by_the_hub, saved_with_leftovers,
  saved_compressed,
)  # fmt: skip


@pytest.mark.parametrize('layout', LAYOUTS)
def test_records_are_the_rows(tmp_path, layout):
  out = tmp_path / 'out'
  result = convert(layout(tmp_path / 'source'), out)
  assert (result.info.name, result.info.labels) == ('huggingface', CLASSES)
  assert written(out, 'train') == rows(FIRST, SECOND)
  assert written(out, 'validation') == rows('data/validation-00000-of-00001')
  assert list(result.info.splits) == ['train', 'validation'] and result.skipped == []
  assert '2 images without a label are left out, such as ' in str(report(out)['notes'])
  assert 'is recognized as huggingface: ' in report(out)['recognized']
  assert not (out / conversion.WORK_FOLDER).exists()


def test_what_a_file_holds_as_it_is_is_read_in_place(tmp_path):
  for path in sorted(DATA.rglob('*-of-*')):
    reader = parquet if path.suffix == '.parquet' else arrow
    table = reader.read(path, tmp_path / 'work')
    assert all(image.path == str(path) and image.read()[:2] == JPEG[:2] for image in table.images)
  assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'data_page_version': '2.0', 'data_page_size': 700, 'row_group_size': 4},
    {'write_page_checksum': True, 'write_page_index': True},
    {'use_dictionary': True},
    {'use_dictionary': True, 'data_page_version': '2.0', 'data_page_size': 700},
    {'use_dictionary': True, 'dictionary_pagesize_limit': 2000, 'write_batch_size': 2},
    {'compression': 'snappy'},
    {'compression': 'snappy', 'use_dictionary': True, 'row_group_size': 4},
    {'compression': 'snappy', 'data_page_version': '2.0', 'data_page_size': 700},
    {'write_statistics': False},
    {'compression': 'zstd'},
    {'column_encoding': {'image.bytes': 'DELTA_LENGTH_BYTE_ARRAY'}},
  ],
)
def test_places_in_parquet_files_are_those_of_pyarrow(tmp_path, options):
  table = pq.read_table(DATA / 'hub' / f'{FIRST}.parquet')
  path = tmp_path / 'table.parquet'
  pq.write_table(table, path, **{'compression': 'none', 'use_dictionary': False} | options)
  values = parquet_pages.find(str(path), pq.read_metadata(path), 0)
  if options.keys() & {'write_statistics', 'column_encoding'} or options == {'compression': 'zstd'}:
    assert values is None
  else:
    images = [row['bytes'] for row in table.column('image').to_pylist()]
    assert [image.read() for image in values] == images
    assert [image.size for image in values] == list(map(len, images))


@pytest.mark.parametrize('version', ['1.0', '2.0'])
@pytest.mark.parametrize('codec', ['snappy', 'zstd', 'gzip', 'brotli'])
def test_compressed_pages_are_unpacked_as_pyarrow_does(tmp_path, codec, version):
  contents = [bytes([n]) * 900 + os.urandom(n) for n in range(40)]
  cells = [{'bytes': content, 'path': None} for content in contents]
  options = {'data_page_size': 3000, 'row_group_size': 16, 'data_page_version': version}
  for use_dictionary in (False, True):
    path = tmp_path / f'{use_dictionary}.parquet'
    table = pyarrow.table({'image': cells, 'label': [0] * len(cells)})
    pq.write_table(table, path, compression=codec, use_dictionary=use_dictionary, **options)
    with open(tmp_path / 'unpacked', 'w+b') as file:
      places = parquet_pages.unpack(str(path), pq.read_metadata(path), 0, file)
    if codec == 'brotli':
      assert places is None
    else:
      unpacked = (tmp_path / 'unpacked').read_bytes()
      assert [unpacked[start : start + size] for start, size in places] == contents
    read = parquet.read(path, tmp_path / 'work')  # whichever way
    assert [image.read() for image in read.images] == contents


def test_a_page_that_ends_before_it_begins_is_damage(tmp_path):
  """Its end is the beginning of its header: read on from there, it would come again for ever."""
  path = tmp_path / 'table.parquet'
  table = pyarrow.table({'image': [b'a' * 9]})
  pq.write_table(table, path, compression='none', use_dictionary=False)
  metadata, content = pq.read_metadata(path), bytearray(path.read_bytes())
  assert content[4:10:2] == b'\x15' * 3  # numbers of 32 bits: kind, size, size when compressed
  header = metadata.row_group(0).column(0).total_compressed_size - content[9] // 2
  content[9] = 2 * header - 1  # -header
  path.write_bytes(content)
  with pytest.raises(ValueError, match='the page at byte 4 runs past its column'):
    parquet_pages.find(str(path), metadata, 0)


def test_a_page_of_another_size_than_it_says_is_damage(tmp_path):
  path = tmp_path / 'table.parquet'
  cells = [{'bytes': b'a' * 2000, 'path': None}]
  table = pyarrow.table({'image': cells, 'label': [0]})
  pq.write_table(table, path, compression='snappy', use_dictionary=False)
  content = path.read_bytes()
  for position in range(4, 40):
    damaged = bytearray(content)
    damaged[position] ^= 0x15
    path.write_bytes(damaged)
    try:
      read = parquet.read(path, tmp_path / 'work')
    except ValueError as error:
      assert f'{path} is no parquet file' in str(error) and '\n' not in str(error)
    else:  # a bit of an image, or one that means nothing
      assert [image.size for image in read.images] == [2000]


def test_several_labels_a_row(tmp_path):
  out = tmp_path / 'out'
  result = convert(DATA / 'several', out, validation_fraction=0.0)
  assert result.info.multi_label and result.info.labels == CLASSES
  table = pq.read_table(DATA / 'several' / 'train.parquet').to_pylist()
  assert written(out, 'train') == {row['img']['bytes']: tuple(row['tags']) for row in table}


# Tables without the features of `datasets`


def write(path, content, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(pyarrow.table(content), path, **options)


def images(count):
  return [commented(str(number)) for number in range(count)]


def test_text_labels_and_columns_by_flag(tmp_path):
  content = {'raw': images(4), 'thumbnail': images(4), 'kind': ['b', 'a', None, 'b']}
  write(tmp_path / 'photos.parquet', content)
  flags = {'image_column': 'raw', 'label_column': 'kind', 'validation_fraction': 0.0}
  result = convert(tmp_path / 'photos.parquet', tmp_path / 'out', **flags)
  assert result.info.labels == ('a', 'b')
  a_to_b = dict(zip(images(4), [(1,), (0,), None, (1,)], strict=True))
  del a_to_b[images(4)[2]]
  assert written(tmp_path / 'out', 'train') == a_to_b


def test_images_are_called_by_their_own_names_if_these_are_distinct(tmp_path):
  cells = [
    {'bytes': image, 'path': f'a/{name}.jpg'} for image, name in zip(images(3), '112', strict=True)
  ]
  write(tmp_path / 'data' / 'train-00000-of-00001.parquet', {'image': cells, 'label': [0, 1, 0]})
  write(tmp_path / 'data' / 'test-00000-of-00001.parquet', {'image': cells[1:], 'label': [0, 1]})
  convert(tmp_path / 'data', tmp_path / 'out', validation_fraction=0.0)
  names = {}
  for split in ('train', 'test'):
    paths = dataset_factory.get_dataset('huggingface', split, tmp_path / 'out').paths
    parsed = tf.data.TFRecordDataset(list(paths)).map(records.parse_example)
    names[split] = sorted(record['filename'].numpy().decode() for record in parsed)
  assert names == {
    'train': [f'train-00000-of-00001/{number:08d}' for number in range(3)],
    'test': [f'test-00000-of-00001/{number}.jpg' for number in (1, 2)],
  }


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ({'pixels': [1], 'label': [0]}, 'no image column: it has pixels, label; --image_column names'),
    ({'image': [JPEG], 'kind': [0]}, 'no label column: it has image, kind; --label_column names'),
    ({'image': [JPEG], 'label': [0.5]}, "label column 'label' is double, expected whole numbers"),
    ({'image': [5], 'label': [0]}, "column 'image' is int64, expected a struct of path and bytes"),
    ({'x': [JPEG], 'y': [JPEG], 'label': [0]}, 'several image columns, x, y: choose one with --im'),
    ({'image': ['1.jpg'], 'label': [0]}, 'it holds paths of images, such as 1.jpg, not the images'),
    ({'image': [JPEG], 'label': [-5]}, 'has the label -5, which is no number of a class'),
  ],
)
def test_tables_that_are_of_no_use(tmp_path, content, message):
  write(tmp_path / 'train.parquet', content)
  with pytest.raises(ValueError, match=message) as error:
    convert(tmp_path / 'train.parquet', tmp_path / 'out')
  assert '\n' not in str(error.value)
  assert left_in(tmp_path / 'out') in ([], [conversion.WORK_FOLDER])


def test_a_column_that_is_not_there(tmp_path):
  with pytest.raises(ValueError, match=r"no column 'tag' \(--label_column\); it has image, label"):
    convert(DATA / 'hub', tmp_path / 'out', label_column='tag')


def test_options_of_lists(tmp_path):
  for source in (DATA / 'hub', DATA.parent / 'tfds' / 'pets'):
    with pytest.raises(ValueError, match='no list of images: leave out --split_column'):
      convert(source, tmp_path / 'out', split_column='set')


def test_several_configurations(tmp_path):
  for name in ('plain', 'cropped'):
    shutil.copytree(DATA / 'hub' / 'data', tmp_path / 'hub' / name)
  with pytest.raises(ValueError, match=r'several configurations \(cropped, plain\): give one of'):
    convert(tmp_path / 'hub', tmp_path / 'out')


def test_splits_of_other_names_are_not_used(tmp_path):
  shutil.copytree(DATA / 'hub', tmp_path / 'hub')
  other = tmp_path / 'hub' / 'data' / 'unsupervised-00000-of-00001.parquet'
  shutil.copy(tmp_path / 'hub' / 'data' / 'test-00000-of-00001.parquet', other)
  convert(tmp_path / 'hub', tmp_path / 'out')
  assert (
    'not used, since they are of no known split: unsupervised' in report(tmp_path / 'out')['notes']
  )


# Parts that are of no use


def cut(path):
  os.truncate(path, path.stat().st_size - 300)


def cut_at_the_end_of_a_batch(path):
  table = pyarrow.ipc.open_stream(path.read_bytes()).read_all()
  with pyarrow.ipc.new_stream(path, table.schema) as stream:
    stream.write_table(table)
  os.truncate(path, path.stat().st_size - 8)


def pointer(path):
  path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n')


def other_schema(path):
  write(path, {'image': [JPEG], 'text': ['a']})


def other_classes(path):
  table = pq.read_table(path)
  features = json.loads(table.schema.metadata[b'huggingface'])
  features['info']['features']['label']['names'].reverse()
  metadata = {b'huggingface': json.dumps(features).encode()}
  pq.write_table(table.replace_schema_metadata(metadata), path)


def flipped(path):
  """The header of the first page is another one's."""
  content = bytearray(path.read_bytes())
  content[4:12] = b'\xff' * 8
  path.write_bytes(content)


@pytest.mark.parametrize(
  ('name', 'damage', 'reason'),
  [
    ('hub', cut, 'is no parquet file of labelled images: '),
    ('hub', pointer, 'is no parquet file of labelled images: it is a pointer of Git LFS; git lfs'),
    ('hub', other_schema, 'is no parquet file of labelled images: no label column: it has image'),
    ('hub', other_classes, 'its classes are not those of data/train-00000-of-00002.parquet'),
    ('hub', flipped, 'is no parquet file of labelled images: '),
    ('hub', os.remove, 'is missing: 1 of 2 files are there'),
    ('saved', cut, 'is no Arrow file of labelled images: '),
    ('saved', cut_at_the_end_of_a_batch, 'is no Arrow file of labelled images: it is cut short'),
    ('saved', pointer, 'is no Arrow file of labelled images: it is a pointer of Git LFS'),
    ('saved', os.remove, 'is missing: 1 of 2 files are there'),
  ],
)
def test_a_file_that_is_of_no_use_is_listed_and_the_others_are_read(tmp_path, name, damage, reason):
  root = tmp_path / 'source'
  shutil.copytree(DATA / name, root)
  (path,) = root.rglob('*-00001-of-00002.*')
  damage(path)
  result = convert(root, tmp_path / 'out')
  assert written(tmp_path / 'out', 'train') == rows(FIRST)
  ((file, why),) = [(entry['file'], entry['reason']) for entry in result.skipped]
  assert file == path.relative_to(root).as_posix() and why.startswith(reason)
  assert '\n' not in why and report(tmp_path / 'out')['num_skipped'] == 1
  with pytest.raises(ValueError, match=f'{file}: .*on_bad_image=fail'):
    convert(root, tmp_path / 'strict', skip_bad=False)
  assert left_in(tmp_path / 'strict') in ([], [conversion.WORK_FOLDER])


def test_nothing_can_be_read(tmp_path):
  for name in ('a.parquet', 'b.parquet'):
    (tmp_path / name).write_bytes(b'PAR1 cut')
  with pytest.raises(ValueError, match=r'a\.parquet is no parquet file of labelled images: '):
    convert(tmp_path, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_features_that_mean_nothing(tmp_path):
  for metadata in (
    b'{',
    b'[]',
    b'{"info": {"features": 5}}',
    b'{"info": {"features": {"label": 1}}}',
  ):
    table = pyarrow.table({'image': [JPEG], 'label': [0]})
    schema = table.replace_schema_metadata({b'huggingface': metadata}).schema
    assert columns.find(schema).classes is None


# ImageNet


def test_hugging_faces_imagenet_is_recognized(tmp_path):
  """By the names of its classes; its labels begin with 1, as those of slim's nets."""
  table = pyarrow.table({'image': [{'bytes': JPEG, 'path': None}], 'label': [7]})
  texts = [text.split(',')[0] for text in imagenet.synsets().values()]
  label = {'_type': 'ClassLabel', 'names': texts}
  features = {'info': {'features': {'image': {'_type': 'Image'}, 'label': label}}}
  table = table.replace_schema_metadata({b'huggingface': json.dumps(features).encode()})
  (tmp_path / 'hub' / 'data').mkdir(parents=True)
  pq.write_table(table, tmp_path / 'hub' / 'data' / 'train-00000-of-00001.parquet')
  (tmp_path / 'saved' / 'train').mkdir(parents=True)
  path = tmp_path / 'saved' / 'train' / 'data-00000-of-00001.arrow'
  with pyarrow.ipc.new_stream(path, table.schema) as stream:
    stream.write_table(table)
  for name in ('hub', 'saved'):
    assert formats.recognize(str(tmp_path / name))[0].name == 'imagenet'
    convert(tmp_path / name, tmp_path / f'{name}_out')
    assert written(tmp_path / f'{name}_out', 'train', 'imagenet') == {JPEG: (8,)}


def test_imagenets_layout_in_arrow_files(tmp_path):
  root = imagenet_layouts.parquet_files(tmp_path / 'hub')
  for path in list(root.rglob('*.parquet')):
    table = pq.read_table(path)
    with pyarrow.ipc.new_stream(path.with_suffix('.arrow'), table.schema) as stream:
      stream.write_table(table)
    path.unlink()
  imagenet_layouts.convert(root, tmp_path / 'arrow')
  imagenet_layouts.convert(imagenet_layouts.slim_folders(tmp_path / 'root'), tmp_path / 'folders')
  for split in ('train', 'validation'):
    of_folders = imagenet_layouts.read(tmp_path / 'folders', split)
    assert imagenet_layouts.read(tmp_path / 'arrow', split) == of_folders
