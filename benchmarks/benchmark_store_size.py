"""Measures what `--store_size` does: rate of the input of training, bytes, and pixels of the view.

  python benchmarks/benchmark_store_size.py [STORE_SIZE ...]

Photographs of 1024 x 768 pixels are generated (`slim_inception/bench/photographs.py`) and converted
as they are and with each size. The inputs of training run by turns; what counts is the processor
time of all threads, which other programs do not change. Pixels are those of the 299 x
299 view of evaluation, compared with the view of the images as they were: that of slim, bilinear
without antialiasing, and one with antialiasing (`--resize=aspect`).
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import (  # noqa: E402
  conversion,
  dataset_factory,
  image_folder,
  records,
  shards,
)

from slim_inception.bench import photographs, timing  # noqa: E402

_IMAGES, _SIDES = 100, (1024, 768)
_SIDE, _BATCH = 299, 32
_ROUNDS, _BATCHES, _PASSED = 3, 24, 4  # batches of a round that count, and before them


def main(sizes: list[int]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    for name in 'ab':  # classes
      (root / 'photographs' / name).mkdir(parents=True)
    with futures.ProcessPoolExecutor() as pool:
      for number, content in enumerate(pool.map(_photograph, range(_IMAGES))):
        (root / 'photographs' / 'ab'[number % 2] / f'{number:04}.jpg').write_bytes(content)
    stores = {'as they are': None, **{f'--store_size={size}': size for size in sizes}}
    for name, size in stores.items():
      options = conversion.Options(store_size=size, validation_fraction=0)
      image_folder.convert(str(root / 'photographs'), root / name, options)
    times = timing.take_turns([_input(root / name) for name in stores], _ROUNDS)
    whole = list(_views(root / 'as they are'))
    for (name, size), of_size in zip(stores.items(), times, strict=True):
      ratios = [first / own for first, own in zip(times[0].rounds, of_size.rounds, strict=True)]
      print(
        f'{name}: {1e3 * of_size.median / _BATCH:.2f} ms of processor time an image, '
        f'{statistics.median(ratios):.2f} times as fast as the first ({min(ratios):.2f} to '
        f'{max(ratios):.2f}), {_bytes(root / name):.0f} kB'
      )
      if size:
        print(*_compare(whole, _views(root / name)), sep='\n')


def _photograph(number: int) -> bytes:
  return photographs.photograph(number, *_SIDES)


def _input(folder: Path) -> timing.Program:
  """The input of training of a folder of records."""
  from slim_inception.preprocessing import preprocessing_factory
  from slim_inception.preprocessing.inception_preprocessing import Distortion

  from slim_inception.input.pipeline import InputOptions, Source, record_batches

  dataset = dataset_factory.get_dataset('image_folder', 'train', folder)
  source = Source(dataset, preprocessing_factory.get('inception'), Distortion())

  def run_round() -> float:
    # Anew in each round: what waits for its turn would make batches meanwhile.
    batches = iter(record_batches(source, InputOptions(_SIDE, _BATCH)))
    for _ in range(_PASSED):
      next(batches)
    begin = time.process_time()
    for _ in range(_BATCHES):
      next(batches)
    return (time.process_time() - begin) / _BATCHES

  return timing.Program(run_round(), _BATCHES, run_round)


def _bytes(folder: Path) -> float:
  """kB of a record."""
  return sum(path.stat().st_size for path in folder.glob('train-*')) / _IMAGES / 1e3


def _views(folder: Path) -> Iterator[dict[str, np.ndarray]]:
  """The views of the images, values 0 to 255, in the order of their names."""
  import tensorflow as tf
  from slim_inception.preprocessing import preprocessing_factory

  preprocessing = preprocessing_factory.get('inception')
  encoded = {}
  for path in shards.find_shards(folder, 'train'):
    for record in shards.read_shard(path):
      example = records.decode_features(record.data)
      encoded[example['image/filename'][0]] = example['image/encoded'][0]
  for name in sorted(encoded):
    image = preprocessing.decode(encoded[name])
    slim = (preprocessing.eval_view(image, _SIDE, _SIDE) + 1) * 127.5
    seen = tf.image.central_crop(image, preprocessing.crop_fraction)
    smooth = tf.image.resize(seen, [_SIDE, _SIDE], antialias=True)
    yield {'slim': slim.numpy(), 'antialiasing': smooth.numpy()}


def _compare(
  whole: list[dict[str, np.ndarray]], stored: Iterator[dict[str, np.ndarray]]
) -> Iterator[str]:
  stored = list(stored)
  for name in whole[0]:
    errors = np.stack([own[name] - of[name] for own, of in zip(stored, whole, strict=True)])
    psnr = 10 * np.log10(255**2 / np.square(errors).mean((1, 2, 3)))
    yield (
      f'  view of {name}: PSNR {psnr.mean():.1f} dB (least {psnr.min():.1f}), mean difference '
      f'{np.abs(errors).mean():.2f} of 255, darker by {-errors.mean():.2f}'
    )


if __name__ == '__main__':
  main([int(size) for size in sys.argv[1:]] or [400])
