"""The images that exports are tried on: of a split, or generated."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from slim_inception.bench import photographs
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import examples
from slim_inception.export.classifier import Classifier


def viewed(
  dataset: Dataset, classifier: Classifier, labels_offset: int = 0
) -> Iterator[dict[str, Any]]:
  """The images of a split, without those that cannot be decoded.

  Args:
    dataset: the split.
    classifier: for which net.
    labels_offset: the first label that the net has an output for.

  Yields:
    'record_index', 'filename', 'encoded', 'label' [num_classes] float32, 1 for each right one, and
    'image' [size, size, C], the view that the net is given.
  """
  indices = range(dataset.num_samples)
  records = examples.read(dataset, indices, labels_offset=labels_offset, multi_label=True)

  def see(record: dict[str, tf.Tensor]) -> tf.data.Dataset:
    one = tf.data.Dataset.from_tensors(record)
    # Here and not on the whole: damaged files are no images to be left out.
    return one.map(lambda r: {**r, 'image': classifier.view(r['encoded'])}).ignore_errors()

  return records.flat_map(see).prefetch(1).as_numpy_iterator()


def views(dataset: Dataset, classifier: Classifier) -> Iterator[tuple[bytes, np.ndarray]]:
  """The file and the view of `viewed`, image by image."""
  for each in viewed(dataset, classifier):
    yield each['encoded'], each['image']


def generated_views(classifier: Classifier) -> Iterator[tuple[bytes, np.ndarray]]:
  """As `views`, of generated photographs, which are of no class; they do not end."""
  view = tf.function(classifier.view, [tf.TensorSpec([], tf.string)], autograph=False)
  for file in map(photographs.photograph, itertools.count()):
    yield file, view(file).numpy()
