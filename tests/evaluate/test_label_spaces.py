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


# Some of the classes


NAMED = dataclasses.replace(FLOWERS, labels_to_names=dict(enumerate('abcde')))
IMAGENET = dataclasses.replace(SLIM, label_offset=1)


@pytest.mark.parametrize(
  ('dataset', 'text', 'labels'),
  [
    (IMAGENET, '0\n\n 6\nn01440764\n', [1, 7]),  # timm's indices; the first synset
    (dataclasses.replace(FROM_ZERO, label_range=(0, 999)), '6\nn01440764', [0, 6]),
    (NAMED, 'd\nb\n0\n', [0, 1, 3]),
  ],
)
def test_valid_labels_of_a_file(tmp_path, dataset, text, labels):
  (tmp_path / 'valid.txt').write_text(text)
  path = str(tmp_path / 'valid.txt')
  assert label_spaces.read_valid_labels(path, dataset).tolist() == labels


def test_valid_labels_of_a_set():
  """A stingray is the first class of ImageNet-A: label 7 with a background, 6 without."""
  with_background = label_spaces.read_valid_labels('imagenet_a', IMAGENET)
  without = label_spaces.read_valid_labels('imagenet_a', FROM_ZERO)
  assert (with_background[0], without[0], len(without)) == (7, 6, 200)
  np.testing.assert_array_equal(with_background - 1, without)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a\nf\n', "line 2: 'f' is no class of flowers"),
    ('5', "line 1: '5' is no class of flowers"),
    ('\n', 'is empty; expected a text file of classes'),
    (None, 'no such file; expected imagenet_a, imagenet_r, imagenet_o, objectnet or a text file'),
  ],
)
def test_valid_labels_that_are_none(tmp_path, text, message):
  path = tmp_path / 'valid.txt'
  if text is not None:
    path.write_text(text)
  with pytest.raises((OSError, ValueError), match=message):
    label_spaces.read_valid_labels(str(path), NAMED)
  with pytest.raises(ValueError, match="is for ImageNet's 1,000 classes, not for those of flowers"):
    label_spaces.read_valid_labels('imagenet_r', NAMED)


def test_restricted_probabilities_are_the_softmax_of_the_logits():
  logits = np.random.default_rng(0).normal(size=(3, 7))
  valid = np.array([1, 2, 6])

  def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

  result = label_spaces.restricted(softmax(logits), valid)
  np.testing.assert_allclose(result, softmax(logits[:, valid]))
  assert label_spaces.restricted(np.array([1.0, 0, 0]), np.array([1, 2])).tolist() == [0, 0]
