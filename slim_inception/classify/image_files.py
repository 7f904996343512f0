"""Any image file as one that TensorFlow decodes to what the image shows.

It is read as the conversion of an image folder reads it (`datasets/images.py` has the rule), so
that what the net sees of a file is bit for bit what it would see of its record.
"""

import io
from typing import NamedTuple

from PIL import Image

from slim_inception.datasets import images


class Prepared(NamedTuple):
  """An image that TensorFlow can decode.

  Attributes:
    encoded: JPEG, PNG or BMP.
    thumbnail: PNG, RGB; b'' where none is made.
  """

  encoded: bytes
  thumbnail: bytes = b''


def prepare(content: bytes, thumbnail_side: int | None = None) -> Prepared:
  """Makes a file one that TensorFlow decodes.

  Args:
    content: of a file.
    thumbnail_side: pixels of the longer side of a thumbnail, be it smaller or larger than the
      image; None makes none.

  Raises:
    BadImageError: it is no image, or none that can be classified; the message says why.
  """
  encoded = images.read_image(content, lossless='BMP').encoded
  if thumbnail_side is None:
    return Prepared(encoded)
  image = images.decode(encoded, (2 * thumbnail_side) ** 2).convert('RGB')
  factor = thumbnail_side / max(image.size)
  width, height = (max(1, round(side * factor)) for side in image.size)
  file = io.BytesIO()
  image.resize((width, height), Image.Resampling.BICUBIC).save(file, 'PNG')
  return Prepared(encoded, file.getvalue())
