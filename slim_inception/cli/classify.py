"""Says what is in images, with one net or an ensemble.

  slim-inception classify husky.jpg photos 'more/**/*.png' --checkpoint_path=TRAIN_DIR
  slim-inception classify https://example.org/a.jpg --checkpoint_path=inception_v3.ckpt \\
    --model_name=inception_v3 --crops=12 --json=found.json

An IMAGE is a file, a folder (all images in it), a glob pattern, an address on the web or -,
standard input: one image, or a list of these, one a line. An image that cannot be classified is
one line on stderr, the others are classified, and the exit status is 1. --explain=DIR writes each
image with a heat map of where its class was seen.
"""

import sys
import warnings

from slim_inception import choices, flags
from slim_inception.classify.config import ClassifyConfig, resolve
from slim_inception.cli import console, quiet

_REMOVED = choices.renamed('member_weights', 'weights')


def define_flags() -> None:
  flags.define(ClassifyConfig, _REMOVED)


def main(argv: list[str]) -> None:
  request = flags.parse(ClassifyConfig, resolve, _REMOVED, quiet.import_tensorflow)
  from slim_inception.classify import run

  warnings.filterwarnings('ignore', module=r'PIL\.')  # on broken EXIF and the like
  if run.classify(argv[1:], request, complain):
    sys.exit(1)


def complain(line: str) -> None:
  console.say(f'slim-inception classify: {line}', file=sys.stderr)
