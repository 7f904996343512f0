"""Exported classifiers of every format, read back and compared with the net."""

import io
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.preprocessing.preprocessing_factory import INCEPTION

from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export import comparison, tflite
from slim_inception.export import config as export_config
from slim_inception.export.comparison import Accepted
from slim_inception.export.config import resolve
from slim_inception.export.export import FORMATS, export
from tests import records, tiny

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=11, split='validation', broken=(4,))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp('net')
  model = nets_factory.create_model(tiny.NAME, 3)
  disturb(model)
  model.save(str(directory / 'model.ckpt'))
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  (directory / 'config.json').write_text(json.dumps(config))
  return str(directory / 'model.ckpt')


def disturb(model):
  """Batch norm as after training: nothing is 0 or 1."""
  random = np.random.default_rng(0)
  for name, variable in model.variables_by_name.items():
    if '/BatchNorm/' in name:
      low, high = (0.5, 1.5) if name.endswith(('gamma', 'variance')) else (-0.3, 0.3)
      variable.assign(random.uniform(low, high, variable.shape))


def flags(data, checkpoint):
  where = {'dataset_name': 'image_folder', 'dataset_dir': str(data)}
  return {'checkpoint_path': checkpoint, **where, 'batch_size': 8}


def run(data, checkpoint, output, **more):
  """The comparison of one export."""
  outcome = export(resolve({**flags(data, checkpoint), **more, 'output': str(output)}))
  (exported,) = outcome.exports
  assert exported.folder == output and not exported.error and outcome.verification is None
  return exported.comparison


def evaluated(data, checkpoint, **more):
  """{file name: (names, probabilities)} as the evaluation finds them."""
  evaluation = Evaluation(resolve_eval({**flags(data, checkpoint), **more}))
  found = evaluation.evaluate([checkpoint]).predictions
  names = [[f'color {label}' for label in row] for row in found.top.tolist()]
  rows = zip(names, found.probabilities, strict=True)
  return dict(zip(found.filenames, rows, strict=True))


@pytest.fixture(scope='module')
def saved(data, checkpoint, tmp_path_factory):
  """The SavedModel of the checkpoint."""
  output = tmp_path_factory.mktemp('models') / 'colors' / '1'
  found = run(data, checkpoint, output)
  assert found.difference < 1e-4
  assert (found.images, found.agreement) == (10, 1)  # the broken one is left out
  return tf.saved_model.load(str(output))


def check_answers(loaded, expected):
  """Compares with what the evaluation found of the images that can be decoded."""
  whole = [i for i in range(11) if i != 4]
  files = tf.constant([records.image(i % 3, i) for i in whole])
  answers = loaded.signatures['serving_default'](files)
  for row, i in enumerate(whole):
    names, probabilities = expected[f'{i}.jpg']
    np.testing.assert_allclose(answers['probabilities'][row], probabilities, atol=1e-4)
    assert [name.decode() for name in answers['names'][row].numpy()] == names
    assert [f'color {label}' for label in answers['labels'][row].numpy()] == names


def test_says_what_the_evaluation_says(data, checkpoint, saved):
  check_answers(saved, evaluated(data, checkpoint))


def test_says_it_with_statistics_measured_anew(data, checkpoint, tmp_path):
  run(data, checkpoint, tmp_path / '1', batch_norm_batches=2)
  expected = evaluated(data, checkpoint, batch_norm_batches=2)
  check_answers(tf.saved_model.load(str(tmp_path / '1')), expected)
  stored = evaluated(data, checkpoint)
  assert not np.allclose(stored['0.jpg'][1], expected['0.jpg'][1], atol=1e-3)


def test_takes_images_of_any_size_and_arrays(saved):
  files = []
  for size, form in (((300, 20), 'PNG'), ((1, 1), 'JPEG'), ((33, 90), 'BMP')):
    file = io.BytesIO()
    Image.new('RGB', size, (200, 10, 10)).save(file, form)
    files.append(file.getvalue())
  found = saved.signatures['serving_default'](tf.constant(files))
  assert found['names'].shape == (3, 3)
  np.testing.assert_allclose(tf.reduce_sum(found['probabilities'], -1), 1, rtol=1e-5)
  red = np.broadcast_to(np.array([200, 10, 10], np.float32) / 127.5 - 1, (1, 32, 32, 3))
  same = saved.signatures['images'](tf.constant(red))
  np.testing.assert_allclose(same['probabilities'][0], found['probabilities'][1], atol=0.02)


