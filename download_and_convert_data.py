"""Converts a data set to records.

  --dataset_name=digits --dataset_dir=data/digits
  --dataset_name=image_folder --source=photos --dataset_dir=data/photos
  --dataset_name=imagenet --source=ILSVRC2012 --dataset_dir=data/imagenet

Writes shards, dataset.json, which training and evaluation read, and conversion_report.json, which
lists every picture that was skipped or changed.
"""

import collections
import shlex
import sys

from absl import flags

import console as command_line
from datasets import conversion, dataset_factory

_CONVERTIBLE = {name: e.convert for name, e in dataset_factory.DATASETS.items() if e.convert}


def define_flags() -> None:
  flags.DEFINE_enum('dataset_name', None, sorted(_CONVERTIBLE), 'What to convert.', required=True)
  flags.DEFINE_string('source', None, 'Folder of the pictures; digits need none.')
  flags.DEFINE_string('dataset_dir', None, 'Folder for the records.', required=True)
  for split in ('train', 'validation'):
    flags.DEFINE_integer(
      f'{split}_shards',
      None,
      f'Files for the {split} split; by default as many as suit the data set.',
      lower_bound=1,
      upper_bound=99999,
    )
  flags.DEFINE_float(
    'validation_fraction',
    None,
    'Share of each class that an image_folder without validation/ holds out; by default 0.1.',
    lower_bound=0.0,
    upper_bound=1.0,
  )
  flags.DEFINE_integer('seed', 0, 'Fixes the order of the records and what is held out.')
  flags.DEFINE_bool('overwrite', False, 'Replace the records in dataset_dir.')


def main(_: list[str]) -> None:
  values = flags.FLAGS
  options = conversion.Options(
    train_shards=values.train_shards,
    validation_shards=values.validation_shards,
    validation_fraction=values.validation_fraction,
    seed=values.seed,
    overwrite=values.overwrite,
  )
  convert = _CONVERTIBLE[values.dataset_name]
  result = convert(values.source, values.dataset_dir, options)
  for line in warnings_of(result, values.dataset_dir):
    print(line, file=sys.stderr)
  print('\n'.join(summary(result, values.dataset_dir)))


def warnings_of(result: conversion.Conversion, dataset_dir: str) -> list[str]:
  """Lines on what the user may not expect: oddities of the source, and pictures left out."""
  lines = [f'note: {note}' for note in result.notes]
  if result.skipped:
    reasons = collections.Counter(entry['reason'] for entry in result.skipped)
    first = result.skipped[0]
    lines.append(
      f'skipped {len(result.skipped)} files, such as {first["file"]} ({first["reason"]}); '
      f'all are listed in {dataset_dir}/{conversion.REPORT_FILE}'
    )
    lines += [f'  {count} x {reason}' for reason, count in reasons.most_common(5)]
  return lines


def summary(result: conversion.Conversion, dataset_dir: str) -> list[str]:
  """Lines on what was written, and the command that comes next."""
  info = result.info
  lines = [
    f'{name}: {split.num_images} pictures in {split.num_shards} '
    f'{"shard" if split.num_shards == 1 else "shards"}'
    for name, split in info.splits.items()
  ]
  background = ' with background' if info.label_offset else ''
  changed = f', {len(result.changed)} re-encoded' if result.changed else ''
  return [
    *lines,
    f'{info.num_classes} classes{background}; {len(result.skipped)} files skipped{changed}',
    f'Written to {dataset_dir}. Next:',
    f'  python train_image_classifier.py --dataset_name={info.name} '
    f'--dataset_dir={shlex.quote(dataset_dir)} --train_dir=...',
  ]


def console() -> None:
  define_flags()
  command_line.run(main)


if __name__ == '__main__':
  console()
