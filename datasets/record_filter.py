"""Records without the images of an exclude list: the others are copied, byte for byte in order."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from . import conversion, dataset_info, exclude_list, files, record_listing, shards
from .dataset_info import DatasetInfo, Split
from .folder_lock import FolderLock, locked_folder
from .progress_bar import ProgressBar
from .shards import Shard

# {shard: {number of the record in it: record}}
_Omitted = Mapping[str, Mapping[int, record_listing.ListedRecord]]


def leave_out(
  source: str | os.PathLike,
  dataset_dir: str | os.PathLike,
  name_or_path: str,
  overwrite: bool = False,
) -> conversion.Conversion:
  """Copies records but for the images that a list names; shards keep their names.

  Args:
    source: a folder of records with `dataset.json`.
    dataset_dir: another folder, for the copy; `dataset.json` is written at last. An earlier run of
      the same that was stopped is gone on with.
    name_or_path: see `exclude_list.read`.
    overwrite: replace records that are there.

  Raises:
    ValueError: records are damaged, the list names no image, or it leaves nothing of a split.
    OSError: something cannot be read or written, or `dataset_dir` holds records and `overwrite` is
      not set.
  """
  source, dataset_dir = Path(source), Path(dataset_dir)
  info = dataset_info.read_info(source)
  if info is None:
    raise ValueError(f'{source} has no {dataset_info.INFO_FILE}, which folders of records have')
  if dataset_dir.resolve() == source.resolve():
    raise ValueError(f'{dataset_dir} is the source itself: choose another --dataset_dir')
  for name in info.splits:
    dataset_info.check_sizes(source, info, name)
  omitted = _omitted(source, info, name_or_path)
  with (
    locked_folder(dataset_dir, 'conversion') as lock,
    conversion.work_folder(dataset_dir) as work_dir,
  ):
    if not overwrite:
      conversion.check_unused(dataset_dir)
    conversion.take_up(_fingerprint(info, omitted), dataset_dir, overwrite)
    copied = _copy(source, dataset_dir, info, omitted, work_dir, lock)
    info = _info_of_copy(info, omitted, copied)
    excluded = [r.filename for of_shard in omitted.values() for r in of_shard.values()]
    report = {'dataset': info.name, 'source': os.fspath(source), 'exclude_list': name_or_path}
    files.write_json(
      dataset_dir / conversion.REPORT_FILE,
      {**report, 'num_excluded': len(excluded), 'excluded': excluded},
    )
    lock.check()
    conversion.finish(info, dataset_dir)
  return conversion.Conversion(info, [], [], excluded=excluded)


def _copy(
  source: Path,
  dataset_dir: Path,
  info: DatasetInfo,
  omitted: _Omitted,
  work_dir: Path,
  lock: FolderLock,
) -> dict[str, Shard]:
  """Writes the shards that an earlier run has not written; returns all by their names."""
  images = {
    shard.name: shard.num_images for split in info.splits.values() for shard in split.shards
  }
  copied = {name: shard for name in images if (shard := _finished(dataset_dir / name, work_dir))}
  rest = [name for name in images if name not in copied]
  if rest:
    conversion.say_going_on(len(copied), len(images))
  try:
    with ProgressBar('Copying', sum(images[name] for name in rest), 'images') as bar:
      for name in rest:
        lock.check()
        shard = shards.write_shard(dataset_dir / name, _kept(source / name, omitted[name]))
        files.write_json(work_dir / f'{name}.json', dataclasses.asdict(shard))
        copied[name] = shard
        bar.update(images[name])
  except BaseException:
    conversion.say_stopped(len(copied), len(images))
    raise
  return copied


def _finished(path: Path, work_dir: Path) -> Shard | None:
  """A shard that an earlier run wrote; None where it has to be written."""
  try:
    shard = files.read_json(work_dir / f'{path.name}.json', Shard)
    return shard if shard and os.path.getsize(path) == shard.num_bytes else None
  except (OSError, ValueError):
    return None


def _info_of_copy(info: DatasetInfo, omitted: _Omitted, copied: Mapping[str, Shard]) -> DatasetInfo:
  """What is said of the records that are left."""
  splits = {}
  for name, split in info.splits.items():
    written = tuple(copied[shard.name] for shard in split.shards)
    lost = collections.Counter(
      label
      for shard in split.shards
      for record in omitted[shard.name].values()
      for label in record.labels
    )
    splits[name] = Split(
      num_images=sum(shard.num_images for shard in written),
      num_shards=len(written),
      label_counts=tuple(n - lost[label] for label, n in enumerate(split.label_counts)),
      shards=written,
    )
  return dataclasses.replace(info, splits=splits)


def _fingerprint(info: DatasetInfo, omitted: _Omitted) -> str:
  """A hash of all that the shards depend on: the records, and which are left out."""
  numbers = {name: sorted(of_shard) for name, of_shard in omitted.items()}
  return hashlib.blake2b(repr((info, numbers)).encode(), digest_size=16).hexdigest()


def _omitted(source: Path, info: DatasetInfo, name_or_path: str) -> _Omitted:
  """The records that the list names."""
  leaves_out = exclude_list.read(name_or_path)
  names: list[str] = []
  omitted: dict[str, dict[int, record_listing.ListedRecord]] = {}
  for split_name, split in info.splits.items():
    for shard in split.shards:
      listed = list(record_listing.of_shard(source / shard.name))
      names += [record.filename for record in listed]
      omitted[shard.name] = {
        number: record
        for number, record in enumerate(listed)
        if leaves_out.is_excluded(record.filename, split_name)
      }
    if sum(len(omitted[shard.name]) for shard in split.shards) == split.num_images:
      raise ValueError(f'--exclude_list={name_or_path} leaves no image for {split_name!r}')
  exclude_list.warn_of_unused(leaves_out, names)
  return omitted


def _kept(path: Path, omitted: Collection[int]) -> Iterator[list[bytes]]:
  for number, record in enumerate(shards.read_shard(path)):
    if record.damage:
      raise ValueError(f'{record.location} {record.damage}')
    if number not in omitted:
      yield [record.data]
