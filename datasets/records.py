"""Records: one labelled image as a tf.train.Example, under TF-Slim's keys.

Writing and looking into records needs no TensorFlow: the processes of a conversion start in a
tenth of a second, and the bytes do not depend on the version of a protobuf library.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import varints

if TYPE_CHECKING:
  import tensorflow as tf

BOX_SIDES = ('ymin', 'xmin', 'ymax', 'xmax')


@dataclasses.dataclass(frozen=True)
class Schema:
  """Under which keys a set of records keeps what is read of it."""

  encoded: str = 'image/encoded'
  label: str = 'image/class/label'
  filename: str = 'image/filename'
  boxes: str = 'image/object/bbox/'  # prefix of the keys of the four sides
  label_offset: int = 0  # added to the stored label


SLIM = Schema()


class NoExampleError(ValueError):
  """Bytes are not those of a tf.train.Example."""


def encode_example(
  encoded: bytes,
  *,
  label: int | tuple[int, ...],
  image_format: str,
  height: int,
  width: int,
  colorspace: str = 'RGB',
  channels: int = 3,
  text: str | tuple[str, ...] | None = None,
  synset: str | tuple[str, ...] | None = None,
  filename: str | None = None,
  boxes: Sequence[Sequence[float]] = (),
) -> list[bytes]:
  """Serializes one labelled image under slim's keys; what a data set has not is left out.

  Returns the parts of the message, to be written one after the other: the image is one of them,
  and joining them would copy it.

  Args:
    encoded: the file of the image.
    label: class number, background included where the data set has one. Where images may have
      several it is a tuple, as then are text and synset; if it is empty, the key is left out.
    image_format: 'JPEG' or 'PNG'.
    height, width: in pixels.
    colorspace, channels: of the encoded image ('RGB' 3, 'Grayscale' 1, ...).
    text: name of the class.
    synset: WordNet id of the class.
    filename: what reports and lists call the image.
    boxes: [ymin, xmin, ymax, xmax] each, relative to the image, in [0, 1].
  """
  before = _features(
    ('image/channels', channels),
    ('image/class/label', label),
    ('image/class/synset', synset),
    ('image/class/text', text),
    ('image/colorspace', colorspace),
  )
  head = _bytes_head('image/encoded', len(encoded))
  name = b''
  if filename is not None:
    name = filename.encode()
    name = _bytes_head('image/filename', len(name)) + name
  after = _features(
    ('image/format', image_format),
    ('image/height', height),
    *(_boxes(boxes, label) if boxes and isinstance(label, int) else ()),
    ('image/width', width),
  )
  first, last = before + head, name + after  # keys are sorted throughout
  return [_field(1, first, len(encoded) + len(last)), encoded, last]


def _boxes(boxes: Sequence[Sequence[float]], label: int) -> Iterator[tuple[str, tuple]]:
  yield SLIM.boxes + 'label', (label,) * len(boxes)
  for i, side in enumerate(BOX_SIDES):
    yield SLIM.boxes + side, tuple(float(box[i]) for box in boxes)


def parse_example(
  serialized: tf.Tensor, schema: Schema = SLIM, multi_label: bool = False
) -> dict[str, tf.Tensor]:
  """Reads one record, of ours, of slim's or of another schema, in a graph or eagerly.

  Args:
    serialized: string scalar.
    schema: the keys.
    multi_label: take any number of labels; otherwise a record has one.

  Returns:
    encoded: string scalar, the file of the image.
    label: int64 scalar, or [num_labels] with `multi_label`.
    bbox: [num_boxes, 4] float32, ymin, xmin, ymax, xmax in [0, 1]; boxes without area are left
      out, because TensorFlow's box sampler refuses them.
    filename: string scalar, '' where the record has none.
  """
  import tensorflow as tf  # not above: see the docstring of this module

  label = tf.io.FixedLenFeature([], tf.int64)
  if multi_label:
    label = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
  sides = [schema.boxes + side for side in BOX_SIDES]
  features = tf.io.parse_single_example(
    serialized,
    {
      schema.encoded: tf.io.FixedLenFeature([], tf.string),
      schema.label: label,
      schema.filename: tf.io.FixedLenFeature([], tf.string, default_value=''),
    }
    | {side: tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True) for side in sides},
  )
  bbox = tf.clip_by_value(tf.stack([features[side] for side in sides], axis=-1), 0.0, 1.0)
  has_area = tf.reduce_all(bbox[:, :2] < bbox[:, 2:], axis=-1)
  return {
    'encoded': features[schema.encoded],
    'label': features[schema.label] + schema.label_offset,
    'bbox': tf.boolean_mask(bbox, has_area),
    'filename': features[schema.filename],
  }


def parse_labels(
  serialized: tf.Tensor, schema: Schema = SLIM, multi_label: bool = False
) -> tf.Tensor | tf.RaggedTensor:
  """`label` of `parse_example` of [N] records, [N] or ragged [N, None]; images are not copied."""
  import tensorflow as tf

  feature = tf.io.RaggedFeature(tf.int64) if multi_label else tf.io.FixedLenFeature([], tf.int64)
  parsed = tf.io.parse_example(serialized, {schema.label: feature})
  return parsed[schema.label] + schema.label_offset


# The wire format: Example {1: Features}, Features {1: map of string to Feature}, Feature {1:
# BytesList, 2: FloatList, 3: Int64List}, each of these {1: values}.

_LENGTH_DELIMITED, _FIXED32, _VARINT = 2, 5, 0
_BYTES, _FLOATS, _INTS = 1, 2, 3
_TAGS = {number: bytes((number << 3 | _LENGTH_DELIMITED,)) for number in (1, 2, 3)}


@functools.lru_cache(4096)  # classes come again and again, and so do most sizes
def _features(*features: tuple[str, Any]) -> bytes:
  """`encode_features` of values and tuples of values; those that are None are left out."""
  return encode_features(
    {
      key: values if isinstance(values, tuple) else (values,)
      for key, values in features
      if values not in (None, ())
    }
  )


def encode_features(features: Mapping[str, Sequence[Any]]) -> bytes:
  """Serializes tf.train.Features, keys sorted: the same features give the same bytes, always.

  The values of a key, at least one, are all bytes (or text), ints or floats.

  What is joined from several of these is one again: the message is a list of its entries.
  """
  return b''.join(_entry(key, values) for key, values in sorted(features.items()))


def _entry(key: str, values: Sequence[Any]) -> bytes:
  if isinstance(values[0], float):
    content = _field(_FLOATS, _field(1, struct.pack(f'<{len(values)}f', *values)))
  elif isinstance(values[0], int):
    content = _field(_INTS, _field(1, b''.join(map(_varint, values))))
  else:
    items = (value.encode() if isinstance(value, str) else value for value in values)
    content = _field(_BYTES, b''.join(_field(1, item) for item in items))
  return _field(1, _field(1, key.encode()) + _field(2, content))


def _bytes_head(key: str, length: int) -> bytes:
  """What an entry of one value of `length` bytes has before these: joining copies an image."""
  value = _field(2, _field(_BYTES, _field(1, b'', length), length), length)
  return _field(1, _field(1, key.encode()) + value, length)


def _field(number: int, content: bytes, rest: int = 0) -> bytes:
  """A length-delimited field of `content` and `rest` more bytes, which the caller puts after it."""
  return _TAGS[number] + _varint(len(content) + rest) + content


def _varint(value: int) -> bytes:
  if 0 <= value < 0x80:
    return bytes((value,))
  if 0x4000 <= value < 0x200000:  # most images
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
  value &= (1 << 64) - 1  # two's complement
  encoded = bytearray()
  while value > 0x7F:
    encoded.append(value & 0x7F | 0x80)
    value >>= 7
  encoded.append(value)
  return bytes(encoded)


def decode_features(
  serialized: bytes | memoryview,
  keys: Collection[str] | None = None,
  located: Collection[str] = (),
) -> dict[str, list[Any]]:
  """Reads an Example: {key: values}, bytes, floats or ints.

  Args:
    serialized: the Example.
    keys: those to read; by default all.
    located: keys whose bytes are not read: offset and size of each in `serialized` instead.

  Raises:
    NoExampleError: these bytes are none.
  """
  features = {}
  try:
    for _, whole, of_whole in _fields(serialized):
      for _, entry, of_entry in _fields(whole):
        parts = {number: (value, start) for number, value, start in _fields(entry)}
        key = str(parts[1][0], 'utf-8')
        if keys is None or key in keys:
          feature, start = parts.get(2, (b'', 0))
          start += of_whole + of_entry
          features[key] = _places(feature, start) if key in located else _values(feature)
  except (KeyError, IndexError, TypeError, UnicodeDecodeError, struct.error) as error:
    raise NoExampleError(f'no tf.train.Example: {error!r}') from error
  return features


def _places(feature: memoryview, start: int) -> list[tuple[int, int]]:
  """Offset and size of each value of a feature of bytes that begins at `start`."""
  return [
    (start + of_content + of_value, len(value))
    for kind, content, of_content in _fields(feature)
    if kind == _BYTES
    for _, value, of_value in _fields(content)
  ]


def _values(feature: memoryview) -> list[Any]:
  values: list[Any] = []
  for kind, content, _ in _fields(feature):
    for _, value, _ in _fields(content):
      if kind == _BYTES:
        values.append(bytes(value))
      elif kind == _FLOATS:
        values += struct.unpack(f'<{len(value) // 4}f', value)
      elif isinstance(value, int):  # protobuf reads numbers packed and one by one
        values.append(_signed(value))
      else:
        position = 0
        while position < len(value):
          number, position = varints.read(value, position)
          values.append(_signed(number))
  return values


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, Any, int]]:
  """Yields number, value and offset of each field; the value is an int, or a view of the bytes."""
  message = memoryview(message)
  position = 0
  while position < len(message):
    tag, position = varints.read(message, position)
    number, kind = tag >> 3, tag & 7
    if kind == _VARINT:
      value, position = varints.read(message, position)
      yield number, value, position
      continue
    if kind == _LENGTH_DELIMITED:
      length, position = varints.read(message, position)
    elif kind == _FIXED32:
      length = 4
    else:
      raise IndexError(f'wire type {kind}')
    if position + length > len(message):
      raise IndexError('cut short')
    yield number, message[position : position + length], position
    position += length


def _signed(value: int) -> int:
  return value - (1 << 64) if value >> 63 else value
