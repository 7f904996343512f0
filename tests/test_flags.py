"""Typed configuration: what a field takes, says and refuses."""

import dataclasses
import json
import subprocess
import sys
import typing

import pytest
from absl import flags as absl_flags
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_inception import flags
from slim_inception.flags import PerMember, field
from slim_inception.train.config import Config

REGISTRY = ['sgd']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """The group of a net. More of it."""

  size: int | None = field(None, 'The images have this side in pixels.', at_least=1)
  rate: float = field(0.1, 'The rate.', above=0, at_most=1)
  optimizer: str = field('sgd', 'The optimizer.', choices=lambda: tuple(REGISTRY))
  scales: tuple[tuple[str, float], ...] = field((), 'The factors.', form='SCOPE:FACTOR,...')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
  """A configuration."""

  net: Group
  folder: str = field(flags.REQUIRED, 'The results go to this folder.')
  flip: bool = field(True, 'Images are mirrored.')
  sizes: PerMember[int] | None = field(None, 'The sizes.', at_least=1)
  weights: PerMember[str] = field(PerMember(('auto',)), 'The weights.', choices=('auto', 'ema'))
  address: str | None = field(None, 'The address.', check=flags.host_and_port, form='HOST:PORT')


def build(**values):
  return flags.build(Example, {'folder': 'out', **values})


def test_text_becomes_what_the_annotation_says():
  config = build(size='3', rate='1', scales='A/B:10, C:0.1', flip='false', sizes='2,3')
  assert config.net == Group(size=3, rate=1.0, scales=(('A/B', 10.0), ('C', 0.1)))
  assert (config.flip, config.sizes) == (False, (2, 3))
  assert isinstance(config.net.rate, float)
  assert build(size='').net.size is None


def test_saved_values_are_read_as_they_were():
  config = build(scales='A:10', sizes=4, weights=['ema', 'auto'])
  assert flags.build(Example, flags.flatten(config)) == config
  assert flags.replace(config, size=5).net.size == 5


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'size': 0}, '--size=0: must be a whole number, at least 1'),
    ({'size': '1.5'}, '--size=1.5: must be a whole number, at least 1'),
    ({'size': True}, '--size=true: must be a whole number, at least 1'),
    ({'rate': float('nan')}, '--rate=nan: must be a number, more than 0, at most 1'),
    ({'sizes': '2,x'}, '--sizes=2,x: must be a whole number, or several with commas, at least 1'),
    ({'scales': 'A,B:2'}, '--scales=A,B:2: must be SCOPE:FACTOR,...'),
    ({'flip': 'maybe'}, '--flip=maybe: must be true or false'),
    ({'folder': 3}, '--folder=3: must be text'),
    ({'optimizer': 'lion'}, '--optimizer=lion: choose one of sgd'),
    ({'weights': 'ema,plain'}, '--weights=ema,plain: choose one of auto, ema'),
    ({'address': 'here'}, '--address=here: must be HOST:PORT with a port of 1 to 65535'),
    ({'sise': 3}, '--sise: there is no such flag; did you mean size'),
    ({'folder': None}, '--folder=None: must be text'),
  ],
)
def test_a_wrong_value_is_one_line_that_names_the_flag(values, message):
  with pytest.raises(ValueError) as error:
    build(**values)
  assert str(error.value).startswith(message)


def test_what_must_be_given():
  with pytest.raises(ValueError, match='--folder must be given: The results go to this folder.'):
    flags.build(Example, {})


def test_files_name_themselves():
  with pytest.raises(ValueError, match='^mine.toml: rate=2: must be a number, more than 0'):
    flags.convert(Example, {'rate': 2}, 'mine.toml: ')


def test_choices_are_those_of_now(monkeypatch):
  monkeypatch.setattr('tests.test_flags.REGISTRY', ['sgd', 'lion'])
  assert build(optimizer='lion').net.optimizer == 'lion'


def test_members_of_an_ensemble():
  assert flags.of_members(build(sizes='2,3'), 2) == [
    {'sizes': 2, 'weights': 'auto'},
    {'sizes': 3, 'weights': 'auto'},
  ]
  assert [member['sizes'] for member in flags.of_members(build(), 2)] == [None, None]
  with pytest.raises(ValueError, match='--sizes=2,3: give one value, or one for each of 3'):
    flags.of_members(build(sizes='2,3'), 3)


def test_the_command_line(monkeypatch):
  values = absl_flags.FlagValues()
  monkeypatch.setattr(absl_flags, 'FLAGS', values)
  flags.define(Example, {'old': 'new does it'})
  assert [flag.name for flag in values.flags_by_module_dict()['The group of a net']]
  help_text = values['optimizer'].help
  assert help_text == 'The optimizer. (one of sgd; default: sgd)'
  values(['program', '--folder=out', '--noflip', '--sizes=2,3'])
  config = flags.parse(Example, removed={'old': 'new does it'})
  assert (config.folder, config.flip, config.sizes) == ('out', False, (2, 3))
  values(['program', '--old=1'])
  with pytest.raises(flags.Error, match='--old is removed: new does it'):
    flags.parse(Example, removed={'old': 'new does it'})


def values_of(flag: flags.Flag) -> st.SearchStrategy:
  """Values of the flag's type within its range, None where it may be."""
  numbers = {'min_value': max(flag.at_least, flag.above, -1e9), 'max_value': min(flag.at_most, 1e9)}
  scalars = {
    bool: st.booleans(),
    int: st.integers(**{name: int(value) for name, value in numbers.items()}),
    float: st.floats(**numbers, exclude_min=flag.above > flag.at_least),
    str: st.text('abc/_-', min_size=1),
  }

  def of(kind):
    if kind in scalars:
      return st.sampled_from(flag.allowed()) if flag.choices else scalars[kind]
    parts = typing.get_args(kind)
    if parts[-1] is Ellipsis:
      return st.lists(of(parts[0]), max_size=3, unique=True).map(sorted).map(tuple)
    return st.tuples(*map(of, parts))

  checked = {'data_service': 'host:5050', 'preprocessing_name': 'vgg'}
  values = st.just(checked[flag.name]) if flag.name in checked else of(flag.kind)
  values = values.map(sorted).map(tuple) if flag.name == 'profile_steps' else values
  return st.none() | values if flag.optional else values


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.fixed_dictionaries({n: values_of(f) for n, f in flags.fields(Config).items()}))
def test_a_saved_configuration_is_read_as_it_was(values):
  config = flags.build(Config, values)
  assert flags.flatten(config) == values
  assert flags.build(Config, json.loads(json.dumps(flags.flatten(config)))) == config
  texts = {n: '' if v is None else flags.as_text(v) for n, v in values.items()}
  assert flags.build(Config, texts) == config


def test_configurations_import_no_tensorflow():
  """Which takes seconds."""
  code = (
    'import sys; from slim_inception.train import config; from slim_inception.bench import config'
  )
  code += '; sys.exit("tensorflow" in sys.modules)'
  subprocess.run([sys.executable, '-c', code], check=True)
