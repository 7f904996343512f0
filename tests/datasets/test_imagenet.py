"""ImageNet in every form that people have it, on generated images."""

import json
import os
import re
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, dataset_info, formats, imagenet
from slim_inception.datasets.sources import Unreadable

from tests.datasets.archives import digest
from tests.datasets.imagenet_layouts import (
  DOG,
  GREY,
  LAYOUTS,
  PROGRESSIVE,
  SYNSETS,
  TENCH,
  TISSUE,
  TRAIN,
  VALIDATION,
  VALIDATION_LABELS,
  class_tar,
  convert,
  flat_validation,
  kaggle_files,
  kaggle_zip,
  notes_of,
  official_tars,
  parquet,
  parquet_files,
  read,
  slim_folders,
  tar,
  torchvision_folders,
  train_folders,
  write,
)
from tests.datasets.odd_images import JPEG, PNG, encode, lying, tree


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
  root = tmp_path_factory.mktemp('imagenet')
  convert(slim_folders(root / 'source'), root / 'records')
  return root / 'records'


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_gives_the_same_records(tmp_path, expected, layout):
  source = layout(tmp_path / 'Bilder für später')
  result = convert(source, tmp_path / 'out', num_processes=2 if layout is kaggle_zip else 1)
  assert digest(tmp_path / 'out') == digest(expected)
  reasons = {entry['file']: entry['reason'] for entry in result.skipped}
  assert reasons == {
    f'{DOG}_5.JPEG': 'JPEG is truncated: it has no end of image',
    f'{DOG}_6.JPEG': 'empty file',
    f'{DOG}_7.JPEG': 'not an image in any known format',
  }
  assert sorted(os.listdir(tmp_path / 'out')) == [
    'conversion_report.json', 'dataset.json', 'train-00000-of-00003', 'train-00001-of-00003',
    'train-00002-of-00003', 'validation-00000-of-00002', 'validation-00001-of-00002',
  ]  # fmt: skip


def test_records_have_slims_keys_and_values(expected):
  found = read(expected, 'train')[f'{TENCH}_18.JPEG']
  assert found == {
    'image/class/label': [1],
    'image/class/synset': [b'n01440764'],
    'image/class/text': [b'tench, Tinca tinca'],
    'image/filename': [b'n01440764_18.JPEG'],
    'image/encoded': [JPEG],
    'image/format': [b'JPEG'],
    'image/colorspace': [b'RGB'],
    'image/channels': [3],
    'image/height': [24],
    'image/width': [32],
  }
  validation = read(expected, 'validation')
  assert [validation[f'{stem}.JPEG']['image/class/label'][0] for stem in VALIDATION] == (
    VALIDATION_LABELS
  )


def test_good_files_keep_their_bytes_and_odd_ones_become_rgb_jpegs(expected):
  found = read(expected, 'train')
  for name, kept in (('_2', GREY), ('_3', PROGRESSIVE), ('_4', lying())):
    assert found[f'{DOG}{name}.JPEG']['image/encoded'] == [kept]
  assert found[f'{DOG}_2.JPEG']['image/colorspace'] == [b'Grayscale']
  assert found[f'{DOG}_2.JPEG']['image/channels'] == [1]
  for name, original in (('_2933', tf.io.decode_png(PNG)), ('_1', None)):
    (encoded,) = found[f'{DOG}{name}.JPEG']['image/encoded']
    assert found[f'{DOG}{name}.JPEG']['image/channels'] == [3]
    pixels = tf.io.decode_jpeg(encoded).numpy()  # as many channels as there are
    assert pixels.shape == (24, 32, 3)
    if original is not None:
      assert np.abs(pixels.astype(int) - original.numpy()).mean() < 1
  report = json.loads((expected / 'conversion_report.json').read_text())
  assert {entry['file']: entry['change'] for entry in report['changed']} == {
    f'{DOG}_2933.JPEG': 'PNG to JPEG',
    f'{DOG}_1.JPEG': 'CMYK to RGB',
  }


def test_facts_of_the_set(expected):
  info = dataset_info.read_info(expected)
  assert (info.name, info.num_classes, info.label_offset) == ('imagenet', 1001, 1)
  assert {i: n for i, n in enumerate(info.splits['train'].label_counts) if n} == {
    1: 3, 231: 5, 1000: 1,
  }  # fmt: skip
  dataset = dataset_factory.get_dataset('imagenet', 'validation', expected)
  assert dataset.labels_to_names[231].startswith('Shetland')


