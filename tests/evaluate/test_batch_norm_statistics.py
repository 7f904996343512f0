"""Batch statistics measured anew."""

import itertools

import numpy as np
import pytest
from slim_inception.datasets import dataset_factory
from slim_inception.nets import nets_factory
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.evaluate import batch_norm_statistics
from slim_inception.input import pipeline as input_pipeline
from tests import tiny

pytestmark = pytest.mark.integration

INCEPTION = preprocessing_factory.get('inception')


@pytest.fixture(scope='module')
def dataset(data):
  return dataset_factory.get_dataset('image_folder', 'train', data)


@pytest.fixture
def model():
  arg_scope = nets_factory.get_net(tiny.NAME).arg_scope(
    batch_norm_decay=batch_norm_statistics.BATCH_NORM_DECAY
  )
  return nets_factory.create_model(tiny.NAME, 3, arg_scope=arg_scope)


def statistics(model):
  return {
    name: variable.numpy()
    for name, variable in model.variables_by_name.items()
    if '/moving_' in name
  }


def training_batch(dataset, number):
  """Its images, distorted."""
  source = input_pipeline.Source(dataset, INCEPTION, Distortion())
  batches = input_pipeline.record_batches(source, input_pipeline.InputOptions(32, 8))
  batch = next(itertools.islice(batches, number, None))
  return INCEPTION.train_device(batch['image'], batch['seed'], Distortion())


def test_one_batch_makes_inference_what_training_was(dataset, model):
  """Up to the kernel's factor n / (n - 1) of the variance."""
  batch_norm_statistics.estimate(model, dataset, INCEPTION, 1, batch_size=8)
  images = training_batch(dataset, 0)
  measured = statistics(model)
  _, inference = model(images, training=False)
  _, training = model(images, training=True)
  for end_point in ('Conv2d_1a_3x3', 'Mixed_3a'):
    np.testing.assert_allclose(inference[end_point], training[end_point], rtol=0.02, atol=0.01)
  for name, value in statistics(model).items():  # the training call has set them to its own
    np.testing.assert_allclose(measured[name], value, rtol=1e-4, atol=1e-5)


def test_several_batches_are_averaged(dataset, model):
  batch_norm_statistics.estimate(model, dataset, INCEPTION, 1, batch_size=8)
  first = statistics(model)
  batch_norm_statistics.estimate(model, dataset, INCEPTION, 2, batch_size=8)
  both = statistics(model)
  name = next(iter(first))
  assert not np.allclose(first[name], both[name], rtol=1e-3)
  model(training_batch(dataset, 1), training=True)
  for name, value in statistics(model).items():
    np.testing.assert_allclose(both[name], (first[name] + value) / 2, rtol=1e-4, atol=1e-5)


def test_more_batches_than_images(dataset, model):
  with pytest.raises(ValueError, match=r'--batch_norm_batches=4 of 8 images: image_folder train'):
    batch_norm_statistics.estimate(model, dataset, INCEPTION, 4, batch_size=8)
