"""Where the values of a parquet column lie in its file, and its pages without compression.

Hugging Face's `datasets` (5.2) writes columns of images without compression and without a
dictionary, so that an image is one piece of the file and can be read in place. What it wrote before
is compressed with Snappy, of which parts can be read too (see `snappy`), and its images are in the
dictionaries of their row groups. Pages compressed otherwise are written out whole, which saves the
copies of pyarrow's arrays. The format: Apache Parquet's `parquet.thrift`, whose headers of pages
are in Thrift's compact protocol, and `Encodings.md`.
"""

import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from . import snappy, varints
from .source import Slice, Source

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _OF_DICTIONARY = 0, (2, 8)  # encodings; the second has an older name too
_ENCODINGS = {'PLAIN', 'RLE', 'BIT_PACKED', 'PLAIN_DICTIONARY', 'RLE_DICTIONARY'}
# Fields of PageHeader.
_TYPE, _SIZE, _COMPRESSED_SIZE, _V1, _DICTIONARY, _V2 = 1, 2, 3, 5, 7, 8
_LENGTH = struct.Struct('<I')
_CODECS = {'GZIP': 'gzip', 'SNAPPY': 'snappy', 'ZSTD': 'zstd'}  # to pyarrow's names
_STORED, _SNAPPY = 'UNCOMPRESSED', 'SNAPPY'

_Bytes = mmap.mmap | memoryview
Places = list[tuple[int, int]]  # offset and size of each value


class _Page(NamedTuple):
  """A page of values, or of numbers of values in a dictionary.

  Attributes:
    start, end: where it lies, without its header and without levels that stand before it.
    size: of it without compression.
    num_values: that it has.
    encoding: of these.
    has_levels: levels are in it before the values: they say which are missing, and none are.
    is_dictionary: it has values that other pages name by their numbers.
    is_stored: it is not compressed, whatever its column is.
  """

  start: int
  end: int
  size: int
  num_values: int
  encoding: int
  has_levels: bool = False
  is_dictionary: bool = False
  is_stored: bool = False


class _Content(Protocol):
  """What is in a page, without its compression."""

  def read(self, start: int, end: int) -> bytes | memoryview:
    """Some bytes of it."""

  def place(self, start: int, size: int) -> Any:
    """Where a value is that these bytes are."""


class _Stored(NamedTuple):
  """A page that is in its file as it is, from `first` on."""

  path: str
  data: _Bytes
  first: int

  def read(self, start: int, end: int) -> bytes | memoryview:
    return self.data[self.first + start : self.first + end]

  def place(self, start: int, size: int) -> Slice:
    return Slice(self.path, self.first + start, size)


class _WrittenOut(NamedTuple):
  """A page that lies in another file from `first` on."""

  content: memoryview
  first: int

  def read(self, start: int, end: int) -> memoryview:
    return self.content[start:end]

  def place(self, start: int, size: int) -> tuple[int, int]:
    return self.first + start, size


def find(path: str, metadata: Any, column: int) -> list[Source] | None:
  """The values of a column of bytes where they lie, in the order of the rows.

  None where values are missing in a row, in lists, or compressed so that a part cannot be read.

  Args:
    path: of the file.
    metadata: its `pyarrow.parquet.FileMetaData`.
    column: index among the leaves of the schema.

  Raises:
    ValueError: the pages are not what the metadata says.
    OSError: the file cannot be read.
  """
  compression = _compression(metadata, column, {_STORED, _SNAPPY})
  if compression is None:
    return None
  with open(path, 'rb') as file:
    if not metadata.num_row_groups:
      return []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:

      def content_of(page: _Page) -> _Content | None:
        if compression == _STORED or page.is_stored:
          return _Stored(path, data, page.start)
        try:
          return snappy.Index(path, data, page.start, page.end, page.size)
        except (ValueError, IndexError):  # `unpack` says whether it is damaged
          return None

      return _collect(data, metadata, column, content_of)


