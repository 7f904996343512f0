"""Features by stride: which, where, and equal to the classifier's, dilated or not."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from tests import golden

pytestmark = pytest.mark.integration

THIN = {'depth_multiplier': 0.1, 'min_depth': 4}

# What timm says of the same nets (feature_info); its Inception-v4 takes stride 4 one block earlier.
CHANNELS = {
  'inception_v3': {2: 64, 4: 192, 8: 288, 16: 768, 32: 2048},
  'inception_v4': {2: 64, 4: 192, 8: 384, 16: 1024, 32: 1536},
  'inception_resnet_v1': {2: 64, 4: 192, 8: 256, 16: 896, 32: 1792},
  'inception_resnet_v2': {2: 64, 4: 192, 8: 320, 16: 1088, 32: 1536},
}


def randomize(model) -> None:
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, tuple(variable.shape)))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A classifier and its checkpoint, heads included."""
  model = nets_factory.create_model('inception_v3', 5, image_size=107, **THIN)
  randomize(model)
  path = str(tmp_path_factory.mktemp('v3') / 'model.ckpt')
  model.save(path)
  return model, path


def test_a_pyramid_takes_a_classifiers_checkpoint_and_gives_its_end_points(checkpoint, caplog):
  model, path = checkpoint
  caplog.set_level('INFO', 'absl')
  pyramid = nets_factory.create_model('inception_v3', features_only=True, **THIN)
  assert not any('Logits' in name for name in pyramid.variables_by_name)
  pyramid.restore(path)
  assert 'not in the pyramid: InceptionV3/AuxLogits, InceptionV3/Logits\n' in caplog.text
  images = golden.images(2, 107, 139)
  features = pyramid(images)
  end_points = model.end_points(images)
  names = {2: 'Conv2d_2b_3x3', 4: 'Conv2d_4a_3x3', 8: 'Mixed_5d', 16: 'Mixed_6e', 32: 'Mixed_7c'}
  assert set(features) == set(names)
  for stride, name in names.items():
    np.testing.assert_allclose(features[stride], end_points[name], rtol=1e-4, atol=1e-5)
    assert features[stride].shape[-1] == pyramid.channels[stride]
  rows = pyramid.end_points(images)
  assert list(rows) == [unit.scope for unit in pyramid.config.net.body]
  for name in rows:
    np.testing.assert_allclose(rows[name], end_points[name], rtol=1e-4, atol=1e-5)


