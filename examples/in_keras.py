"""A net inside a keras.Model: fit, save and load, weights or all.

  python -m examples.in_keras

Keras 3 knows no variables but its own. So the layer has Keras make those of a copy of the net, by a
creator scope: both then hold the same variables, and optimizer, files and summary see them. Prints
the accuracy on digits that were not trained on, before and after a trip through a `.keras` file.
"""

import copy
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from slim_inception.nets.feature_pyramid import FeaturePyramid

from examples import digits, training


@keras.saving.register_keras_serializable('slim_inception')
class Features(keras.layers.Layer):
  """The features of one stride of a pyramid, with its weights, or of one made by `get_config`."""

  def __init__(self, net: FeaturePyramid | Mapping[str, Any], stride: int, **kwargs: Any):
    super().__init__(**kwargs)
    self.stride = stride
    self._is_adding = False
    with tf.variable_creator_scope(self._make_variable):
      is_config = isinstance(net, Mapping)
      self.net = FeaturePyramid.from_config(net) if is_config else copy.deepcopy(net)

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
    if training and self.trainable:
      self.add_loss(self.net.regularization_loss())
    return self.net(images, training and self.trainable)[self.stride]

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), 'net': self.net.get_config(), 'stride': self.stride}


def make_model(size: int) -> keras.Model:
  images = keras.Input((size, size, 3))
  features = Features(training.small_net(), 8, name='inception_v3')(images)
  return keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(features)))


def accuracy_of(model: keras.Model, test: digits.Digits) -> float:
  return float(np.mean(np.argmax(model(test.images), 1) == test.labels))


def main(steps: int = 40) -> tuple[float, float]:
  """Trains; returns the accuracy, and that of the model that is read back from a file."""
  keras.utils.set_random_seed(0)  # Keras' own layers do not heed TensorFlow's seed
  train, test = digits.load()
  model = make_model(75)
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(0.003), loss)
  model.fit(digits.batches(train, 32), steps_per_epoch=steps, shuffle=False, verbose=0)
  accuracy = accuracy_of(model, test)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'digits.keras')
    model.save(path)
    other = keras.models.load_model(path)
  again = accuracy_of(other, test)
  print(f'{steps} steps: accuracy {accuracy:.3f}; of the model from a file {again:.3f}')
  return accuracy, again


if __name__ == '__main__':
  main()
