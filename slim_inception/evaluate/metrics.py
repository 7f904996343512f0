"""Figures of a classifier from its five best labels of every image; NumPy alone.

An image may have several right labels. In whatever is counted by class it belongs to one of them:
the predicted one, where the prediction is right, and the first otherwise. So the diagonal of
the confusion matrix adds up to top-1, and every image is counted once. Average precision alone
looks at all labels and all probabilities: that is for --loss=sigmoid.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MEAN_AVERAGE_PRECISION = 'mean_average_precision'  # key of its figure
CALIBRATION_BINS = 15  # as in Guo et al. 2017, arXiv:1706.04599
_Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a classifier said of the images of a split.

  Labels are those of the data set: of ImageNet's 0 is the background.

  Attributes:
    record_indices: [N] int64, ascending: of each image's record in the split, shards sorted by
      name.
    filenames: of the N records; '' where a record has none.
    labels: [N, A] int32, the right ones, -1 after the last where an image has fewer than A.
    top: [N, K] int32, the most probable labels, best first; K is 5, or all where there are fewer.
    probabilities: [N, K] float32, theirs.
    scores: [N, num_classes] float32, the probabilities of all labels; None where they are not kept.
    sets: [N, ceil(num_classes / 8)] uint8, a bit for each label, of `np.packbits`: which are in the
      set of an image; None where no sets are made.
  """

  record_indices: np.ndarray
  filenames: list[str]
  labels: np.ndarray
  top: np.ndarray
  probabilities: np.ndarray
  scores: np.ndarray | None = None
  sets: np.ndarray | None = None

  @property
  def is_label(self) -> np.ndarray:
    """[N, K] bool: which of the most probable labels are right."""
    return (self.top[:, :, None] == self.labels[:, None, :]).any(-1)

  @property
  def right(self) -> np.ndarray:
    """[N] bool: whether the most probable label is right."""
    return (self.top[:, :1] == self.labels).any(-1)

  @property
  def true(self) -> np.ndarray:
    """[N] int32: the label that an image counts for, see the docstring of this module."""
    return np.where(self.right, self.top[:, 0], self.labels[:, 0])

  def take(self, indices: np.ndarray | Sequence[int]) -> 'Predictions':
    """The images at these positions, in this order."""
    names = [self.filenames[i] for i in indices]
    arrays = {k: v[indices] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
    return Predictions(filenames=names, **arrays)


class ClassTable(NamedTuple):
  """Figures of each class, 0 .. num_classes - 1; NaN where a quotient has nothing below it.

  Attributes:
    count: [C] int64, images of the class.
    predicted: [C] int64, images that were taken for it.
    right: [C] int64, images of which both is true.
    precision: [C] float64, right / predicted.
    recall: [C] float64, right / count: the accuracy on the images of the class.
    f1: [C] float64, the harmonic mean of the two, 2 right / (count + predicted).
  """

  count: np.ndarray  # type: ignore[assignment]  # instead of tuple.count
  predicted: np.ndarray
  right: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray


class Confusion(NamedTuple):
  """The entries of the confusion matrix that are not zero, by true, then by predicted label.

  Attributes:
    true, predicted: [M] int64 labels.
    count: [M] int64 images.
  """

  true: np.ndarray
  predicted: np.ndarray
  count: np.ndarray  # type: ignore[assignment]  # instead of tuple.count


class Ranking(NamedTuple):
  """How each class, 0 .. num_classes - 1, ranks the images.

  Attributes:
    positives: [C] int64, images that have the label, alone or among others.
    average_precision: [C] float64, see the function of this name.
  """

  positives: np.ndarray
  average_precision: np.ndarray

  def summary(self) -> dict[str, object]:
    """The figures of `metrics.json`: the mean over the classes of which there are images."""
    ranked = self.average_precision[self.positives > 0]
    return {MEAN_AVERAGE_PRECISION: float(ranked.mean()) if ranked.size else None}


class Bin(NamedTuple):
  """Images whose most probable label has a probability in (low, high]; None without images."""

  low: float
  high: float
  count: int  # type: ignore[assignment]
  confidence: float | None  # their mean probability
  accuracy: float | None

  @property
  def gap(self) -> float:
    """How far the confidence is from the accuracy; 0 without images."""
    return abs((self.accuracy or 0.0) - (self.confidence or 0.0))


def accuracies(num_classes: int | None) -> tuple[str, ...]:
  """Which of 'top_1' and 'top_5' say something of so many classes; None: nobody knows how many.

  Among five classes or fewer every label is one of the best five.
  """
  return ('top_1',) if num_classes is not None and num_classes <= 5 else ('top_1', 'top_5')


def reported(figures: Mapping[str, float], names: Sequence[str]) -> list[str]:
  """The accuracies `names`, and the mean average precision where `figures` has it."""
  mean = figures.get(MEAN_AVERAGE_PRECISION)
  return [*names] if mean is None else [*names, MEAN_AVERAGE_PRECISION]


def accuracy_text(figures: Mapping[str, float], names: Sequence[str]) -> str:
  """The accuracies `names` of `summary` in a line: 'top-1 0.9944  top-5 1.0000'.

  With --loss=sigmoid mAP, the mean average precision, follows.
  """
  texts = {MEAN_AVERAGE_PRECISION: 'mAP'}
  return '  '.join(
    f'{texts.get(name) or name.replace("_", "-")} {figures[name]:.4f}'
    for name in reported(figures, names)
  )


def top_labels(probabilities: np.ndarray, count: int) -> np.ndarray:
  """The labels of the largest of [num_classes], best first; of equal ones the first leads."""
  return np.argsort(-probabilities, kind='stable')[:count]


def name_of(names: Mapping[int, str], label: int) -> str:
  """The name of a class; its number where it has none."""
  return names.get(label) or str(label)


def distinct_names(names: Mapping[int, str]) -> dict[int, str]:
  """Names for where no label stands beside them: ImageNet's are 'crane (135)' and 'crane (518)'."""
  times = collections.Counter(names.values())
  return {label: f'{n} ({label})' if times[n] > 1 else n for label, n in names.items()}


def summary(
  predictions: Predictions, num_classes: int, names: Mapping[int, str]
) -> dict[str, object]:
  """The figures of `metrics.json`.

  Args:
    predictions: of at least one image.
    num_classes: labels are 0 .. num_classes - 1.
    names: {label: name}; classes are named that no image was taken for.

  Returns:
    num_images; num_classes; top_1 and top_5 (the first K where there are fewer than five classes),
    top_1_error and top_5_error, all in [0, 1], each with `_interval` after its name for its 95 %
    interval [low, high]; mean_class_accuracy over the classes that have images;
    num_classes_with_images; never_predicted, the names of those that no image was taken for;
    expected_calibration_error, None where a probability is not finite; calibration_bins, a `Bin` as
    a dictionary each.
  """
  count = len(predictions.record_indices)
  if not count:
    raise ValueError('no image was evaluated: there is nothing to sum up')
  figures: dict[str, object] = {'num_images': count, 'num_classes': num_classes}
  hits = {'top_1': predictions.right, 'top_5': predictions.is_label.any(-1)}
  for name, hit in hits.items():
    number = int(np.count_nonzero(hit))
    figures[name] = number / count
    figures[f'{name}_interval'] = list(wilson_interval(number, count))
    figures[f'{name}_error'] = (count - number) / count
    figures[f'{name}_error_interval'] = list(wilson_interval(count - number, count))
  table, distinct = per_class(predictions, num_classes), distinct_names(names)
  present = table.count > 0
  bins = calibration_bins(predictions)
  return figures | {
    'mean_class_accuracy': float(table.recall[present].mean()),
    'num_classes_with_images': int(np.count_nonzero(present)),
    'never_predicted': [
      name_of(distinct, int(label)) for label in np.flatnonzero(present & (table.predicted == 0))
    ],
    'expected_calibration_error': expected_calibration_error(bins, count),
    'calibration_bins': [entry._asdict() for entry in bins],
  }


def set_figures(predictions: Predictions, num_classes: int) -> dict[str, object]:
  """What the sets of images are good for; {} where none are made.

  Args:
    predictions: of at least one image.
    num_classes: labels are 0 .. num_classes - 1.

  Returns:
    set_coverage, the share of the images of which a right label is in the set, with its 95 %
    interval as `set_coverage_interval`; least_class_coverage, the smallest of the classes that have
    images; mean_set_size and empty_sets, the number of images whose set has no label.
  """
  if predictions.sets is None:
    return {}
  labels, count = predictions.labels, len(predictions.record_indices)
  bits = np.take_along_axis(predictions.sets, np.maximum(labels, 0) // 8, 1)
  in_set = (bits >> (7 - np.maximum(labels, 0) % 8) & 1).astype(bool)
  covered = (in_set & (labels >= 0)).any(1)
  sizes = np.unpackbits(predictions.sets, axis=1).sum(1, dtype=np.int64)
  of_class = np.bincount(predictions.true, minlength=num_classes)
  covered_of_class = np.bincount(predictions.true[covered], minlength=num_classes)
  present = of_class > 0
  return {
    'set_coverage': float(covered.mean()),
    'set_coverage_interval': list(wilson_interval(int(covered.sum()), count)),
    'least_class_coverage': float((covered_of_class[present] / of_class[present]).min()),
    'mean_set_size': float(sizes.mean()),
    'empty_sets': int((sizes == 0).sum()),
  }


def abstention_figures(predictions: Predictions, threshold: float) -> dict[str, object]:
  """What abstaining below a confidence costs and brings.

  Args:
    predictions: of at least one image.
    threshold: images whose most probable label has at least this probability are kept.

  Returns:
    abstention_kept, the share of the images that is, and abstention_error, the share of these that
    is wrong, None without any; each with `_interval` after its name for its 95 % interval.
  """
  kept = predictions.probabilities[:, 0] >= threshold
  number, wrong = int(kept.sum()), int((kept & ~predictions.right).sum())
  figures: dict[str, object] = {
    'abstention_kept': number / len(kept),
    'abstention_kept_interval': list(wilson_interval(number, len(kept))),
    'abstention_error': wrong / number if number else None,
  }
  if number:
    figures['abstention_error_interval'] = list(wilson_interval(wrong, number))
  return figures


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
  """The 95 % interval of a share (Wilson 1927), which stays in [0, 1] and never has no width.

  Args:
    successes: 0 .. trials.
    trials: at least 1.
  """
  share, z2 = successes / trials, _Z_95**2
  middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
  spread = share * (1 - share) / trials + z2 / (4 * trials**2)
  half = _Z_95 / (1 + z2 / trials) * math.sqrt(spread)
  low = 0.0 if successes == 0 else middle - half  # exactly: rounding gives 1e-17
  high = 1.0 if successes == trials else middle + half
  return low, high


def auroc(outliers: np.ndarray, others: np.ndarray) -> float:
  """The area under the ROC curve: how often an outlier has the higher score; a tie counts half.

  Args:
    outliers: [N] scores of what is to be told apart, N at least 1.
    others: [M] scores of the rest, M at least 1.
  """
  ordered = np.sort(others)
  below, not_above = (np.searchsorted(ordered, outliers, side) for side in ('left', 'right'))
  return float((below + not_above).sum() / (2 * len(outliers) * len(others)))


def per_class(predictions: Predictions, num_classes: int) -> ClassTable:
  """Precision, recall and F1 of each class.

  Args:
    predictions: labels in 0 .. num_classes - 1.
    num_classes: rows of the table.
  """
  true, predicted = predictions.true, predictions.top[:, 0]
  counts = np.bincount(true, minlength=num_classes)
  predictions_of = np.bincount(predicted, minlength=num_classes)
  right = np.bincount(true[true == predicted], minlength=num_classes)
  return ClassTable(
    counts,
    predictions_of,
    right,
    precision=_quotient(right, predictions_of),
    recall=_quotient(right, counts),
    f1=_quotient(2 * right, counts + predictions_of),
  )


def ranking(predictions: Predictions, num_classes: int) -> Ranking:
  """The average precision of each class over all images, those without any label too.

  Args:
    predictions: with `scores`.
    num_classes: labels are 0 .. num_classes - 1.
  """
  scores, labels = predictions.scores, predictions.labels
  assert scores is not None
  is_positive = np.zeros((len(labels), num_classes), bool)
  images, places = np.nonzero(labels >= 0)
  is_positive[images, labels[images, places]] = True
  columns = zip(scores.T, is_positive.T, strict=True)
  return Ranking(
    np.count_nonzero(is_positive, axis=0),
    np.array([average_precision(*column) for column in columns], np.float64),
  )


def average_precision(scores: np.ndarray, is_positive: np.ndarray) -> float:
  """The sum of (R_n - R_(n-1)) P_n over all thresholds n, without interpolation.

  P_n and R_n are precision and recall of the images whose score is at least threshold n; images of
  the same score are on the same side of every threshold.

  Args:
    scores: [N], finite.
    is_positive: [N] bool.

  Returns:
    In [0, 1]; NaN without a positive.
  """
  order = np.argsort(-scores, kind='stable')
  last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of the images of each score
  hits = np.cumsum(is_positive[order])[last]
  if not hits.size or not hits[-1]:
    return math.nan
  return float(np.diff(hits, prepend=0) @ (hits / (last + 1)) / hits[-1])


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def confusion(predictions: Predictions, num_classes: int) -> Confusion:
  """Counts the pairs of true and predicted label that occur.

  Args:
    predictions: labels in 0 .. num_classes - 1.
    num_classes: side of the matrix.
  """
  pairs = predictions.true.astype(np.int64) * num_classes + predictions.top[:, 0]
  present, counts = np.unique(pairs, return_counts=True)
  return Confusion(present // num_classes, present % num_classes, counts)


def calibration_bins(predictions: Predictions) -> list[Bin]:
  """Sorts images by the probability of their prediction into bins of the same width.

  Images whose probability is not finite (a net that diverged) are in no bin.
  """
  confidence = predictions.probabilities[:, 0].astype(np.float64)
  finite = np.isfinite(confidence)
  edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
  # float16 and bfloat16 round to a little more than 1.
  index = np.clip(np.digitize(confidence[finite], edges, right=True) - 1, 0, CALIBRATION_BINS - 1)
  counts, confidences, hits = (
    np.bincount(index, weights, CALIBRATION_BINS)
    for weights in (None, confidence[finite], predictions.right[finite])
  )
  return [
    Bin(
      float(edges[i]),
      float(edges[i + 1]),
      int(count),
      float(confidences[i] / count) if count else None,
      float(hits[i] / count) if count else None,
    )
    for i, count in enumerate(counts)
  ]


def expected_calibration_error(bins: list[Bin], num_images: int) -> float | None:
  """How far probabilities are from accuracies: the mean over images of the distance in their bin.

  Args:
    bins: of `calibration_bins`.
    num_images: all images; None is returned where some of them are in no bin.
  """
  if sum(entry.count for entry in bins) != num_images:
    return None
  return sum(entry.count * entry.gap for entry in bins) / num_images


def percent(share: float | None, digits: int = 2) -> str:
  """0.936 -> '93.60 %'; a dash where there is none or it is not finite."""
  return '–' if share is None or not np.isfinite(share) else f'{100 * share:.{digits}f} %'
