"""Exports a checkpoint as a SavedModel, which takes files of images and returns names.

  slim-inception export --checkpoint_path=TRAIN_DIR --output=models/flowers/1

Signature serving_default takes image_bytes [N], files of images of any size; signature images
takes arrays [N, image_size, image_size, C] of the values that export.json tells. Both return names
and probabilities of the five most probable classes. --format=tflite and --format=onnx take such
arrays and return the probabilities of all classes, whose names are in labels.txt. Batch norm is
folded in. What was written is read back and compared with the checkpoint before it gets its name:
on images of the run's records or, where there are none, on generated ones.

  slim-inception export --checkpoint_path=TRAIN_DIR --output=models \\
    --format=saved_model,tflite,onnx --quantize=none,int8 --verify_on=test

writes a folder for each of several exports. --verify_on=SPLIT runs them on all images of a split,
by every program at hand, and prints how they compare with the checkpoint. A program that fails or
differs is a line of the table, and the exit status is 1.
"""

import sys

from slim_inception import choices, flags
from slim_inception.cli import console, quiet
from slim_inception.datasets import source_records
from slim_inception.export.config import ExportConfig, resolve

_NAME = 'slim-inception export'
_REMOVED = choices.renamed('calibrate_batches', 'weights')


def define_flags() -> None:
  flags.define(ExportConfig, _REMOVED)


def main(_: list[str]) -> None:
  request = flags.parse(ExportConfig, resolve, _REMOVED, quiet.import_tensorflow)
  from slim_inception.export import export

  chosen = request.config.records
  records = source_records.find_or_make(chosen.dataset_name, chosen.dataset_dir, chosen.cache_dir)
  request = request._replace(config=flags.replace(request.config, **records))
  outcome = export.export(request)
  images = 'images' if request.config.records.dataset_dir else 'generated images'
  for each in outcome.exports:
    if (comparison := each.comparison) is None:
      console.say(f'{_NAME}: {each.variant.name}: {each.error}', file=sys.stderr)
      continue
    console.say(
      f'written to {each.folder}; read back, on {comparison.images} {images} '
      f'probabilities differ by at most {comparison.difference:.1g} and the best class is the same '
      f'on {comparison.agreement:.0%}'
    )
  verification = outcome.verification
  if verification:
    console.say(*verification.text())
  if not all(each.comparison for each in outcome.exports) or (
    verification and not verification.is_good
  ):
    sys.exit(1)
