"""Files and folders: writing whole or not at all, and looking around."""

import codecs
import contextlib
import errno
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .typed import typed

# .<name of the file>.<host>-<process>.partial; what TensorFlow writes under a prefix has a suffix.
_TEMPORARY = re.compile(r'\.(?P<name>.+)\.[^.]+-\d+\.partial(\..+)?', re.DOTALL)

# Folders of macOS' zips, of Synology's and QNAP's disks, of file systems and of Windows.
_OF_SYSTEMS = frozenset(
  [
    '__MACOSX', '@eaDir', '@__thumb', '#recycle', '#snapshot', 'lost+found', '$RECYCLE.BIN',
    'System Volume Information', '__pycache__',
  ]
)  # fmt: skip


def temporary_path(path: str | os.PathLike) -> Path:
  """Where this process writes what is to become `path`: a hidden name in the same folder.

  Host and process are part of it, so that no two on a shared disk write into one file.
  """
  path = Path(path)
  host = platform.node().partition('.')[0] or 'localhost'
  return path.with_name(f'.{path.name}.{host}-{os.getpid()}.partial')


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` on success and vanishes on any error.

  A process that is killed in between leaves at most the temporary file, see `sweep`. On success
  the file is on the disk under its name: power may fail. Where the disk is full, OSError names
  `path`.
  """
  path, temporary = Path(path), temporary_path(path)
  try:
    with naming_full_disk(path):
      yield temporary
      _flush(temporary)
      os.replace(temporary, path)
    with contextlib.suppress(OSError):  # a file system that cannot do so with a folder
      _flush(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


# Errors of the operating system

_FULL = errno.ENOSPC, errno.EDQUOT
_REASONS = {os.strerror(number): number for number in errno.errorcode}
_ANY_REASON = '|'.join(map(re.escape, sorted(_REASONS, key=len, reverse=True)))
# TensorFlow's '{{function_node ...}} PATH; REASON [Op:...]', and lines that say more.
_TENSORFLOW = re.compile(
  rf'(\{{\{{.*?\}}\}} )?(?P<path>[^\n]+?); (?P<reason>{_ANY_REASON})(?=$|\n| \[Op:)'
)
_FULL_REASON = re.compile('|'.join(re.escape(os.strerror(number)) for number in _FULL))


def system_error(error: BaseException) -> OSError | None:
  """The operating system's error behind an error of any library; None: it is another one.

  TensorFlow has one class for a full disk and for full memory, HDF5 and safetensors have classes of
  their own: the message tells.
  """
  if isinstance(error, OSError) and error.errno:
    return error
  message = str(getattr(error, 'message', None) or error)
  if (match := _TENSORFLOW.match(message)) and hasattr(error, 'node_def'):  # TensorFlow's classes
    return OSError(_REASONS[match['reason']], match['reason'], match['path'])
  if match := _FULL_REASON.search(message):
    return OSError(_REASONS[match[0]], match[0])
  return None


def is_disk_full(error: BaseException) -> bool:
  """Whether an error of any library says that the disk, or the user's part of it, is full."""
  cause = system_error(error)
  return cause is not None and cause.errno in _FULL


@contextlib.contextmanager
def naming_full_disk(path: str | os.PathLike) -> Iterator[None]:
  """Has the error of a full disk be an OSError of `path`, whatever library writes it.

  Raises:
    OSError: the disk is full; an error that names another file than a temporary one stays.
  """
  try:
    yield
  except Exception as error:
    cause = system_error(error)
    if cause is None or cause.errno not in _FULL:
      raise
    # Copying names its source first, which is not what lacks room.
    name = error.filename if isinstance(error, OSError) and not error.filename2 else None
    if isinstance(name, (str, os.PathLike)) and not _is_temporary(name):
      raise
    raise OSError(cause.errno, os.strerror(cause.errno), os.fspath(path)) from error


def _is_temporary(path: str | os.PathLike) -> bool:
  return any(_TEMPORARY.fullmatch(part) for part in Path(path).parts)


def _flush(path: Path) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sweep(folder: str | os.PathLike, name_pattern: str) -> None:
  """Removes what killed processes left of `atomic_path` in a folder, which need not be there.

  Only call it where nobody else is writing files of these names. Folders stay, and every file
  that has another name than `temporary_path` gives.

  Args:
    folder: where to look; not below it.
    name_pattern: regular expression of the names that the files were to have.
  """
  with contextlib.suppress(FileNotFoundError), os.scandir(os.fspath(folder)) as entries:
    for entry in entries:
      match = _TEMPORARY.fullmatch(entry.name)
      if match and re.fullmatch(name_pattern, match['name']) and not entry.is_dir():
        os.unlink(entry.path)


def write_json(path: str | os.PathLike, content: Any) -> None:
  """Writes indented JSON, atomically."""
  with atomic_path(path) as temporary:
    temporary.write_text(json_text(content, indent=2) + '\n', 'utf-8')


def json_text(content: Any, indent: int | None = None) -> str:
  """JSON with letters as they are, and as escapes what a terminal obeys and what is no UTF-8."""
  text = json.dumps(content, indent=indent, ensure_ascii=False)
  # Those below U+0020 json.dumps escapes itself. Bytes that are no UTF-8 are in Python's strings as
  # U+DC80 to DCFF, and so they are read again.
  return re.sub(r'[\x7f-\x9f\ud800-\udfff]', lambda match: f'\\u{ord(match[0]):04x}', text)


def decoded(content: bytes, errors: str = 'strict') -> str:
  """Text of UTF-8, or of UTF-16 with a byte order mark; without the mark that Windows writes.

  Raises:
    UnicodeDecodeError: it is neither, and `errors` is 'strict'.
  """
  is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  return content.decode('utf-16' if is_wide else 'utf-8-sig', errors)


def read_text(path: str | os.PathLike) -> str:
  """The text of a file, see `decoded`.

  Raises:
    ValueError: it is no text; names the file.
    OSError: it cannot be read.
  """
  try:
    return decoded(Path(path).read_bytes())
  except UnicodeDecodeError as error:
    raise ValueError(f'{os.fspath(path)} is no UTF-8 text') from error


def read_json(path: str | os.PathLike, kind: Any = Any) -> Any:
  """The content of a JSON file; None where there is none.

  Args:
    path: of the file.
    kind: what it holds, see `typed.typed`.

  Raises:
    ValueError: it is no JSON, or of another kind; names the file and the field.
    OSError: it cannot be read.
  """
  try:
    content = Path(path).read_bytes()
  except FileNotFoundError:
    return None
  return parse_json(content, os.fspath(path), kind)


def parse_json(content: bytes, name: str, kind: Any = Any) -> Any:
  """What JSON says; see `read_json`.

  Args:
    content: UTF-8 text.
    name: of the file, for errors.
    kind: what it holds, see `typed.typed`.
  """
  try:
    value = json.loads(decoded(content))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{name} is no valid JSON: {error}') from error
  try:
    return typed(value, kind)
  except ValueError as error:
    raise ValueError(f'{name}: {error}') from None


class EndsEarlyError(OSError):
  """A file has fewer bytes than it was said to have."""


def read_at(path: str, offset: int, size: int) -> bytes:
  """Reads that many bytes; raises EndsEarlyError where the file ends before."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    end = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, offset) if offset + size <= end else b''
  finally:
    os.close(descriptor)
  if len(content) != size:
    raise EndsEarlyError(f'{path} ends at byte {end}: it was longer when it was listed')
  return content


def is_visible(name: str) -> bool:
  """Whether an entry of a folder or archive is the user's: not hidden, and of no system's own."""
  return name[:1] != '.' and not is_systems(name)


def is_systems(name: str) -> bool:
  """Whether an operating system, a file system or a disk's software puts folders of this name."""
  return name in _OF_SYSTEMS


def subfolders(folder: Path) -> list[Path]:
  """Visible folders in a folder, by name; a link to nothing, or one to itself, is none."""
  with os.scandir(folder) as entries:
    return sorted(
      folder / entry.name
      for entry in entries
      if is_visible(entry.name)
      and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
    )


# Halves of UTF-16's pairs, which JSON's \ud83d may leave alone: no bytes of a name become these.
_NO_BYTES = re.compile('[\ud800-\udc7f\udd00-\udfff]')
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f]')


def printable(text: str | os.PathLike) -> str:
  """Text of others, e.g. a file's name, as one line that a terminal shows and does not obey.

  Control characters (U+0000 to 1F, 7F to 9F) are written as \\x0a, and bytes that are no UTF-8 as
  \\udcff: whatever the file system has, the text can be printed.
  """
  text = os.fspath(text).encode('utf-8', 'backslashreplace').decode()
  return _CONTROL.sub(lambda match: f'\\x{ord(match[0]):02x}', text)


_NUMBER = re.compile(r'[+-]?\d+(\.\d*)?([eE][+-]?\d+)?')
_FORMULA = re.compile(r"'*[=+\-@\uff1d\uff0b\uff0d\uff20]")  # the last four are wide ones


def csv_cell(text: str) -> str:
  """Text that a spreadsheet shows and does not compute: one line, see `printable`.

  What begins like a formula, with = + - or @, and is no number gets an apostrophe in front, as
  https://owasp.org/www-community/attacks/CSV_Injection has it. So does what has apostrophes before
  that: taking one away gives the text in all cases.
  """
  text = printable(text)
  return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def readable(path: str | os.PathLike) -> str:
  """A path as text that can be stored as UTF-8, whatever bytes the file system has."""
  path = os.fspath(path)
  if path.isascii():
    return path
  path = _NO_BYTES.sub('\ufffd', path)
  return path.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


def source_path(source: str | None, expected: str, is_folder: bool = False) -> Path:
  """An absolute path: whoever reads it may stand in another folder.

  Raises:
    ValueError: there is no source.
    OSError: it does not exist, is neither a file nor a folder, or `is_folder` is set and it is
      none.
  """
  if not source:
    raise ValueError(f'--source is needed: {expected}')
  path = Path(source)
  if not path.exists():
    raise FileNotFoundError(f'source {source} does not exist; expected {expected}')
  if is_folder and not path.is_dir():
    raise NotADirectoryError(f'source {source} is no folder; expected {expected}')
  if not (path.is_dir() or path.is_file()):  # reading a FIFO may wait for ever
    raise OSError(f'source {source} is neither a file nor a folder; expected {expected}')
  return path.absolute()


def some(names: Iterable[str], most: int = 5) -> str:
  """Lists a few names and says how many more there are."""
  names = list(names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
