"""Lists of images: CSV, TSV and lines of JSON."""

import json
import zipfile

import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, dataset_info, formats, records, verification

from tests.datasets.odd_images import commented

NAMES = [f'{i}.jpg' for i in range(8)]
KINDS = ['cat', 'dog'] * 4


def images_in(folder, names=NAMES):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(commented(name))


def csv_of(path, rows, header='path,label', delimiter=','):
  lines = [header.replace(',', delimiter), *(delimiter.join(map(str, row)) for row in rows)]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n')
  return path


def plan_of(source, tmp_path, **options):
  return formats.make_plan(str(source), conversion.Options(**options), tmp_path / 'work')


def labels_of(plan):
  """Name of each image -> name of its class, or several."""
  names = plan.labels
  return {
    item.filename: tuple(names[i] for i in item.label)
    if isinstance(item.label, tuple)
    else names[item.label]
    for items in plan.splits.values()
    for item in items
  }


ROWS = list(zip(NAMES, KINDS, strict=True))
EXPECTED = dict(ROWS)


def test_csv(tmp_path):
  images_in(tmp_path)
  path = csv_of(tmp_path / 'mine.csv', ROWS)
  plan = plan_of(path, tmp_path)
  assert (
    plan.recognized == f'{path} is recognized as manifest: mine.csv has the columns path and label'
  )
  assert labels_of(plan) == EXPECTED and plan.labels == ('cat', 'dog')
  assert {split: len(items) for split, items in plan.splits.items()} == {
    'train': 6,
    'validation': 2,
  }


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.csv', 'File Name,Label\n' + ''.join(f'{n},{k}\n' for n, k in ROWS)),
    ('a.csv', 'label;image\r\n' + ''.join(f'{k};{n}\r\n' for n, k in ROWS)),
    ('a.csv', ''.join(f'{n},{k}\n' for n, k in ROWS)),  # without a header
    ('a.csv', '\ufeffid,x,breed\n' + ''.join(f'{n[:-4]},,{k}\n' for n, k in ROWS)),
    ('a.tsv', 'path\tclass\n' + ''.join(f'"{n}"\t{k}\n' for n, k in ROWS)),
    ('a.jsonl', ''.join(json.dumps({'file_name': n, 'label': k}) + '\n' for n, k in ROWS)),
    ('a.jsonl', '\n'.join(json.dumps({'image': {'path': n}, 'label': k}) for n, k in ROWS)),
    ('a.json', json.dumps([{'file_name': n, 'label': k} for n, k in ROWS], indent=1)),
    ('a.json', json.dumps(dict(ROWS))),
  ],
)  # fmt: skip
def test_forms(tmp_path, name, text):
  images_in(tmp_path)
  (tmp_path / name).write_text(text, 'utf-8')
  options = {'label_column': 'breed'} if 'breed' in text else {}
  assert labels_of(plan_of(tmp_path / name, tmp_path, **options)) == EXPECTED
  (tmp_path / name).write_text(text.removeprefix('\ufeff'), 'utf-16')
  if not name.endswith('l'):
    assert labels_of(plan_of(tmp_path / name, tmp_path, **options)) == EXPECTED


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.csv', 'path,label,label\n0.jpg,a,b\n', "a.csv has two columns 'label': which one counts"),
    ('a.json', '{"images": [{"id": 1}], "annotations": []}', 'neither a list of .*COCO are not'),
    ('a.json', '["0.jpg", "1.jpg"]', 'a.json is neither a list of objects'),
    ('a.json', '[{"path": "0.jpg"', 'a.json is no JSON: '),
  ],
)
def test_what_a_list_cannot_be(tmp_path, name, text, message):
  images_in(tmp_path)
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    plan_of(tmp_path / name, tmp_path)


def test_several_labels_in_json(tmp_path):
  images_in(tmp_path)
  several = {name: [kind, 'animal'] for name, kind in ROWS}
  (tmp_path / 'a.json').write_text(json.dumps(several))
  plan = plan_of(tmp_path / 'a.json', tmp_path)
  assert plan.multi_label
  assert labels_of(plan) == {name: ('animal', kind) for name, kind in ROWS}


