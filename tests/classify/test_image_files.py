"""What classification adds to the reader of images: thumbnails, HEIC's package, huge images.

What it sees of every kind of file: tests/export/test_image_files.py.
"""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import images
from slim_inception.datasets.images import BadImageError

from slim_inception.classify import image_files
from tests.datasets.odd_images import JPEG, PIXELS, PNG, encode


def seen(content, **kwargs):
  """Pixels as an evaluation decodes them, after `prepare`."""
  encoded = image_files.prepare(content, **kwargs).encoded
  return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


def file_of(image, file_format, **options):
  file = io.BytesIO()
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  image.save(file, file_format, **options)
  return file.getvalue()


def test_ordinary_files_stay_as_they_are():
  deep = file_of((PIXELS[..., 0].astype(np.uint16) << 8) + 77, 'PNG')
  for content in (
    JPEG, PNG, encode('JPEG', 'L'), encode('JPEG', progressive=True), encode('PNG', 'P'), deep,
  ):  # fmt: skip
    assert image_files.prepare(content).encoded is content


@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'BMP', 'GIF', 'TIFF'])
def test_one_pixel(file_format):
  found = seen(file_of(np.full((1, 1, 3), (200, 10, 10), np.uint8), file_format))
  np.testing.assert_allclose(found, [[[200, 10, 10]]], atol=3)


def test_thumbnails():
  for size in ((300, 100), (3, 1), (5000, 1)):
    content = file_of(np.full((size[1], size[0], 3), (200, 10, 10), np.uint8), 'PNG')
    with Image.open(io.BytesIO(image_files.prepare(content, 60).thumbnail)) as image:
      assert image.size == (60, max(1, round(60 * size[1] / size[0])))
      assert image.getpixel((30, 0)) == (200, 10, 10)
  with Image.open(io.BytesIO(image_files.prepare(encode('JPEG', 'L'), 60).thumbnail)) as image:
    assert image.mode == 'RGB'


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)


def test_heic_names_what_reads_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'pillow_heif', None)
  images._learn_heif.cache_clear()
  for read in (image_files.prepare, images.read_image):
    with pytest.raises(BadImageError, match=r'pip install "slim-inception\[heif\]"'):
      read(HEIC)


@pytest.mark.slow
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG'])
def test_twenty_thousand_pixels_a_side(file_format):
  image = Image.new('RGB', (20_000, 20_000), (200, 10, 10))
  image.paste((10, 10, 200), (0, 0, 10_000, 20_000))
  found = seen(file_of(image, file_format))
  assert Image.MAX_IMAGE_PIXELS < 20_000**2 / 2  # Pillow's own limit holds for everybody else
  assert found.shape == (2500, 2500, 3)
  np.testing.assert_allclose(found[::100, 1200] - [10.0, 10.0, 200.0], 0, atol=3)
  np.testing.assert_allclose(found[::100, 1300] - [200.0, 10.0, 10.0], 0, atol=3)
