"""The network of the Frechet Inception Distance, which is not Inception-v3 though it looks like it.

classify_image_graph_def.pb of December 2015, and the same weights with torchvision's names
(pt_inception-2015-12-05-6726825d.pth of pytorch-fid). The layers have the shapes of Inception-v3,
but pools average without the padding, the last one takes the maximum, and there are 1008 outputs.
"""

from collections.abc import Mapping, Sequence

OUTPUTS = 1008  # no net of ImageNet's classes has so many
_LOGITS = {'softmax/weights': -1, 'fc.weight': 0}  # {the last part of a name: the axis of outputs}
# A layer of the first and of the last block, in either file.
_LAYERS = (
  {'conv/conv2d_params', 'mixed_10/tower_2/conv/conv2d_params'},
  {'Conv2d_1a_3x3.conv.weight', 'Mixed_7c.branch_pool.conv.weight'},
)
TEXT = (
  f'the network of the Frechet Inception Distance (December 2015, {OUTPUTS} outputs), not '
  'inception_v3: its layers have the same shapes, but its pools are others (the last block takes '
  'the maximum), so that its weights give other features here'
)


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
