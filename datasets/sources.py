"""Where images lie, and finding them: folders, tars, tars of tars, zips, parquet files.

`walk` lists all of these as one tree of paths, with a source for every file in it. Archives are
read in place: what is listed is where the bytes are, and nothing is unpacked to disk (parquet
files excepted, see `parquet.py`).
"""

import io
import operator
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from PIL import Image

from . import files, parquet
from .images import BadImageError

TAR, COMPRESSED_TAR, ZIP = ('.tar',), ('.tar.gz', '.tgz'), ('.zip',)
_TAR_MAGIC_OFFSET = 257
_NAME = operator.attrgetter('name')
ARCHIVES = TAR + COMPRESSED_TAR + ZIP + parquet.SUFFIXES


class Source(Protocol):
  """The bytes of one file."""

  size: int  # bytes that it takes where it lies

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


class File(NamedTuple):
  """A file in a folder; folder and name apart, since a million of them share few folders."""

  folder: str
  name: str
  size: int

  def read(self) -> bytes:
    return _read_at(f'{self.folder}/{self.name}', 0, self.size)


class Slice(NamedTuple):
  """Bytes within a file: a member of a tar."""

  path: str
  offset: int
  size: int

  def read(self) -> bytes:
    return _read_at(self.path, self.offset, self.size)


class ZipMember(NamedTuple):
  """A member of a zip, by the offset of its local header; `size` is that of its stored bytes."""

  path: str
  offset: int
  size: int
  crc: int
  method: int

  def read(self) -> bytes:
    # Names and extra fields before the data may differ from those in the directory.
    header = _read_at(self.path, self.offset, _LOCAL_BYTES)
    name_bytes, extra_bytes = struct.unpack_from('<HH', header, 26)
    start = self.offset + _LOCAL_BYTES + name_bytes + extra_bytes
    content = _read_at(self.path, start, self.size)
    try:
      content = zlib.decompress(content, -zlib.MAX_WBITS) if self.method else content
    except zlib.error as error:
      raise BadImageError(f'damaged in its zip: {error}') from None
    if zlib.crc32(content) != self.crc:
      raise BadImageError('damaged in its zip: does not match its checksum')
    return content


class Unreadable(NamedTuple):
  """What is listed but has no bytes: it ends in the report."""

  reason: str
  size: int = 0

  def read(self) -> bytes:
    raise BadImageError(self.reason)


class RawImage(NamedTuple):
  """Pixels as they are, one plane of bytes a channel, which are read as a PNG."""

  planes: Slice
  width: int
  height: int

  @property
  def size(self) -> int:
    return self.planes.size

  def read(self) -> bytes:
    content, plane_bytes = self.planes.read(), self.width * self.height
    bands = [
      Image.frombytes('L', (self.width, self.height), content[start : start + plane_bytes])
      for start in range(0, len(content), plane_bytes)
    ]
    file = io.BytesIO()
    (Image.merge('RGB', bands) if len(bands) == 3 else bands[0]).save(file, 'PNG')
    return file.getvalue()


def _read_at(path: str, offset: int, size: int) -> bytes:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    content = os.pread(descriptor, size, offset)
  finally:
    os.close(descriptor)
  if len(content) != size:
    raise OSError(f'{path} ends at byte {offset + len(content)}: it was longer when it was listed')
  return content


class Entry(NamedTuple):
  """A file found by `walk`.

  Attributes:
    path: within what was walked, archives on the way included, '/' between the parts:
      'ILSVRC2012_img_train.tar/n01440764.tar/n01440764_18.JPEG'.
    source: its bytes.
    archive: the compressed tar that it is in, read once from front to end; '' elsewhere.
    label: the number that a parquet file gives it.
  """

  path: str
  source: Source
  archive: str = ''
  label: int | None = None


