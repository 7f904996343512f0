"""A net that gives views of images their scores."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import batch_norm_statistics, dense, label_spaces, stored_calibration
from slim_inception.evaluate.config import EnsembleRequest, Member
from slim_inception.evaluate.stored_calibration import Calibration
from slim_inception.evaluate.stored_weights import StoredWeights, open_weights
from slim_inception.evaluate.views import to_float
from slim_inception.nets import nets_factory
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net

# How a net makes logits: (net, its entry in the registry, images as the net is given them) ->
# (logits [n, outputs], {name: [n, ...], anything more to know of a view}).
LogitsFn = Callable[[Model, Net, tf.Tensor], tuple[tf.Tensor, dict[str, tf.Tensor]]]


def plain_logits(
  model: Model, net: Net, images: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
  """Those of the net's head, and nothing more."""
  return model(images)[0], {}


class Loaded(NamedTuple):
  """What a scorer works with."""

  prefix: str  # of the checkpoint
  weights: str  # 'ema' or 'plain'
  labels_offset: int


class Scorer:
  """One net of an ensemble, for one checkpoint after the other.

  Args:
    member: the net.
    request: of the ensemble that it is a member of.
    dataset: whose labels its outputs are; None: the net has no classifier, and its outputs are an
      embedding.
    strategy: what it computes on.
    logits_fn: how the net makes logits.

  Attributes:
    member: see above.
    loaded: of the last checkpoint, as the others.
    unfolded: the net as the checkpoint has it.
    model: the net that computes, batch norm folded in.
    score: gives the views [n, H, W, C] of `view_stream` 'scores' [n, outputs] float32, which are
      probabilities, or with `--average=logits` logits; and whatever more `logits_fn` gives. Under a
      strategy of several replicas, of each its own.
  """

  loaded: Loaded
  unfolded: Model
  model: Model
  score: Callable[[tf.Tensor], dict[str, tf.Tensor]]
  _labels_offset: int

  def __init__(
    self,
    member: Member,
    request: EnsembleRequest,
    dataset: Dataset | None,
    strategy: tf.distribute.Strategy,
    logits_fn: LogitsFn = plain_logits,
  ):
    self.member = member
    self._request = request
    self._dataset = dataset
    self._strategy = strategy
    self._logits_fn = logits_fn
    self._is_made = False  # by the first checkpoint

  def load(self, prefix: str, train_set: Dataset | None = None) -> Loaded:
    """Restores a checkpoint, or weights of another library.

    Args:
      prefix: of the checkpoint, or a file of any kind that `nets.convert` reads.
      train_set: to measure batch norm statistics on, for `--batch_norm_batches`.

    Raises:
      ValueError, OSError: the checkpoint does not fit, or the data is damaged.
    """
    stored = open_weights(
      prefix,
      self.member.model_name,
      self.member.use_ema,
      preprocessing=self.member.spec.preprocessing,
      with_classifier=self._dataset is not None,
    )
    if not self._is_made:
      self.unfolded, self._labels_offset = self._make(stored)
    weights = stored.load(self.unfolded)
    if train_set is not None:
      batch_norm_statistics.estimate(
        self.unfolded,
        train_set,
        self.member.spec.preprocessing,
        self._request.batch_norm_batches,
        batch_size=self._request.compute.batch_size,
        labels_offset=self._labels_offset,
        dtype=tf.as_dtype(self._request.compute.precision),
      )
    if self._is_made:
      self.unfolded.fold_batch_norm(into=self.model)
    else:
      self.model = self.unfolded.fold_batch_norm()
      self.score = self._compile(self.model)
      self._is_made = True
    self.loaded = Loaded(prefix, weights, self._labels_offset)
    return self.loaded

  def describe(self) -> str:
    """A line on what is loaded: the checkpoint, the net, its weights and what it looks at."""
    name, spec, loaded = self.member.model_name, self.member.spec, self.loaded
    views = {1: '', None: ', the whole image'}.get(spec.num_views, f', {spec.num_views} views')
    side = spec.image_size
    return f'{loaded.prefix}: {name}, {loaded.weights} weights, {side} x {side} pixels{views}'

  def calibration(self) -> Calibration | None:
    """Of the checkpoint that is loaded; None where it has none or none is asked for.

    Raises:
      ValueError: it is damaged, or `--calibrated` asks for one that is not there.
    """
    request = self._request
    if request.calibrated is False or request.loss == 'sigmoid' or request.batch_norm_batches:
      return None
    views = stored_calibration.describe_views(self.member.spec, request.average)
    required = bool(request.calibrated)
    return stored_calibration.find(self.loaded.prefix, self.loaded.weights, views, required)

  def to_labels(self, scores: np.ndarray) -> np.ndarray:
    """Scores [n, outputs] put in the order of the labels: [n, num_classes]; embeddings as they are.

    Raises:
      ValueError: one is not a finite number.
    """
    if not np.isfinite(scores).all():
      raise ValueError(f'{self.loaded.prefix}: the outputs of the net are not finite numbers')
    if self._dataset is None:
      return scores
    absent = -np.inf if self._request.average == 'logits' else 0.0
    offset, num_classes = self.loaded.labels_offset, self._dataset.num_classes
    return label_spaces.of_labels(scores, offset, num_classes, absent)

  def _make(self, stored: StoredWeights) -> tuple[Model, int]:
    member = self.member
    num_classes, offset = self._outputs(stored.num_outputs)
    net = nets_factory.get_net(member.model_name)
    arguments = {**stored.arguments, **net.select(create_aux_logits=False)}  # for training alone
    if member.padding:
      arguments = {n: v for n, v in arguments.items() if n not in ('padding', 'count_padding')}
    arguments |= member.net_arguments
    if self._request.batch_norm_batches:
      decay = batch_norm_statistics.BATCH_NORM_DECAY
      arguments['arg_scope'] = net.arg_scope(batch_norm_decay=decay)
    with self._strategy.scope():
      model = nets_factory.create_model(
        member.model_name,
        num_classes,
        image_size=member.spec.image_size,
        input_channels=member.spec.preprocessing.channels,
        **arguments,
      )
    return model, offset

  def _outputs(self, stored: int | None) -> tuple[int | None, int]:
    """How many outputs the net is to have, of as many as are stored, and the labels' offset."""
    if self._dataset is None:
      return None, 0
    offset = self.member.labels_offset
    if offset is None:  # nothing of such a net in the checkpoint: restoring will say so
      offset = label_spaces.find_offset(stored, self._dataset) if stored else 0
    elif stored:
      label_spaces.check_offset(stored, self._dataset, offset)
    return self._dataset.num_classes - offset, offset

  def _compile(self, model: Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    spec, dtype = self.member.spec, tf.as_dtype(self._request.compute.precision)
    to_scores = logits_to_scores(self._request.loss, self._request.average)
    net = nets_factory.get_net(self.member.model_name)

    def of_replica(images: tf.Tensor) -> dict[str, tf.Tensor]:
      images = to_float(images, spec, dtype)
      if spec.crops == 'dense':
        return {'scores': dense.dense_probabilities(model, net, images, to_scores)}
      logits, more = self._logits_fn(model, net, images)
      return {'scores': to_scores(logits), **more}

    @tf.function(autograph=False, reduce_retracing=True)
    def score(images: tf.Tensor) -> dict[str, tf.Tensor]:
      # This is Python's part: it runs when there is something to trace, not at every batch.
      logging.info('Tracing and compiling %s: the first batch takes longer', net.name)
      return self._strategy.run(of_replica, args=(images,))

    return score


def logits_to_scores(loss: str, average: str = 'probabilities') -> Callable[[tf.Tensor], tf.Tensor]:
  """What is averaged over views and nets, of logits: themselves or probabilities."""
  if average == 'logits':
    return tf.identity
  return tf.nn.sigmoid if loss == 'sigmoid' else tf.nn.softmax
