"""Folders of images on disk, converted and read back."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from slim_inception.datasets import (
  conversion,
  dataset_factory,
  formats,
  image_folder,
  images,
  sources,
)

from tests.datasets.odd_images import JPEG, ODD, commented, digest, read_records, tree


def plan_of(root, **options):
  return image_folder.make_plan(str(root), conversion.Options(**options))


def sizes(plan):
  return {name: len(items) for name, items in plan.splits.items()}


def notes_of(root, **options):
  return '\n'.join(plan_of(root, **options).notes)


def test_odd_files_are_skipped_counted_and_listed(tmp_path):
  root = tree(tmp_path / 'meine Bilder', ['Äpfel', 'pears'], count=3)
  for name, (content, _) in ODD.items():
    (root / 'Äpfel' / name).write_bytes(content)
  (root / 'Äpfel' / '.DS_Store').write_bytes(b'x')
  (root / 'pears' / 'deeper').mkdir()
  (root / 'pears' / 'deeper' / 'nested.jpg').write_bytes(JPEG)
  (root / 'readme.txt').write_text('not in a class')
  out = tmp_path / 'out'
  result = image_folder.convert(str(root), out)

  skipped = {'empty.jpg', 'text.jpg', 'cut.jpg', 'cut.png'}
  report = json.loads((out / 'conversion_report.json').read_text('utf-8'))
  assert {entry['file'] for entry in report['skipped']} == {f'Äpfel/{name}' for name in skipped}
  assert report['num_skipped'] == len(skipped) == len(result.skipped)
  assert {entry['file']: entry['change'] for entry in report['changed']} == {
    f'Äpfel/{name}': fate
    for name, (_, fate) in ODD.items()
    if any(word in fate for word in (' to ', 'turned', 'laid'))
  }
  read = read_records(out, 'train') + read_records(out, 'validation')
  expected = {f'Äpfel/{name}' for name in ODD.keys() - skipped} | {'pears/deeper/nested.jpg'}
  expected |= {f'{name}/{i}.jpg' for name in ('Äpfel', 'pears') for i in range(3)}
  assert {record['filename'].decode() for record in read} == expected
  assert result.info.labels == ('pears', 'Äpfel')
  for record in read:
    assert record['label'] == record['filename'].decode().startswith('Ä')


def test_same_source_and_seed_give_the_same_bytes(tmp_path):
  root = tree(tmp_path / 'root', 'abc')
  outs = [tmp_path / str(i) for i in range(3)]
  for out, seed in zip(outs, (5, 5, 6), strict=True):
    image_folder.convert(str(root), out, conversion.Options(seed=seed, train_shards=2))
  first, again, other = map(digest, outs)
  assert first == again
  assert sorted(first) == [
    'conversion_report.json', 'dataset.json', 'train-00000-of-00002', 'train-00001-of-00002',
    'validation-00000-of-00001',
  ]  # fmt: skip
  assert first['train-00000-of-00002'] != other['train-00000-of-00002']


def test_a_share_of_every_class_is_held_out_and_the_rest_shuffled(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=20)
  tree(root, ['small'], count=2)
  tree(root, ['single'], count=1)
  options = conversion.Options(validation_fraction=0.25, train_shards=1)
  info = image_folder.convert(str(root), tmp_path / 'out', options).info
  assert info.labels == ('a', 'b', 'single', 'small')
  assert info.splits['train'].label_counts == (15, 15, 1, 1)
  assert info.splits['validation'].label_counts == (5, 5, 0, 1)
  train, validation = (read_records(tmp_path / 'out', split) for split in ('train', 'validation'))
  assert len({record['filename'] for record in train + validation}) == 43
  assert 7 < np.count_nonzero(np.diff([record['label'] for record in train])) < 28


# Splits


@pytest.mark.parametrize(
  ('train', 'validation', 'test'),
  [
    ('train', 'validation', None),
    ('train', 'val', None),
    ('train', 'valid', 'test'),  # Roboflow, fastai
    ('Train', 'Val', 'Test'),
    ('Training', None, 'Testing'),  # Kaggle
    ('training_set', None, 'test_set'),
    ('TRAIN', 'dev', 'testing'),
    ('asl_train', None, 'asl_test'),
    ('trainset', 'validationset', 'testset'),
  ],
)
def test_own_splits(tmp_path, train, validation, test):
  root = tmp_path / 'root'
  numbers = {train: 20, validation: 4, test: 3}
  for name, count in numbers.items():
    if name:
      tree(root / name, 'ab', count=count)
  info = image_folder.convert(str(root), root / 'records').info
  assert info.labels == ('a', 'b')
  held_out = 8 if validation else 4
  expected = {'train': 40 if validation else 36, 'validation': held_out}
  assert {name: split.num_images for name, split in info.splits.items()} == (
    expected | ({'test': 6} if test else {})
  )
  if test:  # evaluation can name it
    split = dataset_factory.get_dataset('image_folder', 'test', root / 'records')
    assert split.num_samples == 6
  if validation:
    with pytest.raises(ValueError, match=f'own {validation}/ folder: leave out --validation_frac'):
      plan_of(root, validation_fraction=0.5)


def test_splits_within_folders_of_the_same_names(tmp_path):
  """As Kaggle's Intel image classification: another folder of the name, and one without labels."""
  root = tmp_path / 'archive'
  for split, count in {'seg_train': 20, 'seg_test': 3}.items():
    tree(root / split / split, ['forest', 'sea'], count=count)
  (root / 'seg_pred' / 'seg_pred').mkdir(parents=True)
  (root / 'seg_pred' / 'seg_pred' / '1.jpg').write_bytes(JPEG)
  plan = plan_of(root)
  assert plan.labels == ('forest', 'sea')
  assert sizes(plan) == {'train': 36, 'validation': 4, 'test': 6}
  assert plan.splits['test'][0].filename.startswith('seg_test/seg_test/forest/')
  assert 'not used: seg_pred/' in plan.notes
  assert (
    'seg_train/seg_train/ is the split train, seg_test/seg_test/ is the split test' in plan.notes
  )


