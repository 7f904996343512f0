"""Files and folders: writing whole or not at all, and looking around."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` on success and vanishes on any error.

  Whoever is killed in between leaves at most a hidden file, which the next attempt replaces.
  """
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.partial')
  try:
    yield temporary
    with open(temporary, 'rb') as file:
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: dict) -> None:
  with atomic_path(path) as temporary:
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', 'utf-8')


def subfolders(folder: Path) -> list[Path]:
  """Visible folders in a folder, by name."""
  return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != '.')


def readable(path: str | os.PathLike) -> str:
  """A path as text that can be stored as UTF-8, whatever bytes the file system has."""
  path = os.fspath(path)
  return path if path.isascii() else os.fsencode(path).decode('utf-8', 'replace')


def source_folder(source: str | None, expected: str) -> Path:
  """Raises ValueError or OSError where the source is not given or is no folder."""
  path = source_path(source, expected)
  if not path.is_dir():
    raise NotADirectoryError(f'source {source} is no folder; expected {expected}')
  return path


def source_path(source: str | None, expected: str) -> Path:
  """An absolute path: whoever reads it may stand in another folder.

  Raises:
    ValueError, OSError: the source is not given or does not exist.
  """
  if not source:
    raise ValueError(f'--source is needed: {expected}')
  path = Path(source)
  if not path.exists():
    raise FileNotFoundError(f'source {source} does not exist; expected {expected}')
  return path.absolute()


def some(names: Iterable[str], most: int = 5) -> str:
  """Lists a few names and says how many more there are."""
  names = list(names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
