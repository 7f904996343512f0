"""Checkpoints, archives and frozen graphs as TF1 wrote them; facenet's names."""

import copy
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints, inception, nets_factory, slim
from slim_inception.nets.convert import conversion, description, formats, slim_files

from tests import golden, tiny

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
  assert weights.left_out == {'global_step': 'not in InceptionResnetV1'}

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
  assert not weights.left_out
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
    stored = slim_files.read_checkpoint(tmp_path / 'model.ckpt-1', use_ema)
    assert stored.arrays[name] == expected
    assert stored.averages == (expected == 2.0)
    assert stored.arrays['step'].size == 0


def test_constants_of_a_frozen_graph(tmp_path):
  weights = np.arange(6, dtype=np.float32).reshape(2, 3)
  with tf.Graph().as_default() as graph:
    tf.constant(weights, name='Net/Logits/weights')
    tf.constant(3, name='Net/Logits/biases')  # no weights: integers
  (tmp_path / 'net.pb').write_bytes(graph.as_graph_def().SerializeToString())
  (tensors,) = slim_files.read_frozen_graph(tmp_path / 'net.pb').arrays.items()
  assert tensors[0] == 'Net/Logits/weights'
  np.testing.assert_array_equal(tensors[1], weights)
  for content, message in ((b'', 'net.pb is a graph without weights'), (b'\xff', 'is damaged')):
    (tmp_path / 'net.pb').write_bytes(content)
    with pytest.raises(ValueError, match=message):
      slim_files.read_frozen_graph(tmp_path / 'net.pb')


