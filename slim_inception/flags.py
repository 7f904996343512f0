"""Typed configuration: frozen dataclasses whose fields are the flags of a command.

A configuration is a frozen dataclass of `field`s, or of groups of them; the names of the flags are
flat. The annotation of a field is the truth: `int | None` is a number or None, `tuple[float, ...]`
is written 30,60,80, and `PerMember[int]` is one value or one for each checkpoint. Text from the
command line and values from JSON or TOML are checked by the same rules, those of the field.

    @dataclasses.dataclass(frozen=True)
    class OptimizerConfig:
      '''Optimizer.'''

      momentum: float = flags.field(0.9, 'Momentum of the optimizer.', at_least=0, at_most=1)

    @dataclasses.dataclass(frozen=True)
    class Config:
      optimizer: OptimizerConfig

    flags.define(Config)
    config = flags.parse(Config)
"""

import dataclasses
import difflib
import enum
import math
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from absl import flags as absl_flags

from slim_inception import files

Error = absl_flags.Error  # a flag is wrong: exit status 2
REQUIRED: Any = dataclasses.MISSING  # default of a field that must be given

T = TypeVar('T')
Choices = tuple[Any, ...] | Callable[[], Sequence[Any]]


_MOST = 2**31 - 1  # what TensorFlow's sizes, counts and steps hold


class Place(enum.Enum):
  """What the path of a field is for."""

  INPUT = 'to read from'
  INPUTS = 'to read from, several with commas'
  OUTPUT_FILE = 'a file that is written'
  OUTPUT_PREFIX = 'files that are written, whose names begin so'
  OUTPUT_FOLDER = 'a folder that is written into'


class PerMember(tuple[T, ...], Generic[T]):
  """One value for all nets of an ensemble, or one for each: the type of a field."""


@dataclasses.dataclass(frozen=True)
class Flag:
  """A field as a flag; see `field` for the others.

  Attributes:
    name: of the field and the flag.
    kind: type of its values, without None.
    optional: whether it may be None, which an empty text means.
    title: of its group in --help.
  """

  default: Any
  help: str
  choices: Choices
  at_least: float
  above: float
  at_most: float
  check: Callable[[Any], object] | None
  form: str
  place: Place | None
  words: Mapping[str, Any]
  name: str = ''
  kind: Any = None
  optional: bool = False
  title: str = ''

  def allowed(self) -> tuple[Any, ...]:
    """The choices of now; () where all values are allowed."""
    return tuple(self.choices() if callable(self.choices) else self.choices)

  def describe(self) -> str:
    """The sentence of --help, with what is allowed and the default."""
    notes = []
    if allowed := self.allowed():
      notes.append(f'one of {", ".join(map(str, allowed))}')
    if self.default is REQUIRED:
      notes.append('required')
    elif self.default not in (None, (), ''):
      notes.append(f'default: {as_text(self.default)}')
    return self.help + (f' ({"; ".join(notes)})' if notes else '')

  def convert(self, value: Any, source: str = '--') -> Any:
    """A value of the field's type from text, from JSON or TOML, or from Python.

    Args:
      value: to check.
      source: what errors put before the name: '--', or 'FILE: '.

    Raises:
      ValueError: it has another type, is out of range or none of the choices.
    """
    if isinstance(value, str) and value in self.words:
      value = self.words[value]
    if any(value == word and type(value) is type(word) for word in self.words.values()):
      return value
    if self.optional and (value is None or value == ''):
      return None
    if value == '' and self.default is REQUIRED:
      raise ValueError(f'{source}{self.name} is empty: {self.help}')
    if value is None and typing.get_origin(self.kind) is tuple:
      value = ()
    where = f'{source}{self.name}={as_text(value)}'
    try:
      result = _convert(value, self.kind)
    except (LookupError, OverflowError, TypeError, ValueError):
      raise ValueError(f'{where}: must be {self._expected()}') from None
    for item in _items(result):
      if (allowed := self.allowed()) and item not in allowed:
        raise ValueError(f'{where}: choose one of {", ".join(map(str, allowed))}')
      if not isinstance(item, str) and (limit := self._limit_broken(item)) is not None:
        raise ValueError(f'{where}: must be {self._expected()}{limit}')
    if self.place:
      try:
        result = _local(result, self.place)
      except ValueError as error:
        raise ValueError(f'{where}: {error}') from None
    if self.check:
      try:
        self.check(result)
      except ValueError as error:
        raise ValueError(f'{where}: {error}') from None
    return result

  def _limit_broken(self, number: float) -> str | None:
    """None where the number is in range, else what `_expected` does not say of it."""
    if isinstance(number, float) and not math.isfinite(number):
      return ', finite'
    if isinstance(number, int) and abs(number) > _MOST and math.isinf(self.at_most):
      return f', at most {_MOST}' if number > 0 else f', at least {-_MOST}'
    in_range = self.at_least <= number <= self.at_most and number > self.above
    return None if in_range else ''

  def _expected(self) -> str:
    bounds = {'at least': self.at_least, 'greater than': self.above, 'at most': self.at_most}
    limits = [f'{words} {bound}' for words, bound in bounds.items() if math.isfinite(bound)]
    return ' or '.join([', '.join([self.form or _kind_name(self.kind), *limits]), *self.words])


