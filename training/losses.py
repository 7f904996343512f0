"""Losses and accuracies of a batch."""

import tensorflow as tf


def softmax_cross_entropy(
  logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0
) -> tf.Tensor:
  """Mean cross entropy; smoothing as in arXiv:1512.00567 section 7: q' = (1 - e) q + e / K.

  Args:
    logits: [N, K] float32.
    labels: [N] integers in 0..K-1.
    label_smoothing: e.

  Returns:
    float32 scalar.
  """
  num_classes = logits.shape[-1]
  targets = tf.one_hot(labels, num_classes) * (1.0 - label_smoothing)
  targets += label_smoothing / num_classes
  return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))


def top_1(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """The share of the batch whose largest logit is the label's, float32 scalar."""
  right = tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels)
  return tf.reduce_mean(tf.cast(right, tf.float32))
