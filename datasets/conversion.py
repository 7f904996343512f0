"""From images to records: what all converters share.

A converter says what there is (a `Plan`). This module puts it in order, cuts it into jobs of one
shard each, has a runner do them, and writes a report and at last `dataset.json`. The jobs are a
pure function of plan and seed; what an earlier run of the same jobs finished is not done again.
"""

import collections
import contextlib
import dataclasses
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from absl import logging

from . import dataset_info, duplicates, exclude_list, files, images, runners, shard_job, shards
from .folder_lock import FolderLock, locked_folder
from .progress_bar import ProgressBar, waiting
from .shard_job import Item, ShardJob, ShardReport, labels_of

REPORT_FILE = 'conversion_report.json'
# Stands in a folder until dataset.json does: which conversion this is and what it has finished.
WORK_FOLDER = '.conversion'
SPLITS = 'train', 'validation', 'test'
# Options of lists of images; of these, those of tables too.
OF_LISTS = 'image_column', 'label_column', 'split_column', 'label_separator', 'image_root'
OF_TABLES = 'image_column', 'label_column'
MAX_SHARDS = 99999  # what the names of the files hold
_BYTES_PER_SHARD = 256 << 20
_FINGERPRINT = 'fingerprint'
_OWN_FILES = r'[a-z]+-\d{5}-of-\d{5}(\.json|\.job)?'  # in both folders


