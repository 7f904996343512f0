"""One writer a folder: whoever writes into an output folder owns it until it ends."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from . import files

# What flock says where a file system has no locks: NFS without its lock service, Lustre mounted
# without -o flock, some FUSE file systems.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_MOST_TRIES = 1000  # each loses to somebody who owned the folder for a moment


class FolderLock:
  """A folder that this process writes into, and no other that does the same."""

  def __init__(self, path: Path, what: str, content: bytes):
    self._path = path
    self._what = what
    self._content = content

  def check(self) -> None:
    """Call it before something is written that must not stand alone or in another's way.

    Raises:
      OSError: the folder has been removed or replaced, or another process has taken it over, which
        can happen only where hosts do not see each other's locks.
    """
    try:
      content = self._path.read_bytes()
    except FileNotFoundError:
      message = f'removed or replaced while this {self._what} wrote into it'
      raise FileNotFoundError(errno.ENOENT, message, str(self._path.parent)) from None
    if content != self._content:
      raise _taken(self._path, self._what)


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike, what: str) -> Iterator[FolderLock]:
  """Makes a folder if need be and owns it: another process that wants the same is refused.

  The lock is the kernel's (flock) on the file `.<what>.lock` in the folder, so it ends with the
  process, however that ends; stopped processes keep it. NFS passes flock on to the server, so that
  it holds between hosts; where a file system keeps it to a host (Lustre with localflock, FUSE),
  `FolderLock.check` notices a second owner. Where it has no locks at all, the file is the lock: a
  killed process leaves it behind, and the error says that it is to be removed.

  What this made and nothing was put into is removed at the end.

  Args:
    folder: the folder.
    what: what its owner does, e.g. 'training'; different things do not exclude each other.

  Raises:
    BlockingIOError: another process owns it: its host, number and start are named.
    OSError: the folder cannot be made or written into.
  """
  folder = Path(folder)
  made = [path for path in (folder, *folder.parents) if not path.exists()]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'.{what}.lock'
    descriptor = _acquire(path, what)
    try:
      content = _describe(what)
      with files.naming_full_disk(folder):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
      lock = FolderLock(path, what, content)
      try:
        yield lock
      except FileNotFoundError:
        lock.check()  # says why, if it is the folder that is missing
        raise
    finally:
      if not _is_file_at(path, descriptor):
        made = []  # these are others of the same names
      else:
        with contextlib.suppress(OSError):  # before it is free: whoever waits at it looks again
          path.unlink()
      os.close(descriptor)
  finally:
    for each in made:
      with contextlib.suppress(OSError):  # there is something in it
        each.rmdir()


def _acquire(path: Path, what: str) -> int:
  """The descriptor that holds the lock."""
  for _ in range(_MOST_TRIES):
    is_new = True
    try:
      with files.naming_full_disk(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
      is_new = False
      try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
      except FileNotFoundError:
        continue  # its owner has just removed it
    try:
      _lock(descriptor, path, what, is_new)
    except BaseException:
      os.close(descriptor)
      raise
    if _is_file_at(path, descriptor):
      return descriptor
    os.close(descriptor)  # removed by its owner between the two
  raise _taken(path, what)


def _lock(descriptor: int, path: Path, what: str, is_new: bool) -> None:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise _taken(path, what) from None
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    if is_new:
      return
    advice = f' (no locks on this file system: if it has ended, remove {path})'
    raise _taken(path, what, advice) from error
  owner = _owner(path)
  if owner.get('host', platform.node()) != platform.node():
    logging.warning(
      '%s: taking over from %s, which was killed, or does not share its locks with this host',
      path.parent,
      _text(owner),
    )


def _is_file_at(path: Path, descriptor: int) -> bool:
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except OSError:
    return False


def _describe(what: str) -> bytes:
  now = datetime.datetime.now().astimezone().isoformat(' ', 'seconds')
  owner = {'what': what, 'host': platform.node(), 'process': os.getpid(), 'since': now}
  return json.dumps(owner).encode() + b'\n'


def _owner(path: Path) -> dict[str, object]:
  """What the file of a lock says; {} where nobody has written into it."""
  try:
    owner = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return {}
  return owner if isinstance(owner, dict) else {}


def _text(owner: dict[str, object]) -> str:
  host, process, since = (owner.get(name, 'unknown') for name in ('host', 'process', 'since'))
  return f'host {host}, process {process}, since {since}'


def _taken(path: Path, what: str, advice: str = '') -> BlockingIOError:
  owner = _owner(path)
  who = f'another {what} writes there: {_text(owner)}' if owner else f'another {what} writes there'
  return BlockingIOError(errno.EAGAIN, who + advice, str(path.parent))
