"""A checkpoint as a SavedModel that takes files of pictures and says what is in them."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from datasets import dataset_factory
from datasets.dataset_factory import Dataset
from evaluation import config as eval_config
from evaluation import examples, scorer
from evaluation.config import Request
from nets import checkpoints
from nets.model import Model
from preprocessing import inception_preprocessing
from training.config import option

_NAMED = 5  # labels that a picture gets
_TRIED = 8  # pictures that the export is compared on
_TOLERANCE = 1e-4  # of probabilities: the exported graph is optimized in its own way


@dataclasses.dataclass(frozen=True)
class ExportConfig:
  """What is exported; what is not given comes from the run's config.json."""

  checkpoint_path: str = option(None, 'A checkpoint, or the train_dir whose latest is taken.')
  output: str = option(None, 'Folder of the SavedModel, e.g. models/flowers/1; it must not exist.')
  model_name: str = option(None, "Net; the run's by default.")
  depth_multiplier: str = option(None, "Factor of the filters; the run's by default, or 1.")
  input_channels: str = option(None, "Channels of the pictures, 3 or 1; the run's, or 3.")
  eval_image_size: str = option(None, "Pixels a side; the run's by default, or the net's.")
  labels_offset: str = option(None, "Label less output; the run's by default, else found.")
  weights: str = option('auto', 'ema, plain, or auto: ema if there are any.', eval_config.WEIGHTS)
  dataset_name: str = option(
    None, "Data set that names the classes; the run's.", tuple(dataset_factory.DATASETS)
  )
  dataset_split_name: str = option('validation', 'Split that the export is tried on.')
  dataset_dir: str = option(None, "Folder of the records; the run's by default.")
  calibrate_batches: int = option(
    0, 'Batches of the training split to measure batch norm statistics with; 0 takes those stored.'
  )
  batch_size: int = option(100, 'Pictures in each of them.')


class ExportRequest(NamedTuple):
  """What is exported, and where to."""

  request: Request
  output: str


def resolve(given: Mapping[str, Any]) -> ExportRequest:
  """Fills in what was not given, as an evaluation does.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: something is neither given nor there, or a value is impossible.
  """
  given = dict(given)
  output = given.pop('output', None)
  if not output:
    raise ValueError('--output must be given: the folder of the SavedModel')
  request = eval_config.resolve(given)
  if len(request.members) > 1:
    raise ValueError('--checkpoint_path must be one checkpoint: an ensemble is not exported')
  return ExportRequest(request, output)


class Classifier(tf.Module):
  """A net with what is before and behind it: preprocessing, and names of the classes.

  Args:
    model: the net.
    names: of its outputs.
    sigmoid: an output is the probability of one label, whatever the others are.
  """

  def __init__(self, model: Model, names: list[str], *, sigmoid: bool = False):
    super().__init__(name='classifier')
    self._model = model
    self._names = tf.constant(names)
    self._to_probabilities = tf.nn.sigmoid if sigmoid else tf.nn.softmax

  def make_signatures(self) -> dict[str, Any]:
    """What a SavedModel offers, by name."""
    size = self._model.image_size
    files = tf.TensorSpec([None], tf.string, 'image_bytes')
    channels = self._model.input_channels
    images = tf.TensorSpec([None, size, size, channels], tf.float32, 'images')
    return {
      'serving_default': tf.function(self.classify_files, [files], autograph=False),
      'images': tf.function(self.classify, [images], autograph=False),
    }

  def classify_files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Classifies files, [N] string: JPEG, PNG, GIF or BMP of any size, by slim's central view."""
    size, channels = self._model.image_size, self._model.input_channels
    images = tf.map_fn(
      lambda encoded: inception_preprocessing.eval_image(encoded, size, size, channels=channels),
      image_bytes,
      fn_output_signature=tf.TensorSpec([size, size, channels], tf.float32),
    )
    return self.classify(images)

  def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Classifies images, [N, image_size, image_size, C] in [-1, 1].

    Returns:
      Of the most probable five, best first: 'names' [N, 5] string, 'probabilities' [N, 5] float32.
    """
    logits, _ = self._model(images)
    count = min(_NAMED, logits.shape[-1])
    found = tf.math.top_k(self._to_probabilities(logits), count)
    return {'names': tf.gather(self._names, found.indices), 'probabilities': found.values}


def export(wanted: ExportRequest) -> float:
  """Writes the SavedModel, once it has been read back and agrees with the checkpoint.

  Returns:
    The largest difference of a probability that was seen.

  Raises:
    FileExistsError: the folder is there.
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be, or what was read
      back does not agree; then nothing is left.
  """
  (config, (member,)), output = wanted
  if os.path.lexists(output):
    raise FileExistsError(f'--output={output} exists: choose another folder, or remove it')
  dataset = dataset_factory.get_dataset(
    config.dataset_name, config.dataset_split_name, config.dataset_dir
  )
  train_set = None
  if config.calibrate_batches:
    train_set = dataset_factory.get_dataset(config.dataset_name, 'train', config.dataset_dir)
  made = scorer.Scorer(member, config, dataset, tf.distribute.get_strategy())
  loaded = made.load(checkpoints.resolve(member.checkpoint_path), train_set)
  names = names_of_outputs(dataset, loaded.labels_offset)
  classifier = Classifier(made.model, names, sigmoid=config.loss == 'sigmoid')
  temporary = f'{output.rstrip("/")}.part-{os.getpid()}'
  os.makedirs(os.path.dirname(os.path.abspath(temporary)), exist_ok=True)
  try:
    tf.saved_model.save(classifier, temporary, classifier.make_signatures())
    difference = compare(temporary, classifier, dataset)
    os.rename(temporary, output)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return difference


def names_of_outputs(dataset: Dataset, labels_offset: int) -> list[str]:
  """The name of each output of a net; the number of its label where that has none."""
  labels = range(labels_offset, dataset.num_classes)
  return [dataset.labels_to_names.get(label, str(label)) for label in labels]


def compare(path: str, classifier: Classifier, dataset: Dataset) -> float:
  """The largest difference between a SavedModel's probabilities and the net's, on some pictures.

  Raises:
    ValueError: it is too large, or a name is another.
  """
  pictures = [
    example['encoded']
    for example in examples.read(
      dataset, range(min(_TRIED, dataset.num_samples)), multi_label=True
    ).as_numpy_iterator()
  ]
  read_back = tf.saved_model.load(path).signatures['serving_default'](tf.constant(pictures))
  expected = classifier.classify_files(tf.constant(pictures))
  probabilities = expected['probabilities'].numpy()
  difference = float(np.abs(read_back['probabilities'].numpy() - probabilities).max())
  clear = np.abs(np.diff(probabilities[:, :2])) > 2 * _TOLERANCE  # no two that may change places
  same = (read_back['names'] == expected['names']).numpy()[:, 0] | ~clear.all(-1)
  if not (difference <= _TOLERANCE and same.all()):
    raise ValueError(f'The SavedModel does not agree with the checkpoint: off by {difference:.2g}')
  return difference
