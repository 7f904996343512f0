"""Flowers, from a small archive of the form in which they are published."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import conversion, flowers

from tests.datasets.archives import converting, digest, left_in, read, serve, tgz, unpack


def jpeg(seed):
  rng = np.random.default_rng(seed)
  pixels = np.kron(rng.integers(0, 256, [3, 4, 3]), np.ones([8, 8, 1])).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG')
  return file.getvalue()


PHOTOS = {
  f'flower_photos/{name}/{number}_{label}.jpg': jpeg(10 * label + number)
  for label, name in enumerate(('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips'))
  for number in range(6)
}
FLOWERS = {'flower_photos/LICENSE.txt': b'CC-BY'} | PHOTOS


def test_flowers_are_downloaded_and_held_out(server, tmp_path):
  archive = serve(server, flowers.ARCHIVE, tgz(FLOWERS))
  out = tmp_path / 'out'
  info = converting(flowers.make_plan, archive=archive)(None, out).info
  assert info.labels == ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips')
  sizes = {name: split.num_images for name, split in info.splits.items()}
  assert sizes == {'train': 27, 'validation': 3}  # 350 / 3670 of 30
  assert (info.splits['train'].num_shards, info.splits['validation'].num_shards) == (5, 3)
  train, validation = (read(out, split, 'flowers') for split in ('train', 'validation'))
  assert train.keys().isdisjoint(validation)
  found = train | validation
  assert {f'flower_photos/{name}' for name in found} == PHOTOS.keys()
  for name, (label, pixels) in found.items():
    assert info.labels[label] == name.split('/')[0]
    expected = tf.io.decode_jpeg(PHOTOS[f'flower_photos/{name}']).numpy()
    np.testing.assert_array_equal(pixels, expected)
  assert left_in(out / 'downloads') == ['flower_photos.tgz']
  assert not (out / conversion.WORK_FOLDER).exists()

  before = digest(out)
  options = conversion.Options(overwrite=True)
  converting(flowers.make_plan, archive=archive)(None, out, options)
  assert digest(out) == before
  assert len(server.requests) == 1  # kept


@pytest.mark.parametrize('form', ['tgz', 'tar', 'folder', 'above', 'above_packed'])
def test_flowers_local_copies(tmp_path, form):
  copy = tmp_path / 'copy'
  unpack(copy, {'flower_photos.tgz': tgz(FLOWERS), 'mine.tar': tgz(FLOWERS, '')})
  if form != 'above_packed':
    unpack(copy, FLOWERS)
  below = {'tgz': 'flower_photos.tgz', 'tar': 'mine.tar', 'folder': 'flower_photos'}.get(form, '')
  flowers.convert(str(copy / below), tmp_path / 'out')
  flowers.convert(str(copy / below), tmp_path / 'other', conversion.Options(seed=1))
  expected = tmp_path / 'expected'
  unpack(tmp_path / 'reference', FLOWERS)
  flowers.convert(str(tmp_path / 'reference'), expected)
  assert digest(tmp_path / 'out') == digest(expected)
  assert (
    read(tmp_path / 'other', 'validation', 'flowers').keys()
    != read(expected, 'validation', 'flowers').keys()
  )
  assert left_in(tmp_path / 'out' / 'downloads') == []


def test_all_flowers_are_split_as_in_slim(tmp_path):
  root = tmp_path / 'flower_photos'
  for name in flowers.CLASSES:
    (root / name).mkdir(parents=True)
    for number in range(734):
      (root / name / f'{number}.jpg').touch()
  plan = flowers.make_plan(str(root), conversion.Options(), tmp_path)
  assert {split: len(items) for split, items in plan.splits.items()} == flowers.SPLIT_SIZES
  assert plan.notes == ()
  (root / 'roses' / '0.jpg').unlink()
  plan = flowers.make_plan(str(root), conversion.Options(), tmp_path)
  assert len(plan.splits['validation']) == 350
  assert plan.notes == (f'flowers are 3,670 images, {root} holds 3,669: 350 are for validation',)


def test_flowers_that_are_not(tmp_path):
  unpack(tmp_path, {path: b'' for path in FLOWERS if 'roses' not in path})
  with pytest.raises(ValueError, match=r'no images of roses in .*flower_photos; expected flower'):
    flowers.convert(str(tmp_path), tmp_path / 'out')
  with pytest.raises(ValueError, match='leave out --validation_fraction'):
    flowers.convert(None, tmp_path / 'out', conversion.Options(validation_fraction=0.1))
  with pytest.raises(FileNotFoundError, match='nowhere does not exist; expected flower_photos.tgz'):
    flowers.convert(str(tmp_path / 'nowhere'), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
