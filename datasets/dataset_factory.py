"""Data sets by name: where their records are, how many there are, and what the labels mean."""

import dataclasses
import fnmatch
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from . import (
  cifar,
  dataset_info,
  digits,
  flowers,
  formats,
  imagenet,
  label_files,
  mnist,
  records,
  shards,
)

# Larger sets than this are not counted record by record where their size is known.
_COUNT_BYTES = 2 << 30


@dataclasses.dataclass(frozen=True)
class KnownDataset:
  """A data set that has a name."""

  convert: Callable | None = None  # makes its records, see `conversion.convert`
  # What is known of records without `dataset.json`.
  num_classes: int | None = None
  split_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  labels: Callable[[], tuple[str, ...]] = tuple
  tfds_name: str | None = None  # what TensorFlow Datasets calls it
  tfds_schema: records.Schema | None = None  # the keys that it has there


_BACKGROUND = imagenet.labels()[0]
SYNTHETIC = 'synthetic'  # noise, see `synthetic` below

# TensorFlow Datasets numbers ImageNet's classes from 0, without a background.
_TFDS_IMAGENET = records.Schema(
  encoded='image', label='label', filename='file_name', boxes='none/', label_offset=1
)

DATASETS = {
  **{each.name: KnownDataset(each.convert) for each in formats.FORMATS},
  'cifar10': KnownDataset(cifar.convert_cifar10, cifar.CIFAR10.num_classes, cifar.SPLIT_SIZES),
  'cifar100': KnownDataset(cifar.convert_cifar100, cifar.CIFAR100.num_classes, cifar.SPLIT_SIZES),
  'digits': KnownDataset(digits.convert),
  'flowers': KnownDataset(flowers.convert, len(flowers.CLASSES), flowers.SPLIT_SIZES),
  'imagenet': KnownDataset(
    imagenet.convert,
    imagenet.NUM_CLASSES,
    imagenet.SPLIT_SIZES,
    imagenet.labels,
    'imagenet2012',
    _TFDS_IMAGENET,
  ),
  'mnist': KnownDataset(mnist.convert, len(mnist.CLASSES), mnist.SPLIT_SIZES),
  SYNTHETIC: KnownDataset(),
}


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One split of a data set on disk.

  Attributes:
    name, split_name: as asked for.
    paths: of the shards.
    num_samples: records in them.
    num_classes: width of a classifier's head, background included.
    labels_to_names: empty where names are not known.
    label_range: smallest and largest label; read from a sample of the records where there is no
      `dataset.json`.
    schema: the keys of the records.
    shard_sizes: records in each shard; None where nobody has counted them yet.
    label_offset: the first label that images can have: 1 where 0 is a background.
    info_hash: of `dataset.json`; None where there is none.
    multi_label: a record has any number of labels, none too, as `dataset.json` says.
    parts: the sets that this was joined of, see `joined`; () where it is one.
  """

  name: str
  split_name: str
  paths: tuple[str, ...]
  num_samples: int
  num_classes: int
  labels_to_names: dict[int, str]
  label_range: tuple[int, int]
  schema: records.Schema = records.SLIM
  shard_sizes: tuple[int, ...] | None = None
  label_offset: int = 0
  info_hash: str | None = None
  multi_label: bool = False
  parts: tuple['Dataset', ...] = ()


def get_dataset(
  name: str, split_name: str, dataset_dir: str | os.PathLike, file_pattern: str | None = None
) -> Dataset:
  """Opens a split.

  `dataset.json` beside the records is believed (its sizes are checked against the files); records
  that have none, slim's for example, are described by what is known of the name, by `labels.txt`
  and by a look into them.

  Args:
    name: one of `DATASETS`; `image_folder` reads any folder that has a `dataset.json`.
    split_name: 'train', 'validation', ...
    dataset_dir: folder of the records.
    file_pattern: shell pattern of file names, '%s' standing for the split; default: all shards.

  Raises:
    ValueError: unknown name (valid ones are listed) or split, damaged shards, unknown classes.
    OSError: the folder, records or shards are missing.
  """
  if name not in DATASETS:
    raise ValueError(f'unknown data set {name!r}; valid: {", ".join(sorted(DATASETS))}')
  if name == SYNTHETIC:
    raise ValueError('synthetic images are for training alone: there are no records of them')
  if not os.path.isdir(dataset_dir):
    raise FileNotFoundError(f'dataset_dir {os.fspath(dataset_dir)!r} is no folder')
  info = dataset_info.read_info(dataset_dir)
  if info is None:
    dataset_dir = _tfds_folder(Path(dataset_dir), DATASETS[name].tfds_name)
    return _from_records(name, split_name, dataset_dir, file_pattern)
  if name not in (info.name, 'image_folder'):
    raise ValueError(
      f'{dataset_dir} holds {info.name!r} (says {dataset_info.INFO_FILE}), not {name!r}'
    )
  return _from_info(info, name, split_name, dataset_dir, file_pattern)


def synthetic(split_name: str) -> Dataset:
  """No records, but the numbers of ImageNet: its epochs, its classes 1..1000 and a background."""
  classes = imagenet.NUM_CLASSES
  number = imagenet.SPLIT_SIZES['train']
  labels = 1, classes - 1
  return Dataset(
    SYNTHETIC, split_name, (), number, classes, {}, labels, shard_sizes=(), label_offset=1
  )


def classes_of(name: str | None, dataset_dir: str | os.PathLike | None) -> Dataset | None:
  """A data set as far as its classes are known, without records; None where they are not.

  `dataset_dir` need not be there.

  Raises:
    ValueError: `dataset.json` or `labels.txt` is damaged.
  """
  info = dataset_info.read_info(dataset_dir) if dataset_dir else None
  if info:
    names = dict(enumerate(info.labels))
    return without_records(info.name, info.num_classes, names, info.label_offset)
  names = _names(name, dataset_dir)
  return with_names(name or '', names) if names else None


def with_names(name: str, names: dict[int, str]) -> Dataset:
  """A data set of classes alone; label 0 is no image's if it has no name, or is the background."""
  first_label = 1 if names.get(0) == _BACKGROUND else min(names)
  return without_records(name, max(names) + 1, names, first_label)


