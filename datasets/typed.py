"""JSON as the types that it was written from; what has another shape is named."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

_SCALARS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}


def typed(value: Any, kind: Any, name: str = '') -> Any:
  """Checks what `json.loads` gave, all the way down.

  Args:
    value: to check.
    kind: bool, int, float (finite), str, Any, `X | None`, list[X], tuple[X, ...], tuple[X, Y],
      dict[str, X], dict[int, X], a dataclass of such, or a TypedDict. An object may have fields
      that its type does not know; a TypedDict keeps them.
    name: of the value in its file, for messages, e.g. 'splits.train'.

  Returns:
    The value as `kind`.

  Raises:
    ValueError: it is of another type, or lacks a field; says which.
  """
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if kind is Any:
    return value
  if origin in (types.UnionType, typing.Union):
    (kind,) = (part for part in arguments if part is not types.NoneType)
    return None if value is None else typed(value, kind, name)
  if kind in _SCALARS:
    is_of_kind = type(value) in ((int, float) if kind is float else (kind,))
    is_finite = kind is not float or (is_of_kind and math.isfinite(value))
    return kind(_check(is_of_kind and is_finite, value, _SCALARS[kind], name))
  if origin in (list, tuple):
    _check(isinstance(value, list), value, 'a list', name)
    if origin is list or arguments[-1] is Ellipsis:
      arguments = arguments[:1] * len(value)
    _check(len(value) == len(arguments), value, f'a list of {len(arguments)}', name)
    pairs = enumerate(zip(value, arguments, strict=True))
    return origin(typed(item, argument, f'{name}[{i}]') for i, (item, argument) in pairs)
  _check(isinstance(value, dict), value, 'an object', name)
  if origin is dict:
    key_kind, value_kind = arguments
    return {
      _key(key, key_kind, name): typed(item, value_kind, _join(name, key))
      for key, item in value.items()
    }
  return _of_fields(value, kind, name)


def _of_fields(value: Mapping[str, Any], kind: Any, name: str) -> Any:
  """An object as a dataclass or a TypedDict."""
  hints, is_dataclass = typing.get_type_hints(kind), dataclasses.is_dataclass(kind)
  if is_dataclass:
    required = {
      field.name
      for field in dataclasses.fields(kind)
      if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
  else:
    required = kind.__required_keys__
  for field in hints:
    if field in required and field not in value:
      raise ValueError(f'{_join(name, field)} is missing')
  content = {
    field: typed(value[field], hint, _join(name, field))
    for field, hint in hints.items()
    if field in value
  }
  return kind(**content) if is_dataclass else {**value, **content}


def _check(holds: bool, value: Any, expected: str, name: str) -> Any:
  """The value; ValueError where that does not hold."""
  if holds:
    return value
  text = json.dumps(value)
  text = text if len(text) <= 40 else f'{text[:37]}...'
  raise ValueError(f'{name} must be {expected}, not {text}'.lstrip())


def _key(key: str, kind: type, name: str) -> Any:
  """JSON has text alone for keys."""
  if kind is str:
    return key
  try:
    return kind(key)
  except ValueError:
    raise ValueError(f'{_join(name, key)}: the key must be {_SCALARS[kind]}') from None


def _join(name: str, field: str) -> str:
  return f'{name}.{field}' if name else field
