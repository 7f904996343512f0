"""One evaluation from its flags to its files."""

import contextlib
import os
from typing import Any

from absl import logging

from slim_inception import files
from slim_inception.cluster import LOST_WORKER_ERRORS, make_cluster
from slim_inception.evaluate import image_grid, report, results
from slim_inception.evaluate.config import Request, ResultsConfig
from slim_inception.evaluate.evaluator import Evaluation, Outcome
from slim_inception.files import FolderLock
from slim_inception.nets.convert import formats

REPORT_FILE = 'report.html'
IMAGE_FILE = 'predictions.png'
PURPOSE = 'evaluation'  # which an eval_dir has one of at a time
_MISTAKES = 60  # in the report's gallery


def evaluate(request: Request) -> dict[str, Any] | None:
  """Evaluates and writes the results into `eval_dir`.

  Returns:
    What `metrics.json` holds; None on workers other than the chief.

  Raises:
    ValueError, OSError: a flag, the data or a checkpoint is not as it should be, or another
      evaluation owns `eval_dir`.
  """
  config, devices = request.config.results, request.config.devices
  cluster = make_cluster(devices.num_clones, devices.clone_on_cpu)
  if not cluster.is_chief:
    logging.set_verbosity(logging.WARNING)
  try:
    with contextlib.ExitStack() as stack:
      if cluster.is_chief:  # who alone writes
        lock = stack.enter_context(files.locked_folder(config.eval_dir, PURPOSE))
      evaluation = Evaluation(request, cluster)
      logging.info('%s', evaluation.describe())
      members = request.ensemble.members
      outcome = evaluation.evaluate([formats.locate(m.checkpoint_path) for m in members])
      return outcome and write(config, lock, evaluation, outcome)
  except LOST_WORKER_ERRORS as error:
    if cluster.count == 1:
      raise
    raise ConnectionError('another worker is gone; start the evaluation on all again') from error


def write(
  config: ResultsConfig, lock: FolderLock, evaluation: Evaluation, outcome: Outcome
) -> dict[str, Any]:
  """Writes tables, images and report into `eval_dir`, which the process owns.

  Returns:
    What `metrics.json` holds.
  """
  dataset, predictions = evaluation.dataset, outcome.predictions
  names = dataset.labels_to_names
  lock.check()
  if config.num_example_images:
    shown = predictions.record_indices[: config.num_example_images].tolist()
    thumbnails = report.make_thumbnails(dataset.paths, dataset.schema, shown)
    path = os.path.join(config.eval_dir, IMAGE_FILE)
    image_grid.draw_predictions(path, predictions, thumbnails, names)
  if config.report:
    shown = report.worst_mistakes(predictions, _MISTAKES)
    report.write_report(
      os.path.join(config.eval_dir, REPORT_FILE),
      outcome.metrics,
      predictions,
      dataset.num_classes,
      names,
      report.make_thumbnails(dataset.paths, dataset.schema, shown),
      title=f'{_nets(outcome.metrics)} on {dataset.name} {dataset.split_name}',
      ranking=outcome.ranking,
    )
  results.write(
    config.eval_dir, outcome.metrics, predictions, dataset.num_classes, names, outcome.ranking
  )
  return results.plain(outcome.metrics)


def _nets(metrics: dict[str, Any]) -> str:
  members = metrics.get('members', [metrics])
  return ' + '.join(member['model_name'] for member in members)
