"""Keras Applications' own models give our logits, and ours theirs, on random weights
and statistics.

An independent proof of the nets too: Keras has no auxiliary heads and no background class, but its
conventions are ours: batch norm without gamma, epsilon 0.001, images in [-1, 1].
"""

import functools
import io
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, description

from tests import golden

pytestmark = pytest.mark.integration

KERAS = {
  'inception_v3': tf.keras.applications.InceptionV3,
  'inception_resnet_v2': tf.keras.applications.InceptionResNetV2,
}
LEAVES = {'kernel': 'weights', 'bias': 'biases'}
SIDE = 96


@pytest.fixture(scope='module')
def keras_model():
  """Makes Keras' own nets with random weights, each once, as not the first of a session."""
  tf.keras.layers.Conv2D(1, 1), tf.keras.layers.BatchNormalization()  # the nets' begin at _1

  @functools.cache
  def make(name):
    model = KERAS[name](
      weights=None, classes=7, input_shape=(SIDE, SIDE, 3), classifier_activation=None
    )
    for i, variable in enumerate(model.variables):
      leaf = variable.path.split('/')[-1]
      variable_name = f'{i}/{LEAVES.get(leaf, leaf)}'
      variable.assign(golden.weights(variable_name, tuple(variable.shape)))
    return model

  return make


def assert_same(weights, expected):
  assert weights.layers.keys() == expected.layers.keys()
  for scope, layer in weights.layers.items():
    np.testing.assert_array_equal(layer.weights, expected.layers[scope].weights)
    if layer.norm is not None:
      np.testing.assert_array_equal(layer.norm.mean, expected.layers[scope].norm.mean)
      np.testing.assert_array_equal(layer.norm.variance, expected.layers[scope].norm.variance)


@pytest.mark.parametrize(
  'name', ['inception_v3', pytest.param('inception_resnet_v2', marks=pytest.mark.slow)]
)
def test_from_keras_and_back(name, keras_model, tmp_path):
  theirs, path = keras_model(name), tmp_path / 'theirs.weights.h5'
  theirs.save_weights(path)
  ours = nets_factory.create_model(name, weights=path, create_aux_logits=False)
  images = golden.images(2, SIDE, SIDE)
  expected = theirs(images, training=False)
  assert golden.relative_error(ours(images)[0].numpy(), expected.numpy()) < 1e-4

  for variable_name, variable in ours.variables_by_name.items():
    variable.assign(golden.weights(variable_name, tuple(variable.shape), seed=2))
  ours.save(str(tmp_path / 'ours.ckpt'))
  weights = conversion.read(tmp_path / 'ours.ckpt', name)
  assert not weights.left_out
  assert conversion.write_keras(path, weights) == []
  assert sorted(p.name for p in tmp_path.glob('theirs*')) == [path.name]
  theirs.load_weights(path)
  expected = ours(images)[0].numpy()
  assert golden.relative_error(theirs(images, training=False).numpy(), expected) < 1e-4


def test_every_format_of_keras_reads_alike(keras_model, tmp_path):
  name = 'inception_v3'
  theirs = keras_model(name)
  paths = [tmp_path / file for file in ('a.weights.h5', 'b.h5', 'c.keras', 'd.weights.h5')]
  theirs.save_weights(paths[0])
  theirs.save(paths[1])
  theirs.save(paths[2])
  paths[3].write_bytes(paths[0].read_bytes())
  with h5py.File(paths[3], 'a') as file:  # as the first versions of Keras 3 wrote it
    for group in file['layers'].values():
      if 'vars' in group:
        group['vars'].attrs.pop('name', None)
  expected = conversion.read(paths[0], name)
  assert expected.num_classes == 7
  assert not expected.left_out
  for path in paths[1:]:
    assert_same(conversion.read(path, name), expected)

  with pytest.raises(ValueError, match='not of inception_resnet_v2: .* 203 unnamed .* one 94'):
    conversion.read(paths[0], 'inception_resnet_v2')
  with pytest.raises(ValueError, match='Keras Applications has no inception_v4; it has '):
    conversion.read(paths[0], 'inception_v4')


