"""Evaluates a checkpoint on every picture of a split: top-1 and top-5.

  python eval_image_classifier.py --checkpoint_path=TRAIN_DIR [--dataset_dir=DIR]

Net, data set, image size and so on come from the run's config.json; a flag overrides it. One line a
metric on stdout; eval_dir/metrics.json holds them all.
"""

import os

import console as command_line
import quiet_tensorflow  # noqa: F401  before what imports TensorFlow
from evaluation import evaluator
from evaluation.config import GONE, EvalConfig, resolve


def main(_: list[str]) -> None:
  config = command_line.flag_values(EvalConfig, resolve, GONE)
  for name, value in evaluator.evaluate(config).items():
    print(name, f'{value:.4f}' if name.startswith('top_') else value)
  print('written to', os.path.join(config.eval_dir, evaluator.METRICS_FILE))


def console() -> None:
  command_line.define_flags(EvalConfig, GONE)
  command_line.run(main)


if __name__ == '__main__':
  console()
