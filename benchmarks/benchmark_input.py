"""Measures the parts of the input of training: processor time of an image in each.

  python benchmarks/benchmark_input.py

Photographs of 500 x 375 pixels are generated (`slim_inception/bench/photographs.py`). Operations on
an image run one after the other in one thread; of several rounds the least counts, which other
programs change least. Prints milliseconds of processor time.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.preprocessing import inception_preprocessing as preprocessing
from slim_inception.preprocessing import preprocessing_factory

from slim_inception.bench import photographs
from slim_inception.input import pipeline

_PHOTOGRAPHS, _SIDE, _BATCH, _ROUNDS = 24, 299, 32, 5
_IMAGES = 192  # of a round
_DISTORTION = preprocessing.Distortion()
_LAST_ROWS = (359, 0, 16, 500)  # of an image: top, left, height, width
_LAST_PIXELS = (359, 484, 16, 16)

# What is done with the file of an image and its seed; uint8 or float32 [h, w, 3].
Part = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def main() -> None:
  tf.config.threading.set_intra_op_parallelism_threads(1)
  files = tf.constant([photographs.photograph(number) for number in range(_PHOTOGRAPHS)])
  for name, part in parts().items():
    print(f'{name}: {of_part(part, files):.3f} ms', flush=True)
  with tempfile.TemporaryDirectory() as folder:
    photographs.write_records(folder)
    dataset = dataset_factory.get_dataset('image_folder', 'train', folder)
    for name, records in streams(dataset).items():
      print(f'{name}: {of_stream(records):.3f} ms', flush=True)


def parts() -> dict[str, Part]:
  """Parts of the work on an image, each with what comes before it."""

  def crop(file: tf.Tensor, window: tf.Tensor, fancy: bool = True) -> tf.Tensor:
    return tf.io.decode_and_crop_jpeg(file, window, channels=3, fancy_upscaling=fancy)

  def sampled(file: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(file)
    return preprocessing._crop_window(shape, tf.zeros([0, 4]), seed, _DISTORTION)

  def whole(file: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(file, 3)

  def fixed(window: tuple[int, ...]) -> Part:
    # The seed keeps TensorFlow from doing it once for all.
    return lambda file, seed: crop(file, tf.constant(window) + 0 * seed[0])

  def all_of_it(file: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    boxes = tf.zeros([0, 4])
    return preprocessing.train_host(file, _SIDE, _SIDE, boxes, seed, _DISTORTION)

  return {
    'sampling a window': lambda file, seed: tf.reshape(sampled(file, seed), [4, 1, 1]),
    'decoding, whole': whole,
    'decoding the last 16 rows': fixed(_LAST_ROWS),
    'decoding the last 16 x 16 pixels': fixed(_LAST_PIXELS),
    'window and decoding the crop': lambda file, seed: crop(file, sampled(file, seed)),
    'the same, plain upscaling': lambda file, seed: crop(file, sampled(file, seed), fancy=False),
    'the same, as float32': lambda file, seed: tf.cast(crop(file, sampled(file, seed)), tf.float32),
    'window, crop, resizing': all_of_it,
  }


def of_part(part: Part, files: tf.Tensor) -> float:
  """Milliseconds of an image."""

  def one(number: tf.Tensor) -> tf.Tensor:
    pixels = part(files[number % _PHOTOGRAPHS], tf.stack([0, number]))
    return tf.cast(pixels[-1, -1, 0], tf.int32)  # else nobody wants it, and it is left out

  @tf.function(autograph=False)
  def every() -> tf.Tensor:
    numbers = tf.range(_IMAGES)
    return tf.map_fn(one, numbers, parallel_iterations=1, fn_output_signature=tf.int32)

  return least(every, _IMAGES)


def streams(dataset: dataset_factory.Dataset) -> dict[str, tf.data.Dataset]:
  """Parts of the pipeline of records, each with those before it; batches."""
  source = pipeline.Source(dataset, preprocessing_factory.INCEPTION, _DISTORTION)
  options = pipeline.InputOptions(_SIDE, _BATCH)
  files = tf.data.TFRecordDataset(sorted(dataset.paths)).repeat()
  return {
    'reading records': files.map(tf.strings.length).batch(_BATCH),
    'the whole pipeline': pipeline.record_batches(source, options),
  }


def of_stream(batches: tf.data.Dataset) -> float:
  """Milliseconds of an image."""
  iterator = iter(batches)
  return least(lambda: [next(iterator) for _ in range(12)], 12 * _BATCH)


def least(run: Callable[[], object], images: int) -> float:
  """Milliseconds of processor time of an image, of several rounds the least."""
  run()
  rounds = []
  for _ in range(_ROUNDS):
    begin = time.process_time()
    run()
    rounds.append(time.process_time() - begin)
  return 1e3 * min(rounds) / images


if __name__ == '__main__':
  main()
