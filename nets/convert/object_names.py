"""Names of variables in checkpoints that are named after Python's objects.

`tf.train.Checkpoint` and SavedModels name a variable by the attributes that lead to it
('variables/12', 'model/_variables_by_name/InceptionV3.SConv2d_1a_3x3.Sweights'). Beside them lies a
graph of the objects, a protocol buffer, which has the names that the variables have themselves.
"""

from collections import Counter

from google.protobuf import descriptor_pool, message, message_factory

from .. import checkpoints

_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'
_GRAPH_TYPE = (
  'tensorflow.TrackableObjectGraph'  # tensorflow/core/protobuf, of which no module is public
)
_ATTRIBUTE = '/.ATTRIBUTES/VARIABLE_VALUE'  # the end of names of tf.train.Checkpoint


def variable_names(prefix: str) -> dict[str, str]:
  """{variable: its name in the checkpoint}, the same where that has TF1's names.

  A variable whose own name is not told, or is another's too, has that of its attributes.

  Raises:
    OSError, ValueError: there is no such checkpoint, or it is damaged.
  """
  keys = [key for key in checkpoints.shapes(prefix) if key != _GRAPH]
  if not any(key.endswith(_ATTRIBUTE) for key in keys):
    return {key: key for key in keys}
  own = _own_names(prefix)
  counts = Counter(own.get(key) for key in keys)
  return {own[key] if counts[own.get(key)] == 1 else _of_attributes(key): key for key in keys}


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