def field(
  default: Any,
  help: str,
  *,
  choices: Choices = (),
  at_least: float = -math.inf,
  above: float = -math.inf,
  at_most: float = math.inf,
  check: Callable[[Any], object] | None = None,
  form: str = '',
  place: Place | None = None,
  words: Mapping[str, Any] = types.MappingProxyType({}),
) -> Any:
  """A field of a configuration.

  Numbers are finite, and whole ones of 31 bits unless `at_most` says otherwise.

  Args:
    default: its value where no other is chosen; `REQUIRED` where one must be.
    help: one whole sentence, which stands alone in --help.
    choices: the values that are allowed, or what returns them: it is called whenever a value is
      checked, so what was registered meanwhile counts.
    at_least: smallest number, also of each item of a list; `above` where it is itself excluded.
    above: see `at_least`.
    at_most: largest number.
    check: raises ValueError, saying what is expected, for a value of the right type.
    form: how the value is written, e.g. 'HOST:PORT', where the type does not say it.
    place: of a path, what it is for. `~` becomes the home folder; addresses such as gs:// are
      refused; `parse` tries whether outputs can be written. '-' stays, for standard output.
    words: {text: value of the type, in range or not} beside the others, e.g. 'auto'.
  """
  flag = Flag(default, help, choices, at_least, above, at_most, check, form, place, words)
  return dataclasses.field(default=default, metadata={'flag': flag})


