"""From records to batches: the host's half of the work.

Training goes through the records in an order that is a function of seed and record index alone (see
`record_order`), so a run that is resumed at an index goes on as if it had never stopped.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from slim_inception import files
from slim_inception.datasets import records, shards
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import record_order
from slim_inception.input import sampling as sampling_lib
from slim_inception.input.sampling import Sampling
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

# Records that one decoding task takes. Measured on 2 cores with 96 x 96 JPEGs: 3,000 images/s in
# tasks of 16, 1,300 in tasks of one, 2,000 for a plain map, which cannot skip a broken image.
TASK = 16
_PROBES = 64
_OUTSIDE = 'is outside the classes'

# 'image': [N, H, W, C] uint8, 'label': [N] int32 or [N, num_classes] float32, 'seed': [N, 2] int32,
# 'record_index': [N] int64.
Batch = dict[str, tf.Tensor]


class Source(NamedTuple):
  """Records, and how their images are decoded and cropped."""

  dataset: Dataset
  preprocessing: Preprocessing
  distortion: Distortion


@dataclasses.dataclass(frozen=True)
class InputOptions:
  """How records become batches.

  Attributes:
    image_size: pixels a side.
    batch_size: images of a batch.
    labels_offset: subtracted from the labels.
    multi_label: whether a record has a target for each class rather than one label.
    seed: of the order and of the distortions.
    shuffle_buffer: records shuffled together, see `record_order.shuffle_window`.
    num_readers: readers that go side by side, over all workers.
    num_threads: of decoding; None: as many as there are cores, at most 8.
    worker: which of `num_workers`, to which the records of a global batch go in turn.
    num_workers: that share the global batch.
    replicas: batches of a step that this worker takes; its records go to them in turn, so one
      process divides a global batch as several would.
    sampling: of records, where not each comes once an epoch: they have no window and no readers.
    repeats: images made of a record, one after the other, before the next record's.
  """

  image_size: int
  batch_size: int
  labels_offset: int = 0
  multi_label: bool = False
  seed: int = 0
  shuffle_buffer: int = 4096
  num_readers: int = 4
  num_threads: int | None = None
  worker: int = 0
  num_workers: int = 1
  replicas: int = 1
  sampling: Sampling = sampling_lib.UNIFORM
  repeats: int = 1


def record_batches(source: Source, options: InputOptions, first: int = 0) -> tf.data.Dataset:
  """Endless shuffled batches for `Preprocessing.train_device`.

  Args:
    source: what to read.
    options: how.
    first: index of the first record, counted over all epochs: so many are gone through.

  Yields:
    `Batch`es. With `multi_label`, 'label' is 1 for each label of the image. Images that cannot be
    decoded are missing: so are their record indices.
  """
  ordered = _ordered(source.dataset, options, first)
  images = decode_records(ordered, source, options)
  return endless(_split(images, options.batch_size, options.replicas).prefetch(tf.data.AUTOTUNE))


def _ordered(dataset: Dataset, options: InputOptions, first: int) -> tf.data.Dataset:
  """Endless pairs (record index, record) of this worker."""
  if options.repeats > 1:
    return _repeated(dataset, options, first)
  if not options.sampling.is_uniform:
    return sampling_lib.records_from(
      dataset,
      options.sampling,
      seed=options.seed,
      first=first,
      worker=options.worker,
      num_workers=options.num_workers,
      num_threads=options.num_threads,
    )
  return record_order.records_from(
    dataset,
    seed=options.seed,
    first=first,
    num_readers=options.num_readers,
    window=options.shuffle_buffer,
    worker=options.worker,
    num_workers=options.num_workers,
  )


def _repeated(dataset: Dataset, options: InputOptions, first: int) -> tf.data.Dataset:
  """As `_ordered`, each record `repeats` times in a row under an index of its own.

  The copies of a record fall to different workers, so each worker reads all records.
  """
  repeats = options.repeats
  alone = dataclasses.replace(options, repeats=1, worker=0, num_workers=1)

  def copies(index: tf.Tensor, record: tf.Tensor) -> tf.data.Dataset:
    indices = index * repeats + tf.range(repeats, dtype=tf.int64)
    return tf.data.Dataset.from_tensor_slices((indices, tf.fill([repeats], record)))

  images = _ordered(dataset, alone, first // repeats).flat_map(copies).skip(first % repeats)
  if options.num_workers == 1:
    return images
  return images.filter(lambda index, _: index % options.num_workers == options.worker)


def endless(batches: tf.data.Dataset) -> tf.data.Dataset:
  """Says that there is always more: workers need not ask each other at every step."""
  endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
  return without_tuner(batches.apply(endless))


def without_tuner(elements: tf.data.Dataset) -> tf.data.Dataset:
  """The same, whose iterators end at once.

  tf.data's tuner of AUTOTUNE looks at a pipeline after 10 ms, 20 ms, ..., at last each 60 s. An
  iterator that goes wakes it, but may do so before the tuner can know why (TensorFlow 2.21): it
  sleeps on, and the iterator waits for it, as long again as it has run. Without the tuner AUTOTUNE
  is as many threads as there are cores, which read as many images.
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return elements.with_options(options)


