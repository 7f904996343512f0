"""Image files to probabilities: one net or an ensemble, a stream in and a stream out.

The evaluation's own predictor does it, so that an image has the same probabilities here and there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.classify import activation_maps, classes, heat_maps, stream
from slim_inception.classify.config import ClassifyRequest
from slim_inception.classify.sources import Source
from slim_inception.cluster import make_strategy
from slim_inception.evaluate.predictor import Ensemble, Prediction
from slim_inception.evaluate.scorer import LogitsFn, plain_logits
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.evaluate.views import single_window
from slim_inception.nets.convert import formats

THUMBNAIL_SIDE = 480  # pixels, of the longer side
# How nets make logits, by --explain_method; the others explain when the class is known.
_LOGITS_FNS: dict[str | None, LogitsFn] = {
  None: plain_logits,
  'cam': activation_maps.logits_and_maps,
}


class Evidence(NamedTuple):
  """What a net says of one class of an image.

  Attributes:
    net: its name.
    map: [h, w] float32.
    unit: what its values are.
    caption: a line on what it says of the logit.
    window: what the net saw, in shares of the image: top, left, bottom, right.
  """

  net: str
  map: np.ndarray
  unit: str
  caption: str
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
    ensemble, output = request.ensemble, request.config.output
    self._method = (output.explain_method or 'cam') if output.explain is not None else None
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
      logits_fn=_LOGITS_FNS.get(self._method, heat_maps.logits_and_view),
    )
    self._ensemble.load(prefixes)
    self._explainers: list[heat_maps.Explainer] = []
    if self._method is not None and self._method not in _LOGITS_FNS:
      compute = ensemble.compute
      dtype = tf.as_dtype(compute.precision)
      self._explainers = [
        heat_maps.Explainer(scorer, self._method, compute.batch_size, dtype)
        for scorer in self._ensemble.scorers
      ]

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
    side = THUMBNAIL_SIDE if self._method else None
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
      if self._method:
        explanation = Explanation(image.thumbnail, self._evidence(prediction))
      yield Result(image.name, '', prediction.probabilities, explanation)

  def _evidence(self, prediction: Prediction) -> tuple[Evidence, ...]:
    """What each net that knows the most probable class saw of it."""
    label = int(prediction.probabilities.argmax())
    evidence = []
    for number, scorer in enumerate(self._ensemble.scorers):
      values = prediction.more[number]
      spec, name = scorer.member.spec, scorer.member.model_name
      window = single_window(spec, *prediction.tags['size'].tolist())
      output = label - scorer.loaded.labels_offset
      if self._explainers:
        if 0 <= output < (scorer.model.config.num_classes or 0):
          heat = self._explainers[number].explain(values['view'], output)
          unit = heat_maps.UNITS[str(self._method)]
          evidence.append(Evidence(name, heat.map, unit, f'logit {heat.logit:.2f}', window))
        continue
      logits, maps, biases = (values[key] for key in ('logits', 'maps', 'biases'))
      activation_maps.check(logits, maps, biases, spec.image_size)
      if 0 <= output < len(logits):
        caption = activation_maps.caption(maps[..., output], biases[output], logits[output])
        evidence.append(Evidence(name, maps[..., output], heat_maps.UNITS['cam'], caption, window))
    return tuple(evidence)
