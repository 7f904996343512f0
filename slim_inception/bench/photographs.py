"""Generated photographs: JPEGs with the statistics and the size of ImageNet's."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from slim_inception.datasets import dataset_info, records, shards

_LEAVES = 800


def photograph(number: int, width: int = 500, height: int = 375) -> bytes:
  """A JPEG of about 110 kB, as ImageNet's are on average.

  Leaves that have fallen on each other, their sizes by a power law, have edges, plain areas and a
  spectrum like photographs (Lee, Mumford and Huang 2001); a little noise is the sensor's.
  """
  rng = np.random.default_rng(number)
  pixels = np.empty((height, width, 3), np.float32)
  pixels[:] = rng.uniform(0, 255, 3)
  rows, columns = np.ogrid[:height, :width]
  for _ in range(_LEAVES):
    radius = min(width / 3, 4 * rng.random() ** -0.5)  # density ~ radius ** -3
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 1) for c in (y, x))
    inside = (rows[box[0]] - y) ** 2 + (columns[:, box[1]] - x) ** 2 < radius**2
    shade = 1 + 0.4 * (columns[:, box[1]] - x) / radius * inside  # lit from the right
    leaf = rng.uniform(20, 235, 3) * shade[..., np.newaxis]
    pixels[box] = np.where(inside[..., np.newaxis], leaf, pixels[box])
  pixels += rng.normal(0, 7, (height, width, 1)) + rng.normal(0, 3, pixels.shape)
  file = io.BytesIO()
  Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, 'JPEG', quality=92)
  return file.getvalue()


def write_records(
  directory: str | os.PathLike,
  *,
  num_images: int = 1024,
  num_distinct: int = 128,
  num_shards: int = 4,
  num_classes: int = 1001,
) -> None:
  """Writes split 'train' of a data set that any name reads as 'image_folder'.

  Args:
    directory: exists.
    num_images: records.
    num_distinct: images; the records repeat them.
    num_shards: files.
    num_classes: labels cycle through 1..num_classes - 1, as ImageNet's with its background.
  """
  images = [photograph(number) for number in range(min(num_distinct, num_images))]
  counts = [0] * num_classes
  examples = []
  for number in range(num_images):
    label = 1 + number % (num_classes - 1)
    counts[label] += 1
    examples.append(
      records.encode_example(
        images[number % len(images)], label=label, image_format='JPEG', height=375, width=500
      )
    )
  written = tuple(
    shards.write_shard(
      Path(directory, shards.shard_name('train', shard, num_shards)), examples[shard::num_shards]
    )
    for shard in range(num_shards)
  )
  split = dataset_info.Split(num_images, num_shards, tuple(counts), written)
  names = tuple(f'class {label}' for label in range(num_classes))
  dataset_info.write_info(
    directory, dataset_info.DatasetInfo('generated', {'train': split}, num_classes, names, 1)
  )
