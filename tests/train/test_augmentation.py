"""The flags of augmentation, as the step applies them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.preprocessing import mixing, policies
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception import choices
from slim_inception.train.augmentation import make_augmentation
from tests import tiny
from tests.train import steps

pytestmark = pytest.mark.integration

PLAIN = Distortion(random_flip=False, color=False)
SIDE = 16
FLAGS = {
  'mixup_alpha': 1.0, 'cutmix_alpha': 1.0, 'random_erasing': 1.0, 'randaugment_layers': 2,
  'random_flip_vertical': True, 'random_rotation': True, 'augment_policy': 'trivial_augment',
}  # fmt: skip


def config(**kwargs):
  return tiny.config(**{'optimizer': 'sgd', 'train_image_size': SIDE, **kwargs})


def batch(start: int = 0) -> dict[str, tf.Tensor]:
  return steps.batch(4, SIDE, start)


def augmentation(settings):
  return dataclasses.replace(make_augmentation(settings), distortion=PLAIN)


def augmented(settings, value):
  chosen = augmentation(settings)
  return chosen.apply(value, chosen.sample_mix(value))


@pytest.mark.parametrize('name', FLAGS)
def test_each_flag_changes_the_images_by_their_seeds_alone(name):
  flags = {name: FLAGS[name]}
  plain, share = augmented(config(), batch())
  assert share is None
  np.testing.assert_allclose(plain, batch()['image'].numpy() / 127.5 - 1, atol=1e-6)
  one, again, other = (augmented(config(**flags), batch(start))[0] for start in (0, 0, 4))
  np.testing.assert_array_equal(one, again)
  assert np.mean(one.numpy() != plain.numpy()) > 0.01
  assert np.mean(one.numpy() != other.numpy()) > 0.01
  assert one.dtype == tf.float32
  assert augmented(config(precision='bfloat16', **flags), batch())[0].dtype == tf.bfloat16


@pytest.mark.parametrize(
  ('flag', 'value', 'other'),
  [
    ('randaugment_magnitude', 1.0, 9.0),
    ('randaugment_std', 0.0, 2.0),
    ('randaugment_probability', 0.0, 1.0),
  ],
)
def test_strengths_are_taken(flag, value, other):
  one, another = (
    augmented(config(randaugment_layers=3, **{flag: number}), batch())[0]
    for number in (value, other)
  )
  assert np.any(one.numpy() != another.numpy())


@pytest.mark.parametrize('name', policies.POLICIES)
def test_a_policy_is_that_of_its_name(name):
  found, _ = augmented(config(augment_policy=name), batch())
  value = batch()
  expected = policies.POLICIES[name](value['image'], value['seed']).numpy()
  np.testing.assert_allclose(found, expected / 127.5 - 1, atol=1e-6)
  assert sorted(policies.POLICIES) == sorted(choices.POLICIES)


def test_views_differ_in_what_the_policy_does_alone(monkeypatch):
  settings = config(augment_policy='trivial_augment', jsd_weight=12)
  value = batch()
  first, second, third = tf.split(augmented(settings, value)[0], 3)
  np.testing.assert_allclose(first, value['image'].numpy() / 127.5 - 1, atol=1e-6)
  for view in (second, third):
    assert np.mean(view != first) > 0.1
  assert np.mean(second != third) > 0.1
  monkeypatch.setitem(policies.POLICIES, 'trivial_augment', lambda images, seeds: images)
  crops, _ = make_augmentation(settings).apply(value, None)  # mirrored and recoloured
  for view in tf.split(crops, 3):
    np.testing.assert_array_equal(view, crops[:4])
  assert np.mean(crops[:4] != first) > 0.1


@pytest.mark.parametrize('accumulate_steps', [1, 2])
def test_the_step_compares_views(accumulate_steps):
  """Dropout off and fixed weights: the step's loss is that of views and labels by hand."""
  settings = config(
    augment_policy='trivial_augment', jsd_weight=12, dropout_keep_prob=1.0, weight_decay=0.0,
    accumulate_steps=accumulate_steps, batch_size=4 // accumulate_steps,
  )  # fmt: skip
  chosen = augmentation(settings)
  state, step = steps.make(settings, augmentation=chosen)
  expected = []
  for part in np.split(np.arange(4), accumulate_steps):
    own = {name: tf.gather(value, part) for name, value in batch().items()}
    logits, end_points = state.model(chosen.apply(own, None)[0], training=True)
    assert 'AuxLogits' not in end_points
    p = tf.nn.softmax(tf.reshape(logits, (3, len(part), 3))).numpy()
    mixture = p.mean(0)
    divergence = np.mean(np.sum(p * np.log(p / mixture), -1))
    labels = -np.mean(np.log(p[0, np.arange(len(part)), own['label']]))
    expected.append((labels + 12 * divergence, labels, divergence))
  results = steps.run(step, batch(), rate=0.0)
  names = ('loss', 'cross_entropy', 'jensen_shannon')
  assert [results[name] for name in names] == pytest.approx(np.mean(expected, 0), rel=1e-4)


def test_the_step_mixes_targets_as_images():
  """Dropout off and fixed weights: the step's loss is that of the mixed batch by hand."""
  settings = config(mixup_alpha=1.0, cutmix_alpha=1.0, dropout_keep_prob=1.0, weight_decay=0.0)
  state, step = steps.make(settings, augmentation=augmentation(settings))
  kinds = set()
  for start in range(8):
    drawn = mixing.sample(tf.constant([0, start]), 1.0, 1.0)
    kinds.add(bool(drawn.is_cut))
    images, share = mixing.mix(tf.cast(batch()['image'], tf.float32) / 127.5 - 1, drawn)
    targets = np.eye(3)[batch()['label']]
    targets = float(share) * targets + (1 - float(share)) * targets[::-1]
    logits, _ = state.model(images, training=True)
    expected = -np.mean(np.sum(targets * tf.nn.log_softmax(logits).numpy(), 1))
    results = steps.run(step, batch(start), rate=0.0)
    assert results['cross_entropy'] == pytest.approx(expected, rel=1e-4)
  assert kinds == {False, True}
