"""Inception-v1 and -v2 beyond their goldens: parts, arguments and initial weights."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import (
  inception,
  inception_v1,
  inception_v2,
  layers,
  nets_factory,
  slim,
)

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
  grey = base('inception_v2', images[..., :1], final_endpoint=ends)[2]
  assert grey['InceptionV2/Conv2d_1a_7x7/depthwise_weights'] == [7, 7, 1, 24]
  assert grey['InceptionV2/Conv2d_1a_7x7/pointwise_weights'] == [1, 1, 24, 64]
  with pytest.raises(ValueError, match="data_format is 'NCWH'; choose 'NHWC' or 'NCHW'"):
    base('inception_v2', images, data_format='NCWH')


# Filters of the columns, left to right, and of the names of each column's convolutions.
WIDTHS = {
  'inception_v1': {
    'Mixed_3b': '64|96,128|16,32|32', 'Mixed_3c': '128|128,192|32,96|64',
    'Mixed_4b': '192|96,208|16,48|64', 'Mixed_4c': '160|112,224|24,64|64',
    'Mixed_4d': '128|128,256|24,64|64', 'Mixed_4e': '112|144,288|32,64|64',
    'Mixed_4f': '256|160,320|32,128|128', 'Mixed_5b': '256|160,320|32,128|128',
    'Mixed_5c': '384|192,384|48,128|128',
  },
  'inception_v2': {
    'Mixed_3b': '64|64,64|64,96,96|32', 'Mixed_3c': '64|64,96|64,96,96|64',
    'Mixed_4a': '128,160|64,96,96', 'Mixed_4b': '224|64,96|96,128,128|128',
    'Mixed_4c': '192|96,128|96,128,128|128', 'Mixed_4d': '160|128,160|128,160,160|96',
    'Mixed_4e': '96|128,192|160,192,192|96', 'Mixed_5a': '128,192|192,256,256',
    'Mixed_5b': '352|192,320|160,224,224|128', 'Mixed_5c': '352|192,320|192,224,224|128',
  },
}  # fmt: skip
NAMES = ('Conv2d_0a_1x1', 'Conv2d_0b_3x3', 'Conv2d_0c_3x3')


class Plain:
  """The same by TensorFlow's operations alone; weights are of `golden`, by name and shape."""

  def __init__(self, name, seed, is_training, depth, is_separable):
    self.name, self.scope = name, {'inception_v1': 'InceptionV1'}.get(name, 'InceptionV2')
    self.seed, self.is_training = seed, is_training
    self.depth, self.is_separable = depth, is_separable
    self.moments = {}  # of what batch norms see, the variance unbiased

  def value(self, path, shape):
    return golden.weights(f'{self.scope}/{path}', tuple(shape), self.seed)

  def conv(self, x, path, filters, kernel, stride=1):
    filters = self.depth(filters)
    weights = self.value(f'{path}/weights', (kernel, kernel, x.shape[3], filters))
    x = tf.nn.conv2d(x, weights, stride, 'SAME')
    beta, mean, variance = (
      self.value(f'{path}/BatchNorm/{leaf}', (filters,))
      for leaf in ('beta', 'moving_mean', 'moving_variance')
    )
    if self.is_training:
      mean, variance = tf.nn.moments(x, (0, 1, 2))
      count = np.prod(x.shape[:3])
      self.moments[path] = mean.numpy(), variance.numpy() * count / (count - 1)
    return tf.nn.relu((x - mean) / tf.sqrt(variance + 0.001) + beta)

  def first(self, x):
    path = 'Conv2d_1a_7x7'
    if not self.is_separable:
      return self.conv(x, path, 64, 7, 2)
    filters = self.depth(64)
    of_each = min(filters // 3, 8)
    depthwise = self.value(f'{path}/depthwise_weights', (7, 7, 3, of_each))
    pointwise = self.value(f'{path}/pointwise_weights', (1, 1, 3 * of_each, filters))
    x = tf.nn.depthwise_conv2d(x, depthwise, (1, 2, 2, 1), 'SAME')
    return tf.nn.relu(
      tf.nn.conv2d(x, pointwise, 1, 'SAME') + self.value(f'{path}/biases', (filters,))
    )

  def block(self, x, block, widths):
    columns = [[int(width) for width in column.split(',')] for column in widths.split('|')]
    is_reduction = len(columns) == 2
    outputs = []
    for i, column in enumerate(columns):
      net, names = x, NAMES
      if i == 3:
        is_max = self.name == 'inception_v1' or block == 'Mixed_5c'
        pool = tf.nn.max_pool2d if is_max else tf.nn.avg_pool2d
        net, names = pool(x, 3, 1, 'SAME'), ['Conv2d_0b_1x1']
      if self.name == 'inception_v1' and (block, i) == ('Mixed_5b', 2):
        names = ['Conv2d_0a_1x1', 'Conv2d_0a_3x3']
      for j, width in enumerate(column):
        is_last = is_reduction and j == len(column) - 1
        name = 'Conv2d_1a_3x3' if is_last else names[j]
        kernel = 1 if name.endswith('1x1') else 3
        net = self.conv(net, f'{block}/Branch_{i}/{name}', width, kernel, 2 if is_last else 1)
      outputs.append(net)
    if is_reduction:
      outputs.append(tf.nn.max_pool2d(x, 3, 2, 'SAME'))
    return tf.concat(outputs, 3)

  def run(self, images):
    x = tf.nn.max_pool2d(self.first(images), 3, 2, 'SAME')
    x = self.conv(self.conv(x, 'Conv2d_2b_1x1', 64, 1), 'Conv2d_2c_3x3', 192, 3)
    x = tf.nn.max_pool2d(x, 3, 2, 'SAME')
    for block, widths in WIDTHS[self.name].items():
      if self.name == 'inception_v1' and block in ('Mixed_4b', 'Mixed_5b'):
        x = tf.nn.max_pool2d(x, 3 if block == 'Mixed_4b' else 2, 2, 'SAME')
      x = self.block(x, block, widths)
    return x.numpy()


def computed(name, images, *, seed, is_training=False, **kwargs):
  """Values of a base and, after the updates, of its variables."""
  net = nets_factory.get_net(name)
  with tf.Graph().as_default(), tf1.Session() as session:
    with (
      slim.arg_scope(net.arg_scope()),
      slim.arg_scope([layers.batch_norm], is_training=is_training),
    ):
      output, _ = getattr(inception, f'{name}_base')(tf.constant(images), **kwargs)
    variables = tf1.global_variables()
    session.run(
      [v.initializer for v in variables],
      {
        v.initializer.inputs[1]: golden.weights(v.op.name, v.shape.as_list(), seed)
        for v in variables
      },
    )
    value, _ = session.run((output, tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)))
    names = [v.op.name.removeprefix(f'{net.scope}/') for v in variables]
    return value, dict(zip(names, session.run(variables), strict=True))


