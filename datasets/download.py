"""Downloads of the data sets that are published as a few files, and unpacking what they brought."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import posixpath
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import files
from .progress_bar import waiting

# Beside the records, and kept: another conversion into the same folder need not download again.
FOLDER = 'downloads'
_GZIP_MAGIC = b'\x1f\x8b'


@dataclasses.dataclass(frozen=True)
class Download:
  """A file on the web."""

  url: str  # its last part is the file's name
  sha256: str  # in hexadecimal digits

  @property
  def name(self) -> str:
    return posixpath.basename(self.url)

  def fetch(self, work_dir: Path, *, attempts: int = 3, timeout: float = 60.0) -> Path:
    """Downloads into `downloads`, beside the work folder of a conversion, unless it is there.

    Args:
      work_dir: what comes is there until it is whole; what a killed process leaves goes with it.
      attempts: how often the connection may break off before this gives up.
      timeout: seconds without an answer after which a connection counts as broken.

    Raises:
      OSError: there is no connection, the server refuses, the connection broke off too often, the
        SHA-256 is wrong, or the disk is full; nothing of the download is left.
    """
    import pooch  # here: the processes that write shards need no network

    path = work_dir.parent / FOLDER / self.name
    if path.is_file() and pooch.file_hash(path) == self.sha256:
      return path
    incoming = work_dir / FOLDER
    store = pooch.create(
      incoming, '', registry={self.name: self.sha256}, urls={self.name: self.url},
      retry_if_failed=attempts - 1,
    )  # fmt: skip
    receive = pooch.HTTPDownloader(sys.stderr.isatty(), chunk_size=1 << 18, timeout=timeout)
    pooch.get_logger().setLevel('WARNING')
    try:
      with waiting(f'Downloading {self.url} to {path.parent}'):
        store.fetch(self.name, downloader=receive)
      path.parent.mkdir(exist_ok=True)
      os.replace(incoming / self.name, path)
    except (OSError, ValueError) as error:
      reason = getattr(error.args[0] if error.args else None, 'reason', None) or error
      in_one_line = files.printable(' '.join(str(reason).split()))
      raise OSError(
        f'{self.url} cannot be downloaded: {in_one_line}; --source takes a local copy'
      ) from error
    finally:
      shutil.rmtree(incoming, ignore_errors=True)
    return path


# Local copies and archives


def locate(source: str, expected: str, names: Iterable[str]) -> Path:
  """The source itself, or the first of the files and folders `names` that lies in it.

  Raises:
    OSError: the source does not exist, or is neither a file nor a folder; says what was `expected`.
  """
  path = files.source_path(source, expected)
  present = next((path / name for name in names if (path / name).exists()), path)
  return files.source_path(os.fspath(present), expected)


def obtain(
  source: str | None, archive: Download, expected: str, names: Iterable[str], work_dir: Path
) -> Path:
  """A local copy, see `locate`, or what is downloaded where no source is given."""
  return locate(source, expected, names) if source else archive.fetch(work_dir)


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
