"""ImageNet in every form that people have it: the same few generated images in each."""

import shutil
import zipfile

import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, imagenet

from tests.datasets.archives import tgz
from tests.datasets.odd_images import JPEG, PNG, encode, lying

pyarrow = pytest.importorskip('pyarrow', reason='extra parquet')
pytest.importorskip('pyarrow.parquet', reason='extra parquet')

TENCH, DOG, TISSUE = 'n01440764', 'n02105855', 'n15075141'  # labels 1, 231, 1000
GREY, PROGRESSIVE = encode('JPEG', 'L'), encode('JPEG', progressive=True)
# Class -> file name -> content.
TRAIN = {
  TENCH: {f'{TENCH}_{i}.JPEG': JPEG for i in (1, 18, 10026)},
  DOG: {
    f'{DOG}_2933.JPEG': PNG,
    f'{DOG}_1.JPEG': encode('JPEG', 'CMYK'),
    f'{DOG}_2.JPEG': GREY,
    f'{DOG}_3.JPEG': PROGRESSIVE,
    f'{DOG}_4.JPEG': lying(),
    f'{DOG}_5.JPEG': JPEG[:-60],
    f'{DOG}_6.JPEG': b'',
    f'{DOG}_7.JPEG': b'<html>Not found</html>',
  },
  TISSUE: {f'{TISSUE}_4.JPEG': JPEG},
}
# The first five validation images have the labels 66, 971, 231, 810 and 517.
VALIDATION = [f'ILSVRC2012_val_{i:08d}' for i in range(1, 6)]
VALIDATION_LABELS = [66, 971, 231, 810, 517]
SYNSETS = list(imagenet.synsets())


def synset_of(stem):
  return SYNSETS[VALIDATION_LABELS[VALIDATION.index(stem)] - 1]


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar(path, members, mode=''):
  write(path, tgz(dict(members), mode))


def class_tar(wnid):
  return tgz(TRAIN[wnid], '')


