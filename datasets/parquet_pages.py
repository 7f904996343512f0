"""Where the values of a parquet column lie in its file, and its pages without compression.

Hugging Face's `datasets` (5.2) writes columns of images without compression and without a
dictionary, so that an image is one piece of the file and can be read in place. Compressed pages are
written out whole, which saves the copies of pyarrow's arrays. The format: Apache Parquet's
`parquet.thrift`, whose headers of pages are in Thrift's compact protocol.
"""

import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
_PLAIN = 0
# Fields of PageHeader.
_TYPE, _SIZE, _COMPRESSED_SIZE, _V1, _V2 = 1, 2, 3, 5, 8
_LENGTH = struct.Struct('<I')
_CODECS = {'GZIP': 'gzip', 'SNAPPY': 'snappy', 'ZSTD': 'zstd'}  # to pyarrow's names
_STORED = 'UNCOMPRESSED'

_Bytes = mmap.mmap | memoryview
Places = list[tuple[int, int]]  # offset and size of each value


class _Page(NamedTuple):
  """A page of values.

  Attributes:
    start, end: where it lies, without its header and without levels that stand before it.
    size: of it without compression.
    num_values: that it has.
    has_levels: levels are in it before the values: they say which are missing, and none are.
    is_stored: it is not compressed, whatever its column is.
  """

  start: int
  end: int
  size: int
  num_values: int
  has_levels: bool
  is_stored: bool = False


def find(path: str, metadata: Any, column: int) -> Places | None:
  """Offset and size of every value of a column of bytes, in the order of the rows.

  None where values are compressed, from a dictionary, missing in a row or in lists.

  Args:
    path: of the file.
    metadata: its `pyarrow.parquet.FileMetaData`.
    column: index among the leaves of the schema.

  Raises:
    ValueError: the pages are not what the metadata says.
    OSError: the file cannot be read.
  """
  if not _is_plain(metadata, column, {_STORED}):
    return None
  with open(path, 'rb') as file:
    if not metadata.num_row_groups:
      return []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:

      def of_page(page: _Page) -> Places:
        start = page.start
        if page.has_levels:
          start += _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
        return _values(data, start, page.end, page.num_values)

      return _collect(data, metadata, column, of_page)


def unpack(path: str, metadata: Any, column: int, file: BinaryIO) -> Places | None:
  """Writes the pages of a column without their compression; where each value lies then.

  None, whatever was written, where values are not compressed so, from a dictionary, missing in a
  row or in lists.

  Args:
    path, metadata, column: see `find`.
    file: what they are written to, from its beginning.

  Raises:
    ValueError: the pages are not what the metadata says.
    OSError: a file cannot be read or written.
  """
  import pyarrow

  if not _is_plain(metadata, column, _CODECS):
    return None
  position = 0
  with pyarrow.memory_map(path) as mapped:
    buffer = mapped.read_buffer()

    def of_page(page: _Page) -> Places:
      nonlocal position
      packed = buffer.slice(page.start, page.end - page.start)
      if not page.is_stored:
        packed = codec.decompress(packed, decompressed_size=page.size)
      content = memoryview(packed)
      start = _LENGTH.size + _LENGTH.unpack_from(content)[0] if page.has_levels else 0
      places = _values(content, start, page.size, page.num_values)
      first, position = position, position + file.write(content)
      return [(first + offset, size) for offset, size in places]

    codec = pyarrow.Codec(_CODECS[metadata.row_group(0).column(column).compression])
    return _collect(memoryview(buffer).cast('B'), metadata, column, of_page)


def _collect(
  data: _Bytes, metadata: Any, column: int, of_page: Callable[[_Page], Places]
) -> Places | None:
  """The values of all pages; None where one has another encoding."""
  values: Places = []
  has_levels = metadata.schema.column(column).max_definition_level > 0
  for number in range(metadata.num_row_groups):
    group, count = metadata.row_group(number).column(column), len(values)
    for page in _pages(data, group, has_levels):
      if page is None:
        return None
      values += of_page(page)
    if len(values) - count != group.num_values:
      raise ValueError(f'{len(values) - count} values, not {group.num_values}')
  return values


def _is_plain(metadata: Any, column: int, compressions: Collection[str]) -> bool:
  """Whether all values of a column are there, one after the other, compressed in one such way."""
  groups = [metadata.row_group(i).column(column) for i in range(metadata.num_row_groups)]
  used = {group.compression for group in groups}
  is_flat = not metadata.schema.column(column).max_repetition_level
  return is_flat and all(map(_is_whole, groups)) and len(used) < 2 and used <= set(compressions)


def _is_whole(group: Any) -> bool:
  statistics = group.statistics
  has_all = statistics is not None and statistics.has_null_count and statistics.null_count == 0
  encodings = set(group.encodings) <= {'PLAIN', 'RLE', 'BIT_PACKED'}
  return encodings and not group.has_dictionary_page and has_all and not group.file_path


def _pages(data: _Bytes, group: Any, has_levels: bool) -> Iterator[_Page | None]:
  position, end = group.data_page_offset, group.data_page_offset + group.total_compressed_size
  if not 0 <= position <= end <= len(data):
    raise ValueError('a column lies outside the file')
  while position < end:
    page = _read_page(data, position, has_levels)
    if page and (page.end > end or not 0 <= page.size <= group.total_uncompressed_size):
      raise ValueError(f'the page at byte {position} runs past its column')
    yield page
    position = page.end if page else end


def _read_page(data: _Bytes, position: int, has_levels: bool) -> _Page | None:
  """The page whose header is at `position`; None: its values are not as they are."""
  try:
    header, start = _struct(data, position)
    end, size = start + header[_COMPRESSED_SIZE], header[_SIZE]
    if header[_TYPE] == _DATA_PAGE:
      page = _Page(start, end, size, header[_V1][1], has_levels)
      return page if header[_V1][2] == _PLAIN else None
    if header[_TYPE] != _DATA_PAGE_V2:
      return None
    of_page = header[_V2]
    levels, is_stored = of_page[5] + of_page[6], not of_page.get(7, True)
    page = _Page(start + levels, end, size - levels, of_page[1], False, is_stored)
    return page if of_page[4] == _PLAIN else None
  except (IndexError, KeyError, TypeError, RecursionError, struct.error) as error:
    raise ValueError(f'no page at byte {position}: {error!r}') from error


def _values(data: _Bytes, position: int, end: int, count: int) -> Places:
  values, first = [], position
  for _ in range(count):
    if position + _LENGTH.size > end:
      break
    (size,) = _LENGTH.unpack_from(data, position)
    position += _LENGTH.size
    values.append((position, size))
    position += size
  if position != end or len(values) != count:
    raise ValueError(f'the values from byte {first} do not fill their page')
  return values


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
    length, position = _unsigned(data, position)
    return None, position + length
  if kind in (_LIST, _SET):
    count, of_list = data[position] >> 4, data[position] & 0xF
    position += 1
    if count == 15:
      count, position = _unsigned(data, position)
    for _ in range(count):
      _, position = _value(data, position, of_list)
    return None, position
  sizes = {_BYTE: 1, _TRUE: 1, _FALSE: 1, _DOUBLE: 8}
  return None, position + sizes[kind]


def _unsigned(data: _Bytes, position: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[position]
    value |= (byte & 0x7F) << shift
    position, shift = position + 1, shift + 7
    if byte < 0x80:
      return value, position


def _signed(data: _Bytes, position: int) -> tuple[int, int]:
  value, position = _unsigned(data, position)
  return value >> 1 ^ -(value & 1), position
