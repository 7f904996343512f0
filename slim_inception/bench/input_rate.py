"""The input pipeline of training, without training."""

import tensorflow as tf

from slim_inception.bench import timing
from slim_inception.bench.common import Result, facts, figures, records, training_config
from slim_inception.bench.config import Config
from slim_inception.datasets import dataset_factory
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.input.pipeline import InputOptions, Source, record_batches, without_tuner
from slim_inception.train.augmentation import make_augmentation


def input_rate(config: Config) -> Result:
  """The real training pipeline on the processors alone, beside plain decoding of its images."""
  with records(config) as (name, directory):
    dataset = dataset_factory.get_dataset(name, 'train', directory)
    run = training_config(config)
    augmentation = make_augmentation(run)
    source = Source(dataset, augmentation.preprocessing, augmentation.distortion)
    threads = config.num_preprocessing_threads
    options = InputOptions(config.side, config.batch_size, num_threads=threads)
    batches = record_batches(source, options)
    whole = _iterate(batches, config, 'Measuring the input of training')
    peak_bytes = timing.peak_resident_bytes()
    decoded = _decode_alone(dataset, config.batch_size)
    plain = _iterate(decoded, config, 'Measuring decoding alone')
    return {
      **facts(config, dataset=f'{dataset.name}, {dataset.num_samples} images'),
      'image_bytes': _mean_image_bytes(dataset),
      **figures(whole, config.batch_size),
      'first_step_seconds': whole.first,
      'peak_bytes': peak_bytes,
      'decode_images_per_second': config.batch_size / plain.median,
      'decode_share': plain.median / whole.median,
    }


def _iterate(batches: tf.data.Dataset, config: Config, what: str) -> timing.Times:
  iterator = iter(batches)
  with ProgressBar(what, config.rounds, 'rounds') as bar:
    return timing.measure(
      lambda: next(iterator),
      lambda batch: batch,
      warmup_steps=config.warmup_steps,
      num_rounds=config.rounds,
      report=bar.update,
    )


def _decode_alone(dataset: dataset_factory.Dataset, batch_size: int) -> tf.data.Dataset:
  """Endless batches of the decoded images' sizes, decoded whole and one to a core."""

  def decode(encoded: tf.Tensor) -> tf.Tensor:
    return tf.shape(tf.io.decode_image(encoded, channels=3, expand_animations=False))

  return without_tuner(
    _encoded(dataset)
    .repeat()
    .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    .batch(batch_size)
    .prefetch(tf.data.AUTOTUNE)
  )


def _encoded(dataset: dataset_factory.Dataset, count: int = 512) -> tf.data.Dataset:
  """The files of the first images, from memory."""
  key = dataset.schema.encoded
  feature = {key: tf.io.FixedLenFeature((), tf.string)}
  return (
    tf.data.TFRecordDataset(sorted(dataset.paths))
    .take(count)
    .map(lambda record: tf.io.parse_single_example(record, feature)[key])
    .cache()
  )


def _mean_image_bytes(dataset: dataset_factory.Dataset) -> float:
  sizes = [len(encoded) for encoded in _encoded(dataset).as_numpy_iterator()]
  return sum(sizes) / len(sizes)
