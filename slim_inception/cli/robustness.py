"""Evaluates a checkpoint on ImageNet and its sisters: V2, A, R, Sketch, O, C, ReaL, ObjectNet.

  slim-inception robustness --checkpoint_path=inception_v3.ckpt --model_name=inception_v3 \\
    --sets=records/imagenet,records/imagenet_v2,imagenet-a.tar --real_labels=real.json

Prints one table of all sets that are there, with 95 % intervals and beside timm's figures of the
same net, and writes it to OUTPUT.csv, .json, .html and .md (Markdown). What is wrong with a set
before the net has seen an image ends the command at once; a set that then cannot be read to its end
is left out and named, and the exit status is 1.
"""

import sys

from slim_inception import files, flags
from slim_inception.cli import console, quiet
from slim_inception.evaluate.robustness_config import RobustnessConfig, resolve


def define_flags() -> None:
  flags.define(RobustnessConfig)


def main(_: list[str]) -> None:
  request = flags.parse(RobustnessConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception.evaluate import robustness, robustness_table

  table = robustness.evaluate(request)
  rows = [*robustness_table.cells(table.rows, table.published)]
  console.say(*files.text_table(rows, left=(0, 1)))
  console.say(*robustness_table.notes(table.rows), file=sys.stderr)
  written = robustness_table.write(request.config.output.output, *table)
  console.say(f'written to {", ".join(written)}')
  if failed := table.facts['failed']:
    left_out = '; '.join(f'{name}: {reason}' for name, reason in failed.items())
    raise ValueError(f'{len(failed)} of {len(table.facts["sets"])} sets are left out: {left_out}')
