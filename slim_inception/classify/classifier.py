"""Images to probabilities: one net or an ensemble, a stream in and a stream out.

Views, nets and averages are the evaluation's own, so that an image has the same probabilities here
and there.
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.classify import activation_maps, classes, image_files, ordered
from slim_inception.classify.config import Wanted
from slim_inception.classify.sources import Source
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.config import EvalConfig
from slim_inception.evaluate.means import Means
from slim_inception.evaluate.scorer import (
  Scorer,
  logits_to_scores,
  mean_to_probabilities,
  of_labels,
)
from slim_inception.evaluate.views import ViewSpec, single_window, to_float, view_stream
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.train import distribution

THUMBNAIL_SIDE = 480  # pixels, of the longer side
_NOT_DECODED = 'does not decode: it is damaged or cut short'


class Evidence(NamedTuple):
  """What a net says of one class of an image.

  Attributes:
    net: its name.
    map: [h, w] float32, each place's part in the logit.
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


class _Seen(NamedTuple):
  """What a net saw and said of an image, kept until the ensemble has decided."""

  logits: np.ndarray  # [outputs]
  maps: np.ndarray  # [h, w, outputs]
  biases: np.ndarray  # [outputs]
  window: tuple[float, float, float, float]


class _Scored(NamedTuple):
  """An image as some of the nets, which look at the same views, have scored it."""

  place: int
  means: np.ndarray  # [nets, num_classes]
  seen: dict[int, _Seen]  # by the number of the net; empty without --explain


class _Waiting(NamedTuple):
  """An image on its way through the nets."""

  name: str
  error: str = ''
  thumbnail: bytes = b''


