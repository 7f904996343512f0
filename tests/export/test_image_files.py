"""One rule, three readers: conversion, classification and an exported model see the same pixels.

What they should see is computed by Pillow and NumPy from the pixels that a file was made of.
"""

import contextlib
import io
import os
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin
from slim_inception.datasets import images
from slim_inception.datasets.images import BadImageError
from slim_inception.preprocessing.preprocessing_factory import INCEPTION

from slim_inception.classify import image_files as classify_files
from slim_inception.export import image_files
from tests.datasets.odd_images import PIXELS

RNG = np.random.default_rng(1)
SLOPE = np.stack(  # smooth, as photographs are, and different in each corner and colour
  [np.add.outer(np.arange(48) * a, np.arange(64) * b) % 256 for a, b in ((1, 2), (3, 1), (2, 3))], 2
).astype(np.uint8)
ALPHA = np.linspace(0, 255, 24 * 32).reshape(24, 32, 1).astype(np.uint8)
RGBA = np.concatenate([PIXELS, ALPHA], axis=2)
OVER_WHITE = PIXELS * (ALPHA / 255) + 255 * (1 - ALPHA / 255)
GREY = np.repeat(PIXELS[..., :1], 3, axis=2)
DEEP = (PIXELS.astype(np.uint16) << 8) + 77
ELSEWHERE = 'not a JPEG, PNG, GIF or BMP file'  # what an export says of what it does not read


def save(image, file_format, **options):
  file = io.BytesIO()
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  image.save(file, file_format, **options)
  return file.getvalue()


