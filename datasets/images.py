"""Images: the one reader of image files, and what of a file goes into a record.

Conversion, `--verify`, classification and the report read with what is here, and an exported model
does the same in its graph (`slim_inception/export/image_files.py`). The rule:

- What a file is follows from its content; `FORMATS` are read, and no other: EPS would start another
  program.
- A file of more than `MAX_BYTES` is refused before it is read.
- The first frame of an animation, the first image of several.
- Turned upright as EXIF says. (XMP does not turn an image, and Pillow turns TIFFs by itself.)
- What is transparent lies over white.
- Of 16 bits a channel the upper eight; grey of 32 bits is refused, for nothing says what is white.
- CMYK becomes RGB. In JPEGs it is inverted, as Adobe writes it, with Adobe's marker or without.
- Of an image of more than `LARGE` pixels the sides are halved until it has no more; one of more
  than `MAX_PIXELS` is refused.
- Colour profiles are not applied.
- Of what is stored with `--store_size` the shorter side is resized to it where it is longer.

A JPEG is read up to its scan: size, colours and EXIF stand in its header, and whether it ends is
seen at its end. Nothing is decoded that need not be: that is 4 us an image of 110 kB where Pillow's
lazy `open` takes 34, a tenth of a whole conversion, and decoding 5 ms.
"""

import contextlib
import functools
import io
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

LARGE = 1 << 24  # pixels: 4096 x 4096; a net looks at a tenth of a million
MAX_PIXELS = 1 << 29  # 23,170 x 23,170
MAX_JPEG_SIDE = 65_500  # pixels, libjpeg's
MAX_BYTES = 256 << 20  # of a file, and of a member of an archive, unpacked

# Pillow's others are rare, and EPS would start another program.
FORMATS = {'AVIF', 'BMP', 'DIB', 'GIF', 'HEIF', 'ICO', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM'}
FORMATS |= {'TGA', 'TIFF', 'WEBP'}
# Of photos: a JPEG of these has a fraction of the bytes of a PNG, and training decodes of it no
# more than it needs. Measured: docs/data.md, "Images".
_LOSSY_FORMATS = frozenset(['AVIF', 'HEIF', 'JPEG', 'MPO'])
JPEG_QUALITY = 98
_SLIM_QUALITY = 100
STORE_QUALITY = 95  # of JPEGs that `--store_size` makes smaller
_GAP = 2  # times the size that is asked for, a JPEG is decoded to at least before it is resized

JPEG_MAGIC, PNG_MAGIC = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_TIFF_MAGICS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_HEIF_BRANDS = frozenset(b'heic heix heim heis hevc hevx hevm hevs mif1 msf1'.split())

_GREY_MODES = ('1', 'L')
_ALPHA, _WHITE = 'RGBA', (255, 255, 255, 255)
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
FRAMES = frozenset([0xC0, 0xC1, 0xC2])  # baseline, extended, progressive: TensorFlow's
OTHER_FRAMES = frozenset([*range(0xC3, 0xD0)]) - FRAMES - {0xC4, 0xC8, 0xCC}
WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xD9)])
END_OF_IMAGE, SCAN, APP1 = 0xD9, 0xDA, 0xE1
EXIF = b'Exif\0\0'

# Reasons to refuse an image; exported models have the same words.
EMPTY = 'empty file'
TOO_LARGE = f'larger than {MAX_BYTES >> 20} MB'
UNKNOWN = 'not an image in any known format'
LFS_POINTER = 'a pointer of Git LFS; git lfs pull fetches the file'
JPEG_WITHOUT_SCAN = 'JPEG is truncated: it ends before its scan'
JPEG_WITHOUT_IMAGE = 'JPEG without an image in it'
JPEG_WITHOUT_END = 'JPEG is truncated: it has no end of image'
UNUSUAL_JPEG = 'JPEG of an unusual kind'
TOO_MANY_PIXELS = f'pixels are more than the {MAX_PIXELS:,} that are decoded'

_large_one = threading.Lock()


class BadImageError(ValueError):
  """The file is no image that can be read; the message says why."""


def is_lfs_pointer(content: bytes) -> bool:
  """Whether Git LFS has the file that begins so elsewhere."""
  return content.startswith(b'version https://git-lfs')


class CheckedImage(NamedTuple):
  """A file as it goes into a record; height and width are in pixels."""

  encoded: bytes
  image_format: str  # 'JPEG' or 'PNG'
  height: int
  width: int
  colorspace: str  # of `encoded`
  channels: int
  change: str = ''  # why the bytes are not those of the source; '' where they are
  is_resized: bool = False  # to the shorter side that was asked for; no `change` by itself


