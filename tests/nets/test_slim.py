"""nets/slim.py is the only way to tf-slim, and the nets live without it."""

import ast
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import tensorflow as tf
from slim_inception.nets import inception, layers, slim

tf1 = tf.compat.v1

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRIVATE = {'_get_arg_stack', '_key_op'}


def _files_with(condition: Callable[[ast.AST], bool]) -> set[str]:
  """The Python files of the repository in which a node of the syntax tree is so."""
  files = subprocess.check_output(('git', 'ls-files', '*.py'), cwd=ROOT, text=True).split()
  trees = {file: ast.parse((ROOT / file).read_text()) for file in files if (ROOT / file).exists()}
  return {file for file, tree in trees.items() if any(map(condition, ast.walk(tree)))}


def _imports(node: ast.AST) -> list[str]:
  if isinstance(node, ast.ImportFrom):
    return [f'{node.module}.{name.name}' for name in node.names if node.module]
  return [name.name for name in node.names] if isinstance(node, ast.Import) else []


def test_one_file_imports_tf_slim_and_touches_its_private_names():
  def reaches(node: ast.AST) -> bool:
    name = getattr(node, 'attr', None) or getattr(node, 'id', None)
    return name in PRIVATE or any(path.split('.')[0] == 'tf_slim' for path in _imports(node))

  assert _files_with(reaches) == {'nets/slim.py', 'nets/slim_fallback.py'}


def test_of_tensorflow_nothing_is_imported_but_the_public_module():
  assert not _files_with(lambda node: any(p.startswith('tensorflow.') for p in _imports(node)))


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
