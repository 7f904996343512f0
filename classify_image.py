"""Says what is in pictures, with one net or an ensemble.

  python classify_image.py husky.jpg photos 'more/**/*.png' --checkpoint_path=TRAIN_DIR
  python classify_image.py https://example.org/a.jpg --checkpoint_path=inception_v3.ckpt \\
    --model_name=inception_v3 --crops=12 --json=found.json

A PICTURE is a file, a folder (all pictures in it), a glob pattern, an address on the web or -,
standard input: one picture, or a list of these, one a line. A picture that can not be classified is
one line on stderr, the others are classified, and the exit status is 1. --explain=DIR writes each
picture with a heat map of where its class was seen.
"""

import sys

import console as command_line
import quiet_tensorflow  # noqa: F401  before what imports TensorFlow
from classification import run
from classification.config import ClassifyConfig, resolve

_GONE: dict[str, str] = {}


def main(argv: list[str]) -> None:
  wanted = command_line.flag_values(ClassifyConfig, resolve, _GONE)
  sys.stdout.reconfigure(errors='backslashreplace')  # whatever letters the terminal has
  if run.classify(argv[1:], wanted, complain):
    sys.exit(1)


def complain(line: str) -> None:
  print(f'classify_image: {line}', file=sys.stderr)


def console() -> None:
  command_line.define_flags(ClassifyConfig, _GONE)
  command_line.run(main, operands='PICTURE')


if __name__ == '__main__':
  console()