def test_what_a_folder_stands_for(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint, and no file that ends in'):
    formats.locate(tmp_path)
  (tmp_path / 'model.safetensors').touch()
  (tmp_path / 'config.json').touch()
  assert formats.locate(tmp_path) == str(tmp_path / 'model.safetensors')
  (tmp_path / 'other.safetensors').touch()
  with pytest.raises(ValueError, match='several files of weights: name one of .*model.*, .*other'):
    formats.locate(tmp_path)
  checkpoints.save(tmp_path / 'one.ckpt', {'Net/weights': tf.ones(2)})
  assert formats.locate(tmp_path) == str(tmp_path / 'one.ckpt')
  assert formats.locate(tmp_path / 'one.ckpt.index') == str(tmp_path / 'one.ckpt')
  checkpoints.save(tmp_path / 'other.ckpt', {'Net/weights': tf.ones(2)})
  with pytest.raises(ValueError, match='several checkpoints: name one of .*one.ckpt, .*other.ckpt'):
    formats.locate(tmp_path)


@pytest.fixture
def net():
  return tiny.random_net(5, seed=0)


def assert_net(weights, net, classes=5):
  """The weights are those of the net, all of them."""
  assert weights.num_classes == classes
  other = nets_factory.create_model(tiny.NAME, classes, create_aux_logits=False)
  filled = conversion.fill(other.variables_by_name, weights, ())
  assert not filled.fresh
  for name, variable in net.variables_by_name.items():
    np.testing.assert_array_equal(other.variables_by_name[name], variable)


@pytest.mark.parametrize('prefix', ['model', 'FeatureExtractor', 'a/b'])
def test_a_scope_within_another(prefix, net, tmp_path):
  """As the Object Detection API has it, for example."""
  tensors = {f'{prefix}/{name}': value for name, value in net.variables_by_name.items()}
  first = next(iter(tensors))
  others = {f'{first}/Momentum': tf.ones(3), 'BoxPredictor_0/weights': tf.ones(3)}
  checkpoints.save(tmp_path / 'a.ckpt', {**tensors, **others})
  weights = conversion.read(tmp_path / 'a.ckpt', tiny.NAME)
  assert_net(weights, net)
  assert weights.left_out == {
    f'{first}/Momentum': 'training',
    'BoxPredictor_0/weights': 'not in InceptionTiny',
  }
  assert '; left out: BoxPredictor_0/weights (not in InceptionTiny), ' in description.about(weights)
  assert formats.needs_conversion(str(tmp_path / 'a.ckpt'), tiny.NAME)

  checkpoints.save(tmp_path / 'b.ckpt', {**tensors, f'other/{first}': tf.ones(3)})
  with pytest.raises(
    ValueError, match=rf'several such nets, under .*{prefix}.*: --source_scope=\S+ t'
  ):
    # Of the same name from the scope on: which of them is meant?
    conversion.read(tmp_path / 'b.ckpt', tiny.NAME)
  assert_net(conversion.read(tmp_path / 'b.ckpt', tiny.NAME, source_scope=[prefix]), net)


def test_two_halves_of_a_net(net, tmp_path):
  """As Faster R-CNN has Inception-ResNet-v2: in the scopes of two stages."""
  names = list(net.variables_by_name)
  half = len(names) // 2
  tensors = {
    f'{"First" if names.index(name) < half else "Second"}Stage/{name}': value
    for name, value in net.variables_by_name.items()
  }
  checkpoints.save(tmp_path / 'a.ckpt', tensors)
  assert_net(conversion.read(tmp_path / 'a.ckpt', tiny.NAME), net)


def test_checkpoints_of_pythons_objects(net, tmp_path):
  optimizer = tf.keras.optimizers.Adam()
  optimizer.build(net.trainable_variables)
  path = tf.train.Checkpoint(model=net, optimizer=optimizer).save(str(tmp_path / 'objects'))
  weights = conversion.read(path, tiny.NAME)
  assert_net(weights, net)
  assert set(weights.left_out.values()) == {'not in InceptionTiny'}
  assert formats.needs_conversion(path, tiny.NAME)


def test_variables_of_no_known_layer_are_an_error(net, tmp_path):
  tensors = dict(net.variables_by_name)
  extra = {f'{tiny.SCOPE}/Logits/Hidden/weights': tf.ones((2, 2))}
  checkpoints.save(tmp_path / 'a.ckpt', {**tensors, **extra})
  with pytest.raises(ValueError, match='it also has InceptionTiny/Logits/Hidden: num_classes=None'):
    conversion.read(tmp_path / 'a.ckpt', tiny.NAME)
  weights = conversion.read(tmp_path / 'a.ckpt', tiny.NAME, with_classifier=False)
  assert weights.num_classes is None
  assert list(weights.left_out) == list(extra)
  model = nets_factory.create_model(tiny.NAME, None, weights=tmp_path / 'a.ckpt')
  assert set(model.variables_by_name) < set(tensors)

  known = {f'{tiny.SCOPE}/mean_rgb': tf.ones(3), f'{tiny.SCOPE}/Logits/weights': tf.ones(3)}
  checkpoints.save(tmp_path / 'b.ckpt', {**tensors, **known})
  with pytest.raises(ValueError, match='it also has InceptionTiny/Logits: num_classes=None'):
    conversion.read(tmp_path / 'b.ckpt', tiny.NAME)


def test_as_many_classes_of_another_shape_are_no_fresh_head(net, tmp_path):
  tensors = dict(net.variables_by_name)
  logits = f'{tiny.SCOPE}/Logits/Logits/weights'
  tensors[logits] = tf.ones((7, 5))
  checkpoints.save(tmp_path / 'a.ckpt', tensors)
  with pytest.raises(ValueError, match=r'has shape \[7, 5\] for .*Logits/weights, which has shape'):
    nets_factory.create_model(tiny.NAME, weights=tmp_path / 'a.ckpt')


def test_averages_must_be_there_or_not_be_alone(net, tmp_path):
  name = 'InceptionTiny/Conv2d_1a_3x3/weights'
  tensors = dict(net.variables_by_name)
  checkpoints.save(tmp_path / 'plain.ckpt', tensors)
  with pytest.raises(ValueError, match='plain.ckpt has no moving .* --use_ema=false takes'):
    conversion.read(tmp_path / 'plain.ckpt', tiny.NAME, use_ema=True)
  tensors[name + checkpoints.EMA_SUFFIX] = tensors[name] + 1
  checkpoints.save(tmp_path / 'both.ckpt', tensors)
  for use_ema in (None, True, False):
    weights = conversion.read(tmp_path / 'both.ckpt', tiny.NAME, use_ema=use_ema)
    assert weights.averages is (use_ema is not False)
    expected = tensors[name].numpy() + (use_ema is not False)
    np.testing.assert_array_equal(weights.layers['Conv2d_1a_3x3'].weights, expected)


def test_what_was_left_fresh_is_not_taken_for_trained(net, tmp_path, caplog):
  model = nets_factory.create_model(tiny.NAME, 5, image_size=107)
  fresh = [name for name in model.variables_by_name if 'AuxLogits' in name]
  checkpoints.save(tmp_path / 'a.ckpt', model.variables_by_name, fresh=fresh)
  assert checkpoints.read_fresh(tmp_path / 'a.ckpt') == set(fresh)
  weights = conversion.read(tmp_path / 'a.ckpt', tiny.NAME)
  assert not [path for path in weights.layers if 'AuxLogits' in path]
  assert weights.left_out == dict.fromkeys(fresh, 'never trained: left fresh by a conversion')
  restored = model.restore(str(tmp_path / 'a.ckpt'))
  assert set(restored.restored) == set(model.variables_by_name)
  assert not restored.unused
  assert f'{min(fresh)} (and {len(fresh) - 1} more like it): random, never trained' in caplog.text
  model.save(tmp_path / 'b.ckpt')
  assert checkpoints.read_fresh(tmp_path / 'b.ckpt') == set(fresh)

  checkpoints.save(tmp_path / 'body.ckpt', net.variables_by_name)
  begun = nets_factory.create_model(
    tiny.NAME, 2, weights=tmp_path / 'body.ckpt', create_aux_logits=False
  )
  for copied in (copy.deepcopy(begun), pickle.loads(pickle.dumps(begun)), begun):
    copied.save(tmp_path / 'c.ckpt')
    heads = {f'{tiny.SCOPE}/Logits/Logits/{leaf}' for leaf in ('weights', 'biases')}
    assert checkpoints.read_fresh(tmp_path / 'c.ckpt') == heads
    for name in heads:
      copied.variables_by_name[name].assign_add(tf.ones(copied.variables_by_name[name].shape))
    copied.save(tmp_path / 'c.ckpt')  # as after a step of training
    assert checkpoints.read_fresh(tmp_path / 'c.ckpt') == frozenset()

  with tf.Graph().as_default(), v1.Session() as session:  # slim's code opens it still
    variables = [v1.get_variable(n, v.shape) for n, v in model.variables_by_name.items()]
    v1.train.Saver(variables).restore(session, str(tmp_path / 'a.ckpt'))


def test_images_of_other_values_and_blue_first(net, tmp_path):
  checkpoints.save(tmp_path / 'a.ckpt', net.variables_by_name)
  pixels = np.random.default_rng(0).uniform(0, 255, (4, 3, 3, 3))
  mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 55.0, 50.0])

  def first(images, **kwargs):
    layer = conversion.read(tmp_path / 'a.ckpt', tiny.NAME, **kwargs).layers['Conv2d_1a_3x3']
    return np.einsum('nhwi,hwio->no', images, layer.weights) - layer.norm.mean

  ours = pixels / 127.5 - 1
  for kwargs, theirs in [
    ({'mean': mean, 'std': std}, (pixels - mean) / std),
    ({'mean': mean, 'std': std, 'bgr': True}, ((pixels - mean) / std)[..., ::-1]),
    ({'mean': (0.0,), 'std': (255.0,)}, pixels / 255),
    ({'bgr': True}, ours[..., ::-1]),
  ]:
    np.testing.assert_allclose(first(ours, **kwargs), first(theirs), rtol=1e-4, atol=1e-3)


