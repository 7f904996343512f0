"""`slim-inception COMMAND`: a module of this folder for each command."""

import importlib
import sys
from typing import NamedTuple

import slim_inception
from slim_inception.cli import interrupts


class Command(NamedTuple):
  """One command.

  Attributes:
    module: file of this folder, with `define_flags`, `main` and a docstring, which is the help.
    summary: what it does, in one line.
    operands: what the arguments without `--` are called, of which at least one is needed.
  """

  module: str
  summary: str
  operands: str | None = None


COMMANDS = {
  'data': Command('data', 'converts a data set to records, or verifies records'),
  'doctor': Command('doctor', 'looks for what is wrong with a set of images'),
  'train': Command('train', 'trains or fine-tunes a net on records'),
  'eval': Command('eval', 'evaluates a checkpoint or an ensemble'),
  'robustness': Command('robustness', 'evaluates on ImageNet and its sisters, in one table'),
  'average': Command('average', 'averages the weights of checkpoints or runs', 'RUN'),
  'calibrate': Command('calibrate', 'makes probabilities mean what they say'),
  'report': Command('report', 'writes a run as a page: curves, times, starts', 'RUN'),
  'compare': Command('compare', 'compares runs, or two evaluations image by image', 'RUN'),
  'classify': Command('classify', 'says what is in images', 'IMAGE'),
  'embed': Command('embed', 'writes embeddings of images', 'IMAGE'),
  'probe': Command('probe', 'says what the features of a net are good for'),
  'fid': Command('fid', 'measures generated images: FID, KID and others', 'REAL'),
  'export': Command('export', 'writes a SavedModel, TFLite or ONNX classifier'),
  'convert': Command('convert', 'converts weights from and to other libraries'),
  'show': Command('show', 'draws a net, or prints its table', 'NET'),
  'list': Command('list', 'lists the nets and the released checkpoints'),
  'benchmark': Command('benchmark', 'measures training, inference, input and start'),
  'data-service': Command('data_service', 'runs a part of a tf.data service'),
}


def main(arguments: list[str] | None = None) -> None:
  """Runs a command and exits.

  Args:
    arguments: the command and its arguments; `sys.argv`'s by default.
  """
  name, *rest = (sys.argv[1:] if arguments is None else arguments) or ['--help']
  program = f'slim-inception {name}' if name in COMMANDS else 'slim-inception'
  with interrupts.ending_at_once(program):
    from slim_inception.cli import console

    if name in ('--help', '-help', '-h', 'help'):
      console.show(program, _help())
    if name == '--version':
      console.show(program, slim_inception.__version__)
    if name not in COMMANDS:
      console.fail(program, f'no command {name!r}: {", ".join(COMMANDS)}', 2)
    command = COMMANDS[name]
    module = importlib.import_module(f'slim_inception.cli.{command.module}')
    console.run(module, [program, *rest], command.operands)


def _help() -> str:
  width = max(map(len, COMMANDS))
  rows = [f'  {name:{width}}  {command.summary}' for name, command in COMMANDS.items()]
  return '\n'.join(
    [
      'The Inception family in TensorFlow.',
      '',
      '  slim-inception COMMAND [--flag=value ...]',
      '  slim-inception COMMAND --help',
      '',
      *rows,
    ]
  )