def test_weights_fill_a_part_of_the_net(checkpoint, caplog):
  model, path = checkpoint
  caplog.set_level('INFO', 'absl')
  pyramid = nets_factory.create_model(
    'inception_v3', features_only=True, strides=(8,), weights=path, **THIN
  )
  assert 'left fresh: none' in caplog.text
  assert not any('Mixed_6a' in name for name in pyramid.variables_by_name)
  images = golden.images(1, 75, 75).astype(np.float32)
  np.testing.assert_allclose(
    pyramid(images)[8], model.end_points(images)['Mixed_5d'], rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('name', golden.FIRST_OR_SLOW)
def test_channels(name):
  assert nets_factory.create_model(name, features_only=True).channels == CHANNELS[name]


def test_training_moves_the_averages_and_gives_gradients():
  pyramid = nets_factory.create_model('inception_v3', features_only=True, strides=(4, 8), **THIN)
  mean = pyramid.variables_by_name['InceptionV3/Conv2d_1a_3x3/BatchNorm/moving_mean']
  before = mean.numpy()
  with tf.GradientTape() as tape:
    features = pyramid(golden.images(2, 75, 75), training=True)
    loss = tf.add_n([tf.reduce_mean(tensor**2) for tensor in features.values()])
  gradients = tape.gradient(loss, pyramid.trainable_variables)
  assert all(gradient is not None for gradient in gradients)
  assert np.any(before != mean.numpy())


def test_features_lie_where_offsets_say():
  """A single bright pixel changes the feature around it, and the same number before and after."""
  pyramid = nets_factory.create_model('inception_v3', features_only=True, strides=(4, 8), **THIN)
  randomize(pyramid)
  stride, offset = 4, pyramid.offsets[4]
  at = offset + stride * 7
  images = np.zeros((2, 107, 107, 3), np.float32)
  images[1, at, at] = 1.0
  plain, changed = pyramid(images)[stride].numpy()
  rows = np.flatnonzero(np.abs(plain - changed).max((1, 2)) > 1e-6)
  assert rows.min() + rows.max() == 2 * 7
  assert pyramid.offsets == {4: 9, 8: 13}


def dense_and_sparse(name: str, output_stride: int, side: int, **kwargs):
  """Features of a net whose strides became dilation, and those of the net as it is."""
  images = golden.images(1, side, side + 16)
  found = []
  for stride in (output_stride, 32):
    pyramid = nets_factory.create_model(name, features_only=True, output_stride=stride, **kwargs)
    randomize(pyramid)
    found.append(pyramid(images))
  return found


@pytest.mark.parametrize(
  ('name', 'output_stride', 'kwargs'),
  [
    ('inception_v3', 8, THIN),
    pytest.param('inception_v3', 16, THIN | {'count_padding': True}, marks=pytest.mark.slow),
    *(
      pytest.param(name, stride, {}, marks=pytest.mark.slow)
      for name, stride in (('inception_v4', 8), ('inception_resnet_v1', 8))
    ),
    pytest.param('inception_resnet_v2', 16, {}, marks=pytest.mark.slow),
  ],
)
def test_output_stride_keeps_the_values_of_the_classifier(name, output_stride, kwargs):
  dense, sparse = dense_and_sparse(name, output_stride, 107, **kwargs)
  assert max(dense) == output_stride
  step = 32 // output_stride
  assert dense[output_stride].shape[1] >= step * (sparse[32].shape[1] - 1) + 1
  found = dense[output_stride][:, ::step, ::step].numpy()
  assert golden.relative_error(found, sparse[32].numpy()) < 1e-4
  for stride in range(2, output_stride):
    if stride in dense:
      assert golden.relative_error(dense[stride].numpy(), sparse[stride].numpy()) < 1e-4


def test_aligned_maps_have_the_size_of_the_image_over_the_stride():
  pyramid = nets_factory.create_model(
    'inception_v3', features_only=True, align_feature_maps=True, **THIN
  )
  features = pyramid(golden.images(1, 64, 96))
  assert {s: tuple(f.shape[1:3]) for s, f in features.items()} == {
    s: (64 // s, 96 // s) for s in (2, 4, 8, 16, 32)
  }
  with pytest.raises(ValueError, match='depend on the image size'):
    _ = pyramid.offsets


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'output_stride': 12}, 'output_stride is 12; choose 8, 16 or 32'),
    ({'strides': (8, 64)}, r'strides are \(8, 64\); choose among 2, 4, 8, 16, 32$'),
    ({'strides': (16,), 'output_stride': 8}, 'among 2, 4, 8 with output_stride=8'),
    ({'num_classes': 10}, 'features_only takes no num_classes'),
    ({'input_channels': 0}, 'input_channels is 0; it must be a whole number of at least 1'),
  ],
)
def test_impossible_arguments(kwargs, message):
  with pytest.raises(ValueError, match=message):
    nets_factory.create_model('inception_v3', features_only=True, **kwargs)


# One channel


def test_a_net_of_one_channel_gets_the_sum_of_three(checkpoint, caplog):
  model, path = checkpoint
  caplog.set_level('INFO', 'absl')
  grey = nets_factory.create_model(
    'inception_v3', 5, image_size=107, input_channels=1, weights=path, **THIN
  )
  assert 'first convolution summed over its 3 input channels: exact for grey' in caplog.text
  assert 'the auxiliary head, made for images of another size' in caplog.text  # Conv2d_2a_1x1
  images = golden.images(2, 107, 107)[..., :1]
  expected, _ = model(np.repeat(images, 3, axis=3))
  np.testing.assert_allclose(grey(images)[0], expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(
    ValueError, match=r'shape \(2, 107, 107, 3\); .* input_channels=3\) takes these'
  ):
    grey(np.repeat(images, 3, axis=3))
