"""Odd images as TensorFlow sees them, compared with Pillow and NumPy."""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from slim_inception.datasets.images import BadImageError

from slim_inception.classify import image_files
from tests.datasets import odd_images
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
  np.testing.assert_array_equal(seen(PNG), PIXELS)
  np.testing.assert_array_equal(seen(deep)[..., 1], PIXELS[..., 0])


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_turned_upright(turn, file_format):
  exif = Image.Exif()
  exif[0x0112] = turn
  content = encode(file_format, exif=exif)
  with Image.open(io.BytesIO(content)) as image:
    expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
  assert expected.shape == ((24, 32, 3) if turn < 5 else (32, 24, 3))
  # TensorFlow and Pillow may round a JPEG's colours differently.
  np.testing.assert_allclose(seen(content), expected, atol=8 if file_format == 'JPEG' else 0)


def test_sixteen_bits_keep_their_range():
  values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
  expected = np.repeat((values >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
  for file_format in ('TIFF', 'PNG', 'JPEG2000', 'PPM'):
    np.testing.assert_array_equal(seen(file_of(values, file_format)), expected, file_format)


def test_what_is_transparent_is_white():
  alpha = np.linspace(0, 255, 24 * 32).reshape(24, 32, 1).astype(np.uint8)
  pixels = np.concatenate([PIXELS, alpha], axis=2)
  share = alpha / 255
  expected = PIXELS * share + 255 * (1 - share)
  for file_format, options in (('PNG', {}), ('WEBP', {'lossless': True, 'exact': True})):
    np.testing.assert_allclose(seen(file_of(pixels, file_format, **options)), expected, atol=1)
  palette = Image.fromarray(PIXELS).quantize(4)
  expected = np.asarray(palette.convert('RGB')).copy()
  expected[np.asarray(palette) == 2] = 255
  np.testing.assert_array_equal(seen(file_of(palette, 'PNG', transparency=2)), expected)
  opaque = file_of(np.concatenate([PIXELS, np.full_like(alpha, 255)], axis=2), 'PNG')
  np.testing.assert_array_equal(seen(opaque), PIXELS)


def test_cmyk():
  content = encode('JPEG', 'CMYK', quality=95)
  with Image.open(io.BytesIO(content)) as image:
    assert image.mode == 'CMYK'
    expected = np.asarray(image.convert('RGB'))
  np.testing.assert_array_equal(seen(content), expected)
  assert np.abs(seen(content).astype(int) - PIXELS).mean() < 4  # not the negative


@pytest.mark.parametrize('file_format', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_the_first_frame_of_several(file_format):
  frames = [Image.new('RGB', (8, 6), color) for color in ('red', 'lime', 'blue')]
  options = {'lossless': True} if file_format == 'WEBP' else {}
  content = file_of(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
  np.testing.assert_array_equal(seen(content), np.asarray(frames[0]))


@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'BMP', 'GIF', 'TIFF'])
def test_one_pixel(file_format):
  found = seen(file_of(np.full((1, 1, 3), (200, 10, 10), np.uint8), file_format))
  np.testing.assert_allclose(found, [[[200, 10, 10]]], atol=3)


@pytest.mark.parametrize(
  ('file_format', 'mode'),
  [
    *(('JPEG', mode) for mode in ('RGB', 'L', 'CMYK')),
    *(('PNG', mode) for mode in ('RGB', 'RGBA', 'L', 'P')),
    *(('TIFF', mode) for mode in ('RGB', 'RGBA', 'L', 'P', 'CMYK')),
  ],
)
def test_large_images_are_divided(file_format, mode, monkeypatch):
  """97 x 61 pixels of a slope stand for 20,000 x 20,000."""
  monkeypatch.setattr(image_files, 'LARGE', 1000)
  slope = np.add.outer(np.arange(61), np.arange(97)).astype(np.uint8)
  content = encode(file_format, mode, slope if mode in 'LP' else np.stack([slope] * 3, axis=2))
  found = seen(content)
  assert found.shape[0] * found.shape[1] <= 1000
  assert found.shape[1] / found.shape[0] == pytest.approx(97 / 61, rel=0.05)
  side = 61 / found.shape[0]
  middle = np.add.outer(np.arange(found.shape[0]), np.arange(found.shape[1])) * side + side
  inner = found[1:-2, 1:-2, 1]
  np.testing.assert_allclose(inner, middle[1:-2, 1:-2], atol=7)


def test_thumbnails():
  for size in ((300, 100), (3, 1), (5000, 1)):
    content = file_of(np.full((size[1], size[0], 3), (200, 10, 10), np.uint8), 'PNG')
    with Image.open(io.BytesIO(image_files.prepare(content, 60).thumbnail)) as image:
      assert image.size == (60, max(1, round(60 * size[1] / size[0])))
      assert image.getpixel((30, 0)) == (200, 10, 10)


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'empty file'),
    (b'Not found', 'not an image in any known format'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not an image in any known format'),
    (JPEG[:-60], 'JPEG is truncated: it has no end of image'),
    (encode('BMP')[:200], 'does not decode: '),
    (encode('WEBP')[:100], 'does not decode: |not an image'),
    (b'II*\0' + bytes(20), 'a TIFF of a kind that Pillow does not read'),
    (file_of(np.ones((4, 4), np.float32), 'TIFF'), 'TIFF of 32 bits a channel, and nothing says'),
    (file_of(np.ones((4, 4), np.int32), 'TIFF'), 'TIFF of 32 bits a channel, and nothing says'),
  ],
)
def test_what_is_no_image(content, message):
  with pytest.raises(BadImageError, match=message) as error:
    image_files.prepare(content)
  assert len(str(error.value).splitlines()) == 1