def test_kaggle(tmp_path):
  """Names without a suffix, images in train_images/, and a test.csv without labels."""
  root = tmp_path / 'kaggle'
  images_in(root / 'train_images')
  images_in(root / 'test_images', ['x.jpg', 'y.jpg'])
  csv_of(root / 'train.csv', [(n[:-4], k) for n, k in ROWS], 'id_code,label')
  csv_of(root / 'test.csv', [('x',), ('y',)], 'id_code')
  plan = plan_of(root / 'train.csv', tmp_path, image_column='id_code')
  assert labels_of(plan) == {f'train_images/{name}': kind for name, kind in ROWS}
  csv_of(root / 'train.csv', [(n[:-4], k) for n, k in ROWS], 'id,label')
  plan = plan_of(root, tmp_path)  # before a folder of two class folders of these names
  assert plan.name == 'manifest' and len(labels_of(plan)) == 8
  assert any('not used' in note and 'test.csv has no column' in note for note in plan.notes)


def test_splits_by_the_list_or_a_column(tmp_path):
  root = tmp_path / 'set'
  for split in ('train', 'val'):
    images_in(root / split)
    csv_of(root / f'{split}.csv', ROWS)
  plan = plan_of(root, tmp_path)
  assert {split: len(items) for split, items in plan.splits.items()} == {
    'train': 8,
    'validation': 8,
  }
  assert f'val/{NAMES[0]}' in labels_of(plan)
  plan = plan_of(f'{root}/{{train,val}}.csv', tmp_path, split='validation')
  assert {split: len(items) for split, items in plan.splits.items()} == {'validation': 8}
  images_in(root)
  rows = [(*row, ('train', 'test')[i % 2]) for i, row in enumerate(ROWS)]
  csv_of(root / 'all.csv', rows, 'path,label,split')
  plan = plan_of(root / 'all.csv', tmp_path, validation_fraction=0)
  assert {split: len(items) for split, items in plan.splits.items()} == {'train': 4, 'test': 4}
  csv_of(root / 'all.csv', [(*ROWS[0], 'fold3')], 'path,label,split')
  with pytest.raises(ValueError, match=r"all.csv, line 2: 'fold3' is no split"):
    plan_of(root / 'all.csv', tmp_path)


MULTI = [
  ('cat', 'dog'),
  ('dog',),
  (),
  ('cat',),
  ('cat', 'dog', 'hat'),
  ('hat',),
  ('dog',),
  ('cat',),
]


@pytest.mark.parametrize(
  ('name', 'text', 'options'),
  [
    (
      'a.csv',
      'path,label\n' + ''.join(f'{n},{"|".join(k)}\n' for n, k in zip(NAMES, MULTI, strict=True)),
      {},
    ),
    (
      'a.csv',
      'path,label\n' + ''.join(f'{n},{" ".join(k)}\n' for n, k in zip(NAMES, MULTI, strict=True)),
      {'label_separator': ' '},
    ),
    (
      'a.csv',
      'path,cat,dog,hat\n'
      + ''.join(
        f'{n},{int("cat" in k)},{int("dog" in k)},{float("hat" in k)}\n'
        for n, k in zip(NAMES, MULTI, strict=True)
      ),
      {'label_column': 'cat,dog,hat'},
    ),
    (
      'a.jsonl',
      '\n'.join(json.dumps({'path': n, 'tags': k}) for n, k in zip(NAMES, MULTI, strict=True)),
      {},
    ),
  ],
)
def test_several_labels(tmp_path, name, text, options):
  images_in(tmp_path)
  (tmp_path / name).write_text(text)
  out = tmp_path / 'out'
  options = conversion.Options(validation_fraction=0.25, train_shards=1, **options)
  formats.convert(str(tmp_path / name), out, options)
  info = dataset_info.read_info(out)
  assert info.multi_label and info.labels == ('cat', 'dog', 'hat')
  assert {split: of.num_images for split, of in info.splits.items()} == {
    'train': 6,
    'validation': 2,
  }
  counts = [sum(of.label_counts[label] for of in info.splits.values()) for label in range(3)]
  assert counts == [4, 4, 2]
  read = {}
  for split, of_split in info.splits.items():
    dataset_info.check_sizes(out, info, split)
    for serialized in tf.data.TFRecordDataset([str(out / s.name) for s in of_split.shards]):
      example = records.parse_example(serialized, multi_label=True)
      features = tf.train.Example.FromString(serialized.numpy()).features.feature
      texts = tuple(text.decode() for text in features['image/class/text'].bytes_list.value)
      assert texts == tuple(info.labels[label] for label in example['label'].numpy())
      read[example['filename'].numpy().decode()] = texts
  assert read == dict(zip(NAMES, MULTI, strict=True))
  assert verification.verify(out).problems == ()


