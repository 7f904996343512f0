"""Draws a net, or prints its table: blocks with shapes, parameters and multiply-adds.

  slim-inception show NAME [--full] [--output=FILE.svg|FILE.png]
  slim-inception show NAME --table [--json] [--image_size=N] [--depth_multiplier=X]

Images are drawn from the table that the net itself is built of. Equal blocks that follow each
other are drawn once, with their number; --full draws each. In a browser the boxes of an SVG say
what they are. Names are those of slim-inception list.
"""

import json

from absl import flags

from slim_inception.draw import files, layout
from slim_inception.nets import catalogue, summary


def define_flags() -> None:
  flags.DEFINE_bool('full', False, 'Draw every block, equal ones too.')
  flags.DEFINE_string(
    'output', None, 'File to draw, .svg or .png; NAME.svg by default, none with --table.'
  )
  flags.DEFINE_bool('table', False, 'Print the table.')
  flags.DEFINE_bool('json', False, 'Print the table as JSON, with every layer.')
  flags.DEFINE_integer('image_size', None, "Pixels a side; the net's own by default.")
  flags.DEFINE_integer('num_classes', 1001, 'Number of logits.')
  flags.DEFINE_float('depth_multiplier', 1.0, 'Factor of the filters (inception_v3).')


def main(argv: list[str]) -> None:
  values = flags.FLAGS
  if len(argv) > 2:
    raise flags.Error(f'unexpected argument {argv[2]!r}: one net at a time')
  if values.output is not None:
    _check_output(values.output)
  name = argv[1]
  net = summary.summarize(name, values.image_size, values.num_classes, values.depth_multiplier)
  printed = values.table or values.json
  output = values.output if values.output or printed else f'{name}.svg'
  if output:
    drawing = layout.draw_net(net, catalogue.title(name), compressed=not values.full)
    files.write(drawing, output)
  if values.json:
    print(json.dumps(summary.as_json(net), indent=2))
  elif values.table:
    print('\n'.join(summary.as_text(net)))
  else:
    print(f'written to {output}')


def _check_output(output: str) -> None:
  try:
    files.check(output)
  except ValueError as error:
    raise flags.Error(f'--output={error}') from error