def test_what_is_not_used_is_said(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab', count=3)
  tree(root / 'test', 'xyz', count=1)  # other classes
  tree(root, ['masks'], count=1)
  (root / '__MACOSX').mkdir()
  (root / 'cover.jpg').write_bytes(JPEG)
  notes = notes_of(root)
  assert 'not used: __MACOSX/, masks/' in notes
  assert 'not used: test/, whose classes are others (only in test/: x, y, z)' in notes
  (root / 'train' / 'loose.jpg').write_bytes(JPEG)
  notes = notes_of(root)
  assert '1 images in root/ lie in no class folder: cover.jpg' in notes
  assert '1 images in train/ lie in no class folder: loose.jpg' in notes


def test_validation_folders_without_images_are_said(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab', count=20)
  for name in 'ab':
    (root / 'val' / name).mkdir(parents=True)
  plan = plan_of(root, validation_fraction=0.25)
  assert sizes(plan) == {'train': 30, 'validation': 10}
  note = 'no images in class folders of val/: some for training are held out instead'
  assert note in plan.notes
  tree(root / 'val', 'c', count=1)
  (root / 'train' / 'c').mkdir()
  notes = notes_of(root)
  assert "no images in class folder 'train/c': a class without training images" in notes
  assert 'no images of 2 classes in val/: a, b' in notes


@pytest.mark.parametrize(
  ('folders', 'message'),
  [
    (('train/a', 'train/b', 'val/a', 'validation/a'), 'both validation/ and val/: which is meant'),
    (('train/a', 'Train/b'), 'both train/ and Train/: which is meant'),
    (
      ('x_train/a', 'x_test/a', 'y_train/a', 'y_test/a'),
      r'several sets of splits \(x_train, y_tra',
    ),
    (
      ('Training', 'Testing'),
      'Testing/, Training/, which are splits by their names, but no folder',
    ),
    (('train', 'test1'), 'which are splits by their names'),
    (('Train', 'Test', 'extra'), 'holds Test/, Train/, which are splits by their names'),
    (('training_set/a', 'test/a'), 'holds test/, training_set/, which are splits by their names'),
    (('valid/a', 'valid/b', 'test/a'), 'no folder for training with class folders in it'),
    (
      ('cat/train', 'cat/test', 'dog/train', 'dog/test'),
      'each class folder holds test/ and train/',
    ),
  ],
)
def test_splits_that_are_not_clear(tmp_path, folders, message):
  for name in folders:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / '1.jpg').write_bytes(commented(name))
  with pytest.raises(ValueError, match=message):
    plan_of(tmp_path)


# Classes


def test_a_source_one_level_too_high(tmp_path):
  tree(tmp_path / 'archive' / 'PetImages', ['cat', 'dog'], count=8)
  (tmp_path / 'archive' / 'readme.txt').write_text('text')
  plan = plan_of(tmp_path / 'archive')
  assert plan.labels == ('cat', 'dog')
  assert plan.notes == ('PetImages/ is taken for the folder of the classes or splits',)
  assert plan.folders == (tmp_path / 'archive',)  # no records may be written beside the folder
  (tmp_path / 'round' / 'only' / 'a').mkdir(parents=True)
  (tmp_path / 'round' / 'only' / 'a' / 'self').symlink_to('.')
  with pytest.raises(ValueError, match='no images in the class folders of'):
    plan_of(tmp_path / 'round')
  tree(tmp_path / 'archive' / 'PetImages' / 'train', ['cat', 'dog'], count=2)
  assert sizes(plan_of(tmp_path / 'archive')) == {'train': 2, 'validation': 2}


def test_one_class_is_refused(tmp_path):
  tree(tmp_path / 'flat', ['cat'])
  with pytest.raises(ValueError, match=r"one class folder with images, 'cat': .* needs two$"):
    plan_of(tmp_path / 'flat')
  tree(tmp_path / 'high' / 'images', ['cat', 'dog'])
  (tmp_path / 'high' / 'labels').mkdir()
  with pytest.raises(ValueError, match=r'if the classes lie in it, give --source=.*high/images$'):
    plan_of(tmp_path / 'high')


def test_class_folders_that_hold_folders_of_the_same_names(tmp_path):
  for year in ('2019', '2020'):
    tree(tmp_path / 'root' / year, ['cat', 'dog'], count=3)
  note = 'each class folder holds cat/ and dog/: if these are the classes, --source is one level'
  assert note in notes_of(tmp_path / 'root')
  (tmp_path / 'root' / '2019' / 'cover.jpg').write_bytes(JPEG)
  assert note not in notes_of(tmp_path / 'root')


def test_stray_folders_are_no_classes(tmp_path):
  root = tree(tmp_path / 'root', ['cat', 'dog', '@eaDir', '__MACOSX', '.ipynb_checkpoints'])
  for name, content in {
    'labels/names.txt': b'cat',
    'boxes/1.XML': b'<a/>',
    'cat/a.db': b'',
  }.items():
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(content)
  (root / 'unsorted').mkdir()
  (root / 'cat' / '@eaDir').mkdir()
  (root / 'cat' / '@eaDir' / 'thumbnail.jpg').write_bytes(JPEG)
  plan = plan_of(root)
  assert plan.labels == ('cat', 'dog')
  assert sizes(plan) == {'train': 19, 'validation': 2}  # the file that is no image is listed
  assert plan.notes == (
    'not used: @eaDir/, __MACOSX/',
    "no images in class folder 'boxes': not taken for a class",
    "no images in class folder 'labels': not taken for a class",
    "no images in class folder 'unsorted': not taken for a class",
  )


def test_a_class_whose_images_are_all_bad_is_said(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=4)
  tree(root, 'c', count=4, content=b'no image')
  info = image_folder.convert(str(root), tmp_path / 'out').info
  assert info.splits['train'].label_counts == (3, 3, 0)
  report = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text('utf-8'))
  assert "no usable image of 1 classes for 'train', all were skipped: c" in report['notes']


