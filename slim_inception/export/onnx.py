"""ONNX: a file that runs without TensorFlow; takes arrays, any number of images at once.

Written from the traced graph, which with batch norm folded in has a dozen kinds of operations. The
general converter, tf2onnx, looks for a maintainer and is tested up to TensorFlow 2.15 (its 1.17).
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from slim_inception.export.classifier import (
  Inputs,
  Outputs,
  Task,
  described_decisions,
  name_outputs,
)

FILE = 'model.onnx'
_OPSET, _IR_VERSION = 17, 8  # of 2022: what runs ONNX at all runs these
_INPUT, _OUTPUT = 'images', 'probabilities'
_TYPES = {tf.float32: 1, tf.bool: 9}  # TensorProto's numbers
_INT64 = 7


def write(task: Task, folder: Path) -> dict[str, Any]:
  """Writes model.onnx into `folder`; returns what export.json says of its input and output.

  Raises:
    ValueError: the net has an operation that none of the family's nets has.
  """
  import onnx  # of the extra "onnx"

  classifier = task.classifier
  images = tf.TensorSpec([None, *classifier.image_shape], tf.float32, _INPUT)
  classify = tf.function(classifier.score, [images], autograph=False)
  model = convert(classify.get_concrete_function())
  onnx.save(model, str(folder / FILE))
  return {
    'input': {'name': _INPUT, 'shape': ['N', *classifier.image_shape], 'type': 'float32'},
    'output': {'name': _OUTPUT, 'shape': ['N', len(classifier.names)], 'type': 'float32'},
    'decisions': described_decisions([output.name for output in model.graph.output]),
  }


def read(folder: Path) -> list[Callable[[Inputs], Outputs]]:
  """What model.onnx gives, through ONNX Runtime."""
  import onnxruntime

  session = onnxruntime.InferenceSession(str(folder / FILE), providers=['CPUExecutionProvider'])
  names = [output.name for output in session.get_outputs()]

  def outputs(inputs: Inputs) -> Outputs:
    values = session.run(names, {_INPUT: inputs.images})
    return name_outputs(folder, dict(zip(names, values, strict=True)))

  return [outputs]


def convert(classify: Any) -> Any:
  """The ONNX ModelProto of a traced function of images [N, H, W, C].

  Its outputs are [N, ...] and have the names of the dictionary that it returns; one alone is called
  probabilities. Inside, images are [N, C, H, W], as ONNX has them.

  Raises:
    ValueError: an operation that is not in the table.
  """
  from onnx import checker, helper

  writer = _Writer(classify)
  (images,), structure = classify.inputs[:1], classify.structured_outputs
  names = sorted(structure) if isinstance(structure, dict) else [_OUTPUT]  # as outputs are
  outputs = dict(zip(names, classify.outputs, strict=True))
  writer.emit('Transpose', [_INPUT], images.name, perm=[0, 3, 1, 2])
  for op in _needed([output.op for output in outputs.values()]):
    if op.type not in _RULES:
      raise ValueError(f'{op.name}: {op.type} is not written as ONNX; known: {", ".join(_RULES)}')
    _RULES[op.type](writer, op)
  for name, output in outputs.items():
    writer.emit('Identity', [writer.name(output)], name)
  graph = helper.make_graph(
    writer.nodes,
    'classifier',
    [helper.make_tensor_value_info(_INPUT, _TYPES[images.dtype], ['N', *images.shape[1:]])],
    [
      helper.make_tensor_value_info(name, _TYPES[output.dtype], ['N', *output.shape[1:]])
      for name, output in outputs.items()
    ],
    writer.initializers,
  )
  opsets = [helper.make_opsetid('', _OPSET)]
  model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
  checker.check_model(model, full_check=True)
  return model


class _Writer:
  """The nodes and weights of an ONNX graph that follows a traced function."""

  def __init__(self, classify: Any):
    captured = classify.captured_inputs
    placeholders = classify.inputs[len(classify.inputs) - len(captured) :]
    self._weights = {
      placeholder.name: tf.raw_ops.ReadVariableOp(resource=variable, dtype=tf.float32).numpy()
      for placeholder, variable in zip(placeholders, captured, strict=True)
    }
    self._same: dict[str, str] = {}  # tensors that another name is written for
    self.nodes: list[Any] = []
    self.initializers: list[Any] = []

  def name(self, tensor: tf.Tensor) -> str:
    """Of a tensor in the ONNX graph."""
    return self._same.get(tensor.name, tensor.name)

  def emit(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
    """Adds a node."""
    from onnx import helper

    self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))

  def add(self, kind: str, op: tf.Operation, *more: str, count: int = 1, **attributes: Any) -> None:
    """Adds the node for an operation, of its first `count` inputs and `more`."""
    names = [self.name(tensor) for tensor in op.inputs[:count]]
    self.emit(kind, [*names, *more], op.outputs[0].name, **attributes)

  def skip(self, op: tf.Operation) -> None:
    """An operation's output is its first input."""
    self._same[op.outputs[0].name] = self.name(op.inputs[0])

  def constant(self, name: str, value: np.ndarray) -> str:
    """Adds weights; returns `name`."""
    from onnx import numpy_helper

    self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

  def weight(self, tensor: tf.Tensor) -> np.ndarray:
    """The value of a variable that the graph reads, scaled or in another shape perhaps.

    Raises:
      ValueError: it is made of a variable in another way, and no constant.
    """
    op = tensor.op
    if op.type == 'Const':
      return tf.get_static_value(tensor)
    if op.type == 'ReadVariableOp':
      return self._weights[op.inputs[0].name]
    if op.type == 'Mul' and (factor := tf.get_static_value(op.inputs[1])) is not None:
      return self.weight(op.inputs[0]) * factor
    if op.type == 'Reshape':
      return self.weight(op.inputs[0]).reshape(tensor.shape)
    raise ValueError(f'{op.name}: {op.type} of weights is not written as ONNX')