def test_heic_names_what_reads_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'pillow_heif', None)
  with pytest.raises(BadImageError, match=r'pip install "slim-inception\[heif\]"'):
    image_files.prepare(HEIC)


def test_heic():
  pillow_heif = pytest.importorskip('pillow_heif')
  pillow_heif.register_heif_opener()
  content = encode('HEIF', quality=100, chroma=444)
  np.testing.assert_allclose(seen(content), PIXELS, atol=12)


def test_too_many_pixels(monkeypatch):
  monkeypatch.setattr(image_files, 'LARGE', 100)
  monkeypatch.setattr(image_files, 'MAX_PIXELS', 24 * 32 - 1)
  for content in (JPEG, PNG, encode('GIF')):
    with pytest.raises(BadImageError, match='32 x 24 pixels are more than the 767 that are dec'):
      image_files.prepare(content)


@pytest.mark.slow
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG'])
def test_twenty_thousand_pixels_a_side(file_format):
  image = Image.new('RGB', (20_000, 20_000), (200, 10, 10))
  image.paste((10, 10, 200), (0, 0, 10_000, 20_000))
  found = seen(file_of(image, file_format))
  assert Image.MAX_IMAGE_PIXELS < 20_000**2 / 2  # Pillow's own limit holds for everybody else
  assert found.shape[0] * found.shape[1] <= image_files.LARGE
  middle = found.shape[1] // 2
  np.testing.assert_allclose(found[::100, middle - 50] - [10.0, 10.0, 200.0], 0, atol=3)
  np.testing.assert_allclose(found[::100, middle + 50] - [200.0, 10.0, 10.0], 0, atol=3)


def test_every_odd_image_is_right_or_refused():
  for name, (content, _) in odd_images.ODD.items():
    try:
      found = seen(content)
    except BadImageError as error:
      assert name in ('empty.jpg', 'text.jpg', 'cut.jpg')
      assert str(error)
    except tf.errors.InvalidArgumentError:
      assert name == 'cut.png'  # found when it is decoded; the classifier says so
    else:
      expected = (4, 4, 3) if name == 'deep.tiff' else (24, 32, 3)
      assert found.shape == ((32, 24, 3) if name == 'lying.jpg' else expected)
