"""Image files in the graph of an exported model: the rule of `datasets/images.py` without Pillow.

JPEG, PNG, GIF and BMP are read by their bytes, with TensorFlow's operations alone, so that any
program that runs SavedModels does it. What TensorFlow does not decode to what the file shows is
turned, laid on white or reduced, and encoded as the conversion stores it; so the net sees of a file
what it would see of its record, bit for bit. What is not read rightly is refused in words.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from slim_inception.datasets import images

# decode_png makes at most 2^29 values, and of an image with transparency four a pixel.
MAX_PIXELS = (1 << 27) - 1
FORMATS = 'JPEG, PNG, GIF or BMP'
NO_FORMAT = f'not a {FORMATS} file'
PNG_TEXT_EXIF = 'PNG with EXIF as text, which an exported model does not read: encode it anew'
PARTIAL_GIF = (
  'GIF with transparency, or whose first frame is not all of it, which an exported model does not '
  'read'
)
ODD_BMP = 'BMP with a palette or compression: an exported model reads those of 24 or 32 bits'
_TOO_MANY_PIXELS = f'pixels are more than the {MAX_PIXELS:,} that are decoded'

# More segments before the scan, or blocks before the first frame, no file has but by intention.
_MAX_SEGMENTS = 10_000
_PADDING = 64  # zeros after the end, where numbers beyond it are read
_SEGMENT, _ALONE, _END, _FRAME, _OTHER_FRAME, _APP1, _APP14 = range(7)  # kinds of JPEG markers
_KINDS = [_SEGMENT] * 256
for _markers, _kind in (
  (images.WITHOUT_LENGTH, _ALONE), ([images.SCAN, images.END_OF_IMAGE], _END),
  (images.FRAMES, _FRAME), (images.OTHER_FRAMES, _OTHER_FRAME),
  ([images.APP1], _APP1), ([0xEE], _APP14),
):  # fmt: skip
  for _marker in _markers:
    _KINDS[_marker] = _kind
_HEX = [f'{number:02X}' for number in range(256)]
# TensorFlow takes CMYK as inverted only where this segment is; 0: no YCCK.
_ADOBE_SEGMENT = b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00'

_Reasons = Sequence[tuple[tf.Tensor, str | tf.Tensor]]


def as_stored(encoded: tf.Tensor, name: str | tf.Tensor = '') -> tf.Tensor:
  """What TensorFlow decodes to what a file shows: string scalar, the file itself where that does.

  Args:
    encoded: string scalar, the bytes of the file.
    name: what an error calls it.

  Raises:
    InvalidArgumentError: when it runs: the file is not read; the message says why.
  """
  data = tf.io.decode_raw(tf.strings.join([encoded, b'\0' * _PADDING]), tf.uint8)
  size = tf.strings.length(encoded)

  def checked(reasons: _Reasons) -> tf.Tensor:
    """The file, if no reason is against it; else the first one ends the computation."""
    reason = tf.constant('')
    for is_so, words in reversed(reasons):
      reason = tf.where(is_so, words, reason)
    check = tf.debugging.Assert(tf.equal(reason, ''), [tf.strings.join([name, reason])])
    with tf.control_dependencies([check]):
      return tf.identity(encoded)

  def unknown() -> tf.Tensor:
    return checked([(tf.equal(size, 0), images.EMPTY), (tf.constant(True), NO_FORMAT)])

  readers: list[tuple[bytes, Callable[[], tf.Tensor]]] = [
    (images.JPEG_MAGIC, lambda: _jpeg(data, size, checked)),
    (images.PNG_MAGIC, lambda: _png(data, checked)),
    (b'GIF8', lambda: _gif(data, size, checked)),
    (b'BM', lambda: _bmp(data, checked)),
  ]
  kind = tf.constant(len(readers))
  for number, (magic, _) in enumerate(readers):
    kind = tf.where(_is_at(data, 0, magic), number, kind)
  return tf.switch_case(kind, [*(read for _, read in readers), unknown])


_Check = Callable[[_Reasons], tf.Tensor]

# Formats


class _Segments(NamedTuple):
  """Where in a JPEG its segments are; int32 scalars, 0 for what is not there."""

  after: tf.Tensor  # where the reading ended
  frame: tf.Tensor  # the content of the frame header
  other_frame: tf.Tensor  # the marker of a frame that is not decoded
  exif: tf.Tensor
  adobe: tf.Tensor  # 1: there is Adobe's segment
  end: tf.Tensor  # the marker that ended the reading


def _jpeg_segments(data: tf.Tensor, size: tf.Tensor) -> _Segments:
  """Reads on from segment to segment up to the scan, as `images.read_jpeg_header`."""
  kinds = tf.constant(_KINDS)

  def goes_on(position, frame, other, exif, adobe, end):
    return (end == 0) & (other == 0) & (position < size)

  def step(position, frame, other, exif, adobe, end):
    here, marker = _number(data, position, 1), _number(data, position + 1, 1)
    kind, start = kinds[marker], position + 2
    is_marker = (here == 0xFF) & (marker != 0xFF)
    has_length = is_marker & (kind != _ALONE) & (kind != _END)
    is_exif = (kind == _APP1) & (exif == 0) & _is_at(data, start + 2, images.EXIF)
    is_adobe = (kind == _APP14) & _is_at(data, start + 2, b'Adobe')
    following = tf.where(has_length, start + _number(data, start, 2), start)
    return (
      tf.where(is_marker, following, position + 1),
      tf.where(is_marker & (kind == _FRAME), start + 2, frame),
      tf.where(is_marker & (kind == _OTHER_FRAME), marker, other),
      tf.where(is_marker & is_exif, start + 8, exif),
      tf.where(is_marker & is_adobe, 1, adobe),
      tf.where(is_marker & (kind == _END), marker, end),
    )

  start = (tf.constant(2), *[tf.constant(0)] * 5)
  return _Segments(*tf.while_loop(goes_on, step, start, maximum_iterations=_MAX_SEGMENTS))


def _jpeg(data: tf.Tensor, size: tf.Tensor, checked: _Check) -> tf.Tensor:
  """As `images.read_jpeg_header` reads it."""
  segments = _jpeg_segments(data, size)
  has_end = tf.cond(
    _is_at(data, size - 2, b'\xff\xd9'),
    lambda: tf.constant(True),
    lambda: _find(data[tf.minimum(segments.after, size) :], b'\xff\xd9') >= 0,
  )
  frame, end = segments.frame, segments.end
  bits, channels = _number(data, frame, 1), _number(data, frame + 5, 1)
  height, width = (_number(data, frame + at, 2) for at in (1, 3))
  says = _text(width, ' x ', height, ', ', channels, ' channels of ', bits, ' bits')
  is_unusual = (bits != 8) | ((channels != 1) & (channels != 3) & (channels != 4))
  marker = tf.gather(_HEX, segments.other_frame)
  longest = f': a side of more than {images.MAX_JPEG_SIDE:,} pixels)'
  pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
  file = checked(
    [
      (segments.other_frame > 0, _text(images.UNUSUAL_JPEG, ' (frame marker ', marker, ')')),
      (end == 0, images.JPEG_WITHOUT_SCAN),
      ((end != images.SCAN) | (frame == 0), images.JPEG_WITHOUT_IMAGE),
      (~has_end, images.JPEG_WITHOUT_END),
      (is_unusual | (pixels == 0), _text(images.UNUSUAL_JPEG, ' (', says, ')')),
      (pixels > images.MAX_PIXELS, _text(width, ' x ', height, ' ', images.TOO_MANY_PIXELS)),
      (
        tf.maximum(width, height) > images.MAX_JPEG_SIDE,
        _text(images.UNUSUAL_JPEG, ' (', width, ' x ', height, longest),
      ),
    ]
  )
  turn = tf.where(segments.exif > 0, _orientation(data, segments.exif), 1)
  halvings = _halvings(width, height)

  def changed() -> tf.Tensor:
    parts = [tf.strings.substr(file, 0, 2), _ADOBE_SEGMENT, tf.strings.substr(file, 2, -1)]
    is_unmarked = (channels == 4) & (segments.adobe == 0)
    cmyk = tf.cond(is_unmarked, lambda: tf.strings.join(parts), lambda: file)
    image = tf.switch_case(halvings, [_jpeg_decoder(cmyk, 1 << count) for count in range(4)])
    return tf.io.encode_jpeg(
      _turned(image, turn), 'rgb', images.JPEG_QUALITY, chroma_downsampling=False
    )

  is_plain = (channels != 4) & (turn == 1) & (halvings == 0)
  return tf.cond(is_plain, lambda: file, changed)


def _jpeg_decoder(file: tf.Tensor, ratio: int) -> Callable[[], tf.Tensor]:
  # Exactly as Pillow decodes.
  return lambda: tf.io.decode_jpeg(file, 3, ratio=ratio, dct_method='INTEGER_ACCURATE')


def _png(data: tf.Tensor, checked: _Check) -> tf.Tensor:
  width, height = (_number(data, at, 4) for at in (16, 20))
  has_alpha = (_number(data, 25, 1) >= 4) | (_find(data, b'tRNS') >= 0)
  exif = _find(data, b'eXIf')
  turn = tf.where(exif >= 0, _orientation(data, exif + 4), 1)
  file = checked(
    [(_find(data, b'Raw profile type exif') >= 0, PNG_TEXT_EXIF), _is_too_large(width, height)]
  )

  def decode() -> tf.Tensor:
    return tf.cond(
      has_alpha,
      lambda: tf.io.decode_png(file, 4),
      lambda: _opaque(tf.io.decode_png(file, 3)),  # of 1 bit decode_png makes the alpha 1
    )

  halvings = _halvings(width, height)
  is_plain = ~has_alpha & (turn == 1) & (halvings == 0)
  return tf.cond(is_plain, lambda: file, lambda: _as_png(decode(), turn, halvings))


def _gif(data: tf.Tensor, size: tf.Tensor, checked: _Check) -> tf.Tensor:
  """Passes over the extensions before the first frame (GIF89a, sections 18 to 23)."""
  width, height = (_number(data, at, 2, big=False) for at in (6, 8))
  flags = _number(data, 10, 1)
  colors = tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(2, flags & 7), 0)

  def goes_on(position, inside, clear, frame):
    return (frame == 0) & (position < size)

  def step(position, inside, clear, frame):
    """`inside` an extension there are blocks, each after its length; one of 0 is its end."""
    here = _number(data, position, 1)
    is_extension = (inside == 0) & (here == 0x21)
    is_control = is_extension & (_number(data, position + 1, 1) == 0xF9)
    is_clear = is_control & ((_number(data, position + 3, 1) & 1) == 1)
    is_frame = (inside == 0) & ((here == 0x2C) | (here == 0x3B))
    ends = (inside == 1) & (here == 0)
    return (
      tf.where(inside == 1, position + 1 + here, position + tf.where(is_extension, 2, 1)),
      tf.where(is_extension, 1, tf.where(ends, 0, inside)),
      tf.where(is_clear, 1, clear),
      tf.where(is_frame, position, frame),
    )

  _, _, clear, frame = tf.while_loop(
    goes_on, step, (13 + colors, *[tf.constant(0)] * 3), maximum_iterations=_MAX_SEGMENTS
  )
  left, top, across, down = (_number(data, frame + at, 2, big=False) for at in (1, 3, 5, 7))
  is_all = (left == 0) & (top == 0) & (across == width) & (down == height)
  file = checked([((clear == 1) | ~is_all, PARTIAL_GIF), _is_too_large(width, height)])
  return _reduced(file, width, height)


def _bmp(data: tf.Tensor, checked: _Check) -> tf.Tensor:
  header, width, height, compression = (_number(data, at, 4, big=False) for at in (14, 18, 22, 30))
  bits = _number(data, 28, 2, big=False)
  height = tf.abs(height)  # rows from the top down
  is_plain = (header >= 40) & ((bits == 24) | (bits == 32)) & (compression == 0)
  file = checked([(~is_plain, ODD_BMP), _is_too_large(width, height)])
  return _reduced(file, width, height)


# Pixels


def _is_too_large(width: tf.Tensor, height: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
  return pixels > MAX_PIXELS, _text(width, ' x ', height, ' ', _TOO_MANY_PIXELS)


def _reduced(file: tf.Tensor, width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
  """The file, or a PNG of fewer pixels."""
  halvings = _halvings(width, height)

  def reduced() -> tf.Tensor:
    image = tf.io.decode_image(file, 3, expand_animations=False)
    return _as_png(_opaque(tf.ensure_shape(image, [None, None, 3])), tf.constant(1), halvings)

  return tf.cond(halvings == 0, lambda: file, reduced)


def _opaque(image: tf.Tensor) -> tf.Tensor:
  return tf.pad(image, [[0, 0], [0, 0], [0, 1]], constant_values=255)


def _as_png(image: tf.Tensor, turn: tf.Tensor, halvings: tf.Tensor) -> tf.Tensor:
  """RGBA, reduced by means of squares, over white, turned, as PNG."""
  size = tf.shape(image)[:2]
  factors = tf.minimum(tf.bitwise.left_shift(1, halvings), size)
  reduced = size // factors
  kept = reduced * factors

  def mean() -> tf.Tensor:
    whole = image[tf.newaxis, : kept[0], : kept[1]]
    means = tf.compat.v1.image.resize(whole, reduced, tf.compat.v1.image.ResizeMethod.AREA)[0]
    return tf.cast(tf.floor(tf.cast(means, tf.float32) + 0.5), tf.uint8)

  image = tf.cond(halvings > 0, mean, lambda: image)
  values = tf.cast(image, tf.int32)
  alpha = values[..., 3:]
  over_white = 128 * (values[..., :3] * alpha + 255 * (255 - alpha)) + (1 << 14)  # Pillow's
  divided = tf.bitwise.right_shift(tf.bitwise.right_shift(over_white, 8) + over_white, 15)
  return tf.io.encode_png(_turned(tf.cast(divided, tf.uint8), turn), compression=1)


def _turned(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
  """[h, w, C] as an EXIF orientation says."""
  image = tf.cond(turn >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
  for axis, turns in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
    is_mirrored = tf.reduce_any(turn == tf.constant(turns))
    image = tf.cond(is_mirrored, _mirror(image, axis), lambda image=image: image)
  return image


def _mirror(image: tf.Tensor, axis: int) -> Callable[[], tf.Tensor]:
  return lambda: tf.reverse(image, [axis])


def _halvings(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
  """How often the sides are halved, int32: 0 .. 3, with which `MAX_PIXELS` are few enough."""
  halvings = tf.constant(3)
  for count in (2, 1, 0):
    sides = (-(-tf.cast(side, tf.int64) // (1 << count)) for side in (width, height))
    halvings = tf.where(tf.reduce_prod(tf.stack(list(sides))) <= images.LARGE, count, halvings)
  return halvings


# Bytes


def _number(data: tf.Tensor, at: tf.Tensor | int, count: int, big: bool = True) -> tf.Tensor:
  """A number of `count` bytes, int32; that of the padding where it lies outside the file."""
  at = tf.clip_by_value(at, 0, tf.size(data) - count)
  values = tf.unstack(tf.cast(data[at : at + count], tf.int32), count)
  number = tf.constant(0)
  for value in values if big else reversed(values):
    number = number * 256 + value
  return number


def _is_at(data: tf.Tensor, at: tf.Tensor | int, text: bytes) -> tf.Tensor:
  at = tf.clip_by_value(at, 0, tf.size(data) - len(text))
  return tf.reduce_all(data[at : at + len(text)] == tf.constant(list(text), tf.uint8))


def _find(data: tf.Tensor, text: bytes) -> tf.Tensor:
  """Where a text begins first, int32; -1 where it does not."""
  count = tf.maximum(tf.size(data) - len(text) + 1, 0)
  begins = tf.fill([count], True)
  for i, byte in enumerate(text):
    begins &= data[i : i + count] == byte
  first = tf.argmax(tf.cast(begins, tf.uint8), output_type=tf.int32)
  return tf.where(tf.reduce_any(begins), first, -1)


def _orientation(data: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
  """The EXIF orientation, 1 to 8, of a TIFF header; 1 where nothing says it."""
  is_little = _is_at(data, base, b'II*\0')

  def number(at: tf.Tensor, count: int) -> tf.Tensor:
    return tf.where(is_little, _number(data, at, count, False), _number(data, at, count))

  directory = base + number(base + 4, 4)
  count = number(directory, 2)
  entries = directory + 2 + 12 * tf.range(count)
  # Tag, type and count of one short number; no more of an entry has to be read to find it.
  tag = tf.where(is_little, b'\x12\1\3\0\1\0\0\0', b'\1\x12\0\3\0\0\0\1')
  places = tf.clip_by_value(entries[:, tf.newaxis] + tf.range(8), 0, tf.size(data) - 1)
  is_it = tf.reduce_all(tf.gather(data, places) == tf.io.decode_raw(tag, tf.uint8), axis=1)
  at = tf.reduce_max(tf.where(is_it, entries, -1))
  turn = number(at + 8, 2)
  is_tiff = is_little | _is_at(data, base, b'MM\0*')
  return tf.where(is_tiff & (at >= 0) & (turn >= 1) & (turn <= 8), turn, 1)


def _text(*parts: str | tf.Tensor) -> tf.Tensor:
  return tf.strings.join(
    [
      part if isinstance(part, str) or part.dtype == tf.string else tf.as_string(part)
      for part in parts
    ]
  )
