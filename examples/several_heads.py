"""One net, two heads: which digit it is, and how much ink it took.

  python -m examples.several_heads

A head of your own takes any features; here both take those of stride 8, so that nothing above them
is built. Prints accuracy and error on digits that were not trained on.
"""

import numpy as np
import tensorflow as tf

from examples import digits
from nets import inception, nets_factory

PLACES = 7 * 7  # of stride 8, on pictures of 75 x 75


def ink(images: np.ndarray) -> np.ndarray:
  """The share of a picture that is white, [N]."""
  return (images.mean((1, 2, 3)) + 1) / 2


class TwoHeads(tf.Module):
  """Pictures -> logits of the digit [N, 10], ink [N]."""

  def __init__(self):
    super().__init__()
    self.net = nets_factory.create_model(
      'inception_v3',
      features_only=True,
      strides=(8,),
      depth_multiplier=0.25,
      arg_scope=inception.inception_v3_arg_scope(batch_norm_decay=0.8),  # for so few steps
    )
    size = PLACES * self.net.channels[8]
    self.kernels = [tf.Variable(tf.zeros((size, n))) for n in (10, 1)]
    self.biases = [tf.Variable(tf.zeros(n)) for n in (10, 1)]

  def __call__(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    features = tf.reshape(self.net(images, training)[8], (-1, self.kernels[0].shape[0]))
    heads = zip(self.kernels, self.biases, strict=True)
    logits, amount = (tf.matmul(features, kernel) + bias for kernel, bias in heads)
    return logits, amount[:, 0]


def main(steps: int = 40) -> tuple[float, float]:
  """Trains both heads and the net; returns accuracy and mean error of the ink."""
  train, test = digits.load()
  model = TwoHeads()
  variables = model.trainable_variables
  optimizer = tf.keras.optimizers.Adam(0.003)
  optimizer.build(variables)

  @tf.function(autograph=False)
  def step(images, labels, amounts):
    with tf.GradientTape() as tape:
      logits, amount = model(images, training=True)
      of_digit = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      of_ink = 10.0 * tf.abs(amount - amounts)  # so that both count about the same
      loss = tf.reduce_mean(of_digit + of_ink) + model.net.regularization_loss()
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss

  for images, labels in digits.batches(train, 32).take(steps):
    loss = step(images, labels, ink(images.numpy()))
  logits, amount = model(test.images)
  accuracy = float(np.mean(np.argmax(logits, 1) == test.labels))
  error = float(np.abs(amount - ink(test.images)).mean())
  print(f'{steps} steps: loss {loss:.3f}, accuracy {accuracy:.3f}, error of the ink {error:.4f}')
  return accuracy, error


if __name__ == '__main__':
  main()
