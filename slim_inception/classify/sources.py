"""What the operands mean: files, folders, archives, patterns, addresses on the web, standard input.

Nothing is read here before it is asked for, and nothing that is wrong with one operand stops the
others: its `Source.read` says what it is.
"""

import codecs
import functools
import http.client
import os
import re
import string
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from absl import logging

from slim_inception import __version__, files
from slim_inception.datasets.images import MAX_BYTES, TOO_LARGE
from slim_inception.datasets.sources import (
  COMPRESSED_TAR,
  IMAGE_SUFFIX,
  NOT_FOLLOWED,
  TAR,
  ZIP,
  File,
  Unreadable,
  walk,
  walk_folder,
)
from slim_inception.datasets.sources import Source as Content

STANDARD_INPUT = '-'
_ARCHIVES = TAR + COMPRESSED_TAR + ZIP
EXPLAINED = '.explain.png'  # what --explain writes is left out of folders
_URL = re.compile(r'https?://', re.IGNORECASE)
_GLOB = re.compile(r'[*?[]')
_NETPBM = re.compile(rb'P[1-7]\s')  # the one kind of image that begins as text
_TIMEOUT = 60.0  # seconds without an answer
# Some servers, Wikipedia's among them, refuse Python's own.
_HEADERS = {'User-Agent': f'slim-inception/{__version__}', 'Accept': 'image/*,*/*;q=0.5'}


class Source(NamedTuple):
  """One image, yet to be read.

  Attributes:
    name: as the user knows it: a path, an address, '-'.
    read: gives the content of the file; OSError or ValueError says why it cannot be had.
  """

  name: str
  read: Callable[[], bytes]


def listed(operands: Sequence[str], stdin: BinaryIO) -> tuple[Iterable[Source], int | None]:
  """As `expand`, and how many they are; None where only their end tells.

  That is of standard input, and of compressed tars, whose images are read while they are listed.
  """
  images = expand(operands, stdin)
  if any(operand == STANDARD_INPUT or operand.endswith(COMPRESSED_TAR) for operand in operands):
    return images, None
  known = list(images)
  return known, len(known)


def expand(operands: Iterable[str], stdin: BinaryIO) -> Iterator[Source]:
  """The images that the operands stand for, in their order.

  A path that exists is a file or a folder, which means the images in it and in its subfolders, by
  name and in the order of names; `datasets.sources.walk_folder` says what is left out. A tar or zip
  means the images in it, in its order, and in the tars within. Any other
  with *, ? or [ in it is a pattern (`**` goes through subfolders) and means the files that match.
  '-' is standard input: one image, or text with an operand in each line.

  Args:
    operands: as above.
    stdin: standard input.
  """
  for operand in operands:
    if operand == STANDARD_INPUT:
      yield from _standard_input(stdin)
    else:
      yield from _expand_one(operand)


def _expand_one(operand: str) -> Iterator[Source]:
  if _URL.match(operand):
    yield Source(operand, functools.partial(fetch, operand))
    return
  try:
    operand = files.local_path(operand)
  except ValueError as error:
    yield _failing(operand, str(error))
    return
  if os.path.isdir(operand):
    yield from _folder(operand)
  elif os.path.lexists(operand) or not _GLOB.search(operand):
    yield from _file_or_archive(operand)
  elif paths := _matching(operand):
    for path in paths:
      yield from _file_or_archive(path)
  else:
    yield _failing(operand, 'no file matches')


def _file_or_archive(path: str) -> Iterable[Source]:
  is_archive = path.endswith(_ARCHIVES) and os.path.isfile(path)
  return _archive(path) if is_archive else [_file(path)]


def _matching(pattern: str) -> list[str]:
  """The files that match, as the shell's; `**` goes into no links, which may lead round."""
  parts = Path(pattern).parts
  number = next(i for i, part in enumerate(parts) if _GLOB.search(part))
  base, rest = Path(*parts[:number]), [*parts[number:], *['*'] * (parts[-1] == '**')]
  may_be_hidden = any(part.startswith('.') for part in rest)
  return sorted(
    str(path)
    for path in base.glob('/'.join(rest))
    if path.is_file() and (may_be_hidden or not any(p.startswith('.') for p in path.parts[number:]))
  )


