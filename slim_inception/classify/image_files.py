"""Any image file as one that TensorFlow decodes to what the image shows.

Ordinary JPEG and PNG files stay as they are: what the net sees of them is bit for bit what an
evaluation sees. Everything else is decoded by Pillow and becomes a BMP, which loses nothing: turned
upright (EXIF); the first frame of an animation, the first image of several; CMYK as RGB; what is
transparent over white; of 16 bits a channel the upper eight, as of PNGs. (Training and evaluation
heed neither transparency nor EXIF of the records that they read.)

Images of more than 16.8 million pixels are halved, or divided by three, ... until they have no
more: a net looks at a tenth of a million, and 20,000 x 20,000 pixels would take 5 GB.
"""

import contextlib
import functools
import io
import math
import struct
import threading
from typing import NamedTuple

import numpy as np
from PIL import Image

from slim_inception.datasets import images as images_lib
from slim_inception.datasets.images import BadImageError

LARGE = 1 << 24  # pixels
MAX_PIXELS = 1 << 29  # 23,170 x 23,170

# Pillow's others are rare, and EPS would start another program.
_FORMATS = {'AVIF', 'BMP', 'DIB', 'GIF', 'HEIF', 'ICO', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM'}
_FORMATS |= {'TGA', 'TIFF', 'WEBP'}
_TIFF_MAGICS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_HEIF_BRANDS = frozenset(b'heic heix heim heis hevc hevx hevm hevs mif1 msf1'.split())
_PNG_COLORS = (0, 2, 3)  # grey, RGB, palette: without alpha
# Transparency, EXIF, and XMP, which can turn an image too.
_PNG_EXTRAS = (b'tRNS', b'eXIf', b'XML:com.adobe.xmp')
_ALPHA, _WHITE = 'RGBA', (255, 255, 255, 255)
_large_one = threading.Lock()  # large images are decoded one at a time, for the memory


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
  if not content:
    raise BadImageError('empty file')
  encoded = content if _is_ordinary(content) else _encode(decode(content), 'BMP')
  if thumbnail_side is None:
    return Prepared(encoded)
  image = decode(encoded, (2 * thumbnail_side) ** 2)
  factor = thumbnail_side / max(image.size)
  width, height = (max(1, round(side * factor)) for side in image.size)
  return Prepared(encoded, _encode(image.resize((width, height), Image.Resampling.BICUBIC), 'PNG'))


def _encode(image: Image.Image, file_format: str) -> bytes:
  file = io.BytesIO()
  image.save(file, file_format)
  return file.getvalue()


def _is_ordinary(content: bytes) -> bool:
  """Whether TensorFlow decodes the file itself to what the image shows."""
  if content.startswith(images_lib.JPEG_MAGIC):
    header = images_lib.read_jpeg_header(content)
    return (
      header.channels != 4
      and header.width * header.height <= LARGE
      and not (header.has_exif and images_lib.turn_of_file(content) is not None)
    )
  if not content.startswith(images_lib.PNG_MAGIC) or len(content) < 33:
    return False
  width, height = (int.from_bytes(content[i : i + 4], 'big') for i in (16, 20))
  return (
    0 < width * height <= LARGE
    and content[25] in _PNG_COLORS
    and not any(extra in content for extra in _PNG_EXTRAS)
  )


def decode(content: bytes, most_pixels: int | None = None) -> Image.Image:
  """Decodes an image with Pillow.

  Args:
    content: of a file.
    most_pixels: a larger image is divided by a whole number so that it has about as many;
      `LARGE` by default.

  Returns:
    RGB, upright.

  Raises:
    BadImageError: it cannot be done.
  """
  if content[4:8] == b'ftyp' and content[8:12] in _HEIF_BRANDS and b'avif' not in content[12:64]:
    _learn_heif()
  try:
    with _open(content) as image:
      _check_size(image)
      most_pixels = most_pixels or LARGE
      if image.width * image.height <= LARGE:
        return _as_rgb(image, most_pixels)
      with _large_one:
        return _as_rgb(image, most_pixels)
  except BadImageError:
    raise
  except Image.UnidentifiedImageError:
    if content.startswith(_TIFF_MAGICS):
      raise BadImageError('a TIFF of a kind that Pillow does not read') from None
    raise BadImageError('not an image in any known format') from None
  except MemoryError:
    raise BadImageError('does not decode: there is not enough memory') from None
  except Exception as error:  # Pillow's decoders raise nearly anything on broken input
    reason = str(error) or type(error).__name__
    raise BadImageError(f'does not decode: {reason.splitlines()[0]}') from error


@functools.cache
def _learn_heif() -> None:
  """Has Pillow read HEIC; asked for by the first such image."""
  try:
    import pillow_heif
  except ImportError:
    raise BadImageError(
      'HEIC is read with pillow-heif: pip install "slim-inception[heif]"'
    ) from None
  pillow_heif.register_heif_opener()


def _open(content: bytes) -> Image.Image:
  """`Image.open`, which knows one limit of pixels for the whole process; `_check_size` has ours."""
  Image.init()
  for name in Image.ID:
    open_as, accepts = Image.OPEN[name]
    if name not in _FORMATS or (accepts and accepts(content[:16]) is not True):
      continue
    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # another format
      return open_as(io.BytesIO(content), '')
  raise Image.UnidentifiedImageError


def _check_size(image: Image.Image) -> None:
  if image.width * image.height > MAX_PIXELS:
    raise BadImageError(
      f'{image.width:,} x {image.height:,} pixels are more than the {MAX_PIXELS:,} that are decoded'
    )


def _as_rgb(image: Image.Image, most_pixels: int) -> Image.Image:
  divisor = math.ceil(math.sqrt(image.width * image.height / most_pixels))
  if divisor > 1:  # of JPEGs a half, quarter or eighth is decoded, no more
    image.draft(image.mode, (-(-image.width // divisor), -(-image.height // divisor)))
  image.load()
  turn = images_lib.turn_of(image)
  if image.mode.startswith(('I', 'F')):
    image = _upper_bits(image)
  mode = _ALPHA if image.has_transparency_data else 'RGB'
  if image.mode != mode:  # a copy of 400 million pixels takes 1.6 GB
    image = image.convert(mode)
  divisor = math.ceil(math.sqrt(image.width * image.height / most_pixels))
  if divisor > 1:
    image = image.reduce(divisor)
  if image.mode == _ALPHA:
    image = Image.alpha_composite(Image.new(_ALPHA, image.size, _WHITE), image).convert('RGB')
  return image if turn is None else image.transpose(turn)


def _upper_bits(image: Image.Image) -> Image.Image:
  """Grey of 16 bits as eight; Pillow's own conversion would clip."""
  values = np.asarray(image)
  is_deep = values.dtype.itemsize == 2 or image.format in ('PPM', 'PNG')  # in 32 bits, up to 65,535
  if not is_deep:
    raise BadImageError(
      f'{image.format} of 32 bits a channel, and nothing says which value is white: make it 8 or 16'
    )
  return Image.fromarray((values >> 8).astype(np.uint8))
