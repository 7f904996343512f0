"""Exports a checkpoint as a SavedModel, which takes files of images and returns names.

  slim-inception export --checkpoint_path=TRAIN_DIR --output=models/flowers/1

Signature serving_default takes image_bytes [N], files of images of any size; signature images
takes [N, image_size, image_size, C] in [-1, 1]. Both return names and probabilities of the five
most probable classes. --format=tflite and --format=onnx take such arrays and return the
probabilities of all classes, whose names are in labels.txt. Batch norm is folded in. What was
written is read back and compared with the checkpoint before it gets its name.
"""

from absl import logging

from slim_inception.cli import console as command_line
from slim_inception.export import export
from slim_inception.export.config import ExportConfig, resolve

_GONE: dict[str, str] = {}


def define_flags() -> None:
  command_line.define_flags(ExportConfig, _GONE)


def main(_: list[str]) -> None:
  wanted = command_line.flag_values(ExportConfig, resolve, _GONE)
  logging.set_verbosity(logging.ERROR)  # TensorFlow tells which names it gives to what it saves
  found = export.export(wanted)
  print(
    f'written to {wanted.output}; read back, on {found.images} images probabilities differ by '
    f'at most {found.difference:.1g} and the best class is the same on {found.agreement:.0%}'
  )
