"""Records without the images of an exclude list: the others are copied, byte for byte in order."""

import collections
import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from . import conversion, dataset_info, exclude_list, files, record_listing, shards
from .dataset_info import DatasetInfo, Split
from .folder_lock import locked_folder
from .progress_bar import ProgressBar


def leave_out(
  source: str | os.PathLike,
  dataset_dir: str | os.PathLike,
  name_or_path: str,
  overwrite: bool = False,
) -> conversion.Conversion:
  """Copies records but for the images that a list names; shards keep their names.

  Args:
    source: a folder of records with `dataset.json`.
    dataset_dir: another folder, for the copy; `dataset.json` is written at last.
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
    raise ValueError(f'{source} has no {dataset_info.INFO_FILE}: records are told by it')
  if dataset_dir.resolve() == source.resolve():
    raise ValueError(f'{dataset_dir} is the source itself: choose another --dataset_dir')
  for name in info.splits:
    dataset_info.check_sizes(source, info, name)
  omitted = _omitted(source, info, name_or_path)
  with locked_folder(dataset_dir, 'conversion') as lock:
    _make_room(dataset_dir, overwrite)
    total = sum(split.num_images for split in info.splits.values())
    splits = {}
    with ProgressBar('Copying', total, 'images') as bar:
      for name, split in info.splits.items():
        written = []
        for shard in split.shards:
          lock.check()
          kept = _kept(source / shard.name, omitted.get(shard.name, {}))
          written.append(shards.write_shard(dataset_dir / shard.name, kept))
          bar.update(shard.num_images)
        lost = collections.Counter(
          label
          for shard in split.shards
          for record in omitted.get(shard.name, {}).values()
          for label in record.labels
        )
        splits[name] = Split(
          num_images=sum(shard.num_images for shard in written),
          num_shards=len(written),
          label_counts=tuple(n - lost[label] for label, n in enumerate(split.label_counts)),
          shards=tuple(written),
        )
    excluded = [r.filename for of_shard in omitted.values() for r in of_shard.values()]
    report = {'dataset': info.name, 'source': os.fspath(source), 'exclude_list': name_or_path}
    files.write_json(
      dataset_dir / conversion.REPORT_FILE,
      {**report, 'num_excluded': len(excluded), 'excluded': excluded},
    )
    info = dataclasses.replace(info, splits=splits)
    lock.check()
    dataset_info.write_info(dataset_dir, info)
  return conversion.Conversion(info, [], [], excluded=excluded)


_Omitted = Mapping[str, Mapping[int, record_listing.ListedRecord]]


def _omitted(source: Path, info: DatasetInfo, name_or_path: str) -> _Omitted:
  """{shard: {number of the record in it: record}} of what the list names."""
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


def _make_room(dataset_dir: Path, overwrite: bool) -> None:
  names = sorted(os.listdir(dataset_dir))
  own = [name for name in names if name == dataset_info.INFO_FILE or shards.is_shard_name(name)]
  if own and not overwrite:
    raise FileExistsError(
      f'{dataset_dir} already holds a data set ({own[0]}): choose another folder or say --overwrite'
    )
  for name in sorted(own, key=lambda name: name != dataset_info.INFO_FILE):
    (dataset_dir / name).unlink()
