"""Dense features: a net whose strides became dilation finds the pixels of discs in noise.

  python -m examples.output_stride

With `output_stride=8` the end of the net has 1/8 of the image's rows, not 1/32, with the same
weights: a checkpoint of the classifier fits. `align_feature_maps=True` makes that 1/8 exact, so
that a resized map lies on the image. Prints the intersection over union on new images.
"""

import numpy as np
import tensorflow as tf

from examples import training

SIZE = 64


def make_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """[count, SIZE, SIZE, 3] in [-1, 1], and whether a pixel is of a disc, [count, SIZE, SIZE]."""
  rng = np.random.default_rng(seed)
  images = rng.uniform(-1.0, 0.0, (count, SIZE, SIZE, 3)).astype(np.float32)
  radius = rng.integers(10, 20, (count, 1, 1))
  top, left = rng.integers(10, SIZE - 10, (2, count, 1, 1))
  y, x = np.mgrid[:SIZE, :SIZE]
  labels = np.hypot(y - top, x - left) < radius
  images[labels] += rng.uniform(0.5, 1.0, 3)
  return images, labels.astype(np.int32)


class Segmenter(tf.Module):
  """Images -> logits of ground and disc for each pixel, [N, SIZE, SIZE, 2]."""

  def __init__(self):
    super().__init__()
    self.net = training.small_net(output_stride=8, align_feature_maps=True)
    shape = 1, 1, self.net.channels[8], 2
    self.head = tf.Variable(tf.random.normal(shape, stddev=0.05))

  def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    coarse = tf.nn.conv2d(self.net(images, training)[8], self.head, 1, 'SAME')
    return tf.image.resize(coarse, images.shape[1:3])


def main(steps: int = 50) -> float:
  """Trains; returns the intersection over union of the discs."""
  model = Segmenter()

  def loss_of(images, labels):
    logits = model(images, training=True)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

  batches = (make_images(8, seed=1 + number) for number in range(steps))
  loss = training.train(loss_of, model.trainable_variables, batches)
  images, labels = make_images(64, seed=0)
  predicted = np.argmax(model(images), -1)
  overlap = float(np.sum(predicted & labels) / np.sum(predicted | labels))
  print(f'{steps} steps: loss {loss:.3f}, intersection over union {overlap:.3f}')
  return overlap


if __name__ == '__main__':
  main()
