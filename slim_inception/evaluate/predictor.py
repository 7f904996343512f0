"""Records to probabilities: the one machine behind evaluation and classification.

Nets that see the same views share a pass over the records; the passes of an ensemble go through the
records in lockstep, so that no more than a few batches are in memory.
"""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import kernels
from slim_inception.cluster import describe_devices, gpus_of
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate.calibration import scaled
from slim_inception.evaluate.config import EnsembleRequest
from slim_inception.evaluate.scorer import LogitsFn, Scorer, plain_logits
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.evaluate.views import ViewSpec, view_stream
from slim_inception.input import pipeline as input_pipeline

Values = dict[str, Any]  # arrays, or numbers and bytes of one record


class Prediction(NamedTuple):
  """What the nets say of a record.

  Attributes:
    record_index: which record.
    tags: its other entries, and 'size', height and width of the decoded image.
    probabilities: [num_classes] float64, of the ensemble, calibrated where there is a calibration.
    of_members: [members, num_classes] float64, of each net, as they are.
    more: of each net, what its `LogitsFn` gives besides logits, of the record's first view.
  """

  record_index: int
  tags: Values
  probabilities: np.ndarray
  of_members: np.ndarray
  more: list[Values]


class Scored(NamedTuple):
  """A record as the nets have scored it, each on its own; of a pass: those of the pass.

  Attributes:
    record_index: which record.
    means: [outputs] float64 of each net, over the views: of `scorer.logits_to_scores`.
    tags: see `Prediction`.
    more: see `Prediction`.
  """

  record_index: int
  means: list[np.ndarray]
  tags: Values
  more: list[Values]


class Ensemble:
  """One net or several, which predict together.

  Args:
    request: the nets, and how they look at images.
    classes: the data set whose labels are predicted; None of nets without classifiers, which have
      embeddings.
    strategy: what the nets compute on.
    num_replicas: of the strategy, in this process.
    logits_fn: how a net makes logits.

  Attributes:
    scorers: of the nets.
    shares: [members], of each in the average; their sum is 1.
    calibration: of the only net, whose temperature probabilities are given with; None without.
  """

  def __init__(
    self,
    request: EnsembleRequest,
    classes: Dataset | None,
    strategy: tf.distribute.Strategy,
    num_replicas: int = 1,
    logits_fn: LogitsFn = plain_logits,
  ):
    self._request, self._strategy, self._num_replicas = request, strategy, num_replicas
    kernels.warn_of_precision(request.compute.precision, bool(gpus_of(strategy)))
    self.scorers = [Scorer(m, request, classes, strategy, logits_fn) for m in request.members]
    shares = np.array([member.weight for member in request.members])
    self.shares = shares / shares.sum()
    self.calibration: Calibration | None = None
    self._passes: dict[ViewSpec, list[int]] = {}
    for i, scorer in enumerate(self.scorers):
      self._passes.setdefault(scorer.member.spec, []).append(i)

  @property
  def num_passes(self) -> int:
    """How many iterators over the records `predict` makes."""
    return len(self._passes)

  def load(self, prefixes: Sequence[str], train_set: Dataset | None = None) -> None:
    """Loads a checkpoint of each net, and says what it is; see `Scorer.load`."""
    for scorer, prefix in zip(self.scorers, prefixes, strict=True):
      scorer.load(prefix, train_set)
      logging.info('%s', scorer.describe())
    self.calibration = self.scorers[0].calibration() if len(self.scorers) == 1 else None

  @property
  def devices(self) -> str:
    """What the nets compute on."""
    return describe_devices(self._strategy)

  def num_views(self, num_images: int) -> int:
    """How many views of so many images the nets look at, all together."""
    return num_images * sum(scorer.member.spec.num_views or 1 for scorer in self.scorers)

  def predict(
    self,
    records: tf.data.Dataset,
    task_size: int = input_pipeline.TASK,
    report: Callable[[int], object] = lambda count: None,
  ) -> Iterator[Prediction]:
    """Predicts one record after the other; those that cannot be decoded are left out.

    Args:
      records: dictionaries of 'record_index', int64 and rising, 'encoded', the file of the image,
        and whatever else is to come back as tags.
      task_size: records that are decoded in one go, see `view_stream`.
      report: gets the number of views whenever a net has looked at some more.

    Raises:
      ValueError: the outputs of a net are not finite numbers.
      tf.errors.OpError: one of `input_pipeline.READ_ERRORS`.
    """
    for scored in self.score(records, task_size, report):
      means = np.stack(scored.means)
      probabilities = self._to_probabilities(self.shares @ means)
      if self.calibration:
        probabilities = scaled(probabilities, self.calibration.temperature)
      yield Prediction(
        scored.record_index,
        scored.tags,
        probabilities,
        np.stack([self._to_probabilities(mean) for mean in means]),
        scored.more,
      )

  def score(
    self,
    records: tf.data.Dataset,
    task_size: int = input_pipeline.TASK,
    report: Callable[[int], object] = lambda count: None,
  ) -> Iterator[Scored]:
    """As `predict`: what each net gives of a record, without an average over the nets."""
    passes = [
      self._score(spec, [self.scorers[i] for i in members], records, task_size, report)
      for spec, members in self._passes.items()
    ]
    order = np.argsort([i for members in self._passes.values() for i in members])
    for parts in _in_lockstep(passes):
      means = [mean for part in parts for mean in part.means]
      more = [values for part in parts for values in part.more]
      yield Scored(
        parts[0].record_index, [means[i] for i in order], parts[0].tags, [more[i] for i in order]
      )

  def _to_probabilities(self, mean: np.ndarray) -> np.ndarray:
    """Of averaged scores, [num_classes] of `scorer.logits_to_scores`."""
    if self._request.average == 'probabilities':
      return mean
    if self._request.loss == 'sigmoid':
      return 1 / (1 + np.exp(-mean))
    raised = np.exp(mean - mean.max())
    return raised / raised.sum()

  def _score(
    self,
    spec: ViewSpec,
    scorers: Sequence[Scorer],
    records: tf.data.Dataset,
    task_size: int,
    report: Callable[[int], object],
  ) -> Iterator[Scored]:
    """One pass: each record, scored by nets that see the same views."""

    def decode(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      tags = {name: value for name, value in record.items() if name != 'encoded'}
      image = spec.decode(record['encoded'])
      return {**tags, 'size': tf.shape(image)[:2], 'image': image}

    batch_size = self._request.compute.batch_size * self._num_replicas
    num_threads = self._request.compute.num_preprocessing_threads
    batches = view_stream(records, decode, spec, batch_size, num_threads, task_size)
    averager = ViewAverager()
    first_views: collections.deque[tuple[Values, list[Values]]] = collections.deque()
    last_index, ends = -1, np.array([], int)
    for tags, parts in self._rounds(batches, spec):
      indices = tags['record_index']
      outputs = []
      for scorer in scorers:
        outputs.append(self._run(scorer, parts, len(indices)))
        report(len(indices))
      rows = [
        scorer.to_labels(of_net.pop('scores'))
        for scorer, of_net in zip(scorers, outputs, strict=True)
      ]
      for i in np.flatnonzero(np.diff(indices, prepend=last_index)):
        first_views.append((_row(tags, i), [_row(of_net, i) for of_net in outputs]))
      last_index = indices[-1]
      ends = np.cumsum([row.shape[1] for row in rows])[:-1]  # nets have embeddings of any width
      for index, mean in averager.add(indices, np.concatenate(rows, axis=1)):
        yield Scored(index, np.split(mean, ends), *first_views.popleft())
    for index, mean in averager.finish():
      yield Scored(index, np.split(mean, ends), *first_views.popleft())

  def _rounds(
    self, batches: tf.data.Dataset, spec: ViewSpec
  ) -> Iterator[tuple[Values, list[tf.Tensor]]]:
    """What the replicas do at once: tags of the views, and [n, H, W, C] for each replica.

    Rounds are as large as the first: smaller ones are filled up with views that are there already,
    rather than traced and compiled anew. Tags tell how many views count.
    """
    replicas = self._num_replicas
    if spec.num_views is None:  # whole images, each of its own size
      rounds = batches.as_numpy_iterator()
      while group := list(itertools.islice(rounds, replicas)):
        parts = [tf.constant(batch.pop('image')) for batch in group]
        tags = {name: np.concatenate([batch[name] for batch in group]) for name in group[0]}
        yield tags, [*parts, *parts[:1] * (replicas - len(parts))]
      return
    size = 0
    for batch in batches:
      images = batch.pop('image')
      size = max(size, len(images) + -len(images) % replicas)
      rest = size - len(images)
      filled = tf.concat([images, tf.repeat(images[:1], rest, axis=0)], 0) if rest else images
      yield {name: value.numpy() for name, value in batch.items()}, tf.split(filled, replicas)

  def _run(self, scorer: Scorer, parts: Sequence[tf.Tensor], count: int) -> Values:
    """What a net gives of the first `count` views of all replicas, [count, ...] each."""
    images = parts[0]
    if len(parts) > 1:
      images = self._strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % len(parts)]
      )
    return {
      name: np.concatenate(self._strategy.experimental_local_results(value))[:count]
      for name, value in scorer.score(images).items()
    }