def _folder(folder: str) -> Iterator[Source]:
  num_images = left_out = 0
  links: list[str] = []
  for path, source, *_ in walk_folder(folder, '', links):
    is_image = IMAGE_SUFFIX.search(path) and not path.endswith(EXPLAINED)
    if isinstance(source, File) and is_image:
      yield _file(os.path.join(source.folder, source.name))
    elif isinstance(source, Unreadable) and (is_image or source.is_folder):
      yield _failing(os.path.join(folder, path) if path else folder, source.reason)
    else:
      left_out += 1
      continue
    num_images += 1
  if not num_images:
    yield _failing(folder, 'no image in this folder')
  if left_out:
    logging.info('%s: left out %s that by their names are no images', folder, f'{left_out:,}')
  if links:
    logging.info('%s: %s %s: %s', folder, f'{len(links):,}', NOT_FOLLOWED, files.some(links))


def _archive(path: str) -> Iterator[Source]:
  folder, num_images = os.path.dirname(path), 0
  try:
    for inner, source, *_ in walk(Path(path), Path(folder)):
      if IMAGE_SUFFIX.search(inner) and not inner.endswith(EXPLAINED):
        num_images += 1
        yield Source(os.path.join(folder, inner), functools.partial(_within_size, source))
  except (OSError, ValueError) as error:
    yield _failing(path, getattr(error, 'strerror', None) or str(error))
  else:
    if not num_images:
      yield _failing(path, 'no image in this archive')


def _within_size(source: Content) -> bytes:
  _check_size(source.size)
  return _checked(source.read())


def _file(path: str) -> Source:
  def read() -> bytes:
    with open(path, 'rb') as file:
      _check_size(os.fstat(file.fileno()).st_size)  # 0 of a pipe, whose end nobody knows
      return _read(file)

  return Source(path, read)


def _failing(name: str, reason: str) -> Source:
  def read() -> bytes:
    raise ValueError(reason)

  return Source(name, read)


def _read(file: BinaryIO, head: bytes = b'') -> bytes:
  return _checked(head + file.read(MAX_BYTES + 1 - len(head)))


def _checked(content: bytes) -> bytes:
  _check_size(len(content))
  return content


def _check_size(num_bytes: int) -> None:
  if num_bytes > MAX_BYTES:
    raise ValueError(TOO_LARGE)


def fetch(url: str) -> bytes:
  """Downloads a file.

  Raises:
    OSError: the server cannot be reached, refuses, or breaks off.
    ValueError: the file is larger than `MAX_BYTES`.
  """
  quoted = urllib.parse.quote(url, safe=string.punctuation)  # blanks, letters that are not ASCII
  try:
    request = urllib.request.Request(quoted, headers=_HEADERS)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
      content = response.read(MAX_BYTES + 1)
      length = int(response.headers.get('Content-Length') or 0)
  except urllib.error.HTTPError as error:
    error.close()
    raise OSError(f'HTTP status {error.code} ({_in_one_line(error.reason)})') from error
  except (OSError, http.client.HTTPException, ValueError) as error:
    reason = getattr(error, 'reason', None) or error
    raise OSError(f'cannot be downloaded: {_in_one_line(reason)}') from error
  if len(_checked(content)) < length:
    raise OSError(f'the connection broke off after {len(content):,} of {length:,} bytes')
  return content


def _in_one_line(reason: object) -> str:
  """Python's own reasons have several, servers write what they like."""
  return files.printable(' '.join(str(reason).split()))


def _standard_input(stdin: BinaryIO) -> Iterator[Source]:
  head = stdin.read(1024)
  if not head:
    yield _failing(STANDARD_INPUT, 'standard input is empty')
  elif b'\0' in head or _NETPBM.match(head):  # no path has a NUL, every other image has
    yield Source(STANDARD_INPUT, functools.partial(_read, stdin, head))
  else:
    head = head.removeprefix(codecs.BOM_UTF8)
    for lines in ((head + stdin.readline()).splitlines(), stdin):
      for line in lines:
        if operand := os.fsdecode(line.rstrip(b'\r\n')):
          yield from _expand_one(operand)
