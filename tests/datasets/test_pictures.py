"""Files that are pictures, nearly pictures, and none."""

import numpy as np
import pytest
import tensorflow as tf

from datasets import pictures
from tests.datasets.odd_pictures import ODD, PIXELS, lying


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
