"""Converts a data set to records, or verifies records.

  --source=photos --dataset_dir=DIR
  --dataset_name=imagenet --source=ILSVRC2012_img_train.tar,ILSVRC2012_img_val.tar --dataset_dir=DIR
  --dataset_name=flowers --dataset_dir=DIR
  --dataset_dir=DIR --verify

Without --dataset_name it recognizes what --source is, and says so in one line.

Writes shards, dataset.json, which training and evaluation read, and conversion_report.json, which
lists every image that was skipped or changed. Stopped at any moment and started again, it goes
on after the shards that are finished.
"""

import collections
import dataclasses
import os
import shlex
import sys

from slim_inception import flags
from slim_inception.cli import console
from slim_inception.datasets import (
  conversion,
  dataset_factory,
  dataset_info,
  evaluation_sets,
  formats,
  record_filter,
  runners,
  verification,
)

_CONVERTERS = {name: e.convert for name, e in dataset_factory.DATASETS.items() if e.convert}


@dataclasses.dataclass(frozen=True)
class Config:
  dataset_dir: str = flags.field(
    flags.REQUIRED,
    'The records are written to this folder, or read in it by --verify.',
    place=flags.Place.INPUT,
  )
  dataset_name: str | None = flags.field(
    None,
    'This data set is converted, or a source of this format; by default what --source is '
    'recognized as.',
    choices=tuple(sorted(_CONVERTERS)),
  )
  source: str | None = flags.field(
    None,
    'The images are in this folder, archive or list, or in several: with commas between, '
    'shards/*.tar or shards/train-{0000..0099}.tar; data sets that can be downloaded need none. '
    'With --exclude_list it may be a folder of records, which are copied.',
    place=flags.Place.INPUTS,
  )
  train_shards: int | None = flags.field(
    None,
    'The split for training is written to so many files; by default to as many as suit the data'
    ' set.',
    at_least=1,
    at_most=99999,
  )
  validation_shards: int | None = flags.field(
    None,
    'The split for validation is written to so many files; by default to as many as suit the '
    'data set.',
    at_least=1,
    at_most=99999,
  )
  validation_fraction: float | None = flags.field(
    None,
    'This share of the images of each class, from 0 to below 1, is held out for validation from a '
    'source without validation images of its own; by default 0.1.',
    at_least=0,
    at_most=1,
  )
  split: str | None = flags.field(
    None,
    'Only this split of the source is converted; a source that has no splits is taken for it as a '
    'whole.',
    choices=conversion.SPLITS,
  )
  labels: str | None = flags.field(
    None,
    'The names of the classes in the order of their labels are in this file, as in labels.txt.',
    place=flags.Place.INPUT,
  )
  label_column: str | None = flags.field(
    None,
    'The labels are in this column of a list or table, or under this key of the JSON beside each '
    'image; by default in the one that the schema says, or under a usual name, e.g. label. Several '
    'columns of a list with commas between have 0 or 1 each.',
  )
  image_column: str | None = flags.field(
    None,
    'The images, or their paths, are in this column of a table or list; by default in the one that '
    'the schema says, or that has a usual name, e.g. image or file_name.',
  )
  split_column: str | None = flags.field(
    None,
    'The split of an image, train, validation or test, is in this column of a list; by default in '
    'one called split, set or subset.',
  )
  label_separator: str | None = flags.field(
    None,
    'The several labels of an image have this between them in a list; by default a | or ; that is '
    'there.',
  )
  image_root: str | None = flags.field(
    None,
    'The paths in a list begin in this folder or archive; by default in the folder of the list, or '
    'in one of a usual name beside it, e.g. train_images.',
    place=flags.Place.INPUT,
  )
  exclude_list: str | None = flags.field(
    None,
    'The images named in this file are left out: names, one a line, or the problems.csv of '
    'slim-inception doctor.',
    form='FILE',
    place=flags.Place.INPUT,
  )
  drop_duplicates: bool = flags.field(
    False,
    'Images that are equal byte for byte are stored once: those of training that another split has '
    'too are left out, and in each split all but the first.',
  )
  store_size: int | None = flags.field(
    None,
    'Images are stored with a shorter side of at most so many pixels, larger ones resized with '
    'antialiasing: input is faster and the records are smaller. By default images stay as they '
    'are.',
    at_least=1,
  )
  store_quality: int | None = flags.field(
    None,
    'JPEGs that --store_size makes smaller have this quality; by default 95.',
    at_least=1,
    at_most=100,
  )
  seed: int = flags.field(
    0,
    'This number seeds the order of the records, and the choice of images that are held out.',
    at_least=0,
    at_most=2**63 - 1,
  )
  on_bad_image: str = flags.field(
    'skip',
    'A file that is no usable image is skipped and listed in the report, or the conversion fails.',
    choices=('skip', 'fail'),
  )
  num_processes: int | None = flags.field(
    None,
    'So many processes write, or read in --verify; by default one for each core.',
    at_least=1,
  )
  runner: str = flags.field(
    'processes',
    'The shards are written by processes on this machine, or by Apache Beam.',
    choices=('processes', 'beam'),
  )
  beam_options: str | None = flags.field(
    None,
    'Apache Beam gets these options, e.g. "--runner=FlinkRunner --parallelism=64"; by default '
    'its local runner works. All workers must see the source and dataset_dir under the same '
    'paths.',
  )
  overwrite: bool = flags.field(False, 'Replace the records that are in dataset_dir.')
  verify: bool = flags.field(
    False, 'Read every record in dataset_dir again and name whatever is wrong.'
  )


