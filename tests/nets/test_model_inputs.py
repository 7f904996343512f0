"""What a model is called with: the hint for each mistake, while tracing or when a function runs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from tests import golden, tiny

pytestmark = pytest.mark.integration

THIN = {'depth_multiplier': 0.1, 'min_depth': 4}


@pytest.fixture(scope='module')
def model():
  return nets_factory.create_model(tiny.NAME, 5)


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (
      np.zeros((2, 32, 32, 3), np.uint8),
      r'are uint8; .*: tf.cast\(images, tf.float32\) / 127.5 - 1',
    ),
    (np.zeros((2, 32, 32, 3), np.int32), r'are int32; the net takes floats in \[-1, 1\]'),
    (tf.constant(['a.jpg']), 'are string; files must be decoded'),
    (np.zeros((2, 3, 32, 32), 'f'), r'channels come last, tf.transpose\(images, \(0, 2, 3, 1\)\)'),
    (np.zeros((32, 32, 3), 'f'), r'a batch around it, images\[tf.newaxis\]'),
    (np.zeros((3, 32, 32), 'f'), r'tf.transpose\(image, \(1, 2, 0\)\)\[tf.newaxis\]'),
    (np.zeros((2, 32, 32, 4), 'f'), r'create_model\(..., input_channels=4\) takes these'),
    (np.zeros((2, 32), 'f'), 'a batch, height, width and channels'),
    (np.zeros((2, 5, 32, 3), 'f'), 'Images of 5 x 32 pixels are too small for Mixed_3a'),
  ],
)
def test_each_mistake_has_its_hint(model, images, message):
  for call in (model, model.end_points, tf.function(model, autograph=False)):
    with pytest.raises(ValueError, match=message):
      call(images)


def test_grey_images_need_their_channel():
  grey = nets_factory.create_model(tiny.NAME, 5, input_channels=1)
  with pytest.raises(ValueError, match=r'their channel, images\[..., tf.newaxis\]'):
    grey(tf.zeros((2, 32, 32)))


def test_other_preprocessings_are_named():
  net = dataclasses.replace(nets_factory.get_net(tiny.NAME), preprocessing='vgg')
  model = nets_factory.create_model(tiny.NAME, 5).clone(net=net)
  with pytest.raises(ValueError, match="are uint8; .* the preprocessing 'vgg' makes them"):
    model(np.zeros((2, 32, 32, 3), np.uint8))


@pytest.mark.parametrize('training', ['no', 'False', 2, -1, 0.5, [True], tf.constant(1)])
def test_training_is_a_bool(model, training):
  with pytest.raises(ValueError, match='training is .*; it must be True, False or a bool tensor'):
    model(golden.images(2, 32, 32), training=training)


@pytest.mark.parametrize('training', [False, None, 0, np.False_, tf.constant(False)])
def test_ways_to_say_false(model, training):
  images = golden.images(2, 32, 32)
  np.testing.assert_allclose(model(images, training=training)[0], model(images)[0], rtol=1e-5)


def test_images_up_to_255_are_warned_of_once(caplog):
  model = nets_factory.create_model(tiny.NAME, 5)
  images = np.full((2, 32, 32, 3), 255, np.float32)
  tf.function(model, autograph=False)(images)  # while tracing there are no values
  assert caplog.text == ''
  model(images)
  assert 'The images have values up to 255; the net is for values in [-1, 1]' in caplog.text
  caplog.clear()
  model(images)
  nets_factory.create_model(tiny.NAME, 5)(golden.images(2, 32, 32))
  assert caplog.text == ''


# Shapes that are known when the function runs, and no earlier


def traced(function, *shape):
  spec = [tf.TensorSpec(shape, tf.float32)] if shape else [tf.TensorSpec(None, tf.float32)]
  return tf.function(function, autograph=False, input_signature=spec)


def test_unknown_rank_and_channels(model):
  for function in (
    traced(lambda images: model(images)[0]),
    traced(lambda images: model(images)[0], 2, None, None, None),
  ):
    images = golden.images(2, 32, 40).astype(np.float32)
    np.testing.assert_allclose(function(images), model(images)[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'takes images \[N, H, W, 3\]'):
      function(images[..., :2])


@pytest.fixture(scope='module')
def inception_v3():
  model = nets_factory.create_model('inception_v3', 5, **THIN)
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, tuple(variable.shape)))
  return model, traced(lambda images: model(images)[0], None, None, None, 3)


@pytest.mark.parametrize('shape', [(75, 90), (120, 150), (107, 299), (299, 299), (331, 362)])
def test_unknown_sizes_give_what_known_sizes_give(inception_v3, shape):
  """The head pools windows of 8 x 8, or of all there is where that is less."""
  model, function = inception_v3
  images = golden.images(2, *shape).astype(np.float32)
  np.testing.assert_allclose(function(images), model(images)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((60, 80), 'too small for Mixed_7c: the smallest that work are 75 x 75'),
    ((363, 200), 'places of the logits: give global_pool=True'),
  ],
)
def test_sizes_that_cannot_be_are_refused_alike(inception_v3, shape, message):
  model, function = inception_v3
  images = golden.images(1, *shape).astype(np.float32)
  with pytest.raises(ValueError, match=message):
    model(images)
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    function(images)


def test_the_auxiliary_head_at_unknown_sizes(inception_v3):
  model, _ = inception_v3
  function = traced(lambda images: model(images, training=True)[1]['AuxLogits'], 2, None, None, 3)
  images = golden.images(2, 299, 299).astype(np.float32)
  expected = model(images, training=True)[1]['AuxLogits']
  np.testing.assert_allclose(function(images), expected, rtol=1e-3, atol=1e-3)
  with pytest.raises(tf.errors.InvalidArgumentError, match='too small for the auxiliary head, ma'):
    function(images[:, :120, :120])
  small = nets_factory.create_model(tiny.NAME, 5)  # its auxiliary head sees all of 32 x 32 pixels
  spanning = traced(lambda images: small(images, training=True)[0], 2, None, None, 3)
  with pytest.raises(ValueError, match='another image_size; where that of the images is'):
    spanning(images[:, :32, :32])


@pytest.mark.parametrize(
  'arguments',
  [{'output_stride': 8}, pytest.param({'align_feature_maps': True}, marks=pytest.mark.slow)],
)
def test_features_at_unknown_sizes(arguments):
  pyramid = nets_factory.create_model('inception_v3', features_only=True, **arguments, **THIN)
  for name, variable in pyramid.variables_by_name.items():
    variable.assign(golden.weights(name, tuple(variable.shape)))
  function = traced(pyramid, None, None, None, 3)
  for shape in ((75, 90), (107, 81)):
    images = golden.images(1, *shape).astype(np.float32)
    features = function(images)
    for stride, expected in pyramid(images).items():
      assert golden.relative_error(features[stride].numpy(), expected.numpy()) < 1e-4
  if not arguments.get('align_feature_maps'):  # with padding every size will do
    with pytest.raises(tf.errors.InvalidArgumentError, match='the smallest that work are 75 x 75'):
      function(images[:, :60])
