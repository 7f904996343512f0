"""Looks for what is wrong with a set of images: duplicates, leaks, labels, odd images, imbalance.

  slim-inception doctor --dataset_dir=DIR --output_dir=doctor
  slim-inception doctor --source=photos --output_dir=doctor --checkpoint_path=inception_v3.ckpt \\
    --model_name=inception_v3

Writes doctor.html, one page with thumbnails, and problems.csv, whose images --exclude_list of
slim-inception data and eval leaves out. Labels are looked at where there is a --checkpoint_path,
whose net makes embeddings: best of a net that was trained on other images. --dataset_dir=A,B looks
at several sets as one, and writes a table for each. One line a figure on stdout.
"""

import warnings

from absl import flags as absl_flags

from slim_inception import flags
from slim_inception.cli import console, quiet
from slim_inception.doctor.config import DoctorConfig, resolve


def define_flags() -> None:
  flags.define(DoctorConfig)


def main(_: list[str]) -> None:
  request = flags.parse(DoctorConfig, resolve, prepare=_prepare)
  from slim_inception.doctor import run

  warnings.filterwarnings('ignore', module=r'PIL\.')  # on broken EXIF and the like
  console.say(*run.examine(request), f'written to {request.config.results.output_dir}')


def _prepare() -> None:
  """Without a net there is no need for TensorFlow, whose import takes seconds."""
  if absl_flags.FLAGS.checkpoint_path is not None:
    quiet.import_tensorflow()
