"""Where the values of a parquet column lie in its file, if they lie there as they are.

Hugging Face's `datasets` (5.2) writes columns of images without compression and without a
dictionary, so that an image is one piece of the file and can be read in place. The format: Apache
Parquet's `parquet.thrift`, whose headers of pages are in Thrift's compact protocol.
"""

import mmap
import struct
from typing import Any, NamedTuple

_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
_PLAIN = 0
# Fields of PageHeader.
_TYPE, _COMPRESSED_SIZE, _V1, _V2 = 1, 3, 5, 8
_LENGTH = struct.Struct('<I')


class _Page(NamedTuple):
  """The values of a page, without the levels before them."""

  start: int
  end: int
  num_values: int


def find(path: str, metadata: Any, column: int) -> list[tuple[int, int]] | None:
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
  groups = [metadata.row_group(i).column(column) for i in range(metadata.num_row_groups)]
  leaf = metadata.schema.column(column)
  if leaf.max_repetition_level or not all(map(_is_in_place, groups)):
    return None
  values: list[tuple[int, int]] = []
  with open(path, 'rb') as file:
    if not groups:
      return values
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
      for group in groups:
        count = len(values)
        position, end = group.data_page_offset, group.data_page_offset + group.total_compressed_size
        if not 0 <= position <= end <= len(data):
          raise ValueError('a column lies outside the file')
        while position < end:
          page = _read_page(data, position, leaf.max_definition_level > 0)
          if page is None:
            return None
          if page.end > end:
            raise ValueError(f'the page at byte {position} runs past its column')
          values += _values(data, page)
          position = page.end
        if len(values) - count != group.num_values:
          raise ValueError(f'{len(values) - count} values, not {group.num_values}')
  return values


def _is_in_place(group: Any) -> bool:
  statistics = group.statistics
  has_all = statistics is not None and statistics.has_null_count and statistics.null_count == 0
  encodings = set(group.encodings) <= {'PLAIN', 'RLE', 'BIT_PACKED'}
  is_plain = encodings and not group.has_dictionary_page
  return is_plain and has_all and group.compression == 'UNCOMPRESSED' and not group.file_path


def _read_page(data: mmap.mmap, position: int, has_levels: bool) -> _Page | None:
  """The page whose header is at `position`; None: its values are not as they are."""
  try:
    header, start = _struct(data, position)
    end = start + header[_COMPRESSED_SIZE]
    if header[_TYPE] == _DATA_PAGE:
      count, encoding = header[_V1][1], header[_V1][2]
      # Levels say which values are missing: none are.
      start += _LENGTH.size + _LENGTH.unpack_from(data, start)[0] if has_levels else 0
    elif header[_TYPE] == _DATA_PAGE_V2:
      count, encoding = header[_V2][1], header[_V2][4]
      start += header[_V2][5] + header[_V2][6]
    else:
      return None
  except (IndexError, KeyError, TypeError, RecursionError, struct.error) as error:
    raise ValueError(f'no page at byte {position}: {error!r}') from error
  return _Page(start, end, count) if encoding == _PLAIN else None


def _values(data: mmap.mmap, page: _Page) -> list[tuple[int, int]]:
  values, position = [], page.start
  for _ in range(page.num_values):
    if position + _LENGTH.size > page.end:
      break
    (size,) = _LENGTH.unpack_from(data, position)
    position += _LENGTH.size
    values.append((position, size))
    position += size
  if position != page.end or len(values) != page.num_values:
    raise ValueError(f'the values from byte {page.start} do not fill their page')
  return values


# Thrift's compact protocol

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTS = 4, 5, 6


def _struct(data: mmap.mmap, position: int) -> tuple[dict[int, Any], int]:
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


def _value(data: mmap.mmap, position: int, kind: int) -> tuple[Any, int]:
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


def _unsigned(data: mmap.mmap, position: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[position]
    value |= (byte & 0x7F) << shift
    position, shift = position + 1, shift + 7
    if byte < 0x80:
      return value, position


def _signed(data: mmap.mmap, position: int) -> tuple[int, int]:
  value, position = _unsigned(data, position)
  return value >> 1 ^ -(value & 1), position
