"""Measures what storing an image costs: bytes, and how far decoded values are from its pixels.

  python benchmarks/benchmark_encodings.py

Photographs are generated (`slim_inception/bench/photographs.py`) at twice the size and reduced,
which takes the traces of their own JPEG away. `fast` is TensorFlow's default decoder of JPEGs,
`accurate` dct_method='INTEGER_ACCURATE', which gives what Pillow gives; PNGs have one decoder.
"""

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.bench import photographs  # noqa: E402

_IMAGES, _ROUNDS = 8, 5
_QUALITIES = (90, 95, 96, 97, 98, 99, 100)


def photograph(number: int) -> Image.Image:
  with Image.open(io.BytesIO(photographs.photograph(number, 1000, 750))) as image:
    return image.reduce(2)


def noise(number: int) -> Image.Image:
  values = np.random.default_rng(number).integers(0, 256, (375, 500, 3))
  return Image.fromarray(values.astype(np.uint8))


def encode(image: Image.Image, quality: int | None) -> bytes:
  file = io.BytesIO()
  if quality is None:
    image.save(file, 'PNG')
  else:
    image.save(file, 'JPEG', quality=quality, subsampling=0)
  return file.getvalue()


def measure(images: list[Image.Image], quality: int | None) -> None:
  import tensorflow as tf

  files = [encode(image, quality) for image in images]
  columns = [f'{sum(map(len, files)) / len(files) / 1e3:6.0f} kB']
  decoders: dict[str, Callable[[bytes], tf.Tensor]] = {
    'fast': lambda file: tf.io.decode_jpeg(file, 3),
    'accurate': lambda file: tf.io.decode_jpeg(file, 3, dct_method='INTEGER_ACCURATE'),
  }
  if quality is None:
    decoders = {'all': lambda file: tf.io.decode_png(file, 3)}
  for name, decode in decoders.items():
    seconds = []
    for _ in range(_ROUNDS):
      start = time.perf_counter()
      decoded = [decode(file).numpy() for file in files]
      seconds.append((time.perf_counter() - start) / len(files))
    errors = np.stack(decoded).astype(int) - np.stack([np.asarray(image) for image in images])
    columns.append(
      f'{name}: mean {np.abs(errors).mean():5.2f}, most {np.abs(errors).max():3}, '
      f'darker by {-errors.mean():.2f}, {min(seconds) * 1e3:4.1f} ms'
    )
  print(f'{"PNG" if quality is None else f"JPEG {quality}":8}', *columns, sep=' | ')


def main() -> None:
  for title, make in (('photographs', photograph), ('noise', noise)):
    print(title)
    images = [make(number) for number in range(_IMAGES)]
    for quality in (*_QUALITIES, None):
      measure(images, quality)


if __name__ == '__main__':
  main()
