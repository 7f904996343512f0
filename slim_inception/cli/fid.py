"""Measures generated images beside real ones: FID, KID, Inception Score, sFID, precision, recall.

  slim-inception fid photos samples --checkpoint_path=pt_inception-2015-12-05-6726825d.pth
  slim-inception fid photos --checkpoint_path=classify_image_graph_def.pb \\
    --save_statistics=photos.npz --figures=fid,sfid
  slim-inception fid photos.npz samples.npz --checkpoint_path=inception-2015-12-05.tgz

REAL and FAKE are folders, archives, patterns or records of images, or a .npz: of samples (arr_0),
or of statistics (mu, sigma) as pytorch-fid, clean-fid and --save_statistics write them. One set
alone has an Inception Score, and statistics. An image that cannot be read is one line on stderr;
the others are measured, and the exit status is 1.
"""

import sys
import warnings

from slim_inception import flags
from slim_inception.cli import console, quiet
from slim_inception.fid.config import FidConfig, resolve

_NAME = 'slim-inception fid'


def define_flags() -> None:
  flags.define(FidConfig)


def main(argv: list[str]) -> None:
  operands = argv[1:]
  if len(operands) > 2:
    raise flags.Error(f'{len(operands)} sets of images; expected REAL and FAKE, or one of them')
  config = flags.parse(FidConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception.fid import run

  warnings.filterwarnings('ignore', module=r'PIL\.')  # on broken EXIF and the like
  outcome = run.measure(operands, config, complain)
  for note in outcome.notes:
    complain(note)
  console.say(*'\n'.join(outcome.lines).split('\n'))
  if outcome.failed:
    sys.exit(1)


def complain(line: str) -> None:
  console.say(f'{_NAME}: {line}', file=sys.stderr)
