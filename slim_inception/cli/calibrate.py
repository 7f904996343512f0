"""Makes the probabilities of a net mean what they say, on images that it was not trained on.

  slim-inception calibrate --checkpoint_path=TRAIN_DIR [--coverage=0.95] [--max_error=0.02]

Fits a temperature on half of a split, and measures calibration before and after on the other half,
which the thresholds of --coverage and --max_error are of too. All is written to a file beside the
checkpoint; eval, classify and export use it. Which class is the most probable does not change.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slim_inception import flags
from slim_inception.cli import console, quiet
from slim_inception.datasets import source_records
from slim_inception.evaluate.calibrate_config import CalibrateConfig, resolve

if TYPE_CHECKING:  # imports TensorFlow
  from slim_inception.evaluate.stored_calibration import Calibration


def define_flags() -> None:
  flags.define(CalibrateConfig)


def main(_: list[str]) -> None:
  request = flags.parse(CalibrateConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception.evaluate import calibrate

  chosen = request.config.records
  records = source_records.find_or_make(chosen.dataset_name, chosen.dataset_dir, chosen.cache_dir)
  evaluation = request.evaluation
  evaluation = evaluation._replace(config=flags.replace(evaluation.config, **records))
  request = request._replace(evaluation=evaluation)
  stored, path = calibrate.calibrate(request)
  console.say(*lines(stored), f'written to {path}')


def lines(stored: 'Calibration') -> Iterator[str]:
  """A line for each figure."""
  yield f'temperature {stored.temperature:.4f}'
  yield f'fitted_images {stored.fitted_images}'
  yield f'measured_images {stored.measured_images}'
  figures = {
    'expected_calibration_error': stored.expected_calibration_error,
    'negative_log_likelihood': stored.negative_log_likelihood,
  }
  for name, figure in figures.items():
    for kind, value, interval in (
      (f'uncalibrated_{name}', figure.before, figure.before_interval),
      (name, figure.after, figure.after_interval),
    ):
      yield f'{kind} {value:.4f}'
      if interval:
        yield f'{kind}_interval {interval[0]:.4f} {interval[1]:.4f}'
  if stored.sets:
    yield f'sets {stored.sets.kind} with a coverage of {stored.sets.coverage:g}'
  if stored.abstention:
    kept = stored.abstention
    yield f'abstention_threshold {kept.threshold:.4f}'
    yield f'abstention_kept {kept.coverage:.4f}'
    yield f'abstention_error {kept.risk:.4f} at most {kept.bound:.4f}'
