"""Converts a data set to records, or verifies records.

  --dataset_name=imagenet --source=ILSVRC2012_img_train.tar,ILSVRC2012_img_val.tar --dataset_dir=DIR
  --dataset_name=image_folder --source=photos --dataset_dir=DIR
  --dataset_name=flowers --dataset_dir=DIR
  --dataset_dir=DIR --verify

Writes shards, dataset.json, which training and evaluation read, and conversion_report.json, which
lists every image that was skipped or changed. Stopped at any moment and started again, it goes
on after the shards that are finished.
"""

import collections
import shlex
import sys

from absl import flags

from slim_inception.datasets import conversion, dataset_factory, runners, verification

_CONVERTIBLE = {name: e.convert for name, e in dataset_factory.DATASETS.items() if e.convert}


def define_flags() -> None:
  flags.DEFINE_enum('dataset_name', None, sorted(_CONVERTIBLE), 'What to convert.')
  flags.DEFINE_string(
    'source',
    None,
    'Where the images are: a folder, an archive, or for imagenet several with commas between; '
    'data sets that can be downloaded need none.',
  )
  flags.DEFINE_string('dataset_dir', None, 'Folder of the records.', required=True)
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
  flags.DEFINE_enum(
    'on_bad_image', 'skip', ['skip', 'fail'], 'What to do with a file that is no usable image.'
  )
  flags.DEFINE_integer(
    'num_processes', None, 'Processes; by default one for each core.', lower_bound=1
  )
  flags.DEFINE_enum(
    'runner', 'processes', ['processes', 'beam'], 'Who writes the shards: this machine or Beam.'
  )
  flags.DEFINE_string(
    'beam_options',
    None,
    'Options of Apache Beam, "--runner=FlinkRunner --parallelism=64" say; by default its local '
    'runner. All workers must see the source and dataset_dir under the same paths.',
  )
  flags.DEFINE_bool('overwrite', False, 'Replace the records in dataset_dir.')
  flags.DEFINE_bool(
    'verify', False, 'Read every record of dataset_dir again and name whatever is wrong.'
  )


def main(_: list[str]) -> None:
  values = flags.FLAGS
  num_processes = values.num_processes or runners.num_cores()
  if values.verify:
    _verify(values.dataset_dir, num_processes)
    return
  if values.dataset_name is None:
    raise flags.Error(f'--dataset_name is needed: {", ".join(sorted(_CONVERTIBLE))}')
  if values.beam_options is not None and values.runner != 'beam':
    raise flags.Error('--beam_options needs --runner=beam')
  options = conversion.Options(
    train_shards=values.train_shards,
    validation_shards=values.validation_shards,
    validation_fraction=values.validation_fraction,
    seed=values.seed,
    overwrite=values.overwrite,
    skip_bad=values.on_bad_image == 'skip',
    num_processes=num_processes,
    beam=values.runner == 'beam',
    beam_options=values.beam_options or '',
  )
  convert = _CONVERTIBLE[values.dataset_name]
  result = convert(values.source, values.dataset_dir, options)
  for line in about_skipped(result, values.dataset_dir):
    print(line, file=sys.stderr)
  print('\n'.join(summary(result, values.dataset_dir)))


def _verify(dataset_dir: str, num_processes: int) -> None:
  result = verification.verify(dataset_dir, num_processes)
  for problem in result.problems:
    print(problem, file=sys.stderr)
  print(f'{result.num_records:,} records in {result.num_shards:,} shards read', end='; ')
  if not result.problems:
    print(
      'all is well'
      if result.has_info
      else 'all is well, as far as can be said without '
      'dataset.json: counts and classes were not compared'
    )
    return
  print(f'{len(result.problems)} problems')
  sys.exit(1)


def about_skipped(result: conversion.Conversion, dataset_dir: str) -> list[str]:
  """Lines on the images that were left out."""
  if not result.skipped:
    return []
  reasons = collections.Counter(entry['reason'] for entry in result.skipped)
  first = result.skipped[0]
  return [
    f'skipped {len(result.skipped)} files, such as {first["file"]} ({first["reason"]}); '
    f'all are listed in {dataset_dir}/{conversion.REPORT_FILE}',
    *(f'  {count} x {reason}' for reason, count in reasons.most_common(5)),
  ]


def summary(result: conversion.Conversion, dataset_dir: str) -> list[str]:
  """Lines on what was written, and the command that comes next."""
  info = result.info
  lines = [
    f'{name}: {split.num_images} images in {split.num_shards} '
    f'{"shard" if split.num_shards == 1 else "shards"}'
    for name, split in info.splits.items()
  ]
  background = ' with background' if info.label_offset else ''
  changed = f', {len(result.changed)} re-encoded' if result.changed else ''
  return [
    *lines,
    f'{info.num_classes} classes{background}; {len(result.skipped)} files skipped{changed}',
    f'Written to {dataset_dir}. Next:',
    f'  slim-inception train --dataset_name={info.name} '
    f'--dataset_dir={shlex.quote(dataset_dir)} --train_dir=...',
  ]