def decode_records(
  ordered: tf.data.Dataset, source: Source, options: InputOptions
) -> tf.data.Dataset:
  """The images of pairs (record index, record), unbatched: see `record_batches`."""
  dataset = source.dataset
  num_classes = dataset.num_classes - options.labels_offset
  size = options.image_size

  def decode(index: tf.Tensor, record: tf.Tensor) -> Batch:
    example = records.parse_example(record, dataset.schema, options.multi_label)
    seed = seeds_of(options.seed, index)
    image = source.preprocessing.train_host(
      example['encoded'], size, size, example['bbox'], seed, source.distortion
    )
    label = target(example['label'], num_classes, options.labels_offset)
    return {'image': image, 'label': label, 'seed': seed, 'record_index': index}

  def check(_: tf.Tensor, some: tf.Tensor) -> tf.Operation:
    labels = records.parse_labels(some, dataset.schema, options.multi_label)
    return assert_labels(labels, dataset, options.labels_offset)

  return map_skipping_broken(ordered, decode, options.num_threads, check=check)


def seeds_of(seed: int, indices: tf.Tensor) -> tf.Tensor:
  """[..., 2] int32: seeds of the distortions of the images with record indices [...]."""
  seeds = tf.stack([tf.fill(tf.shape(indices), tf.cast(seed, tf.int64)), indices], -1)
  return tf.cast(seeds % (2**31 - 1), tf.int32)


def _split(images: tf.data.Dataset, batch_size: int, replicas: int) -> tf.data.Dataset:
  """Batches of the first replica, the second, ..., to which images go in turn, as to workers."""
  if replicas == 1:
    return images.batch(batch_size, drop_remainder=True)
  groups = images.enumerate().group_by_window(
    lambda number, _: number % replicas,
    lambda _, group: group.batch(batch_size, drop_remainder=True),
    window_size=batch_size,
  )
  return groups.map(lambda _, batch: batch)


def check_labels(dataset: Dataset, labels_offset: int) -> int:
  """The number of classes of the head, once it is known that every label has a place in it.

  Raises:
    ValueError: a label is outside.
  """
  num_classes = dataset.num_classes - labels_offset
  low, high = (label - labels_offset for label in dataset.label_range)
  if low < 0 or high >= num_classes:
    raise ValueError(
      f'Labels of {dataset.name} {dataset.split_name} are {dataset.label_range[0]}..'
      f'{dataset.label_range[1]}; with --labels_offset={labels_offset} they become {low}..{high}, '
      f'but the head has classes 0..{num_classes - 1}'
    )
  return num_classes


def check_loss(dataset: Dataset, loss: str) -> None:
  """Raises ValueError where images may have several labels and a loss is for one."""
  if dataset.multi_label and loss != 'sigmoid':
    raise ValueError(
      f'the images of {dataset.name} {dataset.split_name} have any number of labels (multi_label '
      f'in dataset.json): they need --loss=sigmoid, not {loss}'
    )


def check_images(source: Source, image_size: int) -> None:
  """Decodes an image, so that a set of which none can be decoded is no endless search.

  Raises:
    ValueError: none of the first images can be decoded; says why.
  """
  dataset, preprocessing, distortion = source
  failure = None
  try:
    for record in tf.data.TFRecordDataset(sorted(dataset.paths)).take(_PROBES):
      example = records.parse_example(record, dataset.schema, multi_label=True)
      seed = tf.zeros(2, tf.int32)
      try:
        preprocessing.train_host(
          example['encoded'], image_size, image_size, example['bbox'], seed, distortion
        )
        return
      except tf.errors.InvalidArgumentError as error:
        failure = error
  except tf.errors.DataLossError as error:
    raise read_error(dataset, 0, error) from error
  reason = failure.message.splitlines()[0] if failure else 'there is none'
  raise ValueError(
    f'None of the first {_PROBES} images of {dataset.name} {dataset.split_name} can be made '
    f'{image_size} x {image_size} pixels: {reason}'
  )


