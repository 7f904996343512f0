"""How a model was made, as a value: what copies, pickles and `get_config` of models rest on."""

import dataclasses
import difflib
import inspect
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from . import geometry, layers, slim
from .net import SHARED_ARGUMENTS, ArgScope, Net
from .registry import get_net

PYRAMID_ARGUMENTS = ('strides', 'output_stride', 'align_feature_maps')

# What other libraries call what `create_model` has.
_ELSEWHERE = {
  'alpha': 'depth_multiplier',
  'classes': 'num_classes',
  'dropout': 'dropout_keep_prob',
  'drop_rate': 'dropout_keep_prob',
  'in_chans': 'input_channels',
  'include_top': 'num_classes=None, which leaves the classifier out',
  'input_shape': 'image_size and input_channels',
  'out_indices': 'strides',
  'pretrained': 'weights, a file',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """All that `nets_factory.create_model` was told, but for the weights.

  Args:
    net: of the registry.
    num_classes: the number of logits; 0 or None gives features.
    image_size: pixels a side that the variables are made for; None is the net's own.
    input_channels: of the images.
    features_only: without head, a `FeaturePyramid`.
    arg_scope: of every call.
    arguments: of the net function, or with `features_only` of the pyramid and the net's body.

  Raises:
    ValueError: a value that cannot be, or an argument that the net does not take.
  """

  net: Net
  num_classes: int | None
  image_size: int | None
  input_channels: int
  features_only: bool
  arg_scope: ArgScope
  arguments: Mapping[str, Any]

  def __post_init__(self):
    if self.features_only and (self.num_classes or self.image_size is not None):
      raise ValueError('features_only takes no num_classes and no image_size: it has no head')
    if self.num_classes is not None:
      _check_whole('num_classes', self.num_classes, 0, ", None or 'auto'")
    if self.image_size is not None:
      smallest = geometry.smallest_input(self.net.body)
      _check_whole('image_size', self.image_size, smallest, f' pixels for {self.net.name}')
    _check_whole('input_channels', self.input_channels, 1)
    if not isinstance(self.arg_scope, dict):
      raise ValueError(
        f'arg_scope is {self.arg_scope!r}; it must be what e.g. {self.net.name}_arg_scope() returns'
      )
    _check_arguments(self.net, self.features_only, self.arguments)

  def replace(self, **changes: Any) -> 'ModelConfig':
    """The same but for `changes`, which are arguments of `create_model`."""
    own = {field.name for field in dataclasses.fields(self)}
    arguments = {name: value for name, value in changes.items() if name not in own}
    changes = {name: value for name, value in changes.items() if name in own}
    return dataclasses.replace(self, arguments={**self.arguments, **arguments}, **changes)

  def to_json(self) -> dict[str, Any]:
    """Numbers, texts, lists and dictionaries, for `from_json`, in this process or another.

    Raises:
      ValueError: there is a function that has no name in `tf.nn` or `nets.layers`.
    """
    return {
      'net': self.net.name,
      'num_classes': _encode('num_classes', self.num_classes),
      'image_size': _encode('image_size', self.image_size),
      'input_channels': _encode('input_channels', self.input_channels),
      'features_only': self.features_only,
      'arg_scope': _encode('arg_scope', slim.by_layer(self.arg_scope)),
      'arguments': _encode('arguments', dict(self.arguments)),
    }

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'ModelConfig':
    """What `to_json` gave.

    Raises:
      ValueError: these are other keys, or values that cannot be.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if set(values) != names:
      raise ValueError(
        f'The configuration of a model has {", ".join(sorted(names))}; this one has '
        f'{", ".join(sorted(map(str, values)))}'
      )
    return cls(
      **{
        **values,
        'net': get_net(values['net']),
        'arg_scope': slim.by_key(_decode(values['arg_scope'])),
        'arguments': _decode(values['arguments']),
      }
    )

  def __reduce__(self):
    # A net is pickled by its name, an arg scope by those of its layers: its keys, and slim's
    # closures, are good in one process alone.
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    values |= {'net': self.net.name, 'arg_scope': slim.by_layer(self.arg_scope)}
    return _unpickle, (values,)

  def __deepcopy__(self, memo: dict) -> 'ModelConfig':
    return self  # it does not change

  def __str__(self) -> str:
    """ "'inception_v3', num_classes=5, depth_multiplier=0.1", as for `create_model`."""
    always = {} if self.features_only else {'num_classes': self.num_classes}
    others = {
      'image_size': (self.image_size, None),
      'input_channels': (self.input_channels, 3),
      'features_only': (self.features_only, False),
    }
    changed = {name: value for name, (value, default) in others.items() if value != default}
    shown = always | changed | dict(self.arguments)
    texts = [f'{name}={getattr(v, "__name__", repr(v))}' for name, v in shown.items()]
    return ', '.join([repr(self.net.name), *texts])


def _unpickle(values: dict[str, Any]) -> ModelConfig:
  net, arg_scope = get_net(values['net']), slim.by_key(values['arg_scope'])
  return ModelConfig(**{**values, 'net': net, 'arg_scope': arg_scope})


def _check_whole(name: str, value: Any, least: int, more: str = '') -> None:
  try:
    is_right = not isinstance(value, bool) and operator.index(value) >= least
  except TypeError:
    is_right = False
  if not is_right:
    raise ValueError(f'{name} is {value!r}; it must be a whole number of at least {least}{more}')


def _check_arguments(net: Net, features_only: bool, arguments: Mapping[str, Any]) -> None:
  """Raises ValueError where the net, or a pyramid of it, does not take one of the arguments.

  Where the default is a bool or a number the value must be one: 'no' would count as True.
  """
  functions = [net.make_variant, net.make_body] if features_only else [net.network_fn]
  signatures = [inspect.signature(function) for function in functions if function]
  parameters = [p for signature in signatures for p in signature.parameters.values()]
  defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
  known = {*defaults} - SHARED_ARGUMENTS | {*(PYRAMID_ARGUMENTS if features_only else ('scope',))}
  if len(defaults) < len(parameters):  # some are not named there
    known |= net.arguments
  unknown = [name for name in arguments if name not in known]
  if unknown:
    raise ValueError(_unknown(unknown[0], net, features_only, known))
  for name, value in arguments.items():
    is_bool, default = isinstance(value, bool | np.bool_), defaults.get(name)
    if isinstance(default, bool):
      is_right, what = is_bool, 'True or False'
    elif isinstance(default, int | float):
      is_right, what = isinstance(value, numbers.Real) and not is_bool, 'a number'
    else:
      continue
    if not is_right and not tf.is_tensor(value):
      raise ValueError(f'{name} is {value!r}; it must be {what}')


def _unknown(name: str, net: Net, features_only: bool, known: set[str]) -> str:
  close = difflib.get_close_matches(name, known, 1)
  if name in PYRAMID_ARGUMENTS:
    hint = 'it goes with features_only=True'
  elif features_only and name in net.arguments:
    hint = 'with features_only there is no head'
  elif name in _ELSEWHERE:
    hint = f'here it is {_ELSEWHERE[name]}'
  elif close:
    hint = f'is it {close[0]}?'
  else:
    hint = f'there are {", ".join(sorted(known - {"scope"}))}'
  what = f'features of {net.name}' if features_only else net.name
  return f'create_model for {what} takes no argument {name!r}: {hint}'


# Values as JSON. Names stand for functions and initializers of a few modules alone: a configuration
# that somebody else wrote can call nothing else.

_FUNCTIONS: dict[str, Callable] = {
  **{f'tf.nn.{name}': f for name, f in vars(tf.nn).items() if callable(f)},
  **{f'layers.{name}': getattr(layers, name) for name in layers.__all__},
}
_INITIALIZERS: dict[str, Any] = {
  f'tf.compat.v1.{name}': value
  for name, value in vars(tf.compat.v1).items()
  if name.endswith('_initializer') and isinstance(value, type)
}


def _encode(where: str, value: Any) -> Any:
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, Mapping):
    return {name: _encode(f'{name} of {where}', part) for name, part in value.items()}
  if isinstance(value, list | tuple):
    return [_encode(where, part) for part in value]
  if isinstance(value, slim.Made):
    return {'made_by': value.factory, **dict(value.arguments)}
  if hasattr(value, 'item'):
    return value.item()  # NumPy's numbers
  for name, kind in _INITIALIZERS.items():
    if type(value) is kind:
      return {'made_by': name, **_encode(where, value.get_config())}
  for name, function in _FUNCTIONS.items():
    if function is value:
      return {'function': name}
  raise ValueError(
    f'{where} is {value!r}, which cannot be written down: only functions of tf.nn and nets.layers, '
    'initializers of tf.compat.v1, and regularizers and initializers of nets.slim can'
  )


def _decode(value: Any) -> Any:
  if isinstance(value, list):
    return tuple(_decode(part) for part in value)
  if not isinstance(value, Mapping):
    return value
  if set(value) == {'function'}:
    if value['function'] not in _FUNCTIONS:
      raise ValueError(f'{value["function"]!r} is no function of tf.nn or nets.layers')
    return _FUNCTIONS[value['function']]
  if 'made_by' in value:
    arguments = {name: _decode(part) for name, part in value.items() if name != 'made_by'}
    if value['made_by'] in _INITIALIZERS:
      return _INITIALIZERS[value['made_by']](**arguments)
    return slim.make(value['made_by'], arguments)
  return {name: _decode(part) for name, part in value.items()}
