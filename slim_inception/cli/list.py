"""Lists the nets: what they cost, their papers' figures, and checkpoints that others released.

  slim-inception list [--json | --markdown]

Published figures are the sources' own; --json names the source of each.
"""

import json

from absl import flags

from slim_inception.nets import catalogue


def define_flags() -> None:
  flags.DEFINE_bool('json', False, 'Print JSON, with sources.')
  flags.DEFINE_bool('markdown', False, 'Print the tables for a page, as in docs/nets.md.')


def main(_: list[str]) -> None:
  values = flags.FLAGS
  if values.json and values.markdown:
    raise flags.Error('--json and --markdown: choose one')
  if values.json:
    print(json.dumps(catalogue.as_json(), indent=2))
  else:
    print('\n'.join(catalogue.as_markdown() if values.markdown else catalogue.as_text()))
