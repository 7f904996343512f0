"""Draws a net, or prints its table: blocks with shapes, parameters and multiply-adds.

  slim-inception show NAME [--full] [--output=FILE.svg]
  slim-inception show NAME --table [--json] [--image_size=N] [--depth_multiplier=X]

The drawing is made from the table of which the net itself is built. Equal blocks that follow each
other are drawn once, with their number; --full draws each. In a browser, pointing at a box of an
SVG shows what it is. NAME is one of the nets of slim-inception list.
"""

import dataclasses
import json

from slim_inception import flags
from slim_inception.draw import layout, svg
from slim_inception.nets import catalogue, summary


@dataclasses.dataclass(frozen=True)
class ShowConfig:
  """Drawing and table."""

  full: bool = flags.field(False, 'Draw every block, also equal ones that follow each other.')
  output: str | None = flags.field(
    None,
    'The drawing is written to this .svg file; by default to NAME.svg, and nowhere with --table or '
    '--json.',
    check=svg.check_name,
  )
  table: bool = flags.field(False, 'Print the table of the blocks.')
  json: bool = flags.field(False, 'Print the table as JSON, with every layer.')
  image_size: int | None = flags.field(
    None, "Height and width of the image in pixels; the net's own by default.", at_least=1
  )
  num_classes: int = flags.field(1001, 'Number of logits.', at_least=1)
  depth_multiplier: float = flags.field(
    1.0, 'Factor of the number of filters (inception_v3).', above=0
  )


def define_flags() -> None:
  flags.define(ShowConfig)


def main(argv: list[str]) -> None:
  config = flags.parse(ShowConfig, lambda values: flags.build(ShowConfig, values))
  if len(argv) > 2:
    raise flags.Error(f'unexpected argument {argv[2]!r}: one net at a time')
  name = argv[1]
  net = summary.summarize(name, config.image_size, config.num_classes, config.depth_multiplier)
  printed = config.table or config.json
  output = config.output if config.output or printed else f'{name}.svg'
  if output:
    drawing = layout.draw_net(net, catalogue.title(name), compressed=not config.full)
    svg.write(drawing, output)
  if config.json:
    print(json.dumps(summary.as_json(net), indent=2))
  elif config.table:
    print('\n'.join(summary.as_text(net)))
  else:
    print(f'written to {output}')
