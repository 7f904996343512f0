"""ImageNet's bounding boxes: the official XML annotations, and slim's CSV made of them.

A box is relative to its image and packed as four float32, ymin, xmin, ymax, xmax; half a million
images have some.
"""

import collections
import struct
from collections.abc import Iterator
from xml.etree import ElementTree

from . import files
from .records import BOX_SIDES

_BOX = struct.Struct('<4f')


def unpack(boxes: bytes) -> list[tuple[float, float, float, float]]:
  return list(_BOX.iter_unpack(boxes))


def read_annotation(content: bytes, wnid: str | None, wnids: collections.abc.Container) -> bytes:
  """The boxes of one XML annotation (PASCAL VOC's form).

  They are divided by the size in the XML: it is that of the image as the annotator saw it, not
  that of the file. Many boxes of dogs bear the name of another word ('Scottish_deerhound'), so a
  box is left out only if its name is another of the 1000 classes.

  Args:
    content: of the file.
    wnid, wnids: class of the image, and all classes.

  Raises:
    ValueError: the content is no annotation.
  """
  try:
    root = ElementTree.fromstring(content)
    width, height = (float(root.findtext(f'size/{side}') or 0) for side in ('width', 'height'))
    packed = []
    for thing in root.iter('object'):
      name = (thing.findtext('name') or '').strip()
      if name != wnid and name in wnids:
        continue
      box = {side: float(thing.findtext(f'bndbox/{side}') or 'nan') for side in BOX_SIDES}
      if width > 0 and height > 0:
        packed.append(
          _pack(
            box['ymin'] / height, box['xmin'] / width,
            box['ymax'] / height, box['xmax'] / width,
          )
        )  # fmt: skip
  except (ElementTree.ParseError, ValueError) as error:
    raise ValueError(f'no annotation: {error}') from error
  return b''.join(packed)


def read_csv(content: bytes) -> Iterator[tuple[str, bytes]]:
  """Yields name and box of each line of slim's CSV: name.JPEG,xmin,ymin,xmax,ymax, relative.

  A file whose first line is something else has no boxes.
  """
  for number, line in enumerate(files.decoded(content, 'replace').splitlines(), start=1):
    try:
      name, xmin, ymin, xmax, ymax = line.split(',')
      box = _pack(float(ymin), float(xmin), float(ymax), float(xmax))
    except ValueError as error:
      if number == 1:
        return
      raise ValueError(f'line {number} is no name,xmin,ymin,xmax,ymax') from error
    yield name, box


def _pack(ymin: float, xmin: float, ymax: float, xmax: float) -> bytes:
  """Turns swapped sides, cuts off what lies outside; b'' where nothing remains."""
  (top, bottom), (left, right) = sorted((ymin, ymax)), sorted((xmin, xmax))
  top, left, bottom, right = (min(max(side, 0.0), 1.0) for side in (top, left, bottom, right))
  return _BOX.pack(top, left, bottom, right) if top < bottom and left < right else b''
