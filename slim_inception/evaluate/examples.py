"""The records of a split, each once, dealt out to the workers of an evaluation."""

import bisect
import itertools
from collections.abc import Callable

import tensorflow as tf

from slim_inception.datasets import records
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order


def share_of(count: int, worker: int, num_workers: int) -> range:
  """The indices of the records that a worker takes: as many as the others, up to one."""
  return range(count * worker // num_workers, count * (worker + 1) // num_workers)


def read(
  dataset: Dataset,
  indices: range,
  *,
  labels_offset: int = 0,
  multi_label: bool = False,
  keep: Callable[[int, str], bool] | None = None,
) -> tf.data.Dataset:
  """Records by index, shards sorted by name; shards without any of `indices` are not opened.

  Args:
    dataset: what to read.
    indices: of the records.
    labels_offset: smaller labels are outside the classes.
    multi_label: a record has a target for each class rather than one label.
    keep: tells by index and file name whether a record is read; None: all are.

  Iterating raises tf.errors.FailedPreconditionError where the shards have other numbers of records
  than `dataset` says.

  Yields:
    'record_index' int64, 'encoded' string, 'filename' string, 'label' int32 scalar, or with
    `multi_label` [num_classes] float32, 1 for each label.
  """
  paths, before = _shards_of(dataset, indices)

  @tf.autograph.experimental.do_not_convert
  def parse(index: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
    example = records.parse_example(record, dataset.schema, multi_label)
    label = example['label']
    with tf.control_dependencies([input_pipeline.assert_labels(label, dataset, labels_offset)]):
      label = input_pipeline.target(label, dataset.num_classes)
    return {
      'record_index': index,
      'encoded': example['encoded'],
      'filename': example['filename'],
      'label': label,
    }

  @tf.autograph.experimental.do_not_convert
  def is_kept(example: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.numpy_function(
      lambda index, name: keep is None or keep(int(index), name.decode(errors='surrogateescape')),
      [example['record_index'], example['filename']],
      tf.bool,
    )

  own = tf.data.TFRecordDataset(paths).skip(indices.start - before)
  if indices.stop != dataset.num_samples:
    own = own.take(len(indices))  # else more than there should be are to be noticed
  if dataset.shard_sizes is not None:
    own = own.apply(tf.data.experimental.assert_cardinality(len(indices)))
  numbered = own.enumerate(start=indices.start)
  parsed = numbered.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
  return parsed if keep is None else parsed.filter(is_kept)


def _shards_of(dataset: Dataset, indices: range) -> tuple[list[str], int]:
  """The shards that hold `indices`, and how many records are in those before them."""
  paths = sorted(dataset.paths)
  if len(indices) == dataset.num_samples or not indices:
    return paths, 0
  counted = record_order.counted(dataset)
  sizes = dict(zip(counted.paths, counted.shard_sizes or (), strict=True))
  starts = [0, *itertools.accumulate(sizes[path] for path in paths)]
  first = bisect.bisect_right(starts, indices.start) - 1
  end = bisect.bisect_left(starts, indices.stop)
  return paths[first:end], starts[first]
