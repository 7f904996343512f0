"""A model knows how it was made: copies, pickles, configurations, and wrong arguments."""

import copy
import json
import math
import multiprocessing
import pickle

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, inception_utils, layers, nets_factory, slim
from slim_inception.nets.feature_pyramid import FeaturePyramid
from slim_inception.nets.model import Model

from tests import golden, tiny

pytestmark = pytest.mark.integration

THIN = {'depth_multiplier': 0.1, 'min_depth': 4}
IMAGES = golden.images(2, 80, 80).astype(np.float32)


def tiny_model():
  return nets_factory.create_model(tiny.NAME, 5, dropout_keep_prob=0.5)


def pyramid():
  return nets_factory.create_model(
    tiny.NAME, features_only=True, strides=(4, 2), align_feature_maps=True
  )


def folded():
  scope = inception_utils.with_frozen_batch_norm(inception.inception_v3_arg_scope(0.001))
  return nets_factory.create_model(tiny.NAME, None, arg_scope=scope).fold_batch_norm()


def outputs_of(model) -> list[np.ndarray]:
  return [tensor.numpy() for tensor in tf.nest.flatten(model(IMAGES))]


def randomize(model) -> None:
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, tuple(variable.shape)))


@pytest.mark.parametrize('make', [tiny_model, pyramid, folded])
def test_copies_have_the_values_and_variables_of_their_own(make):
  model = make()
  randomize(model)
  model.class_names = ['cat', 'dog']
  model.mark_untrained(list(model.variables_by_name)[:1])
  expected = outputs_of(model)
  for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
    assert type(copied) is type(model)
    assert list(copied.variables_by_name) == list(model.variables_by_name)
    assert copied.class_names == ['cat', 'dog']
    assert copied.untrained == model.untrained
    for value, right in zip(outputs_of(copied), expected, strict=True):
      np.testing.assert_array_equal(value, right)
    for variable in copied.variables:
      variable.assign(variable * 2)
  np.testing.assert_array_equal(outputs_of(model)[0], expected[0])


@pytest.mark.parametrize('make', [tiny_model, pyramid, folded])
def test_a_configuration_makes_the_same_net_with_fresh_weights(make):
  model = make()
  config = json.loads(json.dumps(model.get_config()))
  other = type(model).from_config(config)
  shapes = [{n: v.shape for n, v in m.variables_by_name.items()} for m in (model, other)]
  assert shapes[0] == shapes[1]
  assert other.get_config() == model.get_config()
  for name, variable in model.variables_by_name.items():
    other.variables_by_name[name].assign(variable)
  for value, right in zip(outputs_of(other), outputs_of(model), strict=True):
    np.testing.assert_array_equal(value, right)
  losses = [m.regularization_loss().numpy() for m in (model, other)]
  assert losses[0] == losses[1]


def _write_logits(model: Model, path: str) -> None:
  np.save(path, model(IMAGES)[0].numpy())


def test_a_spawned_process_takes_a_model(tmp_path):
  model = nets_factory.create_model('inception_v3', 5, **THIN)  # the child knows no net of tests
  path = str(tmp_path / 'logits.npy')
  process = multiprocessing.get_context('spawn').Process(target=_write_logits, args=(model, path))
  process.start()
  process.join()
  assert process.exitcode == 0
  np.testing.assert_allclose(np.load(path), model(IMAGES)[0], rtol=1e-5, atol=1e-6)


def test_a_holder_is_copied_as_one():
  model = tiny_model()
  for names in (('model', 'weights'), ('weights', 'z_model')):  # tf.Module goes by the alphabet
    holder = tf.Module()
    for name in names:
      setattr(holder, name, list(model.trainable_variables) if name == 'weights' else model)
    copied = copy.deepcopy(holder)
    net = getattr(copied, next(name for name in names if name != 'weights'))
    assert [id(v) for v in copied.weights] == [id(v) for v in net.trainable_variables]
    assert copied.weights[0] is not model.trainable_variables[0]
    np.testing.assert_array_equal(copied.weights[0], model.trainable_variables[0])


