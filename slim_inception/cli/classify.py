"""Says what is in images, with one net or an ensemble.

  slim-inception classify husky.jpg photos 'more/**/*.png' --checkpoint_path=TRAIN_DIR
  slim-inception classify https://example.org/a.jpg --checkpoint_path=inception_v3.ckpt \\
    --model_name=inception_v3 --crops=12 --json=found.json

A IMAGE is a file, a folder (all images in it), a glob pattern, an address on the web or -,
standard input: one image, or a list of these, one a line. An image that can not be classified is
one line on stderr, the others are classified, and the exit status is 1. --explain=DIR writes each
image with a heat map of where its class was seen.
"""

import sys

from slim_inception.classify import run
from slim_inception.classify.config import ClassifyConfig, resolve
from slim_inception.cli import console as command_line

_GONE: dict[str, str] = {}


def define_flags() -> None:
  command_line.define_flags(ClassifyConfig, _GONE)


def main(argv: list[str]) -> None:
  wanted = command_line.flag_values(ClassifyConfig, resolve, _GONE)
  sys.stdout.reconfigure(errors='backslashreplace')  # whatever letters the terminal has
  if run.classify(argv[1:], wanted, complain):
    sys.exit(1)


def complain(line: str) -> None:
  print(f'slim-inception classify: {line}', file=sys.stderr)
