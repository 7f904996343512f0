"""A loss that is not finite by data alone: a net that overflows in float16 on white images."""

import io
import pathlib

import numpy as np
from PIL import Image
from slim_inception.nets import nets_factory

from tests import records, tiny


def write_set(directory: pathlib.Path, white: tuple[int, ...], **kwargs) -> pathlib.Path:
  """Images of one grey, in [-1, 1] almost 0, but white ones at some numbers."""

  def image(label: int, number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.full((40, 48, 3), 255 if number in white else 128, np.uint8)
    Image.fromarray(pixels).save(file, 'JPEG')
    return file.getvalue()

  return records.write_set(directory, image_of=image, **kwargs)


def write_checkpoint(path: pathlib.Path) -> str:
  """The first convolution gives 27 * 5000 for white, and float16 ends at 65504."""
  model = nets_factory.create_model(tiny.NAME, 3, image_size=32)
  rng = np.random.default_rng(0)
  weights = model.variables_by_name['InceptionTiny/Conv2d_1a_3x3/weights']
  weights.assign(rng.uniform(4900, 5100, weights.shape))
  model.save(str(path))
  return str(path)


def flags(checkpoint: str) -> dict:
  return {
    'checkpoint_path': checkpoint,
    'precision': 'float16',
    'recipe': 'slim',
    'optimizer': 'momentum',
    'weight_decay': 0.0,  # of weights of 5000 it would be the loss
    'distort_color': False,
    'save_interval_steps': 1,
  }
