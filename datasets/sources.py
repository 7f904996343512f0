"""Where images lie, and finding them: folders, tars, tars of tars, zips, parquet files.

`walk` lists all of these as one tree of paths, with a source for every file in it. Archives are
read in place: what is listed is where the bytes are, and nothing is unpacked to disk (parquet
files excepted, see `parquet.py`).
"""

import io
import operator
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from PIL import Image

from . import files, parquet, zips
from .images import BadImageError

TAR, COMPRESSED_TAR, ZIP = ('.tar',), ('.tar.gz', '.tgz'), ('.zip',)
_TAR_MAGIC_OFFSET = 257
_NAME = operator.attrgetter('name')
ARCHIVES = TAR + COMPRESSED_TAR + ZIP + parquet.SUFFIXES


class Source(Protocol):
  """The bytes of one file."""

  @property
  def size(self) -> int:
    """Bytes that it takes where it lies."""

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
    return files.read_at(f'{self.folder}/{self.name}', 0, self.size)


class Slice(NamedTuple):
  """Bytes within a file: a member of a tar."""

  path: str
  offset: int
  size: int

  def read(self) -> bytes:
    return files.read_at(self.path, self.offset, self.size)


class Unreadable(NamedTuple):
  """What is listed but has no bytes: it ends in the report."""

  reason: str
  size: int = 0

  def read(self) -> bytes:
    raise BadImageError(self.reason)


class RawImage(NamedTuple):
  """Pixels as they are, one plane of bytes a channel, which are read as a PNG."""

  planes: Slice | Content
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


class Entry(NamedTuple):
  """A file found by `walk`.

  Its path, within what was walked, has the archives on the way in it and '/' between the parts:
  'ILSVRC2012_img_train.tar/n01440764.tar/n01440764_18.JPEG'.
  """

  path: str
  source: Source
  archive: str = ''  # the compressed tar that it is in, read once from front to end
  label: int | None = None  # the number that a parquet file gives it


def walk(path: Path, work_dir: Path) -> Iterator[Entry]:
  """Yields every visible file in a folder or archive, and in the archives within, by name.

  The path of an entry begins with the name of `path` itself; `parquet` puts images that cannot be
  read in place into `work_dir`.

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
      archive = os.path.join(entry.source.folder, entry.source.name)
      yield from _walk_file(archive, entry.path, work_dir)
    else:
      yield entry


def walk_folder(
  folder: str | os.PathLike, prefix: str = '', above: tuple[str, ...] = ()
) -> Iterator[Entry]:
  """Yields every visible file in a folder and the folders below it, by name; archives as files.

  `prefix` is put before the paths, which are relative to the folder.
  """
  real = os.path.realpath(folder)
  if real in above:  # a link back to a folder on the way
    return
  folder = os.fspath(folder)
  with os.scandir(folder) as entries:
    visible = sorted((entry for entry in entries if entry.name[0] != '.'), key=_NAME)
  for entry in visible:
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
      for name, member in zips.members(file, path):
        if os.path.basename(name)[:1] not in ('', '.'):
          yield Entry(f'{prefix}/{name}', member)
    elif magic[:2] == b'\x1f\x8b' and prefix.endswith(COMPRESSED_TAR):
      yield from _walk_tar(file, path, prefix, 'r|gz')
    elif is_tar or prefix.endswith(TAR):
      yield from _walk_tar(file, path, prefix)
    else:
      folder, name = os.path.split(path)
      yield Entry(prefix, File(folder or '.', name, os.path.getsize(path)))


def _walk_tar(file: BinaryIO, path: str, prefix: str, mode: str = 'r:') -> Iterator[Entry]:
  """Reads the headers of a tar that begins where `file` stands, and of the tars within it.

  A compressed one (mode 'r|gz') is read once from front to end, contents included.
  """
  try:
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
      while (member := tar.next()) is not None:
        tar.members.clear()  # a kilobyte each, never needed again
        is_link = member.islnk() or member.issym()
        if not (member.isfile() or is_link) or os.path.basename(member.name)[:1] == '.':
          continue
        inner = f'{prefix}/{files.readable(member.name)}'
        if is_link:
          yield Entry(inner, Unreadable('a link within its tar'))
        elif mode != 'r:':
          yield Entry(inner, Content(tar.extractfile(member).read()), path)
        elif inner.endswith(TAR):
          file.seek(member.offset_data)
          yield from _walk_tar(file, path, inner)
        else:
          yield Entry(inner, Slice(path, member.offset_data, member.size))
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(f'{prefix} is no tar, cut short or damaged: {error} ({path})') from error
