"""Counts the multiplications of a traced function: a check of `nets.summary`, which traces none."""

from collections.abc import Callable, Iterable

import tensorflow as tf

# Operation -> a tensor with one element for each dot product, and the length of these.
_DOT_PRODUCTS: dict[str, Callable[[tf.Operation], tuple[tf.Tensor, int | None]]] = {
  'Conv2D': lambda op: (op.outputs[0], _window(op.inputs[1])),
  'DepthwiseConv2dNative': lambda op: (
    op.outputs[0],
    op.inputs[1].shape[:2].num_elements(),
  ),
  'Conv2DBackpropInput': lambda op: (op.inputs[2], _window(op.inputs[1])),
  'Conv2DBackpropFilter': lambda op: (op.inputs[2], _window(op.outputs[0])),
  'MatMul': lambda op: (op.outputs[0], 0 if _sums(op) else _length(op)),
}


def _length(op: tf.Operation) -> int | None:
  return op.inputs[0].shape[0 if op.get_attr('transpose_a') else 1]


def _sums(product: tf.Operation) -> bool:
  """Whether it is a sum, a product with ones: the gradient of biases, see `nets.convolution`."""
  return product.inputs[0].op.type in ('Fill', 'Const') and product.outputs[0].shape[0] == 1


def _window(weights: tf.Tensor) -> int | None:
  """Weights that a place of the output sees: h * w * C of [h, w, C, K]."""
  return weights.shape[:3].num_elements()


def multiply_adds(graph: tf.Graph) -> int:
  """Multiply-adds of the convolutions and matrix products that the outputs of a graph need.

  Products of elements (batch norm, activations, optimizer) do not count, as in published tables.

  Args:
    graph: of a concrete function. What it calls (an XLA cluster, say) is not looked into.

  Raises:
    ValueError: a shape is unknown.
  """
  needed = _needed([*(tensor.op for tensor in graph.outputs), *graph.control_outputs])
  return sum(multiply_adds_of(op) for op in needed)


def multiply_adds_of(op: tf.Operation) -> int:
  """Multiply-adds of one operation: 0 where it is neither a convolution nor a matrix product.

  Raises:
    ValueError: its shape is unknown.
  """
  if op.type not in _DOT_PRODUCTS:
    return 0
  products, length = _DOT_PRODUCTS[op.type](op)
  count = products.shape.num_elements()
  if count is None or length is None:
    raise ValueError(f'{op.name} can not be counted: the shape {products.shape} is not known')
  return count * length


def _needed(ops: Iterable[tf.Operation]) -> Iterable[tf.Operation]:
  """`ops` and all that they depend on."""
  seen, waiting = set(), list(ops)
  while waiting:
    op = waiting.pop()
    if op not in seen:
      seen.add(op)
      waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
  return seen