class JpegHeader(NamedTuple):
  """What a JPEG says of itself before its scan; height and width are in pixels."""

  height: int
  width: int
  channels: int  # 1 for grey, 3 for colour, 4 for CMYK or YCCK
  exif: bytes  # the EXIF segment, b'' where there is none


class _Decoded(NamedTuple):
  """An image, RGB or L, and what was done to it."""

  image: Image.Image
  format: str  # Pillow's name
  changes: tuple[str, ...]
  is_resized: bool


class StoreSize(NamedTuple):
  """How large images are stored: `--store_size` and `--store_quality`."""

  shorter_side: int  # in pixels, at most
  quality: int = STORE_QUALITY  # of JPEGs of images that are larger


def read_image(
  content: bytes,
  *,
  as_slim: bool = False,
  lossless: str = 'PNG',
  store_size: StoreSize | None = None,
) -> CheckedImage:
  """Reads an image by the rule above, and encodes it where that changes what TensorFlow decodes.

  Plain JPEGs keep their bytes and are not decoded. PNGs are decoded, to see that they are whole,
  and keep their bytes unless something is transparent, turned or large. Photos of other kinds
  (turned JPEGs, CMYK, HEIC, AVIF) become JPEGs of quality 98 without subsampling of colours, all
  else PNGs, which lose nothing.

  Args:
    content: of the file, whatever its name says.
    as_slim: as in slim's records of ImageNet: EXIF and size do not matter, and all that is no plain
      JPEG becomes an RGB JPEG of quality 100.
    lossless: the format that takes the place of PNG where nothing is stored: 'BMP' is faster.
    store_size: an image whose shorter side is longer is resized, with antialiasing, and encoded;
      smaller ones are treated as without it.

  Raises:
    BadImageError: it is no image, or none that can be read.
  """
  if content.startswith(JPEG_MAGIC):
    header = read_jpeg_header(content)
    fits = store_size is None or min(header.height, header.width) <= store_size.shorter_side
    if fits and header.channels != 4 and (as_slim or _is_plain(header)):
      colorspace = 'Grayscale' if header.channels == 1 else 'RGB'
      return CheckedImage(content, 'JPEG', header.height, header.width, colorspace, header.channels)
  most_pixels, shorter_side = MAX_PIXELS if as_slim else LARGE, store_size and store_size[0]
  image, name, changes, is_resized = _decode(content, most_pixels, not as_slim, shorter_side)
  if as_slim:
    target, image = 'JPEG', image.convert('RGB')
  else:
    target = 'JPEG' if name in _LOSSY_FORMATS else 'PNG'
  if name != target:
    changes = (f'{name} to {target}', *changes)
  if changes or is_resized:
    quality = _SLIM_QUALITY if as_slim else JPEG_QUALITY
    if store_size and is_resized:
      quality = store_size.quality
    content = _encode(image, target if target == 'JPEG' else lossless, quality)
  colorspace, channels = ('Grayscale', 1) if image.mode == 'L' else ('RGB', 3)
  size = image.height, image.width
  change = ', '.join(changes)
  return CheckedImage(content, target, *size, colorspace, channels, change, is_resized)


def _is_plain(header: JpegHeader) -> bool:
  is_large = header.width * header.height > LARGE
  return not is_large and (not header.exif or _turn(header.exif) is None)


def _encode(image: Image.Image, image_format: str, quality: int) -> bytes:
  file = io.BytesIO()
  try:
    if image_format == 'JPEG':
      image.save(file, image_format, quality=quality, subsampling=0)
    else:
      image.save(file, image_format)
  except Exception as error:  # e.g. wider than 65,535 pixels
    raise BadImageError(f'cannot be made a {image_format}: {error}') from error
  return file.getvalue()


def size_of_record(content: bytes) -> tuple[int, int]:
  """Height and width in pixels of an image of a record: a JPEG, which is not decoded, or a PNG.

  Raises:
    BadImageError: training cannot read it, or would see other colours.
  """
  form = 'the image is not of the form that training reads: %s, expected JPEG (grey, RGB) or PNG'
  if content.startswith(JPEG_MAGIC):
    header = read_jpeg_header(content)
    if header.channels == 4:
      raise BadImageError(form % 'CMYK')
    return header.height, header.width
  with _opened(content) as image:
    if image.format != 'PNG':
      raise BadImageError(form % image.format)
    image.load()
    return image.height, image.width


def size_of(content: bytes) -> tuple[int, int]:
  """Height and width in pixels of an image as its file has it, which is not decoded.

  Raises:
    BadImageError: it is no image.
  """
  if content.startswith(JPEG_MAGIC):
    header = read_jpeg_header(content)
    return header.height, header.width
  with _opened(content) as image:
    return image.height, image.width