@pytest.mark.parametrize('optimizer', [pytest.param(None, marks=pytest.mark.slow), 'adam'])
def test_checkpoints_and_saved_models_of_keras(optimizer, keras_model, tmp_path):
  theirs = keras_model('inception_v3')
  theirs.save_weights(tmp_path / 'a.weights.h5')
  expected = conversion.read(tmp_path / 'a.weights.h5', 'inception_v3')
  if optimizer is None:
    theirs.export(tmp_path / 'exported', verbose=False)
    paths, kind = [tmp_path / 'exported'], 'a SavedModel of Keras, of which the variables are read'
  else:
    optimizer = tf.keras.optimizers.get(optimizer)
    optimizer.build(theirs.trainable_variables)
    tf.train.Checkpoint(net=theirs, optimizer=optimizer).save(str(tmp_path / 'weights'))
    paths, kind = [tmp_path / 'weights-1', tmp_path], 'a checkpoint of Keras'
  for path in paths:
    weights = conversion.read(path, 'inception_v3')
    assert_same(weights, expected)
    assert weights.num_classes == 7
    assert set(weights.left_out.values()) == {'no weights of a layer'}
    assert f': {kind}, inception_v3, 7 classes' in description.about(weights)
  with pytest.raises(ValueError, match='InceptionResNetV2 of Keras Applications has 203 unnamed'):
    conversion.read(paths[0], 'inception_resnet_v2')


def test_without_top_and_within_another_model(keras_model, tmp_path):
  theirs = keras_model('inception_v3')
  body = tf.keras.Model(theirs.input, theirs.layers[-2].output)
  body.save_weights(tmp_path / 'notop.weights.h5')
  assert conversion.read(tmp_path / 'notop.weights.h5', 'inception_v3').num_classes is None
  mine = tf.keras.Sequential([body, tf.keras.layers.Dense(5, name='flowers')])
  mine.save_weights(tmp_path / 'mine.weights.h5')
  assert conversion.read(tmp_path / 'mine.weights.h5', 'inception_v3').num_classes == 5


CHANNELS = 4


@pytest.fixture(scope='module')
def small_body():
  """Inception-v3's layers as far as files of weights tell: as many of each, narrow and in a row."""
  layers = tf.keras.layers
  images = net = tf.keras.Input((8, 8, 3))
  for _ in range(94):
    net = layers.Conv2D(CHANNELS, 1, use_bias=False)(net)
    net = layers.Activation('relu')(layers.BatchNormalization(scale=False)(net))
  return tf.keras.Model(images, net)


@pytest.fixture
def save_head(small_body, tmp_path):
  """Saves a model of a head, given as layers, on the small body, and of layers before that."""

  def save(*head, before=(), ending='.h5'):
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), *before, small_body, *head])
    model.compile(optimizer='adam', loss='mse')
    path = tmp_path / f'model{ending}'
    model.save(path) if 'weights' not in ending else model.save_weights(path)
    return path

  return save


def _pool():
  return tf.keras.layers.GlobalAveragePooling2D()


def _dense(units, **kwargs):
  return tf.keras.layers.Dense(units, **kwargs)


@pytest.mark.parametrize('ending', ['.keras', '.h5', '.weights.h5'])
def test_a_plain_head_and_what_training_leaves_in_a_file(ending, save_head):
  path = save_head(_pool(), tf.keras.layers.Dropout(0.5), _dense(5, name='mine'), ending=ending)
  weights = conversion.read(path, 'inception_v3')
  assert weights.num_classes == 5
  assert not set(weights.left_out.values()) - {'training', 'states of random numbers'}
  assert 'mine' not in description.about(weights)
  assert not weights.notes


@pytest.fixture
def shards(small_body, tmp_path):
  """The index of weights in several files, as Keras writes them, and the same in one file."""
  model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), small_body, _pool(), _dense(5)])
  initial = small_body.get_weights()
  for i, variable in enumerate(model.variables):
    variable.assign(np.full(variable.shape, i))
  folder = tmp_path / 'shards'
  folder.mkdir()
  model.save_weights(folder / 'model.weights.json', max_shard_size=700 / 1024**3)  # GB
  model.save_weights(tmp_path / 'whole.weights.h5')
  small_body.set_weights(initial)  # other tests share it
  return folder / 'model.weights.json', tmp_path / 'whole.weights.h5'


