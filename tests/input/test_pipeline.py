"""Batches from real records on disk."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.evaluate import examples
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input.pipeline import InputOptions, Source
from tests import records
from tests.datasets import slim_records

INCEPTION = preprocessing_factory.get('inception')


def dataset(directory, split='train'):
  return dataset_factory.get_dataset('image_folder', split, directory)


def batches(directory, number, **kwargs):
  kwargs = {'shuffle_buffer': 10, **kwargs}
  found = batches_of(dataset(directory), kwargs.pop('first', 0), **kwargs)
  return list(itertools.islice(found.as_numpy_iterator(), number))


def batches_of(data, first=0, **options):
  options = InputOptions(**{'image_size': 32, 'batch_size': 4, **options})
  return input_pipeline.record_batches(Source(data, INCEPTION, Distortion()), options, first)


def error_of(data, kind, **options):
  """What a run says of the error that ends its batches."""
  with pytest.raises(kind) as caught:
    list(itertools.islice(batches_of(data, **options), 10))
  return str(input_pipeline.read_error(data, 0, caught.value))


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return records.write_set(tmp_path_factory.mktemp('records'))


def test_no_tuner_keeps_an_iterator_from_going(directory):
  """tf.data's sleeps for up to a minute; see `without_tuner`."""
  of_training = batches_of(dataset(directory))
  assert of_training.options().autotune.enabled is False
  assert of_training.cardinality() == tf.data.INFINITE_CARDINALITY


def test_an_epoch_has_every_record_once(directory):
  found = batches(directory, 12)
  indices = np.concatenate([batch['record_index'] for batch in found])
  np.testing.assert_array_equal(indices, np.arange(48))
  first, second = (np.concatenate([b['image'] for b in found])[s] for s in (np.s_[:24], np.s_[24:]))
  assert first.shape == (24, 32, 32, 3)
  assert first.dtype == np.uint8
  labels = np.concatenate([batch['label'] for batch in found])
  np.testing.assert_array_equal(np.bincount(labels[:24]), [8, 8, 8])
  assert np.any(labels[:24] != labels[24:])  # another order in the second epoch
  assert np.any(first != second)
  colors = first.astype(float).mean((1, 2)).argmax(1)
  np.testing.assert_array_equal(colors, labels[:24])  # each image has its own label


def test_the_same_seed_gives_the_same_batches(directory):
  """Whatever TensorFlow's own seed is."""
  found = []
  for seed, global_seed in ((1, 0), (1, 7), (2, 0)):
    tf.random.set_seed(global_seed)
    found.append(batches(directory, 8, seed=seed))
  one, same, other = found
  for a, b in zip(one, same, strict=True):
    records.assert_same(a, b)
  assert any(np.any(a['image'] != b['image']) for a, b in zip(one, other, strict=True))


def test_going_on_at_a_record_gives_the_rest(directory):
  for a, b in zip(batches(directory, 10)[5:], batches(directory, 5, first=20), strict=True):
    records.assert_same(a, b)


def test_workers_take_what_replicas_of_one_process_take(directory):
  """Four replicas, of one process and of two workers: the same batches, to the bit."""
  start = 7
  whole = batches(directory, 12, batch_size=3, replicas=4, first=start)
  indices = np.stack([batch['record_index'] for batch in whole]).reshape(3, 4, 3)
  np.testing.assert_array_equal(indices[0, :, 0], start + np.arange(4))
  np.testing.assert_array_equal(indices[:, 0].ravel(), start + np.arange(0, 36, 4))
  for worker in range(2):
    own = batches(directory, 6, batch_size=3, replicas=2, first=start, worker=worker, num_workers=2)
    first = (worker - start) % 2
    expected = [whole[4 * step + replica] for step in range(3) for replica in (first, first + 2)]
    for a, b in zip(own, expected, strict=True):
      assert set(a['record_index'] % 2) == {worker}
      records.assert_same(a, b)