def _conv(writer: _Writer, op: tf.Operation) -> None:
  kernel = writer.weight(op.inputs[1])  # [h, w, in, out]
  weights = writer.constant(op.inputs[1].name, kernel.transpose(3, 2, 0, 1))
  attributes = _window(op, kernel.shape[:2]) | {'dilations': list(op.get_attr('dilations')[1:3])}
  writer.add('Conv', op, weights, **attributes)


def _depthwise_conv(writer: _Writer, op: tf.Operation) -> None:
  kernel = writer.weight(op.inputs[1])  # [h, w, in, filters of each]
  rows, columns, channels, _ = kernel.shape
  filters = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, rows, columns)
  weights = writer.constant(op.inputs[1].name, filters)
  writer.add('Conv', op, weights, **_window(op, (rows, columns)), group=channels)


def _pad(writer: _Writer, op: tf.Operation) -> None:
  """With a constant: zeros, or what wins no maximum."""
  rows, columns = tf.get_static_value(op.inputs[1])[1:3]
  pads = np.array([0, 0, rows[0], columns[0], 0, 0, rows[1], columns[1]], np.int64)
  values = [writer.constant(op.inputs[1].name, pads)]
  if len(op.inputs) > 2:
    values.append(writer.constant(op.inputs[2].name, tf.get_static_value(op.inputs[2])))
  writer.add('Pad', op, *values)


def _batch_norm(writer: _Writer, op: tf.Operation) -> None:
  """One that stands behind no weights to be folded into."""
  values = [writer.constant(tensor.name, writer.weight(tensor)) for tensor in op.inputs[1:]]
  writer.add('BatchNormalization', op, *values, epsilon=op.get_attr('epsilon'))


def _mean(writer: _Writer, op: tf.Operation) -> None:
  axes = tf.get_static_value(op.inputs[1])
  if sorted(np.ravel(axes)) != [1, 2] or not op.get_attr('keep_dims'):
    raise ValueError(f'{op.name}: a mean over axes {axes}, expected one over all places')
  writer.add('GlobalAveragePool', op)


