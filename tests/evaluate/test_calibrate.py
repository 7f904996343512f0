"""Calibration of a checkpoint, and what evaluation, classification and exports make of it."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from slim_inception.classify import run as classify_run
from slim_inception.classify import sources
from slim_inception.classify.classifier import Classifier
from slim_inception.classify.config import resolve as resolve_classify
from slim_inception.cli.calibrate import lines
from slim_inception.evaluate import (
  calibrate,
  calibration,
  collector,
  conformal,
  stored_calibration,
)
from slim_inception.evaluate.calibrate_config import resolve
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.metrics import set_figures, wilson_interval
from slim_inception.export.classifier import Inputs, in_set
from slim_inception.export.config import resolve as resolve_export
from slim_inception.export.export import FORMATS, export
from tests import records, tiny, zygote

pytestmark = pytest.mark.integration

COUNT = 80


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = tmp_path_factory.mktemp('data')
  records.write_set(directory, count=30, split='test', broken=(4,))
  return records.write_set(directory, count=COUNT, split='validation')


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
  """A net that gets two thirds of the images, and is far too sure of all."""
  directory = tmp_path_factory.mktemp('run')
  model = tiny.random_net(3, seed=2)
  for name, variable in model.variables_by_name.items():
    if '/Logits/' in name:
      variable.assign(6 * variable)
  model.save(str(directory / 'model.ckpt-1'))
  (directory / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"')
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  config |= {'dataset_name': 'image_folder', 'dataset_dir': str(data), 'run': {'image_size': 32}}
  (directory / 'config.json').write_text(json.dumps(config))
  (directory / 'valid.txt').write_text('0\n1\n')
  return str(directory)


def evaluate(run, **flags):
  evaluation = Evaluation(resolve_eval({'checkpoint_path': run, **flags}))
  return evaluation.evaluate([f'{run}/model.ckpt-1'])


@pytest.fixture(scope='module')
def before(run):
  """The evaluation of the test split before there is a calibration."""
  return evaluate(run, dataset_split_name='test')


@pytest.fixture(scope='module')
def calibrated(run, before):
  """What was stored, after `before`."""
  stored, path = calibrate.calibrate(
    resolve({'checkpoint_path': run, 'coverage': '0.8', 'max_error': '0.6'})
  )
  assert path == f'{run}/model.ckpt-1.calibration.json'
  return stored


def test_temperature_and_figures_are_of_different_halves(run, calibrated):
  request = resolve_eval({'checkpoint_path': run, 'calibrated': False})
  images, probabilities = Evaluation(request).probabilities([f'{run}/model.ckpt-1'])
  labels = np.array([image.labels[0] for image in images])
  fitted, measured = calibrate.halves(COUNT)
  assert sorted([*fitted, *measured]) == list(range(COUNT))
  temperature = calibration.fit_temperature(probabilities[fitted], labels[fitted])
  assert calibrated.temperature == temperature > 1.5
  scaled = calibration.scaled(probabilities[measured], temperature)
  error, interval = calibration.calibration_error(
    scaled.max(-1), scaled.argmax(-1) == labels[measured]
  )
  figure = calibrated.expected_calibration_error
  assert (figure.after, list(figure.after_interval)) == (error, interval)
  assert figure.before != figure.after
  likelihood = calibrated.negative_log_likelihood
  assert likelihood.after < likelihood.before
  assert calibrated.sets == conformal.fit('plain', 0.8, scaled, labels[measured])
  assert calibrated.fitted_images == calibrated.measured_images == COUNT // 2
  text = '\n'.join(lines(calibrated))
  assert f'temperature {temperature:.4f}' in text
  assert f'uncalibrated_expected_calibration_error {figure.before:.4f}' in text


def test_evaluation_reports_both_and_the_ranking_stays(run, before, calibrated):
  after = evaluate(run, dataset_split_name='test')
  metrics = after.metrics
  for name in ('expected_calibration_error', 'calibration_bins'):
    assert metrics[f'uncalibrated_{name}'] == before.metrics[name]
  assert metrics['temperature'] == calibrated.temperature
  assert metrics['calibrated_on'] == '80 images of validation'
  assert metrics['expected_calibration_error'] != before.metrics['expected_calibration_error']
  assert metrics['top_1'] == before.metrics['top_1'] and metrics['num_images'] == 29
  np.testing.assert_array_equal(after.predictions.top, before.predictions.top)
  scaled = calibration.scaled(before.predictions.probabilities, calibrated.temperature)
  np.testing.assert_allclose(after.predictions.probabilities, scaled, rtol=1e-5)
  plain = evaluate(run, dataset_split_name='test', calibrated=False)
  assert 'temperature' not in plain.metrics
  np.testing.assert_array_equal(plain.predictions.probabilities, before.predictions.probabilities)


def test_coverage_and_abstention_on_another_split(run, before, calibrated):
  """Counted from all probabilities."""
  metrics = evaluate(run, dataset_split_name='test').metrics
  images, plain = Evaluation(
    resolve_eval({'checkpoint_path': run, 'dataset_split_name': 'test', 'calibrated': False})
  ).probabilities([f'{run}/model.ckpt-1'])
  scaled = calibration.scaled(plain, calibrated.temperature)
  labels = np.array([image.labels[0] for image in images])
  in_set = 1 - scaled <= calibrated.sets.thresholds[0]
  covered = in_set[np.arange(len(labels)), labels]
  assert metrics['set_coverage'] == covered.mean() and 0.5 < covered.mean() <= 1
  assert metrics['set_coverage_interval'] == list(wilson_interval(covered.sum(), len(labels)))
  of_class = [covered[labels == label].mean() for label in range(3)]
  assert metrics['least_class_coverage'] == min(of_class)
  assert metrics['mean_set_size'] == in_set.sum(1).mean()
  assert metrics['empty_sets'] == np.count_nonzero(in_set.sum(1) == 0)
  assert (metrics['sets'], metrics['coverage']) == ('plain', 0.8)
  kept = scaled.max(1) >= calibrated.abstention.threshold
  right = scaled.argmax(1) == labels
  assert metrics['abstention_kept'] == kept.mean() > 0
  np.testing.assert_allclose(metrics['abstention_error'], 1 - right[kept].mean())
  assert 'set_coverage' not in before.metrics
  among = evaluate(run, dataset_split_name='test', valid_labels=f'{run}/valid.txt').metrics
  assert 'set_coverage' not in among and 'temperature' in among


def test_workers_put_sets_together():
  rng = np.random.default_rng(0)
  probabilities = rng.dirichlet(np.full(11, 0.4), 60)
  labels = rng.integers(0, 11, (60, 2))
  sets = conformal.fit('plain', 0.7, probabilities, labels[:, 0])
  collectors = [collector.Collector(sets=sets) for _ in range(3)]
  for i, row in enumerate(probabilities):
    image = collector.Image(i, f'{i}.jpg', tuple(labels[i, : 1 + i % 2].tolist()))
    collectors[i % 3].add(image, row)
  joined = collector._joined([each.predictions() for each in collectors])
  figures = set_figures(joined, 11)
  in_set = sets.of(probabilities)
  covered = [in_set[i, labels[i, : 1 + i % 2]].any() for i in range(60)]
  assert figures['set_coverage'] == np.mean(covered)
  assert figures['mean_set_size'] == in_set.sum(1).mean()
  assert set_figures(dataclasses.replace(joined, sets=None), 11) == {}


def test_command(data, run, tmp_path):
  """From records to a file, which eval on another split makes figures of, and no other."""
  copy, flags = tmp_path / 'run', [f'--dataset_dir={data}']
  shutil.copytree(run, copy, ignore=shutil.ignore_patterns('*.calibration.json', 'eval*'))
  flags += [f'--checkpoint_path={copy}', '--batch_size=40']
  done = zygote.run('calibrate', *flags, '--coverage=0.8', '--max_error=0.6')
  assert done.returncode == 0, done.stderr
  path = copy / 'model.ckpt-1.calibration.json'
  content = json.loads(path.read_text())
  printed = dict(line.split(' ', 1) for line in done.stdout.splitlines())
  assert printed['temperature'] == f'{content["temperature"]:.4f}'
  assert printed['sets'] == 'plain with a coverage of 0.8'
  assert printed['written'] == f'to {path}'
  done = zygote.run('eval', *flags, '--dataset_split_name=test')
  assert done.returncode == 0, done.stderr
  printed = dict(line.split(' ', 1) for line in done.stdout.splitlines())
  metrics = json.loads((copy / 'eval' / 'metrics.json').read_text())
  for name in ('set_coverage', 'mean_set_size', 'abstention_kept'):
    assert printed[name] == f'{metrics[name]:.4f}'
  low, high = metrics['set_coverage_interval']
  assert printed['set_coverage_interval'] == f'{low:.4f} {high:.4f}'
  before = path.read_bytes()
  done = zygote.run('calibrate', *flags, '--coverage=0.99')
  message = 'a coverage of 0.99 needs at least 99 images, not 40'
  assert done.returncode == 1 and message in done.stderr.splitlines()[-1]
  assert path.read_bytes() == before


def test_the_images_that_it_was_fitted_on_give_no_figure(run, calibrated):
  assert 'temperature' not in evaluate(run).metrics
  with pytest.raises(ValueError, match='was fitted on the split validation, whose figures would'):
    evaluate(run, calibrated=True)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  for i in range(6):
    (folder / f'{i}.jpg').write_bytes(records.image(i % 3, i + 100))
  return [str(folder / f'{i}.jpg') for i in range(6)]


def classify(photos, run, **flags):
  request = resolve_classify({'checkpoint_path': run, 'batch_size': 4, **flags})
  results = Classifier(request).classify(sources.expand(photos, None))
  return np.stack([result.probabilities for result in results])


def test_classification_gives_sets_and_abstains(run, calibrated, photos, tmp_path, capsys):
  threshold = dataclasses.replace(calibrated.abstention, threshold=0.6)
  stored_calibration.write(
    f'{run}/model.ckpt-1', dataclasses.replace(calibrated, abstention=threshold)
  )
  try:
    flags = {'checkpoint_path': run, 'csv': f'{tmp_path}/a.csv', 'json': f'{tmp_path}/a.json'}
    assert classify_run.classify(photos, resolve_classify(flags), print) == 0
    probabilities = classify(photos, run)
  finally:
    stored_calibration.write(f'{run}/model.ckpt-1', calibrated)
  text = capsys.readouterr().out
  with open(tmp_path / 'a.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  objects = json.loads((tmp_path / 'a.json').read_text())
  (threshold,) = calibrated.sets.thresholds
  for row, content, of_image in zip(rows, objects, probabilities, strict=True):
    labels = [label for label in np.argsort(-of_image) if 1 - of_image[label] <= threshold]
    assert row['set_labels'] == ' | '.join(map(str, labels))
    assert row['set_names'] == ' | '.join(f'color {label}' for label in labels)
    assert [each['label'] for each in content['set']] == labels
    assert content['abstains'] == (of_image.max() < 0.6) == (row['abstains'] == 'yes')
    assert f'  set: {", ".join(f"color {label}" for label in labels)}\n' in text
  assert text.count('  abstains: too unsure') == sum(probabilities.max(-1) < 0.6) > 0


@pytest.mark.parametrize(
  'format_name',
  ['saved_model', *(pytest.param(name, marks=pytest.mark.slow) for name in ('onnx', 'tflite'))],
)
def test_exports_say_what_classification_says(run, calibrated, photos, tmp_path, format_name):
  for package in {'onnx': ['onnx', 'onnxruntime'], 'tflite': ['ai_edge_litert']}.get(
    format_name, []
  ):
    pytest.importorskip(package, reason=f'extra {format_name}')
  export(
    resolve_export({'checkpoint_path': run, 'format': format_name, 'output': str(tmp_path / '1')})
  )
  plain, expected = classify(photos, run, calibrated=False), classify(photos, run)
  np.testing.assert_allclose(calibration.scaled(plain, calibrated.temperature), expected)
  files, images = [], []
  view = resolve_classify({'checkpoint_path': run}).ensemble.members[0].spec
  for photo in photos:
    with open(photo, 'rb') as file:
      files.append(file.read())
    images.append(view.preprocessing.eval_image(files[-1], 32, 32))
  inputs = Inputs(files, np.stack(images))
  for outputs_of in FORMATS[format_name].read(tmp_path / '1'):
    outputs = outputs_of(inputs)
    ranked = -np.sort(-expected) if outputs.ranked else expected
    np.testing.assert_allclose(outputs.probabilities, ranked, atol=1e-4)
    np.testing.assert_array_equal(outputs.decisions['in_set'], calibrated.sets.of(expected))
    abstains = [calibrated.abstains(of_image) for of_image in expected]
    np.testing.assert_array_equal(outputs.decisions['abstains'], abstains)
  content = json.loads((tmp_path / '1' / 'export.json').read_text())
  assert content['calibration']['temperature'] == calibrated.temperature
  assert content['calibration']['sets']['thresholds'] == list(calibrated.sets.thresholds)


def test_a_calibration_of_something_else_is_not_used(run, calibrated, photos, tmp_path):
  other = tmp_path / 'other'
  shutil.copytree(run, other)
  np.testing.assert_array_equal(classify(photos, str(other)), classify(photos, run))
  tiny.random_net(3, seed=0).save(str(other / 'model.ckpt-1'))
  plain = classify(photos, str(other), calibrated=False)
  np.testing.assert_array_equal(classify(photos, str(other)), plain)
  with pytest.raises(
    ValueError, match='json is of another checkpoint of this name: slim-inception'
  ):
    classify(photos, str(other), calibrated=True)
  with pytest.raises(ValueError, match='json is for crops 1, not 10: slim-inception calibrate'):
    classify(photos, run, calibrated=True, crops='10')
  (other / 'model.ckpt-1.calibration.json').write_text('{"temperature": "hot"}')
  with pytest.raises(ValueError, match='model.ckpt-1.calibration.json'):
    classify(photos, str(other))
  (other / 'model.ckpt-1.calibration.json').unlink()
  with pytest.raises(ValueError, match='model.ckpt-1 has no calibration: slim-inception calibrate'):
    classify(photos, str(other), calibrated=True)


@pytest.mark.parametrize('kind', conformal.SCORES)
def test_sets_in_a_graph_are_those_of_classification(kind):
  rng = np.random.default_rng(0)
  probabilities = rng.dirichlet(np.full(12, 0.4), 500)
  labels = rng.integers(1, 12, 500)
  sets = conformal.fit(kind, 0.9, probabilities, labels, outputs=range(1, 12))
  expected = sets.of(probabilities)
  in_graph = tf.function(lambda p: in_set(p, sets))(tf.constant(probabilities, tf.float32)).numpy()
  margins = np.abs(conformal.SCORES[kind](probabilities) - np.array(sets.thresholds))
  np.testing.assert_array_equal(in_graph[margins > 1e-5], expected[margins > 1e-5])
  assert 0.05 < expected.mean() < 0.95 and np.mean(margins > 1e-5) > 0.99


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'dataset_split_name': 'train'}, '--dataset_split_name=train: a net is surer of images that'),
    ({'sets': 'adaptive'}, '--sets=adaptive needs --coverage'),
    ({'loss': 'sigmoid'}, '--loss=sigmoid: only nets of one label an image are calibrated'),
    ({'batch_norm_batches': '2'}, '--batch_norm_batches changes the net'),
    ({'coverage': '1'}, '--coverage=1: must be'),
    (
      {'coverage': '0.99'},
      r'0.99 needs at least 99 images, not 40 \(the thresholds are of 40 images',
    ),
    (
      {'coverage': '0.95', 'sets': 'class_conditional'},
      'needs at least 19 images of each, and .* of 3 classes have fewer, color',
    ),
    ({'max_error': '0.01'}, 'cannot be shown with 40 images: at least 597 are needed'),
  ],
)
def test_refused(run, calibrated, flags, message):
  path = f'{run}/model.ckpt-1.calibration.json'
  with open(path, 'rb') as file:
    content = file.read()
  with pytest.raises(ValueError, match=message):
    calibrate.calibrate(resolve({'checkpoint_path': run, **flags}))
  with open(path, 'rb') as file:
    assert file.read() == content


def test_an_ensemble_is_refused(run):
  with pytest.raises(ValueError, match='an ensemble is not calibrated'):
    resolve({'checkpoint_path': f'{run},{run}'})
  with pytest.raises(ValueError, match='--calibrated is for one checkpoint'):
    resolve_eval({'checkpoint_path': f'{run},{run}', 'calibrated': True})