def shown(content):
  """As Pillow alone shows it."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    return np.asarray(image.convert('RGB'))


def exif(orientation, order='>'):
  """An EXIF segment in either byte order, the orientation behind another entry."""
  entries = struct.pack(order + 'HHIHH', 0x0100, 3, 1, 8, 0)
  entries += struct.pack(order + 'HHIHH', 0x0112, 3, 1, orientation, 0)
  magic = b'MM\0*' if order == '>' else b'II*\0'
  return b'Exif\0\0' + magic + struct.pack(order + 'IH', 8, 2) + entries + bytes(4)


def chunk(kind, content):
  check = struct.pack('>I', zlib.crc32(kind + content))
  return struct.pack('>I', len(content)) + kind + content + check


def png(values, color, depth=8, *chunks):
  """A PNG of rows as they are stored, with chunks before them."""
  header = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], depth, color, 0, 0, 0)
  if depth < 8:
    bits = np.unpackbits(values.astype(np.uint8)[..., np.newaxis], axis=-1)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(values), -1), axis=1)
  else:
    rows = values.reshape(len(values), -1).astype('>u2' if depth == 16 else np.uint8)
  data = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
  return b''.join(
    [images.PNG_MAGIC, chunk(b'IHDR', header), *chunks, chunk(b'IDAT', data), chunk(b'IEND', b'')]
  )


def without_adobe(content):
  start = content.index(b'\xff\xee')
  return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4]) :]


def as_ycck(content):
  start = content.index(b'\xff\xee')
  return content[: start + 15] + b'\2' + content[start + 16 :]


def with_frame(content, **fields):
  """A JPEG whose frame header says something else."""
  start = content.index(b'\xff\xc0')
  frame = bytearray(content[start : start + 10])
  for name, value in fields.items():
    at, count = {'marker': (1, 1), 'bits': (4, 1), 'height': (5, 2), 'width': (7, 2)}[name]
    frame[at : at + count] = value.to_bytes(count, 'big')
  return content[:start] + bytes(frame) + content[start + 10 :]


def frames(file_format, **options):
  colors = [Image.new('RGB', (8, 6), color) for color in ('red', 'lime', 'blue')]
  return save(colors[0], file_format, save_all=True, append_images=colors[1:], **options)


def magick(orientation):
  """EXIF as ImageMagick writes it into a PNG."""
  info, raw = PngImagePlugin.PngInfo(), exif(orientation)
  info.add_text('Raw profile type exif', f'\nexif\n{len(raw):8d}\n{raw.hex()}\n', zip=True)
  return save(PIXELS, 'PNG', pnginfo=info)


FIRST = np.broadcast_to(np.uint8([255, 0, 0]), (6, 8, 3))
PALETTE = Image.fromarray(PIXELS).quantize(4)
HOLES = np.where(np.asarray(PALETTE)[..., np.newaxis] == 2, 255, np.asarray(PALETTE.convert('RGB')))
ADOBE = save(Image.fromarray(SLOPE).convert('CMYK'), 'JPEG', quality=95)
XMP = (
  b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
)  # fmt: skip
JPEG = save(SLOPE, 'JPEG', quality=95)

# Kind -> file, what it shows, how far a value may be from it, what an export says (None: reads it).
# Of JPEGs the tolerance is TensorFlow's fast decoder's.
READ = {
  **{
    f'JPEG {name}': (content, shown(content), 20, None)
    for name, content in {
      'plain': JPEG,
      'of quarter colours': save(SLOPE, 'JPEG', quality=80, subsampling=2),
      'progressive': save(SLOPE, 'JPEG', progressive=True),
      'grey': save(SLOPE[..., 0], 'JPEG'),
      'CMYK': ADOBE,
      'YCCK': as_ycck(ADOBE),
      'in many segments': b'\xff\xd8' + b'\xff\xff\xe3\0\4ab' * 50 + JPEG[2:],
      'with broken EXIF': save(SLOPE, 'JPEG', exif=exif(6)[:24]),
      'of several images': save(
        SLOPE, 'MPO', save_all=True, append_images=[Image.fromarray(SLOPE[::-1])]
      ),
      'grey, turned': save(SLOPE[..., 0], 'JPEG', exif=exif(6)),
      'CMYK, turned': save(Image.fromarray(SLOPE).convert('CMYK'), 'JPEG', exif=exif(8)),
      **{
        f'turned {turn} {order}': save(SLOPE, 'JPEG', quality=95, exif=exif(turn, order))
        for turn in range(10)
        for order in '<>'
      },
    }.items()
  },
  # Adobe's values, whose marker a tool took away; TensorFlow alone takes them for others.
  'JPEG CMYK unmarked': (without_adobe(ADOBE), shown(ADOBE), 20, None),
  'JPEG turned by XMP': (save(SLOPE, 'JPEG', quality=95, xmp=XMP), shown(JPEG), 20, None),
  'PNG': (save(PIXELS, 'PNG'), PIXELS, 0, None),
  'PNG palette': (save(PALETTE, 'PNG'), np.asarray(PALETTE.convert('RGB')), 0, None),
  'PNG palette with holes': (save(PALETTE, 'PNG', transparency=2), HOLES, 0, None),
  **{
    f'PNG grey of {bits} bits{holes and " with holes"}': (
      png(PIXELS[..., 0] >> 8 - bits, 0, bits, *holes),
      np.where(
        ((GREY >> 8 - bits) == PIXELS[0, 0, 0] >> 8 - bits) & bool(holes),
        255,
        (GREY >> 8 - bits) * (255 // (2**bits - 1)),
      ),
      0,
      None,
    )
    for bits in (1, 2, 4, 8)
    for holes in ((), (chunk(b'tRNS', struct.pack('>H', PIXELS[0, 0, 0] >> 8 - bits)),))
  },
  'PNG RGB with holes': (
    save(PIXELS, 'PNG', transparency=tuple(map(int, PIXELS[0, 0]))),
    np.where((PIXELS[0, 0] == PIXELS).all(-1, keepdims=True), 255, PIXELS),
    0,
    None,
  ),
  'PNG RGBA': (save(RGBA, 'PNG'), OVER_WHITE, 1, None),
  'PNG RGBA, opaque': (save(Image.fromarray(PIXELS).convert('RGBA'), 'PNG'), PIXELS, 0, None),
  'PNG grey with alpha': (
    png(RGBA[..., [0, 3]], 4),
    GREY * (ALPHA / 255) + 255 * (1 - ALPHA / 255),
    1,
    None,
  ),
  'PNG of 16 bits': (png(DEEP, 2, 16), PIXELS, 0, None),
  'PNG grey of 16 bits': (png(DEEP[..., :1], 0, 16), GREY, 0, None),
  'PNG grey of 16 bits with holes': (
    png(DEEP[..., :1], 0, 16, chunk(b'tRNS', struct.pack('>H', DEEP[0, 0, 0]))),
    np.where(PIXELS[0, 0, 0] == GREY, 255, GREY),
    0,
    None,
  ),
  'PNG RGBA of 16 bits': (png(RGBA.astype(np.uint16) << 8, 6, 16), OVER_WHITE, 1, None),
  'PNG grey with alpha of 16 bits': (
    png(RGBA[..., [0, 3]].astype(np.uint16) << 8, 4, 16),
    GREY * (ALPHA / 255) + 255 * (1 - ALPHA / 255),
    1,
    None,
  ),
  **{
    f'PNG turned {turn} {order}': (
      (content := save(PIXELS, 'PNG', exif=exif(turn, order))),
      shown(content),
      0,
      None,
    )
    for turn in range(10)
    for order in '<>'
  },
  'PNG RGBA, turned': (save(RGBA, 'PNG', exif=exif(6)), np.rot90(OVER_WHITE, -1), 1, None),
  'PNG with EXIF as text': (magick(6), np.rot90(PIXELS, -1), 0, image_files.PNG_TEXT_EXIF),
  'PNG of several frames': (frames('PNG'), FIRST, 0, None),
  'GIF': (save(PALETTE, 'GIF'), np.asarray(PALETTE.convert('RGB')), 0, None),
  'GIF interlaced': (
    save(PALETTE, 'GIF', interlace=1, comment=b'a comment' * 99),
    np.asarray(PALETTE.convert('RGB')),
    0,
    None,
  ),
  'GIF of several frames': (frames('GIF'), FIRST, 0, None),
  'GIF with holes': (save(PALETTE, 'GIF', transparency=2), HOLES, 0, image_files.PARTIAL_GIF),
  'BMP of 24 bits': (save(PIXELS, 'BMP'), PIXELS, 0, None),
  'BMP of 32 bits': (save(Image.fromarray(PIXELS).convert('RGBA'), 'BMP'), PIXELS, 0, None),
  'BMP with a palette': (
    save(PALETTE, 'BMP'),
    np.asarray(PALETTE.convert('RGB')),
    0,
    image_files.ODD_BMP,
  ),
  'BMP of 1 bit': (
    save(PIXELS[..., 0] > 127, 'BMP'),
    np.where(GREY > 127, 255, 0),
    0,
    image_files.ODD_BMP,
  ),
  'TIFF': (save(PIXELS, 'TIFF'), PIXELS, 0, ELSEWHERE),
  'TIFF turned': (
    save(PIXELS, 'TIFF', tiffinfo={0x0112: 6}),
    np.rot90(PIXELS, -1),
    0,
    ELSEWHERE,
  ),
  'TIFF of several images': (frames('TIFF'), FIRST, 0, ELSEWHERE),
  'TIFF RGBA': (save(RGBA, 'TIFF'), OVER_WHITE, 1, ELSEWHERE),
  **{
    f'{form} grey of 16 bits': (save(DEEP[..., 0], form), GREY, 0, ELSEWHERE)
    for form in ('TIFF', 'JPEG2000', 'PPM')
  },
  'WebP': (save(PIXELS, 'WEBP', lossless=True), PIXELS, 0, ELSEWHERE),
  'WebP RGBA': (save(RGBA, 'WEBP', lossless=True, exact=True), OVER_WHITE, 1, ELSEWHERE),
  'WebP of several frames': (frames('WEBP', lossless=True), FIRST, 0, ELSEWHERE),
  'WebP turned': (
    save(PIXELS, 'WEBP', lossless=True, exif=exif(6)),
    np.rot90(PIXELS, -1),
    0,
    ELSEWHERE,
  ),
  'ICO': (save(PIXELS, 'ICO', sizes=[(32, 24)]), PIXELS, 0, ELSEWHERE),
  'TGA': (save(PIXELS, 'TGA'), PIXELS, 0, ELSEWHERE),
}

EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
CUT = 'JPEG is truncated: it has no end of image'
MANY = 'pixels are more than the 536,870,912 that are decoded'
# Kind -> file, what conversion and classification say, what an export says ('': as TensorFlow).
REFUSED = {
  'nothing': (b'', 'empty file', 'empty file'),
  'text': (b'Not found', 'not an image in any known format', ELSEWHERE),
  'EPS': (EPS, 'not an image in any known format', ELSEWHERE),
  'JPEG cut': (JPEG[:-60], CUT, CUT),
  'JPEG cut in its header': (
    JPEG[:100], 'JPEG is truncated: it ends before its scan',
    'JPEG is truncated: it ends before its scan',
  ),
  'JPEG of nothing': (
    b'\xff\xd8\xff\xd9', 'JPEG without an image in it', 'JPEG without an image in it',
  ),
  'JPEG arithmetic': (
    with_frame(JPEG, marker=0xC9), 'JPEG of an unusual kind (frame marker C9)',
    'JPEG of an unusual kind (frame marker C9)',
  ),
  'JPEG of 12 bits': (
    with_frame(JPEG, bits=12), 'JPEG of an unusual kind (64 x 48, 3 channels of 12 bits)',
    'JPEG of an unusual kind (64 x 48, 3 channels of 12 bits)',
  ),
  'JPEG of too many pixels': (
    with_frame(JPEG, height=65_535, width=65_535), f'65535 x 65535 {MANY}', f'65535 x 65535 {MANY}',
  ),
  'JPEG too wide': (
    with_frame(JPEG, width=65_501),
    'JPEG of an unusual kind (65501 x 48: a side of more than 65,500 pixels)',
    'JPEG of an unusual kind (65501 x 48: a side of more than 65,500 pixels)',
  ),
  'PNG cut': (save(PIXELS, 'PNG')[:79], 'does not decode: image file is truncated', ''),
  'PNG of too many pixels': (
    images.PNG_MAGIC + chunk(b'IHDR', struct.pack('>IIBBBBB', 30_000, 30_000, 8, 2, 0, 0, 0))
    + save(PIXELS, 'PNG')[33:], f'30000 x 30000 {MANY}',
    f'30000 x 30000 pixels are more than the {(1 << 27) - 1:,}',
  ),
  'TIFF of an unknown kind': (
    b'II*\0' + bytes(20), 'a TIFF of a kind that Pillow does not read', ELSEWHERE,
  ),
  'TIFF of 32 bits': (
    save(np.ones((4, 4), np.float32), 'TIFF'), 'TIFF of 32 bits a channel, and nothing says',
    ELSEWHERE,
  ),
}  # fmt: skip


@pytest.fixture(scope='module')
def as_stored(tmp_path_factory):
  return saved(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def as_stored_of_few(tmp_path_factory):
  """Of at most 1000 pixels."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(images, 'LARGE', 1000)
    return saved(tmp_path_factory.mktemp('model'))


