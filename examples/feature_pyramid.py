"""A small detector: a feature pyramid (arXiv:1612.03144) on strides 8, 16 and 32.

  python -m examples.feature_pyramid

Each image has one bright square; which stride finds it depends on its size, as in detectors. The
cells of all levels compete for it, and the one that wins says how far the centre is from its own.
Prints how many squares of new images are found at the right stride, and how far off.
"""

import numpy as np
import tensorflow as tf

from examples import training

SIZE = 107
SIDES = {8: (9, 16), 16: (22, 34), 32: (46, 64)}  # of the squares that a stride is for, in pixels
WIDTH = 32


def make_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """[count, SIZE, SIZE, 3] in [-1, 1], and [count, 3]: y and x of the centre, stride."""
  rng = np.random.default_rng(seed)
  images = rng.uniform(-1.0, 0.0, (count, SIZE, SIZE, 3)).astype(np.float32)
  objects = np.zeros((count, 3), np.float32)
  for image, target in zip(images, objects, strict=True):
    stride = rng.choice(list(SIDES))
    side = rng.integers(*SIDES[stride])
    top, left = rng.integers(0, SIZE - side, 2)
    image[top : top + side, left : left + side] += rng.uniform(0.7, 1.0, 3)
    target[:] = top + (side - 1) / 2, left + (side - 1) / 2, stride
  return images, objects


class Detector(tf.Module):
  """Images -> [N, cells, 3]: a score, and how many strides the centre is from the cell's."""

  def __init__(self):
    super().__init__()
    self.pyramid = training.small_net(strides=SIDES)
    widths = self.pyramid.channels
    self.lateral = [tf.Variable(kernel(1, widths[stride], WIDTH)) for stride in SIDES]
    self.head = tf.Variable(kernel(3, WIDTH, 3))

  def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    features = self.pyramid(images, training)
    above, levels = None, []
    for weights, stride in reversed([*zip(self.lateral, SIDES, strict=True)]):
      level = tf.nn.conv2d(features[stride], weights, 1, 'SAME')
      if above is not None:
        level += tf.image.resize(above, level.shape[1:3])
      above = level
      cells = tf.nn.conv2d(tf.nn.relu(level), self.head, 1, 'SAME')
      levels.insert(0, tf.reshape(cells, (images.shape[0], -1, 3)))
    return tf.concat(levels, 1)

  def cells(self) -> np.ndarray:
    """[cells, 3]: y, x and stride of each cell. The pyramid knows where its features lie."""
    maps = self.pyramid(np.zeros((1, SIZE, SIZE, 3), np.float32))
    rows = []
    for stride, offset in self.pyramid.offsets.items():
      places = offset + stride * np.arange(maps[stride].shape[1])
      rows += [(y, x, stride) for y in places for x in places]
    return np.array(rows, np.float32)


def kernel(side: int, depth: int, width: int) -> tf.Tensor:
  return tf.random.normal((side, side, depth, width), stddev=(side * side * depth) ** -0.5)


def main(steps: int = 100) -> tuple[float, float]:
  """Trains; returns the share of right strides, and the mean distance of the centres in pixels."""
  model = Detector()
  cells = model.cells()

  def nearest(objects):  # the cell of the object's stride that is nearest to its centre
    away = tf.reduce_sum((objects[:, tf.newaxis, :2] - cells[:, :2]) ** 2, -1)
    return tf.argmin(away + 1e6 * tf.cast(objects[:, 2:] != cells[:, 2], tf.float32), 1)

  def loss_of(images, objects):
    outputs = model(images, training=True)
    cell = nearest(objects)
    classification = tf.nn.sparse_softmax_cross_entropy_with_logits(cell, outputs[..., 0])
    own = tf.gather(cells, cell)
    offset = (objects[:, :2] - own[:, :2]) / own[:, 2:]
    off = tf.abs(tf.gather(outputs, cell, batch_dims=1)[:, 1:] - offset)
    return tf.reduce_mean(classification) + tf.reduce_mean(off)

  batches = (make_images(16, seed=1 + number) for number in range(steps))
  loss = training.train(loss_of, model.trainable_variables, batches)
  images, objects = make_images(64, seed=0)
  outputs = model(images).numpy()
  best = outputs[..., 0].argmax(1)
  centres = cells[best, :2] + outputs[np.arange(64), best, 1:] * cells[best, 2:]
  right = float(np.mean(cells[best, 2] == objects[:, 2]))
  distance = float(np.linalg.norm(centres - objects[:, :2], axis=1).mean())
  print(
    f'{steps} steps: loss {loss:.3f}, stride right {right:.3f}, centre off {distance:.1f} pixels'
  )
  return right, distance


if __name__ == '__main__':
  main()
