"""Exports on a whole split, beside the evaluation, and faults that the table has to show."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from slim_inception.evaluate import calibrate
from slim_inception.evaluate.calibrate_config import resolve as resolve_calibrate
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export import export as export_lib
from slim_inception.export.config import Variant, resolve
from slim_inception.export.verification import DIFFERS, EQUAL, FAILED, verify
from tests import records, tiny, zygote

pytest.importorskip('ai_edge_litert', reason='extra tflite')
onnx = pytest.importorskip('onnx', reason='extra onnx')
pytest.importorskip('onnxruntime', reason='extra onnx')
pytestmark = pytest.mark.integration

COUNT, BROKEN = 24, 4
VARIANTS = [
  Variant('saved_model', 'none'),
  Variant('tflite', 'none'),
  Variant('tflite', 'int8'),
  Variant('onnx', 'none'),
]
PROGRAMS = [
  ('saved_model', 'TensorFlow, files'),
  ('saved_model', 'TensorFlow, arrays'),
  ('tflite', 'LiteRT, XNNPACK'),
  ('tflite', 'LiteRT, its own kernels'),
  ('tflite', 'OpenVINO'),
  ('tflite_int8', 'LiteRT, XNNPACK'),
  ('tflite_int8', 'LiteRT, its own kernels'),
  ('tflite_int8', 'OpenVINO'),
  ('onnx', 'ONNX Runtime'),
  ('onnx', 'OpenVINO'),
]
if not importlib.util.find_spec('openvino'):
  PROGRAMS = [each for each in PROGRAMS if each[1] != 'OpenVINO']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A calibrated net that is right of some images, and records of three splits."""
  data = tmp_path_factory.mktemp('data')
  records.write_set(data, count=6, split='train')
  records.write_set(data, count=40, split='validation')
  records.write_set(data, count=COUNT, split='test', broken=(BROKEN,))
  run = tmp_path_factory.mktemp('run')
  model = tiny.random_net(3, seed=2)
  model.save(str(run / 'model.ckpt-1'))
  (run / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"')
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  config |= {'dataset_name': 'image_folder', 'dataset_dir': str(data), 'run': {'image_size': 32}}
  (run / 'config.json').write_text(json.dumps(config))
  calibrate.calibrate(
    resolve_calibrate({'checkpoint_path': str(run), 'coverage': '0.8', 'max_error': '0.9'})
  )
  return run


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  output = tmp_path_factory.mktemp('models') / 'all'
  flags = {'checkpoint_path': str(run), 'output': str(output), 'verify_on': 'test'}
  flags |= {'format': 'saved_model,tflite,onnx,onnx', 'quantize': 'none,int8'}
  outcome = export_lib.export(resolve(flags))
  assert [(each.variant, each.folder.name) for each in outcome.exports] == [
    (variant, variant.name) for variant in VARIANTS
  ]
  return output, outcome


def by_program(verification):
  """{(name of the export, program): its row}, without the checkpoint's."""
  return {(row.variant.name, row.runtime): row for row in verification.rows[1:]}


def test_the_table_has_every_program_and_the_accuracy_of_the_evaluation(run, exported):
  output, (_, verification) = exported
  evaluation = Evaluation(
    resolve_eval({'checkpoint_path': str(run), 'dataset_split_name': 'test'})
  ).evaluate([f'{run}/model.ckpt-1'])
  content = json.loads((output / 'verification.json').read_text())
  assert content['images'] == evaluation.metrics['num_images'] == COUNT - 1
  assert (content['skipped_images'], content['dataset_split_name']) == (1, 'test')
  for name in ('top_1', 'top_1_interval'):
    assert content[name] == evaluation.metrics[name]
  assert 0 < content['top_1'] < 1 and 'top_5' not in content  # of three classes
  np.testing.assert_array_equal(verification.rows[0].predictions.top, evaluation.predictions.top)
  assert [*by_program(verification)] == PROGRAMS
  assert verification.is_good
  for each in content['exports']:
    assert each['verdict'] == EQUAL and each['bytes'] > 1000
    if each['quantize'] == 'none':
      assert each['largest_difference'] < 1e-5
      assert each['top_1'] == content['top_1'] and each['top_1_difference'] == 0
      assert each['agreement'] == 1
      # The thresholds are scores of some of these images, which are in validation too.
      assert min(each['same_in_set'], each['same_abstains']) >= 1 - 1 / (COUNT - 1)
      assert each['agreement_interval'][0] < 0.9  # of 23 images
    else:
      assert 1e-3 < each['largest_difference'] < 0.1  # int8 shows
  lines = verification.text()
  assert len(lines) == 2 + len(PROGRAMS)
  assert lines[0].split()[:3] == ['export', 'program', 'MB']
  assert 'same set' in lines[0] and 'same abstention' in lines[0]
  assert lines[1].startswith('checkpoint   TensorFlow')


@pytest.fixture
def again(run, exported, tmp_path):
  """A function that verifies copies of the exports, which the test may damage."""
  folder = tmp_path / 'all'
  shutil.copytree(exported[0], folder)
  flags = {'checkpoint_path': str(run), 'output': str(tmp_path / 'none')}
  source = export_lib._open(resolve(flags))
  dataset = source.request.config.records.split('test')

  def again():
    pairs = [(variant, folder / variant.name) for variant in VARIANTS]
    return verify(pairs, source.checkpoint, dataset, source.loaded)

  return folder, again


def test_planted_faults_show_and_the_others_go_on(again):
  folder, verify_again = again
  path = folder / 'onnx' / 'model.onnx'
  model = onnx.load(path)
  weights = max(model.graph.initializer, key=lambda each: np.prod(each.dims))
  values = onnx.numpy_helper.to_array(weights)
  noise = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
  weights.CopyFrom(onnx.numpy_helper.from_array(values + noise * values.std(), weights.name))
  onnx.save(model, path)
  lite = folder / 'tflite' / 'model.tflite'
  lite.write_bytes(b'no flatbuffer')
  (folder / 'tflite_int8' / 'labels.txt').write_text('color 1\ncolor 2\ncolor 0\n')
  verification = verify_again()
  assert not verification.is_good
  verdicts = {name: row.verdict for name, row in by_program(verification).items()}
  assert verdicts == {
    program: {'saved_model': EQUAL, 'tflite': FAILED}.get(program[0], DIFFERS)
    for program in PROGRAMS
  }
  rows = by_program(verification)
  noisy, renamed = rows['onnx', 'ONNX Runtime'], rows['tflite_int8', 'LiteRT, XNNPACK']
  assert noisy.comparison.difference > 0.01 and renamed.comparison.agreement < 0.2
  lines = verification.text()
  assert lines[-1].startswith('tflite, ')  # why, below the table
  assert sum(line.endswith('  failed') for line in lines) == sum(n == 'tflite' for n, _ in PROGRAMS)
  content = verification.to_json()['exports']
  failed = [each for each in content if each['verdict'] == FAILED]
  assert all(each['error'] and 'top_1' not in each for each in failed)
  images = next(each for each in content if each['quantize'] == 'int8')['other_images']
  assert 1 < len(images) <= 20
  assert {*images[0]} == {'record_index', 'filename', 'checkpoint', 'export'}


@pytest.mark.slow
def test_decisions_of_another_threshold_show(again):
  folder, verify_again = again
  path = folder / 'onnx' / 'model.onnx'
  model = onnx.load(path)
  (node,) = (node for node in model.graph.node if node.op_type == 'LessOrEqual')
  (threshold,) = (each for each in model.graph.initializer if each.name == node.input[1])
  moved = onnx.numpy_helper.to_array(threshold) - np.float32(0.1)
  threshold.CopyFrom(onnx.numpy_helper.from_array(moved, threshold.name))
  onnx.save(model, path)
  row = by_program(verify_again())['onnx', 'ONNX Runtime']
  assert row.verdict == DIFFERS
  assert row.comparison.difference < 1e-5 and row.comparison.agreement == 1
  assert row.compared.same_decisions['in_set'].mean() < 0.9


def test_a_format_that_is_not_delivered_is_a_line_and_the_status(run, tmp_path):
  """A channel of huge numbers, which nothing reads, is too much for int8 alone."""
  huge = tmp_path / 'huge'
  shutil.copytree(run, huge, ignore=shutil.ignore_patterns('*.calibration.json'))
  model = tiny.random_net(3, seed=2)
  variables = model.variables_by_name
  beta = variables['InceptionTiny/Conv2d_1a_3x3/BatchNorm/beta']
  beta.assign(np.array([1e5, *beta.numpy()[1:]]))
  for name, variable in variables.items():
    if ('/Mixed_2a/' in name and name.endswith('_0a_1x1/weights')) or '_0a_3x3/weights' in name:
      variable.assign(variable * np.array([0, *[1] * 7], np.float32)[:, np.newaxis])
  model.save(str(huge / 'model.ckpt-1'))
  output = tmp_path / 'out'
  flags = [f'--checkpoint_path={huge}', f'--output={output}', '--verify_on=test']
  flags += ['--format=tflite,onnx', '--quantize=int8']
  done = zygote.run('export', *flags)
  assert done.returncode == 1
  failures = [line for line in done.stderr.splitlines() if line.startswith('slim-inception export')]
  assert len(failures) == 1 and failures[0].startswith('slim-inception export: tflite_int8: ')
  assert [path.name for path in sorted(output.iterdir())] == ['onnx', 'verification.json']
  assert f'written to {output}/onnx; read back, on 32 images' in done.stdout
  assert 'ONNX Runtime' in done.stdout and 'tflite' not in done.stdout
  done = zygote.run('export', *flags[:1], f'--output={tmp_path}/2', '--verify_on=nothing')
  assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
  assert 'nothing' in done.stderr and not (tmp_path / '2').exists()


def test_a_split_that_cannot_be_verified_on_leaves_the_exports(run, tmp_path):
  data = tmp_path / 'data'
  records.write_set(data, count=8, split='validation')
  records.write_set(data, count=8, split='test', broken=tuple(range(8)))
  output = tmp_path / 'out'
  flags = {'checkpoint_path': str(run), 'output': str(output), 'dataset_dir': str(data)}
  flags |= {'format': 'onnx', 'verify_on': 'test'}
  with pytest.raises(ValueError, match=f'stays in {output}, not verified on a split') as error:
    export_lib.export(resolve(flags))
  assert len(str(error.value).splitlines()) == 1
  assert (output / 'model.onnx').exists()
