"""Each example does what it says; in one process, because TensorFlow takes long to start."""

import pytest

pytest.importorskip('sklearn', reason='extra demo')

from examples import (  # they read scikit-learn's digits
  custom_training_loop,
  feature_pyramid,
  frozen_backbone,
  image_and_text,
  in_keras,
  output_stride,
  several_heads,
  spectrograms,
)

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_several_heads():
  accuracy, error = several_heads.main(steps=30)
  assert accuracy > 0.6  # chance is 0.1
  assert error < 0.17  # always the mean: 0.2


def test_in_keras():
  accuracy, again = in_keras.main(steps=16)
  assert accuracy > 0.4  # chance is 0.1
  assert again == accuracy


def test_frozen_backbone():
  accuracy, is_unchanged = frozen_backbone.main()
  assert accuracy > 0.85
  assert is_unchanged


@pytest.mark.slow
def test_image_and_text():
  assert image_and_text.main(steps=15) > 0.7  # chance is 0.1


@pytest.mark.slow
def test_spectrograms():
  assert spectrograms.main(steps=12) > 0.8  # chance is 0.25


@pytest.mark.slow
def test_custom_training_loop(mirrored):
  assert custom_training_loop.main(mirrored) > 0.8


@pytest.mark.slow
def test_feature_pyramid():
  right, distance = feature_pyramid.main()
  assert right > 0.8  # chance is 0.33
  assert distance < 15  # of 107


@pytest.mark.slow
def test_output_stride():
  assert output_stride.main() > 0.6
