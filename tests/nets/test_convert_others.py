"""What is no weights of a net is named for what it is, with what to do; damage is one line."""

import io
import json
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import checkpoints
from slim_inception.nets.convert import conversion, formats

from tests import tiny
from tests.nets.test_convert_safetensors import small_state

NET = 'inception_v3'


def image(kind):
  content = io.BytesIO()
  Image.new('RGB', (8, 8)).save(content, kind)
  return content.getvalue()


def array(save):
  content = io.BytesIO()
  save(content, np.ones(3))
  return content.getvalue()


def onnx_model():
  onnx = pytest.importorskip('onnx', reason='onnx is not installed')
  node = onnx.helper.make_node('Relu', ['x'], ['y'])
  x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in 'xy')
  graph = onnx.helper.make_graph([node], 'net', [x], [y])
  return onnx.helper.make_model(graph).SerializeToString()


def tflite_model():
  function = tf.function(lambda x: x + 1, [tf.TensorSpec([1], tf.float32)])
  converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
  return converter.convert()


def saved_model(folder):
  module = tf.Module()
  module.weights = tf.Variable(1.0)
  tf.saved_model.save(module, str(folder))
  return (folder / 'saved_model.pb').read_bytes()


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda _: image('JPEG'), 'an image, not weights: slim-inception classify takes images'),
    (lambda _: image('PNG'), 'an image'),
    (lambda _: image('WEBP'), 'an image'),
    (lambda _: image('BMP'), 'an image'),
    (lambda _: image('TIFF'), 'an image'),
    (lambda _: onnx_model(), 'an ONNX model, whose layers may be folded and .*: give the checkpoi'),
    (saved_model, 'the graph of a SavedModel: name its folder'),
    (lambda _: array(np.save), 'an array of NumPy'),
    (lambda _: array(np.savez), r'holds arrays of NumPy \(.npz\), which are not read'),
    (lambda _: pickle.dumps({'weights': np.ones(3)}), 'a pickle of Python, which is not opened'),
    (lambda _: b'learning_rate: 0.1\nmodel: inception_v3\n' * 20, r'a text \("learning_rate: 0.1'),
    (lambda _: 'größe der Bilder\n'.encode() * 60, r'a text \("größe der Bilder"...\), not'),
    (lambda _: json.dumps({'architecture': NET}).encode(), 'a JSON file, not weights'),
    (lambda _: b'model_checkpoint_path: "model.ckpt-7"\n', 'the list of the checkpoints of a run'),
  ],
)
def test_files_that_are_something_else(make, message, tmp_path):
  path = tmp_path / 'weights.bin'
  path.write_bytes(make(tmp_path / 'other'))
  with pytest.raises(ValueError, match=rf'weights.bin (is )?{message}') as error:
    conversion.read(path, NET)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.integration
@pytest.mark.filterwarnings('ignore')
def test_a_tflite_model_is_named(tmp_path):
  (tmp_path / 'a.tflite').write_bytes(tflite_model())
  with pytest.raises(ValueError, match='a.tflite is a TFLite model, whose layers are folded'):
    conversion.read(tmp_path / 'a.tflite', NET)


def test_folders_that_are_something_else(tmp_path):
  for name in ('images/cat/0.jpg', 'flat/0.JPEG', 'records/train-00000-of-00004', 'empty/none'):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
  saved_model(tmp_path / 'hub' / '1')
  for name, message in [
    ('images', 'images is a folder of images and no weights: slim-inception data makes a data'),
    ('flat', 'flat is a folder of images'),
    ('records', 'records is a folder of records, a data set and no weights: --dataset_dir'),
    ('hub', r'hub is a folder of SavedModels: name one of .*hub/1'),
    ('empty', 'empty holds no checkpoint, and no file that ends in'),
  ]:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
      formats.locate(tmp_path / name)


