"""Small record sets of real JPEGs for the tests of training and evaluation."""

import io
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from slim_inception.datasets import records, shards


def image(label: int, number: int) -> bytes:
  """A JPEG whose colour tells its label, with noise that tells its number."""
  rng = np.random.default_rng(number)
  pixels = rng.integers(0, 60, (40, 48, 3)) + np.eye(3)[label % 3] * 190
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, 'JPEG')
  return file.getvalue()


def write_set(
  directory: pathlib.Path,
  *,
  count: int = 24,
  num_shards: int = 3,
  classes: int = 3,
  split: str = 'train',
  broken: tuple[int, ...] = (),
  image_of: Callable[[int, int], bytes] = image,
) -> pathlib.Path:
  """Writes shards and labels.txt, as slim's sets have them; labels cycle through the classes.

  The images whose numbers are in `broken` can not be decoded; `image_of` makes the others.
  """
  directory.mkdir(exist_ok=True)
  examples = [
    records.encode_example(
      b'no image' if i in broken else image_of(i % classes, i),
      label=i % classes,
      image_format='JPEG',
      height=40,
      width=48,
      filename=f'{i}.jpg',
    )
    for i in range(count)
  ]
  for shard in range(num_shards):
    name = shards.shard_name(split, shard, num_shards)
    shards.write_shard(directory / name, examples[shard::num_shards])
  (directory / 'labels.txt').write_text(''.join(f'{i}:color {i}\n' for i in range(classes)))
  return directory


def assert_same(batch, other) -> None:
  """All of two batches is equal, to the bit."""
  for key, value in batch.items():
    np.testing.assert_array_equal(value, other[key], err_msg=key)
