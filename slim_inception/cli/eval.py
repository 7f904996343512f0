"""Evaluates a checkpoint, or an ensemble of several, on every image of a split.

  slim-inception eval --checkpoint_path=TRAIN_DIR [--crops=144] [--report]

Net, data set, image size and so on come from each run's config.json; a flag overrides it. One line
a figure on stdout; eval_dir has them all in metrics.json, and tables of the images and classes.
"""

import os
from collections.abc import Mapping
from typing import Any

from absl import flags

from slim_inception.cli import console as command_line
from slim_inception.evaluate import following, run
from slim_inception.evaluate.config import GONE, EvalConfig, resolve

_PRINTED = (
  'num_images',
  'top_1',
  'top_5',
  'expected_calibration_error',
  'excluded_images',
  'unlabelled_images',
  'skipped_images',
  'images_per_second',
  'weights',
  'checkpoint',
  'model_name',
  'dataset_name',
  'dataset_split_name',
  'image_size',
  'crops',
  'batch_norm_batches',
)


def define_flags() -> None:
  command_line.define_flags(EvalConfig, GONE)


def main(_: list[str]) -> None:
  values = flags.FLAGS
  if values.follow and values.checkpoint_path and os.path.isdir(values.checkpoint_path):
    following.wait_for_run(values.checkpoint_path, values.follow_timeout_secs)
  request = command_line.flag_values(EvalConfig, resolve, GONE)
  if request.config.follow:
    for metrics in following.follow(request):
      show(metrics)
  else:
    show(run.evaluate(request) or {})
  print('written to', request.config.eval_dir)


def show(metrics: Mapping[str, Any]) -> None:
  """Prints a line for each figure, and one for each net of an ensemble."""
  for name in _PRINTED:
    value = metrics.get(name)
    if value is not None:
      print(name, f'{value:.4f}' if isinstance(value, float) else value)
    if name in ('top_1', 'top_5') and value is not None:
      low, high = metrics[f'{name}_interval']
      print(f'{name}_interval', f'{low:.4f} {high:.4f}')
  for member in metrics.get('members', ()):
    print(
      f'member {member["model_name"]} top_1 {member["top_1"]:.4f} top_5 {member["top_5"]:.4f} '
      f'share {member["share"]:.3f} {member["checkpoint"]}'
    )
