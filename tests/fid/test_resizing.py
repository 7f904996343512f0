"""The three resizings beside NumPy, Pillow and PyTorch."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from slim_inception.evaluate import views
from slim_inception.fid import config, resizing

SIZES = [(32, 48), (299, 299), (500, 410)]


def image(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def bilinear(pixels, half_pixels):
  """A row or column of the result is a mean of two neighbours."""
  for axis in (0, 1):
    size = pixels.shape[axis]
    places = np.arange(299) * size / 299
    if half_pixels:
      places = np.maximum((np.arange(299) + 0.5) * size / 299 - 0.5, 0)
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, size - 1)
    share = (places - before).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    pixels = pixels.take(before, axis) * (1 - share) + pixels.take(after, axis) * share
  return pixels


def bicubic(pixels):
  planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, 2, 0)]
  resized = [plane.resize((299, 299), Image.Resampling.BICUBIC) for plane in planes]
  return np.clip(np.stack(resized, 2), 0, 255)


EXPECTED = {
  'legacy_tensorflow': lambda pixels: (bilinear(pixels, False) - 128) / 128,
  'legacy_pytorch': lambda pixels: 2 * (bilinear(pixels, True) / 255) - 1,
  'clean': lambda pixels: (bicubic(pixels) - 128) / 128,
}


@pytest.mark.parametrize('name', resizing.RESIZINGS)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_resizings(name, size):
  pixels = image(*size)
  ours = views.single_view(tf.constant(pixels), resizing.make_spec(name))
  np.testing.assert_allclose(ours, EXPECTED[name](pixels.astype(np.float64)), atol=1e-4)


def test_pytorchs_own():
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  pixels = image(500, 410)
  images = torch.from_numpy(pixels.transpose(2, 0, 1)[None]) / 255
  theirs = torch.nn.functional.interpolate(
    images, size=(299, 299), mode='bilinear', align_corners=False
  )
  ours = views.single_view(tf.constant(pixels), resizing.make_spec('legacy_pytorch'))
  np.testing.assert_allclose(ours, (2 * theirs - 1)[0].numpy().transpose(1, 2, 0), atol=1e-4)


def test_flags_name_them():
  assert tuple(resizing.RESIZINGS) == config.RESIZINGS


def test_jpegs_are_decoded_as_pillow_does(tmp_path):
  path = tmp_path / 'a.jpg'
  Image.fromarray(image(40, 56)).save(path, quality=90)
  decoded = resizing.make_spec('clean').decode(tf.io.read_file(str(path)))
  np.testing.assert_array_equal(decoded, np.asarray(Image.open(path)))