def read_jpeg_header(content: bytes) -> JpegHeader:
  """Reads the segments before the scan, and looks whether the image ends.

  Raises:
    BadImageError: no scan, no end of image, too large, or a kind of JPEG that TensorFlow does not
      decode.
  """
  frame, exif, position = None, b'', 2
  try:
    while True:
      if content[position] != 0xFF:  # decoders pass over bytes between segments
        position = content.index(0xFF, position)
      while (marker := content[position]) == 0xFF:
        position += 1
      start = position + 1
      if marker in WITHOUT_LENGTH:
        position = start
        continue
      if marker in (SCAN, END_OF_IMAGE):
        break
      position = start + (content[start] << 8) + content[start + 1]
      if marker in FRAMES:
        frame = content[start + 2 : start + 8]
      elif marker in OTHER_FRAMES:
        raise BadImageError(f'{UNUSUAL_JPEG} (frame marker {marker:02X})')
      elif marker == APP1 and not exif and content[start + 2 : start + 8] == EXIF:
        exif = content[start + 2 : position]
  except (ValueError, IndexError) as error:
    if isinstance(error, BadImageError):
      raise
    raise BadImageError(JPEG_WITHOUT_SCAN) from error
  if marker != SCAN or frame is None or len(frame) < 6:
    raise BadImageError(JPEG_WITHOUT_IMAGE)
  if not content.endswith(b'\xff\xd9') and content.rfind(b'\xff\xd9', position) < 0:
    raise BadImageError(JPEG_WITHOUT_END)
  bits, channels = frame[0], frame[5]
  height, width = int.from_bytes(frame[1:3], 'big'), int.from_bytes(frame[3:5], 'big')
  if bits != 8 or channels not in (1, 3, 4) or not height or not width:
    raise BadImageError(f'{UNUSUAL_JPEG} ({width} x {height}, {channels} channels of {bits} bits)')
  _check_size(width, height, MAX_JPEG_SIDE)
  return JpegHeader(height, width, channels, exif)


def decode(content: bytes, most_pixels: int = LARGE, *, upright: bool = True) -> Image.Image:
  """Decodes an image by the rule above, RGB or L.

  Args:
    content: of a file.
    most_pixels: the sides of a larger image are halved until it has no more.
    upright: turn it as EXIF says.

  Raises:
    BadImageError: it is no image, or none that can be read.
  """
  if content.startswith(JPEG_MAGIC):
    read_jpeg_header(content)
  return _decode(content, most_pixels, upright).image


