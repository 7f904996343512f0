"""A data set of 100 classes without a download: the numbers 00 to 99, of two `digits` each.

A net takes longer to learn these than the ten digits alone, so that it can be told whether less
training does as well.
"""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from slim_inception.datasets import conversion, digits
from slim_inception.datasets.shard_job import Item, labels_of
from slim_inception.datasets.sources import Content

IMAGES_A_CLASS = {'train': 32, 'validation': 10}
SIDES = range(32, digits.SIZE // 2 + 1)  # of a digit, in pixels


def make_plan(
  source: str | None, options: conversion.Options, work_dir: Path | None = None
) -> conversion.Plan:
  """Two digits side by side on black, each of a size and at a place of its own in its half.

  Those of a split are of this split of `digits`, drawn by the seed. See `conversion.MakePlan`; a
  ValueError also says that scikit-learn is not installed.
  """
  plan = digits.make_plan(source, options, work_dir)
  random = np.random.default_rng(options.seed)
  pairs = [*itertools.product(range(len(plan.labels)), repeat=2)]
  splits: dict[str, list[Item]] = {}
  for split, count in IMAGES_A_CLASS.items():
    images: list[list[Image.Image]] = [[] for _ in plan.labels]
    for item in plan.splits[split]:
      images[labels_of(item)[0]].append(Image.open(io.BytesIO(item.source.read())))
    splits[split] = [
      Item(
        f'{split}_{plan.labels[left]}{plan.labels[right]}_{number:02d}.jpg',
        label,
        Content(_jpeg([images[each] for each in (left, right)], random)),
      )
      for label, (left, right) in enumerate(pairs)
      for number in range(count)
    ]
  labels = tuple(plan.labels[left] + plan.labels[right] for left, right in pairs)
  return conversion.Plan('two_digits', splits, labels, plan.num_shards)


def _jpeg(choices: Sequence[Sequence[Image.Image]], random: np.random.Generator) -> bytes:
  """An image with one of each of two lists, from left to right."""
  both = Image.new('RGB', (digits.SIZE, digits.SIZE))
  half = digits.SIZE // 2
  for number, images in enumerate(choices):
    image = images[int(random.integers(len(images)))]
    side = int(random.integers(SIDES.start, SIDES.stop))
    left, top = (int(random.integers(room - side + 1)) for room in (half, digits.SIZE))
    both.paste(image.resize((side, side)), (number * half + left, top))
  file = io.BytesIO()
  both.save(file, 'JPEG', quality=95)
  return file.getvalue()
