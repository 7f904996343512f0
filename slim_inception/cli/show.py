"""Draws a net, or prints its table: blocks with shapes, parameters and multiply-adds.

  slim-inception show NAME [--full] [--output=FILE.svg]
  slim-inception show NAME --table [--json] [--image_size=N] [--depth_multiplier=X]

The drawing is made from the table of which the net itself is built. Equal blocks that follow each
other are drawn once, with their number; --full draws each. In a browser, pointing at a box of an
SVG shows what it is. NAME is one of the nets of slim-inception list.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from slim_inception import files, flags
from slim_inception.cli import console, quiet
from slim_inception.draw import svg

if TYPE_CHECKING:  # imports TensorFlow, as do imports in functions here: --help needs none
  from slim_inception.nets.summary import Summary


@dataclasses.dataclass(frozen=True)
class ShowConfig:
  """Drawing and table."""

  full: bool = flags.field(False, 'Draw every block, also equal ones that follow each other.')
  output: str | None = flags.field(
    None,
    'The drawing is written to this .svg file; by default to NAME.svg, and nowhere with --table or '
    '--json.',
    check=svg.check_name,
    place=flags.Place.OUTPUT_FILE,
  )
  table: bool = flags.field(False, 'Print the table of the blocks.')
  json: bool = flags.field(False, 'Print the table as JSON, with every layer.')
  image_size: int | None = flags.field(
    None, "The image has this height and width in pixels; by default the net's own.", at_least=1
  )
  num_classes: int | None = flags.field(
    None, "The net has so many logits; by default the net's own number.", at_least=1
  )
  depth_multiplier: float = flags.field(
    1.0, 'The number of filters has this factor, in nets that have one, e.g. inception_v3.', above=0
  )


def define_flags() -> None:
  flags.define(ShowConfig)


def main(argv: list[str]) -> None:
  config = flags.parse(ShowConfig, prepare=quiet.import_tensorflow)
  from slim_inception.draw import layout
  from slim_inception.nets import catalogue, summary

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
    print(json.dumps(as_json(net), indent=2))
  elif config.table:
    console.say(*table(net))
  else:
    console.say(f'written to {output}')


def table(net: 'Summary') -> list[str]:
  """A line for each block, and the totals."""
  from slim_inception.nets import summary

  blocks = [
    (b.scope, ', '.join(b.end_points), summary.written(b.shape), b.parameters, b.multiply_adds)
    for b in net.blocks
  ]
  totals = [('in all', '', '', net.parameters, net.multiply_adds)]
  if net.auxiliary:
    parameters, multiply_adds = net.auxiliary.parameters, net.auxiliary.multiply_adds
    totals = [
      ('without AuxLogits', '', '', net.parameters - parameters, net.multiply_adds),
      ('in all', '', '', net.parameters, net.multiply_adds + multiply_adds),
    ]
  head = ('block', 'end point', 'output', 'parameters', 'multiply-adds')
  rows = [(*words, f'{m:,}', f'{n:,}') for *words, m, n in (*blocks, *totals)]
  lines = files.text_table([head, *rows], left=(0, 1, 2))
  size, end = net.image_size, len(lines) - len(totals)
  title = f'{net.name}, {size} x {size} pixels, {net.num_classes} classes, one image'
  return [title, '', *lines[:end], '', *lines[end:]]


def as_json(net: 'Summary') -> dict[str, Any]:
  """The summary as plain types: a list of blocks, each with its layers."""
  return {
    'name': net.name,
    'image_size': net.image_size,
    'num_classes': net.num_classes,
    'parameters': net.parameters,
    'multiply_adds': net.multiply_adds,
    'multiply_adds_of_auxiliary_head': net.auxiliary.multiply_adds if net.auxiliary else 0,
    'blocks': [
      {
        'scope': f'{net.scope}/{block.scope}',
        'end_points': list(block.end_points),
        'shape': list(block.shape),
        'parameters': block.parameters,
        'multiply_adds': block.multiply_adds,
        'layers': [layer._asdict() for layer in block.layers],
      }
      for block in net.blocks
    ],
  }
