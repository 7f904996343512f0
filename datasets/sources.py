"""Where images lie, and finding them: folders, tars, tars of tars, zips, tables.

`walk` lists all of these as one tree of paths, with a source for every file in it. Archives are
read in place: what is listed is where the bytes are, and nothing is unpacked to disk
(some parquet files excepted, see `parquet.py`).
"""

import errno
import functools
import glob
import io
import itertools
import lzma
import operator
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

from . import arrow, files, images, parquet, samples, tables, tars, zips
from .images import BadImageError
from .source import Content, Slice, Source

TAR, COMPRESSED_TAR, ZIP = ('.tar',), ('.tar.gz', '.tgz'), ('.zip',)
OUTSIDE = 'its path leads out of its archive'
NOT_FOLLOWED = 'links to folders that lie above or are read elsewhere, which are not followed'
_TAR_MAGIC_OFFSET = 257
_NAME = operator.attrgetter('name')
IMAGE_SUFFIX = re.compile(
  r'\.(jpe?g|jpe|jfif|mpo|png|gif|bmp|webp|tiff?|hei[cf]|hif|avif|jp2|p[pgbn]m|tga|ico)$',
  re.IGNORECASE,
)
ARCHIVES = TAR + COMPRESSED_TAR + ZIP + parquet.SUFFIXES + arrow.SUFFIXES
# Files alone of which make no class: what lies in labels/ and annotations/.
NO_IMAGES = (
  '.txt', '.csv', '.tsv', '.json', '.jsonl', '.xml', '.yaml', '.yml', '.toml', '.md', '.html',
  '.mat', '.npy', '.npz', '.pkl', '.h5', '.pdf', '.py', '.ipynb', '.sh', '.ini', '.db', '.log',
  *ARCHIVES,
)  # fmt: skip
# {00..11} or {a,b} of a source: webdataset's and the shell's.
_BRACES = re.compile(r'\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|[^{},]*(?:,[^{},]*)+)\}')
_MOST_PATHS = 100_000
_LARGEST_MEMBER = 1 << 36  # bytes of a file in a compressed tar
_MOST_LOOKED_AT = 32 << 20  # bytes of a tar, to see what it is
# What an entry of a folder may raise while all others can be read: others, such as too many open
# files, are of the whole.
_OF_ONE_ENTRY = frozenset(
  [errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ESTALE]
)


class File(NamedTuple):
  """A file in a folder; folder and name apart, since a million of them share few folders."""

  folder: str
  name: str
  size: int

  def read(self) -> bytes:
    try:
      return files.read_at(f'{self.folder}/{self.name}', 0, self.size)
    except OSError as error:
      if not os.path.isdir(self.folder):  # the disk is gone, not the file
        raise
      raise BadImageError(_reason(error)) from error


class Unreadable(NamedTuple):
  """What is listed but has no bytes: it ends in the report."""

  reason: str
  size: int = 0
  is_folder: bool = False  # whatever it is called

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
  label: int | None = None  # the number that a table gives it


def expand(source: str | None, expected: str) -> list[Path]:
  """The absolute paths of `--source`: one, or several with commas, patterns or braces.

  `shards/train-{0000..0003}.tar`, `{train,val}.csv` and `part*.zip` are understood; what exists as
  it is written is one path, whatever characters it has.

  Raises:
    ValueError: there is no source, or braces name more than 100,000 paths.
    OSError: what it names does not exist, or is neither a file nor a folder.
  """
  if not source or os.path.exists(source):
    return [files.source_path(source, expected)]
  paths = []
  for pattern in _expand_braces(source):
    if os.path.exists(pattern) or not glob.has_magic(pattern):
      paths.append(files.source_path(pattern, expected))
    else:
      matching = sorted(path for path in glob.glob(pattern) if os.path.exists(path))
      if not matching:
        raise FileNotFoundError(f'source {pattern} matches no file or folder; expected {expected}')
      paths += [files.source_path(path, expected) for path in matching]
  return paths