def test_an_error_says_which_image_it_is(saved):
  good = records.image(0, 0)
  for bad, message in (
    (good[:-40], r'image_bytes\[1\]: JPEG is truncated: it has no end of image'),
    (b'GIF', r'image_bytes\[1\]: not a JPEG, PNG, GIF or BMP file'),
  ):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
      saved.signatures['serving_default'](tf.constant([good, bad, good]))


def test_turned_photos_are_classified_upright(saved):
  """A photo that a phone has stored on its side, and transparency, as classification sees them."""
  upright = Image.fromarray(np.arange(40 * 48 * 3).reshape(40, 48, 3).astype(np.uint8))
  files = []
  for image, options in (
    (upright, {}),
    (upright.transpose(Image.Transpose.ROTATE_90), {'exif': 6}),
  ):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = options.pop('exif', 1)
    image.save(file, 'PNG', exif=exif)
    files.append(file.getvalue())
  answers = saved.signatures['serving_default'](tf.constant(files))['probabilities']
  np.testing.assert_array_equal(answers[0], answers[1])


def test_batch_norm_is_folded_in(saved):
  definition = saved.signatures['images'].graph.as_graph_def()
  kinds = {node.op for node in definition.node}
  kinds |= {node.op for function in definition.library.function for node in function.node_def}
  assert {'Conv2D', 'BiasAdd'} <= kinds
  assert not {kind for kind in kinds if 'BatchNorm' in kind or 'Rsqrt' in kind}


@pytest.mark.parametrize(
  ('use_ema', 'taken'), [('auto', 'ema'), pytest.param('false', 'plain', marks=pytest.mark.slow)]
)
def test_weights_are_those_chosen(data, tmp_path, use_ema, taken):
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  values = dict(model.variables_by_name)
  biases = 'InceptionTiny/Logits/Logits/biases'
  averages = {f'{name}{checkpoints.EMA_SUFFIX}': value for name, value in values.items()}
  averages[f'{biases}{checkpoints.EMA_SUFFIX}'] = tf.constant([0.0, 0.0, 50.0])
  checkpoints.save(str(tmp_path / 'model.ckpt'), {**values, **averages})
  more = {'model_name': tiny.NAME, 'preprocessing_name': 'inception', 'use_ema': use_ema}
  run(data, str(tmp_path / 'model.ckpt'), tmp_path / '1', **more)
  said = json.loads((tmp_path / '1' / 'export.json').read_text())
  assert said['weights'] == taken
  classify = tf.saved_model.load(str(tmp_path / '1')).signatures['images']
  best = classify(tf.zeros([1, 32, 32, 3]))
  assert (best['probabilities'][0, 0] > 0.999 and best['names'][0, 0] == b'color 2') == (
    taken == 'ema'
  )


def seen(size, *pairs):
  """What the net is given of the images of (label, number)."""
  views = [INCEPTION.eval_image(records.image(*pair), size, size).numpy() for pair in pairs]
  return np.stack(views)


