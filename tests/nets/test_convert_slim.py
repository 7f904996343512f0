"""Checkpoints, archives and frozen graphs as TF1 wrote them; facenet's names."""

import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints, inception, nets_factory, slim
from slim_inception.nets.convert import conversion, slim_files

from tests import golden

pytestmark = pytest.mark.integration

v1 = tf.compat.v1
SIDE = 96
PREFIX = 'model-20180402-114759.ckpt-275'


@pytest.fixture(scope='module')
def facenet(tmp_path_factory):
  """A folder as facenet publishes it, without the file `checkpoint`; images; its embeddings."""
  folder, images = tmp_path_factory.mktemp('facenet'), golden.images(2, SIDE, SIDE)
  with tf.Graph().as_default(), v1.Session() as session:
    inputs = v1.placeholder(tf.float32, (None, SIDE, SIDE, 3), name='input')
    with slim.arg_scope(inception.inception_resnet_v1_arg_scope()):
      embeddings, _ = inception.inception_resnet_v1(
        inputs, num_classes=None, is_training=False, bottleneck_layer_size=16
      )
    embeddings = tf.identity(embeddings, name='embeddings')
    for leaf, shape in (('weights', (16, 5)), ('biases', (5,))):
      v1.get_variable(f'Logits/{leaf}', shape)
    v1.train.get_or_create_global_step()
    start = {
      variable.initial_value: golden.weights(variable.op.name, tuple(variable.shape))
      for variable in v1.global_variables()
      if variable.dtype.base_dtype == tf.float32
    }
    session.run(v1.global_variables_initializer(), start)
    v1.train.Saver().save(session, str(folder / PREFIX))
    (folder / 'checkpoint').unlink()
    expected = session.run(embeddings, {inputs: images})
    frozen = v1.graph_util.convert_variables_to_constants(
      session, v1.get_default_graph().as_graph_def(), ['embeddings']
    )
    (folder / 'facenet.pb').write_bytes(frozen.SerializeToString())
  return folder, images, expected


def assert_same(weights, expected, without=()):
  assert weights.layers.keys() == expected.layers.keys() - set(without)
  for scope, layer in weights.layers.items():
    np.testing.assert_array_equal(layer.weights, expected.layers[scope].weights)


@pytest.mark.slow
def test_facenet(facenet, tmp_path):
  folder, images, expected = facenet
  name = 'inception_resnet_v1'
  weights = conversion.read(folder, name)
  assert weights.num_classes == 5
  assert weights.arguments == {'bottleneck_layer_size': 16}
  assert weights.ignored == ('global_step',)

  frozen = conversion.read(folder / 'facenet.pb', name)
  assert_same(frozen, weights, without=['Logits/Logits'])
  with zipfile.ZipFile(tmp_path / '20180402.zip', 'w') as file:
    for path in folder.glob(f'{PREFIX}*'):
      file.write(path, f'20180402-114759/{path.name}')
  assert_same(conversion.read(tmp_path / '20180402.zip', name), weights)

  ours = nets_factory.create_model(name, weights=folder / 'facenet.pb')
  assert golden.relative_error(ours(images)[0], expected) < 1e-4


def test_a_released_archive(tmp_path):
  """slim's have one file of TF1's first format in a .tar.gz."""
  name = 'inception_v3'
  shapes = {  # smaller, where nothing depends on it
    variable: [side if side == 1001 else min(side, 2) for side in shape]
    for variable, shape, _ in golden.reference(name)['variables']
  }
  values = {
    variable: np.full(shape, i, np.float32) for i, (variable, shape) in enumerate(shapes.items())
  }
  with tf.Graph().as_default(), v1.Session() as session:
    variables = [v1.get_variable(n, initializer=value) for n, value in values.items()]
    session.run(v1.global_variables_initializer())
    saver = v1.train.Saver(variables, write_version=v1.train.SaverDef.V1)
    saver.save(session, str(tmp_path / 'inception_v3.ckpt'), write_meta_graph=False)
  archive = tmp_path / 'inception_v3_2016_08_28.tar.gz'
  with tarfile.open(archive, 'w:gz', compresslevel=1) as file:
    file.add(tmp_path / 'inception_v3.ckpt', '../inception_v3.ckpt')  # not to be followed
  before = sorted(path.name for path in tmp_path.parent.iterdir())
  weights = conversion.read(archive, name)
  assert sorted(path.name for path in tmp_path.parent.iterdir()) == before
  assert weights.num_classes == 1001
  assert not weights.ignored
  for scope, layer in weights.layers.items():
    expected = values[f'InceptionV3/{scope}/weights']
    np.testing.assert_array_equal(layer.weights.reshape(expected.shape), expected)

  (tmp_path / 'cut.tar.gz').write_bytes(archive.read_bytes()[:-5_000])
  with pytest.raises(ValueError, match='cut.tar.gz is damaged: '):
    conversion.read(tmp_path / 'cut.tar.gz', name)


def test_averages_of_a_training_run(tmp_path):
  name = 'InceptionV3/Conv2d_1a_3x3/weights'
  checkpoints.save(
    tmp_path / 'model.ckpt-1',
    {name: tf.constant([1.0]), name + checkpoints.EMA_SUFFIX: tf.constant([2.0]), 'step': [3]},
  )
  for use_ema, expected in ((None, 2.0), (True, 2.0), (False, 1.0)):
    tensors = slim_files.read_checkpoint(tmp_path / 'model.ckpt-1', use_ema)
    assert tensors[name] == expected
    assert tensors['step'].size == 0
  checkpoints.save(tmp_path / 'model.ckpt-2', {name: tf.constant([1.0])})
  with pytest.raises(ValueError, match='model.ckpt-2 has no moving averages'):
    slim_files.read_checkpoint(tmp_path / 'model.ckpt-2', use_ema=True)


def test_constants_of_a_frozen_graph(tmp_path):
  weights = np.arange(6, dtype=np.float32).reshape(2, 3)
  with tf.Graph().as_default() as graph:
    tf.constant(weights, name='Net/Logits/weights')
    tf.constant(3, name='Net/Logits/biases')  # no weights: integers
  (tmp_path / 'net.pb').write_bytes(graph.as_graph_def().SerializeToString())
  (tensors,) = slim_files.read_frozen_graph(tmp_path / 'net.pb').items()
  assert tensors[0] == 'Net/Logits/weights'
  np.testing.assert_array_equal(tensors[1], weights)
  for content, message in ((b'', 'net.pb is a graph without weights'), (b'\xff', 'is damaged')):
    (tmp_path / 'net.pb').write_bytes(content)
    with pytest.raises(ValueError, match=message):
      slim_files.read_frozen_graph(tmp_path / 'net.pb')


def test_folders_without_a_state_file(tmp_path):
  with pytest.raises(ValueError, match='holds no checkpoint'):
    slim_files.read_checkpoint(tmp_path, None)
  checkpoints.save(tmp_path / 'one.ckpt', {'Net/weights': tf.ones(2)})
  assert list(slim_files.read_checkpoint(tmp_path, None)) == ['Net/weights']
  checkpoints.save(tmp_path / 'other.ckpt', {'Net/weights': tf.ones(2)})
  with pytest.raises(ValueError, match='several checkpoints: name one of .*one.ckpt, .*other.ckpt'):
    slim_files.read_checkpoint(tmp_path, None)