def saved(folder):
  """The graph, saved and loaded: nothing of Python is left in it."""
  module = tf.Module()
  module.read = tf.function(
    lambda file: image_files.as_stored(file, 'image_bytes[7]: '),
    [tf.TensorSpec([], tf.string)],
    autograph=False,
  )
  tf.saved_model.save(module, str(folder))
  return tf.saved_model.load(str(folder)).read


def seen(encoded):
  """As training, evaluation and classification decode it."""
  return INCEPTION.decode(tf.constant(encoded)).numpy()


def check(content, expected, tolerance, export_says, as_stored):
  record = images.read_image(content)
  trained = seen(record.encoded)
  assert trained.shape == expected.shape == (record.height, record.width, 3)
  np.testing.assert_allclose(trained, expected, atol=tolerance)
  assert np.abs(trained - expected.astype(float)).mean() < (3 if tolerance > 1 else 0.5)
  assert images.size_of_record(record.encoded) == expected.shape[:2]
  report = np.asarray(images.decode(record.encoded, upright=False).convert('RGB'))
  np.testing.assert_allclose(report, expected, atol=tolerance)
  np.testing.assert_array_equal(seen(classify_files.prepare(content).encoded), trained)
  if export_says is None:
    np.testing.assert_array_equal(seen(as_stored(content).numpy()), trained)
  else:
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
      as_stored(content)
    assert f'image_bytes[7]: {export_says}' in error.value.message
  again = images.read_image(record.encoded)
  assert again.encoded == record.encoded and not again.change


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
def test_all_readers_see_the_same(as_stored):
  for_each(READ, lambda *facts: check(*facts, as_stored))


