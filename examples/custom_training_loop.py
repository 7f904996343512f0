"""A training loop of your own: a tape in tf.function, under a distribution strategy.

  python -m examples.custom_training_loop [--replicas=2]

The net is created in the strategy's scope; each replica takes its share of the images, and
gradients are summed. Without GPUs the replicas are logical CPU devices. Prints the accuracy on
digits that were not trained on.
"""

import argparse

import numpy as np
import tensorflow as tf

from examples import digits, training

BATCH = 32  # images of all replicas
POSITIONS = 7 * 7  # of stride 8, on images of 75 x 75


def main(strategy: tf.distribute.Strategy, steps: int = 40) -> float:
  """Trains over the replicas of a strategy; returns the accuracy."""
  train, test = digits.load()
  with strategy.scope():
    net = training.small_net()
    size = POSITIONS * net.channels[8]
    head = tf.Variable(tf.random.normal((size, 10), stddev=0.01))
    variables = [*net.trainable_variables, head]
    optimizer = tf.keras.optimizers.Adam(0.003)
    optimizer.build(variables)

  def logits_of(images, training=False):
    return tf.matmul(tf.reshape(net(images, training)[8], (-1, size)), head)

  def of_replica(images, labels):
    with tf.GradientTape() as tape:
      logits = logits_of(images, training=True)
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      loss = tf.reduce_sum(losses) / BATCH  # gradients are summed over the replicas
      loss += net.regularization_loss() / strategy.num_replicas_in_sync
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss

  @tf.function(autograph=False)
  def step(images, labels):
    losses = strategy.run(of_replica, args=(images, labels))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

  batches = strategy.experimental_distribute_dataset(digits.batches(train, BATCH).take(steps))
  for images, labels in batches:
    loss = step(images, labels)
  accuracy = float(np.mean(np.argmax(logits_of(test.images), 1) == test.labels))
  replicas = strategy.num_replicas_in_sync
  print(f'{steps} steps on {replicas} replica(s): loss {loss:.3f}, accuracy {accuracy:.3f}')
  return accuracy


def make_strategy(replicas: int) -> tf.distribute.Strategy:
  """Over so many GPUs, or else logical processors; to be called before TensorFlow starts up."""
  if len(tf.config.list_physical_devices('GPU')) >= replicas:
    return tf.distribute.MirroredStrategy([f'gpu:{i}' for i in range(replicas)])
  processor = tf.config.list_physical_devices('CPU')[0]
  parts = [tf.config.LogicalDeviceConfiguration()] * replicas
  tf.config.set_logical_device_configuration(processor, parts)
  return tf.distribute.MirroredStrategy([f'cpu:{i}' for i in range(replicas)])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--replicas', type=int, default=2)
  main(make_strategy(parser.parse_args().replicas))
