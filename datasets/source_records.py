"""Records of a source that is given where records are expected: made once, and used again.

They lie in a folder whose name has a hash of the source's state: another number of files, other
bytes or another time of change are another folder. So what a run reads stays as it is, and two
processes that come at once make the same.
"""

import errno
import glob
import hashlib
import os
import time
from pathlib import Path

from absl import logging

from . import conversion, dataset_factory, dataset_info, formats, joined, runners, shards, tfds

CACHE_FOLDER = '.slim_inception_records'
_NOT_WRITABLE = frozenset([errno.EACCES, errno.EPERM, errno.EROFS])
_WAIT_SECS = 0.5


def find_or_make(
  dataset_name: str, dataset_dir: str | None, cache_dir: str | None = None
) -> dict[str, str]:
  """`dataset_name` and `dataset_dir` of the records of a source; {} where that holds records.

  So it does too where it is nothing that can be made records: opening it will say what is wrong.

  Args:
    dataset_name: as the user chose it; records of this name are read as they are.
    dataset_dir: a folder of records, or a source; or several of either, with commas between them.
    cache_dir: see `make`.

  Raises:
    ValueError, OSError: see `make`.
  """
  paths = joined.folders(dataset_dir)
  if not any(is_source(path, dataset_name) for path in paths):
    return {}
  folders = [make(path, cache_dir) if is_source(path, dataset_name) else path for path in paths]
  infos = [dataset_info.read_info(folder) for folder in folders]
  names = {info.name if info else dataset_name for info in infos}
  name = names.pop() if len(names) == 1 else 'image_folder'  # by which all can be read
  return {'dataset_name': name, 'dataset_dir': ','.join(folders)}


def is_source(path: str | os.PathLike, dataset_name: str = '') -> bool:
  """Whether something is no folder of records, but of a format that can be made records."""
  path = Path(path)
  if not path.exists() or (path.is_dir() and has_records(path)):
    return False
  try:
    recognized, _ = formats.recognize(os.fspath(path))
  except ValueError:
    return False
  known = dataset_factory.DATASETS.get(dataset_name)
  if recognized.name == 'tfds' and known and known.tfds_name:  # read as it is
    return not any(path.glob(f'**/{known.tfds_name}-*'))
  return True


def has_records(folder: Path) -> bool:
  """Whether a folder holds records, or what a conversion says of them."""
  names = os.listdir(folder)
  if tfds.FEATURES in names:  # of TensorFlow Datasets' sets, ImageNet alone is read as it is
    known = tuple(f'{d.tfds_name}-' for d in dataset_factory.DATASETS.values() if d.tfds_name)
    return any(name.startswith(known) for name in names)
  return dataset_info.INFO_FILE in names or any(map(shards.is_shard_name, names))


def make(
  source: str | os.PathLike,
  cache_dir: str | os.PathLike | None = None,
  split: str | None = None,
) -> str:
  """The folder of a source's records, which are made where they are not there yet.

  Another process that makes the same is waited for; an earlier one that was stopped is gone on
  with.

  Args:
    source: a folder or a file of which `is_source` is true.
    cache_dir: the folders of records lie there; by default in `CACHE_FOLDER` beside the source.
    split: of the source this one alone.

  Raises:
    ValueError: the source is not as its format expects.
    OSError: something cannot be read or written.
  """
  source = Path(os.path.abspath(source))
  cache = Path(cache_dir) if cache_dir else source.parent / CACHE_FOLDER
  folder = cache / f'{folder_name(source)}{f"-{split}" if split else ""}'
  others = [path for path in cache.glob(f'{glob.escape(source.name)}-*') if path != folder]
  is_waiting = False
  while not (folder / dataset_info.INFO_FILE).exists():
    try:
      if not is_waiting:
        changed = f'; of an earlier state of it are those in {others[0]}' if others else ''
        logging.info('%s', f'{source} is no folder of records: they are made in {folder}{changed}')
      options = conversion.Options(num_processes=runners.num_cores(), split=split)
      formats.convert(os.fspath(source), folder, options)
    except BlockingIOError:
      if not is_waiting:
        logging.info('Waiting for the process that makes records in %s', folder)
      is_waiting = True
      time.sleep(_WAIT_SECS)
    except FileExistsError:  # in this moment by another process
      if not (folder / dataset_info.INFO_FILE).exists():
        raise
    except OSError as error:
      if error.errno not in _NOT_WRITABLE or (folder / conversion.WORK_FOLDER).exists():
        raise
      message = 'no records can be made here: --cache_dir chooses another folder'
      raise type(error)(error.errno, message, os.fspath(cache)) from error
  logging.info('%s', f'The records of {source} are in {folder}')
  return os.fspath(folder)


def folder_name(source: Path) -> str:
  """The name of the folder of a source's records, in whichever cache."""
  return f'{source.name}-{state(source)}'


def state(source: Path) -> str:
  """A hash of a source's path, and of number, bytes and latest change of what lies there."""
  count, size, changed = 0, 0, source.stat().st_mtime_ns
  pending = [source] if source.is_dir() else []
  if not pending:
    count, size = 1, source.stat().st_size
  while pending:
    with os.scandir(pending.pop()) as entries:
      for entry in entries:
        if entry.name.startswith('.'):  # a cache of a source that lies within, for example
          continue
        status = entry.stat(follow_symlinks=not entry.is_symlink() or entry.is_file())
        count, size = count + 1, size + status.st_size * (not entry.is_dir())
        changed = max(changed, status.st_mtime_ns)
        if entry.is_dir(follow_symlinks=False):
          pending.append(Path(entry.path))
  facts = os.path.realpath(source), count, size, changed
  return hashlib.blake2b(repr(facts).encode(), digest_size=6).hexdigest()