def test_a_split_whose_images_are_all_bad_is_left_out(tmp_path, caplog):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab', count=2)
  tree(root / 'val', 'ab', count=2, content=b'no image')
  with caplog.at_level('INFO', 'absl'):
    info = image_folder.convert(str(root), tmp_path / 'out').info
  assert list(info.splits) == ['train']
  assert "no usable image for 'validation': the split is left out" in caplog.text
  assert not list((tmp_path / 'out').glob('validation-*'))
  assert dataset_factory.get_dataset('image_folder', 'train', tmp_path / 'out').num_samples == 4


# Links


def test_links_between_classes_bring_each_image_once(tmp_path):
  """Seven classes of which each links to all others, and up: 9 images stay 9."""
  root = tree(tmp_path / 'root', 'abcdefg', count=1)
  tree(root / 'a', ['more'], count=2)
  for name in 'abcdefg':
    for other in set('abcdefg') - {name}:
      (root / name / f'to_{other}').symlink_to(f'../{other}')
  (root / 'b' / 'up').symlink_to('..')
  plan = plan_of(root)
  items = [item for of_split in plan.splits.values() for item in of_split]
  assert len(items) == 9
  assert all(plan.labels[item.label] == item.filename[0] for item in items)
  assert any(note.startswith('43 links to folders that lie above or are') for note in plan.notes)