@dataclasses.dataclass(frozen=True)
class Options:
  """What the user may choose of a conversion; None leaves it to the data set."""

  train_shards: int | None = None
  validation_shards: int | None = None
  validation_fraction: float | None = None
  split: str | None = None  # of the source this one alone; all of it where it has none
  labels: str | None = None  # file of class names, see `label_files`
  # Of lists, see `manifest`; columns also of tables, and the key of labels in JSON.
  label_column: str | None = None
  image_column: str | None = None
  split_column: str | None = None
  label_separator: str | None = None
  image_root: str | None = None
  exclude_list: str | None = None  # images that are left out, see `exclude_list`
  drop_duplicates: bool = False
  store_size: int | None = None  # pixels of the shorter side of what is stored, at most
  store_quality: int | None = None  # of JPEGs that this makes smaller
  seed: int = 0
  overwrite: bool = False
  skip_bad: bool = True
  num_processes: int = 1
  beam: bool = False
  beam_options: str = ''

  def __post_init__(self) -> None:
    for name in ('train_shards', 'validation_shards', 'num_processes'):
      count = getattr(self, name)
      if count is not None and not 1 <= count <= MAX_SHARDS:
        raise ValueError(f'{name} must be between 1 and {MAX_SHARDS}, not {count}')
    fraction = self.validation_fraction
    if fraction is not None and not 0 <= fraction < 1:
      raise ValueError(f'validation_fraction must be at least 0 and less than 1, not {fraction}')
    if self.store_quality is not None and self.store_size is None:
      raise ValueError('--store_quality is of images that --store_size makes smaller: give both')

  @property
  def stored(self) -> images.StoreSize | None:
    """How large images are stored; None: as they are."""
    if self.store_size is None:
      return None
    return images.StoreSize(self.store_size, self.store_quality or images.STORE_QUALITY)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a converter found in its source.

  Attributes:
    name: of the data set.
    splits: the items of each, in any order that does not change from run to run.
    labels: name of every label from 0.
    num_shards: of each split unless the user chooses.
    label_offset: 1 where label 0 is a background that no image has.
    synsets: WordNet id of every label, '' for the background; () where there are none.
    boxes: file name without extension -> boxes, packed by `imagenet_boxes`.
    as_slim: images are stored as slim stored ImageNet's, see `images.read_image`.
    folders: whatever appears in them is taken as source, so no records may be written there.
    notes: what the user should know about the source.
    multi_label: an image has any number of labels, in a tuple.
    recognized: what format the source was recognized as, and why, where nobody said it.
    unusable: what of the source cannot be used, and why, as is known before images are read.
    copies: groups of items that are equal byte for byte; None where nobody has looked.
  """

  name: str
  splits: dict[str, list[Item]]
  labels: tuple[str, ...]
  num_shards: dict[str, int]
  label_offset: int = 0
  synsets: tuple[str, ...] = ()
  boxes: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
  as_slim: bool = False
  folders: tuple[Path, ...] = ()
  notes: tuple[str, ...] = ()
  multi_label: bool = False
  recognized: str = ''
  unusable: tuple[tuple[str, str], ...] = ()
  copies: Sequence[Sequence[Item]] | None = None


# Source, options, and a folder for what has to be unpacked -> what is to be converted. It raises
# ValueError where the source is damaged or not laid out as the data set expects, or an option has
# no meaning there, and OSError where the source is not there or a download failed.
MakePlan = Callable[[str | None, Options, Path], Plan]


@dataclasses.dataclass(frozen=True)
class Conversion:
  info: dataset_info.DatasetInfo
  skipped: list[dict[str, str]]
  changed: list[dict[str, str]]
  num_resized: int = 0  # to --store_size
  dropped: list[dict[str, str]] = dataclasses.field(default_factory=list)  # {'file', 'copy_of'}
  excluded: list[str] = dataclasses.field(default_factory=list)  # files, by --exclude_list


def convert(
  make_plan: MakePlan,
  source: str | None,
  dataset_dir: str | os.PathLike,
  options: Options | None = None,
) -> Conversion:
  """Converts a source to shards, `conversion_report.json` and `dataset.json` in `dataset_dir`.

  The same source and seed give the same bytes, whoever runs the jobs. Images that cannot be used
  are skipped and listed in the report. Whatever stops the conversion, no half shard and no
  `dataset.json` is left, and started again it goes on after the shards that are finished.

  Raises:
    ValueError: the source is not laid out as the data set expects, or holds no usable image.
    OSError: something cannot be read or written, another conversion is writing there, or
      `dataset_dir` holds records already and `options.overwrite` is not set.
  """
  options = options or Options()
  dataset_dir = Path(dataset_dir)
  with locked_folder(dataset_dir, 'conversion') as lock, work_folder(dataset_dir) as work_dir:
    if not options.overwrite:
      check_unused(dataset_dir)
    with runners.pool(1 if options.beam else options.num_processes) as processes:
      with waiting(f'Looking through {source or "the source"}', at_once=False):
        plan = _only_split(make_plan(source, options, work_dir), options.split, source)
        plan, excluded = _without_excluded(plan, options.exclude_list)
        plan, dropped = _without_copies(plan) if options.drop_duplicates else (plan, [])
      _check_plan(plan, source, dataset_dir, options)
      for note in plan.notes:
        logging.info('%s', note)
      jobs = [job for split in plan.splits for job in _jobs(plan, split, dataset_dir, options)]
      take_up(_fingerprint(jobs, plan), dataset_dir, options.overwrite)
      reports = _run(jobs, options, work_dir, processes, lock)
    lock.check()
    conversion = _summarize(plan, reports, options)
    conversion = dataclasses.replace(conversion, dropped=dropped, excluded=excluded)
    lost = [*_lost_classes(plan, conversion)]
    for note in lost:
      logging.warning('%s', note)
    report = _report(plan, source, options, conversion, [*plan.notes, *lost])
    files.write_json(dataset_dir / REPORT_FILE, report)
    conversion = _without_empty_splits(conversion, dataset_dir)
    finish(conversion.info, dataset_dir)
  return conversion


def _report(
  plan: Plan, source: str | None, options: Options, conversion: Conversion, notes: Sequence[str]
) -> dict[str, Any]:
  """The content of `conversion_report.json`: facts, then counts, then lists."""
  facts: dict[str, Any] = {'dataset': plan.name, 'source': source}
  facts |= {'recognized': plan.recognized} if plan.recognized else {}
  facts |= {'seed': options.seed, 'notes': notes}
  counts = {'num_skipped': len(conversion.skipped), 'num_changed': len(conversion.changed)}
  counts |= {'num_resized': conversion.num_resized} if options.stored else {}
  lists: dict[str, Any] = {'skipped': conversion.skipped, 'changed': conversion.changed}
  if options.drop_duplicates:
    counts |= {'num_dropped': len(conversion.dropped)}
    lists |= {'dropped': conversion.dropped}
  if options.exclude_list:
    facts |= {'exclude_list': options.exclude_list}
    counts |= {'num_excluded': len(conversion.excluded)}
    lists |= {'excluded': conversion.excluded}
  return {**facts, **counts, **lists}


def _only_split(plan: Plan, split: str | None, source: str | None) -> Plan:
  """The part of a plan that `--split` asks for."""
  if split is None:
    return plan
  if split not in plan.splits:
    raise ValueError(
      f'{source or plan.name} has no split {split!r}; it has {", ".join(plan.splits)}'
    )
  return dataclasses.replace(plan, splits={split: plan.splits[split]})


def _without_copies(plan: Plan) -> tuple[Plan, list[dict[str, str]]]:
  """A plan without images that are there more than once, and these: {'file', 'copy_of'}."""
  copies = plan.copies
  if copies is None:
    copies = duplicates.find(item for items in plan.splits.values() for item in items)
  of_plan = {id(item) for items in plan.splits.values() for item in items}  # --split leaves some
  groups = [[item for item in group if id(item) in of_plan] for group in copies]
  splits, dropped = duplicates.drop(plan.splits, groups)
  return dataclasses.replace(plan, splits=splits), [copy._asdict() for copy in dropped]


def _without_excluded(plan: Plan, name_or_path: str | None) -> tuple[Plan, list[str]]:
  """A plan without the images of an `exclude_list`, and the names of these.

  Where a name is of one image alone, it does not matter which split a table says that it is in:
  another share may have been held out then.
  """
  if name_or_path is None:
    return plan, []
  leaves_out = exclude_list.read(name_or_path)
  names = [item.filename for items in plan.splits.values() for item in items]
  exclude_list.warn_of_unused(leaves_out, names)
  counts = collections.Counter(names)
  excluded: list[str] = []
  splits: dict[str, list[Item]] = {}
  for split, items in plan.splits.items():
    splits[split] = []
    for item in items:
      of_split = split if counts[item.filename] > 1 else ''
      if leaves_out.is_excluded(item.filename, of_split):
        excluded.append(item.filename)
      else:
        splits[split].append(item)
    if items and not splits[split]:
      raise ValueError(f'--exclude_list={name_or_path} leaves no image for {split!r}')
  return dataclasses.replace(plan, splits=splits), excluded


def shuffled(items: Iterable[Item], seed: int, purpose: str) -> list[Item]:
  """Orders items by a hash of their names: no generator whose state or version could differ."""

  def key(item: Item) -> bytes:
    return hashlib.blake2b(f'{seed}/{purpose}/{item.filename}'.encode(), digest_size=16).digest()

  return sorted(items, key=key)


def num_shards(items: Sequence[Item], images_per_shard: float, at_least: int = 1) -> int:
  """How many shards a split is cut into: by its images, and by its bytes where these are large."""
  num_bytes = sum(item.source.size for item in items)
  by_images, by_bytes = len(items) / images_per_shard, num_bytes / _BYTES_PER_SHARD
  return min(max(at_least, math.ceil(by_images), math.ceil(by_bytes)), MAX_SHARDS)


def refuse(options: Options, reason: str, *names: str) -> None:
  """Raises ValueError where an option is set that has no meaning for a data set."""
  for name in names:
    if getattr(options, name) is not None:
      raise ValueError(f'{reason}: leave out --{name}')


def refuse_list_options(options: Options) -> None:
  """Raises ValueError where an option is set that has a meaning for lists, but not for tables."""
  refuse(options, 'this is no list of images', *(n for n in OF_LISTS if n not in OF_TABLES))


def size_notes(
  name: str, splits: Mapping[str, list[Item]], sizes: Mapping[str, int]
) -> tuple[str, ...]:
  """What to say of splits that do not have as many images as is known of the data set."""
  return tuple(
    f'{split} of {name} has {sizes[split]:,} images, not {len(items):,}'
    for split, items in splits.items()
    if len(items) != sizes[split]
  )


# The folder


def check_unused(dataset_dir: Path) -> None:
  """Refuses a folder that holds records, unless they are of an unfinished conversion."""
  if not dataset_dir.is_dir() or (dataset_dir / WORK_FOLDER / _FINGERPRINT).exists():
    return
  names = sorted(os.listdir(dataset_dir))
  own = [name for name in names if name == dataset_info.INFO_FILE or shards.is_shard_name(name)]
  if own:
    raise FileExistsError(
      f'{dataset_dir} already holds a data set ({own[0]}): choose another folder or say --overwrite'
    )


@contextlib.contextmanager
def work_folder(dataset_dir: Path) -> Iterator[Path]:
  """Yields `.conversion`, for what was finished; if nothing was put into it, it is removed."""
  work_dir = dataset_dir / WORK_FOLDER
  if (dataset_dir / dataset_info.INFO_FILE).exists() and not (work_dir / _FINGERPRINT).exists():
    shutil.rmtree(work_dir, ignore_errors=True)  # killed while it removed this
  work_dir.mkdir(exist_ok=True)
  files.sweep(work_dir, '.*')
  try:
    yield work_dir
  finally:
    if work_dir.exists() and not os.listdir(work_dir):
      work_dir.rmdir()


def _check_plan(plan: Plan, source: str | None, dataset_dir: Path, options: Options) -> None:
  for file, reason in plan.unusable[: not options.skip_bad]:
    raise ValueError(f'{file}: {reason} (--on_bad_image=fail)')
  for folder in plan.folders:
    if dataset_dir.resolve().is_relative_to(folder.resolve()):
      raise ValueError(f'{dataset_dir} lies within the source {folder}: choose another folder')
  for split, items in plan.splits.items():
    if not items:
      raise ValueError(f'no images for {split!r} in {source}')


def take_up(fingerprint: str, dataset_dir: Path, overwrite: bool) -> None:
  """Keeps what an earlier run of the same jobs finished; that of others may be overwritten.

  Args:
    fingerprint: a hash of all that the shards depend on.
    dataset_dir: with its `work_folder`.
    overwrite: whether shards of other jobs are removed.

  Raises:
    OSError: there are such, and they are not to be overwritten; or the disk is full.
  """
  work_dir = dataset_dir / WORK_FOLDER
  path = work_dir / _FINGERPRINT
  files.sweep(dataset_dir, _OWN_FILES)
  own = [
    entry
    for folder in (dataset_dir, work_dir)
    for entry in folder.iterdir()
    if re.fullmatch(_OWN_FILES, entry.name)
  ]
  if path.exists() and path.read_bytes() == fingerprint.encode():
    return
  if own and not overwrite:
    raise FileExistsError(
      f'{dataset_dir} holds an unfinished conversion of another source or with other flags: the '
      'same command as then goes on with it, --overwrite starts over'
    )
  # dataset.json first: what is half removed is not finished.
  (dataset_dir / dataset_info.INFO_FILE).unlink(missing_ok=True)
  for entry in own:
    entry.unlink()
  with files.naming_full_disk(path):
    path.write_text(fingerprint)


def finish(info: dataset_info.DatasetInfo, dataset_dir: Path) -> None:
  """Writes `dataset.json`, and removes the `work_folder`."""
  dataset_info.write_info(dataset_dir, info)
  (dataset_dir / WORK_FOLDER / _FINGERPRINT).unlink()  # from here on this is a finished set
  shutil.rmtree(dataset_dir / WORK_FOLDER)


def _fingerprint(jobs: list[ShardJob], plan: Plan) -> str:
  """A hash of all that the shards depend on."""
  digest = hashlib.blake2b(digest_size=16)
  stored = jobs[0].store_size if jobs else None
  facts = plan.name, plan.labels, plan.synsets, plan.as_slim, plan.multi_label, stored
  digest.update(repr(facts).encode())
  for job in jobs:
    digest.update(job.name.encode())
    for item in job.items:
      digest.update(f'{item.filename}/{item.label}/{item.source.size}\n'.encode())
    for name in sorted(job.boxes):
      digest.update(name.encode() + job.boxes[name])
  return digest.hexdigest()


# The jobs


def _jobs(plan: Plan, split: str, dataset_dir: Path, options: Options) -> Iterator[ShardJob]:
  """Cuts a split, in an order that the seed fixes, into shards that differ by one image."""
  chosen = {'train': options.train_shards, 'validation': options.validation_shards}.get(split)
  items = shuffled(plan.splits[split], options.seed, 'order')
  count = min(chosen or plan.num_shards[split], len(items))
  bounds = [len(items) * index // count for index in range(count + 1)]
  synsets = plan.synsets or ('',) * len(plan.labels)
  for index in range(count):
    name = shards.shard_name(split, index, count)
    of_shard = items[bounds[index] : bounds[index + 1]]
    labels = {label for item in of_shard for label in labels_of(item)}
    stems = (shard_job.stem(item.filename) for item in of_shard) if plan.boxes else ()
    yield ShardJob(
      path=os.path.abspath(dataset_dir / name),
      report_path=os.path.abspath(dataset_dir / WORK_FOLDER / f'{name}.json'),
      items=of_shard,
      classes={label: (plan.labels[label], synsets[label]) for label in labels},
      boxes={stem: plan.boxes[stem] for stem in stems if stem in plan.boxes},
      as_slim=plan.as_slim,
      skip_bad=options.skip_bad,
      store_size=options.stored,
    )


def _run(
  jobs: list[ShardJob],
  options: Options,
  work_dir: Path,
  processes: futures.ProcessPoolExecutor | None,
  lock: FolderLock,
) -> list[ShardReport]:
  """Has the jobs done that are not; returns the reports of all, in order."""
  reports = {job.name: report for job in jobs if (report := shard_job.finished(job))}
  rest = [job for job in jobs if job.name not in reports]
  if rest:
    say_going_on(len(reports), len(jobs))
  total = sum(len(job.items) for job in rest)
  if options.beam:
    done = runners.run_beam(rest, options.beam_options, work_dir)
  else:
    done = runners.run(rest, processes, options.num_processes)
  try:
    with contextlib.closing(done), ProgressBar('Converting', total, 'images') as bar:
      for report in done:
        lock.check()
        reports[report.shard.name] = report
        bar.update(report.shard.num_images + len(report.skipped))
  except BaseException:
    say_stopped(len(reports), len(jobs))
    raise
  return [reports[job.name] for job in jobs]


def say_going_on(num_finished: int, num_shards: int) -> None:
  """Says what an earlier run has done, if anything."""
  if num_finished:
    logging.info('Going on: %d of %d shards are finished', num_finished, num_shards)


def say_stopped(num_finished: int, num_shards: int) -> None:
  """Says what is done although this run ends."""
  message = '%d of %d shards are finished; the same command goes on from there'
  logging.info(message, num_finished, num_shards)


def _summarize(plan: Plan, reports: list[ShardReport], options: Options) -> Conversion:
  splits = {}
  for name in plan.splits:
    of_split = [report for report in reports if report.shard.name.startswith(f'{name}-')]
    counts: collections.Counter[int] = collections.Counter()
    for report in of_split:
      counts.update(report.label_counts)
    splits[name] = dataset_info.Split(
      num_images=sum(report.shard.num_images for report in of_split),
      num_shards=len(of_split),
      label_counts=tuple(counts[label] for label in range(len(plan.labels))),
      shards=tuple(report.shard for report in of_split),
    )
  size, quality = options.stored or (None, None)
  info = dataset_info.DatasetInfo(
    plan.name,
    splits,
    len(plan.labels),
    plan.labels,
    plan.label_offset,
    plan.multi_label,
    store_size=size,
    store_quality=quality,
  )
  skipped = [{'file': file, 'reason': reason} for file, reason in plan.unusable]
  skipped += [entry for report in reports for entry in report.skipped]
  changed = [entry for report in reports for entry in report.changed]
  num_resized = sum(report.num_resized for report in reports)
  return Conversion(info, skipped, changed, num_resized)


def _without_empty_splits(conversion: Conversion, dataset_dir: Path) -> Conversion:
  """Leaves out splits that have no image, and removes their empty shards.

  Raises:
    ValueError: nothing is left, or nothing to train on where there was.
  """
  splits = {name: split for name, split in conversion.info.splits.items() if split.num_images}
  for name, split in conversion.info.splits.items():
    if name in splits:
      continue
    if name == 'train' or not splits:
      such_as = next((f', such as {e["file"]}: {e["reason"]}' for e in conversion.skipped), '')
      raise ValueError(f'no usable image for {name!r}{such_as}; see {dataset_dir / REPORT_FILE}')
    logging.warning('%s', f'no usable image for {name!r}: the split is left out')
    for shard in split.shards:
      (dataset_dir / shard.name).unlink()
  return dataclasses.replace(conversion, info=dataclasses.replace(conversion.info, splits=splits))


def _lost_classes(plan: Plan, conversion: Conversion) -> Iterator[str]:
  """What to say of classes all of whose files were skipped."""
  for name, split in conversion.info.splits.items():
    of_items = {label for item in plan.splits[name] for label in labels_of(item)}
    labels = sorted(label for label in of_items if not split.label_counts[label])
    if labels:
      names = files.some(plan.labels[label] for label in labels)
      yield f'no usable image of {len(labels):,} classes for {name!r}, all were skipped: {names}'