def _expand_braces(source: str) -> list[str]:
  """Texts with commas between them, each a{b,c}d and a{00..11}d as the several that it means."""
  texts = [text for text in re.split(r',(?![^{}]*\})', source) if text]
  while any(_BRACES.search(text) for text in texts):
    expanded = []
    for text in texts:
      match = _BRACES.search(text)
      expanded += (
        [text]
        if match is None
        else [text[: match.start()] + middle + text[match.end() :] for middle in _middles(match)]
      )
      if len(expanded) > _MOST_PATHS:
        raise ValueError(f'source {source} names more than {_MOST_PATHS:,} paths')
    texts = expanded
  return texts


def _middles(match: re.Match[str]) -> Iterator[str]:
  """What stands in braces: a list with commas, or a range of numbers, of the width of the first."""
  if match['first'] is None:
    yield from match[0][1:-1].split(',')
    return
  first, last, width = int(match['first']), int(match['last']), len(match['first'])
  if abs(last - first) > _MOST_PATHS:
    raise ValueError(f'{match[0]} in source names more than {_MOST_PATHS:,} paths')
  step = 1 if last >= first else -1
  yield from (f'{number:0{width}d}' for number in range(first, last + step, step))


def walk(path: Path, work_dir: Path, links: list[str] | None = None) -> Iterator[Entry]:
  """Yields every visible file in a folder or archive, and in the archives within, by name.

  The path of an entry begins with the name of `path` itself; `parquet` puts images that cannot be
  read in place into `work_dir`, and `walk_folder` links that are not followed into `links`.

  Raises:
    ValueError: an archive is damaged or cut short.
    OSError: something cannot be read.
  """
  path = Path(os.path.abspath(path))
  name = files.readable(path.name)
  if not path.is_dir():
    yield from walk_file(str(path), name, work_dir)
    return
  os.scandir(path).close()  # of what is below, an error is an entry of its own
  for entry in walk_folder(path, f'{name}/', links):
    if isinstance(entry.source, File) and entry.source.name.lower().endswith(ARCHIVES):
      archive = os.path.join(entry.source.folder, entry.source.name)
      yield from walk_file(archive, entry.path, work_dir)
    else:
      yield entry


def walk_folder(
  folder: str | os.PathLike,
  prefix: str = '',
  links: list[str] | None = None,
  others: Collection[str] = (),
) -> Iterator[Entry]:
  """Yields every visible file in a folder, by name, and then in those below; archives as files.

  A link to a folder is followed after all that lies there, and not at all if it leads to where
  files come from already: to a folder above, below, or one of `others` or in it. So each file comes
  once. What cannot be listed, and what is neither a file nor a folder, is `Unreadable`.

  Args:
    folder: where to begin.
    prefix: put before the paths, which are relative to the folder.
    links: gets the paths of the links that are not followed.
    others: real paths of folders that are walked apart from this one.
  """
  real = os.path.realpath(folder)
  others = [other for other in others if other != real]
  walked: set[str] = set()
  pending = [(os.fspath(folder), prefix)]
  while pending:
    linked: list[tuple[str, str]] = []
    for path, inner in sorted(pending, key=lambda link: (link[1].count('/'), link)):
      target = os.path.realpath(path)
      is_above = target != real and any(is_within(other, target) for other in (real, *others))
      is_elsewhere = any(is_within(target, other) for other in others)
      if target in walked or is_above or is_elsewhere:
        if links is not None:
          links.append(inner.rstrip('/'))
      else:
        yield from _walk_real(path, target, inner, walked, linked)
    pending = linked


def is_within(path: str, folder: str) -> bool:
  """Whether a path is that of a folder, or of something below it."""
  return path == folder or path.startswith(folder.rstrip('/') + '/')


