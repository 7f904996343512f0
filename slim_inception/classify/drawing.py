"""An image beside the heat maps of what its class was seen by, as one PNG."""

import io
import itertools
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from slim_inception import files
from slim_inception.classify.classifier import Evidence, Explanation
from slim_inception.classify.sources import EXPLAINED, STANDARD_INPUT
from slim_inception.evaluate.image_grid import Font, fit

_MARGIN = 12  # pixels
_LINE = 20  # pixels from one line of text to the next
_BAR = 12  # pixels that the colour bar is high
_LEAST_WIDTH = 260  # pixels of a column, for the text
_LONGEST_NAME = 100  # characters of a file's
_BACKGROUND, _TEXT = 'white', (40, 40, 40)
_OPACITY = 0.55  # of the colours over the image
_OUTSIDE = 0.35  # brightness that is left of what the net did not see
# From little to much: dark blue, blue, green, yellow, red; lighter in the middle of the scale only
# as far as the eye still takes red for more than yellow.
_COLORS = np.array(
  [(34, 24, 100), (40, 110, 230), (30, 190, 140), (250, 220, 50), (200, 20, 20)], np.float64
)


def write(folder: str, name: str, lines: Sequence[str], explanation: Explanation) -> str:
  """Draws an image and writes it under a name that is free.

  Args:
    folder: is made where it is missing.
    name: of the image, a path or an address.
    lines: of text below the image.
    explanation: what to draw.

  Returns:
    The path of the PNG, '<name without folder and suffix>.explain.png', with a number before
    '.explain' where there is such a file.

  Raises:
    OSError: it cannot be written.
  """
  os.makedirs(folder, exist_ok=True)
  sheet = draw(name, lines, explanation)
  with files.taking_turns(folder):
    path = _free_path(folder, name)
    with files.atomic_path(path) as temporary:
      sheet.save(temporary, 'PNG')
  return str(path)


def _free_path(folder: str, name: str) -> Path:
  if name == STANDARD_INPUT:
    name = 'stdin'
  elif '://' in name:
    name = urllib.parse.unquote(urllib.parse.urlsplit(name).path)
  stem = os.path.splitext(os.path.basename(name.rstrip('/')))[0][:_LONGEST_NAME] or 'image'
  numbers = itertools.chain([''], (f'.{number}' for number in itertools.count(2)))
  paths = (Path(folder, stem + number + EXPLAINED) for number in numbers)
  return next(path for path in paths if not os.path.lexists(path))


def draw(name: str, lines: Sequence[str], explanation: Explanation) -> Image.Image:
  """The image, and one heat map for each net, side by side; arguments as `write`."""
  font = ImageFont.load_default(size=14)
  with Image.open(io.BytesIO(explanation.thumbnail), formats=['PNG']) as thumbnail:
    image = thumbnail.convert('RGB')
  panels = [(image, None), *((overlay(image, e), e) for e in explanation.evidence)]
  width = max(image.width, _LEAST_WIDTH)
  text_height = _LINE * (max(len(lines), 4) + 1)
  sheet = Image.new(
    'RGB',
    (len(panels) * (width + _MARGIN) + _MARGIN, image.height + text_height + 3 * _MARGIN),
    _BACKGROUND,
  )
  canvas = ImageDraw.Draw(sheet)
  top = image.height + 2 * _MARGIN
  for number, (panel, evidence) in enumerate(panels):
    left = _MARGIN + number * (width + _MARGIN)
    sheet.paste(panel, (left, _MARGIN))
    if evidence is None:
      texts = [os.path.basename(name.rstrip('/')) or name, *lines]
    else:
      _draw_bar(sheet, canvas, font, (left, top + _LINE), evidence, width)
      texts = [evidence.net]
      canvas.text((left, top + 3 * _LINE), fit(evidence.caption, font, width), _TEXT, font)
    for row, text in enumerate(texts):
      canvas.text((left, top + row * _LINE), fit(text, font, width), _TEXT, font)
  return sheet


def overlay(image: Image.Image, evidence: Evidence) -> Image.Image:
  """The image in grey under the colours of a map, darkened where the net did not look.

  Args:
    image: RGB.
    evidence: of one net.
  """
  grey = np.repeat(np.asarray(image.convert('L'), np.float64)[..., np.newaxis], 3, axis=2)
  height, width = grey.shape[:2]
  shares = zip(evidence.window, (height, width, height, width), strict=True)
  top, left, bottom, right = (round(share * side) for share, side in shares)
  bottom, right = max(bottom, top + 1), max(right, left + 1)
  heat = Image.fromarray(_scaled(evidence.map)).resize(
    (right - left, bottom - top), Image.Resampling.BICUBIC
  )
  pixels = grey * _OUTSIDE
  pixels[top:bottom, left:right] = (
    _OPACITY * colors(np.asarray(heat)) + (1 - _OPACITY) * grey[top:bottom, left:right]
  )
  return Image.fromarray(pixels.round().astype(np.uint8))


def _scaled(values: np.ndarray) -> np.ndarray:
  """[h, w] to 0 .. 1, float32; a map that is the same everywhere is 0."""
  low, high = values.min(), values.max()
  return ((values - low) / (high - low if high > low else 1)).astype(np.float32)


def colors(heat: np.ndarray) -> np.ndarray:
  """[...] in [0, 1] to [..., 3] in [0, 255]; what lies outside is the end of the scale."""
  positions = np.linspace(0, 1, len(_COLORS))
  return np.stack([np.interp(heat, positions, channel) for channel in _COLORS.T], axis=-1)


def _draw_bar(
  sheet: Image.Image,
  canvas: ImageDraw.ImageDraw,
  font: Font,
  corner: tuple[int, int],
  evidence: Evidence,
  width: int,
) -> None:
  """The scale, and below it what its two ends mean."""
  left, top = corner
  bar = np.broadcast_to(colors(np.linspace(0, 1, width)), (_BAR, width, 3))
  sheet.paste(Image.fromarray(bar.round().astype(np.uint8)), (left, top + 4))
  low, high = (f'{value:.2f}' for value in (evidence.map.min(), evidence.map.max()))
  canvas.text((left, top + _LINE), low, _TEXT, font)
  canvas.text((left + width - font.getlength(high), top + _LINE), high, _TEXT, font)
  middle = left + (width - font.getlength(evidence.unit)) / 2
  canvas.text((middle, top + _LINE), evidence.unit, _TEXT, font)
