"""Typed configuration: what a field takes, says and refuses."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
import typing

import pytest
from absl import flags as absl_flags
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_inception import cli, flags
from slim_inception.flags import PerMember, field
from slim_inception.train.config import Config
from tests.commands import MODULES

REGISTRY = ['sgd']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """The group of a net. More of it."""

  size: int | None = field(None, 'The images have this side in pixels.', at_least=1)
  rate: float = field(0.1, 'The rate.', above=0, at_most=1)
  optimizer: str = field('sgd', 'The optimizer.', choices=lambda: tuple(REGISTRY))
  scales: tuple[tuple[str, float], ...] = field((), 'The factors.', form='SCOPE:FACTOR,...')
  batch: int = field(32, 'So many images.', at_least=1, words={'auto': 0})


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


def test_words_beside_numbers():
  assert [build(batch=v).net.batch for v in ('auto', 0, '8', 8)] == [0, 0, 8, 8]
  for value in ('0', 'all', False, -1):
    with pytest.raises(ValueError, match='must be a whole number, at least 1 or auto'):
      build(batch=value)


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
    ({'rate': 0}, '--rate=0: must be a number, greater than 0, at most 1'),
    ({'rate': float('nan')}, '--rate=nan: must be a number, greater than 0, at most 1, finite'),
    ({'size': 2**31}, '--size=2147483648: must be a whole number, at least 1, at most 2147483647'),
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
  with pytest.raises(ValueError, match='^mine.toml: rate=2: must be a number, greater than 0'):
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

  checked = {
    'data_service': 'host:5050',
    'drop_path_rate': 0.05,
    'image_size_schedule': ((0.0, 32, 4), (1.5, 64, 0)),
    'memory_limit': '8GB',
    'preprocessing_name': 'vgg',
    'teacher_preprocessing_name': ('vgg',),
  }
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


def configurations() -> dict[str, type]:
  """The configuration of each command."""
  classes: dict[str, type] = {}
  for name, path in MODULES.items():
    module = importlib.import_module(path)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(flags, 'define', lambda kind, *_, name=name: classes.update({name: kind}))
      module.define_flags()
  return classes


ALL = [
  pytest.param(flag, id=f'{command} {flag.name}')
  for command, kind in configurations().items()
  for flag in flags.fields(kind).values()
]


def scalar(flag) -> type:
  kind = flag.kind
  while typing.get_args(kind):
    kind = typing.get_args(kind)[-1 if typing.get_args(kind)[-1] is not Ellipsis else 0]
  return kind


def written(flag, number: str) -> str:
  """A value of the flag with this number in it."""
  forms = {'FIRST,LAST': f'{number},{number}', 'SCOPE:FACTOR,SCOPE:FACTOR,...': f'a:{number}'}
  return forms.get(flag.form, number)


NUMBERS = [each for each in ALL if scalar(each.values[0]) in (int, float)]
# What may be below 0.
SIGNED = (
  'labels_offset',
  'ftrl_learning_rate_power',
)


@pytest.mark.parametrize('flag', NUMBERS)
def test_no_number_is_infinite_or_too_large_or_below_0_where_that_has_no_meaning(flag):
  for number in ('nan', 'inf', '-inf', '1e999', str(2**63), str(10**400)):
    if scalar(flag) is float and number == str(2**63):
      continue
    with pytest.raises(ValueError) as error:
      flag.convert(written(flag, number))
    message = str(error.value)
    assert message.startswith(f'--{flag.name}=') and ': ' in message
    assert 'must be ' in message or 'choose one of ' in message
    assert 'e-324' not in message
  if flag.name not in SIGNED:
    with pytest.raises(ValueError):
      flag.convert(written(flag, '-3'))


# Texts that name no place in a file system.
NO_PLACES = (
  'beam_options',
  'checkpoint_exclude_scopes',
  'data_service',
  'dataset_split_name',
  'dispatcher',
  'distill_end_points',
  'end_point',
  'eval_split_name',
  'host',
  'image_column',
  'label_column',
  'label_separator',
  'labels of compare',
  'learning_rate_scales',
  'memory_limit',
  'preprocessing_name',
  'source_scope',
  'split_column',
  'teacher_preprocessing_name',
  'train_split_name',
  'trainable_scopes',
  'verify_on',
)
TEXTS = [
  each
  for each in ALL
  if scalar(each.values[0]) is str
  and not each.values[0].choices
  and each.values[0].name not in NO_PLACES
  and each.id != 'compare labels'
]


@pytest.mark.parametrize('flag', TEXTS)
def test_every_path_knows_home_and_refuses_addresses(flag, monkeypatch):
  monkeypatch.setenv('HOME', '/home/ann')
  path = flag.convert('~/a.svg')
  assert path == (('/home/ann/a.svg',) if isinstance(path, tuple) else '/home/ann/a.svg')
  for address in ('gs://bucket/a.svg', 's3://b/a.svg', 'hdfs://h/a.svg', 'ram://a.svg'):
    scheme = address.partition(':')[0]
    with pytest.raises(ValueError) as error:
      flag.convert(address)
    assert str(error.value).startswith(
      f'--{flag.name}={address}: must be a path of the file system, not an address: {scheme}://'
    )
  with pytest.raises(ValueError, match='must be a path, without file://'):
    flag.convert('file:///a.svg')
  with pytest.raises(ValueError, match='there is no home folder ~nobody-at-all; a name begins wit'):
    flag.convert('~nobody-at-all/a.svg')


def test_each_of_several_sources_knows_home(monkeypatch):
  monkeypatch.setenv('HOME', '/home/ann')
  (flag,) = (each.values[0] for each in ALL if each.id == 'data source')
  assert flag.convert('~/a.tar,b,~/c') == '/home/ann/a.tar,b,/home/ann/c'
  with pytest.raises(ValueError, match='--source=a,gs://b: must be a path'):
    flag.convert('a,gs://b')


def test_outputs_of_the_commands():
  """What `parse` tries before the work begins; the data command locks its folder at once."""
  assert {each.id for each in ALL if 'OUTPUT' in str(each.values[0].place)} == {
    'average cache_dir',
    'average output',
    'benchmark output_csv',
    'benchmark output_json',
    'calibrate cache_dir',
    'classify csv',
    'classify explain',
    'classify json',
    'compare output',
    'convert output',
    'doctor output_dir',
    'embed output',
    'eval cache_dir',
    'eval eval_dir',
    'experiments.activation_scaling output_dir',
    'experiments.distillation output_dir',
    'experiments.elastic output_dir',
    'experiments.progressive output_dir',
    'experiments.residual_speed output_dir',
    'export cache_dir',
    'export output',
    'fid json',
    'fid save_statistics',
    'probe cache_dir',
    'probe features_dir',
    'probe output',
    'report output',
    'robustness cache_dir',
    'robustness output',
    'show output',
    'train cache_dir',
    'train find_learning_rate',
    'train train_dir',
  }


@dataclasses.dataclass(frozen=True)
class Outputs:
  """What is written."""

  folder: str | None = field(None, 'A folder.', place=flags.Place.OUTPUT_FOLDER)
  file: str | None = field(None, 'A file.', place=flags.Place.OUTPUT_FILE)
  prefix: str | None = field(None, 'Files.', place=flags.Place.OUTPUT_PREFIX)
  source: str | None = field(None, 'Read.', place=flags.Place.INPUT)


def test_outputs_are_tried(tmp_path, full_disk):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'dangling').symlink_to('nowhere')
  (tmp_path / 'there').mkdir()
  before = sorted(tmp_path.iterdir())
  flags.try_outputs(Outputs, {})
  for name in ('folder', 'prefix'):
    flags.try_outputs(Outputs, {name: f'{tmp_path}/there'})
  for name in ('folder', 'file', 'prefix'):
    flags.try_outputs(Outputs, {name: f'{tmp_path}/new/one'})
  flags.try_outputs(Outputs, {'file': '-', 'source': f'{tmp_path}/missing'})
  for name, path, reason in (
    ('folder', 'file', 'is no folder'),
    ('folder', 'file/below', f'{tmp_path}/file: is no folder'),
    ('folder', 'dangling', 'is no folder'),
    ('file', 'there', 'is a folder; expected the name of a file'),
    ('file', 'file/below', f'{tmp_path}/file: is no folder'),
    ('prefix', 'file/below', f'{tmp_path}/file: is no folder'),
    ('folder', 'disk/folder/new', f'{full_disk}: No space left on device'),
    ('file', 'disk/folder/new', f'{full_disk}: No space left on device'),
  ):
    with pytest.raises(OSError) as error:
      flags.try_outputs(Outputs, {name: f'{tmp_path}/{path}'})
    assert str(error.value) == f'--{name}={tmp_path}/{path}: {reason}'
  assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_may_not_be_written_is_told_by_its_flag():
  with pytest.raises(OSError, match='^--folder=/proc/new: /proc: '):
    flags.try_outputs(Outputs, {'folder': '/proc/new'})


def test_help_texts_are_sentences_that_stand_alone(monkeypatch):
  """Of the form of sentences; the flags that they name are there."""
  configs = []
  monkeypatch.setattr(flags, 'define', lambda config_class, *removed: configs.append(config_class))
  for command in cli.COMMANDS.values():
    importlib.import_module(f'slim_inception.cli.{command.module}').define_flags()
  assert len(configs) == len(cli.COMMANDS)
  all_flags = {n: f for config_class in configs for n, f in flags.fields(config_class).items()}
  known = {*all_flags, *(f'no{name}' for name, flag in all_flags.items() if flag.kind is bool)}
  for name, flag in (pair for each in configs for pair in flags.fields(each).items()):
    text = flag.help
    assert text[0].isupper() and text.endswith('.') and '  ' not in text, name
    first = re.split(r'\. |[;:]', text)[0]
    assert len(first.split()) >= 3, f'{name}: {first!r} is no sentence'
    assert not first.startswith(('Number ', 'Seed ', 'Share ', 'Side ', 'Names ')), name
    named = set(re.findall(r'--(\w+)', text)) - {'parallelism'}  # Apache Beam's
    assert named <= known, f'{name} names {named - known}'
