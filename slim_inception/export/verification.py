"""Exports beside their checkpoint on a whole split, by every program at hand that runs them."""

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import files
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.evaluate import metrics, paired
from slim_inception.evaluate.metrics import Predictions, percent, wilson_interval
from slim_inception.evaluate.scorer import Loaded
from slim_inception.export import onnx, openvino, saved_model, tflite
from slim_inception.export.classifier import NAMED, Classifier, Inputs, Outputs
from slim_inception.export.comparison import (
  ACCEPTED,
  Compared,
  Comparison,
  Reference,
  compare,
  concatenated,
  reference,
  summed_up,
)
from slim_inception.export.config import Variant
from slim_inception.export.images import viewed
from slim_inception.input import pipeline as input_pipeline

EQUAL, DIFFERS, FAILED = 'equal', 'differs', 'failed'
_BATCH = 16  # images
_LISTED = 20  # images of another best class, in the JSON
_DASH = '–'


class Runtime(NamedTuple):
  """A program that runs exports.

  Attributes:
    name: for the table.
    read: gives a function from images to outputs for the folder of an export.
    package: that it needs, and that the export does not; it is an extra of that name.
  """

  name: str
  read: Callable[[Path], Callable[[Inputs], Outputs]]
  package: str = ''


RUNTIMES = {
  'saved_model': (
    Runtime('TensorFlow, files', lambda folder: saved_model.read(folder)[0]),
    Runtime('TensorFlow, arrays', lambda folder: saved_model.read(folder)[1]),
  ),
  'tflite': (
    Runtime('LiteRT, XNNPACK', tflite.read_with),
    Runtime('LiteRT, its own kernels', lambda folder: tflite.read_with(folder, own_kernels=True)),
    Runtime('OpenVINO', openvino.read_tflite, 'openvino'),
  ),
  'onnx': (
    Runtime('ONNX Runtime', lambda folder: onnx.read(folder)[0]),
    Runtime('OpenVINO', openvino.read_onnx, 'openvino'),
  ),
}


class Row(NamedTuple):
  """What a program makes of an export.

  Attributes:
    variant: of the export; None: the checkpoint itself.
    runtime: the program.
    size: bytes of the export.
    error: why there is nothing; '' if there is.
    predictions: its outputs for all images, as labels.
    compared: with the checkpoint; None of the checkpoint itself.
  """

  variant: Variant | None
  runtime: str
  size: int = 0
  error: str = ''
  predictions: Predictions | None = None
  compared: Compared | None = None

  @property
  def verdict(self) -> str:
    """`EQUAL` where all is within what is accepted of such exports."""
    if self.error:
      return FAILED
    if self.compared is None or self.variant is None:
      return EQUAL
    return EQUAL if self.comparison.is_within(ACCEPTED[self.variant.quantize]) else DIFFERS

  @property
  def comparison(self) -> Comparison:
    """Of all images."""
    assert self.compared is not None
    return summed_up(self.compared)


