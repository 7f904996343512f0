"""PyTorch's names without PyTorch: against a digest of the libraries' own lists.

`test_convert_torch.py` computes the same digests from the libraries, where they are installed.
"""

import json
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, description, fid, slim_files, torch_family
from slim_inception.nets.convert.layers import Layer, Norm, fold_normalization

from tests import golden

pytestmark = pytest.mark.integration

# CRC-32 of the sorted lines 'name shape' of the state dicts of timm 1.0.31 with 1001 classes;
# inception_v3 with aux_logits=True, which is torchvision 0.29's too. inception_resnet_v1 is
# facenet-pytorch 2.6.0's, with an embedding of 512 and no classes; inception_v1 is torchvision
# 0.29's googlenet with aux_logits=False; the ResNets, of 1000 classes, are torchvision's too.
DIGESTS = {
  'inception_v3': 206519554,
  'inception_v4': 1390875696,
  'inception_resnet_v2': 1667985609,
  'inception_resnet_v1': 1637916413,
  'inception_v1': 4156245626,
  'resnet_v1_5_50': 3021298538,
  'resnet_v1_5_101': 3407425115,
  'resnet_v1_5_152': 3904138026,
}


def digest(shapes):
  lines = sorted(f'{name} {tuple(shape)}' for name, shape in shapes.items())
  return zlib.crc32('\n'.join(lines).encode())


def golden_layers(name):
  tensors = {}
  # ResNet-v1.5 has the layers of ResNet-v1.
  for variable, shape, *_ in golden.reference(name.replace('v1_5', 'v1'))['variables']:
    variable = variable.replace('resnet_v1_', 'resnet_v1_5_') if 'v1_5' in name else variable
    if 'Bottleneck' in variable:
      shape[-1] = 512
    tensors[variable] = golden.weights(variable, tuple(shape))
  return slim_files.layers(tensors, name).layers


def small_state(net, classes=3):
  """A state dict with all names of a net, and arrays that are small: reading asks for no shapes."""
  norm = Norm(*np.ones((3, 2), np.float32))
  logits = Layer(np.ones((2, classes), np.float32), biases=np.zeros(classes, np.float32))
  path = nets_factory.get_net(net).head.logits_path
  layers = {
    scope: logits if scope == path else Layer(np.ones((1, 1, 3, 2), np.float32), norm=norm)
    for scope in torch_family.names_for(net)
    if 'AuxLogits' not in scope
  }
  return torch_family.tensors(layers, net)


@pytest.fixture
def save(tmp_path):
  """Writes a state dict, as the library does."""
  library = pytest.importorskip('safetensors.numpy', reason='safetensors is not installed')

  def write(state, name='model.safetensors'):
    library.save_file(state, tmp_path / name)
    return tmp_path / name

  return write


# deepface's net of 2026 for PyTorch: facenet-pytorch's names with other words.
DEEPFACE = (
  (r'^repeat_1\.', 'block35.'),
  (r'^repeat_2\.', 'block17.'),
  (r'^block8\.', 'block8.5.'),
  (r'^repeat_3\.', 'block8.'),
  (r'(?<=\.)branch(?=\d)', 'branch_'),
  (r'(?<=\.)conv2d\.', 'up.'),
  (r'^last_linear', 'bottleneck'),
  (r'^last_bn', 'bottleneck_bn'),
  (r'^(conv2d_3b)\.', r'\1_1x1.'),
  (r'^(conv2d_[124][ab])\.', r'\1_3x3.'),
)


def test_names_of_deepface():
  net = 'inception_resnet_v1'
  rng = np.random.default_rng(0)
  theirs = {
    name: rng.random(array.shape).astype(np.float32) for name, array in small_state(net).items()
  }
  renamed = {}
  for name, array in theirs.items():
    for ours, deepfaces in DEEPFACE:
      name = re.sub(ours, deepfaces, name)
    renamed[name] = array
  some = (
    'conv2d_3b_1x1.bn.bias',
    'block35.4.branch_2.1.conv.weight',
    'block8.5.branch_1.2.conv.weight',
  )
  assert {*some, 'block8.4.branch_0.conv.weight', 'bottleneck_bn.running_var'} <= renamed.keys()
  read, expected = (torch_family.layers(state, net) for state in (renamed, theirs))
  assert not read.unknown and read.layers.keys() == expected.layers.keys()
  for scope, layer in expected.layers.items():
    for leaf, values in layer.leaves().items():
      np.testing.assert_array_equal(read.layers[scope].leaves()[leaf], values)
  assert torch_family.images_of(net, theirs) and not torch_family.images_of(net, renamed)


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.', 'module._orig_mod.model.'])
def test_prefixes_of_wrappers_are_taken_off(prefix, save):
  state = {f'{prefix}{name}': array for name, array in small_state('inception_v4').items()}
  compiled = {name.replace('features.', 'features._orig_mod.'): a for name, a in state.items()}
  for variant in (state, compiled):
    assert conversion.read(save(variant), 'inception_v4').num_classes == 3
  state['criterion.weight'] = np.ones(3, np.float32)
  outside = f'not under {prefix.replace("_orig_mod.", "")}'
  if prefix:
    weights = conversion.read(save(state), 'inception_v4')
    assert weights.left_out['criterion.weight'] == outside
  else:
    with pytest.raises(ValueError, match='it also has criterion: num_classes=None of'):
      conversion.read(save(state), 'inception_v4')
  state |= {f'teacher.{name}': array for name, array in small_state('inception_v4').items()}
  message = (
    r'several such nets, under mod.*, teacher\.' if prefix else 'also has criterion, teacher'
  )
  with pytest.raises(ValueError, match=message):
    conversion.read(save(state), 'inception_v4')


