"""`from nets import inception` in a checkout: the modules of `slim_inception.nets`, not copies.

Two copies would be two classes of each name and two registries of nets.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import slim_inception


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds `nets.X` as `slim_inception.nets.X`."""

  def __init__(self, name: str):
    self.name = name

  def find_spec(
    self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
  ) -> ModuleSpec | None:
    if not fullname.startswith(f'{self.name}.'):
      return None
    real = importlib.import_module(f'slim_inception.{fullname}')
    return importlib.util.spec_from_loader(fullname, self, is_package=hasattr(real, '__path__'))

  def create_module(self, spec: ModuleSpec) -> ModuleType:
    module = importlib.import_module(f'slim_inception.{spec.name}')
    self._spec = module.__spec__
    return module

  def exec_module(self, module: ModuleType) -> None:
    module.__spec__ = self._spec  # the import system has put the alias's there


def install(name: str, file: str) -> None:
  """Makes the top-level package `name` at `file` be `slim_inception.<name>`.

  Does nothing where the `slim_inception` that Python finds is not the one beside `file`: the folder
  was copied into another project, and is on its own there.
  """
  if str(Path(file).resolve().parents[1]) not in slim_inception.__path__:
    return
  if not any(isinstance(finder, _Alias) and finder.name == name for finder in sys.meta_path):
    sys.meta_path.insert(0, _Alias(name))
  sys.modules[name] = importlib.import_module(f'slim_inception.{name}')
