"""Writes embeddings of images, by one net or several, to a CSV, NumPy or parquet file.

  slim-inception embed faces --checkpoint_path=20180402-114759-vggface2.pt \\
    --model_name=inception_resnet_v1 --normalize --output=faces.npy
  slim-inception embed 'photos/**/*.jpg' --checkpoint_path=TRAIN_DIR --output=photos.parquet

An IMAGE is a file, a folder (all images in it), an archive, a glob pattern, an address on the web
or -, standard input: one image, or a list of these, one a line. The embedding is what the net's
logits are made of, or an --end_point. An image that cannot be embedded is one line on stderr and
has no numbers in the output; the others are embedded, and the exit status is 1.
"""

import sys
import warnings

from slim_inception import flags
from slim_inception.cli import console, quiet
from slim_inception.embed.config import EmbedConfig, resolve


def define_flags() -> None:
  flags.define(EmbedConfig)


def main(argv: list[str]) -> None:
  request = flags.parse(EmbedConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception.embed import run

  warnings.filterwarnings('ignore', module=r'PIL\.')  # on broken EXIF and the like
  if run.embed(argv[1:], request, complain):
    sys.exit(1)


def complain(line: str) -> None:
  console.say(f'slim-inception embed: {line}', file=sys.stderr)
