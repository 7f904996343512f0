"""An evaluation as one HTML page, which needs neither network nor server.

Everything is in it: styles, script, figures, images. Names of classes and files are whatever the
user's folders are called: the template escapes them, and the page's own policy lets no script run
but the one that came with it.
"""

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np
from PIL import Image

from slim_inception import files
from slim_inception.datasets import records, shards
from slim_inception.evaluate import calibration, pages, results
from slim_inception.evaluate import metrics as figures
from slim_inception.evaluate.metrics import Bin, Confusion, Predictions, name_of

THUMBNAIL_SIZE = 160  # pixels, the longer side
_MOST_PAIRS = 30  # in the table of confused pairs; results.CONFUSION_FILE has all
_FULL_MATRIX = 30  # the matrix of more classes than this is an image
_MATRIX_BLOCKS = 250  # at most, a side of that image
_RISK_POINTS = 50  # of the risk-coverage curve
_MATRIX_COLOR = (0xCC, 0x6A, 0x1C)  # stands out from white and from black

# Keys of the metrics that the headline and the plot show.
_SHOWN = frozenset(
  [
    'num_images',
    'mean_class_accuracy',
    'mean_average_precision',
    'num_classes_with_images',
    'never_predicted',
  ]
  + ['expected_calibration_error', 'calibration_bins']
  + [f'top_{k}{rest}' for k in (1, 5) for rest in ('', '_interval', '_error', '_error_interval')]
)


