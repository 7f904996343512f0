"""Writes the API reference, docs/api/<package>.md, from the docstrings of the packages.

  python docs/make_api_reference.py [--check]

--check writes nothing, and fails where a page is not what it would write. The code is parsed and
not imported: nothing needs to be installed, and all versions of Python write the same pages.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / 'docs' / 'api'
COMMAND = 'python docs/make_api_reference.py'

# What research code imports: package -> modules, in the order of their page.
MODULES: dict[str, tuple[str, ...]] = {
  'nets': (
    'nets_factory',
    'model',
    'inception',
    'inception_v3',
    'inception_v4',
    'inception_resnet_v1',
    'inception_resnet_v2',
    'inception_blocks',
    'inception_utils',
    'layers',
    'batch_norm',
    'checkpoints',
    'summary',
    'catalogue',
  ),
  'datasets': ('dataset_factory', 'dataset_info', 'records', 'shards'),
  'preprocessing': (
    'preprocessing_factory',
    'inception_preprocessing',
    'resizing',
    'mixing',
    'rand_augment',
    'draws',
  ),
  'training': (
    'optimizers',
    'schedules',
    'losses',
    'train_step',
    'train_state',
    'loss_scale',
    'class_weights',
    'input_pipeline',
  ),
  'evaluation': ('metrics', 'views', 'label_spaces', 'calibration'),
}

_MOST = 88  # characters of a signature on one line
_SECTION = re.compile(r'(Args|Returns|Raises|Yields|Attributes):$')
_ITEM = re.compile(r'  (\*{0,2}\w[\w., ]*): (.*)')

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--check', action='store_true', help='only say whether pages are current')
  check = parser.parse_args().check
  try:
    pages = {f'{package}.md': page(package) for package in MODULES}
  except ValueError as error:
    sys.exit(f'make_api_reference: {error}')
  pages['README.md'] = contents()
  for name, text in pages.items():
    path = PAGES / name
    if path.exists() and path.read_text('utf-8') == text:
      continue
    if check:
      sys.exit(f'make_api_reference: {path.relative_to(ROOT)} is not current: {COMMAND}')
    PAGES.mkdir(exist_ok=True)
    path.write_text(text, 'utf-8')
    print(f'written: {path.relative_to(ROOT)}')


def contents() -> str:
  """The first page: what there is."""
  lines = ['# API reference', '', f'Made of the docstrings by `{COMMAND}`.', '']
  for package, modules in MODULES.items():
    lines += [f'**[{package}]({package}.md)**', '']
    for module in modules:
      doc = ast.get_docstring(_parse(package, module)[0])
      anchor = f'{package}{module}'.replace('.', '')
      lines.append(f'- [{package}.{module}]({package}.md#{anchor}): {_first_sentence(doc)}')
    lines.append('')
  return '\n'.join(lines)


def page(package: str) -> str:
  """The page of a package.

  Raises:
    ValueError: something public has no docstring.
  """
  lines = [f'# {package}', '']
  for module in MODULES[package]:
    tree, source = _parse(package, module)
    lines += describe(f'{package}.{module}', tree, source)
  return '\n'.join(lines).rstrip() + '\n'


def describe(module: str, tree: ast.Module, source: str) -> list[str]:
  """The lines for a module: its docstring, then what is public, in the order of the code.

  Raises:
    ValueError: something public has no docstring.
  """
  lines = [f'## {module}', '', *_docstring(tree, module)]
  for node in tree.body:
    if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
      lines += _class(node, source, module)
    elif isinstance(node, Function) and not node.name.startswith('_'):
      lines += [f'### `{node.name}`', '', *_code(_signature(node, source))]
      lines += _docstring(node, f'{module}.{node.name}')
    elif alias := _alias(node):
      lines += [f'### `{alias[0]}`', '', f'The same as `{alias[1]}`.', '']
  return lines


def _parse(package: str, module: str) -> tuple[ast.Module, str]:
  source = (ROOT / package / f'{module}.py').read_text('utf-8')
  return ast.parse(source), source


def _first_sentence(text: str) -> str:
  paragraph = ' '.join(text.split('\n\n')[0].split())
  return _escaped(re.split(r'(?<=\.)\s', paragraph)[0].rstrip('.'))


def _alias(node: ast.stmt) -> tuple[str, str] | None:
  """(name, what it stands for) where a public function gets another name."""
  if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute | ast.Name)):
    return None
  (target,) = node.targets
  if not isinstance(target, ast.Name) or target.id.startswith('_') or not target.id.islower():
    return None
  return target.id, ast.unparse(node.value)


def _class(node: ast.ClassDef, source: str, module: str) -> list[str]:
  bases = ', '.join(_text(base, source) for base in node.bases)
  head = f'class {node.name}({bases})' if bases else f'class {node.name}'
  fields = [
    line[2:]
    for item in node.body
    if isinstance(item, ast.AnnAssign)
    and isinstance(item.target, ast.Name)
    and not item.target.id.startswith('_')
    for line in source.splitlines()[item.lineno - 1 : item.end_lineno]
  ]
  code = [f'{head}:', *(f'  {line}' for line in fields)] if fields else [head]
  methods = [item for item in node.body if isinstance(item, Function)]
  for method in methods:
    if method.name == '__init__':
      code = _signature(method, source, name=node.name)
  lines = [f'### `{node.name}`', '', *_code(code), *_docstring(node, f'{module}.{node.name}')]
  for method in methods:
    if not method.name.startswith('_') or method.name == '__call__':
      name = f'{node.name}.{method.name}'
      decorators = {_text(decorator, source) for decorator in method.decorator_list}
      lines += [f'#### `{name}`', '']
      if 'property' in decorators:
        returns = _text(method.returns, source) if method.returns else ''
        lines += _code([f'{method.name}: {returns}'.rstrip(': ')])
      else:
        lines += _code(_signature(method, source))
      lines += _docstring(method, f'{module}.{name}')
  return lines


def _signature(node: Function, source: str, name: str | None = None) -> list[str]:
  """`name(a, b=1) -> c`, one argument a line where it is long; without `self`."""
  arguments = [text for text in _arguments(node.args, source) if text not in ('self', 'cls')]
  returns = f' -> {_text(node.returns, source)}' if node.returns and name is None else ''
  line = f'{name or node.name}({", ".join(arguments)}){returns}'
  if len(line) <= _MOST:
    return [line]
  return [f'{name or node.name}(', *(f'  {argument},' for argument in arguments), f'){returns}']


def _arguments(args: ast.arguments, source: str) -> Iterator[str]:
  positional = [*args.posonlyargs, *args.args]
  defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
  for i, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
    yield _argument(argument, default, source)
    if args.posonlyargs and i == len(args.posonlyargs) - 1:
      yield '/'
  if args.vararg:
    yield '*' + _argument(args.vararg, None, source)
  elif args.kwonlyargs:
    yield '*'
  for argument, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
    yield _argument(argument, default, source)
  if args.kwarg:
    yield '**' + _argument(args.kwarg, None, source)


def _argument(argument: ast.arg, default: ast.expr | None, source: str) -> str:
  text = argument.arg
  if argument.annotation:
    text += f': {_text(argument.annotation, source)}'
  if default is None:
    return text
  return (
    f'{text} = {_text(default, source)}'
    if argument.annotation
    else (f'{text}={_text(default, source)}')
  )


def _text(node: ast.expr, source: str) -> str:
  """As the code has it, on one line: `ast.unparse` differs between versions of Python."""
  text = ' '.join(ast.get_source_segment(source, node).split())
  return re.sub(r',? ([)\]])', r'\1', re.sub(r'([(\[]) ', r'\1', text))


def _code(lines: Iterable[str]) -> list[str]:
  return ['```python', *lines, '```', '']


def _docstring(node: ast.AST, name: str) -> list[str]:
  """A Google-style docstring as Markdown: sections become lists."""
  text = ast.get_docstring(node)
  if not text:
    raise ValueError(f'{name} has no docstring')
  lines, section = [], ''
  for line in text.splitlines():
    if match := _SECTION.match(line):
      section = match[1]
      lines += [f'**{section}**', '']
    elif section and (match := _ITEM.match(line)) and section not in ('Returns', 'Yields'):
      lines.append(f'- `{match[1]}`: {_escaped(match[2])}')
    elif section and line.startswith('  '):
      item = section not in ('Returns', 'Yields')
      lines.append(('  ' if item else '') + _escaped(line.strip()))
    elif line.startswith('    '):
      lines.append(line)  # an example: code in Markdown as well
    else:
      section = section if not line else ''
      lines.append(_escaped(line))
  return [*lines, '']


def _escaped(text: str) -> str:
  """Text as Markdown would not have it otherwise; what is in backquotes stays."""
  parts = re.split(r'(`[^`]*`)', text)
  return ''.join(
    part if part.startswith('`') else re.sub(r'(\*|__|<)', r'\\\1', part) for part in parts
  )


if __name__ == '__main__':
  main()
