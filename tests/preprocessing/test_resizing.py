"""Resizing against Pillow."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from PIL import Image
from slim_inception.preprocessing import resizing, values

from tests import pillow

RNG = np.random.default_rng(0)
SIDES = strategies.integers(1, 64)


def check(shape, size, interpolation):
  noise = np.random.default_rng(0).integers(0, 256, [*shape, 3]).astype(np.uint8)
  extremes = np.where(noise < 128, 0, 255).astype(np.uint8)  # bicubic overshoots in both passes
  for image in (noise, extremes):
    resized = resizing.resize_window(image, size, (0, 0), size, interpolation)
    expected = pillow.resize(Image.fromarray(image), size[::-1], interpolation)
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize('vertical', [False, True])
@hypothesis.settings(max_examples=100, derandomize=True, database=None, deadline=None)
@hypothesis.given(
  shape=strategies.tuples(SIDES, SIDES),
  size=strategies.tuples(SIDES, SIDES),
  interpolation=strategies.sampled_from(values.INTERPOLATIONS),
)
@hypothesis.example((300, 200), (96, 75), 'bicubic')
@hypothesis.example((75, 100), (117, 156), 'bilinear')
# Where the rule turns over: twice what the width loses, and 0 where the width grows.
@hypothesis.example((60, 30), (40, 20), 'bicubic')
@hypothesis.example((60, 30), (39, 20), 'bicubic')
@hypothesis.example((40, 20), (40, 30), 'bicubic')
@hypothesis.example((40, 20), (39, 30), 'bicubic')
def test_is_pillows_in_either_order(vertical, shape, size, interpolation):
  hypothesis.assume(pillow.vertically_first(shape[::-1], size[::-1]) == vertical)
  check(shape, size, interpolation)


def test_both_orders_are_tried():
  """They differ, so that a resize in the wrong one would be seen; and 13 chooses by the rule."""
  image = Image.fromarray(np.where(RNG.random([60, 30]) < 0.5, 0, 255).astype(np.uint8))
  cubic = pillow.PILLOW['bicubic']
  for size in [(20, 40), (20, 39)]:
    vertically = image.resize((30, size[1]), cubic).resize(size, cubic)
    horizontally = image.resize((size[0], 60), cubic).resize(size, cubic)
    vertical = pillow.vertically_first(image.size, size)
    assert pillow.resize(image, size, 'bicubic') == (vertically if vertical else horizontally)
    assert vertically != horizontally


@pytest.mark.parametrize('interpolation', values.INTERPOLATIONS)
@pytest.mark.parametrize(
  ('shape', 'size', 'windows'),
  [
    ((60, 200), (40, 133), [(0, 0, 40, 40), (0, 93, 40, 40), (7, 51, 20, 11)]),
    ((200, 60), (133, 40), [(0, 0, 40, 40), (93, 0, 40, 40), (51, 7, 11, 20)]),  # vertical first
  ],
)
def test_window_is_that_of_the_whole_resized_image(shape, size, windows, interpolation):
  image = RNG.integers(0, 256, [*shape, 3]).astype(np.uint8)
  whole = np.asarray(pillow.resize(Image.fromarray(image), size[::-1], interpolation))
  for top, left, height, width in windows:
    window = resizing.resize_window(image, size, (top, left), (height, width), interpolation)
    np.testing.assert_array_equal(window, whole[top : top + height, left : left + width])
