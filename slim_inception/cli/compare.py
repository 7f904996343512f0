"""Compares runs: top-1 and top-5 error against epochs and against hours of training.

  slim-inception compare RUN [RUN...] [--output=comparison] [--labels=plain,residual]

A RUN is the train_dir of slim-inception train, and may still be in progress. Its evaluations are
those of the run itself (--eval_interval_epochs) and of slim-inception eval --follow; where both
have a step, the latter take precedence. Prints a table and writes it to OUTPUT.csv, and plots the
curves to OUTPUT.png and OUTPUT.svg (pip install "slim-inception[plots]").
"""

import dataclasses
import os
import sys
from collections.abc import Sequence

from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison


@dataclasses.dataclass(frozen=True)
class CompareConfig:
  """Comparison of runs."""

  output: str = flags.field(
    'comparison',
    'The table and the curves are written to this path with .csv, .png and .svg.',
    place=flags.Place.OUTPUT_PREFIX,
  )
  labels: tuple[str, ...] = flags.field(
    (),
    'The runs have these names in the table and the curves; by default those of their nets and '
    'folders.',
  )
  eval_dir: str | None = flags.field(
    None,
    'Only the evaluations in this folder of each run are compared; by default those that the run '
    'made itself and those that --follow wrote to its folder eval.',
    place=flags.Place.INPUT,
  )


def define_flags() -> None:
  flags.define(CompareConfig)


def main(argv: list[str]) -> None:
  config = flags.parse(CompareConfig)
  output = _without_suffix(config.output)
  labels = config.labels
  _check_labels(labels, len(argv) - 1)
  runs = comparison.read_runs([*map(files.local_path, argv[1:])], labels or None, config.eval_dir)
  evaluated = [run for run in runs if run.evaluations]
  notes = comparison.notes(runs)
  if not evaluated:
    raise ValueError(f'there is nothing to compare: {notes[0]}')
  console.say(*notes, file=sys.stderr)
  rows = comparison.table(runs)
  console.say(*comparison.text(rows))
  files.make_folder_of(output)
  comparison.write_csv(f'{output}.csv', rows)
  names = [run.name if labels else f'{run.net}  {run.name}' for run in evaluated]
  console.say(f'written to {", ".join([f"{output}.csv", *_draw(evaluated, names, output)])}')


def _check_labels(labels: Sequence[str], number: int) -> None:
  text = flags.as_text(labels)
  if labels and len(labels) != number:
    raise flags.Error(f'--labels={text} has {len(labels)} names for {number} runs')
  if len(set(labels)) < len(labels):
    raise flags.Error(f'--labels={text}: expected a different name for each run')


def _without_suffix(output: str) -> str:
  stem, suffix = os.path.splitext(output)
  if not os.path.basename(output):
    raise flags.Error(f'--output={output}: expected a path that ends with the name of the files')
  return stem if suffix in ('.csv', '.png', '.svg') else output


def _draw(runs: Sequence[comparison.Run], names: Sequence[str], output: str) -> list[str]:
  try:
    from slim_inception.evaluate import comparison_plot
  except ModuleNotFoundError as error:
    raise ValueError(
      f'{output}.csv is written; drawing needs matplotlib: pip install "slim-inception[plots]"'
    ) from error
  return comparison_plot.draw(runs, names, output)