def test_copies_belong_to_the_strategy_of_the_model_or_to_that_which_is_open(mirrored):
  with mirrored.scope():
    model = tiny_model()
  assert_mirrored(mirrored, copy.deepcopy(model), 2)
  assert_mirrored(mirrored, model.clone(), 2)
  assert_mirrored(mirrored, model.fold_batch_norm(), 2)
  alone = pickle.loads(pickle.dumps(model))
  assert_mirrored(mirrored, alone, 1)
  with mirrored.scope():
    assert_mirrored(mirrored, copy.deepcopy(alone), 2)
    assert_mirrored(mirrored, pickle.loads(pickle.dumps(alone)), 2)
  np.testing.assert_allclose(alone(IMAGES)[0], model(IMAGES)[0], rtol=1e-5, atol=1e-6)


def assert_mirrored(strategy, model, replicas):
  for variable in model.trainable_variables[:2]:
    assert len(strategy.experimental_local_results(variable)) == replicas


def test_clone_changes_arguments():
  model = tiny_model()
  clone = model.clone(num_classes=7, create_aux_logits=False, image_size=40)
  assert clone.config.arguments == {'dropout_keep_prob': 0.5, 'create_aux_logits': False}
  assert (clone.image_size, model.image_size) == (40, 32)
  assert clone(IMAGES)[0].shape == (2, 7)
  name = 'InceptionTiny/Conv2d_1a_3x3/weights'
  fresh = model.clone().variables_by_name[name].numpy()
  assert np.any(fresh != model.variables_by_name[name].numpy())


def test_repr_says_how_it_was_made():
  model = nets_factory.create_model(tiny.NAME, 5, image_size=40, create_aux_logits=False)
  expected = "Model('inception_tiny', num_classes=5, image_size=40, create_aux_logits=False)"
  assert repr(model) == expected
  net = nets_factory.create_model(
    'inception_resnet_v2', features_only=True, strides=(4,), activation_fn=tf.nn.relu6
  )
  expected = "'inception_resnet_v2', features_only=True, strides=(4,), activation_fn=relu6"
  assert repr(net) == f'FeaturePyramid({expected})'


def test_a_configuration_names_nothing_but_functions_of_nets():
  config = tiny_model().get_config()
  config['arg_scope']['conv2d']['activation_fn'] = {'function': 'os.system'}
  with pytest.raises(ValueError, match=r"'os.system' is no function of tf.nn or nets.layers"):
    Model.from_config(config)
  config['arg_scope']['conv2d']['activation_fn'] = {'made_by': 'eval', 'source': '1'}
  with pytest.raises(ValueError, match="'eval' is none of l2_regularizer"):
    Model.from_config(config)
  with pytest.raises(ValueError, match='The configuration of a model has arg_scope, .* has units'):
    Model.from_config({'units': 3})


def test_functions_that_have_no_name_are_named():
  with slim.arg_scope([layers.conv2d], activation_fn=lambda x: x) as scope:
    model = nets_factory.create_model(tiny.NAME, 5, arg_scope=scope)
  with pytest.raises(ValueError, match='activation_fn of conv2d of arg_scope is <function'):
    model.get_config()
  assert copy.deepcopy(model)(IMAGES)[0].shape == (2, 5)  # in this process it is a value


@pytest.mark.parametrize('name', [tiny.NAME, 'inception_v3', 'inception_v4'])
def test_a_registered_net_is_pickled(name):
  net = nets_factory.get_net(name)
  assert pickle.loads(pickle.dumps(net)) == net


def test_regularizers_and_initializers_are_values():
  assert inception.inception_v3_arg_scope() == inception.inception_v3_arg_scope()
  assert slim.l2_regularizer(0.1) == slim.l2_regularizer(0.1) != slim.l2_regularizer(0.2)
  assert slim.l2_regularizer(0.0)(tf.ones(3)) is None
  assert slim.l2_regularizer(0.5)(tf.constant([1.0, 2.0])).numpy() == 0.5 * 5 / 2
  with pytest.raises(ValueError, match='scale'):
    slim.l2_regularizer(-1.0)