def fields(config_class: type, title: str = 'Flags') -> dict[str, Flag]:
  """The flags of a configuration by name, those of its groups too, in the order of the fields."""
  hints = typing.get_type_hints(config_class)
  result: dict[str, Flag] = {}
  for item in dataclasses.fields(config_class):
    kind = hints[item.name]
    if dataclasses.is_dataclass(kind):
      subtitle = (kind.__doc__ or item.name).partition('.')[0]
      result |= fields(typing.cast(type, kind), subtitle)
      continue
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if optional:
      (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
    result[item.name] = dataclasses.replace(
      item.metadata['flag'], name=item.name, kind=kind, optional=optional, title=title
    )
  return result


def convert(config_class: type, values: Mapping[str, Any], source: str = '--') -> dict[str, Any]:
  """{name: value} with each value checked and of its field's type.

  Args:
    config_class: the configuration.
    values: flat; text, JSON, TOML or Python values.
    source: what errors put before a name: '--', or 'FILE: '.

  Raises:
    ValueError: an unknown name or an impossible value.
  """
  known = fields(config_class)
  for name in values:
    if name not in known:
      close = difflib.get_close_matches(name, known)
      hint = f'; did you mean {" or ".join(close)}?' if close else ''
      raise ValueError(f'{source}{name}: there is no such flag{hint}')
  return {name: known[name].convert(value, source) for name, value in values.items()}


def build(config_class: type[T], values: Mapping[str, Any]) -> T:
  """The configuration of flat values; what is not among them has its default.

  Raises:
    ValueError: an unknown name, an impossible value, or one is missing; names the flag.
  """
  return _build(config_class, convert(config_class, values))


def flatten(config: Any) -> dict[str, Any]:
  """{name of the flag: value}: what `build` takes, and what is saved as JSON."""
  result: dict[str, Any] = {}
  for item in dataclasses.fields(config):
    value = getattr(config, item.name)
    result |= flatten(value) if dataclasses.is_dataclass(value) else {item.name: value}
  return result


def replace(config: T, /, **values: Any) -> T:
  """The configuration with other values, named flat, which are checked like all."""
  return build(type(config), {**flatten(config), **values})


def of_members(config: Any, count: int) -> list[dict[str, Any]]:
  """For each of `count` checkpoints its values of the fields that are `PerMember`.

  Raises:
    ValueError: a field has neither one value nor `count`; names the flag.
  """
  members: list[dict[str, Any]] = [{} for _ in range(count)]
  values = flatten(config)
  for flag in fields(type(config)).values():
    if typing.get_origin(flag.kind) is not PerMember:
      continue
    value = (None,) if values[flag.name] is None else values[flag.name]
    if len(value) not in (1, count):
      raise ValueError(
        f'--{flag.name}={as_text(value)}: give one value, or one for each of {count} checkpoints'
      )
    for member, own in zip(members, value * (count // len(value)), strict=True):
      member[flag.name] = own
  return members


def define(config_class: type, removed: Mapping[str, str] = types.MappingProxyType({})) -> None:
  """Defines the flags of a configuration; their groups are absl's modules, as --help has them.

  Args:
    config_class: the configuration.
    removed: {flag that is no more: what takes its place}.
  """
  for flag in fields(config_class).values():
    help_text = flag.describe()
    if flag.kind is bool:
      defined: absl_flags.Flag = absl_flags.BooleanFlag(flag.name, None, help_text)
    else:
      text: Any = absl_flags.ArgumentParser()  # takes it as it is: `Flag.convert` parses
      defined = absl_flags.Flag(text, absl_flags.ArgumentSerializer(), flag.name, None, help_text)
    absl_flags.DEFINE_flag(defined, absl_flags.FLAGS, flag.title)
  for name, reason in removed.items():
    absl_flags.DEFINE_string(name, None, f'Removed: {reason}.', absl_flags.FLAGS)


@typing.overload
def parse(
  config_class: type[T],
  resolve: None = None,
  removed: Mapping[str, str] = ...,
  prepare: Callable[[], None] | None = None,
) -> T: ...


@typing.overload
def parse(
  config_class: type,
  resolve: Callable[[Mapping[str, Any]], T],
  removed: Mapping[str, str] = ...,
  prepare: Callable[[], None] | None = None,
) -> T: ...


def parse(
  config_class: type,
  resolve: Callable[[Mapping[str, Any]], Any] | None = None,
  removed: Mapping[str, str] = types.MappingProxyType({}),
  prepare: Callable[[], None] | None = None,
) -> Any:
  """The configuration of the flags on the command line.

  Args:
    config_class: what was defined.
    resolve: makes it, or something that has it as `config`, of {name: text, or a truth value};
      `build` by default. Its ValueError is an error of the flags.
    removed: as defined.
    prepare: what `resolve` and all that follows need and what takes seconds; it is called when the
      values of the flags are right by themselves and outputs can be written.

  Raises:
    Error: a flag is wrong, missing or removed.
    OSError: an output cannot be written.
  """
  texts = {n: v for n, v in absl_flags.FLAGS.flag_values_dict().items() if v is not None}
  for name, reason in removed.items():
    if name in texts:
      raise Error(f'--{name} is removed: {reason}')
  values = {name: texts[name] for name in fields(config_class) if name in texts}
  try:
    try_outputs(config_class, convert(config_class, values))
    if prepare:
      prepare()
    result = resolve(values) if resolve else build(config_class, values)
  except ValueError as error:
    raise Error(str(error)) from error
  config = result if isinstance(result, config_class) else result.config
  try_outputs(config_class, flatten(config))  # those that nobody named too
  return result


def try_outputs(config_class: type, values: Mapping[str, Any]) -> None:
  """Says before the work what would otherwise be said after it.

  Args:
    config_class: the configuration.
    values: of some of its flags, or of all.

  Raises:
    OSError: an output is of another kind, or cannot be written or made; names the flag.
  """
  tries = {
    Place.OUTPUT_FILE: files.try_file,
    Place.OUTPUT_PREFIX: lambda path: files.try_folder(os.path.dirname(path) or '.'),
    Place.OUTPUT_FOLDER: files.try_folder,
  }
  for flag in fields(config_class).values():
    path = values.get(flag.name)
    if flag.place in tries and path not in (None, '', '-'):
      try:
        tries[flag.place](path)
      except OSError as error:
        reason = error.strerror or str(error)
        named = f': {error.filename}' if error.filename not in (None, path) else ''
        raise OSError(f'--{flag.name}={path}{named}: {reason}') from error


def as_text(value: Any) -> str:
  """A value as it is written on the command line: 30,60,80 or A:10,B:0.1."""
  if isinstance(value, (list, tuple)):
    nested = any(isinstance(item, (list, tuple)) for item in value)
    parts = [':'.join(map(str, item)) if nested else str(item) for item in value]
    return ','.join(parts)
  return str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: Any) -> str:
  """A value for people to read: as `as_text` has it, or 'not set'."""
  return 'not set' if value in (None, (), []) else as_text(value)


def _build(config_class: type[T], values: Mapping[str, Any]) -> T:
  hints = typing.get_type_hints(config_class)
  arguments = {}
  for item in dataclasses.fields(typing.cast(Any, config_class)):
    if dataclasses.is_dataclass(hints[item.name]):
      arguments[item.name] = _build(hints[item.name], values)
    elif item.name in values:
      arguments[item.name] = values[item.name]
    elif item.default is REQUIRED:
      raise ValueError(f'--{item.name} must be given: {item.metadata["flag"].help}')
  return config_class(**arguments)


def host_and_port(address: str) -> tuple[str, int]:
  """'host:5050' -> ('host', 5050), also a `check`.

  Raises:
    ValueError: it is not written so, or there is no such port.
  """
  host, _, port = address.rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
    raise ValueError('must be HOST:PORT with a port of 1 to 65535, e.g. loader1:5050')
  return host, int(port)


def _local(value: Any, place: Place) -> Any:
  """A path, or several, as the file system knows it."""
  if isinstance(value, tuple):
    return type(value)(_local(item, place) for item in value)
  if place is Place.INPUTS:
    return ','.join(map(files.local_path, value.split(',')))
  return files.local_path(value)


_SCALARS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}
_BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}


