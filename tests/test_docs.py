"""The documentation: every command, import, link and flag in it is there and works."""

import ast
import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from nets import nets_factory

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = tuple(
  path
  for pattern in ('README.md', 'CONTRIBUTING.md', 'docs/*.md')
  for path in sorted(ROOT.glob(pattern))
)
SCRIPTS = tuple(
  sorted(
    path.stem for path in ROOT.glob('*.py') if path.stem not in ('console', 'quiet_tensorflow')
  )
)
OUR_PACKAGES = tuple(path.parent.name for path in ROOT.glob('*/__init__.py'))

# Flags in the pages that are no flags of ours: whose they are.
FOREIGN_FLAGS = {
  '--gpus-per-node': 'srun',
  '--nodes': 'srun',
  '--ntasks-per-node': 'srun',
  '--runner=FlinkRunner': 'Beam',
  '--all': './run test',
  '--check': 'docs/make_api_reference.py, ruff',
  '--logdir': 'tensorboard',
  '--before': 'benchmarks/compare_checkouts.py',
  '--profile': 'benchmarks/profile_step.py',
  '--folder': 'benchmarks/benchmark_conversion.py',
  '--index': 'benchmarks/benchmark_conversion.py',
  '--pictures': 'benchmarks/benchmark_conversion.py',
  '--rounds': 'benchmarks/benchmark_conversion.py',
  '--rest_api_port': 'tensorflow_model_server',
  '--model_base_path': 'tensorflow_model_server',
}
# Flags of slim's that have other names here: docs/migration.md says which.
SLIMS_FLAGS = {
  '--use_grayscale',
  '--eval_interval_secs',
  '--output_file',
  '--input_graph',
  '--input_checkpoint',
  '--output_graph',
  '--output_node_names',
  '--is_training',
  '--write_text_graphdef',
  '--is_video_model',
  '--num_frames',
  '--train_directory',
  '--validation_directory',
  '--bounding_box_file',
  '--output_directory',
  '--num_threads',
  '--labels_file',
  '--imagenet_metadata_file',
}
# Commands of others, which this machine need not have.
FOREIGN_COMMANDS = frozenset(
  (
    'cd',
    'curl',
    'echo',
    'deactivate',
    'docker',
    'git',
    'mkdir',
    'source',
    'tar',
    'tensorboard',
    'wget',
  )
)


class Command(NamedTuple):
  """A command as a page has it."""

  page: str
  words: tuple[str, ...]  # without `VAR=value` before it and `srun ...`

  @property
  def script(self) -> str | None:
    """The script of ours that it runs, installed or not."""
    words = self.words[1:] if self.words[0] == 'python' else self.words
    name = words[0].removesuffix('.py')
    return name if name in SCRIPTS else None

  @property
  def arguments(self) -> list[str]:
    return list(self.words[2 if self.words[0] == 'python' else 1 :])


def blocks(page: pathlib.Path, *languages: str) -> Iterator[tuple[str, str]]:
  """(language, text) of the fenced blocks in these languages, as they follow each other."""
  for match in re.finditer(r'^```(\w+)\n(.*?)^```$', page.read_text('utf-8'), re.M | re.S):
    if match[1] in languages:
      yield match[1], match[2]


def commands_of(text: str) -> Iterator[tuple[str, ...]]:
  """The words of each command in a bash block."""
  for line in text.replace('\\\n', ' ').splitlines():
    lexer = shlex.shlex(line, posix=True, punctuation_chars='|&;<>')
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ';']:
      if word and set(word) <= set('|&;'):
        if words:
          yield tuple(_plain(words))
        words = []
      else:
        words.append(word)


def _plain(words: list[str]) -> list[str]:
  """Without what runs a command elsewhere or with other variables."""
  while re.match(r'[A-Z_]+=', words[0]):
    words = words[1:]
  if words[0] == 'srun':
    words = words[words.index('python') :]
  return words


COMMANDS = tuple(
  Command(page.relative_to(ROOT).as_posix(), words)
  for page in PAGES
  for _, text in blocks(page, 'bash')
  for words in commands_of(text)
)


def test_words_of_commands():
  text = "A='{\"b\": 1}' \\\n  python x.py --c='d e' # f\n\nsrun --n=1 python y.py | z &\n"
  assert list(commands_of(text)) == [
    ('python', 'x.py', '--c=d e'),
    ('python', 'y.py'),
    ('z',),
  ]