def parquet(path, rows, **options):
  """A file of (name, label, content)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  images = [{'bytes': content, 'path': name} for name, _, content in rows]
  table = pyarrow.table({'image': images, 'label': [label for _, label, _ in rows]})
  pyarrow.parquet.write_table(table, path, **options)


# Layouts: each writes the same images below a folder and returns --source.


def train_folders(root, name='train'):
  for wnid, of_class in TRAIN.items():
    for filename, content in of_class.items():
      write(root / name / wnid / filename, content)


def slim_folders(root):
  train_folders(root)
  for stem in VALIDATION:
    write(root / 'validation' / synset_of(stem) / f'{stem}.JPEG', JPEG)
  return root


def torchvision_folders(root):
  slim_folders(root)
  (root / 'validation').rename(root / 'val')
  return root


def two_folders(root):
  slim_folders(root)
  return f'{root / "train"},{root / "validation"}'


def flat_validation(root):
  train_folders(root)
  for stem in VALIDATION:
    write(root / 'val' / f'{stem}.JPEG', JPEG)
  return root


def official_tars(root):
  tar(root / 'ILSVRC2012_img_train.tar', [(f'{wnid}.tar', class_tar(wnid)) for wnid in TRAIN])
  tar(root / 'ILSVRC2012_img_val.tar', [(f'{s}.JPEG', JPEG) for s in reversed(VALIDATION)])
  return f'{root / "ILSVRC2012_img_train.tar"},{root / "ILSVRC2012_img_val.tar"}'


def renamed_tars_in_a_folder(root):
  official_tars(root)
  (root / 'ILSVRC2012_img_train.tar').rename(root / 'a.tar')
  (root / 'ILSVRC2012_img_val.tar').rename(root / 'b.tar')
  tar(root / 'ILSVRC2012_devkit_t12.tar.gz', [('data/meta.mat', b'x'), ('readme.txt', b'')], 'gz')
  return root


def class_tars(root):
  flat_validation(root)
  for wnid in TRAIN:
    shutil.rmtree(root / 'train' / wnid)
    write(root / 'train' / f'{wnid}.tar', class_tar(wnid))
  return root


def kaggle_files():
  base = 'ILSVRC/Data/CLS-LOC'
  files = {
    f'{base}/train/{wnid}/{name}': content
    for wnid, of_class in TRAIN.items()
    for name, content in of_class.items()
  }
  files |= {f'{base}/val/{stem}.JPEG': JPEG for stem in VALIDATION}
  files |= {f'{base}/test/ILSVRC2012_test_{i:08d}.JPEG': JPEG for i in (1, 2)}
  rows = [
    f'{stem},{synset_of(stem)} 85 1 499 272 {synset_of(stem)} 1 2 3 4 ' for stem in VALIDATION
  ]
  files['LOC_val_solution.csv'] = '\n'.join(['ImageId,PredictionString', *reversed(rows)]).encode()
  files['LOC_train_solution.csv'] = b'ImageId,PredictionString\nn01440764_1,n01440764 1 2 3 4 \n'
  files['LOC_synset_mapping.txt'] = b'n01440764 tench, Tinca tinca\n'
  listing = ''.join(f'{stem} {i}\n' for i, stem in enumerate(VALIDATION, start=1))
  files['ILSVRC/ImageSets/CLS-LOC/val.txt'] = listing.encode()
  return files


def kaggle_tree(root):
  for name, content in kaggle_files().items():
    write(root / name, content)
  return root


def kaggle_zip(root):
  root.mkdir()
  path = root / 'imagenet-object-localization-challenge.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('ILSVRC/Data/', b'')
    for i, (name, content) in enumerate(kaggle_files().items()):
      kind = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[i % 2]
      archive.writestr(zipfile.ZipInfo(name), content, kind)
    archive.comment = b'PK\x05 not the end'
  return path


def parquet_files(root):
  """As in Hugging Face's imagenet-1k: the synset is repeated at the end of the name."""
  rows = {
    'train-00000-of-00002': [
      (f'{name[:-5]}_{wnid}.JPEG', SYNSETS.index(wnid), content)
      for wnid in (TISSUE, TENCH)
      for name, content in TRAIN[wnid].items()
    ],
    'train-00001-of-00002': [
      (f'{name[:-5]}_{DOG}.JPEG', SYNSETS.index(DOG), content)
      for name, content in TRAIN[DOG].items()
    ],
    'validation-00000-of-00001': [
      (f'{stem}_{synset_of(stem)}.JPEG', SYNSETS.index(synset_of(stem)), JPEG)
      for stem in VALIDATION
    ],
    'test-00000-of-00001': [('ILSVRC2012_test_00000001.JPEG', -1, JPEG)],
  }
  for name, of_file in rows.items():
    path = root / 'data' / f'{name}.parquet'
    parquet(path, of_file, row_group_size=3, compression='snappy')
  return root


LAYOUTS = (
  slim_folders, torchvision_folders, two_folders, flat_validation, official_tars,
  renamed_tars_in_a_folder, class_tars, kaggle_tree, kaggle_zip, parquet_files,
)  # fmt: skip


def convert(source, out, **options):
  options = {'train_shards': 3, 'validation_shards': 2} | options
  return imagenet.convert(str(source), out, conversion.Options(**options))


def notes_of(source, tmp_path):
  return imagenet.make_plan(str(source), conversion.Options(), tmp_path / 'work').notes


def read(folder, split):
  """File name -> features, by TensorFlow."""
  dataset = dataset_factory.get_dataset('imagenet', split, folder)
  found = {}
  for serialized in tf.data.TFRecordDataset(list(dataset.paths)):
    feature = tf.train.Example.FromString(serialized.numpy()).features.feature
    kinds = {key: value.WhichOneof('kind') for key, value in feature.items()}
    values = {key: list(getattr(feature[key], kind).value) for key, kind in kinds.items()}
    found[values['image/filename'][0].decode()] = values
  return found