class Verification(NamedTuple):
  """Exports beside their checkpoint.

  Attributes:
    names: of the outputs of the net.
    skipped: images that could not be decoded.
    rows: the checkpoint, then its exports by each program.
  """

  names: tuple[str, ...]
  skipped: int
  rows: list[Row]

  @property
  def is_good(self) -> bool:
    """Whether every program gives what the checkpoint gives."""
    return all(row.verdict == EQUAL for row in self.rows)

  @property
  def accuracies(self) -> tuple[str, ...]:
    """Those that say something: 'top_1', 'top_5'."""
    return metrics.accuracies(len(self.names))

  def to_json(self) -> dict[str, Any]:
    """What verification.json has: shares are in [0, 1], intervals of 95 %."""
    of_checkpoint = self.rows[0]
    assert of_checkpoint.predictions is not None
    return {
      'images': len(of_checkpoint.predictions.labels),
      'skipped_images': self.skipped,
      **_accuracies(of_checkpoint.predictions, self.accuracies),
      'exports': [
        {
          **(row.variant._asdict() if row.variant else {}),
          'runtime': row.runtime,
          'bytes': row.size,
          'verdict': row.verdict,
          **({'error': row.error} if row.error else self._figures(row, of_checkpoint.predictions)),
        }
        for row in self.rows[1:]
      ],
    }

  def _figures(self, row: Row, of_checkpoint: Predictions) -> dict[str, Any]:
    predictions, compared = row.predictions, row.compared
    assert predictions is not None and compared is not None and row.variant is not None
    labelled = of_checkpoint.labels[:, 0] >= 0
    figures = _accuracies(predictions, self.accuracies)
    if labelled.any():
      change = paired.difference(of_checkpoint.right[labelled], predictions.right[labelled])
      figures |= {
        'top_1_difference': change.value,
        'top_1_difference_interval': list(change.interval),
        'top_1_p_value': change.p_value,
      }
    others = np.flatnonzero(~compared.agree)
    return {
      **figures,
      **_share('agreement', compared.agree),
      'largest_difference': float(compared.differences.max()),
      'accepted_difference': ACCEPTED[row.variant.quantize].difference,
      'accepted_agreement': ACCEPTED[row.variant.quantize].agreement,
      **{f'same_{name}': float(np.mean(same)) for name, same in compared.same_decisions.items()},
      'other_images': [
        {
          'record_index': int(predictions.record_indices[i]),
          'filename': files.printable(predictions.filenames[i]),
          'checkpoint': self.names[of_checkpoint.top[i, 0]],
          'export': self.names[predictions.top[i, 0]],
        }
        for i in others[:_LISTED]
      ],
    }

  def text(self) -> list[str]:
    """The table, for people, and a line for each program that failed."""
    decisions = [each for row in self.rows if row.compared for each in row.compared.same_decisions]
    titles = {'in_set': 'same set', 'abstains': 'same abstention'}
    shown = [*dict.fromkeys(decisions)]
    accuracy_titles = [
      title for name in self.accuracies for title in (name.replace('_', '-'), '95 % interval')
    ]
    header = ['export', 'program', 'MB', *accuracy_titles, 'same class', '95 % interval']
    header += ['largest difference', *(titles[name] for name in shown), '']
    rows = [header, *(self._cells(row, shown) for row in self.rows)]
    failures = [f'{_name(row)}, {row.runtime}: {row.error}' for row in self.rows if row.error]
    return [*files.text_table(rows, left=(0, 1, len(header) - 1)), *failures]

  def _cells(self, row: Row, decisions: Sequence[str]) -> list[str]:
    cells = [_name(row), row.runtime, f'{row.size / 1e6:.1f}' if row.size else _DASH]
    if row.predictions is None:
      count = 2 * len(self.accuracies) + 3 + len(decisions)
      return [*cells, *[_DASH] * count, row.verdict]
    figures = _accuracies(row.predictions, self.accuracies)
    for name in self.accuracies:
      cells += _percents(figures, name)
    if row.compared is None:
      return [*cells, *[_DASH] * (3 + len(decisions)), '']
    cells += _percents(_share('agreement', row.compared.agree), 'agreement')
    cells.append(f'{row.compared.differences.max():.2g}')
    cells += [percent(float(np.mean(row.compared.same_decisions[name]))) for name in decisions]
    return [*cells, row.verdict]


def _name(row: Row) -> str:
  return row.variant.name if row.variant else 'checkpoint'


def _percents(figures: Mapping[str, Any], name: str) -> list[str]:
  if figures[name] is None:
    return [_DASH, _DASH]
  return [
    percent(figures[name]),
    ' to '.join(f'{100 * x:.2f}' for x in figures[f'{name}_interval']),
  ]


def _accuracies(predictions: Predictions, names: Sequence[str]) -> dict[str, Any]:
  """Of the images that have a label; None where none has."""
  labelled = predictions.labels[:, 0] >= 0
  hits: dict[str, np.ndarray] = {
    'top_1': predictions.right,
    'top_5': np.any(predictions.is_label, -1),
  }
  return {key: value for name in names for key, value in _share(name, hits[name][labelled]).items()}


def _share(name: str, hits: np.ndarray) -> dict[str, Any]:
  if not len(hits):
    return {name: None}
  count = int(np.count_nonzero(hits))
  return {
    name: count / len(hits),
    f'{name}_interval': list(wilson_interval(count, len(hits))),
  }