def test_all_readers_refuse_in_words(as_stored):
  for_each(REFUSED, lambda *facts: check_refused(*facts, as_stored))


def for_each(table, check_one):
  """In one test: TensorFlow needs seconds to run a graph for the first time in each."""
  failures = {}
  for kind, facts in table.items():
    try:
      check_one(*facts)
    except (AssertionError, BadImageError, tf.errors.OpError) as error:
      failures[kind] = str(error)
  assert not failures


def check_refused(content, words, export_says, as_stored):
  readers = [images.read_image, classify_files.prepare, images.decode]
  if not content.startswith(b'II'):  # which no record may be
    readers.append(images.size_of_record)
  for read in readers:
    with pytest.raises(BadImageError) as error:
      read(content)
    assert str(error.value).startswith(words) and len(str(error.value).splitlines()) == 1
  with pytest.raises(tf.errors.InvalidArgumentError) as refused:
    seen(as_stored(content))
  assert not export_says or f'image_bytes[7]: {export_says}' in refused.value.message


LARGE_ONES = [
  (side, *facts)
  for side in (40, 97)
  for facts in [
    *(('JPEG', mode, turn) for mode in ('RGB', 'L', 'CMYK') for turn in (1, 6)),
    *(('PNG', mode, turn) for mode in ('RGB', 'RGBA', 'L', 'P', '1') for turn in (1, 5)),
    *((file_format, 'RGB', 1) for file_format in ('BMP', 'GIF', 'TIFF')),
    ('TIFF', 'RGBA', 1),
  ]
]


