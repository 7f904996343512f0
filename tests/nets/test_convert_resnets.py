"""ResNets and Inception-v1 of Keras, torchvision and timm give our logits, and ours theirs.

On random weights and statistics, at sizes whose maps are even, where paddings differ, and odd. Of
PyTorch's libraries only where they are installed: see `test_convert_torch.py`.
"""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, keras_applications

from tests import golden

pytestmark = pytest.mark.integration

KERAS = {
  'resnet_v1_50': tf.keras.applications.ResNet50,
  'resnet_v1_101': tf.keras.applications.ResNet101,
  'resnet_v1_152': tf.keras.applications.ResNet152,
  'resnet_v2_50': tf.keras.applications.ResNet50V2,
  'resnet_v2_101': tf.keras.applications.ResNet101V2,
  'resnet_v2_152': tf.keras.applications.ResNet152V2,
}
KERAS_LEAVES = {'kernel': 'weights', 'bias': 'biases'}


def keras_model(name, side=64):
  model = KERAS[name](
    weights=None, classes=7, input_shape=(side, side, 3), classifier_activation=None
  )
  for i, variable in enumerate(model.variables):
    leaf = variable.path.split('/')[-1]
    variable_name = f'{i}/{KERAS_LEAVES.get(leaf, leaf)}'
    variable.assign(golden.weights(variable_name, tuple(variable.shape)))
  return model


@pytest.mark.parametrize(
  'name',
  [name if name.endswith('_50') else pytest.param(name, marks=pytest.mark.slow) for name in KERAS],
)
def test_keras_both_ways(name, tmp_path):
  theirs, path = keras_model(name), tmp_path / 'theirs.weights.h5'
  theirs.save_weights(path)
  ours = nets_factory.create_model(name, weights=path)
  images = golden.images(2, 64, 64)
  expected = theirs(images, training=False).numpy()
  assert golden.relative_error(ours(images)[0].numpy(), expected) < 1e-4

  slims = nets_factory.create_model(name, weights=path, padding='slim')
  assert golden.relative_error(slims(images)[0].numpy(), expected) > 1e-3

  for variable_name, variable in ours.variables_by_name.items():
    variable.assign(golden.weights(variable_name, tuple(variable.shape), seed=2))
  ours.save(str(tmp_path / 'ours.ckpt'))
  weights = conversion.read(tmp_path / 'ours.ckpt', name)
  assert not weights.left_out
  assert conversion.write_keras(path, weights) == []
  theirs.load_weights(path)
  expected = ours(images)[0].numpy()
  assert golden.relative_error(theirs(images, training=False).numpy(), expected) < 1e-4


def test_whole_models_of_keras_and_headless_ones(tmp_path):
  theirs = keras_model('resnet_v2_50')
  theirs.save(tmp_path / 'whole.keras')
  images = golden.images(1, 64, 64)
  ours = nets_factory.create_model('resnet_v2_50', weights=tmp_path / 'whole.keras')
  assert golden.relative_error(ours(images)[0].numpy(), theirs(images).numpy()) < 1e-4
  weights = conversion.read(tmp_path / 'whole.keras', 'resnet_v2_50')
  headless = weights._replace(
    layers={path: layer for path, layer in weights.layers.items() if path != 'logits'}
  )
  conversion.write_keras(tmp_path / 'features.weights.h5', headless)
  features = tf.keras.applications.ResNet50V2(
    weights=None, include_top=False, input_shape=(64, 64, 3), pooling='avg'
  )
  features.load_weights(tmp_path / 'features.weights.h5')
  pooled = nets_factory.create_model('resnet_v2_50', None, weights=tmp_path / 'features.weights.h5')
  expected = features(images).numpy()
  assert golden.relative_error(pooled(images)[0].numpy()[:, 0, 0], expected) < 1e-4


def test_channels_of_caffe_are_turned_where_a_command_reads(tmp_path):
  """Keras' preprocessing makes blue, green, red; ours keeps red, green, blue."""
  theirs, path = keras_model('resnet_v1_50'), tmp_path / 'theirs.weights.h5'
  theirs.save_weights(path)
  pixels = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
  expected = theirs(tf.keras.applications.resnet.preprocess_input(pixels.copy())).numpy()
  weights = conversion.read(path, 'resnet_v1_50')
  assert any('blue, green, red' in note for note in weights.notes)
  ours = nets_factory.create_model('resnet_v1_50', 7, **weights.arguments)
  conversion.fill(ours.variables_by_name, weights, ())
  logits = ours(pixels - [123.68, 116.78, 103.94])[0].numpy()
  assert golden.relative_error(logits, expected) < 1e-3  # the means differ by 0.001


