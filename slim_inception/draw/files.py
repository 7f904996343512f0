"""Drawings as files."""

import os
from pathlib import Path

from slim_inception.datasets.files import atomic_path
from slim_inception.draw import png, svg
from slim_inception.draw.shapes import Drawing

SUFFIXES = ('.svg', '.png')


def check(path: str) -> None:
  """Raises ValueError where the name does not say which format is wanted."""
  if Path(path).suffix not in SUFFIXES or not Path(path).stem:
    raise ValueError(f'{path}: expected the name of a file that ends in {" or ".join(SUFFIXES)}')


def write(drawing: Drawing, path: str) -> None:
  """Writes an SVG or a PNG, as the name says; whole or not at all.

  Raises:
    ValueError: the name ends otherwise.
    OSError: the file can not be written.
  """
  check(path)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  if Path(path).suffix == '.svg':
    with atomic_path(path) as temporary:
      temporary.write_text(svg.render(drawing), 'utf-8')
  else:
    image = png.render(drawing)
    with atomic_path(path) as temporary:
      image.save(temporary, 'PNG', optimize=True)
