"""An export from its flags to its folder, read back before it is delivered."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception import files
from slim_inception.datasets import dataset_factory
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import examples, scorer
from slim_inception.evaluate.config import Member
from slim_inception.export import comparison, labels, onnx, saved_model, tflite
from slim_inception.export.classifier import Answers, Classifier, Inputs, Task
from slim_inception.export.comparison import Comparison
from slim_inception.export.config import ExportRequest
from slim_inception.nets import checkpoints

METADATA_FILE = 'export.json'
_TRIED = 32  # images that the export is compared on
_BATCH = 8  # of them at once


class Format(NamedTuple):
  """How a format is written into a folder, and what answers from there."""

  write: Callable[[Task, Path], dict[str, Any]]
  read: Callable[[Path], list[Callable[[Inputs], Answers]]]


FORMATS = {
  'saved_model': Format(saved_model.write, saved_model.read),
  'tflite': Format(tflite.write, tflite.read),
  'onnx': Format(onnx.write, onnx.read),
}


def export(wanted: ExportRequest) -> Comparison:
  """Writes the folder, once it has been read back and agrees with the checkpoint.

  Returns:
    How far it is from the checkpoint.

  Raises:
    FileExistsError: the folder is there.
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be, or what was read
      back does not agree; then nothing is left.
  """
  (config, (member,)), output = wanted.request, Path(wanted.output)
  if os.path.lexists(output):
    raise FileExistsError(f'--output={output} exists: choose another folder, or remove it')

  def split(name: str) -> Dataset:
    return dataset_factory.get_dataset(config.dataset_name, name, config.dataset_dir)

  dataset = split(config.dataset_split_name)
  train_set = split('train') if config.batch_norm_batches or wanted.quantize == 'int8' else None
  made = scorer.Scorer(member, config, dataset, tf.distribute.get_strategy())
  prefix = checkpoints.resolve(member.checkpoint_path)
  loaded = made.load(prefix, train_set if config.batch_norm_batches else None)
  names = names_of_outputs(dataset, loaded.labels_offset)
  sigmoid = config.loss == 'sigmoid'
  classifier = Classifier(made.model, made.spec.preprocessing, names, sigmoid=sigmoid)
  checkpoint = Classifier(made.unfolded, made.spec.preprocessing, names, sigmoid=sigmoid)

  def calibration() -> Iterator[np.ndarray]:
    for _, image in itertools.islice(views(train_set, classifier), wanted.calibration_images):
      yield image

  temporary = files.temporary_path(output)
  temporary.mkdir(parents=True)
  try:
    task = Task(classifier, wanted.quantize, calibration)
    written = FORMATS[wanted.format].write(task, temporary)
    labels.write(temporary, names)
    found = read_back(wanted, temporary, checkpoint, dataset)
    said = describe(wanted, member, loaded, classifier, found)
    files.write_json(temporary / METADATA_FILE, {**said, **written})
    temporary.rename(output)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return found


def names_of_outputs(dataset: Dataset, labels_offset: int) -> list[str]:
  """The name of each output of a net; the number of its label where that has none."""
  outputs = range(labels_offset, dataset.num_classes)
  return [dataset.labels_to_names.get(label, str(label)) for label in outputs]


def views(dataset: Dataset, classifier: Classifier) -> Iterator[tuple[bytes, np.ndarray]]:
  """The images of a split: the file, and the view [size, size, C] that the net is given.

  Those that can not be decoded are left out.
  """
  found = examples.read(dataset, range(dataset.num_samples), multi_label=True)
  found = found.map(lambda example: (example['encoded'], classifier.view(example['encoded'])))
  return found.ignore_errors().as_numpy_iterator()


def read_back(
  wanted: ExportRequest, folder: Path, checkpoint: Classifier, dataset: Dataset
) -> Comparison:
  """Compares what `folder` holds with the checkpoint, on the first images of the split.

  Returns:
    The worst of its signatures.

  Raises:
    ValueError: it differs by more than `comparison.ACCEPTED`, or there is no image.
  """
  pairs = list(itertools.islice(views(dataset, checkpoint), _TRIED))
  if not pairs:
    raise ValueError(f'{dataset.name} {dataset.split_name} has no image to try the export on')
  inputs = Inputs([file for file, _ in pairs], np.stack([image for _, image in pairs]))
  batches = np.split(inputs.images, range(_BATCH, len(pairs), _BATCH))
  expected = np.concatenate([checkpoint.probabilities(tf.constant(batch)) for batch in batches])
  accepted = comparison.ACCEPTED[wanted.quantize]
  found = [
    comparison.compare(expected, checkpoint.names, answers(inputs), accepted.tie)
    for answers in FORMATS[wanted.format].read(folder)
  ]
  worst = Comparison(
    len(pairs), max(one.difference for one in found), min(one.agreement for one in found)
  )
  if not all(one.is_within(accepted) for one in found):
    raise ValueError(
      f'{wanted.format} (quantize {wanted.quantize}) does not agree with the checkpoint on '
      f'{len(pairs)} images: probabilities differ by up to {worst.difference:.2g} (at most '
      f'{accepted.difference} is accepted), the best class is the same on {worst.agreement:.0%} '
      f'(at least {accepted.agreement:.0%}); nothing was written'
    )
  return worst


def describe(
  wanted: ExportRequest,
  member: Member,
  loaded: scorer.Loaded,
  classifier: Classifier,
  found: Comparison,
) -> dict[str, Any]:
  """What export.json says of an export in any format."""
  size = classifier.image_size
  config = wanted.request.config
  return {
    'format': wanted.format,
    'quantize': wanted.quantize,
    'model_name': member.model_name,
    'checkpoint': loaded.prefix,
    'weights': loaded.weights,
    'batch_norm_batches': config.batch_norm_batches,
    'image_size': size,
    'preprocessing_name': classifier.preprocessing.name,
    'preprocessing': classifier.preprocessing.describe(size),
    'mean': classifier.preprocessing.normalization.mean,
    'std': classifier.preprocessing.normalization.std,
    'probabilities': 'sigmoid' if config.loss == 'sigmoid' else 'softmax',
    'labels': list(classifier.names),
    'comparison': {
      **found._asdict(),
      'dataset_name': config.dataset_name,
      'dataset_split_name': config.dataset_split_name,
    },
    'tensorflow': tf.__version__,
  }