def without_records(
  name: str, num_classes: int, names: dict[int, str], first_label: int = 0
) -> Dataset:
  """A data set of classes alone."""
  labels = first_label, num_classes - 1
  return Dataset(name, '', (), 0, num_classes, names, labels, label_offset=first_label)


def _names(name: str | None, dataset_dir: str | os.PathLike | None) -> dict[int, str]:
  """The names of classes in labels.txt, or else those that are known of the data set."""
  if dataset_dir and os.path.exists(path := os.path.join(dataset_dir, 'labels.txt')):
    return label_files.read_labels(path)
  return dict(enumerate(DATASETS[name].labels())) if name in DATASETS else {}


def _from_info(
  info: dataset_info.DatasetInfo,
  name: str,
  split_name: str,
  dataset_dir: str | os.PathLike,
  file_pattern: str | None,
) -> Dataset:
  dataset_info.check_sizes(dataset_dir, info, split_name)
  split = info.splits[split_name]
  pattern = (file_pattern or '*').replace('%s', split_name)
  # A shard whose images were all skipped is an empty file.
  matching = [s for s in split.shards if s.num_images and fnmatch.fnmatch(s.name, pattern)]
  if not matching:
    raise FileNotFoundError(f'no {split_name!r} shard in {dataset_dir} matches {pattern!r}')
  labels = [label for label, count in enumerate(split.label_counts) if count]
  return Dataset(
    name,
    split_name,
    tuple(os.path.join(dataset_dir, shard.name) for shard in matching),
    sum(shard.num_images for shard in matching),
    info.num_classes,
    dict(enumerate(info.labels)),
    (labels[0], labels[-1]),
    shard_sizes=tuple(shard.num_images for shard in matching),
    label_offset=info.label_offset,
    info_hash=dataset_info.hash_of(dataset_dir),
    multi_label=info.multi_label,
  )


def _from_records(
  name: str, split_name: str, dataset_dir: str | os.PathLike, file_pattern: str | None
) -> Dataset:
  entry = DATASETS[name]
  paths = shards.find_shards(dataset_dir, split_name, file_pattern)
  names = _names(name, dataset_dir)
  num_classes = max(names) + 1 if names else entry.num_classes
  if num_classes is None:
    raise ValueError(
      f'{dataset_dir} has neither {dataset_info.INFO_FILE} nor labels.txt to tell the classes of '
      f'{name!r}: write labels.txt, one line index:name for each class'
    )
  schema = schema_of(paths[0])
  labels = shards.label_range(paths, schema=schema)
  num_samples, sizes = entry.split_sizes.get(split_name), None
  if num_samples is None or not _is_as_large_as(num_samples, paths):
    sizes = tuple(shards.count_records([path]) for path in paths)
    num_samples = sum(sizes)
  return Dataset(
    name,
    split_name,
    tuple(paths),
    num_samples,
    num_classes,
    names,
    labels,
    schema,
    sizes,
    label_offset=int(names.get(0) == _BACKGROUND),
  )


def schema_of(path: str | os.PathLike) -> records.Schema:
  """The keys of a shard without `dataset.json`, by its name."""
  name = os.path.basename(path)
  for entry in DATASETS.values():
    if entry.tfds_name and entry.tfds_schema and name.startswith(entry.tfds_name):
      return entry.tfds_schema
  return records.SLIM


def _tfds_folder(dataset_dir: Path, tfds_name: str | None) -> Path:
  """Descends from a data_dir of TensorFlow Datasets to its only version: imagenet2012/5.1.0."""
  if tfds_name is None:
    return dataset_dir
  versions = [
    path.parent
    for pattern in ('*/dataset_info.json', f'{tfds_name}/*/dataset_info.json')
    for path in dataset_dir.glob(pattern)
  ]
  return versions[0] if len(versions) == 1 else dataset_dir


def _is_as_large_as(known: int, paths: list[str]) -> bool:
  """Whether this is a big set that looks as large as it should: it is not walked through."""
  if sum(map(os.path.getsize, paths)) <= _COUNT_BYTES:
    return False
  estimate = shards.count_records(paths[:1]) * len(paths)
  return abs(estimate - known) < 0.01 * known
