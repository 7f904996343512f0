"""Lists the nets with what they cost, their papers' figures, and checkpoints that others released.

  slim-inception list [--json | --markdown]

Published figures are the sources' own; --json names the source of each.
"""

import dataclasses
import json

from slim_inception import flags
from slim_inception.nets import catalogue


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
  config = flags.parse(ListConfig, lambda values: flags.build(ListConfig, values))
  if config.json:
    print(json.dumps(catalogue.as_json(), indent=2))
  else:
    print('\n'.join(catalogue.as_markdown() if config.markdown else catalogue.as_text()))
