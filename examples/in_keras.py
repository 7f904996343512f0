"""A net inside a keras.Model: fit, save_weights, load_weights.

  python -m examples.in_keras

Keras 3 knows no variables but its own. So the layer has Keras make the net's, by a creator scope:
both then hold the same variables, and optimizer, weight files and summary see them. Prints the
accuracy on digits that were not trained on, before and after a trip through a file of weights.
"""

import os
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from slim_inception.nets.feature_pyramid import FeaturePyramid

from examples import digits, training


class Features(keras.layers.Layer):
  """The features of one stride of a pyramid, which must not have been built yet."""

  def __init__(self, net: FeaturePyramid, stride: int, **kwargs: Any):
    super().__init__(**kwargs)
    self.net, self.stride = net, stride
    self._is_adding = False
    with tf.variable_creator_scope(self._make_variable):
      net.build()

  def _make_variable(self, next_creator, **kwargs: Any) -> tf.Variable:
    if self._is_adding:  # Keras has come to make what it was asked for
      return next_creator(**kwargs)
    self._is_adding = True
    value = kwargs['initial_value']()
    weight = self.add_weight(
      name=kwargs['name'].replace('/', '.'),
      shape=value.shape,
      initializer=lambda shape, dtype: value,
      trainable=kwargs['trainable'],
    )
    self._is_adding = False
    return weight.value

  def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    if training:
      self.add_loss(self.net.regularization_loss())
    return self.net(images, bool(training))[self.stride]


def make_model(size: int) -> keras.Model:
  net = training.small_net()
  images = keras.Input((size, size, 3))
  features = keras.layers.Flatten()(Features(net, 8, name='inception_v3')(images))
  return keras.Model(images, keras.layers.Dense(10)(features))


def accuracy_of(model: keras.Model, test: digits.Digits) -> float:
  return float(np.mean(np.argmax(model(test.images), 1) == test.labels))


def main(steps: int = 40) -> tuple[float, float]:
  """Trains; returns the accuracy, and that of another model with the weights from a file."""
  keras.utils.set_random_seed(0)  # Keras' own layers do not heed TensorFlow's seed
  train, test = digits.load()
  model = make_model(75)
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(0.003), loss)
  model.fit(digits.batches(train, 32), steps_per_epoch=steps, shuffle=False, verbose=0)
  accuracy = accuracy_of(model, test)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'digits.weights.h5')
    model.save_weights(path)
    other = make_model(75)
    other.load_weights(path)
  again = accuracy_of(other, test)
  print(f'{steps} steps: accuracy {accuracy:.3f}; of the weights from a file {again:.3f}')
  return accuracy, again


if __name__ == '__main__':
  main()