def test_numbers(tmp_path):
  images_in(tmp_path)
  rows = [(name, f'{i % 3 + 1}.0') for i, name in enumerate(NAMES)]
  plan = plan_of(csv_of(tmp_path / 'a.csv', rows), tmp_path)
  assert plan.labels == ('0', '1', '2', '3')
  assert 'labels are numbers up to 3, of which 1 are of no image: 0' in plan.notes
  names = tmp_path / 'names.txt'
  names.write_text('none\nant\nbee\ncow\n')
  plan = plan_of(tmp_path / 'a.csv', tmp_path, labels=str(names))
  assert plan.labels == ('none', 'ant', 'bee', 'cow')
  names.write_text('ant\nbee\n')
  with pytest.raises(ValueError, match=r'names.txt names 2 classes, 0 to 1, but 2.jpg has the la'):
    plan_of(tmp_path / 'a.csv', tmp_path, labels=str(names))


def test_image_root(tmp_path):
  images_in(tmp_path / 'elsewhere', ['a/1.jpg', 'b/2.jpg'])
  path = csv_of(tmp_path / 'lists' / 'a.csv', [('a/1.jpg', 'x'), ('b/2.jpg', 'y')])
  with pytest.raises(ValueError, match=r'a.csv names images that are not in .*lists, such as a/1'):
    plan_of(path, tmp_path)
  plan = plan_of(path, tmp_path, image_root=str(tmp_path / 'elsewhere'))
  assert sorted(labels_of(plan)) == [
    f'{tmp_path}/elsewhere/{name}' for name in ('a/1.jpg', 'b/2.jpg')
  ]
  with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
    archive.writestr('a/1.jpg', commented('1'))
    archive.writestr('b/2.jpg', commented('2'))
  plan = plan_of(path, tmp_path, image_root=str(tmp_path / 'images.zip'), split='test')
  assert labels_of(plan) == {'a/1.jpg': 'x', 'b/2.jpg': 'y'}
  assert plan.splits['test'][1].source.read() == commented('2')
  with pytest.raises(FileNotFoundError, match='--image_root=nowhere does not exist'):
    plan_of(path, tmp_path, image_root='nowhere')