def _walk_real(
  folder: str, real: str, prefix: str, walked: set[str], linked: list[tuple[str, str]]
) -> Iterator[Entry]:
  """Walks what lies in a folder; links to folders, with their prefixes, go into `linked`."""
  pending = [(folder, real, prefix)]
  while pending:
    folder, real, prefix = pending.pop()
    if real in walked:
      continue
    walked.add(real)
    entries: list[os.DirEntry[str]] = []
    try:
      with os.scandir(folder) as listing:
        entries.extend(entry for entry in listing if files.is_visible(entry.name))
    except OSError as error:
      yield Entry(prefix.rstrip('/'), Unreadable(_reason(error), is_folder=True))
    subfolders = []
    for entry in sorted(entries, key=_NAME):
      path = prefix + files.readable(entry.name)
      try:
        status = entry.stat()
      except OSError as error:
        is_dangling = entry.is_symlink() and error.errno == errno.ENOENT
        yield Entry(path, Unreadable('a link to nothing' if is_dangling else _reason(error)))
        continue
      if stat.S_ISREG(status.st_mode):
        yield Entry(path, File(folder, entry.name, status.st_size))
      elif not stat.S_ISDIR(status.st_mode):
        yield Entry(path, Unreadable('neither a file nor a folder'))
      elif entry.is_symlink():
        linked.append((entry.path, f'{path}/'))
      else:
        subfolders.append((entry.path, os.path.join(real, entry.name), f'{path}/'))
    pending += reversed(subfolders)


def _reason(error: OSError) -> str:
  """Why one entry cannot be read; raises what is not of this entry alone."""
  if error.errno not in _OF_ONE_ENTRY and not isinstance(error, files.EndsEarlyError):
    raise error
  return f'cannot be read: {error.strerror or error}'


def walk_file(path: str, prefix: str, work_dir: Path) -> Iterator[Entry]:
  """Lists an archive, which is one by its first bytes, or yields a file as it is.

  Args:
    path: of the file.
    prefix: its path for the entries; a suffix of tars there makes old ones known, which have no
      mark.
    work_dir: see `walk`.
  """
  with open(path, 'rb') as file:
    magic = file.read(4)
    file.seek(_TAR_MAGIC_OFFSET)
    is_tar = file.read(5) == b'ustar'
    file.seek(0)
    if magic == parquet.MAGIC or prefix.lower().endswith(arrow.SUFFIXES):
      kind, reader = ('parquet', parquet) if magic == parquet.MAGIC else ('arrow', arrow)
      for row in tables.rows(Path(path), reader.read(Path(path), work_dir)):
        folder = os.path.join(os.path.dirname(prefix), f'*.{kind}', row.split or '').rstrip('/')
        inner = f'{folder}/{files.readable(row.name)}'
        yield Entry(inner, row.source, label=row.label)
    elif magic == b'PK\x03\x04':
      for name, member in zips.members(file, path):
        if not name.endswith('/') and _is_visible_path(name):
          source = Unreadable(OUTSIDE) if leads_outside(name) else member
          yield Entry(f'{prefix}/{name}', source)
    elif magic[:2] == b'\x1f\x8b' and prefix.lower().endswith(COMPRESSED_TAR):
      yield from _walk_compressed_tar(file, path, prefix)
    elif is_tar or prefix.lower().endswith(TAR):
      yield from _walk_tar(file, path, prefix)
    else:
      folder, name = os.path.split(path)
      yield Entry(prefix, File(folder or '.', name, os.path.getsize(path)))


def first_names(path: Path, count: int) -> Sequence[str]:
  """Names of the first files of an archive, those of tars in it too; no more is read than needed.

  Of a tar they are those in its first `_MOST_LOOKED_AT` bytes.

  Raises:
    ValueError: it is damaged.
  """
  status = path.stat()
  return _first_names(path, count, (status.st_size, status.st_mtime_ns))


