"""Dense evaluation against the nets themselves and against windows moved by hand."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import geometry, nets_factory

from slim_inception.evaluate import dense
from tests import golden, tiny

pytestmark = pytest.mark.integration

CLASSES = 7
# Name -> pixels a side that leave 2 x 2 features, pixels of a larger image, its places. Inception
# v3 is thin: what is tested is its head. The others take half a minute to trace.
SIZES = {tiny.NAME: (11, (15, 23), (2, 4)), 'inception_v3': (107, (139, 203), (2, 4))}
NETS = [
  pytest.param(name, marks=[] if name in SIZES else pytest.mark.slow)
  for name in (tiny.NAME, *golden.NAMES)
]


def images(height, width, count=1):
  return tf.random.stateless_uniform([count, height, width, 3], [height, width], -1.0, 1.0)


def create(name, **kwargs):
  """A net with statistics and biases that are not the initial ones."""
  side, *_ = SIZES.get(name, SIZES['inception_v3'])
  thin = {'depth_multiplier': 0.1, 'min_depth': 4} if name == 'inception_v3' else {}
  model = nets_factory.create_model(
    name, CLASSES, image_size=side, create_aux_logits=False, **thin, **kwargs
  )
  rng = np.random.default_rng(0)
  for variable_name, variable in model.variables_by_name.items():
    if variable_name.endswith(('/biases', '/beta', '/moving_mean')):
      variable.assign(rng.normal(0.0, 0.1, variable.shape))
  return model, nets_factory.get_net(name)


def head(model, features):
  """Logits of [channels] features."""
  variables = {name: v.numpy() for name, v in model.variables_by_name.items() if 'Logits' in name}
  (weights,) = [v for name, v in variables.items() if name.endswith('/weights')]
  (biases,) = [v for name, v in variables.items() if name.endswith('/biases')]
  return features @ weights.reshape(-1, CLASSES) + biases


def slide(model, net, whole):
  """Logits of each window of 2 x 2 features: [h, w, classes]."""
  features = model(whole)[1][net.body[-1].end_point].numpy()[0]
  rows, columns, _ = features.shape
  return np.array(
    [
      [head(model, features[y : y + 2, x : x + 2].mean((0, 1))) for x in range(columns - 1)]
      for y in range(rows - 1)
    ]
  )


@pytest.mark.parametrize('name', NETS)
def test_is_the_net_at_its_own_size_and_a_sliding_head_beyond(name):
  model, net = create(name)
  side, larger, (rows, columns) = SIZES.get(name, SIZES['inception_v3'])
  traces = []

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
  def dense_logits(images):
    traces.append(images.shape)
    return dense.dense_logits(model, net, images)

  own = images(side, side, 3)
  logits = dense_logits(own)
  assert logits.shape == [3, 1, 1, CLASSES]
  np.testing.assert_allclose(logits[:, 0, 0], model(own)[0], atol=1e-4)

  whole = images(*larger)
  logits = dense_logits(whole)
  assert logits.shape == [1, rows, columns, CLASSES]
  np.testing.assert_allclose(logits[0], slide(model, net, whole), atol=1e-4)
  assert len(traces) == 1


def test_probabilities_are_averages_over_places_and_mirrors():
  model, net = create(tiny.NAME)
  whole = images(15, 23)
  logits = np.stack([slide(model, net, image) for image in (whole, whole[:, :, ::-1])])
  softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  sigmoid = 1 / (1 + np.exp(-logits))
  for fn, expected in [(tf.nn.softmax, softmax), (tf.nn.sigmoid, sigmoid)]:
    found = dense.dense_probabilities(model, net, tf.repeat(whole, 2, 0), fn)
    np.testing.assert_allclose(found, [expected.mean((0, 1, 2))] * 2, atol=1e-5)


@pytest.mark.parametrize('name', [tiny.NAME, *golden.NAMES])
def test_output_size_is_that_of_the_features(name):
  body = nets_factory.get_net(name).body
  smallest = geometry.smallest_input(body)
  assert geometry.output_size(body, smallest) == 1
  if name != tiny.NAME:
    assert geometry.output_size(body, 299) == 8  # the papers' overview figures


@pytest.mark.parametrize('output_stride', [8, None])
def test_a_window_of_a_net_with_its_own_stride(output_stride):
  """It is as large as the features of the net's own size, which dilation leaves larger."""
  model = nets_factory.create_model(
    'resnet_v1_50', CLASSES, image_size=33, depth_multiplier=0.125, output_stride=output_stride
  )
  net = nets_factory.get_net('resnet_v1_50')
  own, whole = images(33, 33, 2), images(33, 65)
  features = model.features(own).shape[1]
  assert features == {8: 5, None: 2}[output_stride]
  logits = dense.dense_logits(model, net, own)
  assert logits.shape == [2, 1, 1, CLASSES]
  np.testing.assert_allclose(logits[:, 0, 0], model(own)[0], atol=1e-4)
  row = model.features(whole).numpy()[0]
  weights, biases = (
    model.variables_by_name[f'{net.logits_scope}/{leaf}'].numpy() for leaf in ('weights', 'biases')
  )
  windows = [row[:, x : x + features].mean((0, 1)) for x in range(row.shape[1] - features + 1)]
  expected = np.stack(windows) @ weights[0, 0] + biases
  np.testing.assert_allclose(dense.dense_logits(model, net, whole)[0, 0], expected, atol=1e-4)


def test_too_small_images_are_refused():
  model, net = create(tiny.NAME)
  with pytest.raises(ValueError, match='Images are 10 x 40; the smallest .* are 11 x 11'):
    dense.dense_logits(model, net, images(10, 40))


@pytest.mark.slow
def test_a_bottleneck_is_refused():
  model, net = create('inception_resnet_v1', bottleneck_layer_size=1792)
  with pytest.raises(ValueError, match='between them lies InceptionResnetV1/Bottleneck/weights'):
    dense.dense_logits(model, net, images(139, 139))