def verify(
  exports: Sequence[tuple[Variant, Path]],
  checkpoint: Classifier,
  dataset: Dataset,
  loaded: Loaded,
) -> Verification:
  """Runs exports on all images of a split, an image after the other through all of them.

  Args:
    exports: and their folders.
    checkpoint: what they are compared with.
    dataset: the split, counted.
    loaded: the checkpoint as it was loaded.

  Raises:
    ValueError, OSError: the split has no image, or is damaged.
  """
  runs = [run for export in exports for run in _open(*export)]
  score = tf.function(checkpoint.probabilities, autograph=False, reduce_retracing=True)
  offset = loaded.labels_offset
  seen: list[_Seen] = []
  tops: list[np.ndarray] = []
  with ProgressBar('Verifying', dataset.num_samples, 'images') as bar:
    try:
      for batch in _batches(viewed(dataset, checkpoint, offset)):
        inputs = Inputs([each['encoded'] for each in batch], np.stack([e['image'] for e in batch]))
        expected = reference(checkpoint, score(tf.constant(inputs.images)).numpy())
        tops.append(np.argsort(-expected.probabilities, axis=-1, kind='stable')[:, :NAMED])
        for run in runs:
          run.add(inputs, expected)
        seen += (_Seen.of(each, offset) for each in batch)
        bar.update(len(batch))
    except input_pipeline.READ_ERRORS as error:
      raise input_pipeline.read_error(dataset, offset, error) from error
  if not seen:
    raise ValueError(f'No image of {dataset.name} {dataset.split_name} could be decoded')
  of_checkpoint = Row(None, 'TensorFlow', predictions=_predictions(seen, tops))
  rows = [of_checkpoint, *(run.row(seen) for run in runs)]
  return Verification(checkpoint.names, dataset.num_samples - len(seen), rows)


class _Seen(NamedTuple):
  """What is known of an image."""

  record_index: int
  filename: str
  labels: list[int]  # outputs of the net

  @classmethod
  def of(cls, example: Mapping[str, Any], labels_offset: int) -> '_Seen':
    filename = example['filename'].decode(errors='surrogateescape')
    labels = np.flatnonzero(example['label']) - labels_offset
    return cls(int(example['record_index']), filename, labels.tolist())


class _Run:
  """An export in a program, until it fails."""

  def __init__(self, variant: Variant, runtime: Runtime, folder: Path):
    self._variant, self._runtime = variant, runtime
    self._size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    self._tops: list[np.ndarray] = []
    self._compared: list[Compared] = []
    self._error = ''
    try:
      self._outputs_of = runtime.read(folder)
    except Exception as error:  # of any program: the others go on
      self._error = first_line(error)

  def add(self, inputs: Inputs, expected: Reference) -> None:
    """Runs it on some images."""
    if self._error:
      return
    try:
      outputs = self._outputs_of(inputs)
      compared = compare(expected, outputs, ACCEPTED[self._variant.quantize])
    except Exception as error:  # as above
      self._error = first_line(error)
      return
    self._tops.append(outputs.top)
    self._compared.append(compared)

  def row(self, seen: Sequence[_Seen]) -> Row:
    """What has become of it."""
    row = Row(self._variant, self._runtime.name, self._size, self._error)
    if self._error:
      return row
    return row._replace(
      predictions=_predictions(seen, self._tops), compared=concatenated(self._compared)
    )


def _open(variant: Variant, folder: Path) -> Iterator[_Run]:
  """The export in each program that is installed."""
  for runtime in RUNTIMES[variant.format]:
    if runtime.package and not importlib.util.find_spec(runtime.package):
      text = "%s is not verified by %s: pip install 'slim-inception[%s]'"
      logging.info(text, variant.name, runtime.name, runtime.package)
    else:
      yield _Run(variant, runtime, folder)


def _batches(images: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
  while batch := list(itertools.islice(images, _BATCH)):
    yield batch


def _predictions(seen: Sequence[_Seen], tops: Sequence[np.ndarray]) -> Predictions:
  most = max(1, max(len(each.labels) for each in seen))
  labels = np.full((len(seen), most), -1, np.int32)
  for row, each in zip(labels, seen, strict=True):
    row[: len(each.labels)] = each.labels
  top = np.concatenate(tops).astype(np.int32)
  return Predictions(
    np.array([each.record_index for each in seen]),
    [each.filename for each in seen],
    labels,
    top,
    np.full(top.shape, np.nan, np.float32),
  )


def first_line(error: Exception) -> str:
  """What an error of any program says, in a line."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return files.printable(lines[0] if lines else type(error).__name__)
