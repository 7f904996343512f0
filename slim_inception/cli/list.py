"""Lists the nets with what they cost, their papers' figures, and checkpoints that others released.

  slim-inception list [--json | --markdown]

Published figures are the sources' own; --json names the source of each.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from slim_inception import files, flags
from slim_inception.cli import quiet

if TYPE_CHECKING:  # imports TensorFlow, as do imports in functions here: --help needs none
  from slim_inception.nets.net import Net


@dataclasses.dataclass(frozen=True)
class ListConfig:
  """Form of the list."""

  json: bool = flags.field(False, 'Print the list as JSON, with the sources of the figures.')
  markdown: bool = flags.field(False, 'Print the list as the Markdown tables of docs/nets.md.')

  def __post_init__(self) -> None:
    if self.json and self.markdown:
      raise ValueError('--json and --markdown: choose one')


def define_flags() -> None:
  flags.define(ListConfig)


def main(_: list[str]) -> None:
  config = flags.parse(ListConfig, prepare=quiet.import_tensorflow)
  if config.json:
    print(json.dumps(as_json(), indent=2))
  else:
    print('\n'.join(as_markdown() if config.markdown else as_text()))


def as_text() -> list[str]:
  """Two tables, of the nets and of the checkpoints."""
  return [
    'Nets: parameters with and without the auxiliary head, for 1001 classes (ResNet-v1: 1000); G:',
    "billions of multiply-adds for one image; the authors' errors in % on ImageNet's validation",
    'set, top-1 / top-5 (one crop of Inception nets: 48,238 images, else 50,000; of ResNet-v2-200:',
    '320 x 320 pixels)',
    '',
    *files.text_table(_net_rows(), left=(0, 5, 6, 7, 8, 9)),
    '',
    "Checkpoints: accuracy in % on ImageNet's validation set, one crop, as published",
    '',
    *files.text_table(_checkpoint_rows(), left=(0, 1, 2, 7, 8)),
  ]


def as_markdown() -> list[str]:
  """The two tables for a page."""
  nets, checkpoints = (files.markdown_table(rows) for rows in (_net_rows(), _checkpoint_rows()))
  return [*nets, '', *checkpoints]


def _net_rows() -> list[tuple[str, ...]]:
  """The head and a row for each net."""
  from slim_inception.nets import nets_factory, summary

  rows: list[tuple[str, ...]] = [
    (
      'net',
      'size',
      'parameters',
      'without',
      'G',
      'paper',
      'one crop',
      '10 crops',
      '12 crops',
      '144 crops',
    )
  ]
  for name, entry in nets_factory.NETS.items():
    net, paper = summary.summarize(name), entry.paper
    without = net.parameters - (net.auxiliary.parameters if net.auxiliary else 0)
    counts = f'{net.parameters:,}', f'{without:,}', f'{net.multiply_adds / 1e9:.2f}'
    cells = [''] * 5
    if paper:
      errors = paper.one_crop, paper.crops_10, paper.crops_12, paper.crops_144
      cells = [paper.reference, *(f'{e.top_1} / {e.top_5}' if e else '' for e in errors)]
    rows.append((name, str(net.image_size), *counts, *cells))
  return rows


def _checkpoint_rows() -> list[tuple[str, ...]]:
  """The head and a row for each checkpoint."""
  from slim_inception.nets import catalogue

  rows: list[tuple[str, ...]] = [
    ('checkpoint', 'net', 'by', 'top-1', 'top-5', 'outputs', 'size', 'images', 'remark')
  ]
  for c in catalogue.CHECKPOINTS:
    figures = _shown(c.top_1), _shown(c.top_5), str(c.outputs), str(c.image_size)
    rows.append((c.name, c.net, c.by, *figures, c.images, c.remark))
  return rows


def _shown(accuracy: float | None) -> str:
  """The source's digits, one behind the point at least."""
  return '' if accuracy is None else max(f'{accuracy:g}', f'{accuracy:.1f}', key=len)


def as_json() -> dict[str, Any]:
  """Nets with what they cost and their papers, and checkpoints; each with its source."""
  from slim_inception.nets import catalogue, nets_factory

  return {
    'nets': [_net_as_json(net) for net in nets_factory.NETS.values()],
    'checkpoints': [checkpoint._asdict() for checkpoint in catalogue.CHECKPOINTS],
  }


def _net_as_json(entry: 'Net') -> dict[str, Any]:
  from slim_inception.nets import summary
  from slim_inception.nets.net import Errors

  net = summary.summarize(entry.name)
  paper = entry.paper._asdict() if entry.paper else None
  if paper:
    paper |= {key: value._asdict() for key, value in paper.items() if isinstance(value, Errors)}
  return {
    'name': entry.name,
    'image_size': net.image_size,
    'parameters': net.parameters,
    'parameters_of_auxiliary_head': net.auxiliary.parameters if net.auxiliary else 0,
    'multiply_adds': net.multiply_adds,
    'paper': paper,
  }
