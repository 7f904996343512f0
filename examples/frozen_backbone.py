"""A frozen backbone: features are computed once, a head is trained on them in seconds.

  python -m examples.frozen_backbone [--weights=inception_v3.ckpt]

`--weights` takes any file that docs/checkpoints.md names. Without it the net keeps its random
weights, whose features are enough to tell digits apart. Prints the accuracy on digits that were not
trained on.
"""

import argparse
from typing import Any

import numpy as np
import tensorflow as tf
from slim_inception.nets import inception, inception_utils, nets_factory
from slim_inception.nets.feature_pyramid import FeaturePyramid

from examples import digits, training

STRIDE = 8


def make_backbone(weights: str | None) -> FeaturePyramid:
  """Batch norm is frozen, so that training=True changes nothing either."""
  arguments: dict[str, Any] = {'weights': weights} if weights else {'depth_multiplier': 0.25}
  scope = inception_utils.with_frozen_batch_norm(inception.inception_v3_arg_scope())
  return nets_factory.create_model(
    'inception_v3', features_only=True, strides=(STRIDE,), arg_scope=scope, **arguments
  )


def features_of(net: FeaturePyramid, images: np.ndarray, batch_size: int = 128) -> np.ndarray:
  """[N, 2 * channels]: mean and largest value of each channel."""
  features = []
  for first in range(0, len(images), batch_size):
    maps = net(images[first : first + batch_size], training=True)[STRIDE]
    features.append(tf.concat([tf.reduce_mean(maps, (1, 2)), tf.reduce_max(maps, (1, 2))], 1))
  return np.concatenate(features)


def main(weights: str | None = None, steps: int = 300) -> tuple[float, bool]:
  """Trains a head; returns its accuracy, and whether the backbone is as it was."""
  train, test = digits.load()
  net = make_backbone(weights)
  before = [variable.numpy() for variable in net.variables]
  seen, unseen = features_of(net, train.images), features_of(net, test.images)
  mean, deviation = seen.mean(0), seen.std(0) + 1e-6
  seen, unseen = (seen - mean) / deviation, (unseen - mean) / deviation

  kernel = tf.Variable(tf.zeros((seen.shape[1], 10)))
  bias = tf.Variable(tf.zeros(10))

  def loss_of():
    logits = tf.matmul(seen, kernel) + bias
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(train.labels, logits))

  loss = training.train(loss_of, [kernel, bias], [()] * steps, learning_rate=0.01)
  accuracy = float(np.mean(np.argmax(unseen @ kernel + bias, 1) == test.labels))
  same = all(np.array_equal(a, b) for a, b in zip(before, net.variables, strict=True))
  print(f'{steps} steps: loss {loss:.3f}, accuracy {accuracy:.3f}; backbone unchanged: {same}')
  return accuracy, same


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--weights')
  main(parser.parse_args().weights)