def test_class_folders_that_are_links(tmp_path):
  """Their target may lie anywhere but above, and makes one class."""
  tree(tmp_path / 'store', ['0a1b', '2c3d'], count=2)
  root = tmp_path / 'root'
  root.mkdir()
  for name, target in {
    'cat': '../store/0a1b', 'dog': '../store/2c3d', 'self': '.', 'up': '..', 'kitty': 'cat',
  }.items():  # fmt: skip
    (root / name).symlink_to(target)
  plan = plan_of(root)
  assert plan.labels == ('cat', 'dog')
  assert sizes(plan) == {'train': 2, 'validation': 2}
  assert [note.split(' is a link')[0] for note in plan.notes] == ['kitty/', 'self/', 'up/']


# Copies


def test_copies_are_on_one_side_and_said(tmp_path):
  """Every image twice, and one in two classes."""
  root = tree(tmp_path / 'photos', ['cat', 'dog', 'rabbit'], count=10)
  for name in ('cat', 'dog', 'rabbit'):
    for i in range(10):
      shutil.copy(root / name / f'{i}.jpg', root / name / f'{i} (1).jpg')
  shutil.copy(root / 'cat' / '0.jpg', root / 'dog' / '99.jpg')
  info = image_folder.convert(
    str(root), tmp_path / 'out', conversion.Options(validation_fraction=0.3)
  ).info
  train, validation = (
    {record['encoded'] for record in read_records(tmp_path / 'out', split)}
    for split in ('train', 'validation')
  )
  assert len(train | validation) == 30
  assert not train & validation
  assert all(5 <= count <= 7 for count in info.splits['validation'].label_counts)
  notes = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text('utf-8'))['notes']
  assert (
    '31 images are copies of others, byte for byte, such as cat/0.jpg of cat/0 (1).jpg' in notes
  )
  assert '1 images are in more than one class, such as cat/0 (1).jpg = dog/99.jpg' in notes
  assert len(notes) == 2


@pytest.mark.parametrize('as_list', [False, True])
def test_what_will_be_skipped_is_not_held_out(tmp_path, as_list):
  """Of two images in the midst of what is none, or is not there, one is held out."""
  root = tree(tmp_path / 'root', 'ab', count=2)
  for folder in (root / 'a', root / 'b'):
    for i in range(5):
      (folder / f'gone{i}.jpg').symlink_to('nowhere')
      (folder / f'empty{i}.jpg').write_bytes(b'')
      (folder / f'notes{i}.txt').write_text('of no image')
  rows = [f'{path.relative_to(root)},{path.parent.name}' for path in sorted(root.glob('*/*'))]
  (root / 'list.csv').write_text('\n'.join(['file,label', *rows]))
  for seed in range(5):
    options = conversion.Options(seed=seed)
    source = str(root / 'list.csv' if as_list else root)
    plan = formats.make_plan(source, options, tmp_path / 'work')
    held = [item.filename for item in plan.splits['validation']]
    assert [name.partition('/')[0] for name in held] == ['a', 'b']
    assert all(name.endswith(('/0.jpg', '/1.jpg')) for name in held)
    assert not {item.filename for item in plan.splits['train']} & {*held}
  assert len(plan.splits['train']) + len(plan.unusable) == 2 * 17 - 2


def test_classes_that_are_spelled_otherwise(tmp_path):
  for split, form in (('train', 'NFC'), ('val', 'NFD')):
    tree(tmp_path / split, [unicodedata.normalize(form, name) for name in ('café', 'thé')], count=2)
  with pytest.raises(
    ValueError, match='the same, spelled with other characters of Unicode: rename'
  ):
    plan_of(tmp_path)
  tree(tmp_path / 'val', ['other'], count=1)
  with pytest.raises(ValueError, match='differ in their classes') as error:
    plan_of(tmp_path)
  assert 'Unicode' not in str(error.value)


def test_images_that_nothing_can_be_held_out_of_are_said(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=1)
  note = 'nothing is held out for validation: no class has two different images'
  assert note in notes_of(root)
  assert sizes(plan_of(root)) == {'train': 2}
  assert note not in notes_of(root, validation_fraction=0.0)  # as it was asked
  (root / 'a' / 'other.jpg').write_bytes(commented('other'))
  assert note not in notes_of(root)


