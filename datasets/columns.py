"""Which columns of a table hold images and their labels, as Hugging Face's `datasets` says.

The schema of its parquet and Arrow files has the features of the set under the key `huggingface`:
`{"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names":
[...]}}}}`. Where there are none, the types and names of the columns tell.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import files

IMAGE_NAMES = ('image', 'img', 'picture', 'photo', 'jpg', 'jpeg', 'png', 'webp')
LABEL_NAMES = ('label', 'labels', 'fine_label', 'class', 'target', 'cls', 'wnid', 'synset')
_METADATA_KEY = b'huggingface'
_LISTS = ('List', 'Sequence', 'LargeList')


class Columns(NamedTuple):
  """What is read of a table.

  Attributes:
    image: column of the images: bytes, structs of bytes and path, or paths alone.
    has_bytes: they are there, not only their paths.
    is_struct: they are in structs.
    has_path: the structs have paths too.
    label: column of the labels, whole numbers or text.
    is_list: each row has a list of them.
    classes: their names by number, where the features say so.
  """

  image: str
  has_bytes: bool
  is_struct: bool
  has_path: bool
  label: str
  is_list: bool
  classes: tuple[str, ...] | None


def find(schema: Any, image_column: str | None = None, label_column: str | None = None) -> Columns:
  """Finds the columns of a `pyarrow.Schema`.

  Args:
    schema: of the file, metadata included.
    image_column, label_column: their names, where the user knows better.

  Raises:
    ValueError: there are none or several, or they are of another type; names those that are there.
  """
  features = _features(schema.metadata or {})
  names = schema.names
  image_features = [name for name in names if _type(features, name) == 'Image']
  of_bytes = [name for name in names if _is_image(schema.field(name).type)]
  class_labels = [name for name in names if _class_label(features, name)]
  image = choose('image', image_column, names, IMAGE_NAMES, image_features, of_bytes)
  label = choose('label', label_column, names, LABEL_NAMES, class_labels)
  of_classes = _class_label(features, label)
  return Columns(
    image,
    *_check_image(schema, image),
    label,
    _check_label(schema, label),
    _names(of_classes) if of_classes else None,
  )


def choose(
  what: str,
  chosen: str | None,
  names: Sequence[str],
  usual: Sequence[str],
  *candidates: Sequence[str],
) -> str:
  """The column that the user chose, or one of the candidates, or one that has a usual name.

  Args:
    what: 'image' or 'label'.
    chosen: by the user.
    names: of all columns.
    usual: names that such columns have, the most usual first.
    candidates: columns that such ones may be; where one list is empty, the next one counts.

  Raises:
    ValueError: there are none, or several and none has a usual name.
  """
  flag = f'--{what}_column'
  has = f'it has {files.some(names, 20)}'
  if chosen is not None:
    if chosen not in names:
      raise ValueError(f'no column {chosen!r} ({flag}); {has}')
    return chosen
  for of_kind in (*candidates, [name for name in usual if name in names]):
    named = [name for name in usual if name in of_kind]
    if len(of_kind) > 1 and not named:
      raise ValueError(f'several {what} columns, {files.some(of_kind)}: choose one with {flag}')
    if of_kind:
      return (named or of_kind)[0]
  raise ValueError(f'no {what} column: {has}; {flag} names another')


# Features


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
  """{} where there are none; what is no JSON says nothing."""
  try:
    features = json.loads(metadata.get(_METADATA_KEY, b'{}'))['info']['features']
  except (ValueError, KeyError, TypeError, RecursionError):
    return {}
  return features if isinstance(features, dict) else {}


def _type(features: Mapping[str, Any], name: str) -> str | None:
  feature = features.get(name)
  return feature.get('_type') if isinstance(feature, dict) else None


def _class_label(features: Mapping[str, Any], name: str) -> dict[str, Any] | None:
  """The ClassLabel of a column, or of the lists in it."""
  feature = features.get(name)
  if isinstance(feature, list) and len(feature) == 1:  # until version 4, a list of one
    (feature,) = feature
  elif isinstance(feature, dict) and feature.get('_type') in _LISTS:
    feature = feature.get('feature')
  is_label = isinstance(feature, dict) and feature.get('_type') == 'ClassLabel'
  return feature if is_label else None


def _names(feature: Mapping[str, Any]) -> tuple[str, ...] | None:
  names, count = feature.get('names'), feature.get('num_classes')
  if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
    return tuple(names)
  return tuple(map(str, range(count))) if isinstance(count, int) and count > 0 else None


# Types


def _is_image(kind: Any) -> bool:
  from pyarrow import types

  if types.is_struct(kind):
    return any(field.name == 'bytes' and _is_bytes(field.type) for field in kind)
  return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
  from pyarrow import types

  return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _check_image(schema: Any, name: str) -> tuple[bool, bool, bool]:
  """`has_bytes`, `is_struct` and `has_path`."""
  from pyarrow import types

  kind = schema.field(name).type
  is_struct = types.is_struct(kind)
  has_path = is_struct and kind.get_field_index('path') >= 0
  # A column of nothing but nulls is written as one of no type.
  is_only_path = _is_text(kind) or (has_path and _is_null(kind, 'bytes'))
  if not _is_image(kind) and not is_only_path:
    raise ValueError(f'column {name!r} is {kind}, expected a struct of path and bytes, or bytes')
  return not is_only_path, is_struct, has_path


def _is_null(kind: Any, name: str) -> bool:
  """Whether a struct has a field of no type."""
  from pyarrow import types

  return kind.get_field_index(name) >= 0 and types.is_null(kind.field(name).type)


def _is_text(kind: Any) -> bool:
  from pyarrow import types

  return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _check_label(schema: Any, name: str) -> bool:
  """Whether a row has a list of labels."""
  from pyarrow import types

  kind = whole = schema.field(name).type
  is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
  kind = kind.value_type if is_list else kind
  kind = kind.value_type if types.is_dictionary(kind) else kind
  if not (_is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)):
    raise ValueError(
      f'label column {name!r} is {whole}, expected whole numbers, text or lists of these'
    )
  return is_list
