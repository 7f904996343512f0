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
  """The places of the records that a worker takes: as many as the others, up to one."""
  return range(count * worker // num_workers, count * (worker + 1) // num_workers)


def read(
  dataset: Dataset,
  places: range,
  *,
  labels_offset: int = 0,
  multi_label: bool = False,
  is_wanted: Callable[[str], bool] | None = None,
) -> tf.data.Dataset:
  """Records by place, shards sorted by name; shards without any of `places` are not opened.

  Args:
    dataset: what to read.
    places: of the records.
    labels_offset: smaller labels are outside the classes.
    multi_label: a record has one label or more.
    is_wanted: tells by the file name whether a record is; asked once for each. None: all are.

  Yields:
    'place' int64, 'encoded' string, 'filename' string, 'label' int32 scalar, or with `multi_label`
    [num_classes] float32, 1 for each label.
  """
  paths, before = _shards_of(dataset, places)

  def parse(place: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
    example = records.parse_example(record, dataset.schema, multi_label)
    label = example['label']
    with tf.control_dependencies([input_pipeline.assert_labels(label, dataset, labels_offset)]):
      label = input_pipeline.target(label, dataset.num_classes)
    return {
      'place': place,
      'encoded': example['encoded'],
      'filename': example['filename'],
      'label': label,
    }

  def ask(example: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.numpy_function(
      lambda name: is_wanted(name.decode(errors='surrogateescape')), [example['filename']], tf.bool
    )

  found = tf.data.TFRecordDataset(paths).skip(places.start - before).take(len(places))
  found = found.enumerate(start=places.start)
  found = found.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
  return found if is_wanted is None else found.filter(ask)


def _shards_of(dataset: Dataset, places: range) -> tuple[list[str], int]:
  """The shards that hold `places`, and how many records are in those before them."""
  paths = sorted(dataset.paths)
  if len(places) == dataset.num_samples or not places:
    return paths, 0
  counted = record_order.counted(dataset)
  sizes = dict(zip(counted.paths, counted.shard_sizes, strict=True))
  starts = [0, *itertools.accumulate(sizes[path] for path in paths)]
  first = bisect.bisect_right(starts, places.start) - 1
  end = bisect.bisect_left(starts, places.stop)
  return paths[first:end], starts[first]
