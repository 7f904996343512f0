"""A net with what is before and behind it, as every format has it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.evaluate import conformal
from slim_inception.evaluate.conformal import Sets
from slim_inception.evaluate.scorer import logits_to_scores
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.export import image_files
from slim_inception.nets.model import Model
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

LABELS_FILE = 'labels.txt'  # the name of each output of a net, a line each
_NAMED = 5  # labels that an image gets


class Classifier(tf.Module):
  """A net with preprocessing before it, and behind it probabilities and names of the classes.

  Args:
    model: the net.
    preprocessing: of the net.
    names: of its outputs.
    loss: with 'sigmoid' an output is the probability of one label, whatever the others are.
    calibration: whose temperature logits are divided by, and whose sets and abstention are given.
    labels_offset: the label of the first output; the calibration is of labels.
  """

  def __init__(
    self,
    model: Model,
    preprocessing: Preprocessing,
    names: list[str],
    loss: str = 'softmax',
    calibration: Calibration | None = None,
    labels_offset: int = 0,
  ):
    super().__init__(name='classifier')
    self.model = model
    self.preprocessing = preprocessing
    self.image_size = model.image_size
    self.channels = model.input_channels
    self.image_shape = (self.image_size, self.image_size, self.channels)
    self.names = tuple(names)
    self._names = tf.constant(names)
    self._temperature = calibration.temperature if calibration else 1.0
    self._sets = calibration.sets_of_outputs(labels_offset) if calibration else None
    self._abstention = calibration.abstention if calibration else None
    self._to_probabilities = logits_to_scores(loss)

  def probabilities(self, images: tf.Tensor) -> tf.Tensor:
    """Of each class, [N, classes]; `images` are [N, image_size, image_size, C], normalized."""
    logits = self.model(images)[0]
    if self._temperature != 1:
      logits = logits * tf.constant(1 / self._temperature, logits.dtype)
    return self._to_probabilities(logits)

  def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Classifies images, [N, image_size, image_size, C], normalized.

    Returns:
      Of the most probable five, best first: 'labels' [N, 5] int32, the numbers of the net's
      outputs, 'names' [N, 5] string, 'probabilities' [N, 5] float32. With a calibration that has
      them, 'in_set' [N, classes] bool and 'abstains' [N] bool.
    """
    probabilities = self.probabilities(images)
    best = tf.math.top_k(probabilities, min(_NAMED, len(self.names)))
    outputs = {
      'labels': best.indices,
      'names': tf.gather(self._names, best.indices),
      'probabilities': best.values,
    }
    if self._sets:
      outputs['in_set'] = in_set(probabilities, self._sets)
    if self._abstention:
      outputs['abstains'] = best.values[:, 0] < self._abstention.threshold
    return outputs

  def classify_files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Classifies files, [N] string, which `image_files` reads, by slim's central view."""
    numbers = tf.strings.as_string(tf.range(tf.size(image_bytes)))
    names = tf.strings.join(['image_bytes[', numbers, ']: '])
    images = tf.map_fn(
      lambda image: self.view(*image),
      (image_bytes, names),
      fn_output_signature=tf.TensorSpec(self.image_shape, tf.float32),
    )
    return self.classify(images)

  def view(self, encoded: tf.Tensor, name: str | tf.Tensor = '') -> tf.Tensor:
    """What the net sees of a file: [image_size, image_size, C], normalized.

    Args:
      encoded: string scalar, the bytes of the file.
      name: what an error calls it.
    """
    file = image_files.as_stored(encoded, name)
    return self.preprocessing.eval_image(file, self.image_size, self.image_size)


def in_set(probabilities: tf.Tensor, sets: Sets) -> tf.Tensor:
  """`Sets.of` in a graph: [N, classes] bool of [N, classes] float32."""
  scores = 1 - probabilities
  if sets.kind == 'adaptive':
    order = tf.argsort(probabilities, direction='DESCENDING', stable=True)
    falling = tf.gather(probabilities, order, batch_dims=1)
    before = tf.cumsum(falling, axis=-1, exclusive=True)
    penalties = tf.constant(conformal.penalties(probabilities.shape[-1]), tf.float32)
    scores = tf.gather(before + penalties, tf.argsort(order), batch_dims=1)
  return scores <= tf.constant(sets.thresholds, tf.float32)


class Task(NamedTuple):
  """What a format is to write."""

  classifier: Classifier
  quantize: str
  calibration: Callable[[], Iterator[np.ndarray]]  # views [size, size, C] that the net was made for


class Inputs(NamedTuple):
  """Some images, as files and as what the net sees of them."""

  files: list[bytes]
  images: np.ndarray  # [n, image_size, image_size, C] float32, normalized


class Outputs(NamedTuple):
  """What an exported classifier says of some images."""

  best: list[str]  # the name of the most probable class of each
  probabilities: np.ndarray  # [n, classes], or the largest of each, best first
  ranked: bool  # the latter


def joined(parts: Iterable[Outputs]) -> Outputs:
  """What is said of several batches, as one."""
  best, probabilities, ranked = zip(*parts, strict=True)
  return Outputs(
    [name for names in best for name in names], np.concatenate(probabilities), ranked[0]
  )


def name_outputs(folder: Path, probabilities: np.ndarray) -> Outputs:
  """The outputs with the names of labels.txt in `folder`, for [n, classes] probabilities."""
  names = (folder / LABELS_FILE).read_bytes().decode().split('\n')
  return Outputs([names[i] for i in probabilities.argmax(-1)], probabilities, ranked=False)