def _decode(
  content: bytes, most_pixels: int, upright: bool, shorter_side: int | None = None
) -> _Decoded:
  with _opened(content) as image:
    name = 'JPEG' if image.format == 'MPO' else image.format or ''
    changes = ['CMYK to RGB'] if image.mode == 'CMYK' and name == 'JPEG' else []
    divisor = _divisor(image, most_pixels)
    resized = _resized(image.size, shorter_side)
    drafts = [(image.width // divisor, image.height // divisor)] if divisor > 1 else []
    drafts += [(_GAP * resized[0], _GAP * resized[1])] if resized else []
    if drafts:  # of JPEGs a half, quarter or eighth is decoded, no more
      width, height = min(drafts)
      image.draft(image.mode, (max(1, width), max(1, height)))
    image.load()
    turn = turn_of(image) if upright else None
    _scale_transparent_color(image, content)
    is_large = divisor > 1
    if image.mode.startswith(('I', 'F')):
      image = _upper_bits(image)
    opaque = 'L' if image.mode in _GREY_MODES else 'RGB'
    mode = _ALPHA if image.has_transparency_data else opaque
    if image.mode != mode:  # a copy of 400 million pixels takes 1.6 GB
      image = image.convert(mode)
    image = _reduce(image, most_pixels)
    if image.mode == _ALPHA:
      if image.getchannel('A').histogram()[255] < image.width * image.height:
        changes.append('laid on white')
        image = Image.alpha_composite(Image.new(_ALPHA, image.size, _WHITE), image)
      image = image.convert('RGB')
    if resized:  # at last: RGB and L alone, without what is transparent
      image = image.resize(resized, Image.Resampling.LANCZOS)
    if turn is not None:
      changes.append('turned upright')
      image = image.transpose(turn)
    if is_large and not resized:
      changes.append(f'reduced to {image.width} x {image.height}')
  return _Decoded(image, name, tuple(changes), resized is not None)


def _resized(size: tuple[int, int], shorter_side: int | None) -> tuple[int, int] | None:
  """Width and height with a shorter side of so many pixels; None where it has no more."""
  if shorter_side is None or min(size) <= shorter_side:
    return None
  width, height = (max(shorter_side, round(side * shorter_side / min(size))) for side in size)
  return width, height


def _divisor(image: Image.Image, most_pixels: int) -> int:
  """The least power of two that leaves at most `most_pixels`, with sides rounded up."""
  divisor = 1
  while -(-image.width // divisor) * -(-image.height // divisor) > most_pixels:
    divisor *= 2
  return divisor


def _reduce(image: Image.Image, most_pixels: int) -> Image.Image:
  """The means of squares; what is left of a side at its end is cut off."""
  divisor = _divisor(image, most_pixels)
  if divisor == 1:
    return image
  factors = min(divisor, image.width), min(divisor, image.height)
  width, height = (
    side // factor * factor for side, factor in zip(image.size, factors, strict=True)
  )
  return image.reduce(factors, (0, 0, width, height))


def _upper_bits(image: Image.Image) -> Image.Image:
  """Grey of 16 bits as eight, L or LA; Pillow's own conversion would clip."""
  import numpy as np  # no conversion of JPEGs needs it

  values = np.asarray(image)
  is_deep = values.dtype.itemsize == 2 or image.format in ('PPM', 'PNG')  # in 32 bits, up to 65,535
  if not is_deep:
    raise BadImageError(
      f'{image.format} of 32 bits a channel, and nothing says which value is white: make it 8 or 16'
    )
  upper = Image.fromarray((values >> 8).astype(np.uint8))
  if (transparent := image.info.get('transparency')) is None:
    return upper
  alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
  return Image.merge('LA', (upper, alpha))


def _scale_transparent_color(image: Image.Image, content: bytes) -> None:
  """Pillow compares what a PNG of other depths than 8 says is transparent with values of 8 bits."""
  color = image.info.get('transparency')
  if image.format != 'PNG' or color is None:
    return
  bits = content[24]
  if image.mode == 'L' and bits < 8:
    image.info['transparency'] = color * 255 // (2**bits - 1)
  elif image.mode == 'RGB' and bits == 16:
    image.info['transparency'] = tuple(value >> 8 for value in color)


# Orientation


def turn_of(image: Image.Image) -> Image.Transpose | None:
  """How EXIF wants a loaded image turned; None for upright ones and for broken EXIF."""
  if image.format == 'TIFF':  # turned by Pillow when it was loaded
    return None
  for key in ('xmp', 'XML:com.adobe.xmp'):  # where Pillow looks if EXIF does not say
    image.info.pop(key, None)
  try:
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
  except Exception:  # Pillow raises nearly anything
    return None


def _turn(segment: bytes) -> Image.Transpose | None:
  """`turn_of` an EXIF segment."""
  exif = Image.Exif()
  try:
    exif.load(segment)
    return _TURNS.get(exif.get(_ORIENTATION, 1))
  except Exception:  # Pillow raises nearly anything
    return None


# Opening


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
  """An image that Pillow has opened; what goes wrong with it is a BadImageError."""
  if not content:
    raise BadImageError(EMPTY)
  if len(content) < 4:  # Pillow wants to look at four
    raise BadImageError(UNKNOWN)
  if content[4:8] == b'ftyp' and content[8:12] in _HEIF_BRANDS and b'avif' not in content[12:64]:
    _learn_heif()
  try:
    with _open(content) as image:
      _check_size(*image.size)
      is_large = image.width * image.height > LARGE
      with _large() if is_large else contextlib.nullcontext():
        yield image
  except BadImageError:
    raise
  except Image.UnidentifiedImageError:
    if content.startswith(_TIFF_MAGICS):
      raise BadImageError('a TIFF of a kind that Pillow does not read') from None
    raise BadImageError(LFS_POINTER if is_lfs_pointer(content) else UNKNOWN) from None
  except MemoryError:
    raise BadImageError('does not decode: there is not enough memory') from None
  except Exception as error:  # Pillow's decoders raise nearly anything on broken input
    reason = str(error) or type(error).__name__
    raise BadImageError(f'does not decode: {reason.splitlines()[0]}') from error


@contextlib.contextmanager
def _large() -> Iterator[None]:
  """One large image at a time, for the memory; Pillow's limit, which is the process', is ours."""
  with _large_one:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit


def _open(content: bytes) -> Image.Image:
  """`Image.open`, which knows one limit of pixels for the whole process; `_check_size` has ours."""
  Image.init()
  for name in Image.ID:
    open_as, accepts = Image.OPEN[name]
    if name not in FORMATS or (accepts and accepts(content[:16]) is not True):
      continue
    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # another format
      return open_as(io.BytesIO(content), '')
  raise Image.UnidentifiedImageError


def _check_size(width: int, height: int, longest: int | None = None) -> None:
  if width * height > MAX_PIXELS:
    raise BadImageError(f'{width} x {height} {TOO_MANY_PIXELS}')
  if longest and max(width, height) > longest:
    raise BadImageError(
      f'{UNUSUAL_JPEG} ({width} x {height}: a side of more than {longest:,} pixels)'
    )


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