def walk(path: Path, work_dir: Path) -> Iterator[Entry]:
  """Yields every visible file in a folder or archive, and in the archives within, by name.

  The path of an entry begins with the name of `path` itself.

  Args:
    path: a folder, an archive, or any other file.
    work_dir: where `parquet` puts images that cannot be read in place.

  Raises:
    ValueError: an archive is damaged or cut short.
    OSError: something cannot be read.
  """
  name = files.readable(path.resolve().name)
  if not path.is_dir():
    yield from _walk_file(str(path), name, work_dir)
    return
  for entry in walk_folder(path, f'{name}/'):
    if isinstance(entry.source, File) and entry.source.name.endswith(ARCHIVES):
      path = os.path.join(entry.source.folder, entry.source.name)
      yield from _walk_file(path, entry.path, work_dir)
    else:
      yield entry


def walk_folder(
  folder: str | os.PathLike, prefix: str = '', above: tuple[str, ...] = ()
) -> Iterator[Entry]:
  """Yields every visible file in a folder and the folders below it, by name; archives as files.

  Args:
    folder: where to look.
    prefix: put before the paths, which are relative to the folder.
    above: real paths of the folders on the way: a link back to one of them is not followed.
  """
  real = os.path.realpath(folder)
  if real in above:
    return
  folder = os.fspath(folder)
  with os.scandir(folder) as found:
    entries = sorted((entry for entry in found if entry.name[0] != '.'), key=_NAME)
  for entry in entries:
    path = prefix + files.readable(entry.name)
    if entry.is_file():
      yield Entry(path, File(folder, entry.name, entry.stat().st_size))
    elif entry.is_dir():
      yield from walk_folder(entry.path, f'{path}/', (*above, real))
    elif entry.is_symlink():
      yield Entry(path, Unreadable('a link to nothing'))


def _walk_file(path: str, prefix: str, work_dir: Path) -> Iterator[Entry]:
  """An archive by its first bytes, or a file as it is."""
  with open(path, 'rb') as file:
    magic = file.read(4)
    file.seek(_TAR_MAGIC_OFFSET)
    is_tar = file.read(5) == b'ustar'
    file.seek(0)
    if magic == parquet.MAGIC:
      for row in parquet.unpack(Path(path), work_dir):
        folder = os.path.join(os.path.dirname(prefix), '*.parquet', row.split or '').rstrip('/')
        inner = f'{folder}/{files.readable(row.name)}'
        yield Entry(inner, Slice(row.path, row.offset, row.size), label=row.label)
    elif magic == b'PK\x03\x04':
      yield from _walk_zip(file, path, prefix)
    elif magic[:2] == b'\x1f\x8b' and prefix.endswith(COMPRESSED_TAR):
      yield from _walk_compressed_tar(file, path, prefix)
    elif is_tar or prefix.endswith(TAR):
      yield from _walk_tar(file, path, prefix)
    else:
      folder, name = os.path.split(path)
      yield Entry(prefix, File(folder or '.', name, os.path.getsize(path)))


def _walk_tar(file: BinaryIO, path: str, prefix: str) -> Iterator[Entry]:
  """Reads the headers of a tar that begins where `file` stands, and of the tars within it."""
  try:
    with tarfile.open(fileobj=file, mode='r:') as tar:
      while (member := tar.next()) is not None:
        tar.members.clear()  # a kilobyte each, which nobody needs again
        is_link = member.islnk() or member.issym()
        if not (member.isfile() or is_link) or os.path.basename(member.name)[:1] == '.':
          continue
        inner = f'{prefix}/{files.readable(member.name)}'
        if is_link:
          yield Entry(inner, Unreadable('a link within its tar'))
        elif inner.endswith(TAR):
          file.seek(member.offset_data)
          yield from _walk_tar(file, path, inner)
        else:
          yield Entry(inner, Slice(path, member.offset_data, member.size))
  except tarfile.TarError as error:
    raise ValueError(f'{prefix} is no tar, cut short or damaged: {error} ({path})') from error


