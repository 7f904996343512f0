"""slim-inception convert as a user starts it, and what it says of bad input."""

import os
import pathlib

import numpy as np
import pytest
import safetensors
import tensorflow as tf
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.nets.convert import conversion, keras_applications

from slim_inception import flags
from slim_inception.cli import convert as convert_command
from tests import golden
from tests.cli.test_cli import run

pytestmark = pytest.mark.integration

NAME = 'inception_v3'
STATISTICS = ('moving_mean', 'moving_variance')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A checkpoint of Inception-v3 without auxiliary head, 1000 classes, with gamma."""
  prefix = tmp_path_factory.mktemp('source') / 'v3.ckpt'
  tensors = {}
  for name, shape, *_ in golden.reference(NAME)['variables']:
    if 'AuxLogits' in name:
      continue
    shape = tuple(1000 if side == 1001 else side for side in shape)
    tensors[name] = golden.weights(name, shape)
    if name.endswith('beta'):
      gamma = name.replace('beta', 'gamma')
      tensors[gamma] = golden.weights(gamma, shape)
  checkpoints.save(prefix, {**tensors, 'global_step': tf.constant(7)})
  return str(prefix), tensors


def convert(source, output, name=NAME, **options):
  values = {'source': source, 'output': output, 'model_name': name, **options}
  return convert_command.convert(flags.build(convert_command.ConvertConfig, values))


def files(folder):
  return sorted(os.listdir(folder))


def test_a_checkpoint_becomes_a_checkpoint(source, tmp_path):
  prefix, tensors = source
  output = str(tmp_path / 'out.ckpt')
  code, errors, text = run(
    'convert', f'--model_name={NAME}', f'--source={prefix}', f'--output={output}'
  )
  assert (code, errors) == (0, [f'Reading {NAME} from {prefix}', f'Writing {output}'])
  lines = text.splitlines()
  assert lines[0] == (
    f'{prefix}: a TensorFlow checkpoint, inception_v3, 1000 classes, no background among them; '
    'left out: global_step (not in InceptionV3)'
  )
  assert lines[1] == (
    '378 variables filled, left fresh: InceptionV3/AuxLogits/Conv2d_1b_1x1, '
    'InceptionV3/AuxLogits/Conv2d_2a_5x5, InceptionV3/AuxLogits/Conv2d_2b_1x1'
  )
  assert lines[2].startswith('gamma of 94 batch norms folded into weights: exact, but not for ')
  assert lines[-1] == f'written to {output}'
  assert files(tmp_path) == ['out.ckpt.data-00000-of-00001', 'out.ckpt.index']

  scope = 'InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5'
  names = [f'{scope}/{leaf}' for leaf in ('weights', *map('BatchNorm/{}'.format, STATISTICS))]
  weights, mean, variance = checkpoints.read(output, names).values()
  gamma = tensors[f'{scope}/BatchNorm/gamma']
  np.testing.assert_array_equal(weights, tensors[names[0]] * gamma)
  np.testing.assert_array_equal(mean, tensors[names[1]] * gamma)
  np.testing.assert_array_equal(variance, tensors[names[2]])
  assert f'{scope}/BatchNorm/gamma' not in checkpoints.shapes(output)
  assert 'InceptionV3/AuxLogits/Conv2d_2b_1x1/biases' in checkpoints.shapes(output)

  # The auxiliary head is random: it says so, and does not become timm's.
  assert {name.split('/')[1] for name in checkpoints.read_fresh(output)} == {'AuxLogits'}
  lines = convert(output, f'{tmp_path}/back.safetensors')
  assert '; left out: ' in lines[0]
  assert '(never trained: left fresh by a conversion)' in lines[0]
  assert not [line for line in lines if 'auxiliary head' in line]
  with safetensors.safe_open(f'{tmp_path}/back.safetensors', 'np') as file:
    assert not [name for name in file.keys() if name.startswith('AuxLogits')]  # noqa: SIM118


def test_other_images_and_no_classifier(source, tmp_path):
  prefix, tensors = source
  name = 'InceptionV3/Conv2d_1a_3x3'
  output = str(tmp_path / 'out.ckpt')
  lines = convert(
    prefix, output, classifier=False, source_preprocessing='caffe', batch_norm_scale=True
  )
  assert ' no classifier; left out: global_step' in lines[0]
  stored = checkpoints.shapes(output)
  assert not [n for n in stored if 'Logits' in n]
  weights, mean = checkpoints.read(
    output, [f'{name}/weights', f'{name}/BatchNorm/moving_mean']
  ).values()
  pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 3, 3))
  theirs = np.einsum(
    'nhwi,hwio->no',
    (pixels - [123.68, 116.779, 103.939])[..., ::-1],
    tensors[f'{name}/weights'],
  )
  ours = np.einsum('nhwi,hwio->no', pixels / 127.5 - 1, weights)
  np.testing.assert_allclose(
    ours - mean, theirs - tensors[f'{name}/BatchNorm/moving_mean'], rtol=1e-4, atol=1e-2
  )


def test_a_narrow_net_is_not_written_for_others(tmp_path):
  model = nets_factory.create_model(
    NAME, 3, image_size=107, depth_multiplier=0.1, create_aux_logits=False
  )
  model.save(tmp_path / 'thin.ckpt')
  with pytest.raises(ValueError, match='Conv2d_1a_3x3 has 16 filters where inception_v3 of other'):
    convert(tmp_path / 'thin.ckpt', tmp_path / 'thin.safetensors')
  assert not (tmp_path / 'thin.safetensors').exists()


def test_what_is_there_is_kept(source, tmp_path, monkeypatch):
  prefix, _ = source
  output = tmp_path / 'out.weights.h5'
  output.write_text('precious')
  with pytest.raises(ValueError, match=r'out.weights.h5 exists: --overwrite replaces it'):
    convert(prefix, output)

  def fails(path, *_):
    pathlib.Path(path).write_text('half')
    raise OSError(28, 'No space left on device', path)

  monkeypatch.setattr(keras_applications, 'write', fails)
  with pytest.raises(OSError, match='No space left'):
    convert(prefix, output, overwrite=True)
  assert output.read_text() == 'precious'
  assert files(tmp_path) == ['out.weights.h5']


@pytest.mark.parametrize(
  ('output', 'options', 'message'),
  [
    ('a.keras', {}, r'a.keras: choose .weights.h5, .safetensors or the prefix of a TensorFlow'),
    ('a.weights.h5', {'batch_norm_scale': True}, '--batch_norm_scale is for TensorFlow checkpoi'),
    (
      'a.weights.h5',
      {'precision': 'float16'},
      '--precision=float16 is for .safetensors: .* has fl',
    ),
    ('a.ckpt', {'precision': 'bfloat16'}, '--precision=bfloat16 is for .safetensors: .*a.ckpt has'),
  ],
)
def test_bad_output(output, options, message, source, tmp_path):
  with pytest.raises(ValueError, match=message):
    convert(source[0], tmp_path / output, **options)
  assert files(tmp_path) == []


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'\n<!DOCTYPE html><html>Sign in</html>', 'is a web page, not weights: download the file'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'is a Git LFS pointer, not weights'),
    (b'', 'is empty'),
    (b'\x89HDF\r\n\x1a\n' + bytes(100), 'is damaged: '),
    (b'PK\x03\x04' + bytes(100), 'is a zip file that is cut short'),
    (b'\x1f\x8b\x08' + bytes(100), 'is damaged: '),
    (b'\x0a\x05hello', 'is damaged: |is a graph without weights'),
    (bytes(range(100)), 'is none of the known formats .* or is cut short'),
  ],
)
def test_bad_source(content, message, tmp_path):
  path = tmp_path / 'inception_v3.h5'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message) as error:
    convert(path, tmp_path / 'out.ckpt')
  assert len(str(error.value).splitlines()) == 1
  assert files(tmp_path) == [path.name]


def test_another_net_a_cut_checkpoint_and_no_file(source, tmp_path):
  prefix, _ = source
  with pytest.raises(ValueError, match='not of inception_v4: it has no InceptionV4/... .* but is '):
    convert(prefix, tmp_path / 'out.ckpt', 'inception_v4')
  with pytest.raises(FileNotFoundError, match='none.ckpt does not exist, neither a file nor'):
    convert('none.ckpt', tmp_path / 'out.ckpt')
  for suffix in ('.index', '.data-00000-of-00001'):
    content = pathlib.Path(prefix + suffix).read_bytes()
    (tmp_path / f'cut.ckpt{suffix}').write_bytes(content[: min(len(content), 1_000_000)])
  with pytest.raises(ValueError, match='cut.ckpt is'):
    convert(tmp_path / 'cut.ckpt', tmp_path / 'out.ckpt')
  assert files(tmp_path) == ['cut.ckpt.data-00000-of-00001', 'cut.ckpt.index']


def test_classes_of_ones_own_start_fresh_and_other_shapes_do_not_pass(source):
  scale = nets_factory.NETS[NAME].arg_scope(batch_norm_scale=True)
  model = nets_factory.create_model(
    NAME, 5, weights=source[0], arg_scope=scale, create_aux_logits=False
  )
  for name, variable in model.variables_by_name.items():
    if 'Logits' in name:
      assert variable.shape[-1] == 5
    else:
      np.testing.assert_array_equal(variable, source[1][name])  # gamma is kept

  name = 'InceptionV3/Conv2d_1a_3x3/weights'
  weights = conversion.read(source[0], NAME)
  message = r'has shape \[3, 3, 3, 32\] for .*weights, which has shape \[3, 3, 3, 16\] in'
  with pytest.raises(ValueError, match=message):
    conversion.fill({name: tf.Variable(tf.zeros((3, 3, 3, 16)))}, weights, ())