def test_weights_in_several_files(shards):
  index, whole = shards
  parts = sorted(index.parent.glob('*.h5'))
  assert len(parts) > 5
  expected = conversion.read(whole, 'inception_v3')
  assert expected.num_classes == 5
  for path in (index, index.parent, parts[2]):
    weights = conversion.read(path, 'inception_v3')
    assert weights.path == str(index)
    assert_same(weights, expected)
  assert 'model.weights.json: weights of Keras in several files, inception_v3, 5 classes' in (
    description.about(weights)
  )


def test_what_is_wrong_with_several_files(shards):
  index, _ = shards
  part = sorted(index.parent.glob('*.h5'))[2]
  content = part.read_bytes()
  for damaged in (content[:-100], content[: len(content) // 2], b'', content[:3] + content[4:]):
    part.write_bytes(damaged)
    with pytest.raises(ValueError, match=f'{part.name} is damaged|model.weights.json is damaged'):
      conversion.read(index, 'inception_v3')
  part.unlink()
  with pytest.raises(
    ValueError, match=f'model.weights.json names {part.name}, which is not beside'
  ):
    conversion.read(index, 'inception_v3')
  text = index.read_text()
  for damaged in (
    text[:-100],
    '{}',
    '{"weight_map": 3}',
    text.replace(part.name, f'../{part.name}'),
  ):
    index.write_text(damaged)
    with pytest.raises(ValueError, match='model.weights.json is damaged: ') as error:
      conversion.read(index, 'inception_v3')
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
  ('head', 'message', 'ending'),
  [
    (lambda: [tf.keras.layers.BatchNormalization(name='norm'), _dense(5)], 'has norm: num', '.h5'),
    (lambda: [tf.keras.layers.BatchNormalization()], 'has batch_normalization_.*: num', '.keras'),
    (lambda: [_dense(9, name='hidden'), _dense(5, name='last')], 'has hidden, last: num', '.h5'),
    (lambda: [_dense(9, name='one'), _dense(5, name='predictions')], 'has one: num', '.weights.h5'),
    (lambda: [_dense(5), tf.keras.layers.PReLU(name='p')], 'has p: num_classes=None of', '.h5'),
  ],
)
def test_heads_of_more_than_one_dense_layer_are_refused(head, message, ending, save_head):
  path = save_head(_pool(), *head(), ending=ending)
  with pytest.raises(ValueError, match=message):
    conversion.read(path, 'inception_v3')
  weights = conversion.read(path, 'inception_v3', with_classifier=False)
  assert weights.num_classes is None
  assert 'no layer of the net below its head' in weights.left_out.values()


@pytest.mark.parametrize(
  ('kind', 'count', 'ending'),
  [('GlobalMaxPooling2D', 1, '.h5'), ('ReLU', 1, '.keras'), ('MaxPooling2D', 5, '.h5')],
)
def test_layers_without_weights_that_change_the_logits_are_refused(kind, count, ending, save_head):
  make = getattr(tf.keras.layers, kind)
  others = [make(pool_size=1) for _ in range(1, count)]  # Inception-v3 has four of its own
  path = save_head(*others, make(name='mine'), tf.keras.layers.Flatten(), _dense(5), ending=ending)
  with pytest.raises(ValueError, match=f'its layers {kind} mine do what no head of slim does'):
    conversion.read(path, 'inception_v3')
  assert conversion.read(path, 'inception_v3', with_classifier=False).num_classes is None


def _adapted():
  layer = tf.keras.layers.Normalization()
  layer.adapt(golden.images(2, 8, 8) * (3, 4, 5) * 10 + 100)
  return layer


@pytest.mark.parametrize(
  ('make_layers', 'ending'),
  [
    (lambda: [tf.keras.layers.Rescaling(1 / 255)], '.h5'),
    (lambda: [tf.keras.layers.RandomFlip(), tf.keras.layers.Rescaling(1 / 127.5, -1)], '.h5'),
    (lambda: [_adapted()], '.h5'),
    (
      lambda: [
        tf.keras.layers.Rescaling(1 / 255),
        tf.keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.06, 0.07]),
      ],
      '.keras',
    ),
  ],
)
def test_normalization_that_the_model_does_itself_is_folded(
  make_layers, ending, small_body, save_head
):
  pixels = np.random.default_rng(0).uniform(0, 255, (5, 1, 1, 3)).astype(np.float32)
  before = make_layers()
  path = save_head(_pool(), _dense(5), before=before, ending=ending)
  weights = conversion.read(path, 'inception_v3')
  normalized = pixels
  for layer in before:
    normalized = layer(normalized) if 'random' not in layer.name else normalized
  expected = np.asarray(small_body.layers[1](normalized))[:, 0, 0]  # batch norm has mean 0
  first = weights.layers['Conv2d_1a_3x3']
  ours = (pixels[:, 0, 0] / 127.5 - 1) @ first.weights[0, 0] - first.norm.mean
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
  assert weights.notes[0].startswith('trained on (pixel - ')
  other = conversion.read(path, 'inception_v3', mean=(1.0,), std=(2.0,))
  assert other.notes[0].startswith('taken as trained on (pixel - 1) / 2, although the file says')


