"""An export from its flags to its folder, read back before it is delivered."""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import files, provenance
from slim_inception.classify.classes import find as find_classes
from slim_inception.constants import EXPORT_FILE, VERIFICATION_FILE
from slim_inception.datasets import dataset_factory
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.datasets.progress_bar import ProgressBar, waiting
from slim_inception.evaluate.scorer import Loaded, Scorer
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.export import onnx, saved_model, tflite
from slim_inception.export.classifier import LABELS_FILE, Classifier, Inputs, Task, joined
from slim_inception.export.comparison import (
  ACCEPTED,
  Comparison,
  compare,
  reference,
  summed_up,
)
from slim_inception.export.config import ExportRequest, Variant
from slim_inception.export.images import generated_views, views
from slim_inception.export.verification import Verification, first_line, verify
from slim_inception.input import record_order
from slim_inception.nets.convert import formats

_TRIED = 32  # images that the export is compared on
_BATCH = 8  # of them at once
_CALIBRATION_IMAGES = 200


# Each has write(task, folder), which returns what export.json says of inputs and outputs, and
# read(folder), which gives a function from `Inputs` to `Outputs` for each signature.
FORMATS = {'saved_model': saved_model, 'tflite': tflite, 'onnx': onnx}


class Exported(NamedTuple):
  """An export, or why there is none.

  Attributes:
    variant: what it is.
    folder: where it is.
    comparison: with the checkpoint; None where there is no export.
    error: why.
  """

  variant: Variant
  folder: Path
  comparison: Comparison | None
  error: str = ''


class Outcome(NamedTuple):
  """What an export has given."""

  exports: list[Exported]
  verification: Verification | None  # with --verify_on


def export(request: ExportRequest) -> Outcome:
  """Writes folders, each once it has been read back and agrees with the checkpoint.

  Of several exports one that cannot be written, or does not agree, is left out.

  Raises:
    FileExistsError: the folder is there.
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be; or there is one
      export alone, and what was read back does not agree. Then nothing is left.
  """
  chosen, records = request.config.format, request.config.records
  output, variants = Path(chosen.output), chosen.variants
  if os.path.lexists(output):
    raise FileExistsError(f'--output={output} exists: choose another folder, or remove it')
  if 'int8' in chosen.quantize:
    records.split('train')  # says at once that there is none
  verify_on = request.config.verification.verify_on
  dataset = record_order.counted(records.split(verify_on)) if verify_on is not None else None
  source = _open(request)
  if len(variants) == 1:
    exports = [Exported(variants[0], output, _write(source, variants[0], output))]
  else:
    exports = [_tried(source, variant, output / variant.name) for variant in variants]
    if not any(each.comparison for each in exports):
      output.rmdir()
  written = [(each.variant, each.folder) for each in exports if each.comparison]
  if dataset is None or not written:
    return Outcome(exports, None)
  try:
    verification = verify(written, source.checkpoint, dataset, source.loaded)
  except (OSError, ValueError) as error:
    kept = f'what was exported stays in {output}, not verified on a split'
    raise ValueError(f'--verify_on={verify_on}: {error}; {kept}') from error
  content = {
    'checkpoint': source.loaded.prefix,
    'dataset_name': dataset.name,
    'dataset_split_name': dataset.split_name,
    **verification.to_json(),
  }
  files.write_json(output / VERIFICATION_FILE, content)
  return Outcome(exports, verification)


class _Source(NamedTuple):
  """What is exported: the net as it computes, and as the checkpoint has it."""

  request: ExportRequest
  loaded: Loaded
  classifier: Classifier
  checkpoint: Classifier
  dataset: Dataset | None  # whose images are read back
  calibration: Calibration | None


def _open(request: ExportRequest) -> _Source:
  chosen, records = request.config.format, request.config.records
  (member,) = request.ensemble.members
  prefix = formats.locate(member.checkpoint_path)
  dataset = records.split(records.dataset_split_name) if records.dataset_dir else None
  labels_path = request.config.classes.labels
  if dataset is None or labels_path:
    known = dataset_factory.classes_of(records.dataset_name, None) if not labels_path else None
    classes = known or find_classes(labels_path, request.runs, member, prefix)
  else:
    classes = dataset
  scorer = Scorer(member, request.ensemble, classes, tf.distribute.get_strategy())
  names = ', '.join(variant.name for variant in chosen.variants)
  logging.info('Exporting %s to %s as %s', prefix, chosen.output, names)
  loaded = scorer.load(prefix, records.split('train') if records.batch_norm_batches else None)
  logging.info('%s', scorer.describe())
  trained_on = None if labels_path else member.trained_on
  names_of_outputs = provenance.names_of_outputs(trained_on, classes, loaded.labels_offset)
  stored = scorer.calibration()
  classifier, checkpoint = (
    Classifier(
      model,
      member.spec.preprocessing,
      names_of_outputs,
      records.loss,
      stored,
      loaded.labels_offset,
    )
    for model in (scorer.model, scorer.unfolded)
  )
  return _Source(request, loaded, classifier, checkpoint, dataset, stored)