V1 = 'inception_v1', (97, 64), {}
V2 = 'inception_v2', (64, 97), {'depth_multiplier': 0.5, 'min_depth': 24}
NCHW = 'inception_v2', (97, 70), {'use_separable_conv': False, 'data_format': 'NCHW'}


@pytest.mark.parametrize(
  ('name', 'size', 'arguments', 'is_training'),
  [
    (*V1, True),
    (*V2, True),
    (*NCHW, False),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in ((*V1, False), (*V2, False))),
    pytest.param(*NCHW, True, marks=pytest.mark.slow),
  ],
)
def test_every_layer_is_where_plain_operations_have_it(name, size, arguments, is_training):
  images = golden.images(3, *size, seed=3)
  multiplier, least = arguments.get('depth_multiplier', 1), arguments.get('min_depth', 16)
  plain = Plain(
    name,
    seed=5,
    is_training=is_training,
    depth=lambda filters: max(int(filters * multiplier), least),
    is_separable=name == 'inception_v2' and arguments.get('use_separable_conv', True),
  )
  expected = plain.run(images)
  is_nchw = arguments.get('data_format') == 'NCHW'
  inputs = images.transpose(0, 3, 1, 2) if is_nchw else images
  value, variables = computed(name, inputs, seed=5, is_training=is_training, **arguments)
  value = value.transpose(0, 2, 3, 1) if is_nchw else value
  assert golden.relative_error(value, expected) < 1e-4
  for path, moments in plain.moments.items():
    for leaf, moment in zip(('moving_mean', 'moving_variance'), moments, strict=True):
      before = plain.value(f'{path}/BatchNorm/{leaf}', moment.shape)
      after = variables[f'{path}/BatchNorm/{leaf}']
      np.testing.assert_allclose(after, 0.9997 * before + 0.0003 * moment, rtol=1e-4, atol=1e-5)


def test_channels_first():
  """Names and shapes of the variables are the same, and every end point has its channels first."""
  images = golden.images(1, 64, 64)
  net, ends, shapes = base('inception_v2', images.transpose(0, 3, 1, 2), data_format='NCHW')
  _, same, others = base('inception_v2', images)
  assert shapes == others
  assert net is ends['Mixed_5c']
  transposed = {name: (e.shape[0], e.shape[3], *e.shape[1:3]) for name, e in same.items()}
  assert {name: tuple(e.shape) for name, e in ends.items()} == transposed
  assert list(ends) == list(same)


def test_a_grey_net_takes_the_weights_of_a_colour_net(tmp_path):
  """Grey images give the features of their three equal channels, by all ways of reading."""
  colour = nets_factory.create_model('inception_v2', 5, image_size=64, depth_multiplier=0.25)
  for name, variable in colour.variables_by_name.items():
    variable.assign(golden.weights(name, variable.shape.as_list()))
  colour.save(tmp_path / 'model.ckpt')
  images = golden.images(2, 64, 64)[..., :1]
  expected = colour(images.repeat(3, axis=-1))[0].numpy()
  arguments = {'image_size': 64, 'depth_multiplier': 0.25, 'input_channels': 1}
  read = nets_factory.create_model('inception_v2', weights=tmp_path / 'model.ckpt', **arguments)
  assert golden.relative_error(read(images)[0].numpy(), expected) < 1e-4
  restored = nets_factory.create_model('inception_v2', 5, **arguments)
  first = nets_factory.get_net('inception_v2').first_weights
  with pytest.raises(ValueError, match=r'has shape \[7, 7, 1, 15\], but \[7, 7, 3, 5\]'):
    restored.restore(tmp_path / 'model.ckpt')
  restored.restore(tmp_path / 'model.ckpt', sum_channels=first)
  assert golden.relative_error(restored(images)[0].numpy(), expected) < 1e-4


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
  weights, biases = (variable.numpy() for variable in pooled.variables[-2:])
  means = end_points['Mixed_5c'].numpy().mean((1, 2))
  np.testing.assert_allclose(logits, means @ weights[0, 0] + biases, rtol=1e-4, atol=1e-5)
  places = nets_factory.create_model(name, 3, spatial_squeeze=False)(images)[0]
  assert places.shape == ((1, 4, 4, 3) if name == 'inception_v1' else (1, 2, 2, 3))