class Classifier:
  """An ensemble with its checkpoints loaded.

  Args:
    wanted: what and how.

  Attributes:
    classes: a data set without records: number and names of the labels.

  Raises:
    ValueError, OSError: a checkpoint does not fit, or labels can not be read.
  """

  def __init__(self, wanted: Wanted):
    self._config, self._request = wanted.config, wanted.request
    self._num_threads = self._config.num_preprocessing_threads or os.cpu_count() or 1
    strategy = distribution.make_strategy(1, False)
    members = self._request.members
    prefixes = [checkpoints.resolve(member.checkpoint_path) for member in members]
    self.classes = classes.find(wanted.runs, members, prefixes, self._config.labels)
    self._scorers = [Scorer(m, self._request.config, self.classes, strategy) for m in members]
    self._loaded = [s.load(prefix) for s, prefix in zip(self._scorers, prefixes, strict=True)]
    for member, loaded in zip(members, self._loaded, strict=True):
      size = f'{member.image_size} x {member.image_size} pixels'
      logging.info('%s: %s, %s weights, %s', *loaded[:1], member.model_name, loaded.weights, size)
    shares = np.array([member.share for member in members])
    self._shares = shares / shares.sum()
    self._explainers = []
    if self._config.explain:
      self._explainers = [_explainer(s, self._request.config) for s in self._scorers]

  def classify(self, sources: Iterable[Source]) -> Iterator[Result]:
    """Classifies images as they come; no more than a few batches of them are in memory.

    Yields:
      A result for each source, in the order of these.

    Raises:
      ValueError: the outputs of a net are no finite numbers, or maps do not explain them.
    """
    waiting: dict[int, _Waiting] = {}
    passes = eval_config.passes(self._request)
    streams = ordered.tee(self._prepare_all(sources, waiting), len(passes))
    scored = [
      self._score(spec, indices, stream)
      for (spec, indices), stream in zip(passes.items(), streams, strict=True)
    ]
    awaited = 0
    for parts in zip(*scored, strict=True):
      place = parts[0].place
      yield from _failed(waiting, range(awaited, place))
      awaited = place + 1
      weighted = sum(
        self._shares[indices] @ part.means
        for part, indices in zip(parts, passes.values(), strict=True)
      )
      probabilities = mean_to_probabilities(weighted, self._request.config)
      pending = waiting.pop(place)
      seen = {number: of_net for part in parts for number, of_net in part.seen.items()}
      explanation = None
      if self._explainers:
        evidence = self._evidence(seen, int(probabilities.argmax()))
        explanation = Explanation(pending.thumbnail, evidence)
      yield Result(pending.name, '', probabilities, explanation)
    yield from _failed(waiting, range(awaited, awaited + len(waiting)))

  def _prepare_all(
    self, sources: Iterable[Source], waiting: dict[int, _Waiting]
  ) -> Iterator[tuple[int, bytes]]:
    """Places and contents of the images that can be decoded; `waiting` gets all of them."""
    side = THUMBNAIL_SIDE if self._config.explain else None
    prepare = functools.partial(_prepare, thumbnail_side=side)
    prepared = ordered.map_ahead(prepare, sources, self._num_threads)
    for place, (pending, encoded) in enumerate(prepared):
      waiting[place] = pending
      if encoded:
        yield place, encoded

  def _score(
    self,
    spec: ViewSpec,
    indices: Sequence[int],
    stream: Iterator[tuple[int, bytes]],
  ) -> Iterator[_Scored]:
    """Scores of all images by the nets that look at the same views."""

    def decoded(place: tf.Tensor, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
      image = spec.preprocessing.decode(encoded)
      return {'place': place, 'size': tf.shape(image)[:2], 'image': image}

    records = tf.data.Dataset.from_generator(
      lambda: stream,
      output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)),
    )
    batch_size, threads = self._config.batch_size, self._num_threads
    means = Means()
    seen: dict[int, dict[int, _Seen]] = {}
    # Tasks of one image: photos are large, and few of them should wait.
    for batch in view_stream(records, decoded, spec, batch_size, threads, task_size=1):
      places, rows = batch['place'].numpy(), []
      for i in indices:
        if self._explainers:
          scores, logits, maps, biases = (e.numpy() for e in self._explainers[i](batch['image']))
          activation_maps.check(logits, maps, biases, spec.image_size)
          for row, place in enumerate(places.tolist()):
            window = single_window(spec, *batch['size'][row].numpy().tolist())
            of_net = _Seen(logits[row], maps[row], biases, window)
            seen.setdefault(place, {})[i] = of_net
        else:
          scores = self._scorers[i].score(batch['image']).numpy()
        rows.append(
          of_labels(scores, self._loaded[i], self.classes.num_classes, self._request.config)
        )
      for place, mean in means.add(places, np.stack(rows)):
        yield _Scored(place, mean, seen.pop(place, {}))
    for place, mean in means.finish():
      yield _Scored(place, mean, seen.pop(place, {}))

  def _evidence(self, seen: dict[int, _Seen], label: int) -> tuple[Evidence, ...]:
    found = []
    for number, of_net in sorted(seen.items()):
      output = label - self._loaded[number].labels_offset
      if 0 <= output < len(of_net.logits):
        name = self._request.members[number].model_name
        values = of_net.maps[..., output], of_net.biases[output], of_net.logits[output]
        found.append(Evidence(name, *values, of_net.window))
    return tuple(found)


def _prepare(source: Source, thumbnail_side: int | None) -> tuple[_Waiting, bytes]:
  """The image and what TensorFlow is to decode; b'' where it can not be had."""
  try:
    encoded, thumbnail = image_files.prepare(source.read(), thumbnail_side)
  except OSError as error:
    return _Waiting(source.name, error.strerror or str(error)), b''
  except ValueError as error:
    return _Waiting(source.name, str(error)), b''
  return _Waiting(source.name, '', thumbnail), encoded


def _failed(waiting: dict[int, _Waiting], places: range) -> Iterator[Result]:
  """Takes out images that no net has seen."""
  for place in places:
    name, error, _ = waiting.pop(place)
    yield Result(name, error or _NOT_DECODED)


def _explainer(scorer: Scorer, config: EvalConfig) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
  """Views to scores, logits, maps and biases; see `Scorer.score` and `activation_maps`."""
  net, model = nets_factory.get_net(scorer.member.model_name), scorer.model
  to_scores, dtype = logits_to_scores(config), tf.as_dtype(config.precision)

  @tf.function(autograph=False, reduce_retracing=True)
  def explain(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
    logits, maps, biases = activation_maps.logits_and_maps(
      model, net, to_float(images, scorer.spec, dtype)
    )
    return to_scores(logits), logits, maps, biases

  return explain
