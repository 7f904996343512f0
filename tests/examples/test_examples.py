"""Each example does what it says; in one process, because TensorFlow takes long to start."""

import importlib
import pathlib

import tensorflow as tf

from examples import (
  custom_training_loop,
  feature_pyramid,
  frozen_backbone,
  image_and_text,
  in_keras,
  output_stride,
  several_heads,
  spectrograms,
)


def test_several_heads():
  accuracy, error = several_heads.main()
  assert accuracy > 0.8


def test_feature_pyramid():
  right, distance = feature_pyramid.main()


def test_output_stride():
  assert output_stride.main() > 0.5


def test_in_keras():
  accuracy, again = in_keras.main()
  assert accuracy == again


def test_custom_training_loop(mirrored):
  assert custom_training_loop.main(mirrored) > 0.5


def test_frozen_backbone():
  accuracy, same = frozen_backbone.main()
  assert same


def test_image_and_text():
  assert image_and_text.main() > 0.5


def test_spectrograms():
  assert spectrograms.main() > 0.5