def _pool(kind: str, writer: _Writer, op: tf.Operation, **attributes: Any) -> None:
  writer.add(kind, op, **_window(op, op.get_attr('ksize')[1:3]), **attributes)


def _matmul(writer: _Writer, op: tf.Operation) -> None:
  writer.add('Gemm', op, writer.constant(op.inputs[1].name, writer.weight(op.inputs[1])))


def _bias_add(writer: _Writer, op: tf.Operation) -> None:
  """The biases become an input of the Conv or Gemm before them, if nothing else reads it."""
  before, biases = op.inputs[0], writer.weight(op.inputs[1])
  (node,) = (node for node in writer.nodes if node.output[0] == writer.name(before))
  if node.op_type in ('Conv', 'Gemm') and len(before.consumers()) == 1:
    node.input.append(writer.constant(op.inputs[1].name, biases))
    writer.skip(op)
  else:
    if before.shape.rank == 4:
      biases = biases[:, np.newaxis, np.newaxis]
    writer.add('Add', op, writer.constant(op.inputs[1].name, biases))


def _concat(writer: _Writer, op: tf.Operation) -> None:
  axis = int(tf.get_static_value(op.inputs[-1])) % op.outputs[0].shape.rank
  if axis != 3:
    raise ValueError(f'{op.name}: concatenates along axis {axis}, expected the channels')
  writer.add('Concat', op, count=len(op.inputs) - 1, axis=1)


def _scale(writer: _Writer, op: tf.Operation) -> None:
  factor = tf.get_static_value(op.inputs[1])
  if factor is None or factor.ndim:
    raise ValueError(f'{op.name}: multiplies by no constant number')
  writer.add('Mul', op, writer.constant(op.inputs[1].name, factor))


def _reshape(writer: _Writer, op: tf.Operation) -> None:
  """[N, h, w, C] to [N, h * w * C], or [N, C] to [N, 1, 1, C]."""
  before, after = op.inputs[0].shape, op.outputs[0].shape
  if before[1:3] == (1, 1) and after[1:] == before[3:]:
    writer.add('Flatten', op, axis=1)
  elif after.rank == 2 and before[1:].num_elements() == after[1]:
    channels_last = f'{op.name}/Transpose'  # ONNX has [N, C, h, w]
    writer.emit('Transpose', [writer.name(op.inputs[0])], channels_last, perm=[0, 2, 3, 1])
    writer.emit('Flatten', [channels_last], op.outputs[0].name, axis=1)
  elif after[1:3] == (1, 1) and before[1:] == after[3:]:
    axes = writer.constant(op.inputs[1].name, np.array([2, 3], np.int64))
    writer.add('Unsqueeze', op, axes)
  else:
    raise ValueError(f'{op.name}: makes {after} of {before}, which is not written as ONNX')


def _binary(kind: str, writer: _Writer, op: tf.Operation) -> None:
  """Of two tensors, or of one and a constant, which is broadcast as TensorFlow does it."""
  names = []
  for tensor in op.inputs:
    value = tf.get_static_value(tensor)
    if value is not None and value.ndim and op.outputs[0].shape.rank > 2:
      raise ValueError(
        f'{op.name}: {op.type} of images and a constant {value.shape} is not written'
      )
    is_known = value is not None
    names.append(writer.constant(tensor.name, value) if is_known else writer.name(tensor))
  writer.emit(kind, names, op.outputs[0].name)


def _max(writer: _Writer, op: tf.Operation) -> None:
  axes = np.ravel(tf.get_static_value(op.inputs[1])).tolist()
  writer.add('ReduceMax', op, axes=axes, keepdims=int(op.get_attr('keep_dims')))


def _sum(writer: _Writer, op: tf.Operation) -> None:
  axes = writer.constant(op.inputs[1].name, np.ravel(tf.get_static_value(op.inputs[1])).astype(int))
  writer.add('ReduceSum', op, axes, keepdims=int(op.get_attr('keep_dims')))


def _cast(writer: _Writer, op: tf.Operation) -> None:
  """To whole numbers, which ONNX has in 64 bits: TopK's places are of these."""
  if op.get_attr('DstT') != tf.int32:
    raise ValueError(f'{op.name}: makes {op.get_attr("DstT").name}, which is not written as ONNX')
  writer.add('Cast', op, to=_INT64)


