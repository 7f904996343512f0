"""Image files to probabilities: one net or an ensemble, a stream in and a stream out.

The evaluation's own predictor does it, so that an image has the same probabilities here and there.
"""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.classify import activation_maps, classes
from slim_inception.classify.config import ClassifyRequest
from slim_inception.classify.image_files import Prepared, prepare
from slim_inception.classify.sources import Source
from slim_inception.cluster import make_strategy
from slim_inception.evaluate.predictor import Ensemble, Prediction
from slim_inception.evaluate.scorer import plain_logits
from slim_inception.evaluate.views import single_window
from slim_inception.nets.convert import formats

Record = dict[str, int | bytes]

THUMBNAIL_SIDE = 480  # pixels, of the longer side
_NOT_DECODED = 'does not decode: it is damaged or cut short'


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


class _Pending(NamedTuple):
  """An image on its way through the nets."""

  record_index: int
  failed: Result  # what becomes of it where they do not get it
  thumbnail: bytes


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
    pending: collections.deque[_Pending] = collections.deque()  # filled by tf.data's thread
    records = _tee(self._records(sources, pending), self._ensemble.num_passes)
    iterators = iter(records)
    dataset = tf.data.Dataset.from_generator(
      lambda: next(iterators),
      output_signature={
        'record_index': tf.TensorSpec([], tf.int64),
        'encoded': tf.TensorSpec([], tf.string),
      },
    )
    # Tasks of one image: photos are large, and few of them should wait.
    for prediction in self._ensemble.predict(dataset, task_size=1, report=report):
      while pending[0].record_index < prediction.record_index:
        yield pending.popleft().failed
      image = pending.popleft()
      explanation = None
      if self._explain:
        explanation = Explanation(image.thumbnail, self._evidence(prediction))
      yield Result(image.failed.name, '', prediction.probabilities, explanation)
    while pending:
      yield pending.popleft().failed

  def _records(
    self, sources: Iterable[Source], pending: collections.deque[_Pending]
  ) -> Iterator[Record]:
    """Records of the images that Pillow can open; all images are added to `pending`."""
    side = THUMBNAIL_SIDE if self._explain else None
    prepared = _prepare_ahead(sources, side, self._num_threads)
    for index, (failed, image) in enumerate(prepared):
      pending.append(_Pending(index, failed, image.thumbnail if image else b''))
      if image:
        yield {'record_index': index, 'encoded': image.encoded}

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


def _prepare(source: Source, thumbnail_side: int | None) -> tuple[Result, Prepared | None]:
  """What becomes of an image if it fails, and what TensorFlow is to decode where it can be had."""
  try:
    prepared = prepare(source.read(), thumbnail_side)
  except (OSError, ValueError) as error:
    return Result(source.name, getattr(error, 'strerror', None) or str(error)), None
  return Result(source.name, _NOT_DECODED), prepared


def _prepare_ahead(
  sources: Iterable[Source], thumbnail_side: int | None, num_threads: int
) -> Iterator[tuple[Result, Prepared | None]]:
  """`_prepare` of all sources, in order, by threads which are at most `num_threads` ahead."""
  pool = concurrent.futures.ThreadPoolExecutor(num_threads)
  waiting: collections.deque[concurrent.futures.Future] = collections.deque()
  try:
    for source in sources:
      waiting.append(pool.submit(_prepare, source, thumbnail_side))
      if len(waiting) > num_threads:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(wait=False, cancel_futures=True)


def _tee(records: Iterator[Record], count: int) -> list[Iterator[Record]]:
  """`itertools.tee` for iterators that different threads empty."""
  lock = threading.Lock()
  queues: list[collections.deque[Record]] = [collections.deque() for _ in range(count)]

  def pull(own: collections.deque[Record]) -> Iterator[Record]:
    while True:
      with lock:
        if not own:
          record = next(records, None)
          if record is None:
            return
          for queue in queues:
            queue.append(record)
        record = own.popleft()
      yield record

  return [pull(queue) for queue in queues]