def _tried(source: _Source, variant: Variant, output: Path) -> Exported:
  try:
    return Exported(variant, output, _write(source, variant, output))
  except Exception as error:  # of converters and interpreters: the other exports go on
    return Exported(variant, output, None, first_line(error))


def _write(source: _Source, variant: Variant, output: Path) -> Comparison:
  """Writes an export, reads it back, and gives it its name."""
  request, classifier = source.request, source.classifier
  records, count = request.config.records, request.config.format.calibration_images

  def calibration() -> Iterator[np.ndarray]:
    train_set = records.split('train')
    total = min(count or _CALIBRATION_IMAGES, train_set.num_samples)
    images = itertools.islice(views(train_set, classifier), total)
    with ProgressBar('Calibrating', total, 'images') as bar:
      for _, image in bar.track(images):
        yield image

  temporary = files.temporary_path(output)
  temporary.mkdir(parents=True)
  try:
    with files.naming_full_disk(output):
      task = Task(classifier, variant.quantize, calibration)
      with waiting(f'Writing {variant.name}'):
        described = FORMATS[variant.format].write(task, temporary)
      lines = [name.replace('\r', ' ').replace('\n', ' ') + '\n' for name in classifier.names]
      (temporary / LABELS_FILE).write_text(''.join(lines), 'utf-8', newline='')
      comparison = read_back(variant, temporary, source.checkpoint, source.dataset)
      metadata = describe(source, variant, comparison)
      files.write_json(temporary / EXPORT_FILE, {**metadata, **described})
      temporary.rename(output)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return comparison


def read_back(
  variant: Variant, folder: Path, checkpoint: Classifier, dataset: Dataset | None
) -> Comparison:
  """Compares what `folder` holds with the checkpoint, on the first images of the split.

  Without a data set it is compared on generated images.

  Returns:
    The worst of its signatures.

  Raises:
    ValueError: it differs by more than `ACCEPTED`, or there is no image.
  """
  images = generated_views(checkpoint) if dataset is None else views(dataset, checkpoint)
  pairs = list(itertools.islice(images, _TRIED))
  if dataset is not None and not pairs:
    raise ValueError(f'{dataset.name} {dataset.split_name} has no image to try the export on')
  batches = [
    Inputs([file for file, _ in some], np.stack([image for _, image in some]))
    for some in (pairs[begin : begin + _BATCH] for begin in range(0, len(pairs), _BATCH))
  ]
  readers, accepted = FORMATS[variant.format].read(folder), ACCEPTED[variant.quantize]
  with ProgressBar('Comparing', len(batches) * (1 + len(readers)), 'batches') as bar:
    expected = reference(
      checkpoint,
      np.concatenate(
        [checkpoint.probabilities(tf.constant(batch.images)) for batch in bar.track(batches)]
      ),
    )
    each = [
      summed_up(compare(expected, joined(map(outputs_of, bar.track(batches))), accepted))
      for outputs_of in readers
    ]
  worst = Comparison(
    len(pairs),
    max(one.difference for one in each),
    min(one.agreement for one in each),
    min(one.decisions for one in each),
  )
  if not all(one.is_within(accepted) for one in each):
    decisions = f', sets and abstention on {worst.decisions:.0%}' if worst.decisions < 1 else ''
    raise ValueError(
      f'{variant.format} (quantize {variant.quantize}) does not agree with the checkpoint on '
      f'{len(pairs)} images: probabilities differ by up to {worst.difference:.2g} (at most '
      f'{accepted.difference} is accepted), the best class is the same on {worst.agreement:.0%} '
      f'(at least {accepted.agreement:.0%}){decisions}; nothing was written'
    )
  return worst


def describe(source: _Source, variant: Variant, comparison: Comparison) -> dict[str, Any]:
  """What export.json says of an export in any format."""
  request, loaded, classifier = source.request, source.loaded, source.classifier
  records, stored, preprocessing = (
    request.config.records,
    source.calibration,
    classifier.preprocessing,
  )
  return {
    'format': variant.format,
    'quantize': variant.quantize,
    'model_name': request.ensemble.members[0].model_name,
    'checkpoint': loaded.prefix,
    'weights': loaded.weights,
    'batch_norm_batches': records.batch_norm_batches,
    'image_size': classifier.image_size,
    'preprocessing_name': preprocessing.name,
    'preprocessing': preprocessing.describe(classifier.image_size),
    **preprocessing.normalization.constants,
    'probabilities': records.loss,
    'calibration': stored and _describe_calibration(stored, loaded.labels_offset),
    'labels': list(classifier.names),
    'comparison': {
      **comparison._asdict(),
      # None: on generated images.
      'dataset_name': records.dataset_name if records.dataset_dir else None,
      'dataset_split_name': records.dataset_split_name if records.dataset_dir else None,
    },
    'tensorflow': tf.__version__,
  }


def _describe_calibration(stored: Calibration, labels_offset: int) -> dict[str, Any]:
  sets = stored.sets_of_outputs(labels_offset)
  return {
    'temperature': stored.temperature,
    'calibrated_on': stored.describe(),
    'expected_calibration_error': dataclasses.asdict(stored.expected_calibration_error),
    'sets': sets and dataclasses.asdict(sets),
    'abstention': stored.abstention and dataclasses.asdict(stored.abstention),
  }
