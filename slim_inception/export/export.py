"""An export from its flags to its folder, read back before it is delivered."""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import files, provenance
from slim_inception.bench import photographs
from slim_inception.classify.classes import find as find_classes
from slim_inception.constants import EXPORT_FILE
from slim_inception.datasets import dataset_factory
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.datasets.progress_bar import ProgressBar, waiting
from slim_inception.evaluate import examples
from slim_inception.evaluate.scorer import Loaded, Scorer
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.export import onnx, saved_model, tflite
from slim_inception.export.classifier import LABELS_FILE, Classifier, Inputs, Task, joined
from slim_inception.export.comparison import ACCEPTED, Comparison, compare
from slim_inception.export.config import ExportRequest, FormatConfig
from slim_inception.nets.convert import formats

_TRIED = 32  # images that the export is compared on
_BATCH = 8  # of them at once
_CALIBRATION_IMAGES = 200


# Each has write(task, folder), which returns what export.json says of inputs and outputs, and
# read(folder), which gives a function from `Inputs` to `Outputs` for each signature.
FORMATS = {'saved_model': saved_model, 'tflite': tflite, 'onnx': onnx}


def export(request: ExportRequest) -> Comparison:
  """Writes the folder, once it has been read back and agrees with the checkpoint.

  Returns:
    How far it is from the checkpoint.

  Raises:
    FileExistsError: the folder is there.
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be, or what was read
      back does not agree; then nothing is left.
  """
  chosen, records = request.config.format, request.config.records
  (member,), output = request.ensemble.members, Path(chosen.output)
  if os.path.lexists(output):
    raise FileExistsError(f'--output={output} exists: choose another folder, or remove it')

  prefix = formats.locate(member.checkpoint_path)
  dataset = records.split(records.dataset_split_name) if records.dataset_dir else None
  labels_path = request.config.classes.labels
  if dataset is None or labels_path:
    known = dataset_factory.classes_of(records.dataset_name, None) if not labels_path else None
    classes = known or find_classes(labels_path, request.runs, member, prefix)
  else:
    classes = dataset
  scorer = Scorer(member, request.ensemble, classes, tf.distribute.get_strategy())
  logging.info('Exporting %s to %s as %s', prefix, output, chosen.format)
  loaded = scorer.load(prefix, records.split('train') if records.batch_norm_batches else None)
  logging.info('%s', scorer.describe())
  trained_on = None if labels_path else member.trained_on
  names = provenance.names_of_outputs(trained_on, classes, loaded.labels_offset)
  stored = scorer.calibration()
  classifier, checkpoint = (
    Classifier(model, member.spec.preprocessing, names, records.loss, stored, loaded.labels_offset)
    for model in (scorer.model, scorer.unfolded)
  )

  def calibration() -> Iterator[np.ndarray]:
    train_set = records.split('train')
    count = chosen.calibration_images or _CALIBRATION_IMAGES
    images = itertools.islice(views(train_set, classifier), count)
    with ProgressBar('Calibrating', min(count, train_set.num_samples), 'images') as bar:
      for _, image in bar.track(images):
        yield image

  if chosen.quantize == 'int8':
    records.split('train')  # says at once that there is none
  temporary = files.temporary_path(output)
  temporary.mkdir(parents=True)
  try:
    with files.naming_full_disk(output):
      task = Task(classifier, chosen.quantize, calibration)
      with waiting(f'Writing {chosen.format}'):
        described = FORMATS[chosen.format].write(task, temporary)
      lines = [name.replace('\r', ' ').replace('\n', ' ') + '\n' for name in names]
      (temporary / LABELS_FILE).write_text(''.join(lines), 'utf-8', newline='')
      comparison = read_back(chosen, temporary, checkpoint, dataset)
      metadata = describe(request, loaded, classifier, comparison, stored)
      files.write_json(temporary / EXPORT_FILE, {**metadata, **described})
      temporary.rename(output)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return comparison


def views(dataset: Dataset, classifier: Classifier) -> Iterator[tuple[bytes, np.ndarray]]:
  """The images of a split: the file, and the view [size, size, C] that the net is given.

  Those that cannot be decoded are left out.
  """
  records = examples.read(dataset, range(dataset.num_samples), multi_label=True)

  def pair(record: dict[str, tf.Tensor]) -> tf.data.Dataset:
    one = tf.data.Dataset.from_tensors(record['encoded'])
    # Here and not on the whole: damaged files are no images to be left out.
    return one.map(lambda file: (file, classifier.view(file))).ignore_errors()

  return records.flat_map(pair).as_numpy_iterator()


def generated_views(classifier: Classifier) -> Iterator[tuple[bytes, np.ndarray]]:
  """As `views`, of generated photographs, which are of no class; they do not end."""
  view = tf.function(classifier.view, [tf.TensorSpec([], tf.string)], autograph=False)
  for file in map(photographs.photograph, itertools.count()):
    yield file, view(file).numpy()


def read_back(
  chosen: FormatConfig, folder: Path, checkpoint: Classifier, dataset: Dataset | None
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
  readers, accepted = FORMATS[chosen.format].read(folder), ACCEPTED[chosen.quantize]
  with ProgressBar('Comparing', len(batches) * (1 + len(readers)), 'batches') as bar:
    expected = np.concatenate(
      [checkpoint.probabilities(tf.constant(batch.images)) for batch in bar.track(batches)]
    )
    each = [
      compare(expected, checkpoint.names, joined(map(outputs_of, bar.track(batches))), accepted.tie)
      for outputs_of in readers
    ]
  worst = Comparison(
    len(pairs), max(one.difference for one in each), min(one.agreement for one in each)
  )
  if not all(one.is_within(accepted) for one in each):
    raise ValueError(
      f'{chosen.format} (quantize {chosen.quantize}) does not agree with the checkpoint on '
      f'{len(pairs)} images: probabilities differ by up to {worst.difference:.2g} (at most '
      f'{accepted.difference} is accepted), the best class is the same on {worst.agreement:.0%} '
      f'(at least {accepted.agreement:.0%}); nothing was written'
    )
  return worst


def describe(
  request: ExportRequest,
  loaded: Loaded,
  classifier: Classifier,
  comparison: Comparison,
  stored: Calibration | None,
) -> dict[str, Any]:
  """What export.json says of an export in any format."""
  chosen, records = request.config.format, request.config.records
  preprocessing = classifier.preprocessing
  return {
    'format': chosen.format,
    'quantize': chosen.quantize,
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
