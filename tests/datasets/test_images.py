"""Files that are images, nearly images, and none: what a record holds of them.

What every reader sees of every kind of file: tests/export/test_image_files.py.
"""

import contextlib
import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import images

from tests.datasets.odd_images import JPEG, ODD, PIXELS, PNG, encode, lying


@pytest.mark.parametrize('name', ODD)
def test_odd_images(name):
  content, fate = ODD[name]
  if fate in ('JPEG', 'PNG'):
    checked = images.read_image(content)
    assert checked.encoded == content
    assert (checked.image_format, checked.change) == (fate, '')
  elif ' to ' in fate or 'turned' in fate or 'laid' in fate:
    checked = images.read_image(content)
    is_photo = content.startswith(images.JPEG_MAGIC)
    assert (checked.image_format, checked.change) == ('JPEG' if is_photo else 'PNG', fate)
    assert checked.encoded.startswith(images.JPEG_MAGIC if is_photo else images.PNG_MAGIC)
  else:
    with pytest.raises(images.BadImageError, match=fate):
      images.read_image(content)
    return
  decoded = tf.io.decode_image(checked.encoded).numpy()
  assert decoded.shape == (checked.height, checked.width, decoded.shape[2])
  if name not in ('palette.png', 'opaque.png'):
    assert decoded.shape[2] == checked.channels


def test_what_was_done_is_said_in_order():
  exif = Image.Exif()
  exif[0x0112] = 6
  content = encode('WEBP', lossless=True, exif=exif)
  assert images.read_image(content).change == 'WEBP to PNG, turned upright'
  assert (
    images.read_image(encode('JPEG', 'CMYK', exif=exif)).change == 'CMYK to RGB, turned upright'
  )
  assert images.read_image(encode('PNG', exif=exif)).change == 'turned upright'


def test_as_slim_stores():
  """JPEGs as they lie, whatever EXIF says; all else as JPEG of quality 100, RGB."""
  for content in (JPEG, lying(), encode('JPEG', 'L')):
    assert images.read_image(content, as_slim=True).encoded is content
  table = Image.open(io.BytesIO(encode('JPEG', quality=100))).quantization
  for content, change in (
    (PNG, 'PNG to JPEG'),
    (encode('PNG', 'L'), 'PNG to JPEG'),
    (encode('JPEG', 'CMYK'), 'CMYK to RGB'),
    (encode('BMP'), 'BMP to JPEG'),
  ):
    checked = images.read_image(content, as_slim=True)
    with Image.open(io.BytesIO(checked.encoded)) as image:
      assert (image.format, image.mode, image.quantization) == ('JPEG', 'RGB', table)
    assert (checked.change, checked.channels) == (change, 3)


def test_image_too_wide_for_a_jpeg():
  file = io.BytesIO()
  Image.new('1', (70_000, 1)).save(file, 'PNG')
  with pytest.raises(images.BadImageError, match='cannot be made a JPEG'):
    images.read_image(file.getvalue(), as_slim=True)
  assert images.read_image(file.getvalue()).encoded == file.getvalue()


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (encode('JPEG', 'CMYK'), 'not of the form that training reads: CMYK, expected JPEG .grey, RGB'),
    (encode('BMP'), 'not of the form that training reads: BMP, expected JPEG .grey, RGB. or PNG'),
    (PNG[:60], 'does not decode'),
    (b'', 'empty file'),
  ],
)
def test_what_no_record_may_hold(content, message):
  with pytest.raises(images.BadImageError, match=message):
    images.size_of_record(content)


def test_records_made_elsewhere_may_lie_on_their_side():
  """Slim's and TensorFlow Datasets' do, and are trained on as they lie."""
  for content in (lying(), encode('JPEG', 'L'), encode('PNG', 'RGBA')):
    assert images.size_of_record(content) == (24, 32)


def test_no_warning_of_large_images():
  """Pillow has one of 89 million pixels, and an error of 179; ours is one limit for all."""
  image, limit = Image.new('1', (14_000, 14_000), 1), Image.MAX_IMAGE_PIXELS
  for file_format, options in (('PNG', {}), ('TIFF', {'compression': 'group4'}), ('GIF', {})):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    checked = images.read_image(file.getvalue())
    assert (checked.height, checked.width, checked.image_format) == (3500, 3500, 'PNG')
    if file_format == 'PNG':
      assert images.size_of_record(file.getvalue()) == (14_000, 14_000)
  assert limit == Image.MAX_IMAGE_PIXELS  # holds for everybody else