@pytest.mark.parametrize(
  ('train', 'validation', 'expected'),
  [
    (1_281_167, 50_000, (1024, 128)),  # slim's
    (1_281_100, 49_000, (1024, 126)),
    (1000, 1000, (4, 3)),
    (128_116, 1, (103, 1)),
  ],
)
def test_shards_of_the_whole_set_and_of_parts(train, validation, expected):
  for split, count, shards in zip(
    ('train', 'validation'), (train, validation), expected, strict=True
  ):
    items = [conversion.Item('', 1, Unreadable('', 110_000))] * count
    assert imagenet.num_shards(split, items) == shards


# What is said before hours are spent


def test_missing_and_surplus_classes_shift_nothing_and_are_noted(tmp_path):
  root = torchvision_folders(tmp_path / 'root')
  tree(root / 'train', ['n01440765', 'n21000000'], count=2)
  plan = imagenet.make_plan(str(root), conversion.Options(), tmp_path / 'work')
  assert {item.label for item in plan.splits['train']} == {1, 231, 1000}
  assert plan.num_shards == {'train': 4, 'validation': 1}
  notes = '\n'.join(plan.notes)
  assert f'train: class folders in folder {root}/train, 12 images' in notes
  assert 'train of ImageNet has 1,281,167 images, not 12' in notes
  assert 'no train images of 997 of 1000 classes: n01443537' in notes
  assert '4 images in folders that are no class of ImageNet: n01440765, n21000000' in notes


@pytest.mark.parametrize(
  ('layout', 'note'),
  [
    (official_tars, 'train: class tars in tar {}/ILSVRC2012_img_train.tar, 12 images'),
    (official_tars, 'validation: tar {}/ILSVRC2012_img_val.tar, 5 images'),
    (
      kaggle_zip,
      'train: class folders in zip {}/imagenet-object-localization-challenge.zip/ILSVRC/Data',
    ),
    (kaggle_zip, '2 test images, which have no labels'),
    (parquet_files, 'validation: parquet {}/data/*.parquet/validation, 5 images'),
    (flat_validation, 'validation: folder {}/val, 5 images'),
  ],
)
def test_says_what_the_source_is(tmp_path, layout, note):
  notes = notes_of(layout(tmp_path / 'source'), tmp_path)
  expected = note.format(tmp_path / 'source')
  assert any(line.startswith(expected) for line in notes), notes


def test_images_in_folders_of_other_classes_are_noted(tmp_path):
  root = slim_folders(tmp_path / 'root')
  write(root / 'validation' / TENCH / 'ILSVRC2012_val_00000006.JPEG', JPEG)
  write(root / 'train' / TENCH / f'{TISSUE}_77.JPEG', JPEG)
  notes = '\n'.join(notes_of(root, tmp_path))
  assert '\n1 validation images lie in folders of another class' in notes
  assert '\n1 images whose folder is of another class than their name' in notes


