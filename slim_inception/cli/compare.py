"""Compares runs: top-1 and top-5 error against epochs and against hours of training.

  slim-inception compare RUN [RUN...] [--output=comparison] [--labels=plain,residual]

A RUN is the train_dir of slim-inception train, and may still be going on. Its evaluations are
those of the run itself (--eval_interval_epochs) and of slim-inception eval --follow; where both
have a step the latter count. Prints a table and writes it to OUTPUT.csv, and the curves to
OUTPUT.png and OUTPUT.svg (pip install "slim-inception[plots]").
"""

import os
import sys
from collections.abc import Sequence

from absl import flags

from slim_inception.evaluate import comparison


def define_flags() -> None:
  flags.DEFINE_string('output', 'comparison', 'Path of the files that are written, without suffix.')
  flags.DEFINE_string(
    'labels', None, "Names of the runs, with commas; by default their nets' and folders'."
  )
  flags.DEFINE_string(
    'eval_dir',
    None,
    'Folder in each run with the evaluations of --follow, which alone are taken then; by default '
    "the run's own and those in eval.",
  )


def main(argv: list[str]) -> None:
  values = flags.FLAGS
  output = _without_suffix(values.output)
  labels = _labels(values.labels, len(argv) - 1)
  runs = comparison.read_runs(argv[1:], labels, values.eval_dir)
  evaluated = [run for run in runs if run.evaluations]
  notes = comparison.notes(runs)
  if not evaluated:
    raise ValueError(f'there is nothing to compare: {notes[0]}')
  for line in notes:
    print(line, file=sys.stderr)
  rows = comparison.table(runs)
  print('\n'.join(comparison.text(rows)))
  os.makedirs(os.path.dirname(output) or '.', exist_ok=True)
  comparison.write_csv(f'{output}.csv', rows)
  names = [run.name if labels else f'{run.net}  {run.name}' for run in evaluated]
  print('written to', ', '.join([f'{output}.csv', *_draw(evaluated, names, output)]))


def _labels(text: str | None, number: int) -> list[str] | None:
  if text is None:
    return None
  labels = [label.strip() for label in text.split(',')]
  if len(labels) != number:
    raise flags.Error(f'--labels={text} has {len(labels)} names for {number} runs')
  if not all(labels) or len(set(labels)) < number:
    raise flags.Error(f'--labels={text}: expected a different name for each run')
  return labels


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
