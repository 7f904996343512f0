"""Small archives of the formats in which flowers, CIFAR and MNIST are published, converted."""

import dataclasses
import functools
import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import cifar, conversion, dataset_factory, download, flowers, mnist, records, sources
from tests.datasets import slim_records
from tests.datasets.test_download import serving, sha256

RNG = np.random.default_rng(0)


@pytest.fixture
def server():
  with serving() as server:
    yield server


def read(dataset_dir, split, name):
  """File name -> label and pixels, of every record."""
  dataset = dataset_factory.get_dataset(name, split, dataset_dir)
  parsed = tf.data.TFRecordDataset(list(dataset.paths)).map(records.parse_example)
  found = {
    record['filename'].numpy().decode(): (
      int(record['label']),
      tf.io.decode_image(record['encoded']).numpy(),
    )
    for record in parsed
  }
  assert len(found) == dataset.num_samples
  return found


def digest(folder):
  """Name -> SHA-256 of the shards and of dataset.json."""
  return {
    path.name: sha256(path.read_bytes())
    for path in folder.iterdir()
    if path.is_file() and path.name != conversion.REPORT_FILE
  }


def tgz(members, compression='gz'):
  """A tar of {path: content}."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode=f'w:{compression}') as tar:
    for path, content in members.items():
      info = tarfile.TarInfo(path)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return file.getvalue()


def unpack(folder, members):
  for path, content in members.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
  return folder


def serve(server, original, content):
  server.files[original.name] = content
  return download.Download(server.url(original.name), sha256(content), len(content))


def converting(make_plan, **arguments):
  return functools.partial(conversion.convert, functools.partial(make_plan, **arguments))


def left_in(folder):
  return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# Flowers


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
  assert {name: split.num_images for name, split in info.splits.items()} == {
    'train': 27,
    'validation': 3,  # 350 / 3670 of 30
  }
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
  assert plan.notes == (f'flowers are 3,670 pictures, {root} holds 3,669: 350 are for validation',)


def test_flowers_that_are_not(tmp_path):
  unpack(tmp_path, {path: b'' for path in FLOWERS if 'roses' not in path})
  with pytest.raises(ValueError, match=r'no pictures of roses in .*flower_photos; expected flower'):
    flowers.convert(str(tmp_path), tmp_path / 'out')
  with pytest.raises(ValueError, match='leave out --validation_fraction'):
    flowers.convert(None, tmp_path / 'out', conversion.Options(validation_fraction=0.1))
  with pytest.raises(
    FileNotFoundError, match=r'nowhere does not exist; expected flower_photos.tgz'
  ):
    flowers.convert(str(tmp_path / 'nowhere'), tmp_path / 'out')
  with pytest.raises(ValueError, match='lies within the source'):
    unpack(tmp_path, FLOWERS)
    flowers.convert(str(tmp_path), tmp_path / 'flower_photos' / 'out')
  assert not (tmp_path / 'out').exists()
  assert not (tmp_path / 'flower_photos' / 'out').exists()


# CIFAR


COARSE = 7


def python2_pickle(value):
  """As Python 2 and an old NumPy wrote it: strings are byte strings, protocol 2."""

  def save_string(pickler, value):
    value = value.encode() if isinstance(value, str) else value
    short = len(value) < 256
    length = struct.pack('<B' if short else '<i', len(value))
    pickler.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + length + value)
    pickler.memoize(value)

  class Pickler(pickle._Pickler):
    dispatch = pickle._Pickler.dispatch | {str: save_string, bytes: save_string}

  file = io.BytesIO()
  Pickler(file, protocol=2).dump(value)
  return file.getvalue().replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n')


def python3_pickle(value):
  return pickle.dumps(value, protocol=2)


class Cifar:
  """A small data set of random pictures: [N, 3, 32, 32] and labels of each batch."""

  def __init__(self, kind):
    self.kind = kind
    batches = [name for split in kind.batches.values() for name in split]
    self.count = 30 // len(batches)
    self.names = [f'class_{i}' for i in range(kind.num_classes)]
    self.pixels = {
      name: RNG.integers(0, 256, [self.count, 3, 32, 32], np.uint8) for name in batches
    }
    self.labels = {name: RNG.integers(0, kind.num_classes, self.count).tolist() for name in batches}

  def binary(self):
    """The files of the binary version, below its folder."""
    folder = self.kind.places[0]
    coarse = b'' if self.kind.label_bytes == 1 else bytes([COARSE])
    text = '\n'.join([*self.names, '', ''])
    members = {f'{folder}/{self.kind.names_text}': text.encode(), f'{folder}/readme.html': b'<p>'}
    for name, pixels in self.pixels.items():
      members[f'{folder}/{name}.bin'] = b''.join(
        coarse + bytes([label]) + picture.tobytes()
        for label, picture in zip(self.labels[name], pixels, strict=True)
      )
    return members

  def python(self, dumps=python2_pickle, order='C'):
    """The files of the Python version, below its folder."""
    folder = self.kind.places[1]
    file, key = self.kind.names_pickle
    meta = {key: self.names, 'num_vis': 3072}
    members = {f'{folder}/{file}': dumps(meta), f'{folder}/readme.html': b'<p>'}
    for name, pixels in self.pixels.items():
      content = {
        'batch_label': 'training batch 1 of 5',
        self.kind.labels_key: self.labels[name],
        'data': np.array(pixels.reshape(self.count, -1), order=order),
        'filenames': [f'{i}.png' for i in range(self.count)],
      }
      members[f'{folder}/{name}'] = dumps(content)
    return members

  def check(self, dataset_dir):
    for split, batches in self.kind.batches.items():
      pixels = np.concatenate([self.pixels[name] for name in batches])
      labels = [label for name in batches for label in self.labels[name]]
      found = read(dataset_dir, split, self.kind.name)
      assert sorted(found) == [f'{split}_{i:05d}.png' for i in range(len(pixels))]
      for i, name in enumerate(sorted(found)):
        assert found[name][0] == labels[i]
        np.testing.assert_array_equal(found[name][1], pixels[i].transpose(1, 2, 0))


CIFARS = {kind.name: Cifar(kind) for kind in (cifar.CIFAR10, cifar.CIFAR100)}
CONVERT = {'cifar10': cifar.convert_cifar10, 'cifar100': cifar.convert_cifar100}
both = pytest.mark.parametrize('name', CIFARS)


@both
def test_cifar_is_downloaded(server, tmp_path, name):
  small, out = CIFARS[name], tmp_path / 'out'
  archive = serve(server, small.kind.archive, tgz(small.binary()))
  kind = dataclasses.replace(small.kind, archive=archive)
  convert = functools.partial(conversion.convert, functools.partial(cifar.make_plan, kind))
  result = convert(None, out)
  small.check(out)
  assert result.info.labels == tuple(small.names)
  assert (result.skipped, result.changed) == ([], [])
  assert left_in(out / 'downloads') == [archive.name]
  assert not (out / conversion.WORK_FOLDER).exists()


@both
def test_cifar_local_copies_give_the_same_records(tmp_path, name):
  small, copies = CIFARS[name], tmp_path / 'copies'
  binary_folder, python_folder, binary_name, python_name = small.kind.places
  unpack(copies, {binary_name: tgz(small.binary()), 'of mine.tar.gz': tgz(small.python())})
  unpack(copies / 'binary', small.binary())
  unpack(copies / 'torchvision', small.python() | {python_name: tgz(small.python())})
  unpack(copies / 'again', small.python(python3_pickle))
  unpack(copies / 'fortran', small.python(order='F'))
  unpack(copies / 'packed', {python_name: tgz(small.python())})
  sources = [
    *(binary_name, 'of mine.tar.gz', 'binary', f'binary/{binary_folder}', 'torchvision'),
    *(f'torchvision/{python_folder}', 'again', 'fortran', 'packed'),
  ]
  digests = []
  for number, source in enumerate(sources):
    out = tmp_path / str(number)
    CONVERT[name](str(copies / source), out)
    digests.append(digest(out))
  small.check(tmp_path / '0')
  assert digests == digests[:1] * len(sources)


@both
def test_cifar_in_processes(tmp_path, name):
  small = CIFARS[name]
  unpack(tmp_path, small.python())
  outs = [tmp_path / 'one', tmp_path / 'two']
  for num_processes, out in enumerate(outs, start=1):
    options = conversion.Options(num_processes=num_processes, train_shards=2)
    CONVERT[name](str(tmp_path), out, options)
  small.check(outs[1])
  assert digest(outs[0]) == digest(outs[1])


def changed(members, name, change):
  (path,) = (path for path in members if path.endswith(f'/{name}'))
  return members | {path: change(members[path])}


class Evil:
  def __reduce__(self):
    return os.system, ('touch evil',)


TEN = CIFARS['cifar10']
SHORT_BATCH = python2_pickle({'labels': [1], 'data': np.zeros([1, 5], np.uint8)})
WRONG_TYPE = python2_pickle({'labels': [1], 'data': np.zeros([1, 3072], np.int64)})
WRONG_LABEL = python2_pickle({'labels': [10], 'data': np.zeros([1, 3072], np.uint8)})
DAMAGED = {  # which version, which file, what becomes of it, and what is said
  'cut': ('binary', 'data_batch_2.bin', lambda c: c[:-1], 'data_batch_2.bin has 15364 bytes, exp'),
  'empty': ('binary', 'test_batch.bin', lambda _: b'', 'test_batch.bin has 0 bytes, expected 3073'),
  'label': (
    *('binary', 'data_batch_1.bin', lambda c: c[:3073] + b'\x0b' + c[3074:]),
    r'picture 1 of data_batch_1.bin has label 11, expected 0 .. 9',
  ),
  'names': ('binary', 'batches.meta.txt', lambda c: c[:-12], 'batches.meta.txt has 9 names, exp'),
  'pickle': ('python', 'data_batch_3', lambda c: c[:-100], 'data_batch_3 is no pickle of cifar10'),
  'noise': ('python', 'data_batch_3', lambda c: c[100:], 'data_batch_3 is no pickle of cifar10'),
  'evil': (
    *('python', 'data_batch_1', lambda _: pickle.dumps(Evil(), 2)),
    r'data_batch_1 is no pickle of cifar10: it asks for posix.system, which is not allowed',
  ),
  'list': ('python', 'test_batch', lambda _: python2_pickle([1]), 'test_batch is no pickle of cif'),
  'keys': ('python', 'test_batch', lambda _: python2_pickle({}), "test_batch has no list 'labels'"),
  'shape': (
    *('python', 'test_batch', lambda _: SHORT_BATCH),
    r'the pixels of test_batch are u1 \(1, 5\), expected u1 \(1, 3072\)',
  ),
  'type': ('python', 'test_batch', lambda _: WRONG_TYPE, r'of test_batch are i8 \(1, 3072\), exp'),
  'number': ('python', 'test_batch', lambda _: WRONG_LABEL, 'test_batch has a label 10, expected'),
  'meta': ('python', 'batches.meta', lambda _: python2_pickle({}), 'batches.meta has no list of n'),
}


@pytest.mark.parametrize('damage', DAMAGED)
def test_damaged_copies_of_cifar(tmp_path, monkeypatch, damage):
  version, name, change, message = DAMAGED[damage]
  monkeypatch.chdir(tmp_path)
  members = changed(getattr(TEN, version)(), name, change)
  (tmp_path / 'copy.tar.gz').write_bytes(tgz(members))
  with pytest.raises(ValueError, match=f'copy.tar.gz: .*{message}'):
    cifar.convert_cifar10('copy.tar.gz', tmp_path / 'out')
  assert os.listdir(tmp_path) == ['copy.tar.gz']  # nothing is left, nothing was run


def test_cifar_that_is_not(tmp_path):
  out = tmp_path / 'out'
  (tmp_path / 'page.tar.gz').write_bytes(b'<html>Not found</html>')
  (tmp_path / 'cut.tar.gz').write_bytes(tgz(TEN.binary())[:-5000])
  (tmp_path / 'other.tar.gz').write_bytes(tgz(CIFARS['cifar100'].binary()))
  unpack(tmp_path / 'part', TEN.binary())
  (tmp_path / 'part' / 'cifar-10-batches-bin' / 'data_batch_4.bin').unlink()
  for source, message in {
    'page.tar.gz': r'page.tar.gz holds no batches.meta.txt; expected one of cifar-10-batches-bin,',
    'cut.tar.gz': r'cut.tar.gz is cut short or damaged',
    'other.tar.gz': r'other.tar.gz holds no batches.meta.txt',
    'part': r'cifar-10-batches-bin holds no data_batch_4.bin',
    '.': r'holds no batches.meta.txt',
  }.items():
    with pytest.raises(ValueError, match=message):
      cifar.convert_cifar10(str(tmp_path / source), out)
  for option in ({'validation_fraction': 0.1}, {'validation_shards': 2}):
    with pytest.raises(ValueError, match=f'cifar10 is split .* leave out --{next(iter(option))}'):
      cifar.convert_cifar10(None, out, conversion.Options(**option))
  assert not out.exists()


def test_cifar_sizes_are_noted(tmp_path):
  unpack(tmp_path, TEN.binary())
  plan = cifar.make_plan(cifar.CIFAR10, str(tmp_path), conversion.Options(), tmp_path)
  assert plan.notes[0].startswith('train of cifar10 has 50,000 pictures, not 25')
  assert plan.num_shards == {'train': 5, 'test': 1}


# MNIST


class Mnist:
  """A small data set of random pictures: [N, 28, 28] and labels of each split."""

  def __init__(self):
    rng = np.random.default_rng(1)
    counts = {'train': 30, 'test': 12}
    self.pixels = {
      split: rng.integers(0, 256, [count, 28, 28], np.uint8) for split, count in counts.items()
    }
    self.labels = {split: rng.integers(0, 10, count, np.uint8) for split, count in counts.items()}

  def members(self):
    content = {}
    for split, (images, labels) in mnist.FILES.items():
      count = len(self.labels[split])
      content[images.name.removesuffix('.gz')] = (
        struct.pack('>4I', 2051, count, 28, 28) + self.pixels[split].tobytes()
      )
      content[labels.name.removesuffix('.gz')] = (
        struct.pack('>2I', 2049, count) + self.labels[split].tobytes()
      )
    return content

  def packed(self):
    return {f'{name}.gz': gzip.compress(content) for name, content in self.members().items()}

  def check(self, dataset_dir):
    for split, pixels in self.pixels.items():
      found = read(dataset_dir, split, 'mnist')
      assert sorted(found) == [f'{split}_{i:05d}.png' for i in range(len(pixels))]
      for i, name in enumerate(sorted(found)):
        assert found[name][0] == self.labels[split][i]
        np.testing.assert_array_equal(found[name][1], pixels[i][..., np.newaxis])


@pytest.fixture
def mnist_download(server):
  packed = Mnist().packed()
  return converting(
    mnist.make_plan,
    downloads={
      split: tuple(serve(server, part, packed[part.name]) for part in parts)
      for split, parts in mnist.FILES.items()
    },
  )


def test_mnist_is_downloaded(server, mnist_download, tmp_path):
  out = tmp_path / 'out'
  info = mnist_download(None, out).info
  Mnist().check(out)
  assert info.labels[:3] == ('zero', 'one', 'two') and info.labels[9] == 'nine'
  assert left_in(out / 'downloads') == sorted(Mnist().packed())
  dataset = dataset_factory.get_dataset('mnist', 'test', out)
  (record, *_) = tf.data.TFRecordDataset(list(dataset.paths))
  feature = tf.train.Example.FromString(record.numpy()).features.feature
  assert feature['image/format'].bytes_list.value == [b'PNG']
  assert feature['image/colorspace'].bytes_list.value == [b'Grayscale']
  assert [feature[f'image/{key}'].int64_list.value[0] for key in ('height', 'channels')] == [28, 1]


def test_a_download_that_was_stopped_goes_on(server, mnist_download, tmp_path):
  name, out = 'train-images-idx3-ubyte.gz', tmp_path / 'out'
  content = server.files.pop(name)
  with pytest.raises(OSError, match=f'{name} cannot be downloaded: HTTP status 404'):
    mnist_download(None, out)
  assert not out.exists()
  (out / 'downloads').mkdir(parents=True)
  (out / 'downloads' / f'{name}.partial').write_bytes(content[:500])
  server.files[name] = content
  mnist_download(None, out)
  Mnist().check(out)
  assert server.requests[1] == (name, 'bytes=500-')
  assert left_in(out / 'downloads') == sorted(Mnist().packed())


def test_a_conversion_that_was_stopped_goes_on(server, mnist_download, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(sources.RawPicture, 'read', lambda picture: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      mnist_download(None, out)
  mnist_download(None, out)
  Mnist().check(out)
  assert len(server.requests) == 4
  assert not (out / conversion.WORK_FOLDER).exists()


def test_mnist_local_copies(tmp_path):
  unpack(tmp_path / 'packed', Mnist().packed())
  unpack(tmp_path / 'plain', Mnist().members())
  unpack(tmp_path / 'torchvision' / 'MNIST' / 'raw', Mnist().members() | Mnist().packed())
  digests = []
  for source in ('packed', 'plain', 'torchvision'):
    out = tmp_path / f'{source} out'
    mnist.convert(str(tmp_path / source), out)
    digests.append(digest(out))
  Mnist().check(out)
  assert digests == digests[:1] * 3


IMAGES, LABELS = 'train-images-idx3-ubyte', 't10k-labels-idx1-ubyte'


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    (IMAGES, lambda c: c[:-1], f'{IMAGES} is cut short or damaged: 23535 bytes, expected 23536'),
    (IMAGES, lambda c: c[:7], f'{IMAGES} is cut short: 7 bytes'),
    (IMAGES, lambda c: gzip.compress(c)[:-9], f'{IMAGES} is cut short or damaged: '),
    (IMAGES, lambda c: c[:8] + struct.pack('>2I', 16, 49) + c[16:], 'no IDX file of n x 28 x 28'),
    (LABELS, lambda c: b'\0' + c, f'{LABELS} is no IDX file of n bytes: it begins with 00000008'),
    (LABELS, lambda c: struct.pack('>2I', 2049, 11) + c[8:-1], '12 pictures, .* has 11 labels'),
    (LABELS, lambda c: c[:-1] + b'\x0a', f'{LABELS}: label 11 is 10, expected 0 .. 9'),
  ],
)
def test_damaged_copies_of_mnist(tmp_path, name, change, message):
  members = Mnist().members()
  unpack(tmp_path / 'copy', members | {name: change(members[name])})
  with pytest.raises(ValueError, match=message):
    mnist.convert(str(tmp_path / 'copy'), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_mnist_that_is_not(tmp_path):
  out = tmp_path / 'out'
  unpack(tmp_path / 'part', Mnist().packed())
  (tmp_path / 'part' / f'{LABELS}.gz').unlink()
  with pytest.raises(ValueError, match=f'part holds neither {LABELS}.gz nor {LABELS}; expected'):
    mnist.convert(str(tmp_path / 'part'), out)
  with pytest.raises(NotADirectoryError, match=f'{IMAGES}.gz is no folder; expected a folder with'):
    mnist.convert(str(tmp_path / 'part' / f'{IMAGES}.gz'), out)
  for option in ({'validation_fraction': 0.1}, {'validation_shards': 2}):
    with pytest.raises(ValueError, match=f'mnist is split .* leave out --{next(iter(option))}'):
      mnist.convert(None, out, conversion.Options(**option))
  assert not out.exists()


# All of them


@pytest.mark.parametrize(
  ('name', 'split', 'num_classes'),
  [
    ('cifar10', 'test', 10),
    ('cifar100', 'train', 100),
    ('flowers', 'validation', 5),
    ('mnist', 'train', 10),
  ],
)
def test_slims_own_records_open(tmp_path, name, split, num_classes):
  """slim's names; its records know neither file names nor the names of classes."""
  shard = 'flowers_validation_00000-of-00001.tfrecord'
  path = tmp_path / (shard if name == 'flowers' else f'{name}_{split}.tfrecord')
  slim_records.write(path, [slim_records.flowers_example(label) for label in (0, 4)])
  dataset = dataset_factory.get_dataset(name, split, tmp_path)
  assert (dataset.num_samples, dataset.num_classes) == (2, num_classes)
  (tmp_path / 'labels.txt').write_text(''.join(f'{i}:name {i}\n' for i in range(num_classes)))
  assert dataset_factory.get_dataset(name, split, tmp_path).labels_to_names[1] == 'name 1'


def test_what_is_published():
  archives = [flowers.ARCHIVE, cifar.CIFAR10.archive, cifar.CIFAR100.archive]
  archives += [part for parts in mnist.FILES.values() for part in parts]
  assert len({archive.name for archive in archives}) == len(archives) == 7
  for archive in archives:
    assert archive.url.startswith('http') and archive.size > 0
    assert len(bytes.fromhex(archive.sha256)) == hashlib.sha256().digest_size
  for name in ('cifar10', 'cifar100', 'flowers', 'mnist'):
    entry = dataset_factory.DATASETS[name]
    assert sum(entry.split_sizes.values()) == {'flowers': 3670, 'mnist': 70_000}.get(name, 60_000)


def test_converters_are_light():
  code = (
    'import sys, datasets.cifar, datasets.flowers, datasets.mnist;'
    'print({"tensorflow", "numpy", "urllib.request"} & set(sys.modules))'
  )
  assert subprocess.check_output([sys.executable, '-c', code], text=True) == 'set()\n'
