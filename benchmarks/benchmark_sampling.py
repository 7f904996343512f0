"""Measures how fast records are drawn by class, compared with the usual order, and the index.

  python benchmarks/benchmark_sampling.py --folder=DIR [--images=20000] [--rounds=5]

It writes records of generated JPEGs of about 110 kB in 100 classes, and reads them by turns in the
order of `record_order` and balanced by `sampling`: as they are, and decoded and cropped for
training.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import time
from pathlib import Path

import tensorflow as tf

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import record_index, records, shards  # noqa: E402
from slim_inception.datasets.dataset_factory import Dataset  # noqa: E402
from slim_inception.preprocessing import preprocessing_factory  # noqa: E402
from slim_inception.preprocessing.inception_preprocessing import Distortion  # noqa: E402

from slim_inception.bench import photographs  # noqa: E402
from slim_inception.input import pipeline, record_order, sampling  # noqa: E402

_CLASSES = 100
_SHARDS = 8


def write_records(folder: Path, count: int) -> Dataset:
  """Records of which 100 images are different."""
  folder.mkdir(parents=True, exist_ok=True)
  contents = [photographs.photograph(number) for number in range(100)]
  sizes = [count // _SHARDS] * _SHARDS
  paths = [folder / shards.shard_name('train', number, _SHARDS) for number in range(_SHARDS)]
  for path, size in zip(paths, sizes, strict=True):
    shards.write_shard(
      path,
      (
        records.encode_example(
          contents[i % 100], label=i % _CLASSES, image_format='JPEG', height=1, width=1
        )
        for i in range(size)
      ),
    )
  names = tuple(map(str, paths))
  ends = 0, _CLASSES - 1
  return Dataset('x', 'train', names, sum(sizes), _CLASSES, {}, ends, shard_sizes=tuple(sizes))


def rate(elements: tf.data.Dataset, batches: int, batch_size: int) -> float:
  """Images a second, after the first batch."""
  iterator = iter(elements)
  next(iterator)
  begin = time.perf_counter()
  for _ in itertools.islice(iterator, batches):
    pass
  return batches * batch_size / (time.perf_counter() - begin)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=Path, required=True)
  parser.add_argument('--images', type=int, default=20_000)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--batch_size', type=int, default=64)
  arguments = parser.parse_args()
  dataset, size = write_records(arguments.folder, arguments.images), arguments.batch_size
  begin = time.perf_counter()
  record_index.read(dataset.paths, 'train', dataset.schema)
  seconds = time.perf_counter() - begin
  print(f'index: {seconds / dataset.num_samples * 1e6:.1f} us a record')

  balanced = sampling.Sampling(balanced=True)
  source = pipeline.Source(dataset, preprocessing_factory.get('inception'), Distortion())
  options = pipeline.InputOptions(image_size=299, batch_size=size)

  def as_they_are(chosen: sampling.Sampling) -> tf.data.Dataset:
    drawn = (
      record_order.records_from(dataset, seed=0, first=0, num_readers=4, window=4096)
      if chosen.is_uniform
      else sampling.records_from(dataset, chosen, seed=0, first=0)
    )
    return drawn.batch(size).prefetch(2)

  def decoded(chosen: sampling.Sampling) -> tf.data.Dataset:
    return pipeline.record_batches(source, dataclasses.replace(options, sampling=chosen))

  for what, make, batches in (('as they are', as_they_are, 200), ('decoded', decoded, 40)):
    rates = [
      [rate(make(chosen), batches, size) for chosen in (sampling.UNIFORM, balanced)]
      for _ in range(arguments.rounds)
    ]
    for name, column in zip(('uniform', 'balanced'), zip(*rates, strict=True), strict=True):
      low, high = min(column), max(column)
      print(
        f'{what}, {name}: {statistics.median(column):,.0f} images/s ({low:,.0f} to {high:,.0f})'
      )


if __name__ == '__main__':
  main()