@pytest.fixture(scope='module')
def done(tmp_path_factory) -> dict[tuple[str, ...], dict]:
  """{(script, *arguments): what came of it}, of all commands of ours and of --help."""
  wanted = {(c.script, *c.arguments) for c in COMMANDS if c.script}
  jobs = sorted(wanted | {(script, '--help') for script in SCRIPTS})
  folders = [str(tmp_path_factory.mktemp('command')) for _ in jobs]
  driver = subprocess.run(
    [sys.executable, ROOT / 'tests' / 'docs_driver.py'],
    input=json.dumps(
      [[script, rest, folder] for (script, *rest), folder in zip(jobs, folders, strict=True)]
    ),
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'no_proxy': '*', 'http_proxy': '', 'https_proxy': ''},
  )
  assert driver.returncode == 0, driver.stderr
  return dict(zip(jobs, json.loads(driver.stdout), strict=True))


def test_commands_of_ours_do_what_they_say_or_say_what_is_missing(done):
  """In an empty folder: they end well, or with one line, or were at work when stopped."""
  wrong = []
  for command in COMMANDS:
    if not command.script:
      continue
    came = done[(command.script, *command.arguments)]
    fine = came['began'] and came['status'] in (0, 1, None)
    if came['status'] == 1:
      last = came['stderr'].splitlines()[-1]
      fine = fine and last.startswith(f'{command.script}: ')
    if not fine or 'Traceback' in came['stderr']:
      wrong.append(f'{command.page}: {shlex.join(command.words)}\n{came}')
  assert not wrong, '\n'.join(wrong)


def test_other_commands_exist():
  # No tomllib in Python 3.10.
  _, _, extras = (ROOT / 'pyproject.toml').read_text().partition('[project.optional-dependencies]')
  extras = re.findall(r'^(\w+) = \[', extras.partition('\n[')[0], re.M)
  subcommands = re.findall(r'^  (\w+)\) ', (ROOT / 'run').read_text(), re.M)
  wrong = []
  for command in COMMANDS:
    name, *rest = command.words
    if command.script or name in FOREIGN_COMMANDS:
      continue
    if name == './run':
      fine = rest[0] in subcommands
    elif name == 'pip':
      named = [extra for word in rest for extra in re.findall(r'\[([\w,]+)\]', word)]
      fine = rest[0] == 'install' and set(','.join(named).split(',')) <= {*extras, ''}
    elif name == 'python' and rest[0] == '-m':
      path = ROOT.joinpath(*rest[1].split('.'))
      fine = rest[1] in ('venv', 'pytest') or path.with_suffix('.py').is_file()
    else:
      fine = name == 'python' and (ROOT / rest[0]).is_file()
    if not fine:
      wrong.append(f'{command.page}: {shlex.join(command.words)}')
  assert not wrong, '\n'.join(wrong)


@pytest.fixture(scope='module')
def flags(done) -> set[str]:
  """Every flag of every script, '--' and all."""
  found = set()
  for script in SCRIPTS:
    of_script = re.findall(r'^  (--\w+):', done[script, '--help']['stdout'], re.M)
    assert '--debug' in of_script, script
    found.update(of_script)
  return found | {'--help'}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_flags_that_are_named_exist(page, flags):
  known = flags | FOREIGN_FLAGS.keys() | {flag.split('=')[0] for flag in FOREIGN_FLAGS}
  if page.name == 'migration.md':
    known |= SLIMS_FLAGS
  named = set(re.findall(r'(?<![\w-])--[a-z][\w-]*', page.read_text('utf-8')))
  assert {f for f in named if f not in known and f.replace('--no', '--', 1) not in known} == set()


def _anchors(page: pathlib.Path) -> set[str]:
  """Of the headings, as GitHub makes them."""
  text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.M | re.S)
  headings = re.findall(r'^#+ (.*)$', text, re.M)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.M | re.S)
  broken = []
  for target in re.findall(r'\]\(([^()\s]+)\)', text):
    if re.match(r'https?:', target):
      continue
    path, _, anchor = target.partition('#')
    there = (page.parent / path).resolve() if path else page
    if not there.exists() or (anchor and anchor not in _anchors(there)):
      broken.append(target)
  assert broken == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
  """`tests/...`, `docs/...` and files of the packages, in backquotes."""
  places = '|'.join(('tests', 'docs', 'benchmarks', *OUR_PACKAGES))
  named = re.findall(rf'`((?:{places})/[\w/.]+)`', page.read_text('utf-8'))
  assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_compiles_and_imports_what_exists(page):
  for _, code in blocks(page, 'python'):
    tree = ast.parse(code)
    modules = {}  # as the code calls them
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in OUR_PACKAGES:
        for alias in node.names:
          try:
            found = importlib.import_module(f'{node.module}.{alias.name}')
            modules[alias.asname or alias.name] = found
          except ModuleNotFoundError:
            assert hasattr(importlib.import_module(node.module), alias.name), alias.name
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        assert module is None or hasattr(module, node.attr), ast.unparse(node)


