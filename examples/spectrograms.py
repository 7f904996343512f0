"""Sounds as images of one channel: log-mel spectrograms into a net of `input_channels=1`.

  python -m examples.spectrograms

Synthetic tones in noise: steady, rising, falling or warbling, a second each. Prints the accuracy on
sounds that were not trained on. Spectrograms stored as grey PNGs train with the scripts as well:
slim-inception train --input_channels=1 --norandom_flip --nodistort_color (docs/training.md).
"""

import numpy as np
import tensorflow as tf

from examples import training

RATE = 8000  # samples a second
KINDS = ('steady', 'rising', 'falling', 'warbling')
MEL_BANDS = 80


def sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """[count, RATE] samples, and the kind of each, [count] int32."""
  rng = np.random.default_rng(seed)
  time = np.linspace(0.0, 1.0, RATE)
  kinds = rng.integers(0, len(KINDS), count)
  courses = np.stack([0 * time, time - 0.5, 0.5 - time, 0.25 * np.sin(25 * time)])[kinds]
  pitches = rng.uniform(600, 1500, (count, 1)) * 2.0**courses
  tones = np.sin(2 * np.pi * np.cumsum(pitches, 1) / RATE)
  noise = rng.normal(0, 1, (count, RATE))
  return (tones + noise).astype(np.float32), kinds.astype(np.int32)


def spectrograms(samples: tf.Tensor) -> tf.Tensor:
  """[N, RATE] -> [N, 80 frames, 80 mel bands, 1], each of mean 0 and deviation 0.5."""
  stft = tf.signal.stft(samples, frame_length=512, frame_step=94)
  to_mel = tf.signal.linear_to_mel_weight_matrix(MEL_BANDS, stft.shape[-1], RATE, 80.0, RATE / 2)
  images = tf.math.log(tf.matmul(tf.abs(stft), to_mel) + 1e-3)[..., tf.newaxis]
  return tf.image.per_image_standardization(images) / 2.0


def main(steps: int = 40) -> float:
  """Trains a net of one channel; returns its accuracy."""
  net = training.small_net(input_channels=1)
  head = tf.Variable(tf.random.normal((net.channels[8], len(KINDS)), stddev=0.05))

  def logits_of(samples: tf.Tensor, training: bool = False) -> tf.Tensor:
    features = net(spectrograms(samples), training)[8]
    return tf.matmul(tf.reduce_mean(features, (1, 2)), head)

  def loss_of(samples, kinds):
    logits = logits_of(samples, training=True)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(kinds, logits))

  batches = (sounds(32, seed=1 + number) for number in range(steps))
  loss = training.train(loss_of, [*net.trainable_variables, head], batches)
  samples, kinds = sounds(256, seed=0)
  accuracy = float(np.mean(np.argmax(logits_of(samples), 1) == kinds))
  print(f'{steps} steps: loss {loss:.3f}, accuracy {accuracy:.3f}')
  return accuracy


if __name__ == '__main__':
  main()
