"""Tars, whose members are read in place: where in the file the bytes of each lie.

The standard library's TarFile takes 35 us and a kilobyte for a member; three members an image, as
WebDataset has them, would take longer to list than to convert. (POSIX.1-2017 "pax", section
"ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".)
"""

import bz2
import collections
import contextlib
import gzip
import hashlib
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

from absl import logging

from . import files, tables

BLOCK = 512
FILE, LINK, UNUSUAL = 'file', 'link', 'unusual'
_MAGIC = slice(257, 263)
_FILES, _LINKS, _SPARSE = b'\x0007', b'12', b'S'
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b'L', b'K', b'xX', b'g'
_MOST_EXTENDED = 1 << 20  # bytes of a name or of pax records
_OPENERS = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ': lzma.open}
_ZEROS = bytes(BLOCK)
_BLOCK = 1 << 17  # bytes that are unpacked in one go; where they are damaged, all are lost
_WRITTEN = 4 << 20  # bytes that are written in one go
_DAMAGE = EOFError, OSError, zlib.error, lzma.LZMAError  # of compressed data, and of the disk
_GZIP = 16 + zlib.MAX_WBITS  # with gzip's header and checksum, see zlib.decompressobj


class Member(NamedTuple):
  """A file in a tar: its content is `size` bytes from `offset` on."""

  name: str
  kind: str  # FILE, LINK (without content), or UNUSUAL: stored with holes
  offset: int
  size: int


class DamagedError(ValueError):
  """A tar is cut short or damaged: what was yielded before is whole."""


def members(descriptor: int, start: int = 0, end: int | None = None) -> Iterator[Member]:
  """Yields what lies in a tar but folders and devices, in its order.

  Args:
    descriptor: of an open file.
    start, end: where in it the tar lies; by default it is the whole file.

  Raises:
    DamagedError: this is no tar, or it is cut short.
  """
  end = os.fstat(descriptor).st_size if end is None else end
  offset, name, size = start, '', -1  # what an extended header says of the next member
  path, is_unusual = '', False
  while offset < end:
    header = os.pread(descriptor, BLOCK, offset)
    if header == _ZEROS:
      return
    if len(header) < BLOCK or offset + BLOCK > end:
      raise DamagedError(f'it ends within a header, at byte {offset - start:,}')
    _check_sum(header, offset - start)
    kind, own_size = header[156:157], _number(header[124:136])
    data = offset + BLOCK
    length = size if size >= 0 and kind in _FILES else own_size
    if kind in _LINKS or kind in b'3456':  # what they say of a size is not in the tar
      length = 0
    offset = data + -(-length // BLOCK) * BLOCK
    if data + length > end:
      raise DamagedError(f'it ends within {name or _name(header)!r}, at byte {end - start:,}')
    if kind in _LONG_NAME + _LONG_LINK + _PAX + _PAX_GLOBAL:
      if length > _MOST_EXTENDED:
        raise DamagedError(f'a header of {length:,} bytes at byte {data - start:,}')
      if kind in _LONG_LINK + _PAX_GLOBAL:
        continue
      content = os.pread(descriptor, length, data)
      if kind in _LONG_NAME:
        name = _decoded(content.partition(b'\0')[0])
      else:
        fields = _pax_fields(content, data - start)
        name = _decoded(fields[b'path']) if b'path' in fields else name
        size = _pax_size(fields.get(b'size', b''), size)
        is_unusual = any(key.startswith(b'GNU.sparse') for key in fields)
      continue
    path = name or _name(header)
    if kind in _LINKS:
      yield Member(path, LINK, data, 0)
    elif kind in _SPARSE or (is_unusual and kind in _FILES):
      yield Member(path, UNUSUAL, data, 0)
    elif kind in _FILES and not path.endswith('/'):
      yield Member(path, FILE, data, length)
    name, size, is_unusual = '', -1, False
  if offset > end:
    raise DamagedError(f'it ends within {path!r}, at byte {end - start:,}')
  if offset == start:
    raise DamagedError('it is empty')


def first_members(descriptor: int, count: int) -> list[Member]:
  """The first members of what may be a tar, as many as are whole."""
  first: list[Member] = []
  with contextlib.suppress(DamagedError):
    first.extend(itertools.islice(members(descriptor), count))
  return first


def _check_sum(header: bytes, offset: int) -> None:
  """Compares the sum of a header's bytes with what it says; some old tars add them as signed."""
  try:
    stored = _number(header[148:156])
  except DamagedError:
    stored = -1
  unsigned = sum(header) - sum(header[148:156]) + 8 * ord(' ')
  if stored != unsigned:
    signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    if stored != signed:
      raise DamagedError(f'no header at byte {offset:,}')


def _number(field: bytes) -> int:
  """Octal digits, or GNU's base 256 with the first bit set."""
  if field[0] & 0x80:
    return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], 'big')
  digits = field.partition(b'\0')[0].strip()
  if digits.strip(b'01234567'):  # a sign too: what has a size below 0 would be read for ever
    raise DamagedError(f'no number in a header: {digits!r}')
  return int(digits or b'0', 8)


