"""Temperatures and abstention, against SciPy, scikit-learn and simulated nets."""

import numpy as np
import pytest

from slim_inception.evaluate import calibration, metrics


def softmax(logits):
  raised = np.exp(logits - logits.max(-1, keepdims=True))
  return raised / raised.sum(-1, keepdims=True)


def simulated(count=3000, classes=10, temperature=1.0, seed=0, spread=2.0):
  """A net whose logits have to be divided by `temperature`: probabilities and labels."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, spread, (count, classes))
  labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)  # drawn from softmax(logits)
  return softmax(temperature * logits), labels


@pytest.mark.parametrize('temperature', [0.4, 1.0, 2.5])
def test_the_temperature_is_found_that_was_put_in(temperature):
  optimize = pytest.importorskip('scipy.optimize', reason='extra demo')
  probabilities, labels = simulated(temperature=temperature)
  fitted = calibration.fit_temperature(probabilities, labels)
  assert fitted == pytest.approx(temperature, rel=0.06)

  def loss(value):
    return calibration.negative_log_likelihood(softmax(np.log(probabilities) / value), labels)

  best = optimize.minimize_scalar(
    loss, bounds=(0.01, 100), method='bounded', options={'xatol': 1e-9}
  )
  assert fitted == pytest.approx(best.x, rel=1e-5)
  assert loss(fitted) <= loss(1.0) + 1e-12


def test_scaling_divides_logits_and_keeps_the_order():
  logits = np.random.default_rng(0).normal(0, 8, (50, 20))
  for temperature in (0.3, 1.0, 1.7, 30.0):
    scaled = calibration.scaled(softmax(logits), temperature)
    np.testing.assert_allclose(scaled, softmax(logits / temperature), rtol=1e-9)
    np.testing.assert_array_equal(np.argsort(-scaled), np.argsort(-logits))
  some = calibration.scaled(np.array([0.0, 0.5, 0.5], np.float32), 2)
  np.testing.assert_allclose(some, [0, 0.5, 0.5])


def test_the_error_is_that_of_the_report_and_falls():
  probabilities, labels = simulated(temperature=2.5)
  right = probabilities.argmax(-1) == labels
  before, interval = calibration.calibration_error(probabilities.max(-1), right)
  predictions = metrics.Predictions(
    np.arange(3000), [''] * 3000, labels[:, None], np.argsort(-probabilities)[:, :5],
    -np.sort(-probabilities)[:, :5],
  )  # fmt: skip
  expected = metrics.expected_calibration_error(metrics.calibration_bins(predictions), 3000)
  assert before == pytest.approx(expected, rel=1e-6)
  assert interval[0] < before < interval[1]
  fitted = calibration.fit_temperature(*simulated(temperature=2.5, seed=1))
  scaled = calibration.scaled(probabilities, fitted)
  after, other = calibration.calibration_error(scaled.max(-1), right)
  assert after < 0.25 * before and other[1] < interval[0]


def test_what_has_no_temperature_is_said():
  probabilities = simulated(200)[0]
  labels = probabilities.argmax(-1)
  with pytest.raises(ValueError, match='all 200 images are classified rightly: only wrong answers'):
    calibration.fit_temperature(probabilities, labels)
  with pytest.raises(ValueError, match='say nothing of the labels'):
    calibration.fit_temperature(probabilities, probabilities.argmin(-1))


def test_risk_and_coverage_are_loops():
  probabilities, labels = simulated(300)
  confidence, right = np.round(probabilities.max(-1), 1), probabilities.argmax(-1) == labels
  curve = calibration.risk_coverage(confidence, right)
  assert curve.threshold.tolist() == sorted(set(confidence.tolist()), reverse=True)
  for threshold, coverage, risk in zip(*curve, strict=True):
    kept = confidence >= threshold
    assert coverage == pytest.approx(kept.mean()) and risk == pytest.approx(1 - right[kept].mean())
  assert 0 < curve.area < 1 - right.mean()


@pytest.mark.parametrize('counts', [(0, 30), (3, 50), (200, 4000), (7, 8), (5, 5)])
def test_the_bound_is_clopper_and_pearsons(counts):
  stats = pytest.importorskip('scipy.stats', reason='extra demo')
  errors, count = counts
  expected = stats.binomtest(errors, count, alternative='less').proportion_ci(0.99, 'exact').high
  assert calibration.upper_bound(errors, count, 0.01) == pytest.approx(expected, rel=1e-8)


def test_the_error_rate_stays_below_that_asked_for():
  confidence, right = _confident(200_000, 99)
  broken = 0
  for seed in range(200):
    some = calibration.abstention(*_confident(600, seed), max_error=0.1)
    kept = confidence >= some.threshold
    broken += 1 - right[kept].mean() > 0.1
    assert some.risk < some.bound <= 0.1
    assert some.coverage > 0.1
  assert broken <= 10  # 5 % of 200


def _confident(count, seed):
  probabilities, labels = simulated(count, seed=seed, spread=5.0)
  return probabilities.max(-1), probabilities.argmax(-1) == labels


def test_an_error_rate_that_cannot_be_had_is_refused():
  with pytest.raises(ValueError, match='cannot be shown with 50 images: at least 117 are needed'):
    calibration.abstention(*_confident(50, 0), max_error=0.05)
  confidence = np.linspace(0, 1, 1000)
  with pytest.raises(ValueError, match='no threshold has an error rate of at most 0.05 for sure'):
    calibration.abstention(confidence, np.arange(1000) % 2 == 0, max_error=0.05)