def test_layers_that_are_not_known_are_an_error_or_left_out_with_the_head(save):
  state = small_state('inception_v4')
  del state['last_linear.weight'], state['last_linear.bias']
  state |= {f'last_linear.{i}.weight': np.ones((2, 2), np.float32) for i in (0, 2)}
  with pytest.raises(
    ValueError, match=r'also has last_linear\.0, last_linear\.2: num_classes=None'
  ):
    conversion.read(save(state), 'inception_v4')
  weights = conversion.read(save(state), 'inception_v4', with_classifier=False)
  assert weights.num_classes is None
  text = description.about(weights)
  assert "149 x num_batches_tracked (PyTorch's counters), 2 x weight (no layer of the net" in text


def test_cadenes_name_of_the_classifier(save):
  state = small_state('inception_resnet_v2')
  for leaf in ('weight', 'bias'):
    state[f'last_linear.{leaf}'] = state.pop(f'classif.{leaf}')
  assert conversion.read(save(state), 'inception_resnet_v2').num_classes == 3


def test_the_net_of_fid_is_not_taken_for_inception_v3(save):
  path = save(small_state('inception_v3', classes=1008))
  for with_classifier in (True, False):
    with pytest.raises(
      ValueError, match=r'network of the Frechet .*--model_name=inception_v3_2015 is'
    ):
      conversion.read(path, 'inception_v3', with_classifier=with_classifier)
  shapes = {
    'import/conv/conv2d_params': (3, 3, 3, 32),
    'import/mixed_10/tower_2/conv/conv2d_params': (1, 1, 2048, 192),
    'import/softmax/weights': (2048, 1008),
  }
  assert fid.is_fid_inception(shapes)
  assert not fid.is_fid_inception({**shapes, 'import/softmax/weights': (2048, 1001)})
  assert conversion.read(path, 'inception_v3_2015').num_classes == 1008
  state = {name: array.shape for name, array in small_state('inception_v3', classes=1000).items()}
  assert not fid.is_fid_inception(state)


def test_averages_alone(save):
  state = {f'module.{name}': array for name, array in small_state('inception_v4').items()}
  path = save(state | {'n_averaged': np.array(5)})  # torch.optim.swa_utils.AveragedModel
  for use_ema in (None, True):
    weights = conversion.read(path, 'inception_v4', use_ema=use_ema)
    assert weights.averages
    assert ', moving averages of the weights; left out: ' in description.about(weights)
  with pytest.raises(ValueError, match='averages of the weights alone: --use_ema=true takes'):
    conversion.read(path, 'inception_v4', use_ema=False)
  with pytest.raises(ValueError, match='has no moving averages of the weights'):
    conversion.read(save(small_state('inception_v4')), 'inception_v4', use_ema=True)


def test_what_the_hubs_configuration_says_of_images(save, tmp_path):
  mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
  path = save(small_state('inception_v4'))
  plain = conversion.read(path, 'inception_v4')
  assert not plain.notes
  config = {'architecture': 'inception_v4', 'pretrained_cfg': {'mean': mean, 'std': std}}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  weights = conversion.read(tmp_path, 'inception_v4')  # the folder
  assert weights.path == str(path)
  expected = fold_normalization(
    plain.layers['Conv2d_1a_3x3'], 255 * np.array(mean), 255 * np.array(std)
  )
  first = weights.layers['Conv2d_1a_3x3']
  np.testing.assert_allclose(first.weights, expected.weights, rtol=1e-6)
  np.testing.assert_allclose(first.norm.mean, expected.norm.mean, rtol=1e-6)
  assert weights.notes == (
    'trained on (pixel - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375), as the file says',
  )
  explicit = conversion.read(path, 'inception_v4', mean=(127.5,), std=(127.5,))
  np.testing.assert_array_equal(
    explicit.layers['Conv2d_1a_3x3'].weights, plain.layers['Conv2d_1a_3x3'].weights
  )
  assert explicit.notes[0].startswith(
    'taken as trained on (pixel - 127.5) / 127.5, although the file'
  )
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is damaged'):
    conversion.read(path, 'inception_v4')


