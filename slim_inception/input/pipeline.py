"""From records to batches: the host's half of the work.

Training goes through the records in an order that is a function of seed and position alone (see
`record_order`), so a run that is resumed at a position goes on as if it had never stopped.
"""

import tensorflow as tf

from slim_inception.datasets import records, shards
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import record_order
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

# Records that one decoding task takes. Measured on 2 cores with 96 x 96 JPEGs: 3,000 images/s in
# tasks of 16, 1,300 in tasks of one, 2,000 for a plain map, which can not skip a broken image.
TASK = 16
_PROBES = 64
_OUTSIDE = 'is outside the classes'


def train_batches(
  dataset: Dataset,
  preprocessing: Preprocessing,
  distortion: Distortion,
  *,
  image_size: int,
  batch_size: int,
  labels_offset: int = 0,
  multi_label: bool = False,
  seed: int = 0,
  position: int = 0,
  shuffle_buffer: int = 4096,
  num_readers: int = 4,
  num_threads: int | None = None,
  worker: int = 0,
  num_workers: int = 1,
  replicas: int = 1,
) -> tf.data.Dataset:
  """Endless shuffled batches for `Preprocessing.train_device`.

  Args:
    dataset: what to read.
    preprocessing: how to decode and crop.
    distortion: how to crop.
    image_size: pixels a side.
    batch_size: images a batch.
    labels_offset: subtracted from the labels.
    multi_label: a record has one label or more.
    seed: of the order and of the distortions.
    position: where to begin: records already gone through, counted over all epochs.
    shuffle_buffer: records shuffled together.
    num_readers: lanes read side by side by all workers together.
    num_threads: of decoding; None lets tf.data find out.
    worker: which of `num_workers`, to which the records of a global batch go in turn.
    num_workers: that share the global batch.
    replicas: batches of a step that this worker takes; its records go to them in turn, so one
      process deals a global batch out as several would.

  Yields:
    'image': [batch_size, image_size, image_size, C] uint8, 'label': [batch_size] int32, 'seed':
    [batch_size, 2] int32 for the device's distortions, 'position': [batch_size] int64. With
    `multi_label`, 'label' is [batch_size, num_classes] float32, 1 for each label of the image.
    Images that can not be decoded are missing: so are their positions.
  """
  found = record_order.records_from(
    dataset,
    seed=seed,
    position=position,
    num_lanes=num_readers,
    window=shuffle_buffer,
    worker=worker,
    num_workers=num_workers,
  )
  decoded = decode_records(
    found,
    dataset,
    preprocessing,
    distortion,
    image_size=image_size,
    labels_offset=labels_offset,
    multi_label=multi_label,
    seed=seed,
    num_threads=num_threads,
  )
  batches = _deal(decoded, batch_size, replicas).prefetch(tf.data.AUTOTUNE)
  # Workers need not ask each other at every step whether there is more.
  return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def decode_records(
  found: tf.data.Dataset,
  dataset: Dataset,
  preprocessing: Preprocessing,
  distortion: Distortion,
  *,
  image_size: int,
  labels_offset: int,
  multi_label: bool,
  seed: int,
  num_threads: int | None,
) -> tf.data.Dataset:
  """The images of pairs (place, record): `train_batches`, of which see the rest, unbatched."""

  def decode(place: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
    example = records.parse_example(record, dataset.schema, multi_label)
    own_seed = seeds_of(seed, place)
    image = preprocessing.train_host(
      example['encoded'], image_size, image_size, example['bbox'], own_seed, distortion
    )
    label = target(example['label'], dataset.num_classes - labels_offset, labels_offset)
    return {'image': image, 'label': label, 'seed': own_seed, 'position': place}

  def check(_: tf.Tensor, some: tf.Tensor) -> tf.Operation:
    labels = records.parse_labels(some, dataset.schema, multi_label)
    return assert_labels(labels, dataset, labels_offset)

  return map_skipping_broken(found, decode, num_threads, check=check)


def seeds_of(seed: int, places: tf.Tensor) -> tf.Tensor:
  """[..., 2] int32: what the distortions of the images at [...] places are drawn from."""
  seeds = tf.stack([tf.fill(tf.shape(places), tf.cast(seed, tf.int64)), places], -1)
  return tf.cast(seeds % (2**31 - 1), tf.int32)


def _deal(images: tf.data.Dataset, batch_size: int, replicas: int) -> tf.data.Dataset:
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


def check_images(
  dataset: Dataset, preprocessing: Preprocessing, distortion: Distortion, image_size: int
) -> None:
  """Decodes an image, so that a set of which none can be decoded is no endless search.

  Raises:
    ValueError: none of the first images can be decoded; says why.
  """
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
  if isinstance(error, tf.errors.InvalidArgumentError):
    if f'Key: {dataset.schema.label}' in error.message:
      return ValueError(
        f'{dataset.name} {dataset.split_name} has a record without a label or with several; '
        'several need --loss=sigmoid'
      )
    if _OUTSIDE not in error.message:
      return error
    for path in dataset.paths:
      low, high, _ = shards.label_range([path], dataset.num_samples, dataset.schema)
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
    damage = f'{dataset.name} {dataset.split_name} has other records than it had at the start'
  return ValueError(damage or f'Reading {dataset.name} failed: {error.message}')


def target(label: tf.Tensor, num_classes: int, labels_offset: int = 0) -> tf.Tensor:
  """A label of the head, int32, or for several labels [num_classes] float32, 1 for each of them."""
  label = tf.cast(label, tf.int32) - labels_offset
  if label.shape.rank == 0:
    return label
  return tf.reduce_max(tf.one_hot(label, num_classes), axis=0)


def assert_labels(
  labels: tf.Tensor | tf.RaggedTensor, dataset: Dataset, labels_offset: int
) -> tf.Operation:
  """Stops at a label outside the classes, and at none: `check_labels` may have seen a sample only.

  Args:
    labels: int64, of one record or of several; ragged where these have several each.
    dataset: theirs.
    labels_offset: smaller labels are outside.
  """
  counts = tf.size(labels)
  if isinstance(labels, tf.RaggedTensor):
    counts, labels = labels.row_lengths(), labels.flat_values
  inside = tf.logical_and(labels >= labels_offset, labels < dataset.num_classes)
  are_right = tf.logical_and(tf.reduce_all(inside), tf.reduce_all(counts > 0))
  return tf.debugging.Assert(are_right, ['Label', labels, _OUTSIDE])


def map_skipping_broken(
  found: tf.data.Dataset, decode, num_threads: int | None, task_size: int = TASK, check=None
) -> tf.data.Dataset:
  """`found.map(decode)` in parallel and in order, without the elements on which it fails.

  `ignore_errors` on the whole would pass over a damaged file too: here it sees decoding alone.

  Args:
    found: what to decode.
    decode: called with the parts of an element.
    num_threads: None lets tf.data find out.
    task_size: elements that are decoded in one go. As many results for each thread wait to be
      taken, so large ones are better made one by one.
    check: called with the parts of `task_size` elements; the operation that it returns may fail,
      and is not skipped. Once for all of them it takes a sixth of the time.
  """

  def task(*elements: tf.Tensor) -> tf.data.Dataset:
    with tf.control_dependencies([check(*elements)] if check else []):
      elements = tf.nest.map_structure(tf.identity, elements)
    return tf.data.Dataset.from_tensor_slices(elements).map(decode).ignore_errors()

  return found.batch(task_size).interleave(
    task,
    cycle_length=num_threads or 8,
    block_length=task_size,
    num_parallel_calls=num_threads or tf.data.AUTOTUNE,
    deterministic=True,
  )
