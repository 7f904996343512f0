"""The table of a net on ImageNet and its sisters, and what others have published of its weights.

Published figures are timm's (`results/*.csv` of huggingface/pytorch-image-models): top-1 in % at
299 pixels, bicubic, one crop of 0.875 (0.8975 of Inception-ResNet-v2); those of ImageNet-A and -R
and of their clean counterparts are among 200 classes. `published.csv` has them.
"""

import collections
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slim_inception import files
from slim_inception.datasets import evaluation_sets
from slim_inception.datasets.evaluation_sets import ALEXNET_ERRORS
from slim_inception.evaluate import metrics, pages, results
from slim_inception.evaluate.metrics import Predictions

PUBLISHED_SOURCE = 'https://github.com/huggingface/pytorch-image-models/tree/main/results'
TOP_1 = 'top-1'
_SEVERITIES = range(1, 6)


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    name: what is measured; the column of `published.csv`, if it is there.
    title: the same, for people.
    measure: 'top-1', 'AUROC', 'AUPR', 'CE' or 'mCE'.
    value: a share; corruption errors are relative to AlexNet's and may be above 1.
    interval: of 95 % (Wilson), of shares of images.
    top_5: where it says something.
    num_images: that count.
    size: the published number; None where there is none.
  """

  name: str
  title: str
  measure: str
  value: float
  interval: tuple[float, float] | None
  top_5: float | None
  num_images: int
  size: int | None


def accuracy(name: str, title: str, predictions: Predictions, size: int | None) -> Row:
  """Top-1 and top-5 of at least one image."""
  count, right = len(predictions.record_indices), int(np.count_nonzero(predictions.right))
  top_5 = float(predictions.is_label.any(-1).mean())
  interval = metrics.wilson_interval(right, count)
  return Row(name, title, TOP_1, right / count, interval, top_5, count, size)


def out_of_distribution(
  name: str, title: str, outliers: Predictions, others: Predictions, size: int
) -> list[Row]:
  """How well a low confidence tells images of none of the classes: outliers are the positives."""
  scores = [-each.probabilities[:, 0].astype(np.float64) for each in (outliers, others)]
  count = len(outliers.record_indices)
  is_outlier = np.arange(sum(map(len, scores))) < count
  precision = metrics.average_precision(np.concatenate(scores), is_outlier)
  values = {'AUROC': metrics.auroc(*scores), 'AUPR': precision}
  return [Row(name, title, key, value, None, None, count, size) for key, value in values.items()]


def corruption_errors(predictions: Predictions) -> dict[str, dict[int, float]]:
  """Top-1 errors of ImageNet-C, {corruption: {severity: error}}; of those that there are."""
  keys = np.array([evaluation_sets.corruption_of(name) for name in predictions.filenames], object)
  return {
    corruption: {
      severity: float(1 - predictions.right[chosen].mean())
      for severity in _SEVERITIES
      if (chosen := (keys[:, 0] == corruption) & (keys[:, 1] == severity)).any()
    }
    for corruption in evaluation_sets.CORRUPTIONS
    if corruption in keys[:, 0]
  }


def corruptions(name: str, title: str, predictions: Predictions, size: int) -> list[Row]:
  """Corruption errors, each the error over five severities by AlexNet's, and their mean.

  The mean is there if all 15 corruptions of the paper (arXiv:1903.12261) are, of all severities.
  """
  by_corruption = corruption_errors(predictions)
  names = predictions.filenames
  counts = collections.Counter(evaluation_sets.corruption_of(each)[0] for each in names)
  relative = {
    corruption: float(np.mean(list(errors.values()))) / ALEXNET_ERRORS[corruption]
    for corruption, errors in by_corruption.items()
    if corruption in ALEXNET_ERRORS and len(errors) == len(_SEVERITIES)
  }
  rows = [
    Row(f'{name}/{c}', f'{title} {c}', 'CE', error, None, None, counts[c], size * len(_SEVERITIES))
    for c, error in relative.items()
  ]
  if len(relative) == len(ALEXNET_ERRORS):
    mean, total = float(np.mean(list(relative.values()))), sum(counts[c] for c in relative)
    published = size * len(_SEVERITIES) * len(relative)
    rows.insert(0, Row(name, title, 'mCE', mean, None, None, total, published))
  return rows


# What others have published


def published(model_names: Sequence[str]) -> dict[str, dict[str, float]]:
  """{weights: {name of a row: top-1 in %}} of weights of the only net; {} for an ensemble."""
  weights = {}
  for line in csv.DictReader(pages.read('published.csv').splitlines()):
    name = line.pop('weights')
    if [name.split('.')[0]] == [*model_names]:
      weights[name] = {key: float(value) for key, value in line.items()}
  return weights


# Writing


def notes(rows: Sequence[Row]) -> list[str]:
  """What to know of sets of another size than the published."""
  return [
    f'{row.title}: {row.num_images:,} images, {row.size:,} are published'
    for row in rows
    if row.size is not None and row.num_images != row.size and row.measure != 'AUPR'
  ]


def cells(rows: Sequence[Row], others: Mapping[str, Mapping[str, float]]) -> Iterator[list[str]]:
  """The table as text, with its header; figures in %."""
  yield ['set', 'measure', '%', '95 % interval', 'top-5 %', 'images', *others]
  for row in rows:
    low_high = [f'{100 * bound:.2f}' for bound in row.interval or ()]
    yield [
      row.title,
      row.measure,
      f'{100 * row.value:.2f}',
      ' to '.join(low_high),
      '' if row.top_5 is None else f'{100 * row.top_5:.2f}',
      f'{row.num_images}',
      *(f'{of[row.name]:.2f}' if _is_comparable(row, of) else '' for of in others.values()),
    ]


def _is_comparable(row: Row, figures: Mapping[str, float]) -> bool:
  return row.measure == TOP_1 and row.name in figures


def write(
  prefix: str,
  rows: Sequence[Row],
  others: Mapping[str, Mapping[str, float]],
  facts: Mapping[str, Any],
  errors: Mapping[str, Mapping[int, float]],
) -> list[str]:
  """Writes PREFIX.csv, .json, .html and .md, each whole or not at all.

  Args:
    prefix: of the paths.
    rows: of the table.
    others: see `published`.
    facts: what was evaluated, and how.
    errors: see `corruption_errors`.

  Returns:
    The paths.

  Raises:
    OSError: the disk is full or not writable.
  """
  files.make_folder_of(prefix)
  paths = [f'{prefix}.{suffix}' for suffix in ('csv', 'json', 'html', 'md')]
  header, *lines = cells(rows, others)
  failed = facts.get('failed', {})
  said = [*notes(rows), *(f'{name} is left out: {reason}' for name, reason in failed.items())]
  files.write_csv(paths[0], header, lines)
  content = {
    **facts,
    'rows': [row._asdict() for row in rows],
    'corruption_errors': errors,
    'published': others,
    'published_source': PUBLISHED_SOURCE,
  }
  page = pages.render(
    pages.read('robustness.html.j2'),
    style=pages.style(),
    title=f'{os.path.basename(prefix)}: {facts["nets"]}',
    header=header,
    lines=lines,
    notes=said,
    facts=facts,
    source=PUBLISHED_SOURCE if others else '',
  )
  with files.atomic_text(paths[2]) as file:
    file.write(page)
  with files.atomic_text(paths[3]) as file:
    file.write('\n'.join([*files.markdown_table([header, *lines]), '']))
  files.write_json(paths[1], results.plain(content))
  return paths
