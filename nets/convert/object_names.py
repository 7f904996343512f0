"""Names of variables in checkpoints that are named after Python's objects.

`tf.train.Checkpoint` and SavedModels name a variable by the attributes that lead to it
('variables/12', 'model/_variables_by_name/InceptionV3.SConv2d_1a_3x3.Sweights'). Beside them lies a
graph of the objects, a protocol buffer, which has the names that the variables have themselves.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pool, message, message_factory

from .. import checkpoints

_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'
_GRAPH_TYPE = 'tensorflow.TrackableObjectGraph'  # no public module has the class
_ATTRIBUTE = '/.ATTRIBUTES/VARIABLE_VALUE'  # the end of names of tf.train.Checkpoint


def variable_names(prefix: str) -> dict[str, str]:
  """{variable: its name in the checkpoint}, the same where that has TF1's names.

  A variable whose own name is not told, or is another's too, has that of its attributes. Where all
  of a name are copies, as `export` of Keras 3 stores each twice, one of them has the name.

  Raises:
    OSError, ValueError: there is no such checkpoint, or it is damaged.
  """
  keys = sorted(key for key in checkpoints.shapes(prefix) if key != _GRAPH)
  if not any(key.endswith(_ATTRIBUTE) for key in keys):
    return {key: key for key in keys}
  by_name: dict[str, list[str]] = defaultdict(list)
  for key, name in _own_names(prefix).items():
    by_name[name].append(key)
  shared = [group for group in by_name.values() if len(group) > 1]
  values = checkpoints.read(prefix, [key for group in shared for key in group])
  are_copies = all(_are_equal(group, values) for group in shared)  # else several nets
  own = {group[0]: name for name, group in by_name.items() if are_copies or len(group) == 1}
  return {own.get(key) or _of_attributes(key): key for key in keys}


def is_of_keras(prefix: str) -> bool:
  """Whether a checkpoint is of objects, whose variables have the names of Keras' layers.

  Raises:
    OSError, ValueError: as `variable_names`.
  """
  keys = checkpoints.shapes(prefix)
  return any(key.endswith(_ATTRIBUTE) for key in keys) and any(
    re.search(r'(^|/)conv2d\w*/kernel$', name, re.IGNORECASE)
    for name in _own_names(prefix).values()
  )


def _are_equal(keys: Sequence[str], values: Mapping[str, tf.Tensor]) -> bool:
  """Whether all tensors of a name are the same numbers."""
  first, *others = keys
  return all(np.array_equal(values[first], values[other]) for other in others)


def _own_names(prefix: str) -> dict[str, str]:
  """{name in the checkpoint: the variable's own}, as far as the graph of objects says."""
  if _GRAPH not in checkpoints.shapes(prefix):
    return {}
  graph_class = message_factory.GetMessageClass(
    descriptor_pool.Default().FindMessageTypeByName(_GRAPH_TYPE)
  )
  content = checkpoints.read(prefix, [_GRAPH])[_GRAPH].numpy()
  try:
    graph = graph_class.FromString(content)
  except message.DecodeError as error:
    raise ValueError(f'{prefix} is damaged: {_GRAPH}: {error}') from error
  values = (value for node in graph.nodes for value in node.attributes)
  return {value.checkpoint_key: value.full_name for value in values if value.full_name}


def _of_attributes(key: str) -> str:
  """The attributes that lead to a variable; '/' in one of them is written '.S'."""
  return key.removesuffix(_ATTRIBUTE).replace('.S', '/') if key.endswith(_ATTRIBUTE) else key
