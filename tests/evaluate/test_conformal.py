"""Sets of labels: what was promised holds on simulated nets, good and bad ones."""

import numpy as np
import pytest

from slim_inception.evaluate import calibration, conformal
from tests.evaluate.test_calibration import simulated

SPLITS = 200


@pytest.mark.parametrize('kind', conformal.SCORES)
@pytest.mark.parametrize('temperature', [1.0, 3.0], ids=['honest', 'overconfident'])
def test_the_coverage_holds_over_random_splits(kind, temperature):
  """The mean over splits is at least the coverage, up to its own error, and not much more."""
  probabilities, labels = simulated(1500, 6, temperature=temperature)
  rng = np.random.default_rng(0)
  coverages, of_classes = [], []
  for _ in range(SPLITS):
    order = rng.permutation(1500)
    fitted, tested = order[:600], order[600:]
    sets = conformal.fit(kind, 0.9, probabilities[fitted], labels[fitted])
    covered = sets.of(probabilities[tested])[np.arange(900), labels[tested]]
    coverages.append(covered.mean())
    of_classes.append([covered[labels[tested] == label].mean() for label in range(6)])
  error = np.std(coverages) / np.sqrt(SPLITS)
  assert 0.9 - 3 * error <= np.mean(coverages) <= 0.92
  if kind == 'class_conditional':
    assert (np.mean(of_classes, axis=0) >= 0.9 - 0.005).all()


def test_classes_that_are_hard_are_covered_only_where_each_class_has_a_threshold():
  probabilities, labels = simulated(6000, 4)
  shifted = calibration.scaled(probabilities * np.array([1, 1, 1, 0.05]), 1)  # rarely says the last
  half = slice(None, 3000), slice(3000, None)
  covered = {}
  for kind in ('plain', 'class_conditional'):
    sets = conformal.fit(kind, 0.9, shifted[half[0]], labels[half[0]])
    of_last = labels[half[1]] == 3
    covered[kind] = sets.of(shifted[half[1]])[of_last, 3].mean()
  assert covered['plain'] < 0.8 < 0.87 < covered['class_conditional']


def test_the_threshold_is_the_quantile_of_the_paper():
  scores = np.random.default_rng(0).permutation(100) / 100
  assert conformal.threshold(scores, 0.95) == 0.95  # the ceil(101 * 0.95) = 96th
  assert conformal.threshold(scores[:19], 0.95) == scores[:19].max()
  assert conformal.threshold(scores[:9], 0.9) == scores[:9].max()


@pytest.mark.parametrize(
  ('coverage', 'least'), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)]
)
def test_too_few_images_are_refused_by_the_least_number(coverage, least):
  assert conformal.least_images(coverage) == least
  conformal.threshold(np.zeros(least), coverage)
  with pytest.raises(ValueError, match=f'needs at least {least} images, not {least - 1}'):
    conformal.threshold(np.zeros(least - 1), coverage)


def test_a_class_with_too_few_images_is_named():
  probabilities, labels = simulated(400, 4)
  labels[labels == 2] = 1
  labels[:7] = 2
  with pytest.raises(
    ValueError, match=r'needs at least 19 images of each, and 1 of 4 classes have'
  ):
    conformal.fit('class_conditional', 0.95, probabilities, labels)
  with pytest.raises(ValueError, match='fewer, bird 7; --sets=plain takes the classes together'):
    conformal.fit('class_conditional', 0.95, probabilities, labels, {2: 'bird'}.__getitem__)


def test_adaptive_scores_are_the_probability_before_a_label():
  scores = conformal.SCORES['adaptive'](np.array([[0.2, 0.5, 0.3]]))
  np.testing.assert_allclose(scores, [[0.8, 0, 0.5]])
  many = conformal.SCORES['adaptive'](np.full((1, 8), 1 / 8))
  np.testing.assert_allclose(many[0, 5:], np.arange(5, 8) / 8 + [0.01, 0.02, 0.03])


def test_labels_without_an_output_are_in_no_set_of_classes():
  probabilities, labels = simulated(400, 4)
  probabilities = np.pad(probabilities, ((0, 0), (1, 0)))
  sets = conformal.fit('class_conditional', 0.9, probabilities, labels + 1, outputs=range(1, 5))
  assert not sets.of(probabilities)[:, 0].any()
