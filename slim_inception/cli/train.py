"""Trains an image classifier on records, on all GPUs of one machine or of several.

  slim-inception train --dataset_name=imagenet --dataset_dir=DIR --train_dir=DIR
  slim-inception train --dataset_dir=photos --train_dir=DIR
  slim-inception train --config=OTHER_TRAIN_DIR/config.json --train_dir=DIR

Of a --dataset_dir that is a folder, archive or list of images the first run makes records, which
later ones use. Started again with the same flags it goes on where it stopped. --recipe sets
defaults, the values of --config override it, and flags override both; what came of them stands in
train_dir/config.json, where slim-inception eval reads it. With --find_learning_rate=CURVE it only
tries learning rates.
"""

from slim_inception import files, flags
from slim_inception.cli import console, quiet
from slim_inception.datasets import source_records
from slim_inception.train.config import REMOVED, Config, resolve


def define_flags() -> None:
  flags.define(Config, REMOVED)


def main(_: list[str]) -> None:
  config = flags.parse(Config, resolve, REMOVED, quiet.import_tensorflow)
  from slim_inception.evaluate import during_training
  from slim_inception.train import batch_size, trainer

  data = config.data
  records = source_records.find_or_make(data.dataset_name, data.dataset_dir, data.cache_dir)
  config = batch_size.resolve(flags.replace(config, **records))
  if output := config.run.find_learning_rate:
    find_learning_rate(config, output)
    return
  trainer.train(config, during_training.evaluator_of(config))


def find_learning_rate(config: Config, output: str) -> None:
  """Tries learning rates; writes the curve of the loss to OUTPUT.csv, .png and .svg."""
  from slim_inception.train import rate_finder

  curve = rate_finder.find(config)
  files.make_folder_of(output)
  rows = zip(curve.rates, curve.losses, curve.smoothed, strict=True)
  files.write_csv(f'{output}.csv', ('learning_rate', 'loss', 'smoothed_loss'), rows)
  console.say(curve.describe())
  try:
    from slim_inception.evaluate import rate_plot
  except ModuleNotFoundError as error:
    raise ValueError(
      f'{output}.csv is written; drawing needs matplotlib: pip install "slim-inception[plots]"'
    ) from error
  console.say(f'written to {", ".join([f"{output}.csv", *rate_plot.draw(curve, output)])}')