def test_what_frozen_graphs_may_declare(tmp_path):
  path = tmp_path / 'net.pb'
  for dtype, side, message in [
    (1, 1 << 40, 'net.pb: Net/weights is to have 4,398,046,511,104 bytes, in a file of'),
    (99, 2, 'net.pb: Net/weights has an unknown type'),
    (0, 2, 'net.pb: Net/weights has an unknown type'),
  ]:
    graph = v1.GraphDef()
    node = graph.node.add(op='Const', name='Net/weights')
    tensor = node.attr['value'].tensor
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=side)
    tensor.float_val.append(1.0)
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match=message):
      conversion.read(path, 'inception_v3')
  graph = v1.GraphDef()
  graph.node.add(op='Const', name='conv/conv2d_params')
  path.write_bytes(graph.SerializeToString())
  with pytest.raises(
    ValueError, match='the names of December 2015: --model_name=inception_v3_2015 reads it'
  ):
    conversion.read(path, 'inception_v3')


@pytest.mark.parametrize('kind', ['tar.gz', 'zip'])
def test_archives_are_not_unpacked_without_limit(kind, tmp_path):
  path, size = tmp_path / f'a.{kind}', 100 << 20
  if kind == 'zip':
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
      file.writestr('a.ckpt', bytes(size))
  else:
    with tarfile.open(path, 'w:gz') as file:
      member = tarfile.TarInfo('a.ckpt')
      member.size = size
      file.addfile(member, io.BytesIO(bytes(size)))
  with pytest.raises(
    ValueError, match=rf'a.{kind}: a.ckpt is to have 104,857,600 bytes, in a file'
  ):
    conversion.read(path, 'inception_v3')
