"""Averages the weights of a run's last checkpoints, or of several runs (a soup).

  slim-inception average TRAIN_DIR [TRAIN_DIR...] --output=averaged.ckpt [--last=5]
  slim-inception average TRAIN_DIR TRAIN_DIR --last=1 --output=soup.ckpt \\
    --method=greedy --dataset_dir=RECORDS_OR_IMAGES

A RUN is a train_dir, whose latest checkpoints are taken, a checkpoint or weights of another
library, all of the same net and classes. uniform averages all of them. greedy starts with the one
that has the best top-1 accuracy on --dataset_split_name and tries the others in the order of
theirs: one is kept if the average with it is better (arXiv:2203.05482). Batch norm statistics are
averaged as the weights are, or estimated anew (--batch_norm_batches). The configuration of the
first run goes with the checkpoint, and says what went in.
"""

from slim_inception import flags
from slim_inception.average.config import AverageConfig, resolve
from slim_inception.cli import console, quiet


def define_flags() -> None:
  flags.define(AverageConfig)


def main(argv: list[str]) -> None:
  config = flags.parse(AverageConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception import files
  from slim_inception.average import averaging

  console.say(*averaging.average(config, [*map(files.local_path, argv[1:])]))
