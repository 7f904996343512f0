"""Training without data."""

import itertools

import numpy as np
import pytest
from slim_inception.datasets import dataset_factory
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.input import training_batches
from slim_inception.input.pipeline import InputOptions, Source
from slim_inception.train import trainer
from tests import records
from tests.train import processes

pytestmark = pytest.mark.integration


def batches(number, first=0, channels=3, **options):
  preprocessing = preprocessing_factory.get('inception', channels)
  source = Source(dataset_factory.synthetic('train'), preprocessing, Distortion())
  found = training_batches.noise_batches(source, InputOptions(8, 5, **options), first)
  return list(itertools.islice(found.as_numpy_iterator(), number))


def test_batches_are_a_function_of_the_record_index():
  whole = batches(300)
  indices = np.concatenate([batch['record_index'] for batch in whole])
  np.testing.assert_array_equal(indices, np.arange(1500))
  labels = np.concatenate([batch['label'] for batch in whole])
  assert (labels.min(), labels.max()) == (1, 1000)
  assert np.bincount(labels).max() < 10
  image = whole[0]['image']
  assert (image.shape, image.dtype) == ((5, 8, 8, 3), np.uint8)
  assert image.std() > 50
  for a, b in zip(whole[7:], batches(3, first=35), strict=False):
    records.assert_same(a, b)
  shifted = np.concatenate([batch['label'] for batch in batches(300, labels_offset=1)])
  np.testing.assert_array_equal(shifted, labels - 1)
  assert batches(1, channels=1)[0]['image'].shape == (5, 8, 8, 1)
  several = batches(1, multi_label=True)[0]['label']
  np.testing.assert_array_equal(several, np.eye(1001)[labels[:5]])


def test_workers_and_replicas_share_the_records():
  whole = batches(8, first=7, replicas=4)
  for worker in range(2):
    own = batches(4, first=7, replicas=2, worker=worker, num_workers=2)
    first = (worker - 7) % 2
    matching = [whole[4 * i + j] for i in (0, 1) for j in (first, first + 2)]
    for batch, expected in zip(own, matching, strict=True):
      records.assert_same(batch, expected)
  indices = np.concatenate([batch['record_index'] for batch in whole])
  np.testing.assert_array_equal(np.sort(indices), 7 + np.arange(40))


def test_a_run_needs_no_data_and_goes_on(tmp_path):
  flags = {'dataset_name': 'synthetic', 'dataset_dir': None}
  for steps in (2, 3):
    trainer.train(processes.config(tmp_path, '', **flags, max_number_of_steps=steps))
  entries = processes.metrics(tmp_path)
  assert [entry['step'] for entry in entries] == [1, 2, 3]
  assert entries[2]['epoch'] == round(12 / 1281167, 4)
  with pytest.raises(ValueError, match='synthetic images are for training alone: --dataset_name'):
    resolve_eval({'checkpoint_path': str(tmp_path)})


def test_records_of_it_do_not_exist():
  with pytest.raises(ValueError, match='synthetic images are for training alone'):
    dataset_factory.get_dataset('synthetic', 'train', '.')
