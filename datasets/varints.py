"""Numbers in seven bits a byte, as protobuf, Thrift and Snappy have them."""

import mmap


def read(data: bytes | mmap.mmap | memoryview, position: int) -> tuple[int, int]:
  """The number that begins at `position`, and where it ends.

  Raises:
    IndexError: the data ends within it.
  """
  value = shift = 0
  while True:
    byte = data[position]
    value |= (byte & 0x7F) << shift
    position, shift = position + 1, shift + 7
    if byte < 0x80:
      return value, position
