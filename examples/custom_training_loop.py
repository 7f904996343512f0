"""A training loop of your own: a tape in tf.function, under a distribution strategy.

  python -m examples.custom_training_loop [--replicas=2]

The net is created in the strategy's scope; each replica takes its share of the pictures, and
gradients are summed. Without GPU the replicas are logical processors. Prints the accuracy on digits
that were not trained on.
"""

import argparse

import numpy as np
import tensorflow as tf

from examples import digits
from nets import inception, nets_factory

BATCH = 32  # pictures of all replicas


def main(strategy: tf.distribute.Strategy, steps: int = 60) -> float:
  """Trains over the replicas of a strategy; returns the accuracy."""
  train, test = digits.load()
  with strategy.scope():
    model = nets_factory.create_model(
      'inception_v3',
      num_classes=10,
      image_size=75,
      depth_multiplier=0.25,
      arg_scope=inception.inception_v3_arg_scope(batch_norm_decay=0.8),  # for so few steps
    )
    variables = model.trainable_variables
    optimizer = tf.keras.optimizers.Adam(0.003)
    optimizer.build(variables)

  def of_replica(images, labels):
    with tf.GradientTape() as tape:
      logits, _ = model(images, training=True)
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      loss = tf.reduce_sum(losses) / BATCH  # gradients are summed over the replicas
      loss += model.regularization_loss() / strategy.num_replicas_in_sync
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss

  @tf.function(autograph=False)
  def step(images, labels):
    losses = strategy.run(of_replica, args=(images, labels))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

  batches = strategy.experimental_distribute_dataset(digits.batches(train, BATCH).take(steps))
  for images, labels in batches:
    loss = step(images, labels)
  logits, _ = model(test.images)
  accuracy = float(np.mean(np.argmax(logits, 1) == test.labels))
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