@pytest.mark.parametrize(
  ('quantize', 'tolerance', 'types'),
  [
    ('none', 1e-5, {np.float32}),
    ('float16', 0.005, {np.float32, np.float16}),
    ('int8', 0.05, {np.uint8, np.int8, np.int32}),
  ],
)
def test_tflite_says_what_the_net_says(
  data, checkpoint, tmp_path, capfd, quantize, tolerance, types
):
  interpreter = pytest.importorskip('ai_edge_litert.interpreter', reason='extra tflite')
  output = tmp_path / 'lite'
  assert run(data, checkpoint, output, format='tflite', quantize=quantize).images == 10
  errors = capfd.readouterr().err
  assert 'fully_quantize' not in errors and 'XNNPACK' not in errors
  names = {path.name for path in output.iterdir()}
  assert names == {'export.json', 'labels.txt', 'model.tflite'}
  assert (output / 'labels.txt').read_text() == 'color 0\ncolor 1\ncolor 2\n'
  said = json.loads((output / 'export.json').read_text())
  assert said['input']['shape'] == [1, 32, 32, 3]
  model = nets_factory.create_model(tiny.NAME, 3)
  model.restore(checkpoint)
  images = seen(32, (0, 0), (1, 1), (2, 2))
  expected = tf.nn.softmax(model(images)[0]).numpy()
  assert np.ptp(expected, axis=0).max() > 0.05  # the net tells the images apart
  loaded = interpreter.Interpreter(str(output / 'model.tflite'))
  found = {details['dtype'] for details in loaded.get_tensor_details()}
  assert found - {np.int32} == types - {np.int32}  # of biases, and of shapes
  run_net = loaded.get_signature_runner()
  for image, wanted in zip(images, expected, strict=True):
    given = image[np.newaxis]
    if quantize == 'int8':
      given = np.round((given + 1) * 127.5).astype(np.uint8)  # pixels as they are in a file
    (found,) = run_net(images=given)['probabilities']
    if quantize == 'int8':
      assert said['input']['scale'] == pytest.approx(2 / 255, rel=1e-5)
      assert said['input']['zero_point'] in (127, 128)  # of 127.5
      assert (said['output']['scale'], said['output']['zero_point']) == (1 / 256, 0)
      found = found / 256
    np.testing.assert_allclose(found, wanted, atol=tolerance)


def test_what_cpp_says_is_shown_with_an_error(capfd):
  with tflite._quiet():
    os.write(2, b'INFO: chatter\n')
    print('progress', file=sys.stderr)
  assert capfd.readouterr().err == 'progress\n'
  with pytest.raises(RuntimeError), tflite._quiet():
    os.write(2, b'error: this is why\n')
    raise RuntimeError
  assert capfd.readouterr().err == 'error: this is why\n'


@pytest.mark.parametrize('loss', [pytest.param('softmax', marks=pytest.mark.slow), 'sigmoid'])
def test_onnx_says_what_the_net_says(data, checkpoint, tmp_path, loss):
  pytest.importorskip('onnx', reason='extra onnx')
  onnxruntime = pytest.importorskip('onnxruntime', reason='extra onnx')
  output = tmp_path / 'onnx'
  assert run(data, checkpoint, output, format='onnx', loss=loss).difference < 1e-5
  model = nets_factory.create_model(tiny.NAME, 3)
  model.restore(checkpoint)
  images = seen(32, (0, 0), (1, 1), (2, 2))
  expected = getattr(tf.nn, loss)(model(images)[0])
  session = onnxruntime.InferenceSession(str(output / 'model.onnx'))
  (found,) = session.run(['probabilities'], {'images': images})
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """A checkpoint without its run, as people release them."""
  path = tmp_path_factory.mktemp('released') / 'tiny.ckpt'
  nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False).save(str(path))
  return str(path)


@pytest.mark.parametrize(
  'names', [['rose', 'a crane', 'a crane'], pytest.param(['0', '1', '2'], marks=pytest.mark.slow)]
)
def test_a_released_checkpoint_is_exported_without_records(released, tmp_path, names):
  values = {'checkpoint_path': released, 'model_name': tiny.NAME, 'output': str(tmp_path / 'out')}
  if names[0] == 'rose':
    (tmp_path / 'names.txt').write_text('\n'.join(names))
    values['labels'] = str(tmp_path / 'names.txt')
  comparison = export(resolve(values)).exports[0].comparison
  assert (comparison.images, comparison.agreement) == (32, 1)
  said = json.loads((tmp_path / 'out' / 'export.json').read_text())
  assert said['labels'] == names
  assert said['comparison']['dataset_name'] is None
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  model.restore(released)
  images = seen(32, (0, 0), (1, 1))
  answers = tf.saved_model.load(str(tmp_path / 'out')).signatures['images'](tf.constant(images))
  labels = np.argsort(-tf.nn.softmax(model(images)[0]).numpy())
  np.testing.assert_array_equal(answers['labels'], labels)  # of two of one name
  assert [name.decode() for name in answers['names'][0].numpy()] == [names[i] for i in labels[0]]


