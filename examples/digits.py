"""The 1,797 handwritten digits of scikit-learn as images of any size: what the examples learn."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits


class Digits(NamedTuple):
  """Images of some digits and what they show."""

  images: np.ndarray  # [N, size, size, channels] float32 in [-1, 1]
  labels: np.ndarray  # [N] int32, 0 to 9


def load(size: int = 75, channels: int = 3) -> tuple[Digits, Digits]:
  """Every fifth digit is for testing: 1,437 for training and 360 others."""
  digits = load_digits()
  small = (digits.images / 8.0 - 1.0)[..., np.newaxis].astype(np.float32)
  images = tf.image.resize(small, (size, size), 'bicubic').numpy().clip(-1, 1)
  images = np.repeat(images, channels, axis=3)
  labels = digits.target.astype(np.int32)
  test = np.arange(len(labels)) % 5 == 0
  return Digits(images[~test], labels[~test]), Digits(images[test], labels[test])


def batches(digits: Digits, batch_size: int, seed: int = 0) -> tf.data.Dataset:
  """Endless shuffled pairs (images, labels)."""
  images = tf.data.Dataset.from_tensor_slices(tuple(digits))
  return images.shuffle(len(digits.labels), seed).repeat().batch(batch_size, drop_remainder=True)
