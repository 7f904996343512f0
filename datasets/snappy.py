"""Snappy's compressed data, of which a part is read without what lies before it.

The format (google/snappy, `format_description.txt`) is the size of all, and then elements: bytes
as they are, or copies of earlier ones. Its compressor begins anew at every 64 KiB of its input: no
element crosses such a border and none copies over it, so that reading can begin there too. The
format does not promise that; `Index` looks whether it is so. Of a JPEG nothing can be copied: the
elements of one of 100 kB are three, and looking at them touches a few bytes of the file.
"""

import bisect
import mmap
from typing import NamedTuple

from . import files, varints
from .images import BadImageError

BLOCK = 1 << 16  # bytes without compression
_LITERAL = 0  # kinds of elements; copies have their offset in 1, 2 or 4 bytes
_COPY_BYTES = (0, 1, 2, 4)
_PER_ELEMENT = 512  # bytes at least, on average: of smaller ones Python would be slower than a disk

Bytes = bytes | mmap.mmap | memoryview


class SnappySlice(NamedTuple):
  """Bytes within a file that are compressed with others before them.

  Attributes:
    path: of the file.
    place: `offset`, `packed_size` and `skipped` in one number, since there may be millions.
    size: of the bytes, without compression.
  """

  path: str
  place: int
  size: int

  @classmethod
  def at(cls, path: str, offset: int, packed_size: int, skipped: int, size: int) -> 'SnappySlice':
    """By the elements from a border on, and the bytes of others that these begin with."""
    return cls(path, offset << 48 | packed_size << 16 | skipped, size)

  @property
  def offset(self) -> int:
    """Where the elements from the border on begin."""
    return self.place >> 48

  @property
  def packed_size(self) -> int:
    """Bytes of elements, up to that in which the bytes end."""
    return self.place >> 16 & 0xFFFFFFFF

  @property
  def skipped(self) -> int:
    """Bytes of others that these elements begin with."""
    return self.place & 0xFFFF

  def read(self) -> bytes:
    packed = files.read_at(self.path, self.offset, self.packed_size)
    try:
      content = decode(packed, self.skipped + self.size)
    except (ValueError, IndexError) as error:
      raise BadImageError(f'is damaged in {self.path}: {error}') from error
    return bytes(memoryview(content)[self.skipped :])


class Index:
  """Where the elements of compressed data lie."""

  def __init__(self, path: str, data: Bytes, start: int, end: int, size: int) -> None:
    """Looks at all elements, and not at the bytes in them.

    Args:
      path: of the file.
      data: its bytes, which hold the compressed data.
      start, end: where they lie in it.
      size: of them without compression.

    Raises:
      ValueError: they are damaged, or reading cannot begin at each border; or copies are so many
        that it takes long.
    """
    self._path, self._data, self._size = path, data, size
    self._outs: list[int] = []  # where the bytes of each element begin, without compression
    self._ins: list[int] = []  # where they lie in `data`; for copies, where the element ends
    self._literals: list[bool] = []
    self._borders: list[int] = []  # where the element after each border begins in `data`
    stated, position = varints.read(data, start)
    if stated != size:
      raise ValueError(f'{stated} bytes are compressed, not {size}')
    most = size // _PER_ELEMENT + BLOCK // _PER_ELEMENT
    out = 0
    while position < end:
      if not out % BLOCK:
        self._borders.append(position)
      is_literal, length, distance, position = _element(data, position)
      is_within = is_literal or 0 < distance <= out % BLOCK
      if not is_within or out % BLOCK + length > BLOCK:
        raise ValueError('an element crosses a border')
      if len(self._outs) > most:
        raise ValueError('too many elements')
      self._outs.append(out)
      self._ins.append(position)
      self._literals.append(is_literal)
      position += length * is_literal
      out += length
    if position != end or out != size:
      raise ValueError(f'{out} bytes are compressed, not {size}')
    self._outs.append(size)

  def place(self, start: int, size: int) -> SnappySlice:
    """Bytes by where they lie without compression."""
    if not size:
      return SnappySlice(self._path, 0, 0)
    last = self._element_of(start + size - 1)
    end = self._ins[last]
    if self._literals[last]:
      end += start + size - self._outs[last]
    border = start // BLOCK
    first = self._borders[border]
    return SnappySlice.at(self._path, first, end - first, start - border * BLOCK, size)

  def read(self, start: int, end: int) -> bytes:
    """Some bytes themselves."""
    first = self._element_of(start)
    if self._literals[first] and end <= self._outs[first + 1]:
      offset = self._ins[first] - self._outs[first]
      return bytes(self._data[offset + start : offset + end])
    part = self.place(start, end - start)
    packed = self._data[part.offset : part.offset + part.packed_size]
    return bytes(memoryview(decode(packed, part.skipped + part.size))[part.skipped :])

  def _element_of(self, out: int) -> int:
    if not 0 <= out < self._size:
      raise ValueError(f'no byte {out}, of {self._size}')
    return bisect.bisect_right(self._outs, out) - 1


def decode(packed: Bytes, size: int) -> bytearray:
  """The first bytes that elements stand for.

  Args:
    packed: elements, the last of which may be cut short.
    size: how many bytes.

  Raises:
    ValueError, IndexError: they are damaged.
  """
  content, position, out = bytearray(size), 0, 0
  packed = memoryview(packed)
  while out < size:
    is_literal, length, distance, position = _element(packed, position)
    length = min(length, size - out)
    if is_literal:
      content[out : out + length] = packed[position : position + length]
      position += length
    elif not 0 < distance <= out:
      raise ValueError('a copy of bytes that lie before the first')
    else:
      pattern = content[out - distance : out][:length]
      content[out : out + length] = (pattern * -(-length // len(pattern)))[:length]
    out += length
  if len(content) != size:
    raise ValueError('they end too early')
  return content


def _element(data: Bytes, position: int) -> tuple[bool, int, int, int]:
  """Whether an element holds its bytes, how many they are, how far behind, and where they begin."""
  tag = data[position]
  kind, length = tag & 3, (tag >> 2) + 1
  position += 1
  if kind == _LITERAL:
    if length > 60:
      end = position + length - 60
      length, position = int.from_bytes(data[position:end], 'little') + 1, end
    return True, length, 0, position
  if kind == 1:
    return False, 4 + (tag >> 2 & 7), tag >> 5 << 8 | data[position], position + 1
  end = position + _COPY_BYTES[kind]
  return False, length, int.from_bytes(data[position:end], 'little'), end
