"""Pictures on disk: what a file is by its content, and what of it goes into a record."""

import dataclasses
import io

from PIL import Image, ImageOps

_MAGIC = {'JPEG': b'\xff\xd8\xff', 'PNG': b'\x89PNG\r\n\x1a\n'}
_COLORSPACES = {  # Pillow's mode -> colour space and channels, RGB where not listed
  '1': ('Grayscale', 1),
  'L': ('Grayscale', 1),
  'I;16': ('Grayscale', 1),
  'LA': ('GrayscaleAlpha', 2),
  'RGBA': ('RGBA', 4),
}
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class BadPictureError(ValueError):
  """The file is no picture that can be trained on; the message says why."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A file as it goes into a record.

  Attributes:
    encoded: JPEG or PNG.
    image_format: which of them.
    height, width: in pixels.
    colorspace, channels: of `encoded`.
    change: why the bytes are not those of the source; '' where they are.
  """

  encoded: bytes
  image_format: str
  height: int
  width: int
  colorspace: str
  channels: int
  change: str = ''


def read_picture(content: bytes, *, upright: bool = False) -> Picture:
  """Checks a picture by decoding it; JPEG and PNG keep their bytes.

  CMYK JPEGs and every other format that Pillow reads become RGB JPEGs of quality 100.

  Args:
    content: of the file, whatever its name says.
    upright: turn a picture that is to be shown turned (EXIF orientation), which re-encodes it.
      Decoders in TensorFlow ignore the tag, and ImageNet's published numbers ignore it too; photos
      from phones are often stored lying down.

  Raises:
    BadPictureError: empty, truncated, or no picture.
  """
  if not content:
    raise BadPictureError('empty file')
  try:
    image = Image.open(io.BytesIO(content))
    image.load()
    turned = upright and image.getexif().get(_ORIENTATION, 1) != 1
  except Image.UnidentifiedImageError:
    raise BadPictureError('not a picture in any known format') from None
  except Exception as error:  # Pillow's decoders raise nearly anything on broken input
    raise BadPictureError(f'does not decode: {error}') from error

  image_format = next((f for f, magic in _MAGIC.items() if content.startswith(magic)), None)
  change = (
    (not image_format and f'{image.format} to JPEG')
    or (image.mode == 'CMYK' and 'CMYK to RGB')
    or (turned and 'turned upright')
    or ''
  )
  if change:
    if image.mode.startswith(('I', 'F')):
      raise BadPictureError(f'{image.format} of more than 8 bits a channel: convert it first')
    image = ImageOps.exif_transpose(image) if turned else image
    image, image_format, content = _as_jpeg(image)
  colorspace, channels = _COLORSPACES.get(image.mode, ('RGB', 3))
  return Picture(content, image_format, image.height, image.width, colorspace, channels, change)


def _as_jpeg(image: Image.Image) -> tuple[Image.Image, str, bytes]:
  image = image.convert('RGB')
  file = io.BytesIO()
  image.save(file, 'JPEG', quality=100, subsampling=0)
  return image, 'JPEG', file.getvalue()
