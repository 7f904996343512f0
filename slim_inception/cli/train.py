"""Trains an image classifier on records, on all GPUs of one machine or of several.

  slim-inception train --dataset_name=imagenet --dataset_dir=DIR --train_dir=DIR

Started again with the same flags it goes on where it stopped. --recipe sets defaults, any flag
overrides them; what came of both stands in train_dir/config.json, where slim-inception eval
reads it.
"""

from slim_inception.cli import console as command_line
from slim_inception.evaluate import during_training
from slim_inception.train import trainer
from slim_inception.train.config import GONE, Config, resolve


def define_flags() -> None:
  command_line.define_flags(Config, GONE)


def main(_: list[str]) -> None:
  config = command_line.flag_values(Config, resolve, GONE)
  trainer.train(config, during_training.evaluator_of(config))
