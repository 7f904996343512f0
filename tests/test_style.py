"""Rules of CONTRIBUTING.md that a linter does not know."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALONE = ('datasets', 'nets', 'preprocessing')  # each works in another project, so it imports itself
PRODUCT = (*ALONE, 'slim_inception', 'examples', 'experiments')
FOLDERS = (*PRODUCT, 'benchmarks', 'tests')
PRIVATE = ('tensorflow.', 'tf_keras')
SLIM = ('nets/slim.py', 'nets/slim_fallback.py')  # all others reach tf-slim through the first
OF_SLIM = {'_get_arg_stack', '_key_op'}  # its private names
VAGUE = {'found', 'given', 'wanted'}  # say what was found
FILES = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]


def problems(path: pathlib.Path) -> Iterator[str]:
  """Lines such as 'nets/model.py:3: imports tf_slim'."""
  for node in ast.walk(ast.parse((ROOT / path).read_text())):
    where = f'{path}:{getattr(node, "lineno", 0)}:'
    is_product = path.parts[0] in PRODUCT
    if is_product and names(node) & VAGUE:
      yield f'{where} {", ".join(names(node) & VAGUE)}: name what it is'
    if names(node) & OF_SLIM and path.as_posix() not in SLIM:
      yield f'{where} {", ".join(names(node) & OF_SLIM)}: nets/slim.py has what is needed'
    for module in modules(node):
      top = module.split('.')[0]
      if top == 'tf_slim' and path.as_posix() not in SLIM:
        yield f'{where} imports tf_slim: nets/slim.py does'
      if module.startswith(PRIVATE):
        yield f'{where} imports {module}, which is private or another Keras'
      if path.parts[0] in ALONE and path.name != '__init__.py' and top in PRODUCT:
        yield f'{where} imports {module}: relative imports only'


def names(node: ast.AST) -> set[str]:
  """What a node names: a variable, an argument, an attribute, a function."""
  if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
    return {node.id}
  if isinstance(node, (ast.arg, ast.keyword)):
    return {node.arg or ''}
  return {getattr(node, 'attr', ''), getattr(node, 'name', '') or ''}


def modules(node: ast.AST) -> list[str]:
  """What a node imports, but for relative imports."""
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  return [node.module or ''] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_names_and_imports():
  assert FILES
  assert [problem for path in FILES for problem in problems(path)] == []


MAPPED = (
  'datasets', 'nets', 'nets/convert', 'slim_inception/evaluate', 'slim_inception/fid',
  'slim_inception/train',
)  # fmt: skip


@pytest.mark.parametrize('room', MAPPED)
def test_the_docstring_of_a_large_room_names_its_modules(room):
  text = ast.get_docstring(ast.parse((ROOT / room / '__init__.py').read_text()))
  modules = {path.name for path in (ROOT / room).glob('*.py')} - {'__init__.py'}
  assert set(re.findall(r'\w+\.py', text)) == modules