def test_rows_that_cannot_be_used_are_listed(tmp_path):
  images_in(tmp_path)
  lines = [
    'path,label', *(f'{name},{kind}' for name, kind in ROWS[:6]), 'gone.jpg,cat', '0.jpg,dog',
    'alone', ',cat', '6.jpg,',
  ]  # fmt: skip
  (tmp_path / 'a.csv').write_text('\n'.join(lines))
  options = conversion.Options(validation_fraction=0)
  result = formats.convert(str(tmp_path / 'a.csv'), tmp_path / 'out', options)
  path = tmp_path / 'a.csv'
  assert {entry['file']: entry['reason'] for entry in result.skipped} == {
    'gone.jpg': 'there is no such file',
    '0.jpg': 'there is another of this name, which is taken',
    f'{path}, line 10': '1 columns, the first row has 2',
    f'{path}, line 11': "no path of an image in 'path'",
  }
  assert result.info.splits['train'].num_images == 6
  report = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text())
  assert '1 images without a label are left out, such as 6.jpg' in report['notes']
  with pytest.raises(ValueError, match='on_bad_image=fail'):
    formats.convert(str(path), tmp_path / 'strict', conversion.Options(skip_bad=False))


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.csv', 'path,label\n0.jpg,1\n1.jpg,cat\n', "of mixed types: 1 of 0.jpg, 'cat' of 1.jpg"),
    ('a.csv', 'path,size\n0.jpg,1\n', '--label_column; it has path, size'),
    ('a.csv', 'url,label\n0.jpg,1\n', '--image_column; it has url, label'),
    ('a.csv', 'path,label\n', 'a.csv has no rows'),
    ('a.csv', '', 'a.csv has no rows'),
    ('a.jsonl', '[1]\n{\n', 'a.jsonl has no rows'),
    (
      'a.jsonl',
      '{"path": "0.jpg", "label": 1.5}',
      'line 1 has the label 1.5: expected a number or',
    ),
    ('a.csv', 'path,label\n0.jpg,\n', 'no labelled images in .*1 images without a label'),
  ],
)
def test_lists_that_cannot_be_used(tmp_path, name, text, message):
  images_in(tmp_path)
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    formats.convert(str(tmp_path / name), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_paths_of_windows(tmp_path):
  names = [f'{kind}/{name}' for name, kind in ROWS]
  images_in(tmp_path, names)
  (tmp_path / 'a\\b.jpg').write_bytes(commented('a'))  # a name that has one
  rows = [(name.replace('/', '\\'), kind) for name, (_, kind) in zip(names, ROWS, strict=True)]
  path = csv_of(tmp_path / 'list.csv', [*rows, ('a\\b.jpg', 'cat')])
  plan = plan_of(path, tmp_path)
  assert labels_of(plan) == {name: name[:3] for name in names} | {'a\\b.jpg': 'cat'}
  assert not plan.unusable


def test_lines_of_paths_and_numbers(tmp_path):
  """As Caffe has them, and others since. In a folder of classes they may be anything."""
  images_in(tmp_path, [f'{kind}/a photo.{name}' for name, kind in ROWS])
  path = tmp_path / 'val.txt'
  lines = [f'{kind}/a photo.{name} {kind == "dog":d}' for name, kind in ROWS]
  path.write_text('\n'.join([*lines, '', 'cat/alone.jpg']))
  plan = plan_of(path, tmp_path)
  assert (plan.name, plan.labels, list(plan.splits)) == ('manifest', ('0', '1'), ['validation'])
  assert labels_of(plan) == {f'{kind}/a photo.{n}': '01'[kind == 'dog'] for n, kind in ROWS}
  assert plan.unusable == ((f'{path}, line 10', 'no path and label with a space between'),)
  assert plan_of(tmp_path, tmp_path).name == 'image_folder'


def test_lists_of_splits_lie_in_their_folders(tmp_path):
  """As Hugging Face's image folders have them."""
  for split in ('train', 'test'):
    images_in(tmp_path / split)
    csv_of(tmp_path / split / 'metadata.csv', ROWS, 'file_name,label')
  plan = plan_of(tmp_path, tmp_path)
  assert plan.name == 'manifest'
  assert labels_of(plan) == {f'{split}/{n}': k for split in ('train', 'test') for n, k in ROWS}
  assert set(plan.splits) == {'train', 'validation', 'test'}  # of train some are held out


def test_lists_in_cells_and_commas_in_lines(tmp_path):
  images_in(tmp_path)
  path = tmp_path / 'a.csv'
  path.write_text('path,label\n0.jpg,"[0, 2]"\n1.jpg,[1]\n2.jpg,"[0, 1]"\n')
  plan = plan_of(path, tmp_path)
  assert plan.multi_label
  assert labels_of(plan) == {'0.jpg': ('0', '2'), '1.jpg': ('1',), '2.jpg': ('0', '1')}
  path.write_text("path,label\n0.jpg,\"['cat', 'dog']\"\n1.jpg,['cat']\n")
  assert labels_of(plan_of(path, tmp_path)) == {'0.jpg': ('cat', 'dog'), '1.jpg': ('cat',)}
  path.write_text('path,label\n0.jpg,[a]\n1.jpg,[b]\n')  # names like any others
  assert labels_of(plan_of(path, tmp_path)) == {'0.jpg': '[a]', '1.jpg': '[b]'}
  path = tmp_path / 'b.txt'
  path.write_text('0.jpg,0\n1.jpg,1\n')
  assert labels_of(plan_of(path, tmp_path)) == {'0.jpg': '0', '1.jpg': '1'}


def test_addresses_and_labels_that_are_none(tmp_path):
  path = csv_of(tmp_path / 'a.csv', [('https://example.org/0.jpg', 'cat')])
  with pytest.raises(ValueError, match='are elsewhere, https://example.org/0.jpg: download them f'):
    plan_of(path, tmp_path)
  images_in(tmp_path)
  path = csv_of(tmp_path / 'a.csv', [*ROWS[1:], ('0.jpg', 'NaN')])
  assert 'a class is called NaN: is it the lack of a label?' in plan_of(path, tmp_path).notes


def test_no_text(tmp_path):
  (tmp_path / 'a.csv').write_bytes(b'path,label\n\xff\xf0,\n')
  with pytest.raises(ValueError, match='a.csv is no UTF-8 text'):
    plan_of(tmp_path / 'a.csv', tmp_path)


def test_flags_of_lists_are_for_lists(tmp_path):
  images_in(tmp_path, ['a/1.jpg', 'b/1.jpg'])
  with pytest.raises(ValueError, match='is no list of images: leave out --label_separator'):
    plan_of(tmp_path, tmp_path, label_separator=',')
  path = csv_of(tmp_path / 'a.csv', [('a/1.jpg', 'x')])
  with pytest.raises(ValueError, match="a.csv has no column 'kind'; it has path, label"):
    plan_of(path, tmp_path, label_column='kind')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('path,label\n', 'train.csv has no rows'),
    ('path,label\nx.jpg,cat\n', 'train.csv names images that are not in '),
    ('path|label\n0.jpg|cat\n', 'train.csv has no column of a usual name for --image_column'),
    ('path,label\n0.jpg,caf\udce9\n', 'train.csv is no UTF-8 text'),
    ('path,label\n0.jpg,cat\n1.jpg,cat\n', "are of one class, 'cat': a classifier needs two"),
    ('path,label\n0.jpg,0\n1.jpg,999999\n', 'labels up to 999,999, and images of 2 classes'),
  ],
)
def test_a_list_in_a_folder_is_answered_for_itself(tmp_path, text, message):
  images_in(tmp_path / 'set')
  (tmp_path / 'set' / 'train.csv').write_text(text, errors='surrogateescape')
  with pytest.raises(ValueError, match=message):
    plan_of(tmp_path / 'set', tmp_path)


