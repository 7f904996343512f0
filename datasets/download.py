"""Downloads that survive a bad line, and unpacking what they brought.

A file is written under `<name>.partial` and gets its name when its SHA-256 is right. What a broken
connection, Ctrl-C or a power cut leaves of it is taken up again by a Range request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import posixpath
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from . import files

if TYPE_CHECKING:
  from http.client import HTTPResponse

# Beside the records, and kept: another conversion into the same folder need not download again.
FOLDER = 'downloads'
_BLOCK_BYTES = 1 << 18
_GZIP_MAGIC = b'\x1f\x8b'
_LOCAL_COPY = '--source takes a local copy'


@dataclasses.dataclass(frozen=True)
class Download:
  """A file on the web.

  Attributes:
    url: where it is; its last part is the file's name.
    sha256: of the file, in hexadecimal digits.
    size: in bytes, for servers that do not say it.
  """

  url: str
  sha256: str
  size: int | None = None

  @property
  def name(self) -> str:
    return posixpath.basename(self.url)

  def fetch(self, work_dir: Path) -> Path:
    """Downloads into `downloads`, beside the work folder of a conversion; see `fetch`."""
    return fetch(self.url, self.sha256, work_dir.parent / FOLDER, size=self.size)


def fetch(
  url: str,
  sha256: str,
  folder: str | os.PathLike,
  *,
  size: int | None = None,
  attempts: int = 5,
  timeout: float = 60.0,
  pause: float = 1.0,
) -> Path:
  """Downloads a file into `folder`, unless it is there already.

  Args:
    url: of the file.
    sha256: of the file, in hexadecimal digits.
    folder: is made; where nothing came, it is removed again.
    size: in bytes, for servers that do not say it.
    attempts: how often the connection may break off before this gives up.
    timeout: seconds without an answer after which a connection counts as broken.
    pause: seconds before the second attempt; twice that before the third, and so on.

  Raises:
    ValueError: the SHA-256 is wrong; nothing of the download is left.
    OSError: there is no connection, the server refuses, the connection broke off too often (what
      came is kept), or the disk is full.
  """
  folder = Path(folder)
  path = folder / Download(url, sha256).name
  if check(path, sha256):
    return path
  folder.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'{path.name}.partial')
  try:
    if not check(partial, sha256):  # it is whole if the last run was stopped before the renaming
      logging.info('Downloading %s to %s', url, folder)
      _download(url, partial, size, attempts, timeout, pause)
      if (found := _sha256(partial)) != sha256:
        partial.unlink()
        raise ValueError(
          f'{url} is not what was expected: its SHA-256 is {found} instead of {sha256}; '
          f'the download is deleted, {_LOCAL_COPY}'
        )
    os.replace(partial, path)
  finally:
    with contextlib.suppress(OSError):  # holds something
      folder.rmdir()
  return path


def check(path: Path, sha256: str) -> bool:
  """Whether a file is there and has this checksum."""
  return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
  digest = hashlib.sha256()
  with open(path, 'rb') as file:
    while block := file.read(_BLOCK_BYTES):
      digest.update(block)
  return digest.hexdigest()


class _BrokenOffError(Exception):
  """The connection did not come about or broke off: trying again may help."""


def _download(url, partial: Path, size: int | None, attempts: int, timeout, pause) -> None:
  for attempt in range(attempts):
    time.sleep(pause * attempt)
    try:
      return _receive(url, partial, size, timeout)
    except _BrokenOffError as error:
      reason = error
    have = partial.stat().st_size if partial.exists() else 0
    if not have:  # a wrong address or no network: waiting for it helps nobody
      partial.unlink(missing_ok=True)
      raise OSError(f'{url} cannot be downloaded: {reason}; {_LOCAL_COPY}') from reason
    logging.info('%s broke off after %s bytes: %s', url, f'{have:,}', reason)
  whole = f' of {size:,}' if size else ''
  raise OSError(
    f'{url} broke off {attempts} times ({reason}): starting again goes on from {have:,}{whole} '
    f'bytes, {_LOCAL_COPY}'
  ) from reason


def _receive(url: str, partial: Path, size: int | None, timeout: float) -> None:
  """Appends what is missing; a server that sends the whole file has it written from the start."""
  from tqdm import tqdm  # here: reading records needs no progress bar

  offset = partial.stat().st_size if partial.exists() else 0
  with _open(url, offset, timeout) as response:
    if response.status != HTTPStatus.PARTIAL_CONTENT:
      offset = 0
    length = response.headers.get('Content-Length')
    size = offset + int(length) if length else size
    with (
      open(partial, 'ab' if offset else 'wb') as file,
      tqdm(total=size, initial=offset, unit='B', unit_scale=True, disable=None) as bar,
    ):
      for block in _blocks(response):
        file.write(block)
        bar.update(len(block))
  if size is not None and partial.stat().st_size < size:
    raise _BrokenOffError('the server closed the connection')  # which urllib takes for the end


def _open(url: str, offset: int, timeout: float) -> HTTPResponse:
  import urllib.request  # here: the processes that write shards need no network, which takes 40 ms
  from http.client import HTTPException
  from urllib.error import HTTPError

  headers = {'Range': f'bytes={offset}-'} if offset else {}
  try:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
  except HTTPError as error:
    error.close()
    if offset and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      return _open(url, 0, timeout)
    raise OSError(
      f'{url} cannot be downloaded: HTTP status {error.code} ({error.reason}); {_LOCAL_COPY}'
    ) from error
  except (OSError, HTTPException) as error:
    raise _BrokenOffError(getattr(error, 'reason', None) or error) from error


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
  """Only errors of the network are caught here: a full disk is not helped by another attempt."""
  from http.client import HTTPException

  while True:
    try:
      block = response.read(_BLOCK_BYTES)
    except (OSError, HTTPException) as error:
      raise _BrokenOffError(error) from error
    if not block:
      return
    yield block


# Local copies and archives


def locate(source: str, expected: str, names: Iterable[str]) -> Path:
  """The source itself, or the first of `names` that lies in it where it is a folder.

  Args:
    source: a path.
    expected: says in errors what it should be.
    names: of files and folders.

  Raises:
    OSError: the source does not exist.
  """
  path = files.source_path(source, expected)
  return next((path / name for name in names if (path / name).exists()), path)


@contextlib.contextmanager
def scratch(work_dir: Path) -> Iterator[Path]:
  """Yields the path of a folder, yet to be made, for what a plan has to unpack.

  It stays for the conversion to read from, and vanishes where the plan comes to nothing.
  """
  folder = work_dir.absolute() / 'unpacked'  # Beam's workers stand elsewhere
  files.sweep(folder, '.*')
  try:
    yield folder
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise


def unzip(path: Path, folder: Path) -> Path:
  """Decompresses a gzip file into `folder`; anything else is returned as it is.

  A compressed tar becomes one whose members can be read in place.

  Raises:
    ValueError: it is cut short or damaged.
    OSError: the disk is full.
  """
  if path.is_dir():
    return path
  with open(path, 'rb') as file:
    if file.read(2) != _GZIP_MAGIC:
      return path
  stem = path.name.removesuffix('.gz')
  folder.mkdir(parents=True, exist_ok=True)
  unpacked = folder / (f'{stem[:-4]}.tar' if stem.endswith('.tgz') else stem)
  with files.atomic_path(unpacked) as temporary, open(temporary, 'wb') as file:
    try:
      with gzip.open(path) as packed:
        shutil.copyfileobj(packed, file, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
      raise ValueError(f'{path} is cut short or damaged: {error}') from error
  return unpacked
