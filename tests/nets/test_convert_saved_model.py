"""SavedModels of both generations as sources of weights, and scopes of detectors' checkpoints."""

import os
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints, nets_factory, slim
from slim_inception.nets.convert import conversion, description, formats

from tests import golden, tiny
from tests.nets.test_convert_slim import assert_net

pytestmark = pytest.mark.integration

v1 = tf.compat.v1
SIDE = 64


@pytest.fixture(scope='module')
def net():
  return tiny.random_net(5, seed=0)


def write_hub_1(net, folder, scope=''):
  """As a module of TensorFlow Hub's first format: [0, 1] images, variables of slim's names.

  Args:
    net: whose values are written.
    folder: to be made.
    scope: of the variables around slim's.
  """
  function = nets_factory.get_net(net.name).network_fn
  values = {name: variable.numpy() for name, variable in net.variables_by_name.items()}
  with tf.Graph().as_default(), v1.Session() as session:
    images = v1.placeholder(tf.float32, (None, SIDE, SIDE, 3))
    arg_scope = nets_factory.get_net(net.name).arg_scope()
    with v1.variable_scope(scope), slim.arg_scope(arg_scope):
      logits, _ = function(2 * images - 1, 5, is_training=False, create_aux_logits=False)
    start = {
      variable.initial_value: values[variable.op.name.removeprefix(f'{scope}/')]
      for variable in v1.global_variables()
    }
    session.run(v1.global_variables_initializer(), start)
    v1.saved_model.simple_save(session, str(folder), {'images': images}, {'default': logits})
  (folder / 'tfhub_module.pb').write_bytes(b'\x08\x03')


@pytest.fixture(scope='module')
def hubs(net, tmp_path_factory):
  """{kind: folder} of SavedModels."""
  root = tmp_path_factory.mktemp('hubs')
  folders = {
    kind: root / kind for kind in ('tf1', 'tf1_in_scope', 'tf2_of_tf1', 'list', 'attributes')
  }
  write_hub_1(net, folders['tf1'])
  write_hub_1(net, folders['tf1_in_scope'], 'module')
  # The later versions on TensorFlow Hub are made so: variables/0, variables/1, ...
  loaded = tf.saved_model.load(str(folders['tf1']))
  tf.saved_model.save(loaded, str(folders['tf2_of_tf1']), loaded.signatures)
  module = tf.Module()
  module.all_of_them = list(net.variables_by_name.values())
  tf.saved_model.save(module, str(folders['list']))
  module = tf.Module()
  module.net = net
  tf.saved_model.save(module, str(folders['attributes']))
  return folders


KINDS = ('tf1', 'tf1_in_scope', 'tf2_of_tf1', 'list', 'attributes')


@pytest.mark.parametrize('kind', KINDS)
def test_saved_models(kind, net, hubs):
  folder = hubs[kind]
  for path in (folder, folder / 'saved_model.pb', folder / 'variables' / 'variables.index'):
    weights = conversion.read(path, tiny.NAME)
    assert weights.format == 'SavedModel'
    assert_net(weights, net)
  assert 'variables: a SavedModel, of which the variables are read, inception_tiny, 5 classes' in (
    description.about(weights)
  )
  assert formats.needs_conversion(formats.locate(folder), tiny.NAME)
  images = golden.images(2, SIDE, SIDE)  # [-1, 1]
  signature = tf.saved_model.load(str(folder)).signatures.get('serving_default')
  if signature:  # the graph's own [0, 1]
    expected = next(iter(signature(tf.constant((images + 1) / 2)).values()))
    ours = nets_factory.create_model(tiny.NAME, weights=folder, create_aux_logits=False)
    assert golden.relative_error(ours(images)[0], expected) < 1e-5


