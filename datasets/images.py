"""Images: what a file is by its content, and what of it goes into a record.

A JPEG is read up to its scan: size and colours stand in the header, and whether it ends is seen at
its end. Nothing is decoded that need not be: that is 4 us an image of 110 kB where Pillow's lazy
`open` takes 34, a tenth of a whole conversion, and decoding 5 ms.
"""

import io
from typing import NamedTuple

from PIL import Image

JPEG_MAGIC, PNG_MAGIC = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_COLORSPACES = {  # Pillow's mode -> colour space and channels, RGB where not listed
  '1': ('Grayscale', 1),
  'L': ('Grayscale', 1),
  'I;16': ('Grayscale', 1),
  'LA': ('GrayscaleAlpha', 2),
  'RGBA': ('RGBA', 4),
}
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, others than these mean nothing
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}

# JPEG markers (ITU-T T.81, table B.1).
_FRAMES = frozenset([0xC0, 0xC1, 0xC2])  # baseline, extended, progressive: TensorFlow's
_OTHER_FRAMES = frozenset([*range(0xC3, 0xD0)]) - _FRAMES - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xD9)])
_END_OF_IMAGE, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1


class BadImageError(ValueError):
  """The file is no image that can be trained on; the message says why."""


class CheckedImage(NamedTuple):
  """A file as it goes into a record; height and width are in pixels."""

  encoded: bytes
  image_format: str  # 'JPEG' or 'PNG'
  height: int
  width: int
  colorspace: str  # of `encoded`
  channels: int
  change: str = ''  # why the bytes are not those of the source; '' where they are


class JpegHeader(NamedTuple):
  """What a JPEG says of itself before its scan; height and width are in pixels."""

  height: int
  width: int
  channels: int  # 1 for grey, 3 for colour, 4 for CMYK or YCCK
  has_exif: bool  # whether there is an EXIF segment


def read_image(content: bytes, *, upright: bool = False, keep_png: bool = True) -> CheckedImage:
  """Checks an image; good JPEGs keep their bytes and are not decoded.

  CMYK JPEGs and every format that Pillow reads besides JPEG and PNG become RGB JPEGs of quality
  100. PNGs, which are decoded to see that they are whole, keep their bytes if `keep_png`.

  Args:
    content: of the file, whatever its name says.
    upright: turn an image that is to be shown turned (EXIF orientation), which re-encodes it.
      Decoders in TensorFlow ignore the tag, and ImageNet's published numbers ignore it too; photos
      from phones are often stored lying down.
    keep_png: False re-encodes PNGs too, as slim does in ImageNet.

  Raises:
    BadImageError: empty, truncated, or no image.
  """
  if not content:
    raise BadImageError('empty file')
  if not content.startswith(JPEG_MAGIC):
    return _decoded(content, upright, keep_png)
  header = read_jpeg_header(content)
  if header.channels == 4 or (upright and header.has_exif and turn_of_file(content) is not None):
    return _decoded(content, upright, keep_png)
  colorspace = 'Grayscale' if header.channels == 1 else 'RGB'
  return CheckedImage(content, 'JPEG', header.height, header.width, colorspace, header.channels)


def read_jpeg_header(content: bytes) -> JpegHeader:
  """Reads the segments before the scan, and looks whether the image ends.

  Raises:
    BadImageError: no scan, no end of image, or a kind of JPEG that TensorFlow does not decode.
  """
  frame, has_exif, position = None, False, 2
  try:
    while True:
      if content[position] != 0xFF:  # decoders pass over bytes between segments
        position = content.index(0xFF, position)
      while (marker := content[position]) == 0xFF:
        position += 1
      start = position + 1
      if marker in _WITHOUT_LENGTH:
        position = start
        continue
      if marker in (_SCAN, _END_OF_IMAGE):
        break
      position = start + (content[start] << 8) + content[start + 1]
      if marker in _FRAMES:
        frame = content[start + 2 : start + 8]
      elif marker in _OTHER_FRAMES:
        raise BadImageError(f'JPEG of an unusual kind (frame marker {marker:02X})')
      elif marker == _APP1:
        has_exif |= content[start + 2 : start + 6] == b'Exif'
  except (ValueError, IndexError) as error:
    if isinstance(error, BadImageError):
      raise
    raise BadImageError('JPEG is truncated: it ends before its scan') from error
  if marker != _SCAN or frame is None or len(frame) < 6:
    raise BadImageError('JPEG without an image in it')
  if not content.endswith(b'\xff\xd9') and content.rfind(b'\xff\xd9', position) < 0:
    raise BadImageError('JPEG is truncated: it has no end of image')
  bits, channels = frame[0], frame[5]
  height, width = int.from_bytes(frame[1:3], 'big'), int.from_bytes(frame[3:5], 'big')
  if bits != 8 or channels not in (1, 3, 4) or not height or not width:
    raise BadImageError(
      f'JPEG of an unusual kind ({width} x {height}, {channels} channels of {bits} bits)'
    )
  return JpegHeader(height, width, channels, has_exif)


def turn_of_file(content: bytes) -> Image.Transpose | None:
  """How EXIF wants an image turned; None for upright ones and for broken EXIF."""
  try:
    with Image.open(io.BytesIO(content)) as image:
      return turn_of(image)
  except Exception:  # Pillow raises nearly anything
    return None


def turn_of(image: Image.Image) -> Image.Transpose | None:
  """`turn_of_file` of an open image."""
  try:
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
  except Exception:  # Pillow raises nearly anything
    return None


def _decoded(content: bytes, upright: bool, keep_png: bool) -> CheckedImage:
  turn = turn_of_file(content) if upright else None
  try:
    image: Image.Image = Image.open(io.BytesIO(content))
    image.load()
  except Image.UnidentifiedImageError:
    raise BadImageError('not an image in any known format') from None
  except Exception as error:  # Pillow's decoders raise nearly anything on broken input
    raise BadImageError(f'does not decode: {error}') from error

  is_jpeg, is_png = content.startswith(JPEG_MAGIC), content.startswith(PNG_MAGIC)
  change = (
    (image.mode == 'CMYK' and 'CMYK to RGB')
    or (not is_jpeg and not (is_png and keep_png) and f'{image.format} to JPEG')
    or (turn is not None and 'turned upright')
    or ''
  )
  image_format = 'JPEG' if is_jpeg or change else 'PNG'
  if change:
    if image.mode.startswith(('I', 'F')):
      raise BadImageError(f'{image.format} of more than 8 bits a channel: convert it first')
    try:
      image, content = as_jpeg(image if turn is None else image.transpose(turn))
    except Exception as error:  # e.g. wider than 65,535 pixels
      raise BadImageError(f'cannot be made a JPEG: {error}') from error
  colorspace, channels = _COLORSPACES.get(image.mode, ('RGB', 3))
  return CheckedImage(
    content, image_format, image.height, image.width, colorspace, channels, change
  )


def as_jpeg(image: Image.Image) -> tuple[Image.Image, bytes]:
  """Encodes an image as RGB JPEG of quality 100, without subsampling of its colours."""
  image = image.convert('RGB')
  file = io.BytesIO()
  image.save(file, 'JPEG', quality=100, subsampling=0)
  return image, file.getvalue()