def _walk_compressed_tar(file: BinaryIO, path: str, prefix: str) -> Iterator[Entry]:
  try:
    with tarfile.open(fileobj=file, mode='r|gz') as tar:
      while (member := tar.next()) is not None:
        tar.members.clear()
        if member.isfile() and os.path.basename(member.name)[:1] != '.':
          content = Content(tar.extractfile(member).read())
          yield Entry(f'{prefix}/{files.readable(member.name)}', content, path)
  except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
    raise ValueError(f'{path} is cut short or damaged: {error}') from error


# Zips. The library's ZipFile holds 0.7 kB a member, 1.4 GB for Kaggle's two million; an image has
# to be found by a process that has not read that directory. (PKWARE's APPNOTE, sections 4.3, 4.5.)

_LOCAL_BYTES, _CENTRAL_BYTES, _END_BYTES, _LOCATOR_BYTES = 30, 46, 22, 20
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_UNKNOWN = 0xFFFFFFFF  # the value stands in the zip64 field


def _walk_zip(file: BinaryIO, path: str, prefix: str) -> Iterator[Entry]:
  try:
    count, offset = _zip_directory(file)
    file.seek(offset)
    for _ in range(count):
      header = _exactly(file, _CENTRAL_BYTES)
      if header[:4] != b'PK\x01\x02':
        raise ValueError('its directory is broken')
      flags, method = struct.unpack_from('<HH', header, 8)
      crc, size, full_size = struct.unpack_from('<III', header, 16)
      name_bytes, extra_bytes, comment_bytes = struct.unpack_from('<HHH', header, 28)
      (offset,) = struct.unpack_from('<I', header, 42)
      name = _exactly(file, name_bytes).decode('utf-8', 'replace')
      extra = _exactly(file, extra_bytes)
      _exactly(file, comment_bytes)
      full_size, size, offset = _zip64(extra, [full_size, size, offset])
      if not name or name.endswith('/') or os.path.basename(name)[0] == '.':
        continue
      if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
        raise ValueError(f'{name} is encrypted or compressed in an unusual way')
      yield Entry(f'{prefix}/{name}', ZipMember(path, offset, size, crc, method))
  except (ValueError, struct.error, EOFError) as error:
    raise ValueError(f'{path} is no zip, cut short or damaged: {error}') from error


def _zip_directory(file: BinaryIO) -> tuple[int, int]:
  """Number of members, and offset of the directory."""
  size = file.seek(0, os.SEEK_END)
  tail_bytes = min(size, _END_BYTES + 0xFFFF + _LOCATOR_BYTES)  # the comment may be that long
  file.seek(size - tail_bytes)
  tail = file.read(tail_bytes)
  end = tail.rfind(b'PK\x05\x06')
  if end < 0:
    raise ValueError('no directory at its end')
  (count,) = struct.unpack_from('<H', tail, end + 10)
  (offset,) = struct.unpack_from('<I', tail, end + 16)
  locator = end - _LOCATOR_BYTES
  if locator >= 0 and tail[locator : locator + 4] == b'PK\x06\x07':
    (where,) = struct.unpack_from('<Q', tail, locator + 8)
    file.seek(where)
    large_end = _exactly(file, 56)
    (count,) = struct.unpack_from('<Q', large_end, 32)
    (offset,) = struct.unpack_from('<Q', large_end, 48)
  return count, offset


def _zip64(extra: bytes, values: list[int]) -> list[int]:
  """Fills in, from the extra field, the values that do not fit into 32 bits."""
  position = 0
  while position + 4 <= len(extra):
    kind, length = struct.unpack_from('<HH', extra, position)
    if kind == 1:
      large = iter(struct.unpack_from(f'<{length // 8}Q', extra, position + 4))
      return [next(large, value) if value == _UNKNOWN else value for value in values]
    position += 4 + length
  return values


def _exactly(file: BinaryIO, count: int) -> bytes:
  content = file.read(count)
  if len(content) != count:
    raise EOFError('it ends too early')
  return content