def test_columns_of_flags_in_a_folder(tmp_path):
  images_in(tmp_path / 'set')
  csv_of(tmp_path / 'set' / 'train.csv', [(n, 1, 0) for n in NAMES], header='path,fur,wings')
  plan = plan_of(tmp_path / 'set', tmp_path, label_column='fur,wings')
  assert set(labels_of(plan).values()) == {('fur',)}


def test_rows_that_are_not_what_they_seem(tmp_path):
  """More cells than columns, and a quote that is not closed: a label would be another."""
  images_in(tmp_path)
  rows = ['0.jpg,cat', '1.jpg,Smith, John', '2.jpg,dog,', '3.jpg,"dog', '4.jpg,cat', '5.jpg,cat']
  path = tmp_path / 'mine.csv'
  path.write_text('\n'.join(['path,label', *rows]) + '\n')
  plan = plan_of(path, tmp_path)
  assert labels_of(plan) == {'0.jpg': 'cat', '2.jpg': 'dog'}
  assert plan.unusable == (
    (f'{path}, line 3', '3 columns, the first row has 2'),
    (f'{path}, line 7', 'no row: unexpected end of data'),
  )


def test_classes_without_training_images_are_said(tmp_path):
  images_in(tmp_path)
  rows = [(*row, 'train') for row in ROWS[:6]] + [('6.jpg', 'owl', 'val'), ('7.jpg', 'dog', 'val')]
  plan = plan_of(csv_of(tmp_path / 'a.csv', rows, header='path,label,split'), tmp_path)
  assert 'no training images of 1 classes of validation: owl' in plan.notes