def test_repeated_images_are_of_one_record_and_distorted_each_for_itself(directory):
  """As timm's and torchvision's RASampler: copies lie side by side, on different replicas."""
  repeats = 3
  plain = batches(directory, 6)
  found = batches(directory, 18, repeats=repeats)
  np.testing.assert_array_equal(
    np.concatenate([batch['record_index'] for batch in found]), np.arange(72)
  )
  labels, others = (np.concatenate([b['label'] for b in each]) for each in (found, plain))
  np.testing.assert_array_equal(labels, np.repeat(others, repeats))
  images = np.concatenate([batch['image'] for batch in found]).reshape(24, repeats, -1)
  assert all(np.any(copies[0] != copy) for copies in images for copy in copies[1:])
  for a, b in zip(found[5:], batches(directory, 13, first=20, repeats=repeats), strict=True):
    records.assert_same(a, b)
  for worker in range(2):
    own = batches(
      directory, 9, first=4, worker=worker, num_workers=2, batch_size=4, repeats=repeats
    )
    whole = batches(directory, 18, first=4, replicas=2, repeats=repeats)
    for a, b in zip(own, whole[worker::2], strict=True):
      records.assert_same(a, b)


def test_broken_images_are_missed_by_all_replicas_alike(tmp_path):
  """A step takes all that is before its last place, as it does with one replica."""
  directory = records.write_set(tmp_path, broken=(5, 11))
  alone = np.stack([batch['record_index'] for batch in batches(directory, 4, batch_size=8)])
  dealt = np.stack([batch['record_index'] for batch in batches(directory, 8, replicas=2)])
  np.testing.assert_array_equal(dealt, np.concatenate([(s[0::2], s[1::2]) for s in alone]))


def test_broken_images_are_skipped_and_leave_gaps(tmp_path):
  directory = records.write_set(tmp_path, broken=(5, 11))
  found = batches(directory, 11)
  indices = np.concatenate([batch['record_index'] for batch in found])
  assert len(indices) == 44
  assert indices[-1] + 1 - len(indices) == 4  # two images in each of two epochs
  labels = np.concatenate([batch['label'] for batch in found])
  np.testing.assert_array_equal(np.bincount(labels[:22]), [8, 8, 6])


def test_a_cut_off_shard_stops_and_is_named(tmp_path):
  directory = records.write_set(tmp_path)
  data = dataset(directory)
  path = directory / 'train-00001-of-00003'
  path.write_bytes(path.read_bytes()[:-100])
  assert 'train-00001-of-00003' in error_of(data, tf.errors.DataLossError)


def test_records_that_are_gone_stop_and_are_missed(tmp_path):
  data = dataset(records.write_set(tmp_path))
  records.write_set(tmp_path, count=22)
  message = error_of(data, tf.errors.FailedPreconditionError)
  assert message == (
    f'{tmp_path}/train-00001-of-00003 has 7 records, it had 8 when they were counted'
  )


@pytest.mark.parametrize('change', [-1, 1, 93])
def test_wrong_counts_stop_and_are_named(tmp_path, change):
  """Of dataset.json, which is believed at the start; too few would leave records out."""
  data = dataset(records.write_set(tmp_path))
  (tmp_path / 'dataset.json').touch()
  wrong = dataclasses.replace(
    data, shard_sizes=(8, 8 + change, 8), num_samples=data.num_samples + change
  )
  message = error_of(wrong, tf.errors.FailedPreconditionError, batch_size=40)
  path = tmp_path / 'train-00001-of-00003'
  assert message == f'{path} has 8 records, {tmp_path}/dataset.json says {8 + change}'
  with pytest.raises(tf.errors.FailedPreconditionError) as caught:
    list(examples.read(wrong, range(wrong.num_samples)))
  assert str(input_pipeline.read_error(wrong, 0, caught.value)) == message


def test_labels_outside_the_head_are_named(directory):
  assert input_pipeline.check_labels(dataset(directory), 0) == 3
  with pytest.raises(ValueError, match=r'are 0\.\.2; with --labels_offset=1 .* -1\.\.1.*0\.\.1'):
    input_pipeline.check_labels(dataset(directory), 1)


def test_a_label_that_the_sample_missed_stops_the_run(directory):
  narrow = dataclasses.replace(dataset(directory), num_classes=2)
  message = error_of(narrow, tf.errors.InvalidArgumentError)
  assert re.search(r'train-0000\d-of-00003 has labels 2\.\.2; those of image_folder are', message)
  error_of(dataset(directory), tf.errors.InvalidArgumentError, labels_offset=1)