def _top_k(writer: _Writer, op: tf.Operation) -> None:
  """Of rows; in both, of equal numbers the first comes first."""
  count = np.array([tf.get_static_value(op.inputs[1])], np.int64)
  names = [writer.name(op.inputs[0]), writer.constant(op.inputs[1].name, count)]
  writer.emit('TopK', names, *(output.name for output in op.outputs))


def _cumsum(writer: _Writer, op: tf.Operation) -> None:
  axis = np.array(tf.get_static_value(op.inputs[1]), np.int64)
  attributes = {name: int(op.get_attr(name)) for name in ('exclusive', 'reverse')}
  writer.add('CumSum', op, writer.constant(op.inputs[1].name, axis), **attributes)


def _window(op: tf.Operation, kernel: Sequence[int]) -> dict[str, Any]:
  """The attributes of a window that slides over the image."""
  strides = op.get_attr('strides')[1:3]
  dilations = op.get_attr('dilations')[1:3] if op.type == 'Conv2D' else (1, 1)
  total = [0, 0]
  if op.get_attr('padding') == b'SAME':
    sizes = zip(op.inputs[0].shape[1:3], op.outputs[0].shape[1:3], strict=True)
    for i, (before, after) in enumerate(sizes):
      reach = (kernel[i] - 1) * dilations[i] + 1
      total[i] = max((after - 1) * strides[i] + reach - before, 0)
  first = [size // 2 for size in total]
  pads = [*first, *(size - begin for size, begin in zip(total, first, strict=True))]
  return {'kernel_shape': list(kernel), 'strides': list(strides), 'pads': pads}


def _as(kind: str, count: int = 1) -> Callable[[_Writer, tf.Operation], None]:
  return lambda writer, op: writer.add(kind, op, count=count)


# TensorFlow's operations, and how each is written.
_RULES: dict[str, Callable[[_Writer, tf.Operation], None]] = {
  'Conv2D': _conv,
  'DepthwiseConv2dNative': _depthwise_conv,
  'FusedBatchNormV3': _batch_norm,
  'Pad': _pad,
  'PadV2': _pad,
  'Mean': _mean,
  'MatMul': _matmul,
  'BiasAdd': _bias_add,
  'Relu': _as('Relu'),
  'MaxPool': functools.partial(_pool, 'MaxPool'),
  'AvgPool': functools.partial(_pool, 'AveragePool', count_include_pad=0),
  'ConcatV2': _concat,
  'Mul': _scale,
  'AddV2': functools.partial(_binary, 'Add'),
  'Identity': lambda writer, op: writer.skip(op),
  'Reshape': _reshape,
  'Squeeze': _reshape,
  'Softmax': _as('Softmax'),
  'Sigmoid': _as('Sigmoid'),
  # Of the decisions that a calibration makes of probabilities.
  'Sub': functools.partial(_binary, 'Sub'),
  'Less': functools.partial(_binary, 'Less'),
  'LessEqual': functools.partial(_binary, 'LessOrEqual'),
  'Neg': _as('Neg'),
  'Max': _max,
  'TopKV2': _top_k,
  'Cumsum': _cumsum,
  'Cast': _cast,
  'Sum': _sum,
}
# Those of several inputs from other operations; of the others the first is one, the rest weights.
_INPUTS = {'ConcatV2': slice(-1)} | dict.fromkeys(('AddV2', 'Sub', 'Less', 'LessEqual'), slice(2))


def _needed(outputs: Sequence[tf.Operation]) -> list[tf.Operation]:
  """What has to be computed for outputs, in order; weights and shapes are no operations here."""
  needed = {*outputs}
  ops = outputs[0].graph.get_operations()
  for op in reversed(ops):
    if op in needed:
      needed |= {tensor.op for tensor in op.inputs[_INPUTS.get(op.type, slice(1))]}
  return [op for op in ops if op in needed and op.type not in ('Placeholder', 'Const')]