def test_files_that_classification_does_not_take_are_not_read(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  with open(root / 'a' / 'film.jpg', 'wb') as file:
    file.truncate(images.MAX_BYTES + 1)  # takes no room
  result = image_folder.convert(str(root), tmp_path / 'out')
  assert result.skipped == [{'file': 'a/film.jpg', 'reason': 'larger than 256 MB'}]


def test_copies_of_training_images_in_own_splits_are_said(tmp_path):
  root = tmp_path / 'root'
  for split, count in {'train': 5, 'val': 3}.items():
    tree(root / split, 'ab', count=count)
  shutil.copy(root / 'train' / 'a' / '0.jpg', root / 'val' / 'a' / 'x.jpg')
  note = '1 images are in more than one split, such as train/a/0.jpg = val/a/x.jpg'
  assert note in notes_of(root)


def test_a_class_of_copies_alone_stays_together(tmp_path):
  root = tree(tmp_path / 'root', 'a', count=10, content=JPEG)
  tree(root, 'b', count=10)
  plan = plan_of(root)
  assert [item.filename[0] for item in plan.splits['validation']] == ['b']
  root = tree(tmp_path / 'threes', 'ab', count=9)
  for path in root.rglob('?.jpg'):
    if int(path.stem) % 3:
      shutil.copy(path.parent / f'{int(path.stem) // 3 * 3}.jpg', path)
  assert sizes(plan_of(root)) == {'train': 12, 'validation': 6}


# Shards


@pytest.mark.parametrize(
  ('images', 'megabytes', 'expected'),
  [(10, 0.1, 4), (4000, 0.1, 4), (5001, 0.01, 6), (1000, 10, 40), (10**6, 1000, 99999)],
)
def test_shards_by_images_and_bytes(images, megabytes, expected):
  source = sources.Unreadable('', int(megabytes * 2**20))
  items = [conversion.Item('', 0, source)] * images
  assert conversion.num_shards(items, 1000, at_least=4) == expected


def test_train_folder_without_validation(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab')
  info = image_folder.convert(str(root), tmp_path / 'out').info
  assert info.labels == ('a', 'b')
  assert info.splits['validation'].num_images == 2


def test_a_class_may_be_called_train(tmp_path):
  root = tree(tmp_path / 'root', ['car', 'plane', 'train'], count=2)
  assert image_folder.convert(str(root), tmp_path / 'out').info.labels == ('car', 'plane', 'train')


def test_classes_must_agree(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', ['ant', 'bee'], count=1)
  tree(root / 'val', ['bee', 'cow'], count=1)
  with pytest.raises(ValueError, match='only in train/: ant; only in val/: cow'):
    image_folder.convert(str(root), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_empty_class_is_noted(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  (root / 'c').mkdir()
  plan = image_folder.make_plan(str(root), conversion.Options())
  assert plan.labels == ('a', 'b')
  assert plan.notes == ("no images in class folder 'c': not taken for a class",)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (None, '--source is needed: a folder of class folders'),
    ('nowhere', 'nowhere does not exist; expected a folder of class folders'),
    ('file', 'is no folder'),
    ('flat', r'no class folders in .*flat \(1 images lie in it, in no class folder\); expected'),
    ('bare', 'no images in the class folders of .*bare: class'),
    ('packed', r'packed/cats.zip: no archive, as its first bytes say'),
  ],
)
def test_sources_that_are_no_image_folder(tmp_path, source, message):
  (tmp_path / 'file').write_bytes(b'')
  (tmp_path / 'flat').mkdir()
  (tmp_path / 'flat' / 'a.jpg').write_bytes(JPEG)
  (tmp_path / 'bare' / 'class').mkdir(parents=True)
  (tmp_path / 'packed').mkdir()
  (tmp_path / 'packed' / 'cats.zip').write_bytes(b'PK')
  with pytest.raises((ValueError, OSError), match=message):
    image_folder.convert(source and str(tmp_path / source), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (b'no image', 'not an image in any known format'),
    (
      b'version https://git-lfs.github.com/spec/v1',
      'a pointer of Git LFS; git lfs pull fetches the',
    ),
  ],
)
def test_no_usable_image_at_all(tmp_path, content, reason):
  root = tree(tmp_path / 'root', 'ab', content=content)
  message = rf"no usable image for 'train', such as a/\d.jpg: {reason}.*; see .*conversion_report"
  with pytest.raises(ValueError, match=message):
    image_folder.convert(str(root), tmp_path / 'out')
  assert not (tmp_path / 'out' / 'dataset.json').exists()


def test_a_shard_whose_images_are_all_skipped(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=1)
  (root / 'a' / 'bad.jpg').write_bytes(b'')
  options = conversion.Options(validation_fraction=0, train_shards=3)
  info = image_folder.convert(str(root), tmp_path / 'out', options).info
  assert list(info.splits) == ['train']  # nothing held out
  assert len(read_records(tmp_path / 'out', 'train')) == 2


@pytest.mark.parametrize(
  'options',
  [{'train_shards': 0}, {'validation_shards': 100000}, {'validation_fraction': 1.0}],
)
def test_options_are_checked(options):
  with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
    conversion.Options(**options)
