"""What a source is recognized as, and what is made of it without a name."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from slim_inception.datasets import conversion, dataset_factory, formats, imagenet, sources

from tests.datasets.odd_images import JPEG, read_records, tree

DATA = Path(__file__).parent.parent / 'data' / 'huggingface'


def class_folders(root):
  return tree(root, 'ab')


def splits_of_class_folders(root):
  tree(root / 'train', 'ab')
  tree(root / 'val', 'ab')
  return root


def imagenet_tar(root):
  root.mkdir()
  (root / 'ILSVRC2012_img_train.tar').write_bytes(b'')
  return root / 'ILSVRC2012_img_train.tar'


def imagenet_folders(root):
  for wnid in list(imagenet.synsets())[:501]:
    (root / 'train' / wnid).mkdir(parents=True)
  return root


def huggingface_folder(root):
  """As `save_to_disk` writes it; names are enough."""
  (root / 'train').mkdir(parents=True)
  (root / 'train' / 'data-00000-of-00001.arrow').write_bytes(b'')
  return root


def prepared_tfds(root):
  (root / 'pets' / '1.0.0').mkdir(parents=True)
  for name in ('features.json', 'dataset_info.json'):
    (root / 'pets' / '1.0.0' / name).write_text('{}')
  return root


RECOGNISED = {
  class_folders: ('image_folder', 'a folder of folders, with the image a/0.jpg'),
  splits_of_class_folders: ('image_folder', 'a folder of folders, with the image train/a/0.jpg'),
  imagenet_tar: ('imagenet', 'the name of ILSVRC2012_img_train.tar'),
  huggingface_folder: ('huggingface', 'it holds train/data-00000-of-00001.arrow'),
  prepared_tfds: ('tfds', 'features.json and dataset_info.json in '),
  imagenet_folders: ('imagenet', '501 of its 1,000 synsets in '),
}


@pytest.mark.parametrize('make', RECOGNISED)
def test_recognize(tmp_path, make):
  name, reason = RECOGNISED[make]
  recognized, why = formats.recognize(str(make(tmp_path / 'source')))
  assert recognized.name == name
  assert why.startswith(reason)
  assert recognized.name in dataset_factory.DATASETS


def test_what_is_of_no_format_is_answered_with_all_of_them(tmp_path):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'readme.txt').write_text('text')
  with pytest.raises(ValueError, match='is of no known format; valid are ') as error:
    formats.recognize(str(tmp_path / 'folder'))
  for each in formats.FORMATS:
    assert f'{each.name}: {each.what}' in str(error.value)
  with pytest.raises(ValueError, match='--source is needed'):
    formats.recognize(None)
  with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
    formats.recognize(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize(
  ('name', 'hint'),
  [
    ('empty/', 'it is empty'),
    ('photos.7z', 'it seems to be an archive that is to be unpacked first'),
    ('photos.tar.zst', 'it seems to be an archive'),
    ('train.npz', 'it seems to be arrays or objects of a program'),
    ('train/data.mdb', None),  # of a folder its images or records alone tell
    ('data.mdb', "it seems to be another library's file"),
    ('table.xlsx', 'it seems to be a table that is to be saved as .csv'),
    ('records/flowers_train_00000-of-00005.tfrecord', 'flowers_train_.* has the name of TFRecords'),
    ('records/train-00000-of-00001', 'train-00000-of-00001 has the name of TFRecords: slim needs'),
    ('train/cat.0.jpg', 'cat.0.jpg is in no class folder and on no list'),
    ('cat.0.jpg', 'cat.0.jpg is in no class folder and on no list'),
    ('list.csv.gz', 'it seems to be an archive'),
    (
      'in/cat/0',
      'cat/0 has no name of an image: --dataset_name=image_folder takes files of any na',
    ),
    ('in/1.0.0/features.json', '.*/1.0.0 has features.json alone: a folder that TensorFlow Datas'),
  ],
)
def test_what_has_no_format_is_named_where_something_tells(tmp_path, name, hint):
  path = tmp_path / 'in' / name
  (path if name.endswith('/') else path.parent).mkdir(parents=True)
  if not name.endswith('/'):
    path.write_bytes(b'x')
  source = path if path.is_dir() or path.parent == tmp_path / 'in' else path.parent
  source = source.parent if name.startswith('in/') else source
  match = re.escape(f'{source} is of no known format') + (rf' \({hint}' if hint else '; valid')
  with pytest.raises(ValueError, match=match):
    formats.recognize(str(source))


def test_lists_beside_what_is_no_folder_of_classes_are_named(tmp_path):
  """Kaggle's and Roboflow's: the label is in a column of an unusual name, or in several."""
  for split in ('train', 'valid'):
    tree(tmp_path / split, [''], count=4)
    (tmp_path / split / '_classes.csv').write_text(
      'filename, cat, dog\n' + ''.join(f'{i}.jpg, {i % 2}, {1 - i % 2}\n' for i in range(4))
    )
  (tmp_path / 'labels.csv').write_text('id,breed\n' + ''.join(f'{i},{i % 2}\n' for i in range(4)))
  options = conversion.Options(label_column='breed')
  with pytest.raises(ValueError, match='there are lists too, labels.csv, train/_classes.csv, val'):
    formats.make_plan(str(tmp_path), options, tmp_path / 'work')
  plan = formats.make_plan(str(tmp_path / 'labels.csv'), options, tmp_path / 'work')
  assert all(item.filename.startswith('train/') for item in plan.splits['train'])
  several = f'{tmp_path}/{{train,valid}}/_classes.csv'
  options = conversion.Options(label_column='cat,dog')
  plan = formats.make_plan(several, options, tmp_path / 'work')
  assert plan.multi_label and plan.labels == ('cat', 'dog')
  sizes = {split: len(items) for split, items in plan.splits.items()}
  assert sizes == {'train': 4, 'validation': 4}
  (tmp_path / 'labels.csv').unlink()
  read_lists = next(each for each in formats.FORMATS if each.name == 'manifest').plan
  again = read_lists(str(tmp_path), options, tmp_path / 'work')
  assert (again.splits, again.labels) == (plan.splits, plan.labels)


def test_a_source_without_a_name_says_what_it_was_recognized_as(tmp_path, caplog):
  root = class_folders(tmp_path / 'photos')
  with caplog.at_level('INFO', logger='absl'):
    formats.convert(str(root), tmp_path / 'out')
  line = f'{root} is recognized as image_folder: a folder of folders, with the image a/0.jpg'
  assert [record.message for record in caplog.records].count(line) == 1
  report = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text())
  assert report['recognized'] == line


def test_numbers_are_sorted_as_numbers(tmp_path):
  root = tree(tmp_path / 'root', map(str, range(12)), count=2)
  result = formats.convert(str(root), tmp_path / 'out')
  assert result.info.labels == tuple(map(str, range(12)))
  for record in read_records(tmp_path / 'out', 'train'):
    assert record['filename'].decode().split('/')[0] == str(record['label'])
  report = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text())
  assert 'names of the classes are numbers, and are sorted as such: 0, 1, 2, ..., 11' in str(report)


def test_split(tmp_path):
  plan = formats.make_plan
  whole = class_folders(tmp_path / 'whole')
  divided = splits_of_class_folders(tmp_path / 'divided')

  def convert(source, out, **options):
    return conversion.convert(plan, str(source), tmp_path / out, conversion.Options(**options))

  sizes = convert(whole, '1', split='validation').info.splits
  assert {name: split.num_images for name, split in sizes.items()} == {'validation': 20}
  assert list(convert(divided, '2', split='validation').info.splits) == ['validation']
  with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
    convert(divided, '3', split='test')
  with pytest.raises(ValueError, match='--split holds nothing out: leave out --validation_frac'):
    convert(whole, '4', split='train', validation_fraction=0.5)


def test_labels_give_the_order_of_classes(tmp_path):
  root = class_folders(tmp_path / 'root')
  names = tmp_path / 'names.txt'
  names.write_text('c\nb\na\n')
  result = formats.convert(str(root), tmp_path / 'out', conversion.Options(labels=str(names)))
  assert result.info.labels == ('c', 'b', 'a')
  assert [count > 0 for count in result.info.splits['train'].label_counts] == [False, True, True]
  names.write_text('c\nb\n')
  with pytest.raises(ValueError, match=r'names.txt lacks 1 classes of images: a'):
    formats.convert(str(root), tmp_path / 'other', conversion.Options(labels=str(names)))


@pytest.mark.parametrize(
  ('source', 'expected'),
  [
    ('a0.tar', ['a0.tar']),
    ('a0.tar,a1.tar', ['a0.tar', 'a1.tar']),
    ('a{0,1}.tar', ['a0.tar', 'a1.tar']),
    ('{a,b}{1..0}.tar,c/x', ['a1.tar', 'a0.tar', 'b1.tar', 'b0.tar', 'c/x']),
    ('c/n-{08..10}', ['c/n-08', 'c/n-09', 'c/n-10']),
    ('?1.tar', ['a1.tar', 'b1.tar']),
    ('c,d', ['c,d']),
    ('odd{1,2}[x]', ['odd{1,2}[x]']),
  ],
)
def test_expand(tmp_path, monkeypatch, source, expected):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'c').mkdir()
  for name in ('a0.tar', 'a1.tar', 'b0.tar', 'b1.tar', 'c/x', 'c,d', 'odd{1,2}[x]'):
    (tmp_path / name).write_bytes(JPEG)
  for number in ('08', '09', '10'):
    (tmp_path / 'c' / f'n-{number}').write_bytes(JPEG)
  assert sources.expand(source, 'images') == [tmp_path / path for path in expected]


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('a{0..3}.tar', 'a0.tar does not exist; expected images'),
    ('x*.tar', 'matches no file or folder'),
    ('{0..100001}', 'more than 100,000 paths'),
    ('{1..999}{1..999}', 'more than 100,000 paths'),
  ],
)
def test_what_expands_to_nothing(tmp_path, monkeypatch, source, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises((OSError, ValueError), match=message):
    sources.expand(source, 'images')


def test_folders_of_images_beside_what_is_read_are_said(tmp_path):
  root = tmp_path / 'both'
  shutil.copytree(DATA / 'hub', root)
  class_folders(root / 'photos')
  plan = formats.make_plan(str(root), conversion.Options(), tmp_path / 'work')
  assert plan.name == 'huggingface'
  assert plan.notes[-1] == (
    f'{root} has folders of images too, such as photos/a/0.jpg, which are not read: '
    '--dataset_name=image_folder reads them alone'
  )


def test_archives_beside_class_folders_and_in_archives_are_said(tmp_path):
  root = class_folders(tmp_path / 'photos') or tmp_path / 'photos'
  with zipfile.ZipFile(root / 'more.zip', 'w') as archive:
    archive.writestr('c/1.jpg', b'')
  plan = formats.make_plan(str(root), conversion.Options(), tmp_path / 'work')
  assert 'not read, since folders of images lie beside them: more.zip' in plan.notes
  packed = tmp_path / 'packed.zip'
  with zipfile.ZipFile(packed, 'w') as archive:
    archive.write(root / 'more.zip', 'more.zip')
  with pytest.raises(ValueError, match='packed.zip/more.zip: an archive in an archive: unpack it'):
    formats.make_plan(str(packed), conversion.Options(), tmp_path / 'work')
  with zipfile.ZipFile(packed, 'a') as archive:
    for path in root.rglob('*.jpg'):
      archive.write(path, path.relative_to(root))
  plan = formats.make_plan(str(packed), conversion.Options(), tmp_path / 'work')
  assert ('more.zip', 'an archive in an archive: unpack it') in plan.unusable
