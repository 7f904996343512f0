"""classify_image_graph_def.pb of December 2015 with random weights, written node by node.

Names, ops and their order are the original's, as far as a program that reads it can tell: blocks
`mixed` to `mixed_10` of `conv`, `tower/conv_1`, ..., batch norm as one op with gamma that is not
used, 1008 outputs.
"""

import numpy as np
import tensorflow as tf

OUTPUTS = 1008
_MIXED = {  # {block: its columns}; a layer is a name, filters, kernel
  **{
    block: (
      [('conv', 64, (1, 1))],
      [('tower/conv', 48, (1, 1)), ('tower/conv_1', 64, (5, 5))],
      [(f'tower_1/conv{i}', n, (k, k)) for i, n, k in (('', 64, 1), ('_1', 96, 3), ('_2', 96, 3))],
      ['tower_2/pool', ('tower_2/conv', last, (1, 1))],
    )
    for block, last in (('mixed', 32), ('mixed_1', 64), ('mixed_2', 64))
  },
  **{
    block: (
      [('conv', 192, (1, 1))],
      [
        ('tower/conv', n, (1, 1)),
        ('tower/conv_1', n, (1, 7)),
        ('tower/conv_2', 192, (7, 1)),
      ],
      [
        ('tower_1/conv', n, (1, 1)),
        ('tower_1/conv_1', n, (7, 1)),
        ('tower_1/conv_2', n, (1, 7)),
        ('tower_1/conv_3', n, (7, 1)),
        ('tower_1/conv_4', 192, (1, 7)),
      ],
      ['tower_2/pool', ('tower_2/conv', 192, (1, 1))],
    )
    for block, n in (('mixed_4', 128), ('mixed_5', 160), ('mixed_6', 160), ('mixed_7', 192))
  },
}


class Graph:
  """A GraphDef that grows.

  Args:
    width: factor of the filters of all layers.
    scales: whether batch norm uses gamma.
  """

  def __init__(self, width: float, scales: bool):
    self.graph = tf.compat.v1.GraphDef()
    self.graph.versions.producer = 8  # batch norm as one op is gone from version 9 on
    self._width, self._scales = width, scales
    self._depths: dict[str, int] = {}
    self._rng = np.random.default_rng(0)

  def node(self, op, name, *inputs, depth=0, types=('T',), **attributes):
    node = self.graph.node.add(op=op, name=name, input=inputs)
    for attribute in types:
      node.attr[attribute].type = tf.float32.as_datatype_enum
    for attribute, value in attributes.items():
      if isinstance(value, bool):
        node.attr[attribute].b = value
      elif isinstance(value, float):
        node.attr[attribute].f = value
      elif isinstance(value, str):
        node.attr[attribute].s = value.encode()
      else:
        node.attr[attribute].list.i.extend(value)
    self._depths[name] = depth
    return name

  def constant(self, name, value):
    node = self.graph.node.add(op='Const', name=name)
    node.attr['dtype'].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value))
    return name

  def conv(self, net, name, depth, kernel, stride=1, padding='SAME'):
    depth = max(int(depth * self._width), 16)
    shape = (*kernel, self._depths[net], depth)
    weights = self._rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3]))
    self.constant(f'{name}/conv2d_params', weights.astype(np.float32))
    strides = {'strides': (1, stride, stride, 1), 'padding': padding}
    self.node('Conv2D', f'{name}/Conv2D', net, f'{name}/conv2d_params', **strides)
    for leaf in ('beta', 'gamma', 'moving_mean'):
      value = self._rng.normal(leaf == 'gamma', 0.1, depth)
      self.constant(f'{name}/batchnorm/{leaf}', value.astype(np.float32))
    variance = self._rng.uniform(0.5, 1.5, depth).astype(np.float32)
    self.constant(f'{name}/batchnorm/moving_variance', variance)
    leaves = ('moving_mean', 'moving_variance', 'beta', 'gamma')
    self.node(
      'BatchNormWithGlobalNormalization',
      f'{name}/batchnorm',
      f'{name}/Conv2D',
      *(f'{name}/batchnorm/{leaf}' for leaf in leaves),
      variance_epsilon=0.001,
      scale_after_normalization=self._scales,
    )
    return self.node('Relu', name, f'{name}/batchnorm', depth=depth)

  def pool(self, net, name, kind, size=3, stride=1, padding='SAME'):
    sizes = {'ksize': (1, size, size, 1), 'strides': (1, stride, stride, 1), 'padding': padding}
    return self.node(kind, name, net, depth=self._depths[net], **sizes)

  def join(self, block, parts):
    axis = self.constant(f'{block}/join/concat_dim', np.int32(3))
    depth = sum(self._depths[part] for part in parts)
    self.node('Concat', f'{block}/join', axis, *parts, depth=depth)
    self.graph.node[-1].attr['N'].i = len(parts)
    return f'{block}/join'

  def block(self, net, block, columns, pool='AvgPool'):
    ends = []
    for column in columns:
      end = net
      for layer in column:
        if isinstance(layer, str):
          end = self.pool(end, f'{block}/{layer}', pool)
        else:
          name, depth, kernel = layer
          end = self.conv(end, f'{block}/{name}', depth, kernel)
      ends.append(end)
    return self.join(block, ends)

  def last_block(self, net, block, pool):
    def fork(end, tower):
      return [
        self.conv(end, f'{block}/{tower}/mixed/conv{i}', 384, kernel)
        for i, kernel in (('', (1, 3)), ('_1', (3, 1)))
      ]

    first = self.conv(net, f'{block}/conv', 320, (1, 1))
    middle = fork(self.conv(net, f'{block}/tower/conv', 384, (1, 1)), 'tower')
    deep = self.conv(net, f'{block}/tower_1/conv', 448, (1, 1))
    deep = fork(self.conv(deep, f'{block}/tower_1/conv_1', 384, (3, 3)), 'tower_1')
    pooled = self.pool(net, f'{block}/tower_2/pool', pool)
    return self.join(
      block, [first, *middle, *deep, self.conv(pooled, f'{block}/tower_2/conv', 192, (1, 1))]
    )


