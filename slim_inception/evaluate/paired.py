"""Two classifiers on the same images: what one gets and the other does not, and whether it is luck.

Images that both get, or neither, say nothing of which classifier is better. Of the others, each
is as likely to be the first's as the second's if the two are equally good: McNemar's test
(Psychometrika 12, 1947), here with the exact binomial distribution, as Dietterich (Neural
Computation 10, 1998) has it. The interval of the difference is that of the paired bootstrap (Efron
and Tibshirani 1993, chapter 13). Among many classes a few look different by chance: their p-values
are corrected together (Holm, Scandinavian Journal of Statistics 6, 1979).

Needs no TensorFlow.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slim_inception import constants, files
from slim_inception.evaluate import metrics, results
from slim_inception.evaluate.comparison import elided, short_names
from slim_inception.evaluate.metrics import Predictions, name_of

SIGNIFICANCE = 0.05  # a smaller p-value is taken for a real difference
_RESAMPLES = 10_000
_SEED = 0  # the same files have the same intervals
_MOST_CLASSES = 10  # in the text; the table has all


class Pair(NamedTuple):
  """What two classifiers say of the same images, image by image.

  Attributes:
    first, second: of these images, in the same order.
    only_first, only_second: how many images one has and the other has not; they are left out.
  """

  first: Predictions
  second: Predictions
  only_first: int
  only_second: int


class Difference(NamedTuple):
  """How two classifiers differ on some images.

  Attributes:
    images: how many.
    first, second: how many of them each gets right.
    only_first, only_second: how many one gets and the other does not.
    p_value: of McNemar's exact test, two-sided.
    interval: of `value`, 95 %, by paired bootstrap.
  """

  images: int
  first: int
  second: int
  only_first: int
  only_second: int
  p_value: float
  interval: tuple[float, float]

  @property
  def value(self) -> float:
    """The second's accuracy less the first's, in [-1, 1]."""
    return (self.only_second - self.only_first) / self.images


class ClassDifference(NamedTuple):
  """How two classifiers differ on the images of a class.

  Attributes:
    label: of the class, the first of an image that has several.
    difference: on its images.
    corrected: the p-value, corrected for the number of classes.
  """

  label: int
  difference: Difference
  corrected: float


class Evaluated(NamedTuple):
  """An evaluation, as its file of predictions has it."""

  name: str
  path: str
  predictions: Predictions
  names: dict[int, str]  # {label: name}


def is_evaluation(path: str) -> bool:
  """Whether a path is a table of predictions, or an eval_dir that has one."""
  names = (results.PREDICTIONS_FILE, constants.METRICS_FILE)
  has_predictions, is_run = (os.path.isfile(os.path.join(path, name)) for name in names)
  return os.path.isfile(path) or (has_predictions and not is_run)


def read(paths: Sequence[str], labels: Sequence[str] | None = None) -> tuple[Evaluated, Evaluated]:
  """Reads two evaluations.

  Args:
    paths: two eval_dirs, or tables of predictions in them.
    labels: a name for each; by default what tells the paths apart.

  Raises:
    ValueError, OSError: there are not two of them, it is twice the same, or one cannot be read.
  """
  if len(paths) != 2:
    text = 'images are compared between two evaluations; {} given: {}'
    raise ValueError(text.format(f'{len(paths)} were', ', '.join(paths)))
  tables = [
    os.path.join(path, results.PREDICTIONS_FILE) if os.path.isdir(path) else path for path in paths
  ]
  if os.path.samefile(*tables):
    raise ValueError(f'{paths[0]} and {paths[1]} are the same evaluation')
  is_usual = all(os.path.basename(table) == results.PREDICTIONS_FILE for table in tables)
  named = [os.path.dirname(os.path.abspath(table)) for table in tables] if is_usual else tables
  short = labels or short_names(named)
  first, second = (
    Evaluated(name, table, *results.read_predictions(table))
    for name, table in zip(short, tables, strict=True)
  )
  return first, second


def match(first: Evaluated, second: Evaluated) -> Pair:
  """Pairs the images of two evaluations, by their file names where these tell images apart.

  Otherwise by the numbers of their records.

  Raises:
    ValueError: they have no image in common, or an image has other right labels in the other.
  """
  sides = [first.predictions, second.predictions]
  by_name = all(_tell_apart(side.filenames) for side in sides)
  keys = [side.filenames if by_name else side.record_indices.tolist() for side in sides]
  positions = [{key: i for i, key in enumerate(each)} for each in keys]
  common = [key for key in keys[0] if key in positions[1]]
  counts = [len(each) - len(common) for each in positions]
  if not common:
    raise ValueError(
      f'{first.path} and {second.path} have no image in common: {counts[0]} and {counts[1]} others'
    )
  ours, theirs = (
    side.take([position[key] for key in common])
    for side, position in zip(sides, positions, strict=True)
  )
  pair = Pair(ours, theirs, *counts)
  different = [
    key
    for key, *labels in zip(common, ours.labels.tolist(), theirs.labels.tolist(), strict=True)
    if {*labels[0]} - {-1} != {*labels[1]} - {-1}
  ]
  if different:
    raise ValueError(
      f'{first.path} and {second.path} disagree on the right labels of {len(different)} of '
      f'{len(common)} images, the first is {different[0]}: evaluate both on the same records'
    )
  return pair


def _tell_apart(names: Sequence[str]) -> bool:
  return all(names) and len(set(names)) == len(names)


def mcnemar(only_first: int, only_second: int) -> float:
  """The p-value of McNemar's exact test, two-sided: 1 where there is no image of either kind.

  Args:
    only_first, only_second: images that one classifier gets and the other does not.
  """
  number, fewer = only_first + only_second, min(only_first, only_second)
  if 2 * fewer >= number - 1:
    return 1.0
  # log C(number, k) - number log 2 for k = 0 .. fewer, by C(n, k) = C(n, k - 1) (n - k + 1) / k.
  k = np.arange(1, fewer + 1)
  logs = np.concatenate([[0.0], np.cumsum(np.log((number - k + 1) / k))]) - number * np.log(2)
  tail = np.exp(logs - logs[-1]).sum() * np.exp(logs[-1])
  return min(1.0, float(2 * tail))


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
  """How two classifiers differ on images of which [N] bool say whether each got them; N > 0."""
  count = len(first)
  only_first, only_second = (
    int(np.count_nonzero(ours & ~theirs)) for ours, theirs in ((first, second), (second, first))
  )
  return Difference(
    count,
    int(np.count_nonzero(first)),
    int(np.count_nonzero(second)),
    only_first,
    only_second,
    mcnemar(only_first, only_second),
    bootstrap(only_first, only_second, count),
  )


def bootstrap(only_first: int, only_second: int, count: int) -> tuple[float, float]:
  """The 95 % percentile interval of the difference of two accuracies on the same images.

  Of images that are drawn with replacement, only how many are of each of three kinds counts, and
  that is multinomial: no image has to be drawn.

  Args:
    only_first, only_second: see `Difference`.
    count: images in all, at least 1.
  """
  shares = np.array([only_first, only_second, count - only_first - only_second]) / count
  drawn = np.random.default_rng(_SEED).multinomial(count, shares, _RESAMPLES)
  low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / count, [0.025, 0.975])
  return float(low), float(high)


def holm(p_values: np.ndarray) -> np.ndarray:
  """P-values [M], corrected so that the chance of one false finding among all is that of one."""
  order = np.argsort(p_values, kind='stable')
  factors = np.arange(len(p_values), 0, -1)
  corrected = np.empty(len(p_values))
  corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
  return corrected


def overall(pair: Pair, num_classes: int) -> dict[str, Difference]:
  """{'top_1', and 'top_5' where it says something: the difference on all images}."""
  hits = {'top_1': lambda p: p.right, 'top_5': lambda p: p.is_label.any(-1)}
  return {
    name: difference(hits[name](pair.first), hits[name](pair.second))
    for name in metrics.accuracies(num_classes)
  }


def by_class(pair: Pair) -> list[ClassDifference]:
  """The classes that have images, those that differ most surely first."""
  labels = pair.first.labels[:, 0]
  present = np.unique(labels)
  differences = [
    difference(pair.first.right[labels == label], pair.second.right[labels == label])
    for label in present
  ]
  corrected = holm(np.array([each.p_value for each in differences]))
  rows = map(ClassDifference, present.tolist(), differences, corrected.tolist())
  return sorted(rows, key=lambda row: (row.difference.p_value, -abs(row.difference.value)))


def verdict(names: Sequence[str], total: Difference) -> str:
  """Whether the difference is real, as a sentence."""
  p = f'p = {total.p_value:.3g}'
  if total.p_value >= SIGNIFICANCE:
    low, high = (100 * bound for bound in total.interval)
    return (
      f'The difference may be chance ({p}): on {total.images} images anything from {low:+.2f} to '
      f'{high:+.2f} points of top-1 is possible.'
    )
  better = names[total.only_second > total.only_first]
  return f'The difference is real ({p}, less than {SIGNIFICANCE}): {better} is better.'


def text(
  names: Sequence[str],
  totals: Mapping[str, Difference],
  classes: Sequence[ClassDifference],
  class_names: Mapping[int, str],
) -> list[str]:
  """The comparison as lines, for people.

  Args:
    names: of the two.
    totals: of `overall`.
    classes: of `by_class`.
    class_names: {label: name}.
  """
  first, second = (elided(name, 40) for name in names)
  header = ['', first, second, 'difference', '95 % interval', *_only(first, second), 'p']
  rows = [[name.replace('_', '-'), *_cells(total)] for name, total in totals.items()]
  real = [row for row in classes if row.corrected < SIGNIFICANCE]
  lines = [*files.text_table([header, *rows]), verdict(names, totals['top_1'])]
  if not real:
    return [*lines, f'None of {len(classes)} classes differs, corrected for their number (Holm).']
  lines.append(f'{len(real)} of {len(classes)} classes differ, corrected for their number (Holm):')
  distinct = metrics.distinct_names(class_names)
  cells = [
    [
      elided(files.printable(name_of(distinct, row.label)), 40),
      *_cells(row.difference)[:-1],
      f'{row.corrected:.3g}',
    ]
    for row in real[:_MOST_CLASSES]
  ]
  return lines + files.text_table([header, *cells])


def _only(first: str, second: str) -> tuple[str, str]:
  return f'{first} alone', f'{second} alone'


def _cells(row: Difference) -> list[str]:
  low, high = row.interval
  return [
    metrics.percent(row.first / row.images),
    metrics.percent(row.second / row.images),
    f'{100 * row.value:+.2f}',
    f'{100 * low:+.2f} to {100 * high:+.2f}',
    str(row.only_first),
    str(row.only_second),
    f'{row.p_value:.3g}',
  ]


def write_classes(
  path: str | os.PathLike,
  totals: Mapping[str, Difference],
  classes: Sequence[ClassDifference],
  class_names: Mapping[int, str],
) -> None:
  """Writes a row for all images, by top-1 and top-5, and one for each class (top-1), atomically.

  Accuracies and differences are shares in [0, 1]; `p_corrected` is Holm's over the classes.
  """
  header = ('label', 'name', 'images', 'accuracy_1', 'accuracy_2', 'difference', 'difference_low')
  more = ('difference_high', 'only_1', 'only_2', 'p', 'p_corrected')

  def row(label: int | None, name: str, each: Difference, corrected: float | None) -> list[object]:
    shares = (each.first / each.images, each.second / each.images, each.value, *each.interval)
    counts = [each.only_first, each.only_second]
    p_values = [each.p_value, '' if corrected is None else corrected]
    cells = [*map(_digits, shares), *counts, *map(_digits, p_values)]
    return [label, name, each.images, *cells]

  rows = [row(None, f'all, {name}', total, None) for name, total in totals.items()]
  rows += [row(each.label, name_of(class_names, each.label), *each[1:]) for each in classes]
  files.write_csv(path, (*header, *more), rows)


def _digits(value: object) -> object:
  return f'{value:.6g}' if isinstance(value, float) else value


def write_images(path: str | os.PathLike, pair: Pair, class_names: Mapping[int, str]) -> None:
  """Writes the images that one classifier gets (top-1) and the other does not, atomically.

  Those of the first come first, the surest mistakes of the other leading.
  """
  header = ('filename', 'record_index', 'true', 'true_names', 'right')
  of_each = (f'{what}_{i}' for i in (1, 2) for what in ('label', 'name', 'probability'))
  files.write_csv(path, (*header, *of_each), _image_rows(pair, class_names))


def _image_rows(pair: Pair, class_names: Mapping[int, str]) -> Iterator[list[object]]:
  sides = pair.first, pair.second
  for right, wrong in ((0, 1), (1, 0)):
    chosen = np.flatnonzero(sides[right].right & ~sides[wrong].right)
    surest = np.nan_to_num(sides[wrong].probabilities[chosen, 0], nan=-1)
    for i in chosen[np.argsort(-surest, kind='stable')].tolist():
      labels = [label for label in pair.first.labels[i].tolist() if label >= 0]
      row: list[object] = [pair.first.filenames[i], int(pair.first.record_indices[i])]
      row.append(results.SEPARATOR.join(map(str, labels)))
      row.append(results.SEPARATOR.join(name_of(class_names, label) for label in labels))
      row.append(right + 1)
      for side in sides:
        label = int(side.top[i, 0])
        row += [label, name_of(class_names, label), _digits(float(side.probabilities[i, 0]))]
      yield row
