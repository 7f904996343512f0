"""CIFAR-10 and -100, from small archives of the three forms in which they are published."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
from slim_inception.datasets import cifar, conversion

from tests.datasets.archives import check, converting, digest, left_in, serve, tgz, unpack

RNG = np.random.default_rng(0)
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
  """A small data set of random images: [N, 3, 32, 32] and labels of each batch."""

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
    folder = self.kind.folders[0]
    coarse = b'' if self.kind.label_bytes == 1 else bytes([COARSE])
    text = '\n'.join([*self.names, '', ''])
    members = {f'{folder}/{self.kind.names_text}': text.encode(), f'{folder}/readme.html': b'<p>'}
    for name, pixels in self.pixels.items():
      members[f'{folder}/{name}.bin'] = b''.join(
        coarse + bytes([label]) + image.tobytes()
        for label, image in zip(self.labels[name], pixels, strict=True)
      )
    return members

  def python(self, dumps=python2_pickle, order='C'):
    """The files of the Python version, below its folder."""
    folder = self.kind.folders[1]
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
      check(dataset_dir, split, self.kind.name, labels, pixels.transpose(0, 2, 3, 1))


CIFARS = {kind.name: Cifar(kind) for kind in (cifar.CIFAR10, cifar.CIFAR100)}
CONVERT = {'cifar10': cifar.convert_cifar10, 'cifar100': cifar.convert_cifar100}
both = pytest.mark.parametrize('name', CIFARS)


@both
def test_cifar_is_downloaded(server, tmp_path, name):
  small, out = CIFARS[name], tmp_path / 'out'
  archive = serve(server, small.kind.archive, tgz(small.binary()))
  result = converting(cifar.make_plan, small.kind, archive=archive)(None, out)
  small.check(out)
  assert result.info.labels == tuple(small.names)
  assert (result.skipped, result.changed) == ([], [])
  assert left_in(out / 'downloads') == [archive.name]
  assert not (out / conversion.WORK_FOLDER).exists()


@both
def test_cifar_local_copies_give_the_same_records(tmp_path, name):
  small, copies = CIFARS[name], tmp_path / 'copies'
  (binary_folder, python_folder), (binary_name, python_name) = (
    small.kind.folders,
    small.kind.archives,
  )
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
    options = conversion.Options(num_processes=1 + (source == 'again'))
    CONVERT[name](str(copies / source), out, options)
    digests.append(digest(out))
  small.check(tmp_path / '0')
  assert digests == digests[:1] * len(sources)


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
    r'image 1 of data_batch_1.bin has label 11, expected 0 .. 9',
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
    r'the pixels of test_batch are uint8 \(1, 5\), expected uint8 \(1, 3072\)',
  ),
  'type': (
    'python',
    'test_batch',
    lambda _: WRONG_TYPE,
    r'of test_batch are int64 \(1, 3072\), exp',
  ),
  'number': ('python', 'test_batch', lambda _: WRONG_LABEL, 'of test_batch has label 10, expected'),
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
  assert plan.notes[0].startswith('train of cifar10 has 50,000 images, not 25')
  assert plan.num_shards == {'train': 5, 'test': 1}
