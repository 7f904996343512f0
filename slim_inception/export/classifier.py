"""A net with what is before and behind it, as every format has it."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
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
# Outputs that a calibration adds, as export.json describes them.
DECISIONS = {
  'in_set': '[N, classes] bool, whether the set has the class of a line of labels.txt',
  'abstains': '[N] bool, whether the net is too unsure',
}
NAMED = 5  # labels that an image gets


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
    self.sets = calibration.sets_of_outputs(labels_offset) if calibration else None
    self.abstention = calibration.abstention if calibration else None
    self._to_probabilities = logits_to_scores(loss)

  def probabilities(self, images: tf.Tensor) -> tf.Tensor:
    """Of each class, [N, classes]; `images` are [N, image_size, image_size, C], normalized."""
    logits = self.model(images)[0]
    if self._temperature != 1:
      logits = logits * tf.constant(1 / self._temperature, logits.dtype)
    return self._to_probabilities(logits)

  def decisions(self, probabilities: tf.Tensor, one: int = 1) -> dict[str, tf.Tensor]:
    """What the calibration makes of [N, classes]: as far as it has them, `DECISIONS`.

    Args:
      probabilities: float32, or int32 in units of 1 / `one`.
      one: what a probability of 1 is.
    """
    decided = {}
    if self.sets:
      decided['in_set'] = in_set(probabilities, self.sets, one)
    if self.abstention:
      threshold = _not_below(self.abstention.threshold * one, probabilities.dtype)
      decided['abstains'] = tf.reduce_max(probabilities, -1) < threshold
    return decided

  def score(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What formats without strings give: all 'probabilities' [N, classes], and `decisions`."""
    probabilities = self.probabilities(images)
    return {'probabilities': probabilities, **self.decisions(probabilities)}

  def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Classifies images, [N, image_size, image_size, C], normalized.

    Returns:
      Of the most probable five, best first: 'labels' [N, 5] int32, the numbers of the net's
      outputs, 'names' [N, 5] string, 'probabilities' [N, 5] float32. And `decisions`.
    """
    probabilities = self.probabilities(images)
    best = tf.math.top_k(probabilities, min(NAMED, len(self.names)))
    return {
      'labels': best.indices,
      'names': tf.gather(self._names, best.indices),
      'probabilities': best.values,
      **self.decisions(probabilities),
    }

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


def in_set(probabilities: tf.Tensor, sets: Sets, one: int = 1) -> tf.Tensor:
  """`Sets.of` in a graph, of operations that TFLite and ONNX have too.

  Args:
    probabilities: [N, classes] float32, or int32 in units of 1 / `one`.
    sets: how they are made.
    one: what a probability of 1 is.

  Returns:
    [N, classes] bool.
  """
  dtype = probabilities.dtype
  thresholds = _not_below(np.array(sets.thresholds) * one, dtype)
  if sets.kind != 'adaptive':
    return one - probabilities <= thresholds
  classes = probabilities.shape[-1]
  falling, order = tf.math.top_k(probabilities, classes)  # of equal ones the first leads
  penalties = (conformal.penalties(classes) * one).astype(dtype.as_numpy_dtype)
  before = tf.cumsum(falling, axis=-1, exclusive=True) + penalties
  # They rise with the rank, so that the set is the classes of the first ranks.
  count = tf.reduce_sum(tf.cast(before <= thresholds, tf.int32), -1, keepdims=True)
  ranks = tf.math.top_k(-order, classes).indices  # the inverse of a permutation
  return ranks < count


def _not_below(values: np.ndarray | float, dtype: tf.DType) -> tf.Tensor:
  """The least numbers of a type that are not less: no set and no abstention is lost by rounding."""
  exact = np.asarray(values, np.float64)
  if dtype.is_integer:
    return tf.constant(np.ceil(exact), dtype)
  nearest = exact.astype(np.float32)
  return tf.constant(np.where(nearest < exact, np.nextafter(nearest, np.float32(np.inf)), nearest))


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
  top: np.ndarray  # [n, 5] the most probable outputs, lines of labels.txt, best first
  probabilities: np.ndarray  # [n, classes], or the largest of each, best first
  ranked: bool  # the latter
  decisions: Mapping[str, np.ndarray] = {}  # `DECISIONS`, as far as there are any


def joined(parts: Iterable[Outputs]) -> Outputs:
  """What is said of several batches, as one."""
  best, top, probabilities, ranked, decisions = zip(*parts, strict=True)
  return Outputs(
    [name for names in best for name in names],
    np.concatenate(top),
    np.concatenate(probabilities),
    ranked[0],
    {name: np.concatenate([part[name] for part in decisions]) for name in decisions[0]},
  )


def name_outputs(folder: Path, outputs: Mapping[str, np.ndarray]) -> Outputs:
  """The outputs of `Classifier.score` with the names of labels.txt in `folder`."""
  names = (folder / LABELS_FILE).read_bytes().decode().split('\n')
  probabilities = outputs['probabilities']
  top = np.argsort(-probabilities, axis=-1, kind='stable')[:, :NAMED]
  best = [names[label] for label in top[:, 0]]
  return Outputs(best, top, probabilities, ranked=False, decisions=decisions_in(outputs))


def decisions_in(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Those of `DECISIONS` among the outputs of an export."""
  return {name: np.asarray(outputs[name]) for name in DECISIONS if name in outputs}


def described_decisions(names: Container[str]) -> dict[str, str]:
  """What export.json says of those of `DECISIONS` among the outputs of these names."""
  return {name: text for name, text in DECISIONS.items() if name in names}