def _name(header: bytes) -> str:
  name = header[:100].partition(b'\0')[0]
  if header[_MAGIC] == b'ustar\0' and header[345]:
    name = header[345:500].partition(b'\0')[0] + b'/' + name
  return _decoded(name)


def _decoded(name: bytes) -> str:
  """A name as text; others than UTF-8 as Latin-1, in which no two become one."""
  try:
    return name.decode()
  except UnicodeDecodeError:
    return name.decode('latin-1')


def _pax_size(digits: bytes, otherwise: int) -> int:
  return int(digits) if digits.isdigit() and len(digits) < 20 else otherwise


def _pax_fields(content: bytes, offset: int) -> dict[bytes, bytes]:
  """Records '30 mtime=1350244992.0239600\\n', whose number is the length of each."""
  fields, position = {}, 0
  while position < len(content) and content[position : position + 1] != b'\0':
    digits, _, _ = content[position : position + 20].partition(b' ')
    length = int(digits) if digits.isdigit() else 0
    key, equals, value = content[position + len(digits) + 1 : position + length - 1].partition(b'=')
    if not length or not equals:
      raise DamagedError(f'no pax header at byte {offset:,}')
    fields[key] = value
    position += length
  return fields


# Compressed tars


class _Unpacked(TypedDict):
  """What was unpacked, and what was wrong with it."""

  source: list[Any]
  damage: str | None


def is_compressed(path: str | os.PathLike) -> bool:
  """Whether this is a file of gzip, bzip2 or xz, by its first bytes."""
  with open(path, 'rb') as file:
    return _opener(file) is not None


def _opener(file: BinaryIO) -> Any:
  magic = file.read(6)
  return next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)


def decompressed(path: Path, work_dir: Path) -> tuple[Path, str | None]:
  """The tar in a compressed one, written to `work_dir` once; and what is wrong with its end.

  No member of a compressed tar can be read without all that lie before it. This takes as much disk
  as the members.

  Raises:
    OSError: the disk is full.
  """
  status = path.stat()
  # Files of several folders may have the same name.
  key = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
  target, index_path = work_dir / f'{key}.tar', work_dir / f'{key}.tar.json'
  signature = [os.path.abspath(path), status.st_size, status.st_mtime_ns]
  try:
    index = files.read_json(index_path, _Unpacked)
  except ValueError:  # damaged: it is written again
    index = None
  if index is None or index['source'] != signature or not target.exists():
    logging.info('Unpacking %s', path)
    work_dir.mkdir(parents=True, exist_ok=True)
    index = {'source': signature, 'damage': _decompress(path, target)}
    files.write_json(index_path, index)
  return target, index['damage']


def _decompress(path: Path, target: Path) -> str | None:
  with open(path, 'rb') as file:
    opener = _opener(file)
  blocks = _inflated(path) if opener is gzip.open else _blocks(path, opener)
  with files.atomic_path(target) as temporary, open(temporary, 'wb') as tar:
    try:
      # Meanwhile a thread writes: that is a fifth of the time.
      collections.deque(tables.ahead(tar.writelines, _gathered(blocks), 1), maxlen=0)
    except _DAMAGE as error:
      if isinstance(error, OSError) and error.errno:  # of the disk; bzip2's has none
        raise
      return f'compressed data are cut short or damaged: {error}'
  return None


def _gathered(blocks: Iterator[bytes]) -> Iterator[list[bytes]]:
  """Some blocks at a time, for handing each to a thread takes as long as writing it."""
  gathered: list[bytes] = []
  try:
    for block in blocks:
      gathered.append(block)
      if sum(map(len, gathered)) >= _WRITTEN:
        yield gathered
        gathered = []
  except _DAMAGE:
    yield gathered  # what comes before it is whole
    raise
  yield gathered


def _blocks(path: Path, opener: Callable[[Path], Any]) -> Iterator[bytes]:
  """What is in a compressed file."""
  with opener(path) as source:
    while block := source.read1(8 * _BLOCK):  # `read` would lose what comes before a cut
      yield block


def _inflated(path: Path) -> Iterator[bytes]:
  """What is in a file of gzip, which may be several put together; GzipFile takes a third longer."""
  member = zlib.decompressobj(_GZIP)
  with open(path, 'rb') as file:
    rest = b''  # of what was read
    while packed := rest or file.read(_BLOCK):
      if member.eof:  # another one follows, or zeros that fill a block
        if not (packed := packed.lstrip(b'\0')):
          rest = b''
          continue
        member = zlib.decompressobj(_GZIP)
      yield member.decompress(packed, 64 * _BLOCK)
      rest = member.unconsumed_tail or member.unused_data
  if not member.eof:
    raise EOFError('the file ends before its data do')
