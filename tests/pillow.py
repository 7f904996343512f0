"""Pillow 13's resize, by whichever version is installed."""

import PIL
from PIL import Image

PILLOW = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
# Python 3.10 and Apache Beam have 12.3: it is always horizontal first there.
_HAS_THE_RULE = int(PIL.__version__.split('.')[0]) >= 13


def vertically_first(old: tuple[int, int], new: tuple[int, int]) -> bool:
  """Whether 13 begins with the heights: what findings/ shows. Sizes are width and height."""
  return old[1] - new[1] > max(0, 2 * (old[0] - new[0]))


def resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
  """To width and height; up to 12.3 in two steps where 13 would begin with the heights."""
  if not _HAS_THE_RULE and vertically_first(image.size, size):
    image = image.resize((image.width, size[1]), PILLOW[interpolation])
  return image.resize(size, PILLOW[interpolation])
