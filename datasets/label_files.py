"""Files that name classes, in the forms that people have."""

import ast
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from . import files

FORMS = 'lines index:name, names one a line, JSON or a label map (.pbtxt)'
_MOST = 10_000_000  # a larger index is no class's
_INDEXED = re.compile(r'(-?\d+)\s*:\s*(.*)')
_NUMBERED = re.compile(r'(\d+)[\s,;]+(\S.*)')
# Protobuf's text format, as far as label maps use it: an item with messages in it, and a field.
_TEXT = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_MESSAGE = re.compile(rf'\w+\s*:?\s*\{{(?:{_TEXT}|[^{{}}"\'])*\}}')
_ITEM = re.compile(rf'\bitem\s*:?\s*\{{((?:{_TEXT}|[^{{}}"\']|\{{(?:{_TEXT}|[^{{}}"\'])*\}})*)\}}')
_FIELD = re.compile(rf'(\w+)\s*:\s*({_TEXT}|-?\d+)')


def read_labels(path: str | os.PathLike) -> dict[int, str]:
  """Reads names of classes; the form is told by the content.

  - lines `index:name`: slim's labels.txt;
  - lines `0 name` of all classes from 0 on: Teachable Machine's;
  - names, one a line, of the classes from 0 on: labels.txt of an export, TensorFlow Hub's
    ImageNetLabels.txt;
  - JSON or a Python literal: a list of names, {index: name}, {index: [synset, name]} as Keras'
    imagenet_class_index.json, or {name: index} as Keras' class_indices;
  - items with `id` and `name` or `display_name`: a label map of the Object Detection API.

  Args:
    path: of the file, UTF-8, or UTF-16 with a byte order mark.

  Raises:
    OSError: there is no such file.
    ValueError: it has another form, no name, or two of one class; says where.
  """
  text = files.read_text(path).strip()
  if not text:
    raise ValueError(f'{os.fspath(path)} is empty: {FORMS} are expected')
  try:
    return _checked(_parse(text))
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)}: {error}') from None


def _parse(text: str) -> list[tuple[int, str]]:
  """(index, name) of each class that is named."""
  if text[0] in '{[':
    return _of_literal(text)
  if _ITEM.search(text):
    if rest := re.sub(r'#.*', '', _ITEM.sub('', text)).strip(' ,;\t\r\n'):
      raise ValueError(f'is a label map, but this is no item: {rest!r:.40}')
    return [_of_item(match[1]) for match in _ITEM.finditer(text)]
  lines = [line.strip() for line in re.split('\r\n|\r|\n', text)]
  indexed = [_INDEXED.fullmatch(line) for line in lines]
  if any(indexed):
    for number, (line, match) in enumerate(zip(lines, indexed, strict=True), start=1):
      if line and not match:
        raise ValueError(f'line {number} is no index:name, as others are: {line!r}')
    return [(int(match[1]), match[2]) for match in indexed if match]
  numbered = [_NUMBERED.fullmatch(line) for line in lines if line]
  if all(numbered):
    pairs = [(int(match[1]), match[2]) for match in numbered if match]
    if sorted(index for index, _ in pairs) == list(range(len(pairs))):
      return pairs
  for number, line in enumerate(lines, start=1):
    if not line:
      raise ValueError(f'line {number} has no name')
  return list(enumerate(lines))


def _of_literal(text: str) -> list[tuple[int, str]]:
  try:
    content = json.loads(text)
  except (ValueError, RecursionError):
    try:
      content = ast.literal_eval(text)  # {0: 'tench, Tinca tinca', ...}, as it is passed around
    except (ValueError, SyntaxError, RecursionError, MemoryError):
      raise ValueError('is neither JSON nor a Python literal') from None
  if isinstance(content, list):
    return [(index, _name(value, index)) for index, value in enumerate(content)]
  if isinstance(content, Mapping):
    if all(isinstance(value, int) for value in content.values()):
      return [(index, _name(name, name)) for name, index in content.items()]
    return [(_index(key), _name(value, key)) for key, value in content.items()]
  raise ValueError(f'is no list and no dictionary of names; {FORMS} are expected')


def _name(value: Any, key: object) -> str:
  """A name, or the last of a list: ["n01440764", "tench"]."""
  if isinstance(value, (list, tuple)) and value:
    value = value[-1]
  if not isinstance(value, str):
    raise ValueError(f'the name of {key!r} is no text: {value!r:.40}')
  return value


def _index(key: object) -> int:
  try:
    return int(key) if isinstance(key, (int, str)) else int('')
  except ValueError:
    raise ValueError(f'{key!r} is no index of a class') from None


def _of_item(text: str) -> tuple[int, str]:
  fields = dict(_FIELD.findall(_MESSAGE.sub('', text)))
  name = fields.get('display_name', fields.get('name'))
  if name is None or not fields.get('id', '').isdecimal():
    raise ValueError(f'an item needs id and name: {" ".join(text.split())!r:.60}')
  return int(fields['id']), str(ast.literal_eval(name))


def _checked(pairs: list[tuple[int, str]]) -> dict[int, str]:
  if not pairs:
    raise ValueError(f'names no class; {FORMS} are expected')
  names: dict[int, str] = {}
  for index, name in pairs:
    if not 0 <= index < _MOST:
      raise ValueError(f'{index}:{name} has no index of a class, 0 to {_MOST - 1}')
    if index in names:
      raise ValueError(f'class {index} is named twice, {names[index]} and {name}')
    names[index] = name
  return names
