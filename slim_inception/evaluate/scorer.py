"""A net that gives views of images their scores."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import batch_norm_statistics, dense, label_spaces
from slim_inception.evaluate.config import EnsembleRequest, Member
from slim_inception.evaluate.stored_weights import StoredWeights, open_weights
from slim_inception.evaluate.views import to_float
from slim_inception.nets import nets_factory
from slim_inception.nets.model import Model
from slim_inception.nets.nets_factory import Net

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
    dataset: whose labels its outputs are.
    strategy: what it computes on.
    logits_fn: how the net makes logits.

  Attributes:
    member: see above.
    loaded: of the last checkpoint.
  """

  loaded: Loaded

  def __init__(
    self,
    member: Member,
    request: EnsembleRequest,
    dataset: Dataset,
    strategy: tf.distribute.Strategy,
    logits_fn: LogitsFn = plain_logits,
  ):
    self.member = member
    self._request = request
    self._dataset = dataset
    self._strategy = strategy
    self._logits_fn = logits_fn
    self._made: tuple[Model, int] | None = None  # the net and its labels' offset
    self._folded: Model | None = None  # what computes: the net with batch norm folded in

  def load(self, prefix: str, train_set: Dataset | None = None) -> Loaded:
    """Restores a checkpoint, or weights of another library.

    Args:
      prefix: of the checkpoint, or a file of any kind that `nets.convert` reads.
      train_set: to measure batch norm statistics on, for `--batch_norm_batches`.

    Raises:
      ValueError, OSError: the checkpoint does not fit, or the data is damaged.
    """
    stored = open_weights(prefix, self.member.model_name, self.member.use_ema)
    if self._made is None:
      self._made = self._make(stored)
    model, labels_offset = self._made
    weights = stored.load(model)
    if train_set is not None:
      batch_norm_statistics.estimate(
        model,
        train_set,
        self.member.spec.preprocessing,
        self._request.batch_norm_batches,
        batch_size=self._request.batch_size,
        labels_offset=labels_offset,
        dtype=tf.as_dtype(self._request.precision),
      )
    if self._folded is None:
      self._folded = model.fold_batch_norm()
      self._score = self._compile(self._folded)
    else:
      model.fold_batch_norm(into=self._folded)
    self.loaded = Loaded(prefix, weights, labels_offset)
    return self.loaded

  @property
  def model(self) -> Model:
    """The net that computes, batch norm folded in, once a checkpoint has been loaded."""
    if self._folded is None:
      raise RuntimeError('No checkpoint has been loaded yet')
    return self._folded

  @property
  def unfolded(self) -> Model:
    """The net as the checkpoint has it, once one has been loaded."""
    if self._made is None:
      raise RuntimeError('No checkpoint has been loaded yet')
    return self._made[0]

  def score(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scores of views, one row each, and whatever more `logits_fn` gives.

    Args:
      images: [n, H, W, C], as `view_stream` makes them; with several replicas, each one's own.

    Returns:
      'scores' [n, outputs] float32: probabilities, or with `--average=logits` logits. Under a
      strategy of several replicas, each one's own.
    """
    return self._score(images)

  def to_labels(self, scores: np.ndarray) -> np.ndarray:
    """Scores [n, outputs] put in the order of the labels: [n, num_classes].

    Raises:
      ValueError: one is not a finite number.
    """
    if not np.isfinite(scores).all():
      raise ValueError(f'{self.loaded.prefix}: the outputs of the net are not finite numbers')
    absent = -np.inf if self._request.average == 'logits' else 0.0
    offset, num_classes = self.loaded.labels_offset, self._dataset.num_classes
    return label_spaces.of_labels(scores, offset, num_classes, absent)

  def _make(self, stored: StoredWeights) -> tuple[Model, int]:
    member, offset, outputs = self.member, self.member.labels_offset, stored.num_outputs
    if offset is None:  # nothing of such a net in the checkpoint: restoring will say so
      offset = label_spaces.find_offset(outputs, self._dataset) if outputs else 0
    decay = batch_norm_statistics.BATCH_NORM_DECAY if self._request.batch_norm_batches else None
    with self._strategy.scope():
      model = make_model(
        member.model_name,
        self._dataset.num_classes - offset,
        member.spec.image_size,
        member.depth_multiplier,
        input_channels=member.spec.preprocessing.channels,
        batch_norm_decay=decay,
        **stored.arguments,
      )
      model.build()
    return model, offset

  def _compile(self, model: Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    spec, dtype = self.member.spec, tf.as_dtype(self._request.precision)
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
      return self._strategy.run(of_replica, args=(images,))

    return score


def logits_to_scores(loss: str, average: str = 'probabilities') -> Callable[[tf.Tensor], tf.Tensor]:
  """What is averaged over views and nets, of logits: themselves or probabilities."""
  if average == 'logits':
    return tf.identity
  return tf.nn.sigmoid if loss == 'sigmoid' else tf.nn.softmax


def mean_to_probabilities(mean: np.ndarray, loss: str, average: str) -> np.ndarray:
  """Probabilities of averaged scores, [num_classes] of `logits_to_scores`."""
  if average == 'probabilities':
    return mean
  if loss == 'sigmoid':
    return 1 / (1 + np.exp(-mean))
  raised = np.exp(mean - mean.max())
  return raised / raised.sum()


def make_model(
  name: str,
  num_classes: int,
  image_size: int,
  depth_multiplier: float = 1.0,
  *,
  input_channels: int = 3,
  batch_norm_decay: float | None = None,
  **kwargs: Any,
) -> Model:
  """A net for inference: without the auxiliary head, which only training needs."""
  net = nets_factory.get_net(name)
  kwargs['input_channels'] = input_channels
  if depth_multiplier != 1:
    kwargs['depth_multiplier'] = depth_multiplier
  if batch_norm_decay is not None:
    kwargs['arg_scope'] = net.arg_scope(batch_norm_decay=batch_norm_decay)
  kwargs |= net.select(create_aux_logits=False)
  return nets_factory.create_model(name, num_classes, image_size=image_size, **kwargs)
