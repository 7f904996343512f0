"""Losses and accuracies of a batch, from soft targets [N, K]: labels, mixed labels, several."""

import collections
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from slim_inception import files
from slim_inception.datasets import dataset_factory, dataset_info
from slim_inception.nets.net import Net
from slim_inception.train.flag_groups import BALANCED, DataConfig, LossConfig


def as_targets(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
  """[N] integers in 0..K-1 as one-hot [N, K] float32; targets [N, K] stay as they are."""
  return tf.one_hot(labels, num_classes) if labels.shape.rank == 1 else labels


def softmax_cross_entropy(
  logits: tf.Tensor,
  labels: tf.Tensor,
  label_smoothing: float = 0.0,
  class_weights: tf.Tensor | None = None,
) -> tf.Tensor:
  """Mean cross entropy; smoothing as in arXiv:1512.00567 section 7: q' = (1 - e) q + e / K.

  Args:
    logits: [N, K] float32.
    labels: [N] integers in 0..K-1, or targets [N, K] float32 whose rows add up to 1.
    label_smoothing: e.
    class_weights: [K] float32; an image's loss is multiplied by the weight of its class, and
      where its target is mixed, by that of the classes in their shares. The sum is divided by N,
      not by the sum of the weights, so that it does not matter how images fall into batches.

  Returns:
    float32 scalar.
  """
  num_classes = logits.shape[-1]
  unsmoothed = as_targets(labels, num_classes)
  targets = unsmoothed * (1.0 - label_smoothing)
  targets += label_smoothing / num_classes
  losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
  if class_weights is not None:
    losses *= tf.linalg.matvec(unsmoothed, class_weights)
  return tf.reduce_mean(losses)


def sigmoid_cross_entropy(
  logits: tf.Tensor,
  labels: tf.Tensor,
  label_smoothing: float = 0.0,
  class_weights: tf.Tensor | None = None,
) -> tf.Tensor:
  """Mean over images and classes of the binary cross entropy, as tf.losses in TF1 has it.

  Args:
    logits: [N, K] float32.
    labels: [N] integers in 0..K-1, or targets [N, K] float32 in 0..1.
    label_smoothing: e; a target moves towards 1/2: q' = (1 - e) q + e / 2.
    class_weights: [K] float32, each multiplying the loss of one class.

  Returns:
    float32 scalar.
  """
  targets = as_targets(labels, logits.shape[-1]) * (1.0 - label_smoothing)
  targets += 0.5 * label_smoothing
  losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
  if class_weights is not None:
    losses *= class_weights
  return tf.reduce_mean(losses)


def single_label_bce(
  logits: tf.Tensor,
  labels: tf.Tensor,
  label_smoothing: float = 0.0,
  class_weights: tf.Tensor | None = None,
  threshold: float | None = None,
) -> tf.Tensor:
  """Mean over images and classes of the binary cross entropy of single labels (arXiv:2110.00476).

  Each class is a question for itself: in a mixed image both classes can be there altogether.

  Args:
    logits: [N, K] float32.
    labels: [N] integers in 0..K-1, or targets [N, K] float32 whose rows add up to 1.
    label_smoothing: e, as of the softmax: q' = (1 - e) q + e / K.
    class_weights: [K] float32, each multiplying the loss of one class.
    threshold: targets above it become 1, and the others 0; None leaves them as they are.

  Returns:
    float32 scalar.
  """
  num_classes = logits.shape[-1]
  targets = as_targets(labels, num_classes) * (1.0 - label_smoothing)
  targets += label_smoothing / num_classes
  if threshold is not None:
    targets = tf.cast(targets > threshold, tf.float32)
  losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
  if class_weights is not None:
    losses *= class_weights
  return tf.reduce_mean(losses)


NUM_VIEWS = 3  # of an image with --jsd_weight: plain and twice distorted (arXiv:1912.02781, 3)
DIVERGENCE = 'jensen_shannon'  # its metric


def jensen_shannon(views: Sequence[tf.Tensor]) -> tf.Tensor:
  """Mean over images of the Jensen-Shannon divergence of what a net says of several views.

  It is the mean of the Kullback-Leibler divergences of each view's softmax from the mean of them
  all (arXiv:1912.02781, equation 2): 0 for equal views, at most log(len(views)).

  Args:
    views: [N, K] float32 logits of each.

  Returns:
    float32 scalar, in nats.
  """
  logs = tf.stack([tf.nn.log_softmax(view) for view in views])
  mixture = tf.reduce_logsumexp(logs, 0) - math.log(len(views))
  return tf.reduce_mean(tf.reduce_sum(tf.exp(logs) * (logs - mixture), -1))


EMBEDDING_NORM = 'embedding_norm'  # the metric of --embedding_norm_weight
_LEAST_PART = 1e-4  # of an embedding's absolute values: the norm has a gradient everywhere


def embedding_norm(embedding: tf.Tensor, p: float = 1.0) -> tf.Tensor:
  """Mean over images of the p-norm of |x| + 0.0001, the "prelogits norm" of facenet's training.

  Args:
    embedding: [N, D] float32, not normalized.
    p: 1 is the sum of the absolute values, 2 the length.

  Returns:
    float32 scalar.
  """
  return tf.reduce_mean(tf.norm(tf.abs(embedding) + _LEAST_PART, ord=p, axis=1))


def embedding_of(net: Net, end_points: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """[N, D] that the logits are made of, of a net that has an embedding."""
  (name,) = net.head.optional
  return end_points[name]


LOSSES: dict[str, Callable[..., tf.Tensor]] = {
  'bce': single_label_bce,
  'sigmoid': sigmoid_cross_entropy,
  'softmax': softmax_cross_entropy,
}


def top_1(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """The share of the batch whose largest logit is right, float32 scalar.

  Args:
    logits: [N, K].
    labels: [N] integers, or targets [N, K]: right is one of several labels, or the class that has
      the largest part of a mixed image.
  """
  targets = as_targets(labels, logits.shape[-1])
  chosen = tf.gather(targets, tf.argmax(logits, -1), batch_dims=1)
  right = tf.logical_and(chosen > 0, tf.equal(chosen, tf.reduce_max(targets, -1)))
  return tf.reduce_mean(tf.cast(right, tf.float32))


def batch_losses(
  config: LossConfig,
  logits: tf.Tensor,
  end_points: Mapping[str, tf.Tensor],
  labels: tf.Tensor,
  weights: Sequence[float] | None = None,
) -> dict[str, tf.Tensor]:
  """'loss' without weight decay, 'cross_entropy' of the main head, 'top_1': float32 scalars.

  With `config.jsd_weight` also 'jensen_shannon', of the main head; labels and accuracy are those of
  the first view, and an auxiliary head has the loss of the main head.

  Args:
    config: chooses the loss.
    logits: [N, K] float32 of the main head; [NUM_VIEWS * N, K] of views, one after the other.
    end_points: 'AuxLogits', of the same shape, if the net has them.
    labels: [N] integers or [N, K] targets.
    weights: K weights of the classes.
  """
  targets = as_targets(labels, logits.shape[-1])
  class_weights = None if weights is None else tf.constant(weights, tf.float32)
  loss_of = functools.partial(
    LOSSES[config.loss],
    labels=targets,
    label_smoothing=config.label_smoothing,
    class_weights=class_weights,
  )
  if config.loss == 'bce':
    loss_of = functools.partial(loss_of, threshold=config.bce_target_threshold)
  views = _views(logits, config.jsd_weight)
  losses = _of_views(views, loss_of, config.jsd_weight)
  if 'AuxLogits' in end_points:
    auxiliary = _views(end_points['AuxLogits'], config.jsd_weight)
    of_auxiliary = _of_views(auxiliary, loss_of, config.jsd_weight)
    losses['loss'] += config.aux_loss_weight * of_auxiliary['loss']
  return {**losses, 'top_1': top_1(views[0], targets)}


def _views(logits: tf.Tensor, jsd_weight: float) -> list[tf.Tensor]:
  return tf.split(logits, NUM_VIEWS) if jsd_weight else [logits]


def _of_views(
  views: Sequence[tf.Tensor], loss_of: Callable[[tf.Tensor], tf.Tensor], jsd_weight: float
) -> dict[str, tf.Tensor]:
  cross_entropy = loss_of(views[0])
  if not jsd_weight:
    return {'loss': cross_entropy, 'cross_entropy': cross_entropy}
  divergence = jensen_shannon(views)
  loss = cross_entropy + jsd_weight * divergence
  return {'loss': loss, 'cross_entropy': cross_entropy, DIVERGENCE: divergence}


def load_class_weights(config: LossConfig, data: DataConfig) -> list[float] | None:
  """One weight for each class of the head; None without --class_weights.

  Raises:
    ValueError: the file is not made of lines `class name or label:weight`, or `balanced` has no
      counts to go by.
    OSError: the file or the data set cannot be read.
  """
  if config.class_weights is None:
    return None
  if config.class_weights == BALANCED:
    return _balanced(data)[data.labels_offset :]
  dataset = dataset_factory.get_dataset(
    data.dataset_name, data.dataset_split_name, data.records_dirs[0]
  )
  names = [dataset.labels_to_names.get(label, str(label)) for label in range(dataset.num_classes)]
  text, path = files.read_text(config.class_weights), config.class_weights
  weights = parse_class_weights(text, path, names)[data.labels_offset :]
  if not any(weights):
    raise ValueError(f'--class_weights={path}: all weights are 0; expected some greater than 0')
  return weights


def _balanced(data: DataConfig) -> list[float]:
  counts = np.array([_label_counts(data, folder) for folder in data.records_dirs], float)
  if data.mixture:  # as often as they are drawn
    counts *= (np.array(data.mixture) / counts.sum(axis=1))[:, np.newaxis]
  return inverse_frequencies(counts.sum(axis=0).tolist())


def _label_counts(data: DataConfig, folder: str) -> tuple[int, ...]:
  info = dataset_info.read_info(folder)
  if info is None:
    raise ValueError(
      f'--class_weights=balanced counts labels by {dataset_info.INFO_FILE}, which '
      f'{folder} has not: give a file of lines class name or label:weight'
    )
  if data.dataset_split_name not in info.splits:
    raise ValueError(
      f'--class_weights=balanced: {folder} has no split '
      f'{data.dataset_split_name}; it has {", ".join(sorted(info.splits))}'
    )
  return info.splits[data.dataset_split_name].label_counts


def inverse_frequencies(counts: Sequence[float]) -> list[float]:
  """Weights whose mean over the images is 1; classes without images (a background) have 1."""
  present = sum(count > 0 for count in counts)
  return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def parse_class_weights(text: str, path: str, names: Sequence[str]) -> list[float]:
  """The weights that lines `class name or label:weight` give; 1 for classes not named.

  Args:
    text: of the file; empty lines are passed over.
    path: of the file, for messages.
    names: of the labels 0, 1, ... in the records; a name goes before a number.

  Raises:
    ValueError: no such class, a class twice, or a weight that is no finite number of at least 0.
  """
  shared = {name for name, count in collections.Counter(names).items() if count > 1}
  labels = {str(label): label for label in range(len(names))}
  labels |= {name: label for label, name in enumerate(names)}
  weights: dict[int, float] = {}
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    place = f'--class_weights: {path} line {number}'
    name, colon, value = (part.strip() for part in line.rpartition(':'))
    if not colon or name not in labels:
      raise ValueError(
        f'{place}: {line.strip()!r} is no class:weight; classes are labels 0..{len(names) - 1} or '
        f'names: {", ".join(names[:5])}, ...'
      )
    if name in shared:  # ImageNet has two kinds of crane
      raise ValueError(f'{place}: more than one class is called {name}: give its label')
    if labels[name] in weights:
      raise ValueError(f'{place}: {name} comes a second time')
    weights[labels[name]] = _weight(value, place)
  return [weights.get(label, 1.0) for label in range(len(names))]


def _weight(value: str, place: str) -> float:
  try:
    weight = float(value)
  except ValueError:
    weight = math.nan
  if not 0 <= weight < math.inf:
    raise ValueError(f'{place}: the weight {value!r} must be a number of at least 0')
  return weight
