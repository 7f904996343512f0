"""The bytes of one file, by where they are: small, and read by whichever process."""

from typing import NamedTuple, Protocol

from . import files


class Source(Protocol):
  """The bytes of one file."""

  @property
  def size(self) -> int:
    """Bytes that it takes where it lies, without the compression of what it lies in."""

  def read(self) -> bytes:
    """Raises OSError where it cannot be read, BadImageError where its archive says it broke."""


class Content(NamedTuple):
  """Bytes in memory."""

  content: bytes

  @property
  def size(self) -> int:
    return len(self.content)

  def read(self) -> bytes:
    return self.content


class Slice(NamedTuple):
  """Bytes within a file: a member of a tar."""

  path: str
  offset: int
  size: int

  def read(self) -> bytes:
    return files.read_at(self.path, self.offset, self.size)
