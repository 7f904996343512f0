"""From pictures to records: what all converters share.

A converter says what there is (a `Plan`); this module orders it, writes the shards, a report and
at last `dataset.json`. The plan of each shard is a pure function of the source and the seed, and
one function, `write_one_shard`, writes it.
"""

import collections
import dataclasses
import hashlib
import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path

from datasets import pictures, records

REPORT_FILE = 'conversion_report.json'
# Stands in a folder from the first shard to dataset.json: shards beside it are our own rest.
_UNFINISHED = '.conversion-unfinished'
_OWN_FILES = re.compile(r'\.?[a-z]+-\d{5}-of-\d{5}(\.partial)?')


@dataclasses.dataclass(frozen=True)
class Options:
  """What the user may choose of a conversion; None leaves it to the data set."""

  train_shards: int | None = None
  validation_shards: int | None = None
  validation_fraction: float | None = None
  seed: int = 0
  overwrite: bool = False

  def __post_init__(self):
    for name in ('train_shards', 'validation_shards'):
      count = getattr(self, name)
      if count is not None and not 1 <= count <= 99999:
        raise ValueError(f'{name} must be between 1 and 99999, not {count}')
    fraction = self.validation_fraction
    if fraction is not None and not 0 <= fraction < 1:
      raise ValueError(f'validation_fraction must be at least 0 and less than 1, not {fraction}')


