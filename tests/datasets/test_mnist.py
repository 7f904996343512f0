"""MNIST, from small files of the format in which it is published."""

import gzip
import struct

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, mnist, sources

from tests.datasets.archives import check, converting, digest, left_in, serve, unpack


class Mnist:
  """A small data set of random images: [N, 28, 28] and labels of each split."""

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
      check(dataset_dir, split, 'mnist', self.labels[split], pixels[..., np.newaxis])


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


def test_a_conversion_that_was_stopped_goes_on(server, mnist_download, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(sources.RawImage, 'read', lambda image: 1 / 0)
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
    (LABELS, lambda c: struct.pack('>2I', 2049, 11) + c[8:-1], '12 images, .* has 11 labels'),
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