def test_a_set_without_a_sound_image_is_refused(tmp_path, directory):
  broken = records.write_set(tmp_path, broken=tuple(range(24)))
  with pytest.raises(ValueError, match='None of the first 64 images of image_folder train'):
    input_pipeline.check_images(Source(dataset(broken), INCEPTION, Distortion()), 32)
  input_pipeline.check_images(Source(dataset(directory), INCEPTION, Distortion()), 32)


@pytest.mark.parametrize(
  ('name', 'shard', 'classes', 'extra'),
  [
    ('flowers', 'flowers_train_{:05d}-of-00002.tfrecord', 5, {}),
    (
      'imagenet',
      'train-{:05d}-of-00002',
      1001,
      {
        'image_object_bbox_ymin': [0.1],
        'image_object_bbox_xmin': [0.2],
        'image_object_bbox_ymax': [0.6],
        'image_object_bbox_xmax': [0.9],
        'image_filename': b'n02105855_2933.JPEG',
      },
    ),
  ],
)
def test_slims_own_records_need_no_conversion(tmp_path, name, shard, classes, extra):
  for i in range(2):
    examples = [
      slim_records.example(
        image_encoded=records.image(label, label),
        image_format=b'jpg',
        image_class_label=label,
        image_height=40,
        image_width=48,
        **extra,
      )
      for label in (2 * i + 1, 2 * i + 2)
    ]
    slim_records.write(tmp_path / shard.format(i), examples)
  found = dataset_factory.get_dataset(name, 'train', tmp_path)
  assert (found.num_samples, found.num_classes) == (4, classes)
  batch = first_batch(found, 4)
  assert sorted(batch['label']) == [1, 2, 3, 4]
  colors = batch['image'].astype(float).mean((1, 2)).argmax(1)
  np.testing.assert_array_equal(colors, batch['label'] % 3)


def write_several(directory, labels):
  """A set of images with several labels each."""
  examples = [
    slim_records.example(
      image_encoded=records.image(i, i), **({'image_class_label': each} if each else {})
    )
    for i, each in enumerate(labels)
  ]
  directory.mkdir(exist_ok=True)
  slim_records.write(directory / 'train-00000-of-00001', examples)
  (directory / 'labels.txt').write_text('0:a\n1:b\n2:c\n3:d\n')
  return directory


def first_batch(found, size, **kwargs):
  batches = batches_of(found, batch_size=size, shuffle_buffer=1, **kwargs)
  return next(batches.as_numpy_iterator())


def test_several_labels_become_targets(tmp_path):
  found = dataset(write_several(tmp_path, [[1, 3], [2], [3, 3, 1]]))
  expected = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]], np.float32)
  labels = first_batch(found, 3, multi_label=True)['label']
  assert labels.dtype == np.float32
  np.testing.assert_array_equal(labels, expected)
  labels = first_batch(found, 3, multi_label=True, labels_offset=1)['label']
  np.testing.assert_array_equal(labels, expected[:, 1:])
  input_pipeline.check_images(Source(found, INCEPTION, Distortion()), 32)


def test_one_label_is_a_target_too(directory):
  several = batches(directory, 3, multi_label=True)
  for one, more in zip(batches(directory, 3), several, strict=True):
    np.testing.assert_array_equal(np.eye(3)[one['label']], more['label'])


@pytest.mark.parametrize('label', [[0, 4], [-1, 2], []])
def test_each_of_several_labels_is_checked(tmp_path, label):
  found = dataset(write_several(tmp_path, [[1]]))
  found = dataclasses.replace(found, num_samples=2, shard_sizes=(2,))
  write_several(tmp_path, [[1], label])
  with pytest.raises(tf.errors.InvalidArgumentError, match='is outside the classes'):
    first_batch(found, 2, multi_label=True)


def test_several_labels_name_the_loss_that_they_need(tmp_path):
  found = dataset(write_several(tmp_path, [[1, 3], [2]]))
  assert error_of(found, tf.errors.InvalidArgumentError, batch_size=2) == (
    'image_folder train has a record without a label or with several; several need --loss=sigmoid'
  )


def test_a_file_that_is_no_shard_is_no_error_of_reading(data):
  dataset = dataset_factory.get_dataset('image_folder', 'train', data)
  message = '{{function_node __wrapped__FlushSummaryWriter}} /run/events; No such file or directory'
  error = input_pipeline.read_error(dataset, 0, tf.errors.NotFoundError(None, None, message))
  assert isinstance(error, FileNotFoundError) and error.filename == '/run/events'