def unpack(path: str, metadata: Any, column: int, file: BinaryIO) -> Places | None:
  """Writes the pages of a column without their compression; where each value lies then.

  None, whatever was written, where values are not compressed so, missing in a row or in lists.

  Args:
    path, metadata, column: see `find`.
    file: what they are written to, from its beginning.

  Raises:
    ValueError: the pages are not what the metadata says.
    OSError: a file cannot be read or written.
  """
  import pyarrow

  compression = _compression(metadata, column, _CODECS)
  if compression is None:
    return None
  position = 0
  with pyarrow.memory_map(path) as mapped:
    buffer, codec = mapped.read_buffer(), pyarrow.Codec(_CODECS[compression])

    def content_of(page: _Page) -> _WrittenOut:
      nonlocal position
      packed = buffer.slice(page.start, page.end - page.start)
      if not page.is_stored:
        packed = codec.decompress(packed, decompressed_size=page.size)
      content = _WrittenOut(memoryview(packed), position)
      position += file.write(content.content)
      return content

    return _collect(memoryview(buffer).cast('B'), metadata, column, content_of)


def _collect(
  data: _Bytes, metadata: Any, column: int, content_of: Callable[[_Page], _Content | None]
) -> list[Any] | None:
  """The values of all pages; None where one has another encoding or no content."""
  values: list[Any] = []
  has_levels = metadata.schema.column(column).max_definition_level > 0
  for number in range(metadata.num_row_groups):
    group, count = metadata.row_group(number).column(column), len(values)
    dictionary: list[Any] = []
    for page in _pages(data, group, has_levels):
      content = page and content_of(page)
      if page is None or content is None:
        return None
      of_page = _values_of(page, content, dictionary)
      if page.is_dictionary:
        dictionary = of_page
      else:
        values += of_page
    if len(values) - count != group.num_values:
      raise ValueError(f'{len(values) - count} values, not {group.num_values}')
  return values


def _compression(metadata: Any, column: int, valid: Collection[str]) -> str | None:
  """How a column is compressed; None: not in one of these ways, or values may be missing."""
  groups = [metadata.row_group(i).column(column) for i in range(metadata.num_row_groups)]
  used = {group.compression for group in groups} or {_STORED}
  is_flat = not metadata.schema.column(column).max_repetition_level
  is_one = is_flat and all(map(_is_whole, groups)) and len(used) == 1 and used <= set(valid)
  return used.pop() if is_one else None


def _is_whole(group: Any) -> bool:
  statistics = group.statistics
  has_all = statistics is not None and statistics.has_null_count and statistics.null_count == 0
  return set(group.encodings) <= _ENCODINGS and has_all and not group.file_path


def _pages(data: _Bytes, group: Any, has_levels: bool) -> Iterator[_Page | None]:
  position = group.data_page_offset
  if group.has_dictionary_page and group.dictionary_page_offset:
    position = min(position, group.dictionary_page_offset)
  end = position + group.total_compressed_size
  if not 0 <= position <= end <= len(data):
    raise ValueError('a column lies outside the file')
  while position < end:
    page = _read_page(data, position, has_levels)
    is_within = page is None or page.start <= page.end <= end
    if not is_within or (page and not 0 <= page.size <= group.total_uncompressed_size):
      raise ValueError(f'the page at byte {position} runs past its column')
    yield page
    position = page.end if page else end


def _read_page(data: _Bytes, position: int, has_levels: bool) -> _Page | None:
  """The page whose header is at `position`; None: its values are encoded in another way."""
  try:
    header, start = _struct(data, position)
    end, size = start + header[_COMPRESSED_SIZE], header[_SIZE]
    if header[_TYPE] == _DATA_PAGE:
      page = _Page(start, end, size, header[_V1][1], header[_V1][2], has_levels)
    elif header[_TYPE] == _DICTIONARY_PAGE:  # whose encoding is plain, whatever it is called
      page = _Page(start, end, size, header[_DICTIONARY][1], _PLAIN, is_dictionary=True)
    elif header[_TYPE] == _DATA_PAGE_V2:
      of_page = header[_V2]
      levels, is_stored = of_page[5] + of_page[6], not of_page.get(7, True)
      page = _Page(start + levels, end, size - levels, of_page[1], of_page[4], is_stored=is_stored)
    else:
      return None
    return page if page.encoding in (_PLAIN, *_OF_DICTIONARY) else None
  except (IndexError, KeyError, TypeError, RecursionError, struct.error) as error:
    raise ValueError(f'no page at byte {position}: {error!r}') from error