def _kind_name(kind: Any) -> str:
  """'a whole number', or of a list 'a whole number, or several with commas'."""
  if kind in _SCALARS:
    return _SCALARS[kind]
  return f'{_kind_name(typing.get_args(kind)[0])}, or several with commas'


def _items(value: Any) -> Iterator[Any]:
  """The texts and numbers of a value, those of nested tuples one after the other."""
  if isinstance(value, tuple):
    for item in value:
      yield from _items(item)
  elif not isinstance(value, bool):
    yield value


def _convert(value: Any, kind: Any, separator: str = ',') -> Any:
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is None:
    return _convert_scalar(value, kind)
  if isinstance(value, str):
    value = [part.strip() for part in value.split(separator) if part.strip()]
  elif not isinstance(value, (list, tuple)):
    value = [value]
  if origin is PerMember or arguments[-1] is Ellipsis:
    arguments = arguments[:1] * len(value)
  return origin(
    _convert(item, argument, ':') for item, argument in zip(value, arguments, strict=True)
  )


def _convert_scalar(value: Any, kind: type) -> Any:
  if isinstance(value, os.PathLike):
    value = os.fspath(value)
  if isinstance(value, str) and kind is not str:
    return _BOOLEANS[value.lower()] if kind is bool else kind(value)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if type(value) is not kind:
    raise TypeError(value)
  return value
