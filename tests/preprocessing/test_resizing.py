"""Resizing against Pillow."""

import numpy as np
import pytest
from PIL import Image
from slim_inception.preprocessing import resizing

PILLOW = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize('interpolation', resizing.INTERPOLATIONS)
@pytest.mark.parametrize(
  ('shape', 'size'),
  [
    ((75, 100), (64, 85)),
    ((75, 100), (75, 100)),
    ((75, 100), (117, 156)),
    ((20, 30), (96, 144)),
    ((300, 200), (96, 75)),
    ((90, 40), (30, 80)),
    ((1, 1), (9, 7)),
    ((5, 3), (1, 1)),
  ],
)
def test_is_pillows_to_the_bit(shape, size, interpolation):
  noise = RNG.integers(0, 256, [*shape, 3]).astype(np.uint8)
  extremes = np.where(noise < 128, 0, 255).astype(np.uint8)  # bicubic overshoots in both passes
  for image in (noise, extremes):
    resized = resizing.resize_window(image, size, (0, 0), size, interpolation)
    expected = Image.fromarray(image).resize(size[::-1], PILLOW[interpolation])
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize('interpolation', resizing.INTERPOLATIONS)
def test_window_is_that_of_the_whole_resized_image(interpolation):
  image = RNG.integers(0, 256, [60, 200, 3]).astype(np.uint8)
  whole = np.asarray(Image.fromarray(image).resize([133, 40], PILLOW[interpolation]))
  for top, left, height, width in [(0, 0, 40, 40), (0, 93, 40, 40), (7, 51, 20, 11)]:
    window = resizing.resize_window(image, (40, 133), (top, left), (height, width), interpolation)
    np.testing.assert_array_equal(window, whole[top : top + height, left : left + width])