# Arguments


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_classes': 10.0}, 'num_classes is 10.0; it must be a whole number of at least 0, None'),
    ({'num_classes': '10'}, "num_classes is '10'; it must be a whole"),
    ({'num_classes': -1}, 'num_classes is -1; it must be'),
    ({'num_classes': True}, 'num_classes is True; it must be'),
    ({'image_size': 50}, 'image_size is 50; .* at least 75 pixels for inception_v3'),
    ({'image_size': (299, 299)}, r'image_size is \(299, 299\); it must be a whole number'),
    ({'input_channels': 0}, 'input_channels is 0; it must be a whole number of at least 1'),
    ({'features_only': 'yes'}, "features_only is 'yes'; choose True or False"),
    ({'arg_scope': inception.inception_v3_arg_scope}, r'what e.g. inception_v3_arg_scope\(\) ret'),
    ({'foo': 1}, "inception_v3 takes no argument 'foo': there are create_aux_logits, depth_mult"),
    ({'depth_multiplyer': 1}, "'depth_multiplyer': is it depth_multiplier?"),
    ({'activation_fn': tf.nn.relu}, "no argument 'activation_fn'"),
    ({'is_training': True}, "no argument 'is_training'"),
    ({'pretrained': True}, "no argument 'pretrained': here it is weights, a file"),
    ({'include_top': False}, 'here it is num_classes=None, which leaves the classifier out'),
    ({'strides': (8,)}, "no argument 'strides': it goes with features_only=True"),
    ({'features_only': True, 'strides': 8}, r'strides is 8; .* a tuple, e.g. strides=\(8,\), of 2'),
    ({'features_only': True, 'strides': '8'}, "strides is '8'; it must be a tuple"),
    ({'features_only': True, 'strides': ()}, r'strides are \(\); choose among 2, 4, 8, 16, 32'),
    ({'features_only': True, 'dropout_keep_prob': 0.5}, 'with features_only there is no head'),
    ({'features_only': True, 'align_feature_maps': 1}, 'align_feature_maps is 1; choose True'),
    ({'dropout_keep_prob': 1.5, **THIN}, 'keep_prob is 1.5; it must be above 0 and at most 1'),
    ({'dropout_keep_prob': 'x'}, "dropout_keep_prob is 'x'; it must be a number"),
    ({'depth_multiplier': True}, 'depth_multiplier is True; it must be a number'),
    ({'create_aux_logits': 'no'}, "create_aux_logits is 'no'; it must be True or False"),
    ({'features_only': True, 'depth_multiplier': '1'}, "depth_multiplier is '1'; it must be a num"),
    ({'depth_multiplier': 0}, 'depth_multiplier is 0; it must be greater than zero'),
    ({'depth_multiplier': math.nan}, 'depth_multiplier is nan; it must be greater than zero'),
    ({'weights': 'imagenet'}, "weights is 'imagenet', which is no file here: nothing is downloa"),
    ({'weights': True}, 'weights is True; it must be the path of a file or folder'),
  ],
)
def test_wrong_arguments_are_refused_when_the_model_is_made(arguments, message):
  with pytest.raises(ValueError, match=message) as error:
    nets_factory.create_model('inception_v3', **arguments)
  assert '\n' not in str(error.value)


def test_features_of_nets_whose_bodies_have_arguments():
  with pytest.raises(ValueError, match=r"Features of resnet_v1_50 do not take all of \['global_po"):
    nets_factory.create_model('resnet_v1_50', features_only=True, global_pool=True)
  with pytest.raises(ValueError, match="features of resnet_v1_50 takes no argument 'foo'"):
    nets_factory.create_model('resnet_v1_50', features_only=True, foo=1)
  net = nets_factory.create_model(
    'resnet_v1_50', features_only=True, depth_multiplier=0.1, strides=(4,)
  )
  assert pickle.loads(pickle.dumps(net)).channels == net.channels


def test_numpys_numbers_are_numbers():
  model = nets_factory.create_model(tiny.NAME, np.int64(5), image_size=np.int32(40))
  assert isinstance(model, Model) and not isinstance(model, FeaturePyramid)
  assert model(IMAGES)[0].shape == (2, 5)
  assert json.loads(json.dumps(model.get_config()))['num_classes'] == 5
