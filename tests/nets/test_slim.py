"""nets/slim.py is the only way to tf-slim."""

import ast
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRIVATE = {'_get_arg_stack', '_key_op'}


def _reaches_tf_slim(node: ast.AST) -> bool:
  if isinstance(node, ast.Import):
    return any(name.name.split('.')[0] == 'tf_slim' for name in node.names)
  if isinstance(node, ast.ImportFrom):
    return (node.module or '').split('.')[0] == 'tf_slim'
  return getattr(node, 'attr', None) in PRIVATE or getattr(node, 'id', None) in PRIVATE


def test_one_file_imports_tf_slim_and_touches_its_private_names():
  files = subprocess.check_output(('git', 'ls-files', '*.py'), cwd=ROOT, text=True).split()
  reaching = {
    file
    for file in files
    if (ROOT / file).exists()
    and any(map(_reaches_tf_slim, ast.walk(ast.parse((ROOT / file).read_text()))))
  }
  assert reaching == {'nets/slim.py'}
