"""Trains an image classifier on records, on all GPUs of one machine or of several.

  python train_image_classifier.py --dataset_name=imagenet --dataset_dir=DIR --train_dir=DIR

Started again with the same flags it goes on where it stopped. --recipe sets defaults, any flag
overrides them; what came of both stands in train_dir/config.json, where eval_image_classifier.py
reads it.
"""

import quiet_tensorflow  # noqa: F401, I001  before what imports TensorFlow
import console as command_line
from evaluation import during_training
from training import trainer
from training.config import GONE, Config, resolve


def main(_: list[str]) -> None:
  config = command_line.flag_values(Config, resolve, GONE)
  trainer.train(config, during_training.evaluator_of(config))


def console() -> None:
  command_line.define_flags(Config, GONE)
  command_line.run(main)


if __name__ == '__main__':
  console()
