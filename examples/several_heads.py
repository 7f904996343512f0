"""One net, two heads: which digit it is, and how bright the ink.

  python -m examples.several_heads

A head of your own takes any features; here both take those of stride 8, so that nothing above them
is built: the digit needs to know where they are, the brightness their mean alone. Prints accuracy
and error on digits that were not trained on.
"""

import numpy as np
import tensorflow as tf

from examples import digits, training

POSITIONS = 7 * 7  # of stride 8, on images of 75 x 75


def fade(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Images with ink of random brightness, and that brightness, [N] from 0.2 to 1."""
  brightness = rng.uniform(0.2, 1.0, len(images)).astype(np.float32)
  return (images + 1) * brightness[:, np.newaxis, np.newaxis, np.newaxis] - 1, brightness


class TwoHeads(tf.Module):
  """Images -> logits of the digit [N, 10], of the brightness [N]."""

  def __init__(self):
    super().__init__()
    self.net = training.small_net()
    width = self.net.channels[8]
    self.digit = tf.Variable(tf.random.normal((POSITIONS * width, 10), stddev=0.01))
    self.brightness = tf.Variable(tf.zeros((width, 1)))

  def __call__(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    features = self.net(images, training)[8]
    digit = tf.matmul(tf.reshape(features, (-1, self.digit.shape[0])), self.digit)
    brightness = tf.matmul(tf.reduce_mean(features, (1, 2)), self.brightness)
    return digit, brightness[:, 0]


def main(steps: int = 60) -> tuple[float, float]:
  """Trains both heads and the net; returns accuracy and mean error of the brightness."""
  train, test = digits.load()
  rng = np.random.default_rng(0)
  model = TwoHeads()

  def loss_of(labels, images, brightness):
    digit, logit = model(images, training=True)
    of_digit = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, digit)
    of_brightness = tf.nn.sigmoid_cross_entropy_with_logits(brightness, logit)
    return tf.reduce_mean(of_digit + of_brightness) + model.net.regularization_loss()

  batches = digits.batches(train, 32).take(steps)
  faded = ((labels, *fade(images.numpy(), rng)) for images, labels in batches)
  loss = training.train(loss_of, model.trainable_variables, faded)
  images, brightness = fade(test.images, rng)
  digit, logit = model(images)
  accuracy = float(np.mean(np.argmax(digit, 1) == test.labels))
  error = float(np.abs(tf.sigmoid(logit) - brightness).mean())
  print(f'{steps} steps: loss {loss:.3f}, accuracy {accuracy:.3f}, brightness off by {error:.3f}')
  return accuracy, error


if __name__ == '__main__':
  main()