@pytest.mark.parametrize('second', [official_tars, torchvision_folders])
def test_two_sources_of_the_same_split(tmp_path, second):
  sources = f'{slim_folders(tmp_path / "one")},{second(tmp_path / "two")}'
  with pytest.raises(ValueError, match=r"more than one source holds '\w+' images: .*/one/\w+, "):
    convert(sources, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_validation_folder_under_both_names(tmp_path):
  root = slim_folders(tmp_path / 'root')
  write(root / 'val' / f'{VALIDATION[0]}.JPEG', JPEG)
  with pytest.raises(ValueError, match="'validation' images: .*root/.*, .*root/val"):
    convert(root, tmp_path / 'out')


DEVKIT_ORDER = ''.join(
  f'{stem}.JPEG {number}\n'
  for stem, number in zip(VALIDATION, (490, 361, 171, 822, 297), strict=True)
)
CAFFE = ''.join(
  f'{stem}.JPEG {label - 1}\n' for stem, label in zip(VALIDATION, VALIDATION_LABELS, strict=True)
)


@pytest.mark.parametrize(
  'files',
  [
    {'val.txt': CAFFE},
    {'LOC_val_solution.csv': kaggle_files()['LOC_val_solution.csv'][:-60]},  # cut
    {'results.csv': 'a,"b' + 'x' * 200_000},  # unrelated
    {'code/val/eval.py': b'import this'},
  ],
)
def test_lists_and_stray_files_change_nothing(tmp_path, expected, files):
  root = flat_validation(tmp_path / 'root')
  for name, content in files.items():
    write(root / name, content)
  convert(root, tmp_path / 'out')
  assert digest(tmp_path / 'out') == digest(expected)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('val.txt', DEVKIT_ORDER),
    ('LOC_val_solution.csv', f'ImageId,PredictionString\n{VALIDATION[0]},{TENCH} 1 2 3 4 \n'),
    ('imagenet_2012_validation_synset_labels.txt', f'{TENCH}\n{TENCH}\n'),
  ],
)
def test_lists_that_contradict_imagenet(tmp_path, name, content):
  root = flat_validation(tmp_path / 'root')
  write(root / name, content)
  with pytest.raises(ValueError, match=f'root/{name} says {VALIDATION[0]} is n.*; it is n01751748'):
    convert(root, tmp_path / 'out')


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('train.tar.gz', 'compressed', 'train.tar.gz is compressed, so that its images cannot'),
    ('train.tar', 'cut', 'train.tar is no tar, cut short or damaged: it ends within .n01440764/'),
    ('train.tar', b'no tar', 'train.tar is no tar'),
    ('bbox.tar.gz', b'\x1f\x8b no gzip', 'bbox.tar.gz is no tar, cut short or damaged'),
    ('all.zip', b'PK\x03\x04 cut', 'all.zip is no zip, cut short or damaged: no directory'),
    ('train-00000-of-00001.parquet', b'PAR1 cut', 'is no parquet file of labelled images'),
    ('readme.txt', b'nothing', r'no images of ImageNet in .*; expected the official tars'),
  ],
)
def test_damaged_sources_are_named(tmp_path, name, content, message):
  path = tmp_path / 'source' / name
  if content in ('compressed', 'cut'):
    members = [(f'{TENCH}/{TENCH}_1.JPEG', JPEG), (f'{TENCH}/{TENCH}_2.JPEG', b'\0' * 50_000)]
    tar(path, members, 'gz' if content == 'compressed' else '')
    if content == 'cut':
      os.truncate(path, 30_000)
  else:
    write(path, content)
  with pytest.raises(ValueError, match=message):
    convert(path, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_flipped_byte_in_a_zip_is_found(tmp_path):
  path = kaggle_zip(tmp_path / 'source')
  content = bytearray(path.read_bytes())
  content[content.find(JPEG) + len(JPEG) // 2] ^= 1
  path.write_bytes(content)
  result = convert(path, tmp_path / 'out')
  assert sum('damaged in its zip' in entry['reason'] for entry in result.skipped) == 1


def test_large_zip_has_64_bit_offsets(tmp_path, monkeypatch, expected):
  """The library writes zip64 fields where a limit is passed: here every member passes it."""
  monkeypatch.setattr(zipfile, 'ZIP64_LIMIT', 10)
  monkeypatch.setattr(zipfile, 'ZIP_FILECOUNT_LIMIT', 3)
  path = kaggle_zip(tmp_path / 'source')
  assert b'PK\x06\x06' in path.read_bytes()
  convert(path, tmp_path / 'out')
  assert digest(tmp_path / 'out') == digest(expected)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (None, '--source is needed: the official tars, train/<wnid>'),
    ('nowhere', 'source nowhere does not exist'),
    ('.,nowhere', 'source nowhere does not exist'),
  ],
)
def test_sources_that_are_not_there(tmp_path, source, message):
  with pytest.raises((ValueError, OSError), match=message):
    imagenet.convert(source, tmp_path / 'out')
  with pytest.raises(ValueError, match='leave out --validation_fraction'):
    convert(tmp_path, tmp_path / 'out', validation_fraction=0.1)
  assert not (tmp_path / 'out').exists()


# What people's disks look like


def test_parquet_files_of_the_same_name(tmp_path):
  """Hugging Face's own conversion calls them train/0000.parquet and test/0000.parquet."""
  other = encode('JPEG', quality=30)
  parquet(tmp_path / 'a/train/0000.parquet', [(f'{TENCH}_1_{TENCH}.JPEG', 0, JPEG)])
  parquet(tmp_path / 'a/test/0000.parquet', [('ILSVRC2012_test_00000001.JPEG', -1, other)])
  parquet(tmp_path / 'a/validation/0000.parquet', [(f'{VALIDATION[0]}.JPEG', 65, other)])
  convert(tmp_path / 'a', tmp_path / 'out')
  assert read(tmp_path / 'out', 'train')[f'{TENCH}_1.JPEG']['image/encoded'] == [JPEG]
  (found,) = read(tmp_path / 'out', 'validation').values()
  assert (found['image/encoded'], found['image/class/label']) == ([other], [66])


