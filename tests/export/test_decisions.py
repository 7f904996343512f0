"""Sets and abstention of exports, against those of classification for the same probabilities."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
from slim_inception.preprocessing.preprocessing_factory import INCEPTION

from slim_inception.evaluate import conformal
from slim_inception.evaluate.calibration import Abstention
from slim_inception.export import config as export_config
from slim_inception.export.classifier import LABELS_FILE, Classifier, Inputs, Task
from slim_inception.export.export import FORMATS
from slim_inception.export.verification import RUNTIMES
from tests import records, tiny

pytestmark = pytest.mark.integration

CLASSES = 12


@pytest.fixture(scope='module')
def model():
  return tiny.random_net(CLASSES, seed=2).fold_batch_norm()


@pytest.fixture(scope='module')
def images():
  rng = np.random.default_rng(0)
  return rng.uniform(-1, 1, (40, 32, 32, 3)).astype(np.float32)


def calibrated(model, images, kind):
  """A classifier with sets of half of the classes, about, which abstains from half of the images.

  No score of one of the images is near a threshold, unless the export makes it another one.
  """
  classifier = Classifier(model, INCEPTION, [f'class {i}' for i in range(CLASSES)])
  probabilities = classifier.probabilities(images).numpy()
  scores = np.sort(conformal.SCORES[kind](probabilities), axis=None)
  middle = len(scores) // 2 + np.arange(CLASSES if kind == 'class_conditional' else 1)
  thresholds = (scores[middle] + scores[middle + 1]) / 2
  classifier.sets = conformal.Sets(kind, 0.9, tuple(thresholds.tolist()))
  threshold = float(np.mean(np.sort(probabilities.max(-1))[19:21]))
  classifier.abstention = Abstention(0.1, threshold, 0.5, 0.1, 0.1)
  return classifier, probabilities


def write(folder, classifier, images, format_name, quantize='none'):
  """What each program says of the images, and export.json of the export."""
  for package in export_config.PACKAGES[format_name]:
    pytest.importorskip(package, reason=f'extra {format_name}')
  (folder / LABELS_FILE).write_text('\n'.join(classifier.names) + '\n')
  task = Task(classifier, quantize, lambda: iter(images))
  described = FORMATS[format_name].write(task, folder)
  runtimes = [r for r in RUNTIMES[format_name] if not r.package or find_spec(r.package)]
  inputs = Inputs([records.image(0, 0)] * len(images), images)
  return {runtime.name: runtime.read(folder)(inputs) for runtime in runtimes}, described


@pytest.mark.parametrize(
  ('format_name', 'quantize', 'kind'),
  [
    ('saved_model', 'none', 'adaptive'),  # the graph itself: tests/evaluate/test_calibrate.py
    *(
      (*exported, kind)
      for exported in (
        ('onnx', 'none'),
        ('tflite', 'none'),
        ('tflite', 'float16'),
        ('tflite', 'int8'),
      )
      for kind in conformal.SCORES
    ),
  ],
)
def test_exports_decide_as_classification(tmp_path, model, images, format_name, quantize, kind):
  classifier, probabilities = calibrated(model, images, kind)
  programs, described = write(tmp_path, classifier, images, format_name, quantize)
  is_saved_model = format_name == 'saved_model'
  said = described['signatures']['images'] if is_saved_model else described['decisions']
  assert said['in_set'].startswith('[N, classes] bool')
  programs.pop('TensorFlow, files', None)  # of other images
  for outputs in programs.values():
    assert list(outputs.decisions) == ['in_set', 'abstains']
    if not is_saved_model:
      tolerance = {'none': 1e-6, 'float16': 1e-3}.get(quantize, 0.02)
      np.testing.assert_allclose(outputs.probabilities, probabilities, atol=tolerance)
    own = probabilities if is_saved_model else outputs.probabilities
    scores = conformal.SCORES[kind](own.astype(np.float64))
    margins = np.abs(scores - np.array(classifier.sets.thresholds))
    clear = margins > 1e-5  # of sums in float32 beside sums in float64
    expected = classifier.sets.of(own)
    assert clear.mean() > 0.99 and 0.2 < expected.mean() < 0.8
    np.testing.assert_array_equal(outputs.decisions['in_set'][clear], expected[clear])
    abstains = own.max(-1) < classifier.abstention.threshold
    np.testing.assert_array_equal(outputs.decisions['abstains'], abstains)
    assert 0.2 < abstains.mean() < 0.8


@pytest.mark.parametrize('format_name', ['onnx', 'tflite'])
def test_without_a_calibration_there_are_probabilities_alone(tmp_path, model, images, format_name):
  classifier = Classifier(model, INCEPTION, [str(i) for i in range(CLASSES)])
  programs, described = write(tmp_path, classifier, images, format_name)
  assert described['decisions'] == {}
  assert all(outputs.decisions == {} for outputs in programs.values())


def test_a_set_keeps_its_threshold_and_equal_numbers_their_order(tmp_path, model, images):
  """What of several equal probabilities is in a set: the first, as in classification."""
  classifier, _ = calibrated(model, images, 'adaptive')
  uniform = np.full((1, CLASSES), 1 / CLASSES, np.float32)
  for threshold, count in ((0.0, 1), (2.5 / CLASSES, 3), (0.99, CLASSES)):
    sets = classifier.sets = dataclasses.replace(classifier.sets, thresholds=(threshold,))
    in_graph = classifier.decisions(classifier.probabilities(images[:1]) * 0 + uniform)['in_set']
    expected = np.arange(CLASSES) < count
    np.testing.assert_array_equal(in_graph[0], expected)
    np.testing.assert_array_equal(sets.of(uniform)[0], expected)
