"""Ways of preprocessing by name, and what they have in common."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.preprocessing import (
  inception_preprocessing,
  normalization,
  preprocessing_factory,
  vgg_preprocessing,
)
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.normalization import Normalization

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
PNG = tf.io.encode_png(IMAGE).numpy()
NORMALIZATIONS = [
  normalization.INCEPTION,
  normalization.VGG,
  normalization.TORCHVISION,
  normalization.FACENET,
]
KEPT = Distortion(random_flip=False, color=False)


@pytest.mark.parametrize(
  'name', ['inception', 'inception_v3', 'inception_resnet_v2', 'vgg', 'vgg_16']
)
def test_slims_names(name):
  """It has one for each net of a family."""
  module = vgg_preprocessing if name.startswith('vgg') else inception_preprocessing
  get = preprocessing_factory.get_preprocessing(name, is_training=False)
  np.testing.assert_array_equal(get(IMAGE, 24, 24), module.preprocess_image(IMAGE, 24, 24))
  assert preprocessing_factory.get(name) == preprocessing_factory.get(name.split('_')[0])


def test_unknown_name_lists_the_valid_ones():
  with pytest.raises(ValueError, match="'resnet'; valid: inception, inception_2015, vgg"):
    preprocessing_factory.get_preprocessing('resnet', is_training=True)


def test_a_name_belongs_to_one():
  with pytest.raises(ValueError, match="there is another preprocessing 'vgg'"):
    preprocessing_factory.register(dataclasses.replace(preprocessing_factory.INCEPTION, name='vgg'))
  assert preprocessing_factory.register(preprocessing_factory.VGG) is preprocessing_factory.VGG


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('values', NORMALIZATIONS, ids=str)
def test_normalization_and_back(values, channels):
  values = values.of_channels(channels)
  images = IMAGE[np.newaxis, ..., :channels]
  expected = (images - np.array(values.mean)) / values.std
  normalized = values.normalize(images)
  np.testing.assert_allclose(normalized, expected, rtol=1e-5, atol=1e-5)
  unit = values.normalize(images / np.float32(255), white=1.0)
  np.testing.assert_allclose(unit, expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(values.denormalize(normalized), images)
  for pixel, value in zip((0, 255), values.value_range, strict=True):
    same = values.normalize(np.full((1, 1, channels), pixel, np.uint8))[0, 0]
    np.testing.assert_allclose(np.broadcast_to(value, channels), same, rtol=1e-6)
  planes = [values.of_channel(i).normalize(images[..., i]) for i in range(channels)]
  np.testing.assert_array_equal(np.stack(planes, -1), normalized)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('name', list(preprocessing_factory.PREPROCESSING))
def test_every_way_gives_a_net_its_own_values(name, channels):
  """Training without distortions and evaluation of one colour, with any mean and deviation."""
  values = Normalization((100.0, 120.0, 140.0), (50.0, 60.0, 70.0)).of_channels(channels)
  way = dataclasses.replace(preprocessing_factory.get(name, channels), normalization=values)
  color = np.full((40, 50, 3), 90, np.uint8)
  encoded = tf.io.encode_png(color)
  expected = np.broadcast_to((90 - np.array(values.mean)) / values.std, (24, 24, channels))
  no_boxes, seed = tf.zeros([0, 4]), tf.constant([1, 2])
  image = way.train_host(encoded, 24, 24, no_boxes, seed, KEPT)
  trained = way.train_device(image[tf.newaxis], seed[tf.newaxis], KEPT)[0]
  np.testing.assert_allclose(trained, expected, atol=1e-5)
  np.testing.assert_allclose(way.eval_image(encoded, 24, 24), expected, atol=1e-5)
  np.testing.assert_array_equal(way.denormalize(trained), color[:24, :24, :channels])


def test_another_family_may_branch_in_python():
  """AutoGraph makes a tf.cond of it, in an input pipeline that does without for our own."""

  def train_host(encoded, height, width, bbox, seed, distortion, channels):
    image = tf.io.decode_png(encoded, channels)[:height, :width]
    if tf.reduce_max(image) > 100:
      image = 255 - image
    return image

  way = dataclasses.replace(
    preprocessing_factory.INCEPTION,
    name='other',
    family=types.SimpleNamespace(train_host=train_host),
  )

  @tf.autograph.experimental.do_not_convert
  def host(encoded):
    return way.train_host(encoded, 24, 24, tf.zeros([0, 4]), tf.constant([1, 2]), KEPT)

  dark = tf.io.encode_png(IMAGE // 4).numpy()
  images = tf.data.Dataset.from_tensor_slices([PNG, dark]).map(host)
  for image, expected in zip(images, (255 - IMAGE, IMAGE // 4), strict=True):
    np.testing.assert_array_equal(image, expected[:24, :24])


def test_descriptions():
  assert preprocessing_factory.get('inception').describe(299) == (
    'RGB; the central 0.875 of each side; resized to 299 x 299, '
    'bilinear as TF1 (no half pixels, not antialiased); (pixel - 127.5) / 127.5'
  )
  assert preprocessing_factory.get('vgg', 1).describe(224) == (
    'grey; the shorter side resized to 256, bilinear as TF1 (no half pixels, not antialiased); '
    'the central 224 x 224; pixel - 117.3793'
  )