def test_images_that_the_net_takes_anyway_need_no_folding(tmp_path):
  path = tmp_path / 'theirs.weights.h5'
  keras_model('resnet_v1_50').save_weights(path)
  plain = conversion.read(path, 'resnet_v1_50', bgr=False)
  same = conversion.read(path, 'resnet_v1_50', mean=(123.68, 116.779, 103.939), std=(1,), bgr=False)
  np.testing.assert_array_equal(same.layers['conv1'].weights, plain.layers['conv1'].weights)
  with pytest.raises(ValueError, match='cannot be folded into a first convolution with padding'):
    conversion.read(path, 'resnet_v1_50', mean=(127.5,), std=(127.5,))


def test_another_version_is_named(tmp_path):
  model = nets_factory.create_model('resnet_v1_50', 7, depth_multiplier=0.125)
  model.save(str(tmp_path / 'v1.ckpt'))
  with pytest.raises(ValueError, match=r'no resnet_v2_50/\.\.\. for resnet_v2_50, .*resnet_v1_50'):
    conversion.read(tmp_path / 'v1.ckpt', 'resnet_v2_50')
  with pytest.raises(ValueError, match='Keras Applications has no resnet_v1_5_50; it has'):
    keras_applications.names_for('resnet_v1_5_50')


def torch_cases():
  return [
    ('resnet_v1_5_50', 'torchvision', 'resnet50', 96),
    ('resnet_v1_5_50', 'timm', 'resnet50', 97),
    ('inception_v1', 'torchvision', 'googlenet', 224),
    ('inception_v1', 'torchvision', 'googlenet', 187),
    *(
      pytest.param(f'resnet_v1_5_{n}', library, f'resnet{n}', 64, marks=pytest.mark.slow)
      for n in (101, 152)
      for library in ('torchvision', 'timm')
    ),
  ]


@pytest.mark.parametrize(('name', 'library', 'theirs_name', 'side'), torch_cases())
def test_pytorch_both_ways(name, library, theirs_name, side, tmp_path):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  safetensors = pytest.importorskip('safetensors.torch', reason='it is not installed')
  library = pytest.importorskip(library, reason='it is not installed')

  def make():
    if library.__name__ == 'timm':
      return library.create_model(theirs_name, num_classes=7)
    more = {'aux_logits': False, 'init_weights': False} if theirs_name == 'googlenet' else {}
    return getattr(library.models, theirs_name)(num_classes=7, **more)

  def logits_of(model):
    with torch.no_grad():
      return model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()

  theirs, images = make(), golden.images(2, side, side)
  kinds = {'running_var': 'moving_variance', 'running_mean': 'moving_mean', 'bias': 'beta'}
  for key, value in theirs.state_dict().items():
    leaf = key.rpartition('.')[2]
    kind = 'gamma' if value.ndim == 1 and leaf == 'weight' else kinds.get(leaf, 'weights')
    if value.ndim:
      shape = tuple(value.shape)
      random = golden.weights(f'{key}/{kind}', shape[::-1]).T.reshape(shape)
      value.copy_(torch.from_numpy(random.copy()))
  torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
  expected = logits_of(theirs)
  more = nets_factory.get_net(name).select(global_pool=True)
  ours = nets_factory.create_model(name, weights=tmp_path / 'theirs.pth', **more)
  assert golden.relative_error(ours(images)[0].numpy(), expected) < 1e-4

  ours.save(str(tmp_path / 'ours.ckpt'))
  weights = conversion.read(tmp_path / 'ours.ckpt', name)
  assert conversion.write_timm(str(tmp_path / 'back.safetensors'), weights) == []
  back = make()
  back.load_state_dict(safetensors.load_file(tmp_path / 'back.safetensors'), strict=True)
  assert golden.relative_error(logits_of(back), expected) < 1e-4
