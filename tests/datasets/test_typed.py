"""JSON as the types that it was written from."""

import dataclasses
import json
import math
from typing import Any, TypedDict

import pytest
from slim_inception.datasets.typed import typed


@dataclasses.dataclass(frozen=True)
class Part:
  name: str
  sizes: tuple[int, ...]
  note: str | None = None


@dataclasses.dataclass(frozen=True)
class Whole:
  parts: dict[str, Part]
  share: float
  counts: dict[int, int] = dataclasses.field(default_factory=dict)
  pair: tuple[str, int] = ('', 0)


class Line(TypedDict):
  step: int


class LongLine(Line, total=False):
  hours: float


def test_what_is_right_comes_as_its_types():
  part = {'name': 'ü', 'sizes': [1, 2], 'unknown': 3}
  content = {'parts': {'a': part}, 'share': 1, 'counts': {'3': 4}, 'pair': ['x', 5]}
  whole = typed(json.loads(json.dumps(content)), Whole)
  assert whole == Whole({'a': Part('ü', (1, 2))}, 1.0, {3: 4}, ('x', 5))
  assert type(whole.share) is float
  assert typed({'step': 1, 'more': [None]}, LongLine) == {'step': 1, 'more': [None]}
  assert typed([True], list[bool]) == [True]
  assert typed([None], Any) == [None]


@pytest.mark.parametrize(
  ('value', 'kind', 'message'),
  [
    (None, Whole, 'must be an object, not null'),
    ([1], Line, 'must be an object, not [1]'),
    ({}, Line, 'step is missing'),
    ({'step': None}, Line, 'step must be a whole number, not null'),
    ({'step': 1.5}, Line, 'step must be a whole number, not 1.5'),
    ({'step': True}, Line, 'step must be a whole number, not true'),
    ({'step': 1, 'hours': 'x'}, LongLine, 'hours must be a number, not "x"'),
    ({'step': 1, 'hours': math.nan}, LongLine, 'hours must be a number, not NaN'),
    ({'step': 1, 'hours': True}, LongLine, 'hours must be a number, not true'),
    ({'parts': [], 'share': 1}, Whole, 'parts must be an object, not []'),
    ({'parts': {'a': {'name': 1}}, 'share': 1}, Whole, 'parts.a.sizes is missing'),
    (
      {'parts': {'a': {'name': 1, 'sizes': []}}, 'share': 1},
      Whole,
      'parts.a.name must be text, not 1',
    ),
    ({'name': 'a', 'sizes': {}}, Part, 'sizes must be a list, not {}'),
    ({'name': 'a', 'sizes': [1, '2']}, Part, 'sizes[1] must be a whole number, not "2"'),
    ({'name': 'a', 'sizes': [], 'note': 1}, Part, 'note must be text, not 1'),
    (
      {'parts': {}, 'share': 0, 'counts': {'x': 1}},
      Whole,
      'counts.x: the key must be a whole number',
    ),
    ({'parts': {}, 'share': 0, 'pair': ['x']}, Whole, 'pair must be a list of 2, not ["x"]'),
    ('x' * 100, list[int], f'must be a list, not "{"x" * 36}...'),
  ],
)
def test_what_is_wrong_is_named(value, kind, message):
  with pytest.raises(ValueError) as error:
    typed(value, kind)
  assert str(error.value) == message
