"""1,797 real handwritten digits, which scikit-learn bundles: a data set without a download.

They are 8 x 8 greys (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998),
enlarged smoothly to 96 x 96 RGB JPEGs: a size that the Inception nets take.
"""

import functools
import io
from pathlib import Path
from typing import Any

from . import conversion, sources

SIZE = 96


def make_plan(
  source: str | None, options: conversion.Options, work_dir: Path | None = None
) -> conversion.Plan:
  """Every fifth digit of each class, in an order fixed by the seed, is for validation: 360.

  See `conversion.MakePlan`; a ValueError also says that scikit-learn is not installed.
  """
  if source:
    raise ValueError('digits come with scikit-learn: leave out --source')
  conversion.refuse(options, 'the classes of digits are known', 'labels')
  conversion.refuse(options, 'this is no list of images', *conversion.OF_LISTS)
  conversion.refuse(options, 'digits have a fixed split', 'validation_fraction')
  try:
    from sklearn.datasets import load_digits
  except ImportError as error:
    raise ValueError(
      "digits come with scikit-learn, which is not installed: pip install 'slim-inception[demo]'"
    ) from error
  digits = load_digits()
  items = [
    conversion.Item(f'digit_{index:04d}.jpg', int(label), sources.Content(_jpeg(image)))
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True))
  ]
  items = conversion.shuffled(items, options.seed, 'split')
  by_class = sorted(items, key=lambda item: item.label)  # stable
  return conversion.Plan(
    name='digits',
    splits={
      'train': [item for index, item in enumerate(by_class) if index % 5],
      'validation': by_class[::5],
    },
    labels=tuple('0123456789'),
    num_shards={'train': 4, 'validation': 1},
  )


def _jpeg(image: Any) -> bytes:
  """Encodes an 8 x 8 array of values 0 .. 16."""
  from PIL import Image

  grey = Image.fromarray((image * (255 / 16)).round().astype('uint8'))
  file = io.BytesIO()
  grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert('RGB').save(file, 'JPEG', quality=95)
  return file.getvalue()


convert = functools.partial(conversion.convert, make_plan)