@pytest.mark.parametrize(
  ('label', 'message'),
  [
    (1000, 'ImageNet has 0 .. 999'),
    ('0', 'is no num'),
    (5, f'label 5 is {SYNSETS[5]}, its name says {TENCH}'),
  ],
)
def test_labels_of_parquet_files(tmp_path, label, message):
  parquet(tmp_path / 'train-00000-of-00001.parquet', [(f'{TENCH}_1.JPEG', label, JPEG)])
  with pytest.raises(ValueError, match=message):
    convert(tmp_path, tmp_path / 'out')


def test_class_tar_beside_its_folder(tmp_path):
  train_folders(tmp_path / 'root')
  write(tmp_path / 'root' / 'train' / f'{TENCH}.tar', class_tar(TENCH))
  with pytest.raises(ValueError, match=r'n01440764_\d+.JPEG is there twice for .train.*give each'):
    convert(tmp_path / 'root', tmp_path / 'out')


def test_two_sources_whose_folders_have_the_same_name(tmp_path):
  for name in 'ab':
    tree(tmp_path / name / 'imagenet' / 'train', [TENCH if name == 'a' else DOG], count=1)
  with pytest.raises(ValueError, match=r"'train' images: .*/a/imagenet/train, .*/b/imagenet/tra"):
    convert(f'{tmp_path}/a/imagenet,{tmp_path}/b/imagenet', tmp_path / 'out')


def test_official_tars_in_a_folder_called_train(tmp_path, expected):
  official_tars(tmp_path / 'train')
  convert(tmp_path / 'train', tmp_path / 'out')
  assert digest(tmp_path / 'out') == digest(expected)


def test_flat_training_folder(tmp_path):
  for of_class in TRAIN.values():
    for name, content in of_class.items():
      write(tmp_path / 'root' / 'train' / name, content)
  note = "no validation images in the source: 'validation' is not written"
  assert note in notes_of(tmp_path / 'root', tmp_path)
  result = convert(tmp_path / 'root', tmp_path / 'out')
  assert result.info.splits['train'].num_images == 9


def test_links(tmp_path):
  root = slim_folders(tmp_path / 'root')
  (root / 'train' / TENCH / f'{TENCH}_5.JPEG').symlink_to('nowhere')
  (root / 'train' / TENCH / 'up').symlink_to(root / 'train')
  result = convert(root, tmp_path / 'out')
  reasons = {entry['file']: entry['reason'] for entry in result.skipped}
  assert reasons[f'{TENCH}_5.JPEG'] == 'a link to nothing'
  assert len(reasons) == 4


def test_links_to_folders_and_linked_splits(tmp_path, expected):
  """Folders of classes that link to each other, and splits whose folders lie elsewhere."""
  root = torchvision_folders(tmp_path / 'store')
  (tmp_path / 'root').mkdir()
  for name, target in {'train': 'train_v2', 'val': 'val_v2'}.items():
    (root / name).rename(root / target)
    (tmp_path / 'root' / name).symlink_to(root / target)
  (root / 'train_v2' / DOG / 'others').symlink_to(f'../{TENCH}')
  convert(tmp_path / 'root', tmp_path / 'out')
  assert digest(tmp_path / 'out') == digest(expected)
  links = f'1 links to folders that lie above or are read elsewhere.*: root/train/{DOG}/others'
  assert any(re.match(links, note) for note in notes_of(tmp_path / 'root', tmp_path))
  by_name = f'{tmp_path}/root/train,{tmp_path}/root/val'
  convert(by_name, tmp_path / 'by name')
  assert digest(tmp_path / 'by name') == digest(expected)
  assert f'validation: class folders in folder {tmp_path}/root/val, 5 images' in notes_of(
    by_name, tmp_path
  )


def webdataset(root, names, name, key_of=lambda key, number: key):
  """Two shards of images with their labels, from 0 on, beside them."""
  for shard in range(2):
    members = {}
    for number, (filename, (label, content)) in enumerate(sorted(names.items())):
      if number % 2 == shard:
        key = key_of(filename.removesuffix('.JPEG'), number)
        members |= {f'{key}.cls': b'%d' % label, f'{key}.jpg': content, f'{key}.json': b'{}'}
    tar(root / f'{name}-{shard:04d}.tar', members.items())


LABELLED = {
  name: (SYNSETS.index(wnid), content)
  for wnid, of_class in TRAIN.items()
  for name, content in of_class.items()
}
LABELLED_VALIDATION = {
  f'{stem}.JPEG': (label - 1, JPEG)
  for stem, label in zip(VALIDATION, VALIDATION_LABELS, strict=True)
}


