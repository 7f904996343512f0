"""Images from the command line to what is written of them."""

import contextlib
import sys
from collections.abc import Callable, Sequence

from absl import logging

from slim_inception.classify import drawing, output, sources
from slim_inception.classify.classifier import Classifier, Result
from slim_inception.classify.config import ClassifyRequest
from slim_inception.classify.output import Prediction, Row
from slim_inception.datasets.progress_bar import ProgressBar, hidden
from slim_inception.evaluate.metrics import name_of, top_labels
from slim_inception.evaluate.stored_calibration import Calibration


def classify(
  operands: Sequence[str], request: ClassifyRequest, complain: Callable[[str], None]
) -> int:
  """Classifies images, and writes and prints what they are.

  Args:
    operands: what images, see `sources.expand`.
    request: how.
    complain: gets a line for each image that is not classified.

  Returns:
    How many these are.

  Raises:
    ValueError, OSError: a checkpoint is not as it should be, or the results cannot be written.
  """
  config = request.config.output
  classifier = Classifier(request)
  names, num_classes = classifier.classes.labels_to_names, classifier.classes.num_classes
  top_k = min(config.top_k, num_classes)
  images, count = sources.listed(operands, sys.stdin.buffer)
  number = 'images' if count is None else f'{count} image(s)'
  total = None if count is None else classifier.num_views(count)
  logging.info('Classifying %s on %s', number, classifier.devices)
  failed = 0
  with contextlib.ExitStack() as stack:
    writers = []
    if config.csv:
      stored = classifier.calibration
      columns = output.columns(bool(stored and stored.sets), bool(stored and stored.abstention))
      writers.append(stack.enter_context(output.csv_writer(config.csv, top_k, columns)))
    if config.json:
      writers.append(stack.enter_context(output.json_writer(config.json)))
    if sources.STANDARD_INPUT not in (config.csv, config.json):
      writers.append(output.write_text)
    bar = stack.enter_context(ProgressBar('Classifying', total, 'views'))
    for result in classifier.classify(images, bar.update):
      row = _row(result, names, top_k, config.explain, classifier.calibration)
      with hidden():
        if row.error:
          failed += 1
          complain(f'{row.file}: {row.error}')
        for write in writers:
          write(row)
  return failed


def _row(
  result: Result,
  names: dict[int, str],
  top_k: int,
  folder: str | None,
  calibration: Calibration | None,
) -> Row:
  if result.error:
    return Row(result.name, error=result.error)
  assert result.probabilities is not None  # there is one or the other
  predictions, in_set = (
    tuple(Prediction(i, name_of(names, i), float(result.probabilities[i])) for i in labels)
    for labels in (
      top_labels(result.probabilities, top_k).tolist(),
      (calibration and calibration.labels_in_set(result.probabilities)) or (),
    )
  )
  explained = ''
  if result.explanation and folder:
    lines = output.lines(predictions)
    explained = drawing.write(folder, result.name, lines, result.explanation)
  return Row(
    result.name,
    predictions,
    explained,
    in_set=in_set if calibration and calibration.sets else None,
    abstains=calibration.abstains(result.probabilities) if calibration else None,
  )
