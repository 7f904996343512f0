"""timm's names without PyTorch: against a digest of timm's own lists.

`test_convert_torch.py` computes the same digests from timm itself, where it is installed.
"""

import zlib

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets.convert import conversion, slim_files, torch_family
from slim_inception.nets.convert.layers import Layer, Norm

from tests import golden

pytestmark = pytest.mark.integration

# CRC-32 of the sorted lines 'name shape' of the state dicts of timm 1.0.31 with 1001 classes;
# inception_v3 with aux_logits=True, which is torchvision 0.28's too.
DIGESTS = {'inception_v3': 206519554, 'inception_v4': 1390875696, 'inception_resnet_v2': 1667985609}


def digest(shapes):
  lines = sorted(f'{name} {tuple(shape)}' for name, shape in shapes.items())
  return zlib.crc32('\n'.join(lines).encode())


def golden_layers(name):
  tensors = {
    variable: golden.weights(variable, tuple(shape))
    for variable, shape, *_ in golden.reference(name)['variables']
  }
  return slim_files.layers(tensors, name)[0]


@pytest.mark.parametrize('name', torch_family.NAMES)
def test_names_and_shapes_are_timms_and_the_way_back(name):
  layers = golden_layers(name)
  state = torch_family.tensors(layers, name)
  assert digest({key: value.shape for key, value in state.items()}) == DIGESTS[name]
  back, used = torch_family.layers(state, name)
  assert {key.rsplit('.', 1)[-1] for key in set(state) - used} == {'num_batches_tracked'}
  assert set(layers) - set(back) == {
    scope for scope in layers if name != 'inception_v3' and scope.startswith('AuxLogits/')
  }
  for scope, layer in back.items():
    np.testing.assert_array_equal(layer.weights, layers[scope].weights)
    if layer.norm is None:
      np.testing.assert_array_equal(layer.biases, layers[scope].biases)
    else:
      assert (layer.norm.gamma == 1).all()
      np.testing.assert_array_equal(layer.norm.mean, layers[scope].norm.mean)


def test_kernels_and_products_are_turned():
  weights = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
  norm = Norm(*np.zeros((3, 5), np.float32))
  layers = {'Conv2d_1a_3x3': Layer(weights, norm=norm)}
  layers['Logits/Logits'] = Layer(weights[0, 0], biases=np.zeros(5, np.float32))
  state = torch_family.tensors(layers, 'inception_v4')
  assert state['features.0.conv.weight'][4, 3, 1, 2] == weights[1, 2, 3, 4]
  assert state['last_linear.weight'][4, 3] == weights[0, 0, 3, 4]


def test_files_and_what_is_wrong_with_them(tmp_path):
  safetensors = pytest.importorskip('safetensors.numpy', reason='safetensors is not installed')
  state = torch_family.tensors(golden_layers('inception_v4'), 'inception_v4')
  state['features.0.conv.weight'] = state['features.0.conv.weight'].astype(
    tf.bfloat16.as_numpy_dtype
  )
  path = tmp_path / 'model.bin'  # told by its content
  safetensors.save_file(state, path)
  weights = conversion.read(path, 'inception_v4')
  assert weights.num_classes == 1001
  assert weights.layers['Conv2d_1a_3x3'].weights.dtype == np.float32
  assert conversion.summarise(weights.ignored) == '149 x num_batches_tracked'
  with pytest.raises(ValueError, match='but not of inception_v3: .* those of inception_v4'):
    conversion.read(path, 'inception_v3')

  del state['features.9.branch0.bn.bias'], state['last_linear.weight']
  safetensors.save_file(state, path)
  with pytest.raises(ValueError, match='it has no features.9.branch0.bn.bias'):
    conversion.read(path, 'inception_v4')
  path.write_bytes(path.read_bytes()[:100_000])
  with pytest.raises(ValueError, match='model.bin is damaged: '):
    conversion.read(path, 'inception_v4')