@dataclasses.dataclass(frozen=True)
class Item:
  """One picture to be converted.

  Attributes:
    source: its file, or the content.
    filename: what the record and the report call it.
    label: class number as stored.
    synset: WordNet id, for ImageNet.
  """

  source: Path | bytes
  filename: str
  label: int
  synset: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a converter found in its source.

  Attributes:
    name: of the data set.
    splits: the items of each, in any order that does not change from run to run.
    labels: name of every label from 0.
    num_shards: of each split unless the user chooses.
    label_offset: 1 where label 0 is a background that no picture has.
    upright: turn pictures as their EXIF orientation says.
    folders: whatever appears in them is taken as source, so no records may be written there.
    notes: what the user should know about the source.
  """

  name: str
  splits: dict[str, list[Item]]
  labels: tuple[str, ...]
  num_shards: dict[str, int]
  label_offset: int = 0
  upright: bool = False
  folders: tuple[Path, ...] = ()
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ShardReport:
  """A written shard, and what became of its items."""

  shard: records.Shard
  label_counts: collections.Counter
  skipped: list[dict[str, str]]  # {'file', 'reason'}
  changed: list[dict[str, str]]  # {'file', 'change'}


@dataclasses.dataclass(frozen=True)
class Conversion:
  info: records.DatasetInfo
  skipped: list[dict[str, str]]
  changed: list[dict[str, str]]
  notes: tuple[str, ...]


def convert(
  make_plan: Callable[[str | None, Options], Plan],
  source: str | None,
  dataset_dir: str | os.PathLike,
  options: Options | None = None,
) -> Conversion:
  """Converts a source to shards, `conversion_report.json` and `dataset.json` in `dataset_dir`.

  The same source and seed give the same bytes. Pictures that cannot be used are skipped and
  listed in the report. Whatever stops the conversion, no half shard and no `dataset.json` is left.

  Raises:
    ValueError: the source is not laid out as the data set expects, or holds no usable picture.
    OSError, tf.errors.OpError: something cannot be read or written, or `dataset_dir` holds
      records already and `options.overwrite` is not set.
  """
  options = options or Options()
  dataset_dir = Path(dataset_dir)
  if not options.overwrite:
    _check_unused(dataset_dir)
  plan = make_plan(source, options)
  for folder in plan.folders:
    if dataset_dir.resolve().is_relative_to(folder.resolve()):
      raise ValueError(f'{dataset_dir} lies within the source {folder}: choose another folder')
  for split, items in plan.splits.items():
    if not items:
      raise ValueError(f'no pictures for {split!r} in {source}')

  dataset_dir.mkdir(parents=True, exist_ok=True)
  _clear(dataset_dir)
  (dataset_dir / _UNFINISHED).touch()
  reports = _write_splits(plan, dataset_dir, options)
  conversion = _summarize(plan, reports)
  records.write_json(
    dataset_dir / REPORT_FILE,
    {
      'dataset': plan.name,
      'source': source,
      'seed': options.seed,
      'notes': plan.notes,
      'num_skipped': len(conversion.skipped),
      'num_changed': len(conversion.changed),
      'skipped': conversion.skipped,
      'changed': conversion.changed,
    },
  )
  for name, split in conversion.info.splits.items():
    if not split.num_images:
      raise ValueError(f'no usable picture for {name!r}; see {dataset_dir / REPORT_FILE}')
  records.write_info(dataset_dir, conversion.info)
  (dataset_dir / _UNFINISHED).unlink()
  return conversion


def shuffled(items: Iterable[Item], seed: int, purpose: str) -> list[Item]:
  """Orders items by a hash of their names: no generator whose state or version could differ."""

  def key(item):
    return hashlib.blake2b(f'{seed}/{purpose}/{item.filename}'.encode(), digest_size=16).digest()

  return sorted(items, key=key)


def write_one_shard(
  path: Path, items: list[Item], plan: Plan, on_picture: Callable[[], object]
) -> ShardReport:
  """Writes the pictures of one shard, skipping those that cannot be used."""
  label_counts, skipped, changed = collections.Counter(), [], []

  def examples() -> Iterator[bytes]:
    for item, picture in _read_pictures(items, plan.upright):
      on_picture()
      if isinstance(picture, Exception):
        skipped.append({'file': item.filename, 'reason': str(picture)})
        continue
      if picture.change:
        changed.append({'file': item.filename, 'change': picture.change})
      label_counts[item.label] += 1
      yield records.encode_example(
        picture.encoded,
        label=item.label,
        image_format=picture.image_format,
        height=picture.height,
        width=picture.width,
        colorspace=picture.colorspace,
        channels=picture.channels,
        text=plan.labels[item.label],
        synset=item.synset,
        filename=item.filename,
      )

  shard = records.write_shard(path, examples())
  return ShardReport(shard, label_counts, skipped, changed)


def _read_pictures(items, upright) -> Iterator[tuple[Item, pictures.Picture | Exception]]:
  """Reads in order, on all cores (Pillow decodes outside the interpreter lock)."""

  def read(item):
    try:
      content = item.source if isinstance(item.source, bytes) else item.source.read_bytes()
      return item, pictures.read_picture(content, upright=upright)
    except OSError as error:
      return item, OSError(error.strerror or str(error))
    except pictures.BadPictureError as error:
      return item, error

  remaining = iter(items)
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    while chunk := list(itertools.islice(remaining, 64)):  # bounds what is held in memory
      yield from pool.map(read, chunk)


def _write_splits(plan, dataset_dir, options) -> dict[str, list[ShardReport]]:
  from tqdm import tqdm  # here: reading records needs no progress bar

  chosen = {'train': options.train_shards, 'validation': options.validation_shards}
  total = sum(map(len, plan.splits.values()))
  reports = {}
  with warnings.catch_warnings(), tqdm(total=total, unit=' pictures', disable=None) as bar:
    warnings.simplefilter('ignore')  # Pillow's, on broken EXIF and the like
    for split, items in plan.splits.items():
      items = shuffled(items, options.seed, 'order')
      count = min(chosen.get(split) or plan.num_shards[split], len(items))
      bounds = [len(items) * index // count for index in range(count + 1)]
      reports[split] = [
        write_one_shard(
          dataset_dir / records.shard_name(split, index, count),
          items[bounds[index] : bounds[index + 1]],
          plan,
          bar.update,
        )
        for index in range(count)
      ]
  return reports


def _summarize(plan: Plan, reports: dict[str, list[ShardReport]]) -> Conversion:
  splits = {}
  for name, of_split in reports.items():
    counts = sum((report.label_counts for report in of_split), collections.Counter())
    splits[name] = records.Split(
      num_images=counts.total(),
      num_shards=len(of_split),
      label_counts=tuple(counts[label] for label in range(len(plan.labels))),
      shards=tuple(report.shard for report in of_split),
    )
  info = records.DatasetInfo(plan.name, splits, len(plan.labels), plan.labels, plan.label_offset)
  flat = list(itertools.chain.from_iterable(reports.values()))
  skipped = [entry for report in flat for entry in report.skipped]
  changed = [entry for report in flat for entry in report.changed]
  return Conversion(info, skipped, changed, plan.notes)


def _check_unused(dataset_dir: Path) -> None:
  """Refuses a folder that holds records, unless they are the rest of an unfinished conversion."""
  if not dataset_dir.is_dir() or (dataset_dir / _UNFINISHED).exists():
    return
  names = sorted(os.listdir(dataset_dir))
  found = [name for name in names if name == records.INFO_FILE or records.is_shard_name(name)]
  if found:
    raise FileExistsError(
      f'{dataset_dir} already holds a data set ({found[0]}): '
      'choose another folder or say --overwrite'
    )


def _clear(dataset_dir: Path) -> None:
  """Removes an earlier conversion, dataset.json first: what is half removed is not finished."""
  (dataset_dir / records.INFO_FILE).unlink(missing_ok=True)
  for path in dataset_dir.iterdir():
    if _OWN_FILES.fullmatch(path.name):
      path.unlink()


# Folders of classes


def subfolders(folder: Path) -> list[Path]:
  """Visible folders in a folder, by name."""
  return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != '.')


def files_below(folder: Path) -> list[Path]:
  """Visible files in a folder and the folders below it, by path."""
  found = []
  for directory, folders, names in os.walk(folder):
    folders[:] = [name for name in folders if name[0] != '.']
    found += [Path(directory, name) for name in names if name[0] != '.']
  return sorted(found)


def readable(path: str | os.PathLike) -> str:
  """A path as text that can be stored as UTF-8, whatever bytes the file system has."""
  return os.fsencode(path).decode('utf-8', 'replace')


def source_folder(source: str | None, expected: str) -> Path:
  """Raises ValueError or OSError where the source is not given or is no folder."""
  if not source:
    raise ValueError(f'--source is needed: {expected}')
  path = Path(source)
  if not path.exists():
    raise FileNotFoundError(f'source {source} does not exist; expected {expected}')
  if not path.is_dir():
    raise NotADirectoryError(f'source {source} is no folder; expected {expected}')
  return path


def some(names: Iterable[str], most: int = 5) -> str:
  """Lists a few names and says how many more there are."""
  names = list(names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
