"""Images with their true and predicted labels on one sheet."""

import os
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont, ImageOps

from slim_inception import files
from slim_inception.datasets import images
from slim_inception.evaluate.metrics import Predictions, distinct_names, name_of

_TILE = 112  # pixels a side of an image on the sheet
_CAPTION = 34  # pixels below it: two lines
_MARGIN = 6
_COLUMNS = 8
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_RIGHT, _WRONG, _TEXT = (0, 110, 40), (190, 0, 0), (40, 40, 40)


def draw_predictions(
  path: str | os.PathLike,
  predictions: Predictions,
  thumbnails: Mapping[int, bytes],
  names: Mapping[int, str],
) -> None:
  """Writes a PNG: each image above its true and its predicted label, wrong ones in red.

  Args:
    path: where to.
    predictions: of at least one image.
    thumbnails: {record_index: JPEG or PNG file} of those that are shown; b'' leaves the tile white.
    names: {label: name}; a label that has none is written as its number.
  """
  names = distinct_names(names)
  record_indices = predictions.record_indices.tolist()
  shown = [i for i, record_index in enumerate(record_indices) if record_index in thumbnails]
  columns = min(_COLUMNS, len(shown))
  rows = -(-len(shown) // columns)
  width, height = _TILE + _MARGIN, _TILE + _CAPTION + _MARGIN
  sheet = Image.new('RGB', (columns * width + _MARGIN, rows * height + _MARGIN), 'white')
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(size=13)
  for number, i in enumerate(shown):
    left, top = _MARGIN + number % columns * width, _MARGIN + number // columns * height
    if encoded := thumbnails[record_indices[i]]:
      image = images.decode(encoded, (4 * _TILE) ** 2, upright=False).convert('RGB')
      tile = ImageOps.fit(image, (_TILE, _TILE), Image.Resampling.BICUBIC)
      sheet.paste(tile, (left, top))
    true, predicted = (name_of(names, int(n)) for n in (predictions.true[i], predictions.top[i, 0]))
    color = _RIGHT if predictions.right[i] else _WRONG
    draw.text((left, top + _TILE + 2), caption('true', true, font, _TILE), _TEXT, font)
    draw.text((left, top + _TILE + 17), caption('predicted', predicted, font, _TILE), color, font)
  with files.atomic_path(path) as temporary:
    sheet.save(temporary, 'PNG')


def caption(role: str, name: str, font: Font, width: int) -> str:
  """A line of at most `width` pixels: of a name that is longer, the first synonym of several."""
  text = f'{role} {name}'
  if font.getlength(text) > width:  # ImageNet's 'junco, snowbird'
    text = f'{role} {name.partition(", ")[0]}'
  return fit(text, font, width)


def fit(text: str, font: Font, width: int) -> str:
  """Shortens a line to `width` pixels; control characters are written out."""
  text = files.printable(text)
  while font.getlength(text) > width and len(text) > 2:
    text = text[:-2] + '…'
  return text
