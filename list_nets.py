"""Lists the nets: what they cost, their papers' figures, and checkpoints that others released.

  python list_nets.py [--json | --markdown]

Published figures are the sources' own; --json names the source of each.
"""

import json

from absl import flags

import console as command_line
import quiet_tensorflow  # noqa: F401  before what imports TensorFlow
from nets import catalogue


def main(_: list[str]) -> None:
  values = flags.FLAGS
  if values.json and values.markdown:
    raise flags.Error('--json and --markdown: choose one')
  if values.json:
    print(json.dumps(catalogue.as_json(), indent=2))
  else:
    print('\n'.join(catalogue.as_markdown() if values.markdown else catalogue.as_text()))


def console() -> None:
  flags.DEFINE_bool('json', False, 'Print JSON, with sources.')
  flags.DEFINE_bool('markdown', False, 'Print the tables for a page, as in docs/nets.md.')
  command_line.run(main)


if __name__ == '__main__':
  console()
