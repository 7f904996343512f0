"""Trains an image classifier on records, on all GPUs of one machine or of several.

  slim-inception train --dataset_name=imagenet --dataset_dir=DIR --train_dir=DIR
  slim-inception train --dataset_dir=photos --train_dir=DIR
  slim-inception train --config=OTHER_TRAIN_DIR/config.json --train_dir=DIR

Of a --dataset_dir that is a folder, archive or list of images the first run makes records, which
later ones use. Started again with the same flags it goes on where it stopped. --recipe sets
defaults, the values of --config override it, and flags override both; what came of them stands in
train_dir/config.json, where slim-inception eval reads it.
"""

from slim_inception import flags
from slim_inception.cli import quiet
from slim_inception.datasets import source_records
from slim_inception.train.config import REMOVED, Config, resolve


def define_flags() -> None:
  flags.define(Config, REMOVED)


def main(_: list[str]) -> None:
  config = flags.parse(Config, resolve, REMOVED, quiet.import_tensorflow)
  from slim_inception.evaluate import during_training
  from slim_inception.train import trainer

  data = config.data
  records = source_records.find_or_make(data.dataset_name, data.dataset_dir, data.cache_dir)
  config = flags.replace(config, **records)
  trainer.train(config, during_training.evaluator_of(config))
