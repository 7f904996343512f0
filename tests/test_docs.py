"""The documentation names commands, flags, modules, files and pages that exist."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from absl import flags

from slim_inception.cli import COMMANDS
from tests import zygote
from tests.commands import MODULES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
EVERYWHERE = {'help', 'debug'}
# Flags of other programs: of ./run, benchmarks/, examples/, Beam, Slurm, TensorFlow Serving, ...
OF_OTHERS = {
  'all', 'before', 'folder', 'format', 'formats', 'gpus-per-node', 'images', 'index', 'logdir',
  'model_base_path', 'nodes', 'ntasks-per-node', 'only', 'only_after', 'profile', 'quick',
  'rest_api_port', 'rounds', 'runner', 'timm', 'version', 'workers',
}  # fmt: skip


@pytest.fixture(scope='module')
def command_flags() -> dict[str, set[str]]:
  """{command: its flags}."""
  defined = {}
  for name, path in MODULES.items():
    module = importlib.import_module(path)
    before = set(flags.FLAGS)
    module.define_flags()
    defined[name] = set(flags.FLAGS) - before | EVERYWHERE
    for flag in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, flag)
  return defined


def unknown(text: str, known: set[str]) -> set[str]:
  """Flags in a text that are not known, neither as they are nor without `no`."""
  named = set(re.findall(r'(?<![\w-])--([a-z][\w-]*)', text))
  return {name for name in named if not {name, name.removeprefix('no')} & known}


def blocks(page: Path, language: str) -> list[str]:
  return re.findall(rf'^```{language}\n(.*?)^```$', page.read_text('utf-8'), re.M | re.S)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_and_their_flags_exist(page, command_flags):
  text = page.read_text('utf-8')
  lines = '\n'.join([*blocks(page, 'bash'), *re.findall(r'`(.+?)`', text)]).replace('\\\n', ' ')
  for name, rest in re.findall(r'slim-inception (?!COMMAND)([a-z][\w-]*)(.*)', lines):
    assert name in COMMANDS
    assert unknown(re.split(r' [|&;#]', rest)[0], command_flags[name]) == set(), name
  for name, rest in re.findall(r'python -m (experiments\.\w+)(.*)', lines):
    assert unknown(rest, command_flags[name]) == set(), name


@pytest.mark.parametrize(
  'page', [page for page in PAGES if page.name != 'migration.md'], ids=lambda page: page.name
)
def test_flags_in_prose_exist(page, command_flags):
  assert unknown(page.read_text('utf-8'), set.union(OF_OTHERS, *command_flags.values())) == set()


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_imports_what_exists(page):
  for code in blocks(page, 'python'):
    for node in ast.walk(ast.parse(code)):
      if isinstance(node, ast.ImportFrom) and node.module.startswith('slim_inception'):
        module = importlib.import_module(node.module)
        for name in (alias.name for alias in node.names):
          path = f'{node.module}.{name}'
          assert hasattr(module, name) or importlib.util.find_spec(path), path
  for path in re.findall(r'^::: (\S+)$', page.read_text('utf-8'), re.M):
    assert importlib.util.find_spec(path), path


# What the snippets on nets have around them: files, images and a loss.
AROUND = """
import sys
import numpy as np
import tensorflow as tf
from slim_inception.nets import inception, nets_factory
def my_loss(logits):
  return tf.reduce_sum(logits**2)
my_images = np.zeros((1, 299, 299, 3), np.float32)
for name in ('inception_v4', 'inception_resnet_v2'):
  if 'tf_slim' not in sys.argv[1] and name + '.ckpt' in sys.argv[1]:
    nets_factory.create_model(name).save(name + '.ckpt')
images = np.random.default_rng(0).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
graph = tf.Graph().as_default() if 'tf_slim' in sys.argv[1] else tf.init_scope()
with graph:
  exec(compile(sys.argv[1], sys.argv[2], 'exec'))
"""


@pytest.mark.slow
@pytest.mark.parametrize('page', ['README.md', 'docs/research.md'])
def test_python_runs(page, tmp_path):
  alone, together = [], []
  for code in blocks(ROOT / page, 'python'):
    (alone if 'tf_slim' in code else together).append(code)
  for code in ['\n'.join(together), *alone]:  # the first writes the checkpoints
    done = zygote.run(code, page, code=AROUND, cwd=tmp_path)
    assert done.returncode == 0, f'{code}\n{done.stderr}'


def anchors(page: Path) -> set[str]:
  headings = re.findall(r'^#+ (.*)$', page.read_text('utf-8'), re.M)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
  text = page.read_text('utf-8')
  for link in re.findall(r'\]\((?!https?:|#slim_inception)([^()\s]+)\)', text):
    path, _, anchor = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), link
    assert not anchor or anchor in anchors(target), link
  folders = 'benchmarks|datasets|docs|examples|experiments|nets|preprocessing|slim_inception|tests'
  for path in re.findall(rf'`((?:{folders})/[\w/.]+)[`:]|python (benchmarks/\w+\.py)', text):
    assert 'NAME' in path[0] or (ROOT / ''.join(path)).exists(), path
  for module in re.findall(r'python -m ((?:examples|experiments)\.\w+)', text):
    assert importlib.util.find_spec(module), module


def test_every_page_is_in_the_navigation():
  named = set(re.findall(r'\S+\.md', (ROOT / 'mkdocs.yml').read_text()))
  assert named == {path.relative_to(ROOT / 'docs').as_posix() for path in PAGES[2:]}