def test_types_that_numpy_does_not_have_are_named(tmp_path):
  pytest.importorskip('safetensors', reason='safetensors is not installed')
  header = {'fc.weight': {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}}
  text = json.dumps(header).encode()
  path = tmp_path / 'model.safetensors'
  path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(2))
  with pytest.raises(ValueError, match='model.safetensors: fc.weight is of type F8_E4M3'):
    conversion.read(path, 'inception_v3')


def test_half_types_are_written_and_read(tmp_path):
  """Against the rounding of NumPy and TensorFlow themselves, and by the bytes that there are."""
  pytest.importorskip('safetensors', reason='safetensors is not installed')
  state = small_state('inception_v4')
  name = 'features.0.conv.weight'
  state[name] = np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)
  for dtype, kind, rounded in [
    ('float32', 'F32', state[name]),
    ('float16', 'F16', state[name].astype(np.float16).astype(np.float32)),
    ('bfloat16', 'BF16', tf.cast(tf.cast(state[name], tf.bfloat16), tf.float32).numpy()),
  ]:
    path = tmp_path / f'{dtype}.safetensors'
    torch_family.write_safetensors(path, state, dtype)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack('<Q', content[:8])[0]])
    assert header[name]['dtype'] == kind
    assert header['features.0.bn.num_batches_tracked']['dtype'] == 'I64'
    back = conversion.read(path, 'inception_v4').layers['Conv2d_1a_3x3'].weights
    np.testing.assert_array_equal(back, rounded.transpose(2, 3, 1, 0))
    assert back.dtype == np.float32

  state['features.0.bn.running_var'] = np.full(2, 1e5, np.float32)
  with pytest.raises(
    ValueError, match=r'features.0.bn.running_var reaches 100000, more than float16 holds: choose b'
  ):
    torch_family.write_safetensors(tmp_path / 'large.safetensors', state, 'float16')
  assert not (tmp_path / 'large.safetensors').exists()
  torch_family.write_safetensors(tmp_path / 'large.safetensors', state, 'bfloat16')


# test_inception_v3_2015.py has pytorch-fid's.
@pytest.mark.parametrize('name', [name for name in torch_family.NAMES if name != fid.NET])
def test_names_and_shapes_are_timms_and_the_way_back(name):
  layers = golden_layers(name)
  state = torch_family.tensors(layers, name)
  assert digest({key: value.shape for key, value in state.items()}) == DIGESTS[name]
  back, left_out, unknown = torch_family.layers(state, name)
  assert {key.rsplit('.', 1)[-1] for key in left_out} == {'num_batches_tracked'}
  assert not unknown
  assert set(layers) - set(back) == {
    scope for scope in layers if name != 'inception_v3' and scope.startswith('AuxLogits/')
  }
  for scope, layer in back.items():
    np.testing.assert_array_equal(layer.weights, layers[scope].weights)
    if layer.norm is None:
      np.testing.assert_array_equal(layer.biases, layers[scope].biases)
    else:
      gamma = layers[scope].norm.gamma
      np.testing.assert_array_equal(layer.norm.gamma, 1 if gamma is None else gamma)
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
  assert description.summarise(weights.left_out) == '149 x num_batches_tracked'
  with pytest.raises(ValueError, match='but not of inception_v3: .* those of inception_v4'):
    conversion.read(path, 'inception_v3')

  del state['features.9.branch0.bn.bias'], state['last_linear.weight']
  safetensors.save_file(state, path)
  with pytest.raises(ValueError, match='it has no features.9.branch0.bn.bias'):
    conversion.read(path, 'inception_v4')
  path.write_bytes(path.read_bytes()[:100_000])
  with pytest.raises(ValueError, match='model.bin is damaged: '):
    conversion.read(path, 'inception_v4')


@pytest.mark.parametrize(
  ('name', 'shape', 'message'),
  [
    ('features.0.conv.weight', (), r'Conv2d_1a_3x3 has weights of shape \[\]'),
    ('features.0.conv.weight', (2, 2, 2), r'Conv2d_1a_3x3 has weights of shape \[2, 2, 2\]'),
    ('features.0.conv.weight', (2, 3), 'Conv2d_1a_3x3 is no convolution: its weights are a matri'),
    ('features.0.bn.bias', (3,), r'weights of shape \[1, 1, 3, 2\], but beta of shape \[3\]'),
    ('last_linear.bias', (4,), r'has weights of shape \[2, 3\], but biases of shape \[4\]'),
  ],
)
def test_arrays_that_do_not_go_together(name, shape, message, save):
  state = small_state('inception_v4')
  path = save({**state, name: np.ones(shape, np.float32)})
  with pytest.raises(ValueError, match=f'model.safetensors is .* not of inception_v4: .*{message}'):
    conversion.read(path, 'inception_v4', mean=(0.0,), std=(255.0,))