def test_large_images_are_halved(as_stored_of_few, monkeypatch):
  """1000 pixels stand for 16.8 million."""
  monkeypatch.setattr(images, 'LARGE', 1000)
  table = {str(facts): facts for facts in LARGE_ONES}
  for_each(table, lambda *facts: check_halved(*facts, as_stored_of_few))


def check_halved(side, file_format, mode, turn, as_stored_of_few):
  values = np.add.outer(np.arange(61), np.arange(side))
  pixels = np.stack([values, values * 2 % 256, 255 - values], 2).astype(np.uint8)
  image = Image.fromarray(pixels).convert(mode)
  options = {'exif': exif(turn)} if turn > 1 else {}
  content = save(image, file_format, **options)
  divisor = 2 if side == 40 else 4
  shape = 61 / divisor, side / divisor
  record = images.read_image(content)
  trained = seen(record.encoded)
  assert f'reduced to {record.width} x {record.height}' in record.change
  assert np.abs(np.sort(trained.shape[:2]) - np.sort(shape)).max() < 1
  turned = trained if turn == 1 else trained.transpose(1, 0, 2)[:: 1 if turn == 5 else -1]
  squares = np.asarray(image.convert('RGB')).astype(float)
  squares = squares[: 61 // divisor * divisor, : side // divisor * divisor]
  means = squares.reshape(61 // divisor, divisor, side // divisor, divisor, 3).mean((1, 3))
  whole = turned[: means.shape[0], : means.shape[1]]
  if mode in ('RGB', 'L', 'RGBA', '1'):  # JPEG's ringing at the jump of a colour
    limit = 12 if file_format == 'JPEG' else 1
    assert np.percentile(np.abs(whole - means), 90) <= limit
  np.testing.assert_array_equal(seen(classify_files.prepare(content).encoded), trained)
  if file_format != 'TIFF':
    np.testing.assert_array_equal(seen(as_stored_of_few(content).numpy()), trained)


def test_arrays_prepared_as_the_documentation_says_are_what_the_net_sees():
  """docs/export.md's NumPy, for who has no TensorFlow."""
  text = pathlib.Path(__file__).parents[2].joinpath('docs', 'export.md').read_text('utf-8')
  (code,) = (block for block in text.split('```') if 'def prepare' in block)
  names: dict = {}
  exec(code.removeprefix('python'), names)
  for shape in ((24, 32), (300, 7), (1, 1), (90, 121), (640, 480)):
    pixels = RNG.integers(0, 256, (*shape, 3)).astype(np.uint8)
    for size in (32, 75, 299):
      expected = INCEPTION.eval_image(save(pixels, 'PNG'), size, size)
      np.testing.assert_allclose(names['prepare'](pixels, size), expected, atol=1e-4)


def test_no_program_is_started(tmp_path, monkeypatch):
  """Pillow gives EPS to Ghostscript."""
  (tmp_path / 'gs').write_text(f'#!/bin/sh\ntouch {tmp_path}/started\n')
  (tmp_path / 'gs').chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
  for read in (images.read_image, images.size_of_record, images.decode, classify_files.prepare):
    with pytest.raises(BadImageError, match='not an image in any known format'):
      read(EPS + b'%%EndComments\n%%EOF\n')
  assert not (tmp_path / 'started').exists()


def test_heic(as_stored):
  pillow_heif = pytest.importorskip('pillow_heif')
  pillow_heif.register_heif_opener()
  content = save(SLOPE, 'HEIF', quality=100, chroma=444)
  check(content, SLOPE, 24, ELSEWHERE, as_stored)


def test_avif(as_stored):
  Image.init()
  if 'AVIF' not in Image.SAVE:
    pytest.skip('this Pillow has no AVIF')
  content = save(SLOPE, 'AVIF', quality=100, subsampling='4:4:4')
  check(content, SLOPE, 24, ELSEWHERE, as_stored)


def test_damage_of_any_kind_is_an_error_of_the_image(as_stored):
  """Flipped bytes, cut ends: no other error, and no endless loop."""
  kinds = ['JPEG turned 6 >', 'JPEG CMYK', 'PNG RGBA, turned', 'GIF', 'BMP of 24 bits']
  rng = np.random.default_rng(0)
  for i in range(300):
    content = bytearray(READ[kinds[i % len(kinds)]][0])
    for place in rng.integers(len(content), size=2):
      content[place] = rng.integers(256)
    content = bytes(content[: rng.integers(len(content) // 2, len(content) + 1)])
    with contextlib.suppress(BadImageError), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      images.read_image(content)
    with contextlib.suppress(tf.errors.InvalidArgumentError):
      as_stored(content)


def test_without_a_graph_it_is_the_same(as_stored):
  for kind in ('JPEG turned 6 >', 'PNG RGBA, turned', 'GIF', 'BMP of 24 bits'):
    content = READ[kind][0]
    assert image_files.as_stored(tf.constant(content)).numpy() == as_stored(content).numpy()


def test_many_segments_come_to_an_end(as_stored):
  for content in (b'\xff\xd8\xff' + bytes(300_000), b'GIF89a' + bytes(7) + b'!\xff' * 150_000):
    with pytest.raises(tf.errors.InvalidArgumentError):
      as_stored(content)
