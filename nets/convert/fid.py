"""The network of the Frechet Inception Distance, `inception_v3_2015`, in files that people have.

classify_image_graph_def.pb of December 2015, and the same weights with torchvision's names
(pt_inception-2015-12-05-6726825d.pth of pytorch-fid). The layers have the shapes of Inception-v3,
but the last pool takes the maximum, and there are 1008 outputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..inception_v3_2015 import NAME as NET
from ..inception_v3_2015 import OUTPUTS
from ..registry import get_net

WHERE = (
  'https://github.com/mseitzer/pytorch-fid/releases has pt_inception-2015-12-05-6726825d.pth, and '
  'http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz the graph'
)
_LOGITS = {'softmax/weights': -1, 'fc.weight': 0}  # {the last part of a name: the axis of outputs}
# A layer of the first and of the last block, in either file.
_LAYERS = (
  {'conv/conv2d_params', 'mixed_10/tower_2/conv/conv2d_params'},
  {'Conv2d_1a_3x3.conv.weight', 'Mixed_7c.branch_pool.conv.weight'},
)
TEXT = (
  f'the network of the Frechet Inception Distance (December 2015, {OUTPUTS} outputs): '
  f'--model_name={NET} is that'
)

# The layers of a block in the graph, in our order.
_LONG_TOWER = 'tower_1/conv tower_1/conv_1 tower_1/conv_2'
_A = f'conv tower/conv tower/conv_1 {_LONG_TOWER} tower_2/conv'
_B = (
  f'conv tower/conv tower/conv_1 tower/conv_2 {_LONG_TOWER} tower_1/conv_3 tower_1/conv_4 '
  'tower_2/conv'
)
_C = (
  'conv tower/conv tower/mixed/conv tower/mixed/conv_1 '
  'tower_1/conv tower_1/conv_1 tower_1/mixed/conv tower_1/mixed/conv_1 tower_2/conv'
)
_BLOCKS = {
  'Mixed_5b': ('mixed', _A),
  'Mixed_5c': ('mixed_1', _A),
  'Mixed_5d': ('mixed_2', _A),
  'Mixed_6a': ('mixed_3', 'conv tower/conv tower/conv_1 tower/conv_2'),
  'Mixed_6b': ('mixed_4', _B),
  'Mixed_6c': ('mixed_5', _B),
  'Mixed_6d': ('mixed_6', _B),
  'Mixed_6e': ('mixed_7', _B),
  'Mixed_7a': ('mixed_8', f'tower/conv tower/conv_1 {_LONG_TOWER} tower_1/conv_3'),
  'Mixed_7b': ('mixed_9', _C),
  'Mixed_7c': ('mixed_10', _C),
}
_STEM = ('Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'Conv2d_3b_1x1', 'Conv2d_4a_3x3')
GRAPH_NAMES: dict[str, tuple[str, ...]] = {  # {our row: the layers of it in our order}
  **{row: (f'conv_{i}' if i else 'conv',) for i, row in enumerate(_STEM)},
  **{
    row: tuple(f'{block}/{layer}' for layer in layers.split())
    for row, (block, layers) in _BLOCKS.items()
  },
  'Logits': ('softmax',),
}
# {a constant of a layer in the graph: our variable}
_CONVOLUTION = {
  'conv2d_params': 'weights',
  **{
    f'batchnorm/{leaf}': f'BatchNorm/{leaf}'
    for leaf in ('beta', 'gamma', 'moving_mean', 'moving_variance')
  },
}
_PRODUCT = {'weights': 'weights', 'biases': 'biases'}


def is_fid_inception(shapes: Mapping[str, Sequence[int]]) -> bool:
  """Whether {name: shape} of the arrays of a file are of that network.

  Args:
    shapes: by names of the graph's constants or of a state dict, whatever stands before them
      ('import/', 'module.').
  """
  of_outputs = (
    shape[axis] if len(shape) == 2 else 0
    for end, axis in _LOGITS.items()
    for name, shape in shapes.items()
    if name.endswith(end)
  )
  return OUTPUTS in of_outputs and any(
    all(any(name.endswith(layer) for name in shapes) for layer in layers) for layers in _LAYERS
  )


def graph_variables(nodes: Iterable[Any]) -> dict[str, str]:
  """{constant of the graph: our variable}, of the weights of the network.

  Batch norm is one op there, which says whether it uses gamma: where it does not, gamma is no
  weight.

  Args:
    nodes: of the GraphDef, which `is_fid_inception`; all of them may lie in one scope.
  """
  nodes = list(nodes)
  first = 'conv/conv2d_params'  # also the end of names in blocks, which are longer
  prefix = min((n.name for n in nodes if n.name.endswith(first)), key=len).removesuffix(first)
  scales = {
    node.name: node.attr['scale_after_normalization'].b
    for node in nodes
    if node.op == 'BatchNormWithGlobalNormalization'
  }
  net = get_net(NET)
  variables = {}
  for row, scopes in net.weighted.items():
    for scope, layer in zip(scopes, GRAPH_NAMES.get(row, ()), strict=True):
      leaves = _PRODUCT if row == 'Logits' else _CONVOLUTION
      for constant, leaf in leaves.items():
        is_used = leaf != 'BatchNorm/gamma' or scales.get(f'{prefix}{layer}/batchnorm', True)
        if is_used:
          variables[f'{prefix}{layer}/{constant}'] = f'{net.scope}/{scope}/{leaf}'
  return variables