def _values_of(page: _Page, content: _Content, dictionary: list[Any]) -> list[Any]:
  """Where the values of a page are."""
  try:
    start = 0
    if page.has_levels:
      start = _LENGTH.size + _LENGTH.unpack(content.read(0, _LENGTH.size))[0]
    if page.encoding == _PLAIN:
      return _plain_values(content, start, page.size, page.num_values)
    numbers = _numbers(content.read(start, page.size), page.num_values)
    return [dictionary[number] for number in numbers]
  except (IndexError, struct.error) as error:
    raise ValueError(f'the page at byte {page.start} is damaged: {error}') from error


def _plain_values(content: _Content, start: int, end: int, count: int) -> list[Any]:
  values, position = [], start
  for _ in range(count):
    first = position + _LENGTH.size
    if first > end:
      break
    (size,) = _LENGTH.unpack(content.read(position, first))
    position = first + size
    if position > end:
      break
    values.append(content.place(first, size))
  if position != end or len(values) != count:
    raise ValueError(f'the values from byte {start} of a page do not fill it')
  return values


def _numbers(packed: bytes | memoryview, count: int) -> list[int]:
  """Numbers below 2 ** width: runs of one number, and groups of eight in `width` bytes."""
  width, position = packed[0], 1
  numbers: list[int] = []
  while len(numbers) < count:
    header, position = varints.read(packed, position)
    is_grouped, length = header & 1, header >> 1
    for _ in range(length if is_grouped else min(length, 1)):
      end = position + (width if is_grouped else -(-width // 8))
      if end > len(packed):
        raise IndexError('its numbers are cut short')
      value = int.from_bytes(packed[position:end], 'little')
      if is_grouped:
        numbers += [value >> width * place & (1 << width) - 1 for place in range(8)]
      else:
        numbers += [value] * min(length, count - len(numbers))
      position = end
  return numbers[:count]


# Thrift's compact protocol

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTS = 4, 5, 6


def _struct(data: _Bytes, position: int) -> tuple[dict[int, Any], int]:
  """Fields by their numbers, and where the next thing begins; texts and lists are passed over."""
  fields: dict[int, Any] = {}
  number = 0
  while kind_byte := data[position]:
    position += 1
    delta, kind = kind_byte >> 4, kind_byte & 0xF
    if delta:
      number += delta
    else:
      number, position = _signed(data, position)
    if kind in (_TRUE, _FALSE):
      fields[number] = kind == _TRUE
    else:
      fields[number], position = _value(data, position, kind)
  return fields, position + 1


def _value(data: _Bytes, position: int, kind: int) -> tuple[Any, int]:
  if kind in _INTS:
    return _signed(data, position)
  if kind == _STRUCT:
    return _struct(data, position)
  if kind == _BINARY:
    length, position = varints.read(data, position)
    return None, position + length
  if kind in (_LIST, _SET):
    count, of_list = data[position] >> 4, data[position] & 0xF
    position += 1
    if count == 15:
      count, position = varints.read(data, position)
    for _ in range(count):
      _, position = _value(data, position, of_list)
    return None, position
  sizes = {_BYTE: 1, _TRUE: 1, _FALSE: 1, _DOUBLE: 8}
  return None, position + sizes[kind]


def _signed(data: _Bytes, position: int) -> tuple[int, int]:
  value, position = varints.read(data, position)
  return value >> 1 ^ -(value & 1), position