def test_other_layers_before_the_net_are_said(save_head):
  path = save_head(_pool(), _dense(5), before=[tf.keras.layers.Permute((2, 1, 3), name='turn')])
  assert conversion.read(path, 'inception_v3').notes == (
    'its layers Permute turn change the images: what comes out is taken to be in [-1, 1]',
  )
  path = save_head(_pool(), _dense(5), before=[tf.keras.layers.Rescaling(2.0, offset=-1)])
  with pytest.raises(ValueError, match='not for pixels in 0..255: give mean and std of the images'):
    conversion.read(path, 'inception_v3')


@pytest.mark.slow
def test_a_net_trained_on_zero_to_one(keras_model, tmp_path):
  theirs = keras_model('inception_v3')
  pixels = tf.keras.Input((SIDE, SIDE, 3))
  model = tf.keras.Model(pixels, theirs(tf.keras.layers.Rescaling(1 / 255)(pixels)))
  model.save(tmp_path / 'model.keras')
  ours = nets_factory.create_model('inception_v3', weights=tmp_path / 'model.keras')
  images = golden.images(2, SIDE, SIDE)
  expected = model(127.5 * (images + 1), training=False).numpy()
  assert golden.relative_error(ours(images)[0].numpy(), expected) < 1e-4


def test_bfloat16_is_read(small_body, tmp_path):
  """HDF5 has no such type: Keras writes opaque bytes."""
  model = tf.keras.Sequential(
    [
      small_body,
      tf.keras.layers.GlobalAveragePooling2D(),
      tf.keras.layers.Dense(2, dtype='bfloat16'),
    ]
  )
  kernel = model.layers[-1].kernel
  kernel.assign(np.arange(2 * CHANNELS).reshape(CHANNELS, 2) / 3)
  model.save_weights(tmp_path / 'b.weights.h5')
  logits = conversion.read(tmp_path / 'b.weights.h5', 'inception_v3').layers['Logits/Conv2d_1c_1x1']
  np.testing.assert_array_equal(logits.weights, np.asarray(kernel.value).astype(np.float32))
  assert logits.weights.dtype == np.float32


def test_what_hdf5_files_may_declare(tmp_path):
  path = tmp_path / 'a.weights.h5'
  for make, message in [
    (lambda group: group.create_dataset('0', data='text'), r'/vars/0 holds object, not numbers'),
    (lambda group: group.create_dataset('0', data=np.array([b'ab'])), r'0 holds \|S2, not numbers'),
    (lambda group: group.create_dataset('0', (1 << 33,), 'f4', chunks=(9,)), 'have 34,359,738,368'),
    (lambda group: group.create_group('0'), r'cannot be read: AttributeError'),
  ]:
    with h5py.File(path, 'w') as file:
      group = file.create_group('layers/conv2d/vars')
      group.attrs['name'] = 'conv2d'
      make(group)
    with pytest.raises(ValueError, match=message) as error:
      conversion.read(path, 'inception_v3')
    assert str(path) in str(error.value)


def test_keras_files_are_not_unpacked_without_limit(tmp_path):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('config.json', '{}')
    file.writestr('model.weights.h5', bytes(100 << 20))
  path = tmp_path / 'a.keras'
  path.write_bytes(content.getvalue())
  assert path.stat().st_size < 200_000
  with pytest.raises(
    ValueError, match='a.keras: model.weights.h5 is to have 104,857,600 bytes, in'
  ):
    conversion.read(path, 'inception_v3')