def test_a_saved_model_in_an_archive(net, hubs, tmp_path):
  """As TensorFlow Hub sends it."""
  for kind in ('tf1', 'tf2_of_tf1'):
    with tarfile.open(tmp_path / 'hub.tar.gz', 'w:gz', compresslevel=1) as file:
      file.add(hubs[kind], '.')
    assert_net(conversion.read(tmp_path / 'hub.tar.gz', tiny.NAME), net)


def test_a_saved_model_of_another_net_or_without_variables(hubs, tmp_path):
  with pytest.raises(
    ValueError, match=r'a SavedModel, .*, but not of inception_v3: it has no Incep'
  ):
    conversion.read(hubs['list'], 'inception_v3')
  module = tf.Module()
  module.call = tf.function(lambda x: x + 1, [tf.TensorSpec([], tf.float32)])
  tf.saved_model.save(module, str(tmp_path / 'empty'))
  for name in os.listdir(tmp_path / 'empty' / 'variables'):
    os.remove(tmp_path / 'empty' / 'variables' / name)
  for path in (tmp_path / 'empty', tmp_path / 'empty' / 'saved_model.pb'):
    with pytest.raises(
      ValueError, match='empty is a SavedModel without variables: its weights are'
    ):
      conversion.read(path, tiny.NAME)


def test_folded_batch_norm_is_named(net, tmp_path):
  """As in the SavedModels of slim-inception export."""
  tensors = {n: v for n, v in net.variables_by_name.items() if '/BatchNorm/' not in n}
  norms = {n.partition('/BatchNorm/')[0] for n in net.variables_by_name if '/BatchNorm/' in n}
  biases = {f'{layer}/biases': tf.zeros(tensors[f'{layer}/weights'].shape[-1]) for layer in norms}
  checkpoints.save(tmp_path / 'folded.ckpt', {**tensors, **biases})
  message = (
    'has the batch norm of InceptionTiny/Conv2d_1a_3x3 in its weights, as exports have: give'
  )
  with pytest.raises(ValueError, match=message):
    nets_factory.create_model(tiny.NAME, weights=tmp_path / 'folded.ckpt')


