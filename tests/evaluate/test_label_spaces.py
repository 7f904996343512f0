"""Labels of a data set and outputs of a net."""

import dataclasses
import json
import pathlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.nets import checkpoints, nets_factory

from slim_inception.evaluate import label_spaces
from slim_inception.evaluate.stored_weights import open_weights
from tests import tiny

SLIM = Dataset('imagenet', 'validation', (), 50000, 1001, {}, (1, 1000))
FROM_ZERO = dataclasses.replace(SLIM, num_classes=1000, label_range=(0, 999))
FLOWERS = dataclasses.replace(SLIM, name='flowers', num_classes=5, label_range=(0, 4))


@pytest.mark.parametrize(
  ('outputs', 'dataset', 'offset'),
  [(1001, SLIM, 0), (1000, SLIM, 1), (1000, FROM_ZERO, 0), (1001, FROM_ZERO, -1), (5, FLOWERS, 0)],
)
def test_offset_by_the_number_of_outputs(outputs, dataset, offset):
  assert label_spaces.find_offset(outputs, dataset) == offset


@pytest.mark.parametrize(
  ('outputs', 'dataset'),
  [
    (4, FLOWERS),  # label 0 has images, so it is no background
    (6, FLOWERS),  # a background, or another class
    (999, SLIM),
    (1000, dataclasses.replace(SLIM, label_range=(0, 1000))),
  ],
)
def test_ambiguous_numbers_are_refused(outputs, dataset):
  with pytest.raises(ValueError, match=rf'{outputs} outputs, .* --labels_offset must say which'):
    label_spaces.find_offset(outputs, dataset)


@hypothesis.settings(derandomize=True, database=None, deadline=None)
@hypothesis.given(
  outputs=strategies.lists(strategies.integers(0, 99), min_size=1, max_size=6),
  offset=strategies.integers(-7, 7),
  num_classes=strategies.integers(1, 8),
)
def test_outputs_in_their_labels_places(outputs, offset, num_classes):
  """output = label - offset."""
  labels = {number + offset: value for number, value in enumerate(outputs)}
  expected = [[labels.get(label, -1) for label in range(num_classes)]]
  result = label_spaces.of_labels(np.array([outputs]), offset, num_classes, absent=-1)
  np.testing.assert_array_equal(result, expected)


def test_outputs_of_a_checkpoint(tmp_path):
  nets_factory.create_model(tiny.NAME, 7).save(str(tmp_path / 'model.ckpt'))
  assert open_weights(str(tmp_path / 'model.ckpt'), tiny.NAME).num_outputs == 7
  with pytest.raises(ValueError, match='not of inception_v4: .*, but is of inception_tiny'):
    open_weights(str(tmp_path / 'model.ckpt'), 'inception_v4')


@pytest.mark.parametrize('name', ['inception_v3', 'inception_v4', 'inception_resnet_v2'])
def test_every_net_has_one_layer_of_outputs(name, tmp_path):
  """By names and shapes alone: a whole net takes seconds to build."""
  path = pathlib.Path(__file__).parent.parent / 'data' / 'golden' / f'{name}.json'
  variables = json.loads(path.read_text())['variables']
  names = {name: shape for name, shape, _ in variables if name.endswith('/biases')}
  checkpoints.save(tmp_path / 'model.ckpt', {n: tf.zeros(shape) for n, shape in names.items()})
  assert open_weights(str(tmp_path / 'model.ckpt'), name).num_outputs in (1000, 1001)
