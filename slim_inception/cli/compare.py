"""Compares runs, or two evaluations of the same images.

  slim-inception compare RUN [RUN...] [--output=comparison] [--labels=plain,residual]
  slim-inception compare EVAL_DIR EVAL_DIR [--output=comparison] [--labels=plain,residual]

A RUN is the train_dir of slim-inception train, and may still be in progress. Its evaluations are
those of the run itself (--eval_interval_epochs) and of slim-inception eval --follow; where both
have a step, the latter take precedence. Prints the flags in which the runs differ and a table,
which it also writes to OUTPUT.csv, and plots the curves to OUTPUT.png and OUTPUT.svg (pip install
"slim-inception[plots]").

An EVAL_DIR is the folder that slim-inception eval wrote, or its predictions.csv. The two are
compared image by image, over all images and in each class, and what comes out is whether the
difference is real: McNemar's exact test and the paired bootstrap. Writes the classes to OUTPUT.csv
and the images that one gets and the other does not to OUTPUT_images.csv.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence

from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.evaluate import comparison, paired


@dataclasses.dataclass(frozen=True)
class CompareConfig:
  """Comparison of runs or evaluations."""

  output: str = flags.field(
    'comparison',
    'The tables and the curves are written to this path with .csv, .png and .svg; of two '
    'evaluations _images.csv too.',
    place=flags.Place.OUTPUT_PREFIX,
  )
  labels: tuple[str, ...] = flags.field(
    (),
    'The runs or evaluations have these names in tables and curves; by default those of their nets '
    'and folders.',
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
  labels, paths = config.labels, [*map(files.local_path, argv[1:])]
  _check_labels(labels, len(paths))
  evaluations = [path for path in paths if paired.is_evaluation(path)]
  if evaluations and len(evaluations) < len(paths):
    other = next(path for path in paths if path not in evaluations)
    raise ValueError(
      f'{evaluations[0]} is an evaluation and {other} has no predictions.csv: compare runs with '
      'runs and evaluations with evaluations'
    )
  if evaluations:
    if config.eval_dir is not None:
      raise flags.Error(f'--eval_dir={config.eval_dir} is for runs, not for evaluations')
    _compare_images(paths, labels, output)
  else:
    _compare_runs(paths, config, output)


def _compare_images(paths: Sequence[str], labels: Sequence[str], output: str) -> None:
  """Compares two evaluations image by image."""
  first, second = paired.read(paths, labels or None)
  pair = paired.match(first, second)
  if pair.only_first or pair.only_second:
    console.say(
      f'the evaluations are not of the same images: {pair.only_first} are in {first.path} alone, '
      f'{pair.only_second} in {second.path} alone; compared on the {len(pair.first.filenames)} in '
      'both',
      file=sys.stderr,
    )
  class_names = {**second.names, **first.names}
  totals, classes = paired.overall(pair, len(class_names)), paired.by_class(pair)
  console.say(*paired.text((first.name, second.name), totals, classes, class_names))
  files.make_folder_of(output)
  paired.write_classes(f'{output}.csv', totals, classes, class_names)
  paired.write_images(f'{output}_images.csv', pair, class_names)
  console.say(f'written to {output}.csv, {output}_images.csv')


def _compare_runs(paths: Sequence[str], config: CompareConfig, output: str) -> None:
  """Compares runs by their curves."""
  labels = config.labels
  runs = comparison.read_runs(paths, labels or None, config.eval_dir)
  evaluated = [run for run in runs if run.evaluations]
  notes = comparison.notes(runs)
  if not evaluated:
    raise ValueError(f'there is nothing to compare: {notes[0]}')
  console.say(*notes, file=sys.stderr)
  rows = comparison.table(runs)
  if differing := comparison.differing_flags(paths):
    header = ('flags that differ', *(run.name for run in runs))
    console.say(*files.text_table([header, *differing], left=range(len(header))), '')
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
    raise flags.Error(f'--labels={text}: expected a different name for each')


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
