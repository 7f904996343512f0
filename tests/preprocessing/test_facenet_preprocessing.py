"""facenet's preprocessing against its arithmetic in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.preprocessing import facenet_preprocessing as facenet
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.normalization import FACENET_WHITENED

from tests.preprocessing.test_inception_preprocessing import (
  NO_BOXES,
  PIXELS,
  encode,
  in_graph,
  seeds,
  tf1_bilinear,
)

FACES = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3)).astype(np.uint8)


def prewhitened(image):
  values = image.astype(np.float64)
  return (values - values.mean()) / max(values.std(), 1 / np.sqrt(values.size))


def test_a_face_of_the_nets_size_changes_in_its_values_alone():
  encoded = tf.io.encode_png(FACES[0])
  for name, expected in (
    ('facenet', (FACES[0] - 127.5) / 128),
    ('facenet_whitened', prewhitened(FACES[0])),
  ):
    way = preprocessing_factory.get(name)
    np.testing.assert_allclose(way.eval_image(encoded, 160, 160), expected, atol=1e-5)
  np.testing.assert_allclose(
    preprocessing_factory.get_preprocessing('facenet')(FACES[0], 160, 160),
    (FACES[0] - 127.5) / 128,
    atol=1e-5,
  )


def test_evaluation_sees_the_whole_image():
  expected = (tf1_bilinear(PIXELS, 28, 28) - 127.5) / 128
  for got in (
    facenet.eval_view(PIXELS, 28, 28),
    in_graph(lambda image: facenet.eval_view(image, 28, 28), PIXELS),
  ):
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize('channels', [1, 3])
def test_whitening(channels):
  """Of each image of a batch, whatever the scale; a face of one colour becomes 0."""
  way = preprocessing_factory.get('facenet_whitened', channels)
  faces = np.concatenate([FACES[..., :channels], np.full((1, 160, 160, channels), 7, np.uint8)])
  expected = np.stack([prewhitened(face) for face in faces])
  np.testing.assert_allclose(way.normalize(faces), expected, atol=1e-4)
  unit = way.normalization.normalize(faces / np.float32(255), white=1.0)
  np.testing.assert_allclose(unit, expected, atol=1e-3)
  assert way.normalize(faces, tf.bfloat16).dtype == tf.bfloat16
  assert way.normalization.constants == {'mean': None, 'std': None}
  assert way.describe(160).endswith('; (pixel - mean) / deviation of the image')
  with pytest.raises(ValueError, match='of whole images, not of channel 0 alone'):
    FACENET_WHITENED.of_channel(0)


def test_training_is_a_random_window_of_a_face_a_little_larger():
  """182 for 160, so 32 for 28."""
  image, places = np.round(tf1_bilinear(PIXELS, 32, 32)), set()
  for seed in seeds(16):
    got = facenet.train_host(encode('PNG'), 28, 28, NO_BOXES, seed, Distortion()).numpy()
    matches = [
      (top, left)
      for top in range(5)
      for left in range(5)
      if np.abs(image[top : top + 28, left : left + 28] - got).max() <= 1
    ]
    assert len(matches) == 1
    places |= set(matches)
  assert len(places) > 5


def test_training_mirrors_and_normalizes():
  batch, some = FACES[:1, :28, :28], seeds(8)
  seen = {
    tuple(facenet.train_device(batch, seed[tf.newaxis], Distortion())[0, 0, :, 0].numpy())
    for seed in some
  }
  values = ((batch[0, 0, :, 0] - 127.5) / 128).astype(np.float32)
  assert seen == {tuple(values), tuple(values[::-1])}
  trained = facenet.preprocess_image(FACES[0], 28, 28, is_training=True, seed=some[0])
  assert trained.shape == (28, 28, 3)
  assert np.abs(trained).max() <= 1
