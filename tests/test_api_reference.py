"""The API reference: current, and made of the code as it is."""

import ast
import importlib.util
import pathlib
import subprocess
import sys
import textwrap

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / 'docs' / 'make_api_reference.py'


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('make_api_reference', SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_pages_are_current():
  done = subprocess.run(
    [sys.executable, SCRIPT, '--check'], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def test_stale_pages_are_named(script, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(script, 'ROOT', tmp_path)
  monkeypatch.setattr(script, 'PAGES', tmp_path / 'api')
  monkeypatch.setattr(script, 'MODULES', {'things': ('one',)})
  (tmp_path / 'things').mkdir()
  (tmp_path / 'things' / 'one.py').write_text('"""One thing. And more."""\n')
  monkeypatch.setattr(sys, 'argv', ['make_api_reference'])
  script.main()
  assert (
    '- [things.one](things.md#thingsone): One thing\n'
    in (tmp_path / 'api' / 'README.md').read_text()
  )
  monkeypatch.setattr(sys, 'argv', ['make_api_reference', '--check'])
  script.main()
  (tmp_path / 'things' / 'one.py').write_text('"""Another thing."""\n')
  with pytest.raises(SystemExit, match='things.md is not current: python docs/make_api_reference'):
    script.main()
  assert 'One thing' in (tmp_path / 'api' / 'things.md').read_text()


def describe(script, source):
  source = textwrap.dedent(source)
  return '\n'.join(script.describe('m', ast.parse(source), source))


def test_a_function(script):
  text = describe(
    script,
    '''
    """A module."""
    def f(a: dict[
        str, int], *, b=(1,
        2)) -> int:
      """Does *so*.

      Args:
        a: first line: it goes on
          and on; `x*y`.

      Returns:
        The sum.

      Raises:
        ValueError, OSError: never.
      """
    def _hidden(): pass
    ''',
  )
  assert text == textwrap.dedent(
    r"""
    ## m

    A module.

    ### `f`

    ```python
    f(a: dict[str, int], *, b=(1, 2)) -> int
    ```

    Does \*so\*.

    **Args**

    - `a`: first line: it goes on
      and on; `x*y`.

    **Returns**

    The sum.

    **Raises**

    - `ValueError, OSError`: never.
    """
  ).lstrip('\n')


def test_a_class(script):
  text = describe(
    script,
    '''
    """A module."""
    class C(NamedTuple):
      """Holds."""
      a: int = 3  # why
      def m(self, x: int) -> int:
        """Gives."""
      @property
      def p(self) -> str:
        """Says."""
    ''',
  )
  assert 'class C(NamedTuple):\n  a: int = 3  # why\n' in text
  assert '#### `C.m`\n\n```python\nm(x: int) -> int\n```\n\nGives.' in text
  assert '```python\np: str\n```\n\nSays.' in text


@pytest.mark.parametrize(
  'code', ['def f(): pass', 'class C: pass', 'class C:\n  """C."""\n  def m(self): pass']
)
def test_what_is_public_needs_a_docstring(script, code):
  with pytest.raises(ValueError, match=r'^m\.(f|C|C\.m) has no docstring'):
    describe(script, f'"""A module."""\n{code}')