def test_the_best_of_a_training_with_timm(tmp_path):
  for name in ('checkpoint-1.pth.tar', 'checkpoint-2.pth.tar'):
    (tmp_path / name).touch()
  with pytest.raises(ValueError, match=r'several files of weights: name one of .*checkpoint-1.pth'):
    formats.locate(tmp_path)
  for name in ('last.pth.tar', 'model_best.pth.tar'):
    (tmp_path / name).touch()
    assert formats.locate(tmp_path) == str(tmp_path / name)


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (
      ['base_model.model.fc.lora_A.weight', 'base_model.model.fc.lora_B.weight'],
      'an adapter .LoRA',
    ),
    (['lora_unet_down.lora_down.weight'], 'an adapter .LoRA.* merge it into'),
    (
      ['backbone.body.conv1.weight', 'rpn.head.conv.0.0.weight', 'fc.bias'],
      'a detector, with anoth',
    ),
    (['model.22.dfl.conv.weight', 'model.0.conv.weight'], 'a detector'),
    (['blocks.0.attn.qkv.weight', 'patch_embed.proj.weight'], 'a transformer, not a convolutional'),
  ],
)
def test_names_of_something_else(names, message, tmp_path):
  library = pytest.importorskip('safetensors.numpy', reason='safetensors is not installed')
  path = tmp_path / 'adapter_model.safetensors'
  library.save_file({name: np.ones((2, 2), np.float32) for name in names}, path)
  (tmp_path / 'adapter_config.json').write_text('{}')
  with pytest.raises(ValueError, match=f'is {message}'):
    conversion.read(tmp_path, NET)  # the folder


def test_a_detector_with_another_net(tmp_path):
  names = ('FeatureExtractor/MobilenetV1/Conv2d_0/weights', 'BoxPredictor_0/BoxEncoding/weights')
  checkpoints.save(tmp_path / 'ssd.ckpt', {name: tf.ones(2) for name in names})
  with pytest.raises(
    ValueError, match='no InceptionV3/.* but is a detector, with another net in it'
  ):
    conversion.read(tmp_path / 'ssd.ckpt', NET)


def write_checkpoint(path):
  checkpoints.save(path, tiny.random_net(3, seed=0).variables_by_name)
  return path.with_name(path.name + '.data-00000-of-00001')


def write_safetensors(path):
  library = pytest.importorskip('safetensors.numpy', reason='safetensors is not installed')
  library.save_file(small_state('inception_v4'), path)
  return path


def write_keras(path):
  with h5py.File(path, 'w') as file:
    for i in range(94):
      group = file.create_group(f'layers/conv2d_{i}/vars')
      group.attrs['name'] = f'conv2d_{i}'
      group['0'] = np.ones((1, 1, 3, 3), np.float32)
  return path


def write_frozen(path):
  graph = tf.compat.v1.GraphDef()
  node = graph.node.add(op='Const', name='InceptionTiny/Conv2d_1a_3x3/weights')
  node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(np.ones((3, 3, 3, 8), np.float32)))
  path.write_bytes(graph.SerializeToString())
  return path


def write_archive(path):
  frozen = write_frozen(path.with_name('frozen.pb'))
  with tarfile.open(path, 'w:gz') as file:
    file.add(frozen, 'frozen.pb')
  return path


def write_zip(path):
  frozen = write_frozen(path.with_name('frozen.pb'))
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    file.write(frozen, 'frozen.pb')
  return path


@pytest.mark.parametrize(
  ('write', 'net'),
  [
    (write_checkpoint, tiny.NAME),
    (write_safetensors, 'inception_v4'),
    (write_keras, NET),
    (write_frozen, tiny.NAME),
    (write_archive, tiny.NAME),
    (write_zip, tiny.NAME),
  ],
)
def test_damage_is_one_line(write, net, tmp_path):
  """Bytes turned over and ends cut off: one line that names the file, whatever it hits."""
  path = tmp_path / 'weights'
  file = write(path)
  content = file.read_bytes()
  for at in np.linspace(0, len(content) - 1, 12).astype(int):
    flipped = bytearray(content)
    flipped[at] ^= 0xFF
    for damaged in (bytes(flipped), content[: at + 1]):
      file.write_bytes(damaged)
      try:
        conversion.read(path, net)
      except (ValueError, OSError) as error:
        assert len(str(error).splitlines()) == 1
        assert 'weights' in str(error)
