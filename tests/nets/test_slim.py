"""The nets live without tf-slim, and threads keep out of each other's arg scopes."""

import importlib.util
import pathlib
import sys
import threading

import pytest
import tensorflow as tf
from slim_inception.nets import folding, inception, inception_utils, layers, resnet_utils, slim

from slim_inception import nets

tf1 = tf.compat.v1

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def nets_without_tf_slim(monkeypatch):
  """The name of a second package of nets, for which tf_slim cannot be imported."""
  name, file = 'nets_without_tf_slim', ROOT / 'nets/__init__.py'
  monkeypatch.setitem(sys.modules, 'tf_slim', None)
  spec = importlib.util.spec_from_file_location(
    name, file, submodule_search_locations=[str(file.parent)]
  )
  module = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, name, module)
  spec.loader.exec_module(module)
  yield name
  for loaded in [module for module in sys.modules if module.startswith(f'{name}.')]:
    del sys.modules[loaded]


def layers_in_words(package: str) -> list:
  """Variables and their values, collections and losses of layers in the arg scopes of two nets."""
  inception, layers, slim = (
    importlib.import_module(f'{package}.{module}') for module in ('inception', 'layers', 'slim')
  )
  words = []
  for arg_scope in (inception.inception_v3_arg_scope, inception.inception_resnet_v2_arg_scope):
    with tf.Graph().as_default(), tf1.Session() as session:
      tf1.set_random_seed(1)
      ends = {'outputs_collections': 'ends', 'variables_collections': {'weights': 'kernels'}}
      with (
        slim.arg_scope(arg_scope()),
        slim.arg_scope([layers.conv2d], **ends),
        slim.arg_scope([slim.model_variable], device='/cpu:1'),
      ):
        net = layers.conv2d(tf.ones((2, 9, 9, 3)), 8, 3, scope='Conv')
        layers.fully_connected(layers.flatten(net), 4, weights_regularizer=None, scope='Logits')
      session.run(tf1.global_variables_initializer())
      for variable in tf1.model_variables() + tf1.get_collection('kernels'):
        value = session.run(variable).tolist()
        words.append([variable.op.name, variable.shape.as_list(), variable.device, value])
      words.append(session.run(tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES)))
      words.append([tensor.aliases for tensor in tf1.get_collection('ends')])
      assert len(tf1.global_variables()) == len(tf1.model_variables()) > 4
  return words


def test_layers_are_the_same(nets_without_tf_slim, caplog):
  words = layers_in_words(nets_without_tf_slim)
  assert 'Nets do without tf_slim, which this TensorFlow does not let in' in caplog.text
  assert words == layers_in_words(nets.__name__)


def test_what_an_arg_scope_refuses(nets_without_tf_slim):
  for package in (nets_without_tf_slim, nets.__name__):
    slim = importlib.import_module(f'{package}.slim')
    with pytest.raises(ValueError, match='is not decorated with @add_arg_scope'):
      slim.arg_scope([len], stride=2).__enter__()
    with pytest.raises(ValueError, match='kwargs must be empty'):
      slim.arg_scope({}, stride=2).__enter__()


@pytest.mark.parametrize(
  'make',
  [
    inception.inception_v3_arg_scope,
    resnet_utils.resnet_arg_scope,
    lambda: inception_utils.with_frozen_batch_norm({}),
    lambda: folding.without_batch_norm({}),
  ],
)
def test_an_arg_scope_has_nothing_of_a_net_that_another_thread_traces(make):
  """A step traced in a thread once gave its dropout's seed to the net of an evaluation."""
  expected, inside, asked = make(), threading.Event(), threading.Event()

  def trace():
    with slim.exclusively(), slim.arg_scope([layers.dropout], seed=1):
      inside.set()
      asked.wait(10)
      threading.Event().wait(0.2)  # the other has asked, and does not get it

  thread = threading.Thread(target=trace)
  thread.start()
  inside.wait(10)
  asked.set()
  scope = make()
  thread.join()
  assert scope == expected
  assert slim.current_arg_scope() == {}