def test_a_run_whose_records_are_elsewhere_is_exported(released, tmp_path):
  checkpoint = tmp_path / 'model.ckpt'
  for path in pathlib.Path(released).parent.glob('tiny.ckpt*'):
    shutil.copy(path, tmp_path / path.name.replace('tiny', 'model'))
  run = {'model_name': tiny.NAME, 'dataset_name': 'image_folder', 'dataset_dir': '/nowhere/records'}
  run['run'] = {'labels': ['ant', 'bee', 'cat'], 'label_offset': 0, 'dataset_hashes': []}
  (tmp_path / 'config.json').write_text(json.dumps(run))
  values = {'checkpoint_path': str(checkpoint), 'output': str(tmp_path / 'out')}
  assert export(resolve(values)).exports[0].comparison.images == 32
  assert (tmp_path / 'out' / 'labels.txt').read_text() == 'ant\nbee\ncat\n'
  with pytest.raises(OSError, match='/nowhere/other'):
    export(resolve({**values, 'output': str(tmp_path / '2'), 'dataset_dir': '/nowhere/other'}))
  for more, message in (
    ({'format': 'tflite', 'quantize': 'int8'}, '--quantize=int8 measures ranges on images of'),
    ({'batch_norm_batches': 1}, '--batch_norm_batches takes images of the training split'),
    ({'verify_on': 'test'}, '--verify_on takes the images of a split: --dataset_dir must be given'),
  ):
    with pytest.raises(ValueError, match=message):
      resolve({**values, **more})


def test_what_is_there_is_not_overwritten(data, checkpoint, tmp_path):
  (tmp_path / '1').mkdir()
  with pytest.raises(FileExistsError, match=r'--output=.*1 exists: choose another folder'):
    run(data, checkpoint, tmp_path / '1')


@pytest.mark.parametrize(
  'format',
  [pytest.param(f, marks=() if f == 'saved_model' else pytest.mark.slow) for f in FORMATS],
)
def test_a_net_that_reads_back_otherwise_is_not_delivered(
  data, checkpoint, tmp_path, monkeypatch, format
):
  for package in export_config.PACKAGES[format]:
    pytest.importorskip(package, reason=f'extra {format}')
  monkeypatch.setitem(comparison.ACCEPTED, 'none', Accepted(-1.0, 1.0, 0.0))
  with pytest.raises(
    ValueError, match=f'{format} .* does not agree with the checkpoint on 10 images'
  ):
    run(data, checkpoint, tmp_path / '1', format=format)
  assert list(tmp_path.iterdir()) == []


def test_refused(data, checkpoint, monkeypatch):
  given = flags(data, checkpoint)
  with pytest.raises(ValueError, match='--output must be given'):
    resolve(given)
  given['output'] = 'out'
  with pytest.raises(ValueError, match='--checkpoint_path must be one checkpoint'):
    resolve({**given, 'checkpoint_path': f'{checkpoint},{checkpoint}'})
  with pytest.raises(ValueError, match='--quantize=int8 is for --format=tflite, not onnx'):
    resolve({**given, 'format': 'onnx', 'quantize': 'int8'})
  with pytest.raises(ValueError, match='--calibration_images is for --quantize=int8'):
    resolve({**given, 'calibration_images': 10})
  monkeypatch.setitem(export_config.PACKAGES, 'onnx', ('not_installed',))
  with pytest.raises(
    ValueError, match=r"--format=onnx needs packages: pip install 'slim-inc.*onnx"
  ):
    resolve({**given, 'format': 'onnx'})


@pytest.mark.parametrize(
  'format_name', ['saved_model', pytest.param('tflite', marks=pytest.mark.slow)]
)
def test_a_full_disk_is_named_and_nothing_is_left(data, checkpoint, full_disk, format_name):
  output = full_disk / 'model'
  with pytest.raises(OSError, match='No space left on device') as error:
    run(data, checkpoint, output, format=format_name)
  assert error.value.filename == str(output)
  assert list(full_disk.iterdir()) == []
