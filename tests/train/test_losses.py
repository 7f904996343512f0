"""Losses against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from slim_inception.choices import LOSSES as LOSSES_FLAG
from slim_inception.train import losses

LOGITS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1], np.int32)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy(smoothing):
  log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
  targets = np.eye(4)[LABELS] * (1 - smoothing) + smoothing / 4
  expected = -(targets * log_probabilities).sum(1).mean()
  loss = losses.softmax_cross_entropy(tf.constant(LOGITS), tf.constant(LABELS), smoothing)
  assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_smoothing_is_tf1s():
  expected = tf.compat.v1.losses.softmax_cross_entropy(
    np.eye(4)[LABELS], LOGITS, label_smoothing=0.1
  )
  loss = losses.softmax_cross_entropy(tf.constant(LOGITS), tf.constant(LABELS), 0.1)
  assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_top_1():
  expected = np.mean(LOGITS.argmax(1) == LABELS)
  assert float(losses.top_1(LOGITS, tf.constant(LABELS))) == pytest.approx(expected)


TARGETS = np.array(
  [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0.3, 0.7, 0], [0, 0, 0, 1]],
  np.float32,
)
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5], np.float32)


def test_every_choice_of_the_flag_is_there():
  assert tuple(losses.LOSSES) == LOSSES_FLAG


@pytest.mark.parametrize('loss', losses.LOSSES.values())
def test_labels_are_one_hot_targets(loss):
  one_hot = tf.constant(np.eye(4, dtype=np.float32)[LABELS])
  for smoothing in (0.0, 0.1):
    by_labels = loss(tf.constant(LOGITS), tf.constant(LABELS), smoothing)
    assert float(by_labels) == float(loss(tf.constant(LOGITS), one_hot, smoothing))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_sigmoid_is_tf1s(smoothing):
  expected = tf.compat.v1.losses.sigmoid_cross_entropy(TARGETS, LOGITS, label_smoothing=smoothing)
  loss = losses.sigmoid_cross_entropy(tf.constant(LOGITS), tf.constant(TARGETS), smoothing)
  assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_multiply_the_loss_of_each_image():
  log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
  each = -(np.eye(4)[LABELS] * 0.9 + 0.1 / 4) * log_probabilities
  expected = (each.sum(1) * WEIGHTS[LABELS]).mean()
  args = (tf.constant(LOGITS), tf.constant(LABELS), 0.1, tf.constant(WEIGHTS))
  assert float(losses.softmax_cross_entropy(*args)) == pytest.approx(expected, rel=1e-5)


def test_class_weights_multiply_the_binary_loss_of_each_class():
  p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
  each = -TARGETS * np.log(p) - (1 - TARGETS) * np.log(1 - p)
  args = (tf.constant(LOGITS), tf.constant(TARGETS), 0.0, tf.constant(WEIGHTS))
  expected = (each * WEIGHTS).mean()
  assert float(losses.sigmoid_cross_entropy(*args)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ('target', 'largest', 'right'),
  [
    ([0, 1, 0], 1, True),
    ([1, 1, 0], 0, True),  # one of two labels
    ([1, 1, 0], 1, True),
    ([1, 1, 0], 2, False),
    ([0, 0, 0], 0, False),
    ([0.3, 0.7, 0], 1, True),  # mixed: the larger part
    ([0.3, 0.7, 0], 0, False),
  ],
)
def test_top_1_of_targets(target, largest, right):
  logits = tf.one_hot([largest], 3)
  assert float(losses.top_1(logits, tf.constant([target], tf.float32))) == right