@pytest.mark.parametrize('name', ['variables.index', 'variables.data-00000-of-00001'])
def test_a_damaged_saved_model(name, hubs, tmp_path):
  for file in os.listdir(hubs['list'] / 'variables'):
    tmp_path.joinpath(file).write_bytes(hubs['list'].joinpath('variables', file).read_bytes())
  content = (tmp_path / name).read_bytes()
  flipped = bytearray(content)
  flipped[len(content) // 3] ^= 0xFF
  for damaged in (bytes(flipped), content[:-9], content[: len(content) // 2]):
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(ValueError, match='variables') as error:
      conversion.read(tmp_path / 'variables', tiny.NAME)
    assert len(str(error.value).splitlines()) == 1


def test_two_nets_of_the_same_names(net, tmp_path):
  """Variables' own names do not tell them apart: the attributes do."""
  checkpoint = tf.train.Checkpoint(student=net, teacher=tiny.random_net(5, seed=1))
  path = checkpoint.save(str(tmp_path / 'two'))
  with pytest.raises(
    ValueError, match='under student/_variables_by_name, teacher/_var.*: --source_s'
  ):
    conversion.read(path, tiny.NAME)
  assert_net(conversion.read(path, tiny.NAME, source_scope=['student']), net)


@pytest.mark.parametrize(
  ('prefix', 'source_scope'),
  [
    ('FeatureExtractor/InceptionTiny/', ['FeatureExtractor/InceptionTiny']),
    ('FeatureExtractor/InceptionTiny/InceptionTiny/', ['FeatureExtractor']),
    ('FeatureExtractor/InceptionTiny/InceptionTiny/', []),
    ('backbone/', ['backbone']),
    ('backbone/', ['backbone/']),
  ],
)
def test_the_scope_of_a_detector(prefix, source_scope, net, tmp_path):
  """SSD's makes feature maps beside the layers of the net."""
  tensors = {prefix + name.partition('/')[2]: v for name, v in net.variables_by_name.items()}
  others = {
    f'{prefix}Mixed_3a_1_Conv2d_2_1x1_256/weights': tf.ones((1, 1, 2, 2)),
    f'{prefix}Mixed_3a_2_Conv2d_2_3x3_s2_512/BatchNorm/beta': tf.ones(2),
    'BoxPredictor_0/ClassPredictor/weights': tf.ones(3),
  }
  checkpoints.save(tmp_path / 'ssd.ckpt', {**tensors, **others})
  weights = conversion.read(tmp_path / 'ssd.ckpt', tiny.NAME, source_scope=source_scope)
  assert_net(weights, net)
  assert weights.left_out.keys() == others.keys()
  assert list(weights.left_out.values()).count('more feature maps of a detector') == 2


def test_two_stages_and_scopes_that_are_not_there(net, tmp_path):
  names = list(net.variables_by_name)
  half = len(names) // 2
  stages = ['FirstStageFeatureExtractor', 'SecondStageFeatureExtractor']
  tensors = {
    f'{stages[i >= half]}/{name}': net.variables_by_name[name] for i, name in enumerate(names)
  }
  tensors[f'Other/{names[0]}'] = tf.ones(3)
  path = tmp_path / 'faster_rcnn.ckpt'
  checkpoints.save(path, tensors)
  weights = conversion.read(path, tiny.NAME, source_scope=stages)
  assert_net(weights, net)
  assert weights.left_out == {f'Other/{names[0]}': f'not in {", ".join(stages)}'}
  for source_scope, message in [
    (['Nothing'], 'nothing in Nothing; its scopes are FirstStage.*, Other, SecondStageFeatureExtr'),
    ([stages[0]], 'it has no InceptionTiny/'),
    ([stages[0], 'Other'], 'is in several of FirstStageFeatureExtractor, Other'),
  ]:
    with pytest.raises(ValueError, match=message):
      conversion.read(path, tiny.NAME, source_scope=source_scope)


def test_a_scope_of_another_name_is_suggested(net, tmp_path):
  tensors = {f'backbone/{n.partition("/")[2]}': v for n, v in net.variables_by_name.items()}
  checkpoints.save(tmp_path / 'a.ckpt', tensors)
  message = 'for inception_tiny, but its layers in backbone: --source_scope=backbone takes them'
  with pytest.raises(ValueError, match=message):
    conversion.read(tmp_path / 'a.ckpt', tiny.NAME)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  ['inception_v1', 'inception_v2', 'inception_v3', 'inception_resnet_v2', 'resnet_v2_50'],
)
def test_every_net_of_tensorflow_hub(name, tmp_path):
  """Both generations give TensorFlow's own logits."""
  entry = nets_factory.get_net(name)
  with tf.Graph().as_default(), v1.Session() as session:
    images = v1.placeholder(tf.float32, (None, 224, 224, 3))
    kwargs = entry.select(create_aux_logits=False, global_pool=True)
    with slim.arg_scope(entry.arg_scope()):
      logits, _ = entry.network_fn(2 * images - 1, 7, is_training=False, **kwargs)
    start = {
      variable.initial_value: golden.weights(variable.op.name, tuple(variable.shape))
      for variable in v1.global_variables()
    }
    session.run(v1.global_variables_initializer(), start)
    v1.saved_model.simple_save(session, str(tmp_path / '1'), {'x': images}, {'y': logits})
    value = golden.images(2, 224, 224)
    expected = session.run(logits, {images: (value + 1) / 2})
  loaded = tf.saved_model.load(str(tmp_path / '1'))
  tf.saved_model.save(loaded, str(tmp_path / '2'), loaded.signatures)
  for folder in (tmp_path / '1', tmp_path / '2'):
    ours = nets_factory.create_model(name, weights=folder, **kwargs)
    assert golden.relative_error(ours(value)[0], np.reshape(expected, (2, 7))) < 1e-4
