"""Pictures with their true and predicted labels on one sheet."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TILE = 112  # pixels a side of a picture on the sheet
_CAPTION = 34  # pixels below it: two lines
_MARGIN = 6
_COLUMNS = 8
_RIGHT, _WRONG, _TEXT = (0, 110, 40), (190, 0, 0), (40, 40, 40)


class Sample(NamedTuple):
  """One picture that was evaluated."""

  image: np.ndarray  # [h, w, 3] in [-1, 1]
  label: int
  prediction: int


def draw_predictions(
  path: str | os.PathLike, samples: Sequence[Sample], names: Mapping[int, str]
) -> None:
  """Writes a PNG: each picture above its true and its predicted label, wrong ones in red.

  Args:
    path: where to.
    samples: the pictures.
    names: {label: name}; a label that has none is written as its number.
  """
  columns = min(_COLUMNS, len(samples))
  rows = -(-len(samples) // columns)
  width, height = _TILE + _MARGIN, _TILE + _CAPTION + _MARGIN
  sheet = Image.new('RGB', (columns * width + _MARGIN, rows * height + _MARGIN), 'white')
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(size=13)
  for i, sample in enumerate(samples):
    left, top = _MARGIN + i % columns * width, _MARGIN + i // columns * height
    pixels = ((np.clip(sample.image, -1, 1) + 1) * 127.5).round().astype(np.uint8)
    tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    sheet.paste(tile, (left, top))
    true, predicted = (names.get(n, str(n)) for n in (sample.label, sample.prediction))
    color = _RIGHT if sample.label == sample.prediction else _WRONG
    draw.text((left, top + _TILE + 2), _fit(f'true {true}', font), _TEXT, font)
    draw.text((left, top + _TILE + 17), _fit(f'predicted {predicted}', font), color, font)
  sheet.save(path)


def _fit(text: str, font: ImageFont.FreeTypeFont) -> str:
  """Shortens a caption to the width of a picture."""
  while font.getlength(text) > _TILE and len(text) > 2:
    text = text[:-2] + '…'
  return text
