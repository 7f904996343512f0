"""Files that are pictures, nearly pictures, and none."""

import contextlib
import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from slim_inception.datasets import pictures

from tests.datasets.odd_pictures import ODD, PIXELS, encode, lying


@pytest.mark.parametrize('name', ODD)
def test_odd_pictures(name):
  content, fate = ODD[name]
  if fate in ('JPEG', 'PNG'):
    picture = pictures.read_picture(content, upright=True)
    assert picture.encoded == content
    assert (picture.image_format, picture.change) == (fate, '')
  elif ' to ' in fate or 'turned' in fate:
    picture = pictures.read_picture(content, upright=True)
    assert (picture.image_format, picture.change) == ('JPEG', fate)
    assert picture.encoded[:2] == b'\xff\xd8'
  else:
    with pytest.raises(pictures.BadPictureError, match=fate):
      pictures.read_picture(content, upright=True)
    return
  decoded = tf.io.decode_image(picture.encoded).numpy()
  assert decoded.shape == (picture.height, picture.width, decoded.shape[2])
  if name != 'palette.png':
    assert decoded.shape[2] == picture.channels


def test_reencoded_pixels_are_those_that_pillow_shows():
  picture = pictures.read_picture(ODD['a.bmp'][0])
  shown = tf.io.decode_image(picture.encoded).numpy().astype(int)
  assert np.abs(shown - PIXELS).mean() < 1


def test_cmyk_becomes_what_tensorflow_sees():
  content = ODD['cmyk.jpg'][0]
  ours = tf.io.decode_image(pictures.read_picture(content).encoded).numpy().astype(int)
  assert np.abs(ours - tf.io.decode_jpeg(content, channels=3).numpy()).mean() < 6


def test_turned_upright_on_request_only():
  assert pictures.read_picture(lying()).encoded == lying()
  picture = pictures.read_picture(lying(), upright=True)
  assert (picture.height, picture.width) == (32, 24)
  shown = tf.io.decode_image(picture.encoded).numpy().astype(int)
  assert np.abs(shown - np.rot90(PIXELS, -1)).mean() < 20
  assert pictures.read_picture(picture.encoded, upright=True).change == ''


@pytest.mark.parametrize('orientation', range(10))
def test_turned_as_pillow_turns(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  content = encode('JPEG', quality=95, exif=exif)
  picture = pictures.read_picture(content, upright=True)
  if 2 <= orientation <= 8:
    with Image.open(io.BytesIO(content)) as image:
      expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert picture.change == 'turned upright'
    assert np.abs(tf.io.decode_jpeg(picture.encoded).numpy() - expected).mean() < 2
  else:
    assert picture.encoded == content


def test_picture_too_wide_for_a_jpeg():
  file = io.BytesIO()
  Image.new('1', (70_000, 1)).save(file, 'PNG')
  with pytest.raises(pictures.BadPictureError, match='cannot be made a JPEG'):
    pictures.read_picture(file.getvalue(), keep_png=False)


@pytest.mark.parametrize('name', ['plain.jpg', 'lying.jpg', 'cmyk.jpg', 'plain.png', 'a.gif'])
@pytest.mark.parametrize('upright', [False, True])
def test_damage_of_any_kind_is_a_bad_picture(name, upright):
  """Flipped bytes give a picture or BadPictureError, nothing else."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    content = bytearray(ODD[name][0])
    for place in rng.integers(len(content), size=3):
      content[place] = rng.integers(256)
    with contextlib.suppress(pictures.BadPictureError), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      pictures.read_picture(bytes(content[: rng.integers(1, len(content) + 1)]), upright=upright)
