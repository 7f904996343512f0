"""Inception-v1 and -v2 beyond their goldens: parts, arguments and initial weights."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, inception_v1, inception_v2, nets_factory, slim

from tests import golden

tf1 = tf.compat.v1

MODULES = {'inception_v1': inception_v1, 'inception_v2': inception_v2}


def base(name, images, **kwargs):
  """The output, the end points and {variable: shape} of a net without its head, in a graph."""
  with tf.Graph().as_default(), slim.arg_scope(nets_factory.get_net(name).arg_scope()):
    net, end_points = getattr(inception, f'{name}_base')(tf.constant(images), **kwargs)
    shapes = {v.op.name: v.shape.as_list() for v in tf1.global_variables()}
  return net, end_points, shapes


@pytest.mark.parametrize('name', MODULES)
def test_base_stops_at_every_end_point(name):
  images = golden.images(1, 32, 32)
  names = [unit.end_point for unit in MODULES[name].BODY]
  for number in range(0, len(names), 4):
    net, end_points, _ = base(name, images, final_endpoint=names[number])
    assert list(end_points) == names[: number + 1]
    assert net is end_points[names[number]]


@pytest.mark.parametrize('name', MODULES)
def test_without_root_the_inputs_are_features(name):
  features = np.zeros((1, 28, 28, 192), np.float32)
  net, end_points, shapes = base(name, features, include_root_block=False)
  assert net.shape == (1, 7, 7, 1024)
  assert next(iter(end_points)) == 'Mixed_3b'
  assert not any('/Conv2d_1a_7x7/' in variable or '/Conv2d_2' in variable for variable in shapes)
  with pytest.raises(ValueError, match="Unknown final_endpoint 'Conv2d_1a_7x7'"):
    base(name, features, include_root_block=False, final_endpoint='Conv2d_1a_7x7')


@pytest.mark.parametrize(('name', 'count'), [('inception_v1', 5607184), ('inception_v2', 10173112)])
def test_bases_have_as_many_numbers_as_in_slims_own_test(name, count):
  shapes = base(name, golden.images(1, 32, 32))[2]
  assert sum(int(np.prod(shape)) for shape in shapes.values()) == count


def test_first_convolution_of_inception_v2():
  images = golden.images(1, 32, 32)
  ends = 'Conv2d_1a_7x7'
  separable = base('inception_v2', images, final_endpoint=ends)[2]
  assert separable == {
    'InceptionV2/Conv2d_1a_7x7/depthwise_weights': [7, 7, 3, 8],
    'InceptionV2/Conv2d_1a_7x7/pointwise_weights': [1, 1, 24, 64],
    'InceptionV2/Conv2d_1a_7x7/biases': [64],
  }
  plain = base('inception_v2', images, final_endpoint=ends, use_separable_conv=False)[2]
  assert plain['InceptionV2/Conv2d_1a_7x7/weights'] == [7, 7, 3, 64]
  assert 'InceptionV2/Conv2d_1a_7x7/BatchNorm/beta' in plain
  thin = base('inception_v2', images, final_endpoint=ends, depth_multiplier=0.25)[2]
  assert thin['InceptionV2/Conv2d_1a_7x7/depthwise_weights'] == [7, 7, 3, 5]  # int(16 / 3)
  assert thin['InceptionV2/Conv2d_1a_7x7/pointwise_weights'] == [1, 1, 15, 16]
  with pytest.raises(ValueError, match="data_format is 'NCHW'; inception_v2 takes 'NHWC'"):
    base('inception_v2', images, data_format='NCHW')


def test_initial_weights_are_slims():
  """Truncated normal numbers, whose deviation is 0.88 of what they are cut from."""
  cases = {
    ('inception_v1', 'Mixed_5b/Branch_0/Conv2d_0a_1x1/weights'): 0.01,
    ('inception_v1', 'Conv2d_2c_3x3/weights'): 0.01,
    ('inception_v2', 'Conv2d_1a_7x7/depthwise_weights'): 1.0,
    ('inception_v2', 'Conv2d_2b_1x1/weights'): 0.1,
    ('inception_v2', 'Mixed_5b/Branch_1/Conv2d_0a_1x1/weights'): 0.09,
    ('inception_v2', 'Mixed_5b/Branch_3/Conv2d_0b_1x1/weights'): 0.1,
  }
  models = {name: nets_factory.create_model(name, 3) for name in MODULES}
  for (name, path), deviation in cases.items():
    scope = nets_factory.get_net(name).scope
    value = models[name].variables_by_name[f'{scope}/{path}'].numpy()
    assert value.std() == pytest.approx(0.88 * deviation, rel=0.06), path
    assert np.abs(value).max() <= 2 * deviation + 1e-6
  he = models['inception_v2'].variables_by_name['InceptionV2/Conv2d_2c_3x3/weights'].numpy()
  assert he.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)


@pytest.mark.parametrize('name', MODULES)
def test_larger_images_need_global_pooling_or_places(name):
  model = nets_factory.create_model(name, 3)
  images = golden.images(1, 320, 320)
  with pytest.raises(ValueError, match='places of the logits: give global_pool=True'):
    model(images)
  pooled = nets_factory.create_model(name, 3, global_pool=True)
  logits, end_points = pooled(images)
  assert logits.shape == (1, 3)
  assert end_points['global_pool'].shape == (1, 1, 1, 1024)
  places = nets_factory.create_model(name, 3, spatial_squeeze=False)(images)[0]
  assert places.shape == ((1, 4, 4, 3) if name == 'inception_v1' else (1, 2, 2, 3))
