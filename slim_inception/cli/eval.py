"""Evaluates a checkpoint, or an ensemble of several, on every image of a split.

  slim-inception eval --checkpoint_path=TRAIN_DIR [--crops=144] [--report]

Net, data set, image size and so on come from each run's config.json; a flag overrides it. One line
a figure on stdout; eval_dir has them all in metrics.json, and tables of the images and classes.
"""

import os
from collections.abc import Mapping
from typing import Any

from slim_inception import flags
from slim_inception.cli import console, quiet
from slim_inception.datasets import source_records
from slim_inception.datasets.progress_bar import digits
from slim_inception.evaluate.config import REMOVED, EvalConfig, Request, resolve
from slim_inception.evaluate.metrics import accuracies

_PRINTED = (
  'num_images',
  'top_1',
  'top_5',
  'mean_average_precision',
  'expected_calibration_error',
  'uncalibrated_expected_calibration_error',
  'temperature',
  'calibrated_on',
  'set_coverage',
  'mean_set_size',
  'abstention_kept',
  'abstention_error',
  'excluded_images',
  'unlabelled_images',
  'other_images',
  'skipped_images',
  'images_per_second',
  'weights',
  'preprocessing',
  'checkpoint',
  'model_name',
  'dataset_name',
  'dataset_split_name',
  'image_size',
  'crops',
  'batch_norm_batches',
)


def define_flags() -> None:
  flags.define(EvalConfig, REMOVED)


def main(_: list[str]) -> None:
  request = flags.parse(EvalConfig, _resolve_when_begun, REMOVED, quiet.import_tensorflow)
  from slim_inception.evaluate import following, run

  chosen = request.config.records
  records = source_records.find_or_make(chosen.dataset_name, chosen.dataset_dir, chosen.cache_dir)
  request = request._replace(config=flags.replace(request.config, **records))
  results = request.config.results
  if results.follow:
    for metrics in following.follow(request):
      show(metrics)
  else:
    show(run.evaluate(request) or {})
  console.say(f'written to {results.eval_dir}')


def _resolve_when_begun(flag_values: Mapping[str, Any]) -> Request:
  """`resolve`, which with --follow waits for the run to write its config.json."""
  from slim_inception.evaluate import following

  values = flags.convert(EvalConfig, flag_values)
  paths = values.get('checkpoint_path', ())
  if values.get('follow') and len(paths) == 1 and os.path.isdir(paths[0]):
    following.wait_for_run(paths[0], values.get('follow_timeout_secs'))
  return resolve(values)


def show(metrics: Mapping[str, Any]) -> None:
  """Prints a line for each figure, and one for each net of an ensemble."""
  shown = accuracies(metrics.get('num_classes'))
  for name in _PRINTED:
    value = metrics.get(name)
    if value is None or (name == 'top_5' and name not in shown):
      continue
    in_text = digits if name == 'images_per_second' else '{:.4f}'.format
    console.say(f'{name} {in_text(value) if isinstance(value, float) else value}')
    if interval := metrics.get(f'{name}_interval'):
      low, high = interval
      console.say(f'{name}_interval {low:.4f} {high:.4f}')
  for member in metrics.get('members', ()):
    figures = ' '.join(f'{name} {member[name]:.4f}' for name in shown)
    share, checkpoint = member['share'], member['checkpoint']
    console.say(f'member {member["model_name"]} {figures} share {share:.3f} {checkpoint}')