# What iterating over records can raise.
READ_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.FailedPreconditionError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
)


def read_error(dataset: Dataset, labels_offset: int, error: tf.errors.OpError) -> Exception:
  """An error that names the file and what is wrong with it, from TensorFlow's, which does not."""
  cause = files.system_error(error)
  if cause and cause.filename not in (None, *dataset.paths):  # e.g. of TensorBoard's events
    return cause
  if isinstance(error, tf.errors.InvalidArgumentError):
    if message := sampling_lib.message_of(error):
      return ValueError(message)
    if f'Key: {dataset.schema.label}' in error.message:
      return ValueError(
        f'{dataset.name} {dataset.split_name} has a record without a label or with several; '
        'several need --loss=sigmoid'
      )
    if _OUTSIDE not in error.message:
      return error
    for path in dataset.paths:
      low, high = shards.label_range([path], dataset.num_samples, dataset.schema)
      if low < labels_offset or high >= dataset.num_classes:
        return ValueError(
          f'{path} has labels {low}..{high}; those of {dataset.name} are '
          f'{labels_offset}..{dataset.num_classes - 1}'
        )
  is_short = isinstance(error, tf.errors.FailedPreconditionError)
  if is_short and 'expected to contain' not in error.message:
    return error
  damage = shards.find_damage(dataset.paths)
  if is_short and not damage:
    damage = record_order.miscounted(dataset)
  return ValueError(damage or f'Reading {dataset.name} failed: {error.message}')


def target(label: tf.Tensor, num_classes: int, labels_offset: int = 0) -> tf.Tensor:
  """A label of the head, int32, or for several labels [num_classes] float32, 1 for each of them."""
  label = tf.cast(label, tf.int32) - labels_offset
  if label.shape.rank == 0:
    return label
  return tf.minimum(tf.reduce_sum(tf.one_hot(label, num_classes), axis=0), 1.0)


def assert_labels(
  labels: tf.Tensor | tf.RaggedTensor, dataset: Dataset, labels_offset: int
) -> tf.Operation:
  """Stops at a label outside the classes: `check_labels` may have seen a sample only.

  So it does at none, unless the data set is one of images with any number of labels.

  Args:
    labels: int64, of one record or of several; ragged where these have several each.
    dataset: theirs.
    labels_offset: smaller labels are outside.
  """
  counts = tf.size(labels)
  if isinstance(labels, tf.RaggedTensor):
    counts, labels = labels.row_lengths(), labels.flat_values
  inside = tf.logical_and(labels >= labels_offset, labels < dataset.num_classes)
  are_right = tf.reduce_all(inside)
  if not dataset.multi_label:
    are_right = tf.logical_and(are_right, tf.reduce_all(counts > 0))
  return tf.debugging.Assert(are_right, ['Label', labels, _OUTSIDE])


def map_skipping_broken(
  elements: tf.data.Dataset,
  decode: Callable[..., Any],
  num_threads: int | None,
  task_size: int = TASK,
  check: Callable[..., tf.Operation] | None = None,
) -> tf.data.Dataset:
  """`elements.map(decode)` in parallel and in order, without the elements on which it fails.

  `ignore_errors` on the whole would pass over a damaged file too: here it sees decoding alone.

  Args:
    elements: what to decode.
    decode: called with the parts of an element.
    num_threads: None: as many as there are cores, at most 8.
    task_size: elements that are decoded in one go. As many results for each thread wait to be
      taken, so large ones are better made one by one.
    check: called with the parts of `task_size` elements; the operation that it returns may fail,
      and is not skipped. Once for all of them it takes a sixth of the time.
  """

  @tf.autograph.experimental.do_not_convert
  def task(*some: tf.Tensor) -> tf.data.Dataset:
    with tf.control_dependencies([check(*some)] if check else []):
      some = tf.nest.map_structure(tf.identity, some)
    return tf.data.Dataset.from_tensor_slices(some).map(decode).ignore_errors()

  return elements.batch(task_size).interleave(
    task,
    cycle_length=num_threads or 8,
    block_length=task_size,
    num_parallel_calls=num_threads or tf.data.AUTOTUNE,
    deterministic=True,
  )
