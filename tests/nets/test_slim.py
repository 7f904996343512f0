"""The nets live without tf-slim."""

import json
import pathlib
import subprocess
import sys

import tensorflow as tf
from slim_inception.nets import inception, layers, slim

tf1 = tf.compat.v1

ROOT = pathlib.Path(__file__).resolve().parents[2]


def layers_in_words() -> list:
  """Variables and their values, collections and losses of layers in the arg scopes of two nets."""
  words = []
  for arg_scope in (inception.inception_v3_arg_scope, inception.inception_resnet_v2_arg_scope):
    with tf.Graph().as_default(), tf1.Session() as session:
      tf1.set_random_seed(1)
      ends = {'outputs_collections': 'ends', 'variables_collections': {'weights': 'kernels'}}
      with (
        slim.arg_scope(arg_scope()),
        slim.arg_scope([layers.conv2d], **ends),
        slim.arg_scope([slim.model_variable], device='/cpu:0'),
      ):
        net = layers.conv2d(tf.ones((2, 9, 9, 3)), 8, 3, scope='Conv')
        layers.fully_connected(layers.flatten(net), 4, weights_regularizer=None, scope='Logits')
      session.run(tf1.global_variables_initializer())
      for variable in tf1.model_variables() + tf1.get_collection('kernels'):
        total = session.run(tf.reduce_sum(variable**2))
        words.append([variable.op.name, variable.shape.as_list(), variable.device, float(total)])
      losses = session.run(tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES))
      words.append([float(loss) for loss in losses])
      words.append([tensor.aliases for tensor in tf1.get_collection('ends')])
      assert len(tf1.global_variables()) == len(tf1.model_variables()) > 4
  return words


WITHOUT_TF_SLIM = """
import json, sys
sys.modules['tf_slim'] = None  # its import fails
from tests.nets import test_slim
from slim_inception.nets import slim
assert slim.tf_slim.__name__.endswith('.slim_fallback')
print(json.dumps(test_slim.layers_in_words()))
"""


def test_layers_are_the_same_without_tf_slim():
  run = subprocess.run(
    (sys.executable, '-c', WITHOUT_TF_SLIM), cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert 'Nets do without tf_slim, which this TensorFlow does not let in' in run.stderr
  assert json.loads(run.stdout.splitlines()[-1]) == layers_in_words()
