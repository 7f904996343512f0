"""Writes a run as one HTML page: curves, times, starts, evaluations and flags.

  slim-inception report TRAIN_DIR [--output=report.html]

TRAIN_DIR is the folder of a run of slim-inception train, which may still be in progress. The page
needs no network: it has curves of loss, accuracy, learning rate, throughput and waiting for input,
where the time went, every start with what was restored and what began fresh, ways back, evaluations
with their intervals, where the data come from, and the flags that differ from the recipe. Several
runs are compared by slim-inception compare, an evaluation's page is that of slim-inception eval
--report.
"""

import dataclasses
import os

from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.evaluate import run_report

NAME = 'report.html'


@dataclasses.dataclass(frozen=True)
class ReportConfig:
  """Report of a run."""

  output: str | None = flags.field(
    None,
    f'The page is written to this file; by default to {NAME} in the train_dir.',
    place=flags.Place.OUTPUT_FILE,
  )


def define_flags() -> None:
  flags.define(ReportConfig)


def main(argv: list[str]) -> None:
  config = flags.parse(ReportConfig)
  paths = [*map(files.local_path, argv[1:])]
  if len(paths) > 1:
    raise flags.Error('a report is of one run; slim-inception compare takes several')
  output = config.output or os.path.join(paths[0], NAME)
  run = run_report.read(paths[0])
  files.make_folder_of(output)
  run_report.write(run, output)
  console.say(f'written to {output}')