def define_flags() -> None:
  flags.define(Config)


def main(_: list[str]) -> None:
  config = flags.parse(Config)
  num_processes = config.num_processes or runners.num_cores()
  if config.verify:
    _verify(config.dataset_dir, num_processes)
    return
  if config.dataset_name is None and config.source is None:
    valid = ', '.join(sorted(_CONVERTERS))
    raise flags.Error(f'--source is needed, or a --dataset_name that needs none: {valid}')
  if config.exclude_list and config.source and _is_of_records(config.source):
    _report(_without_excluded(config), config.dataset_dir)
    return
  if config.beam_options is not None and config.runner != 'beam':
    raise flags.Error('--beam_options needs --runner=beam')
  options = conversion.Options(
    train_shards=config.train_shards,
    validation_shards=config.validation_shards,
    validation_fraction=config.validation_fraction,
    split=config.split,
    labels=config.labels,
    label_column=config.label_column,
    image_column=config.image_column,
    split_column=config.split_column,
    label_separator=config.label_separator,
    image_root=config.image_root,
    exclude_list=config.exclude_list,
    drop_duplicates=config.drop_duplicates,
    store_size=config.store_size,
    store_quality=config.store_quality,
    seed=config.seed,
    overwrite=config.overwrite,
    skip_bad=config.on_bad_image == 'skip',
    num_processes=num_processes,
    beam=config.runner == 'beam',
    beam_options=config.beam_options or '',
  )
  convert = _CONVERTERS[config.dataset_name] if config.dataset_name else formats.convert
  result = convert(config.source, config.dataset_dir, options)
  if result.skipped:
    _report_skipped(result.skipped, config.dataset_dir)
  _report(result, config.dataset_dir)


def _is_of_records(source: str) -> bool:
  return os.path.exists(os.path.join(source, dataset_info.INFO_FILE))


# What else may be chosen where records are copied.
_OF_COPIES = frozenset(['dataset_dir', 'source', 'exclude_list', 'overwrite', 'num_processes'])


def _without_excluded(config: Config) -> conversion.Conversion:
  """Records that are copied but for those of --exclude_list."""
  for name, flag in flags.fields(Config).items():
    if name not in _OF_COPIES and getattr(config, name) != flag.default:
      raise flags.Error(
        f'--source={config.source} holds records, which are copied but for those of '
        f'--exclude_list: leave out --{name}'
      )
  assert config.source and config.exclude_list
  return record_filter.leave_out(
    config.source, config.dataset_dir, config.exclude_list, config.overwrite
  )


def _verify(dataset_dir: str, num_processes: int) -> None:
  result = verification.verify(dataset_dir, num_processes)
  console.say(*result.problems, file=sys.stderr)
  outcome = f'{len(result.problems)} problems' if result.problems else 'all is well'
  if not result.has_info:
    outcome += ' (without dataset.json, counts and classes were not compared)'
  console.say(f'{result.num_records:,} records in {result.num_shards:,} shards read; {outcome}')
  if result.problems:
    sys.exit(1)


def _report_skipped(skipped: list[dict[str, str]], dataset_dir: str) -> None:
  reasons = collections.Counter(entry['reason'] for entry in skipped)
  console.say(
    f'skipped {len(skipped)} files, such as {skipped[0]["file"]} ({skipped[0]["reason"]}); '
    f'all are listed in {dataset_dir}/{conversion.REPORT_FILE}',
    *(f'  {count} x {reason}' for reason, count in reasons.most_common(5)),
    file=sys.stderr,
  )


def _report(result: conversion.Conversion, dataset_dir: str) -> None:
  """Prints what was written, and the command that comes next."""
  info = result.info
  for name, split in info.splits.items():
    plural = '' if split.num_shards == 1 else 's'
    console.say(f'{name}: {split.num_images} images in {split.num_shards} shard{plural}')
  loss = ' --loss=sigmoid' if info.multi_label else ''
  background = ' with background' if info.label_offset else ''
  changed = f', {len(result.changed)} re-encoded' if result.changed else ''
  if result.dropped:
    changed += f', {len(result.dropped):,} duplicates left out'
  if result.excluded:
    changed += f', {len(result.excluded):,} left out by --exclude_list'
  if info.store_size:
    changed += f', {result.num_resized:,} resized to {info.store_size} pixels'
  folder = shlex.quote(dataset_dir)
  following = f'train --dataset_name={info.name} --dataset_dir={folder} --train_dir=...{loss}'
  if info.name in evaluation_sets.SETS:
    following = f'robustness --sets={folder} --checkpoint_path=...'
  console.say(
    f'{info.num_classes} classes{background}; {len(result.skipped)} files skipped{changed}',
    f'Written to {dataset_dir}. Next:',
    f'  slim-inception {following}',
  )
