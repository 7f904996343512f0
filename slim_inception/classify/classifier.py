"""Image files to probabilities: one net or an ensemble, a stream in and a stream out.

The evaluation's own predictor does it, so that an image has the same probabilities here and there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from slim_inception.classify import activation_maps, classes, stream
from slim_inception.classify.config import ClassifyRequest
from slim_inception.classify.sources import Source
from slim_inception.cluster import make_strategy
from slim_inception.evaluate.predictor import Ensemble, Prediction
from slim_inception.evaluate.scorer import plain_logits
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.evaluate.views import single_window
from slim_inception.nets.convert import formats

THUMBNAIL_SIDE = 480  # pixels, of the longer side


class Evidence(NamedTuple):
  """What a net says of one class of an image.

  Attributes:
    net: its name.
    map: [h, w] float32, the part of each pixel of the feature map in the logit.
    bias: of the class; the logit is the mean of `map`, plus it.
    logit: of the class.
    window: what the net saw, in shares of the image: top, left, bottom, right.
  """

  net: str
  map: np.ndarray
  bias: float
  logit: float
  window: tuple[float, float, float, float]


class Explanation(NamedTuple):
  """What there is to draw of an image.

  Attributes:
    thumbnail: PNG, RGB, the whole image.
    evidence: of each net that knows the class.
  """

  thumbnail: bytes
  evidence: tuple[Evidence, ...]


class Result(NamedTuple):
  """What became of an image.

  Attributes:
    name: as the user knows it.
    error: why it is not classified; '' if it is.
    probabilities: [num_classes], of each label.
    explanation: of the most probable one, where that was asked for.
  """

  name: str
  error: str = ''
  probabilities: np.ndarray | None = None
  explanation: Explanation | None = None


class Classifier:
  """An ensemble with its checkpoints loaded.

  Args:
    request: what and how.

  Attributes:
    classes: a data set without records: number and names of the labels.

  Raises:
    ValueError, OSError: a checkpoint does not fit, or labels cannot be read.
  """

  def __init__(self, request: ClassifyRequest):
    ensemble, self._explain = request.ensemble, request.config.output.explain is not None
    self._num_threads = ensemble.compute.num_preprocessing_threads or 1
    members = ensemble.members
    prefixes = [formats.locate(member.checkpoint_path) for member in members]
    self.classes = classes.find(
      request.config.classes.labels, request.runs, members[0], prefixes[0]
    )
    self._ensemble = Ensemble(
      ensemble,
      self.classes,
      make_strategy(1, False),
      logits_fn=activation_maps.logits_and_maps if self._explain else plain_logits,
    )
    self._ensemble.load(prefixes)

  @property
  def calibration(self) -> Calibration | None:
    """Of the only net, where its checkpoint has one; see `Ensemble.calibration`."""
    return self._ensemble.calibration

  @property
  def devices(self) -> str:
    """What the nets compute on."""
    return self._ensemble.devices

  def num_views(self, num_images: int) -> int:
    """How many views of so many images the nets look at, all together."""
    return self._ensemble.num_views(num_images)

  def classify(
    self, sources: Iterable[Source], report: Callable[[int], object] = lambda count: None
  ) -> Iterator[Result]:
    """Classifies images as they come; no more than a few batches of them are in memory.

    Args:
      sources: the images.
      report: see `Ensemble.predict`.

    Yields:
      A result for each source, in the order of these.

    Raises:
      ValueError: the outputs of a net are not finite numbers, or maps do not explain them.
    """
    side = THUMBNAIL_SIDE if self._explain else None
    predictions = stream.through(
      sources,
      # Tasks of one image: photos are large, and few of them should wait.
      lambda records: self._ensemble.predict(records, task_size=1, report=report),
      self._ensemble.num_passes,
      self._num_threads,
      side,
    )
    for image, prediction in predictions:
      if prediction is None:
        yield Result(image.name, image.error)
        continue
      explanation = None
      if self._explain:
        explanation = Explanation(image.thumbnail, self._evidence(prediction))
      yield Result(image.name, '', prediction.probabilities, explanation)

  def _evidence(self, prediction: Prediction) -> tuple[Evidence, ...]:
    """What each net that knows the most probable class saw of it."""
    label = int(prediction.probabilities.argmax())
    evidence = []
    for scorer, values in zip(self._ensemble.scorers, prediction.more, strict=True):
      logits, maps, biases = (values[name] for name in ('logits', 'maps', 'biases'))
      activation_maps.check(logits, maps, biases, scorer.member.spec.image_size)
      output = label - scorer.loaded.labels_offset
      if 0 <= output < len(logits):
        window = single_window(scorer.member.spec, *prediction.tags['size'].tolist())
        parts = maps[..., output], biases[output], logits[output]
        evidence.append(Evidence(scorer.member.model_name, *parts, window))
    return tuple(evidence)