def test_webdataset_tars_that_differ_in_their_number_are_one_source(tmp_path, expected):
  """As timm/imagenet-1k-wds: keys say the class, and labels lie beside the images."""
  webdataset(tmp_path / 'wds', LABELLED, 'imagenet1k-train')
  webdataset(tmp_path / 'wds', LABELLED_VALIDATION, 'imagenet1k-validation')
  result = convert(tmp_path / 'wds', tmp_path / 'out')
  assert {name: split.num_images for name, split in result.info.splits.items()} == {
    'train': 9, 'validation': 5,
  }  # fmt: skip
  assert len(result.skipped) == 3  # the bad images, and no label
  notes = notes_of(tmp_path / 'wds', tmp_path)
  assert f'train: tar {tmp_path}/wds/imagenet1k-train-*.tar, 12 images' in notes
  assert digest(tmp_path / 'out').keys() == digest(expected).keys()
  recognized, why = formats.recognize(str(tmp_path / 'wds'))
  assert (recognized.name, why) == ('imagenet', 'the name of imagenet1k-train-0000.tar')


def test_webdataset_tars_whose_keys_are_numbers(tmp_path):
  """As webdataset's own makeshards.py writes them: the label alone says the class."""
  names = {'train': LABELLED, 'validation': LABELLED_VALIDATION}
  for split, of_split in names.items():
    webdataset(tmp_path / 'wds', of_split, f'imagenet-{split}', lambda _, number: f'{number:07d}')
  result = convert(tmp_path / 'wds', tmp_path / 'out')
  assert {name: split.num_images for name, split in result.info.splits.items()} == {
    'train': 9, 'validation': 5,
  }  # fmt: skip
  for split, of_split in names.items():
    labels = [1 + label for _, (label, _) in sorted(of_split.items())]
    for name, features in read(tmp_path / 'out', split).items():
      assert features['image/class/label'] == [labels[int(name[:7])]]


def test_webdataset_labels_that_contradict_names_are_an_error(tmp_path):
  names = {name: (0, content) for name, (_, content) in LABELLED.items()}
  webdataset(tmp_path / 'wds', names, 'imagenet1k-train')
  with pytest.raises(ValueError, match=r'label 0 is n01440764, its name says n02105855'):
    convert(tmp_path / 'wds', tmp_path / 'out')


def test_tiny_imagenet(tmp_path):
  """Its validation images have numbers of their own and a list of their own."""
  root = tmp_path / 'tiny-imagenet-200'
  for wnid in (TENCH, DOG):
    write(root / 'train' / wnid / 'images' / f'{wnid}_0.JPEG', JPEG)
    write(root / 'train' / wnid / f'{wnid}_boxes.txt', f'{wnid}_0.JPEG\t0\t10\t63\t58\n')
  for i in range(3):
    write(root / 'val' / 'images' / f'val_{i}.JPEG', JPEG)
    write(root / 'test' / 'images' / f'test_{i}.JPEG', JPEG)
  lines = [f'val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n' for i, wnid in enumerate((DOG, TENCH, 'n99'))]
  write(root / 'val' / 'val_annotations.txt', ''.join(lines))
  info = convert(root, tmp_path / 'out').info
  assert {label for label, n in enumerate(info.splits['train'].label_counts) if n} == {1, 231}
  validation = read(tmp_path / 'out', 'validation')
  assert {name: f['image/class/label'] for name, f in validation.items()} == {
    'val_0.JPEG': [231], 'val_1.JPEG': [1],
  }  # fmt: skip
  note = '1 validation files whose class no folder and no list says: val_2.JPEG'
  assert note in notes_of(root, tmp_path)


def test_split_folders_in_capitals_and_by_other_names(tmp_path, expected):
  root = torchvision_folders(tmp_path / 'root')
  (root / 'train').rename(root / 'Training')
  (root / 'val').rename(root / 'Valid')
  convert(root, tmp_path / 'out')
  assert digest(tmp_path / 'out') == digest(expected)


def test_link_within_a_tar_is_listed(tmp_path):
  tar(tmp_path / f'{TENCH}.tar', [(f'{TENCH}_1.JPEG', JPEG)])
  with tarfile.open(tmp_path / f'{TENCH}.tar', 'a') as archive:
    link = tarfile.TarInfo(f'{TENCH}_2.JPEG')
    link.type, link.linkname = tarfile.LNKTYPE, f'{TENCH}_1.JPEG'
    archive.addfile(link)
  result = convert(tmp_path / f'{TENCH}.tar', tmp_path / 'out')
  assert [entry['reason'] for entry in result.skipped] == ['a link within its tar']
