"""Files that are images, nearly images, and none."""

import contextlib
import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from slim_inception.datasets import images

from tests.datasets.odd_images import ODD, PIXELS, encode


@pytest.mark.parametrize('name', ODD)
def test_odd_images(name):
  content, fate = ODD[name]
  if fate in ('JPEG', 'PNG'):
    checked = images.read_image(content, upright=True)
    assert checked.encoded == content
    assert (checked.image_format, checked.change) == (fate, '')
  elif ' to ' in fate or 'turned' in fate:
    checked = images.read_image(content, upright=True)
    assert (checked.image_format, checked.change) == ('JPEG', fate)
    assert checked.encoded[:2] == b'\xff\xd8'
  else:
    with pytest.raises(images.BadImageError, match=fate):
      images.read_image(content, upright=True)
    return
  decoded = tf.io.decode_image(checked.encoded).numpy()
  assert decoded.shape == (checked.height, checked.width, decoded.shape[2])
  if name != 'palette.png':
    assert decoded.shape[2] == checked.channels


def test_reencoded_pixels_are_those_that_pillow_shows():
  checked = images.read_image(ODD['a.bmp'][0])
  shown = tf.io.decode_image(checked.encoded).numpy().astype(int)
  assert np.abs(shown - PIXELS).mean() < 1
  # CMYK becomes what TensorFlow sees.
  content = ODD['cmyk.jpg'][0]
  ours = tf.io.decode_image(images.read_image(content).encoded).numpy().astype(int)
  assert np.abs(ours - tf.io.decode_jpeg(content, channels=3).numpy()).mean() < 6


@pytest.mark.parametrize('orientation', range(10))
def test_turned_as_pillow_turns_on_request_only(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  content = encode('JPEG', quality=95, exif=exif)
  assert images.read_image(content).encoded == content
  checked = images.read_image(content, upright=True)
  assert images.read_image(checked.encoded, upright=True).change == ''
  if 2 <= orientation <= 8:
    with Image.open(io.BytesIO(content)) as image:
      expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert (checked.change, checked.height) == ('turned upright', len(expected))
    assert np.abs(tf.io.decode_jpeg(checked.encoded).numpy() - expected).mean() < 2
  else:
    assert checked.encoded == content


def test_image_too_wide_for_a_jpeg():
  file = io.BytesIO()
  Image.new('1', (70_000, 1)).save(file, 'PNG')
  with pytest.raises(images.BadImageError, match='cannot be made a JPEG'):
    images.read_image(file.getvalue(), keep_png=False)


@pytest.mark.parametrize('name', ['plain.jpg', 'lying.jpg', 'cmyk.jpg', 'plain.png', 'a.gif'])
@pytest.mark.parametrize('upright', [False, True])
def test_damage_of_any_kind_is_a_bad_image(name, upright):
  """Flipped bytes give an image or BadImageError, nothing else."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    content = bytearray(ODD[name][0])
    for place in rng.integers(len(content), size=3):
      content[place] = rng.integers(256)
    with contextlib.suppress(images.BadImageError), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      images.read_image(bytes(content[: rng.integers(1, len(content) + 1)]), upright=upright)
