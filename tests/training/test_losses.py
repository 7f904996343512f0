"""Losses against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from training import losses

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