# The guides, as typed. What stands in for what: the words of a guide are run by bash, and these are
# first on its PATH. Of a flag that is given twice the last counts.
SMALLER = {
  'train_image_classifier.py': (
    '--train_image_size=107',  # the smallest with an auxiliary head
    '--batch_size=12',
    '--max_number_of_steps=4',
    '--log_every_n_steps=1',
  ),
}
STAND_INS = {
  # The scripts of this checkout, smaller; `python -m venv` makes something to be activated.
  'python': """\
import os, pathlib, sys
python, root, smaller = PYTHON, ROOT, SMALLER
name, *rest = sys.argv[1:]
if [name, *rest] == ['-m', 'venv', '.venv']:
  pathlib.Path('.venv/bin').mkdir(parents=True)
  sys.exit(pathlib.Path('.venv/bin/activate').write_text('') and None)
script = os.path.join(root, name)
command = [script if os.path.exists(script) else name, *rest, *smaller.get(name, ())]
os.execv(python, [python, *command])
""",
  # What is installed already; tests/test_install.py tries it.
  'pip': "import sys\nsys.exit(sys.argv[1] != 'install')\n",
  # slim's weights are there, random ones; other addresses are asked.
  'curl': """\
import os, sys
if sys.argv[1] == '-O':
  sys.exit(not os.path.exists(sys.argv[2].rpartition('/')[2]))
os.execv('/usr/bin/curl', sys.argv)
""",
}
CLASSES = ('cat', 'dog', 'rabbit')


@pytest.fixture(scope='module')
def archive(tmp_path_factory) -> pathlib.Path:
  """Random weights of Inception-v3 in an archive as slim's."""
  folder = tmp_path_factory.mktemp('weights')
  model = nets_factory.create_model('inception_v3', 1001)
  model.build()
  model.save(folder / 'inception_v3.ckpt')
  path = folder / 'inception_v3_2016_08_28.tar.gz'
  with tarfile.open(path, 'w:gz', compresslevel=1) as file:
    for part in folder.glob('inception_v3.ckpt*'):
      file.add(part, part.name)
  return path


@pytest.fixture
def reader(tmp_path, archive) -> pathlib.Path:
  """The folder of a reader: photos, the archive, and the stand-ins in bin/."""
  for name in CLASSES:
    (tmp_path / 'photos' / name).mkdir(parents=True)
    for number in range(12):
      picture = np.random.default_rng(number).integers(0, 255, (90, 120, 3), np.uint8)
      picture[..., CLASSES.index(name)] = 255
      Image.fromarray(picture).save(tmp_path / 'photos' / name / f'{number:02}.jpg')
  (tmp_path / archive.name).symlink_to(archive)
  (tmp_path / 'bin').mkdir()
  for name, code in STAND_INS.items():
    for word, value in (('PYTHON', sys.executable), ('ROOT', str(ROOT)), ('SMALLER', SMALLER)):
      code = re.sub(rf'\b{word}\b', repr(value), code)
    (tmp_path / 'bin' / name).write_text(f'#!{sys.executable}\n{code}')
    (tmp_path / 'bin' / name).chmod(0o755)
  return tmp_path


def run_guide(name: str, folder: pathlib.Path) -> list[str]:
  """Runs a guide from top to bottom; what each block wrote to stdout."""
  path = f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}'
  environment = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'}
  options = {'cwd': folder, 'env': environment, 'text': True, 'stdout': subprocess.PIPE}
  outputs, servers = [], []
  try:
    for language, text in blocks(ROOT / 'docs' / name, 'bash', 'python'):
      if 'examples.serve' in text:  # does not end by itself
        servers.append(subprocess.Popen(['bash', '-c', f'exec {text}'], **options))
        outputs.append(servers[-1].stdout.readline())  # once it listens
        continue
      words = [sys.executable, '-c'] if language == 'python' else ['bash', '-euo', 'pipefail', '-c']
      done = subprocess.run([*words, text], stderr=subprocess.PIPE, check=False, **options)
      assert done.returncode == 0, f'{text}\n{done.stdout}\n{done.stderr}'
      outputs.append(done.stdout)
  finally:
    for server in servers:
      server.kill()
      server.communicate()
  return outputs


@pytest.mark.slow
def test_quickstart_as_typed(reader):
  pytest.importorskip('sklearn')
  outputs = run_guide('quickstart.md', reader)
  assert 'digit.png' in ''.join(outputs)
  for path in ('digits/eval/report.html', 'digits/eval/predictions.png', 'photos/eval/report.html'):
    assert (reader / 'runs' / path).stat().st_size


@pytest.mark.slow
def test_fine_tuning_as_typed(reader):
  outputs = run_guide('fine_tuning.md', reader)
  assert len((reader / 'dog.csv').read_text().splitlines()) == 13  # with a head
  assert (reader / 'runs/photos/best/eval/report.html').stat().st_size
  (answer,) = [json.loads(text) for text in outputs if text.startswith('{')]
  (found,) = answer['predictions']
  assert sorted(found['names']) == sorted(CLASSES)
  assert sum(found['probabilities']) == pytest.approx(1)