@functools.lru_cache(8)  # each format asks
def _first_names(path: Path, count: int, _: tuple[int, int]) -> Sequence[str]:
  with open(path, 'rb') as file:
    if file.read(4) == b'PK\x03\x04':
      return [name for name, _ in itertools.islice(zips.members(file, str(path)), count)]
  try:
    with tarfile.open(path, 'r|*') as tar:
      names = []
      for member in itertools.islice(tar, count):
        _refuse_size(member)
        names.append(member.name)
        if member.name.lower().endswith(TAR) and (inner := tar.extractfile(member)):
          with tarfile.open(fileobj=inner, mode='r|') as of_member:
            names += [f'{member.name}/{each.name}' for each in itertools.islice(of_member, 1)]
          break
        if member.offset_data + member.size > _MOST_LOOKED_AT:
          break
      return names
  except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
    raise ValueError(f'{path} is no tar: {error}') from error


def _refuse_size(member: tarfile.TarInfo) -> None:
  """Raises TarError where the standard library would look for the next member for hours."""
  if member.size > _LARGEST_MEMBER:
    raise tarfile.ReadError(f'a member of {member.size:,} bytes')


def _is_visible_path(path: str) -> bool:
  return all(files.is_visible(part) for part in path.split('/') if part not in ('', '.', '..'))


def _walk_tar(
  file: BinaryIO, path: str, prefix: str, start: int = 0, end: int | None = None
) -> Iterator[Entry]:
  """Lists a tar that lies between two bytes of an open file, and the tars within it.

  An image with WebDataset's `.cls` beside it has the label that this says.
  """
  try:
    for sample in samples.grouped(tars.members(file.fileno(), start, end)):
      image = samples.image_in(sample) if 'cls' in sample else None
      for member in reversed(sample.values()):  # in the order of the tar
        inner = f'{prefix}/{files.readable(member.name)}'
        if not _is_visible_path(member.name):
          continue
        if (
          member.kind == tars.FILE
          and inner.lower().endswith(TAR)
          and not leads_outside(member.name)
        ):
          yield from _walk_tar(file, path, inner, member.offset, member.offset + member.size)
          continue
        label = samples.class_of(file.fileno(), sample['cls'], path) if member is image else None
        yield Entry(inner, source_of(member, path), label=label)
  except tars.DamagedError as error:
    raise ValueError(f'{prefix} is no tar, cut short or damaged: {error} ({path})') from error


def source_of(member: tars.Member, path: str) -> Slice | Unreadable:
  """The bytes of a member of the tar in a file."""
  if leads_outside(member.name):
    return Unreadable(OUTSIDE)
  if member.kind == tars.LINK:
    return Unreadable('a link within its tar')
  if member.kind == tars.UNUSUAL:
    return Unreadable('stored with holes in its tar')
  return Slice(path, member.offset, member.size)


def leads_outside(name: str) -> bool:
  """Whether the name of a member is a path out of the folder that an archive is unpacked into."""
  return name.startswith(('/', '\\')) or '..' in re.split(r'[/\\]', name)


def _walk_compressed_tar(file: BinaryIO, path: str, prefix: str) -> Iterator[Entry]:
  """Reads a compressed tar once from front to end, contents included."""
  try:
    with tarfile.open(fileobj=file, mode='r|gz') as tar:
      while (member := tar.next()) is not None:
        _refuse_size(member)
        tar.members.clear()  # type: ignore[attr-defined]  # a kilobyte each, never needed again
        is_link = member.islnk() or member.issym()
        if not (member.isfile() or is_link) or not _is_visible_path(member.name):
          continue
        inner = f'{prefix}/{files.readable(member.name)}'
        if is_link:
          yield Entry(inner, Unreadable('a link within its tar'))
        elif member.size > images.MAX_BYTES:
          yield Entry(inner, Unreadable(images.TOO_LARGE))
        else:
          content = tar.extractfile(member)
          yield Entry(inner, Content(content.read() if content else b''), path)
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(f'{prefix} is no tar, cut short or damaged: {error} ({path})') from error