def _row(values: Values, i: np.signedinteger) -> Values:
  return {name: value[i] for name, value in values.items()}


def _in_lockstep(passes: Sequence[Iterator[Scored]]) -> Iterator[list[Scored]]:
  """The records that every pass has scored; each pass is at the same one."""
  parts = [next(each, None) for each in passes]
  while not any(part is None for part in parts):
    scored = [part for part in parts if part is not None]
    latest = max(part.record_index for part in scored)
    if all(part.record_index == latest for part in scored):
      yield scored
      parts = [next(each, None) for each in passes]
    else:  # a pass has left a record out
      parts = [
        next(each, None) if part.record_index < latest else part
        for part, each in zip(scored, passes, strict=True)
      ]


class ViewAverager:
  """Averages rows that belong to one record and come one after the other.

  No more than one record's sum is held between two calls, however many views it has.
  """

  def __init__(self) -> None:
    self._index: int | None = None  # of the record whose rows are still coming
    self._sum: np.ndarray | float = 0.0
    self._count = 0

  def add(self, indices: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Takes rows; yields the records that are complete.

    Args:
      indices: [n] int64, the record of each row; those of one record are neighbours.
      rows: [n, outputs].

    Yields:
      (record_index, [outputs] float64 mean).
    """
    starts = np.flatnonzero(np.diff(indices, prepend=-1))
    sums = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    counts = np.diff(starts, append=len(indices))
    for i, start in enumerate(starts):
      if indices[start] != self._index:
        yield from self.finish()
        self._index = int(indices[start])
      self._sum = self._sum + sums[i]
      self._count += int(counts[i])

  def finish(self) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the last record."""
    if self._index is not None:
      yield self._index, np.asarray(self._sum / self._count)
    self._index, self._sum, self._count = None, 0.0, 0
