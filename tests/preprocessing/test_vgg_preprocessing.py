"""VGG preprocessing against slim's description, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing import vgg_preprocessing as vgg
from slim_inception.preprocessing.inception_preprocessing import Distortion

from tests.preprocessing.test_inception_preprocessing import (
  NO_BOXES,
  PIXELS,
  encode,
  in_graph,
  seeds,
  tf1_bilinear,
)

MEANS = [123.68, 116.78, 103.94]


def resized(image, side):
  height, width = (round(length * side / min(image.shape[:2])) for length in image.shape[:2])
  return tf1_bilinear(image, height, width)


@pytest.mark.parametrize('pixels', [PIXELS, PIXELS.transpose(1, 0, 2)], ids=['wide', 'tall'])
def test_eval_is_slims_arithmetic(pixels):
  """256 for 224, so 32 for 28: of 90 x 120 it makes 32 x 43."""
  image = resized(pixels, 32)
  top, left = ((length - 28) // 2 for length in image.shape[:2])
  expected = image[top : top + 28, left : left + 28] - MEANS
  for got in (
    vgg.eval_view(pixels, 28, 28, 0.875),
    in_graph(lambda image: vgg.eval_view(image, 28, 28, 0.875), pixels),
    vgg.preprocess_image(pixels, 28, 28, resize_side_min=32),
  ):
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_eval_of_224_resizes_to_256():
  got = vgg.eval_view(PIXELS, 224, 224, 0.875)
  np.testing.assert_allclose(got, vgg.preprocess_image(PIXELS, 224, 224), atol=1e-5)


def test_training_is_a_random_window_of_a_random_size():
  sizes, places = set(), set()
  for seed in seeds(16):
    got = vgg.train_host(encode('PNG'), 28, 28, NO_BOXES, seed, Distortion()).numpy()
    matches = [
      (side, top, left)
      for side in range(32, 65)
      for image in [np.round(resized(PIXELS, side))]
      for top in range(image.shape[0] - 27)
      for left in range(image.shape[1] - 27)
      if np.abs(image[top : top + 28 : 9, left : left + 28 : 9] - got[::9, ::9]).max() <= 1
      and np.abs(image[top : top + 28, left : left + 28] - got).max() <= 1
    ]
    assert matches
    sizes.add(matches[0][0])
    places.add(matches[0][1:])
  assert min(sizes) < 40 and max(sizes) > 56
  assert len(places) > 10


def test_training_in_tf_data_and_by_slims_entry():
  seed = seeds(1)[0]
  image = vgg.train_host(encode('PNG'), 224, 224, NO_BOXES, seed, Distortion())
  graph = in_graph(
    lambda e, s: vgg.train_host(e, 224, 224, NO_BOXES, s, Distortion()), encode('PNG'), seed
  )
  np.testing.assert_array_equal(image, graph)
  entry = vgg.preprocess_image(PIXELS, 224, 224, is_training=True, seed=seed)
  pixels = np.round(entry + MEANS)
  assert any(np.array_equal(image, view) for view in (pixels, pixels[:, ::-1]))
  assert vgg.preprocess_image(PIXELS, 20, 30, is_training=True).shape == (20, 30, 3)


def test_half_of_the_images_are_mirrored():
  images = np.repeat(PIXELS[np.newaxis, :12, :10], 200, axis=0)
  got = vgg.train_device(images, seeds(200), Distortion()).numpy()
  flat = images[0] - np.array(MEANS)
  mirrored = np.array([np.allclose(image, flat[:, ::-1], atol=1e-4) for image in got])
  straight = np.array([np.allclose(image, flat, atol=1e-4) for image in got])
  assert np.all(mirrored ^ straight)
  assert 70 < mirrored.sum() < 130
  kept = vgg.train_device(images, seeds(200), Distortion(random_flip=False), tf.bfloat16)
  assert kept.dtype == tf.bfloat16


def test_torch_is_what_torchvision_gives_of_the_same_pixels():
  """transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]) of 0..1."""
  image = resized(PIXELS, 32)
  top, left = ((length - 28) // 2 for length in image.shape[:2])
  window = image[top : top + 28, left : left + 28] / 255.0
  expected = (window - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  torch = preprocessing_factory.get('torch')
  np.testing.assert_allclose(torch.eval_view(PIXELS, 28, 28), expected, atol=1e-4)
  pixels = torch.denormalize(expected)
  np.testing.assert_allclose(pixels, window * 255, atol=0.51)
  assert preprocessing_factory.canonical_name('torch') == 'torch'
