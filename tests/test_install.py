"""What pip installs: one name at the top, whole, and beside other packages."""

import csv
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests import zygote

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLOSED = ('datasets', 'nets', 'preprocessing')  # lie at the top of the checkout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> pathlib.Path:
  """The wheel of what git knows and does not know yet, built without what lies around."""
  folder = tmp_path_factory.mktemp('wheel')
  listed = subprocess.run(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  for name in listed:
    if (ROOT / name).is_file():
      (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / 'source' / name).write_bytes((ROOT / name).read_bytes())
  command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--wheel-dir', folder]
  done = subprocess.run([*command, folder / 'source'], capture_output=True, text=True)
  if 'No matching distribution found for setuptools' in done.stderr:
    pytest.skip('pip has no way to get the setuptools that builds the project')
  assert done.returncode == 0, done.stderr
  return next(folder.glob('*.whl'))


def recorded(wheel: pathlib.Path) -> set[str]:
  with zipfile.ZipFile(wheel) as archive:
    (record,) = [name for name in archive.namelist() if name.endswith('.dist-info/RECORD')]
    return {row[0] for row in csv.reader(archive.read(record).decode().splitlines())}


def test_the_wheel_has_one_name_at_the_top(wheel):
  tops = {name.split('/')[0] for name in recorded(wheel)}
  assert {top for top in tops if not top.endswith('.dist-info')} == {'slim_inception'}
  assert len(tops) == 2


def test_the_wheel_has_every_file_of_the_packages(wheel):
  here = set()
  for folder in (ROOT / 'slim_inception', *(ROOT / name for name in CLOSED)):
    for path in folder.rglob('*'):
      if path.is_file() and '__pycache__' not in path.parts:
        relative = path.relative_to(ROOT).as_posix()
        here.add(relative if folder.name == 'slim_inception' else f'slim_inception/{relative}')
  there = {name for name in recorded(wheel) if not name.split('/')[0].endswith('.dist-info')}
  assert there == here


def environment_with(folder: pathlib.Path, *wheels: str | pathlib.Path) -> pathlib.Path:
  """Makes an environment that sees this one's packages behind its own; its site-packages."""
  venv.create(folder, symlinks=True)
  library = next(folder.glob('lib/python*/site-packages'))
  (library / 'packages_of_the_tests.pth').write_text(sysconfig.get_paths()['purelib'] + '\n')
  for package in wheels:
    command = [sys.executable, '-m', 'pip', '--python', folder / 'bin' / 'python', 'install']
    subprocess.run([*command, '--no-deps', '--ignore-installed', package], check=True)
  return library


def run(folder: pathlib.Path, *command: str, cwd: pathlib.Path) -> str:
  environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
  done = subprocess.run(
    [folder / 'bin' / command[0], *command[1:]],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, f'{command}: {done.stderr}'
  return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('ours_first', [True, False])
def test_beside_hugging_faces_packages_every_file_is_intact(ours_first, wheel, tmp_path):
  theirs = ('datasets==4.4.1', 'evaluate==0.4.6')
  library = environment_with(
    tmp_path / 'env', *((wheel, *theirs) if ours_first else (*theirs, wheel))
  )
  for record in library.glob('*.dist-info/RECORD'):
    if record.parent.name.startswith(('datasets-', 'evaluate-', 'slim_inception-')):
      for name, digest, size in csv.reader(record.read_text().splitlines()):
        if digest:
          assert (library / name).stat().st_size == int(size), name
  code = 'from slim_inception.nets import inception; print(inception.__file__)'
  path = run(tmp_path / 'env', 'python', '-c', code, cwd=tmp_path).strip()
  assert pathlib.Path(path).is_relative_to(library)


@pytest.mark.slow
def test_the_installed_command_helps(wheel, tmp_path):
  environment_with(tmp_path / 'env', wheel)
  assert '  train ' in run(tmp_path / 'env', 'slim-inception', '--help', cwd=tmp_path)
  for command in ('data', 'train', 'list'):
    helped = run(tmp_path / 'env', 'slim-inception', command, '--help', cwd=tmp_path)
    assert '\nFlags:\n  --' in helped


TYPED = """
import pathlib
from slim_inception.nets import nets_factory

model = nets_factory.create_model('inception_v3', 10, image_size=107)
reveal_type(model)
reveal_type(model.fold_batch_norm().clone(num_classes=5))
logits, end_points = model([])
reveal_type(model.variables_by_name)
pyramid = nets_factory.create_model('inception_v3', features_only=True, strides=(8,))
reveal_type(pyramid)
reveal_type(pyramid.channels)
model.restore(pathlib.Path('a'))
pyramid.restore(pathlib.Path('a'))
model.save(pathlib.Path('b'))
nets_factory.create_model('inception_v3', 10.0)
nets_factory.create_model('inception_v3', weights=3)
"""
SEEN = """
6: note: Revealed type is "slim_inception.nets.model.Model"
7: note: Revealed type is "slim_inception.nets.model.Model"
9: note: Revealed type is "typing.Mapping[str, Any]"
11: note: Revealed type is "slim_inception.nets.feature_pyramid.FeaturePyramid"
12: note: Revealed type is "dict[int, int]"
16: error: No overload variant of "create_model" matches argument types "str", "float"
17: error: No overload variant of "create_model" matches argument types "str", "int"
"""


@pytest.mark.slow
def test_types_are_seen_from_outside(wheel, tmp_path):
  """By mypy, of an installation."""
  pytest.importorskip('mypy')
  environment_with(tmp_path / 'env', wheel)
  (tmp_path / 'user.py').write_text(TYPED)
  done = subprocess.run(
    [sys.executable, '-m', 'mypy', '--python-executable', tmp_path / 'env/bin/python', 'user.py'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  lines = [line.removeprefix('user.py:') for line in done.stdout.splitlines()]
  assert not any('py.typed' in line for line in lines)
  seen = [re.sub(r'builtins\.|  \[[a-z-]+\]$', '', line) for line in lines]
  for line in SEEN.strip().splitlines():
    assert line in seen, done.stdout


IN_A_CHECKOUT = """
from {first} import inception
from {second} import inception as again
import {first} as a, {second} as b, datasets.records, slim_inception.datasets.records as records
import preprocessing, slim_inception.preprocessing
from nets import nets_factory
from slim_inception.nets import nets_factory as registry
assert inception is again and a is b and datasets.records is records
assert preprocessing is slim_inception.preprocessing
assert nets_factory.NETS is registry.NETS
assert inception.inception_v3.__module__ == 'slim_inception.nets.inception_v3'
"""


@pytest.mark.parametrize('first', ['nets', 'slim_inception.nets'])
def test_a_checkout_has_one_module_under_both_names(first, tmp_path):
  second = {'nets': 'slim_inception.nets', 'slim_inception.nets': 'nets'}[first]
  code = IN_A_CHECKOUT.format(first=first, second=second)
  done = zygote.run(code=code, cwd=tmp_path, env={'PYTHONPATH': str(ROOT)})
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  ('folder', 'code'),
  [
    ('nets', 'from nets import inception, nets_factory; import nets as package'),
    ('datasets', 'from datasets import dataset_factory; import datasets as package'),
    (
      'preprocessing',
      'from preprocessing import preprocessing_factory; import preprocessing as package',
    ),
  ],
)
def test_each_folder_works_alone_in_another_project(folder, code, tmp_path):
  target = tmp_path / folder
  for path in (ROOT / folder).rglob('*'):
    if path.is_file() and '__pycache__' not in path.parts:
      copy = target / path.relative_to(ROOT / folder)
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  code += f'\nassert package.__file__ == {str(target / "__init__.py")!r}, package'
  code += '\nimport sys; assert "slim_inception" not in sys.modules'
  done = zygote.run(code=code, cwd=tmp_path, env={'PYTHONPATH': str(tmp_path)})
  assert done.returncode == 0, done.stderr
