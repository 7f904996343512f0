"""Images and words in one space: an image net and a text tower, trained by contrast.

  python -m examples.image_and_text

As CLIP (arXiv:2103.00020): an image is near the phrase that tells what it shows, far from those of
the other images of its batch. The tower averages embeddings of words. Prints how many new
images are nearest to the right one of ten phrases, whose wording no image was trained with.
"""

import numpy as np
import tensorflow as tf

from examples import digits, training

NAMES = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
PHRASES = ('a handwritten {}', 'the digit {}', 'this is a {}', '{}', 'somebody wrote {}')
NEW_PHRASE = 'this handwritten digit is a {}'
WIDTH = 64
POSITIONS = 7 * 7  # of stride 8, on images of 75 x 75
WORDS = sorted({word for phrase in PHRASES for word in phrase.split()} | {*NAMES})


def words_of(texts: list[str]) -> np.ndarray:
  """[N, words]: how often each word of the vocabulary is there, as a share."""
  counts = np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32)
  return counts / counts.sum(1, keepdims=True)


class Both(tf.Module):
  """Images and texts -> [N, WIDTH] each, of length 1."""

  def __init__(self):
    super().__init__()
    self.net = training.small_net()
    size = POSITIONS * self.net.channels[8]
    self.projection = tf.Variable(tf.random.normal((size, WIDTH), stddev=0.02))
    self.embedding = tf.Variable(tf.random.normal((len(WORDS), WIDTH)))
    self.log_scale = tf.Variable(2.0)

  def of_images(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    features = tf.reshape(self.net(images, training)[8], (-1, self.projection.shape[0]))
    return tf.math.l2_normalize(tf.matmul(features, self.projection), 1)

  def of_texts(self, words: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(tf.matmul(words, self.embedding), 1)


def main(steps: int = 40) -> float:
  """Trains both; returns the share of new images that are nearest to the right phrase."""
  train, test = digits.load()
  model = Both()

  def loss_of(images, words, labels):
    same = tf.cast(labels == labels[:, tf.newaxis], tf.float32)  # a batch has several of a kind
    targets = same / tf.reduce_sum(same, 1)
    nearness = tf.matmul(model.of_images(images, True), model.of_texts(words), transpose_b=True)
    logits = tf.exp(model.log_scale) * nearness
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    losses += tf.nn.softmax_cross_entropy_with_logits(targets, tf.transpose(logits))
    return tf.reduce_mean(losses) / 2.0

  def with_texts(batches):
    rng = np.random.default_rng(0)
    for images, labels in batches:
      texts = [rng.choice(PHRASES).format(NAMES[label]) for label in labels]
      yield images, words_of(texts), labels

  batches = with_texts(digits.batches(train, 32).take(steps))
  loss = training.train(loss_of, model.trainable_variables, batches)
  phrases = model.of_texts(words_of([NEW_PHRASE.format(name) for name in NAMES]))
  nearness = tf.matmul(model.of_images(test.images), phrases, transpose_b=True)
  accuracy = float(np.mean(np.argmax(nearness, 1) == test.labels))
  print(f'{steps} steps: loss {loss:.3f}, right phrase for {accuracy:.3f} of the images')
  return accuracy


if __name__ == '__main__':
  main()