def write_report(
  path: str | os.PathLike,
  metrics: Mapping[str, object],
  predictions: Predictions,
  num_classes: int,
  names: Mapping[int, str],
  thumbnails: Mapping[int, bytes],
  title: str,
  ranking: figures.Ranking | None = None,
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: of the HTML file.
    metrics: `metrics.summary`, and what was evaluated under any other keys: numbers, texts, lists
      and dictionaries of them.
    predictions: of all images that count.
    num_classes: labels are 0 .. num_classes - 1.
    names: {label: name}.
    thumbnails: {record_index: JPEG or PNG} of the mistakes to be shown, b'' where there is none
      to show; see `worst_mistakes` and `make_thumbnails`.
    title: heading of the page.
    ranking: of the classes, with --loss=sigmoid.

  Raises:
    OSError: the disk is full or not writable.
  """
  shown: dict[str, Any] = {key: results.plain(value) for key, value in metrics.items()}
  names = figures.distinct_names(names)
  table = figures.per_class(predictions, num_classes)
  of_class = table.count + table.predicted + (ranking.positives if ranking else 0)
  used = np.flatnonzero(of_class).tolist()
  confusion = figures.confusion(predictions, num_classes)
  mistakes = _mistakes(confusion)
  bins = [Bin(**entry) for entry in shown['calibration_bins']]
  script = pages.read('report.js')
  is_small = len(used) <= _FULL_MATRIX
  text = pages.render(
    pages.read('report.html.j2'),
    title=title,
    style=pages.style(),
    script=markupsafe.Markup(script),
    script_hash='sha256-' + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    metrics=shown,
    facts={k: _lines(v) for k, v in shown.items() if k not in _SHOWN and v not in (None, [], {})},
    names={label: name_of(names, label) for label in used},
    table=table,
    ranking=ranking,
    counts={(t, p): n for t, p, n in _entries(confusion)} if is_small else None,
    overview=None if is_small else _overview(mistakes, used),
    mistakes=mistakes,
    most_pairs=_MOST_PAIRS,
    most_taken_for=_most_taken_for(mistakes),
    bins=bins,
    gap=_gap(bins),
    abstaining=_abstaining(predictions),
    num_wrong=int(np.count_nonzero(~predictions.right)),
    gallery=list(_gallery(predictions, names, thumbnails)),
    shows_top_5='top_5' in figures.accuracies(num_classes),
    num_best=predictions.top.shape[1],
    results=results,
    zip=zip,
  )
  with files.atomic_text(path) as file:
    file.write(text)


def worst_mistakes(predictions: Predictions, count: int) -> list[int]:
  """Places of at most `count` images whose wrong answer has the greatest probability."""
  wrong = np.flatnonzero(~predictions.right)
  confidence = predictions.probabilities[wrong, 0]
  order = np.argsort(-np.nan_to_num(confidence, nan=-1), kind='stable')
  return predictions.record_indices[wrong[order[:count]]].tolist()


def make_thumbnails(
  paths: Sequence[str | os.PathLike],
  schema: records.Schema,
  record_indices: Iterable[int],
  size: int = THUMBNAIL_SIZE,
) -> dict[int, bytes]:
  """Reads images again from their records and makes them small.

  They are shown as TensorFlow decodes them: EXIF does not turn them, transparency is dropped.

  Args:
    paths: of all shards of the split.
    schema: their keys.
    record_indices: numbers of the records in the split, shards sorted by name.
    size: of the longer side, in pixels; small images are not enlarged.

  Returns:
    {record_index: JPEG}, b'' where Pillow cannot decode the image.

  Raises:
    ValueError: a shard is cut short, a record is no Example, or there are fewer records.
  """
  missing, thumbnails, first = set(record_indices), {}, 0
  for path in sorted(os.fspath(path) for path in paths):
    with open(path, 'rb') as file:
      for record_index, (offset, length) in enumerate(shards.walk_shard(path), start=first):
        first = record_index + 1
        if record_index in missing:
          missing.remove(record_index)
          file.seek(offset)
          encoded = records.decode_features(file.read(length)).get(schema.encoded) or [b'']
          thumbnails[record_index] = pages.thumbnail(encoded[0], size)
  if missing:
    raise ValueError(f'there is no record {min(missing)}: the split has {first}')
  return thumbnails


# What the template shows


def _lines(value: object) -> list[str]:
  """A value of the metrics as text: a line for each dictionary of a list, one for all else."""
  if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
    return list(map(_line, value))
  return [_line(value)]


def _line(value: object) -> str:
  if isinstance(value, Mapping):
    return ', '.join(f'{str(key).replace("_", " ")} {_line(item)}' for key, item in value.items())
  if isinstance(value, list):
    return ', '.join(map(_line, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, float):
    return f'{value:.6g}'
  return f'{value:,}' if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _entries(confusion: Confusion) -> Iterator[tuple[int, int, int]]:
  """(true, predicted, count) of the entries."""
  return zip(*(column.tolist() for column in confusion), strict=True)


def _mistakes(confusion: Confusion) -> Confusion:
  """The entries off the diagonal, the most frequent first."""
  wrong = np.flatnonzero(confusion.true != confusion.predicted)
  order = wrong[np.argsort(-confusion.count[wrong], kind='stable')]
  return Confusion(*(column[order] for column in confusion))


def _most_taken_for(mistakes: Confusion) -> dict[int, tuple[int, int]]:
  """{true: (predicted, count)} of the most frequent mistake of each class that has any."""
  return {true: (guess, count) for true, guess, count in reversed(list(_entries(mistakes)))}


def _overview(mistakes: Confusion, used: Sequence[int]) -> str:
  """The matrix of the mistakes as an image: the more mistakes, the more opaque; a data: address."""
  step = -(-len(used) // _MATRIX_BLOCKS)  # classes a block
  counts = np.zeros([-(-len(used) // step)] * 2)
  rows, columns = (np.searchsorted(used, labels) // step for labels in mistakes[:2])
  np.add.at(counts, (rows, columns), mistakes.count)
  image = np.zeros((*counts.shape, 4), np.uint8)
  image[..., :3] = _MATRIX_COLOR
  shade = 0.25 + 0.75 * np.log1p(counts) / np.log1p(max(1, counts.max()))
  image[..., 3] = np.where(counts, 255 * shade, 0)
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG', optimize=True)
  return pages.data_address(file.getvalue())


def _gap(bins: Sequence[Bin]) -> float:
  """The mean probability less the accuracy, over all images."""
  total = sum(entry.count for entry in bins)
  gaps = ((entry.confidence or 0) - (entry.accuracy or 0) for entry in bins)
  weighted = (entry.count * gap for entry, gap in zip(bins, gaps, strict=True))
  return sum(weighted) / max(1, total)


def _abstaining(predictions: Predictions) -> dict[str, Any] | None:
  """The risk-coverage curve at 50 shares of the images; None without finite probabilities."""
  confidence = predictions.probabilities[:, 0].astype(np.float64)
  finite = np.isfinite(confidence)
  if not finite.any():
    return None
  curve = calibration.risk_coverage(confidence[finite], predictions.right[finite])
  shares = np.arange(1, _RISK_POINTS + 1) / _RISK_POINTS
  last = len(curve.coverage) - 1
  points = np.unique(np.minimum(np.searchsorted(curve.coverage, shares - 1e-12), last))
  rows = [
    dict(zip(curve._fields, map(float, row), strict=True))
    for row in zip(*(column[points] for column in curve), strict=True)
  ]
  most = max(row['risk'] for row in rows) or 1.0
  return {'area': curve.area, 'rows': rows, 'most': most}


def _gallery(
  predictions: Predictions, names: Mapping[int, str], thumbnails: Mapping[int, bytes]
) -> Iterator[dict[str, Any]]:
  """The mistakes that have a thumbnail, the most confident first."""
  index = {record_index: i for i, record_index in enumerate(predictions.record_indices.tolist())}
  for record_index in worst_mistakes(predictions, len(index)):
    if record_index not in thumbnails:
      continue
    i, image = index[record_index], thumbnails[record_index]
    labels = [label for label in predictions.labels[i].tolist() if label >= 0]
    top = predictions.top[i].tolist()
    rank = next((k for k, label in enumerate(top) if label in labels), None)
    yield {
      'image': pages.data_address(image) if image else None,
      'file': predictions.filenames[i] or f'record {record_index}',
      'true': results.SEPARATOR.join(name_of(names, label) for label in labels),
      'predicted': name_of(names, top[0]),
      'probability': float(predictions.probabilities[i, 0]),
      'rank': rank and rank + 1,
      'true_probability': rank and float(predictions.probabilities[i, rank]),
    }