def test_decoding_to_few_pixels():
  for content, limit in ((JPEG, 8), (PNG, 0.5)):
    image = images.decode(content, 24 * 32 // 4)
    assert image.size == (16, 12)
    means = PIXELS.reshape(12, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(image) - means).mean() <= limit


@pytest.mark.parametrize('name', ['plain.jpg', 'lying.jpg', 'cmyk.jpg', 'plain.png', 'a.gif'])
@pytest.mark.parametrize('as_slim', [False, True])
def test_damage_of_any_kind_is_a_bad_image(name, as_slim):
  """Flipped bytes give an image or BadImageError, nothing else."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    content = bytearray(ODD[name][0])
    for place in rng.integers(len(content), size=3):
      content[place] = rng.integers(256)
    with contextlib.suppress(images.BadImageError), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      images.read_image(bytes(content[: rng.integers(1, len(content) + 1)]), as_slim=as_slim)


def gradient(width=500, height=300):
  """Smooth shades, of which a resized image has the same at the same place."""
  rows, columns = np.mgrid[:height, :width]
  values = [255 * columns / width, 255 * rows / height, 128 + 0 * rows]
  return Image.fromarray(np.stack(values, -1).astype(np.uint8))


def file_of(image, *args, **options):
  file = io.BytesIO()
  image.save(file, *args, **options)
  return file.getvalue()


@pytest.mark.parametrize(
  ('image_format', 'mode', 'as_slim', 'stored', 'quality'),
  [
    ('JPEG', 'RGB', False, 'JPEG', 95),
    ('JPEG', 'L', False, 'JPEG', 80),
    ('JPEG', 'CMYK', False, 'JPEG', 95),
    ('PNG', 'RGB', False, 'PNG', 95),
    ('PNG', 'RGB', True, 'JPEG', 70),
    ('JPEG', 'RGB', True, 'JPEG', 95),
  ],
)
def test_store_size(image_format, mode, as_slim, stored, quality):
  """Against Pillow's resizing of what Pillow decodes."""
  content = file_of(gradient().convert(mode), image_format)
  store_size = images.StoreSize(60, quality)
  checked = images.read_image(content, as_slim=as_slim, store_size=store_size)
  assert (checked.image_format, checked.width, checked.height) == (stored, 100, 60)
  assert checked.is_resized and ('resized' in checked.change) is False
  with Image.open(io.BytesIO(checked.encoded)) as image:
    assert (image.format, image.size) == (stored, (100, 60))
    assert image.mode == ('L' if mode == 'L' else 'RGB')
    if stored == 'JPEG':
      table = Image.open(io.BytesIO(encode('JPEG', quality=quality))).quantization[0]
      assert image.quantization[0] == table and (mode == 'L' or image.layer[0][1:3] == (1, 1))
    expected = gradient().convert(image.mode).resize((100, 60), Image.Resampling.LANCZOS)
    difference = np.asarray(image, float) - np.asarray(expected, float)
  assert np.abs(difference).mean() < (2 if mode != 'CMYK' else 4)


def test_store_size_of_images_that_are_small_enough():
  content = file_of(gradient(), 'JPEG')
  for shorter_side in (300, 1000):
    checked = images.read_image(content, store_size=images.StoreSize(shorter_side))
    assert checked.encoded is content and not checked.is_resized
  turned = images.read_image(lying(), store_size=images.StoreSize(24))
  assert turned == images.read_image(lying())  # encoded for another reason, with its quality


def test_store_size_turns_and_reduces():
  exif = Image.Exif()
  exif[0x0112] = 6
  lies = file_of(gradient(), 'JPEG', exif=exif)
  checked = images.read_image(lies, store_size=images.StoreSize(60))
  assert (checked.width, checked.height, checked.change) == (60, 100, 'turned upright')
  as_slim = images.read_image(lies, as_slim=True, store_size=images.StoreSize(60))
  assert (as_slim.width, as_slim.height, as_slim.change) == (100, 60, '')
  large = file_of(Image.new('RGB', (8000, 4000), 'red'), 'JPEG')
  checked = images.read_image(large, store_size=images.StoreSize(100))
  assert (checked.width, checked.height, checked.change) == (200, 100, '')
  narrow = file_of(Image.new('L', (3000, 3)), 'PNG')
  checked = images.read_image(narrow, store_size=images.StoreSize(2))
  assert (checked.width, checked.height) == (2000, 2)


def test_transparent_colors_do_not_bleed_into_what_is_resized():
  image = Image.new('RGBA', (200, 200), (255, 0, 0, 0))
  image.paste((0, 0, 255, 255), (0, 0, 100, 200))
  checked = images.read_image(file_of(image, 'PNG'), store_size=images.StoreSize(50))
  with Image.open(io.BytesIO(checked.encoded)) as stored:
    values = np.asarray(stored.convert('RGB')).astype(int)
  assert checked.change == 'laid on white'
  assert (values[..., 0] <= values[..., 2] + 1).all()  # blue, white and between: no red


@pytest.mark.parametrize('content', [b'x', b'BM', b'\xff\xd8', bytes(3)])
def test_what_is_shorter_than_any_mark_is_no_image(content):
  with pytest.raises(images.BadImageError, match='^not an image in any known format$'):
    images.read_image(content)
