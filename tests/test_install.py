"""What pip installs: whole, and found without the checkout."""

import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import venv

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What stays in the checkout: tests, and what is run there.
NOT_INSTALLED = {'benchmarks', 'docs', 'examples', 'tests'}


def listed(name: str) -> set[str]:
  """The strings of a list in pyproject.toml (Python 3.10 has no tomllib)."""
  text = (ROOT / 'pyproject.toml').read_text()
  return set(re.findall(r'"([\w.]+)"', re.search(rf'^{name} = \[(.*?)^\]', text, re.M | re.S)[1]))


def packages() -> set[str]:
  paths = {path.parent.relative_to(ROOT) for path in ROOT.glob('[a-z]*/**/__init__.py')}
  return {'.'.join(path.parts) for path in paths if path.parts[0] not in NOT_INSTALLED}


def test_every_package_and_module_is_listed():
  modules = {path.stem for path in ROOT.glob('*.py')}
  found = {name for name in packages() if not name.startswith('build.')}
  assert listed('packages') == found | {'datasets.data'}  # which has no code, so no __init__.py
  assert listed('py-modules') == modules
  scripts = re.findall(r'^(\w+) = "(\w+):console"$', (ROOT / 'pyproject.toml').read_text(), re.M)
  assert {(name, name) for name in modules - {'console', 'quiet_tensorflow'}} == set(scripts)


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> pathlib.Path:
  """The folder of an environment with the project in it, which sees what is installed here.

  TensorFlow is not installed again: a .pth file shows this environment's packages, behind its own.
  The editable installation of the project, if there is one, works by a .pth file of its own, which
  is not followed from there.
  """
  folder = tmp_path_factory.mktemp('install')
  source = folder / 'source'
  files = subprocess.run(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  for name in files:
    if (ROOT / name).is_file():
      (source / name).parent.mkdir(parents=True, exist_ok=True)
      (source / name).write_bytes((ROOT / name).read_bytes())
  environment = folder / 'venv'
  venv.create(environment, symlinks=True)
  library = next(environment.glob('lib/python*/site-packages'))
  (library / 'tensorflow_of_the_tests.pth').write_text(sysconfig.get_paths()['purelib'] + '\n')
  pip = [sys.executable, '-m', 'pip', '--python', environment / 'bin' / 'python', 'install']
  done = subprocess.run(
    [*pip, '--no-deps', '--ignore-installed', source], capture_output=True, text=True, check=False
  )
  if 'No matching distribution found for setuptools' in done.stderr:
    pytest.skip('pip has no way to get the setuptools that builds the project')
  assert done.returncode == 0, done.stderr
  return environment


def run(installed: pathlib.Path, *command: str, cwd: pathlib.Path) -> str:
  environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
  done = subprocess.run(
    [installed / 'bin' / command[0], *command[1:]],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, f'{command}: {done.stderr}'
  return done.stdout


@pytest.mark.slow
def test_nets_are_imported_from_the_installation_and_bring_little(installed, tmp_path):
  # Keras brings what it finds: scikit-learn, pandas, ... So what counts is what nets adds to it.
  code = (
    'import sys, tensorflow, tf_slim; before = set(sys.modules)\n'
    'from nets import inception; print(inception.__file__)\n'
    'print(*{name.split(".")[0] for name in set(sys.modules) - before})'
  )
  path, modules = run(installed, 'python', '-c', code, cwd=tmp_path).splitlines()
  assert pathlib.Path(path).is_relative_to(installed)
  assert set(modules.split()) <= {'nets', 'tensorflow', 'tf_slim'}


@pytest.mark.slow
def test_data_files_are_installed(installed):
  library = next(installed.glob('lib/python*/site-packages'))
  for package in packages():
    folder = pathlib.Path(*package.split('.'))
    here = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
    there = {path.name for path in (library / folder).iterdir() if path.is_file()}
    assert here == there, package


@pytest.mark.slow
def test_modules_are_those_of_the_installation(installed, tmp_path):
  modules = sorted(listed('py-modules'))
  code = f'import {", ".join(modules)}\nfor m in ({", ".join(modules)}): print(m.__file__)'
  for path in run(installed, 'python', '-c', code, cwd=tmp_path).splitlines():
    assert pathlib.Path(path).is_relative_to(installed)


@pytest.mark.slow
@pytest.mark.parametrize('script', sorted(listed('py-modules') - {'console', 'quiet_tensorflow'}))
def test_scripts_help(script, installed, tmp_path):
  assert '\nFlags:\n  --' in run(installed, script, '--help', cwd=tmp_path)
