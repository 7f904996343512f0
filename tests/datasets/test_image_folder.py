"""Folders of images on disk, converted and read back."""

import json

import numpy as np
import pytest
from slim_inception.datasets import conversion, image_folder

from tests.datasets.odd_images import JPEG, ODD, digest, read_records, tree


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

  skipped = {'deep.tiff', 'empty.jpg', 'text.jpg', 'cut.jpg', 'cut.png'}
  report = json.loads((out / 'conversion_report.json').read_text('utf-8'))
  assert {entry['file'] for entry in report['skipped']} == {f'Äpfel/{name}' for name in skipped}
  assert report['num_skipped'] == len(skipped) == len(result.skipped)
  assert {entry['file']: entry['change'] for entry in report['changed']} == {
    f'Äpfel/{name}': fate for name, (_, fate) in ODD.items() if ' to ' in fate or 'turned' in fate
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


@pytest.mark.parametrize('folder', ['validation', 'val'])
def test_own_validation_images(tmp_path, folder):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab', count=3)
  tree(root / folder, 'ab', count=1)
  tree(root / 'test', 'xyz', count=1)  # not asked for
  info = image_folder.convert(str(root), root / 'records').info
  sizes = {name: split.num_images for name, split in info.splits.items()}
  assert sizes == {'train': 6, 'validation': 2}
  with pytest.raises(ValueError, match=f'own {folder}/ folder: leave out --validation_fraction'):
    image_folder.make_plan(str(root), conversion.Options(validation_fraction=0.5))


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
  assert len(plan.labels) == 3
  assert plan.notes == ("no images in class folder 'c'",)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (None, '--source is needed: a folder of class folders'),
    ('nowhere', 'nowhere does not exist; expected a folder of class folders'),
    ('file', 'is no folder'),
    ('flat', 'no class folders in'),
    ('bare', "no images for 'train'"),
  ],
)
def test_sources_that_are_no_image_folder(tmp_path, source, message):
  (tmp_path / 'file').write_bytes(b'')
  (tmp_path / 'flat').mkdir()
  (tmp_path / 'flat' / 'a.jpg').write_bytes(JPEG)
  (tmp_path / 'bare' / 'class').mkdir(parents=True)
  with pytest.raises((ValueError, OSError), match=message):
    image_folder.convert(source and str(tmp_path / source), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_no_usable_image_at_all(tmp_path):
  root = tree(tmp_path / 'root', 'a', content=b'no image')
  with pytest.raises(ValueError, match=r"no usable image for 'train'; see .*conversion_report"):
    image_folder.convert(str(root), tmp_path / 'out')
  assert not (tmp_path / 'out' / 'dataset.json').exists()


def test_a_shard_whose_images_are_all_skipped(tmp_path):
  root = tree(tmp_path / 'root', 'a', count=2)
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