def build(width: float = 1.0, scales: bool = False) -> tf.compat.v1.GraphDef:
  """The graph; `ExpandDims:0` [N, h, w, 3] in 0..255 can be fed, `pool_3:0` and others fetched."""
  g = Graph(width, scales)
  node = g.graph.node.add(op='Placeholder', name='ExpandDims')
  node.attr['dtype'].type = tf.float32.as_datatype_enum
  g.constant('ResizeBilinear/size', np.array([299, 299], np.int32))
  g.node('ResizeBilinear', 'ResizeBilinear', 'ExpandDims', 'ResizeBilinear/size')
  g.node('Sub', 'Sub', 'ResizeBilinear', g.constant('Sub/y', np.float32(128)))
  net = g.node('Mul', 'Mul', 'Sub', g.constant('Mul/y', np.float32(0.0078125)), depth=3)
  net = g.conv(net, 'conv', 32, (3, 3), 2, 'VALID')
  net = g.conv(net, 'conv_1', 32, (3, 3), padding='VALID')
  net = g.conv(net, 'conv_2', 64, (3, 3))
  net = g.pool(net, 'pool', 'MaxPool', stride=2, padding='VALID')
  net = g.conv(net, 'conv_3', 80, (1, 1))
  net = g.conv(net, 'conv_4', 192, (3, 3), padding='VALID')
  net = g.pool(net, 'pool_1', 'MaxPool', stride=2, padding='VALID')
  for block in ('mixed', 'mixed_1', 'mixed_2'):
    net = g.block(net, block, _MIXED[block])
  left = g.conv(net, 'mixed_3/conv', 384, (3, 3), 2, 'VALID')
  right = g.conv(net, 'mixed_3/tower/conv', 64, (1, 1))
  right = g.conv(right, 'mixed_3/tower/conv_1', 96, (3, 3))
  right = g.conv(right, 'mixed_3/tower/conv_2', 96, (3, 3), 2, 'VALID')
  pooled = g.pool(net, 'mixed_3/pool', 'MaxPool', stride=2, padding='VALID')
  net = g.join('mixed_3', [left, right, pooled])
  for block in ('mixed_4', 'mixed_5', 'mixed_6', 'mixed_7'):
    net = g.block(net, block, _MIXED[block])
  left = g.conv(net, 'mixed_8/tower/conv', 192, (1, 1))
  left = g.conv(left, 'mixed_8/tower/conv_1', 320, (3, 3), 2, 'VALID')
  right = g.conv(net, 'mixed_8/tower_1/conv', 192, (1, 1))
  right = g.conv(right, 'mixed_8/tower_1/conv_1', 192, (1, 7))
  right = g.conv(right, 'mixed_8/tower_1/conv_2', 192, (7, 1))
  right = g.conv(right, 'mixed_8/tower_1/conv_3', 192, (3, 3), 2, 'VALID')
  pooled = g.pool(net, 'mixed_8/pool', 'MaxPool', stride=2, padding='VALID')
  net = g.join('mixed_8', [left, right, pooled])
  net = g.last_block(net, 'mixed_9', 'AvgPool')
  net = g.last_block(net, 'mixed_10', 'MaxPool')
  pooled = g.pool(net, 'pool_3', 'AvgPool', 8, padding='VALID')
  depth = g._depths[pooled]
  weights = g._rng.standard_normal((depth, OUTPUTS)) / np.sqrt(depth)
  g.constant('softmax/weights', weights.astype(np.float32))
  g.constant('softmax/biases', (0.1 * g._rng.standard_normal(OUTPUTS)).astype(np.float32))
  g.constant('pool_3/_reshape/shape', np.array([-1, depth], np.int32))
  g.node('Reshape', 'pool_3/_reshape', pooled, 'pool_3/_reshape/shape')
  g.node('MatMul', 'softmax/logits/MatMul', 'pool_3/_reshape', 'softmax/weights')
  g.node('BiasAdd', 'softmax/logits', 'softmax/logits/MatMul', 'softmax/biases')
  g.node('Softmax', 'softmax', 'softmax/logits')
  return g.graph


def run(graph: tf.compat.v1.GraphDef, pixels: np.ndarray, *fetched: str) -> list[np.ndarray]:
  """What the graph gives of [N, h, w, 3] in 0..255."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.import_graph_def(graph, name='')
    return session.run(list(fetched), {'ExpandDims:0': pixels})
