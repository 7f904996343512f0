"""Figures beside plain loops, scipy and pytorch-fid."""

import math
import tracemalloc

import numpy as np
import pytest

from slim_inception.fid import figures, statistics

WIDTH = 12


def features(count, seed=0, width=WIDTH, shift=0.0):
  rng = np.random.default_rng(seed)
  mixing = np.random.default_rng(99).standard_normal((width, width))
  return (rng.standard_normal((count, width)) @ mixing + shift).astype(np.float32)


def statistics_of(features):
  features = features.astype(np.float64)
  return figures.Statistics(features.mean(0), np.cov(features, rowvar=False))


REAL, FAKE = features(40, 1), features(31, 2, shift=0.3)


def test_frechet_distance_of_independent_features():
  mean, other = np.array([1.0, 2.0]), np.array([0.0, 2.5])
  real = figures.Statistics(mean, np.diag([4.0, 0.0]))
  generated = figures.Statistics(other, np.diag([9.0, 1.0]))
  # |m - n|^2 + sum (sqrt(c) - sqrt(d))^2
  assert figures.frechet_distance(real, generated) == pytest.approx(1.25 + 1 + 1)
  assert figures.frechet_distance(real, real) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('count', [400, 9], ids=['many', 'fewer than features'])
def test_frechet_distance_beside_scipy(count):
  linalg = pytest.importorskip('scipy.linalg', reason='scipy is not installed')
  sets = features(count, 1), features(count, 2, shift=0.3)
  means = [each.mean(0, dtype=np.float64) for each in sets]
  covariances = [np.cov(each, rowvar=False) for each in sets]
  root = linalg.sqrtm(covariances[0] @ covariances[1]).real
  expected = ((means[0] - means[1]) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
  ours = figures.frechet_distance(*map(statistics_of, sets))
  assert ours == pytest.approx(expected, abs=1e-3)
  assert figures.frechet_distance_of_features(*sets) == pytest.approx(ours, abs=1e-6)


def test_frechet_distance_of_pytorch_fid():
  theirs = pytest.importorskip('pytorch_fid.fid_score', reason='pytorch-fid is not installed')
  sets = features(3000, 1, 64), features(2500, 2, 64, shift=0.1)
  stored = [(each.mean(0), np.cov(each, rowvar=False)) for each in sets]
  expected = theirs.calculate_frechet_distance(*stored[0], *stored[1])
  ours = figures.frechet_distance(*(figures.Statistics(*each) for each in stored))
  assert ours == pytest.approx(expected, abs=1e-3)


def test_frechet_distance_of_two_images_is_a_real_number():
  sets = features(2, 1, 64), features(2, 2, 64)
  distance = figures.frechet_distance(*map(statistics_of, sets))
  assert isinstance(distance, float) and math.isfinite(distance)
  assert distance == pytest.approx(figures.frechet_distance_of_features(*sets), rel=1e-6)


def test_the_bias_of_few_images():
  """Of sets of one distribution all of FID is bias, but for chance."""
  sets = features(200, 1, 64), features(200, 2, 64)
  distance = figures.frechet_distance_of_features(*sets)
  bias = figures.frechet_bias(*sets)
  assert distance > 10
  assert bias == pytest.approx(distance, rel=0.25)


def kernel(x, y):
  return (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def test_kernel_distance():
  real, fake = REAL[:31], FAKE
  count = len(fake)
  pairs = [(i, j) for i in range(count) for j in range(count)]
  within = sum(kernel(z[i], z[j]) for z in (real, fake) for i, j in pairs if i != j)
  between = sum(kernel(real[i], fake[j]) for i, j in pairs)
  expected = within / (count * (count - 1)) - 2 * between / count**2
  ours = figures.kernel_distance(real, fake, subsets=2)
  assert ours.mean == pytest.approx(expected, rel=1e-9)
  assert ours.deviation == pytest.approx(0, abs=1e-9)
  assert (ours.parts, ours.size) == (2, count)


def test_kernel_distance_of_subsets_has_no_bias():
  whole = figures.kernel_distance(REAL[:31], FAKE, subsets=1).mean
  of_subsets = figures.kernel_distance(REAL[:31], FAKE, subsets=3000, size=8)
  error = of_subsets.deviation / math.sqrt(3000)
  assert abs(of_subsets.mean - whole) < 4 * error
  assert figures.kernel_distance(REAL, FAKE, 5, 8) == figures.kernel_distance(REAL, FAKE, 5, 8)
  assert figures.kernel_distance(REAL, FAKE, 5, 8, seed=1) != figures.kernel_distance(
    REAL, FAKE, 5, 8
  )


def test_inception_score():
  rng = np.random.default_rng(0)
  probabilities = rng.dirichlet([0.3] * 7, 23)
  scores = []
  for part in (probabilities[:8], probabilities[8:16], probabilities[16:]):
    of_class = [sum(column) / len(part) for column in part.T.tolist()]
    terms = [
      sum(p * math.log(p / q) for p, q in zip(row, of_class, strict=True)) for row in part.tolist()
    ]
    scores.append(math.exp(sum(terms) / len(part)))
  ours = figures.inception_score(probabilities, splits=3)
  assert ours.mean == pytest.approx(sum(scores) / 3)
  assert ours.deviation == pytest.approx(np.std(scores))
  assert (ours.parts, ours.size) == (3, 7)
  # As many classes as images, each certain: the score is their number; zeros are no fault.
  assert figures.inception_score(np.eye(5), 1).mean == pytest.approx(5)
  assert figures.inception_score(np.full((5, 4), 0.25), 100).mean == pytest.approx(1)


def test_class_probabilities():
  weights = np.random.default_rng(0).standard_normal((WIDTH, 5))
  ours = figures.class_probabilities(1000 * REAL, weights)
  for row, x in zip(ours, REAL, strict=True):
    logits = [1000 * sum(a * b for a, b in zip(map(float, x), w, strict=True)) for w in weights.T]
    expected = [math.exp(logit - max(logits)) for logit in logits]
    np.testing.assert_allclose(row, np.array(expected) / sum(expected), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('neighbors', [1, 3])
def test_precision_and_recall(neighbors, monkeypatch):
  def distance(x, y):
    return math.dist(map(float, x), map(float, y))

  def coverage(points, others):
    radii = [
      sorted(distance(o, p) for j, p in enumerate(others) if i != j)[neighbors - 1]
      for i, o in enumerate(others)
    ]
    inside = [any(distance(p, o) <= r for o, r in zip(others, radii, strict=True)) for p in points]
    return sum(inside) / len(inside)

  monkeypatch.setattr(figures, '_BLOCK', 7)
  ours = figures.precision_and_recall(REAL, FAKE, neighbors)
  assert ours == (coverage(FAKE, REAL), coverage(REAL, FAKE))
  assert 0 < ours.precision < 1 and 0 < ours.recall < 1
  assert figures.precision_and_recall(REAL, REAL + np.float32(1e3), neighbors) == (0, 0)
  assert figures.precision_and_recall(REAL, REAL, neighbors) == (1, 1)


def test_precision_and_recall_hold_a_few_blocks_of_distances(monkeypatch):
  monkeypatch.setattr(figures, '_BLOCK', 50)
  points = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
  tracemalloc.start()
  try:
    figures.precision_and_recall(points, points + 1)
    _, most = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert most < 2000 * 2000 * 8 / 4  # bytes of all distances


def test_precision_needs_neighbours():
  with pytest.raises(ValueError, match='with 3 neighbours .* which have 40 and 3'):
    figures.precision_and_recall(REAL, FAKE[:3])


def test_moments_are_those_of_all_at_once():
  values = features(50).astype(np.float64) + 1e6
  moments = statistics.Moments()
  for start, end in ((0, 1), (1, 20), (20, 50)):
    moments.add(values[start:end])
  np.testing.assert_allclose(moments.statistics.mean, values.mean(0), rtol=1e-12)
  np.testing.assert_allclose(
    moments.statistics.covariance, np.cov(values - 1e6, rowvar=False), rtol=1e-6, atol=1e-9
  )


def test_statistics_are_exchanged_with_pytorch_fid_and_clean_fid(tmp_path, monkeypatch):
  for name, size in (('FEATURES', WIDTH), ('SPATIAL_FEATURES', 5)):
    monkeypatch.setattr(statistics, name, size)
  pooled = statistics_of(REAL)
  np.savez_compressed(tmp_path / 'theirs.npz', mu=pooled.mean, sigma=pooled.covariance)
  stored = statistics.read(str(tmp_path / 'theirs.npz'))
  assert stored.spatial is None
  np.testing.assert_array_equal(stored.pooled.covariance, pooled.covariance)
  spatial = statistics_of(REAL[:, :5])
  path = tmp_path / 'new' / 'ours.npz'
  statistics.write(str(path), pooled, spatial)
  with np.load(path) as file:  # as they read it
    np.testing.assert_array_equal(file['mu'][:], pooled.mean)
    np.testing.assert_array_equal(file['sigma'][:], pooled.covariance)
  np.testing.assert_array_equal(statistics.read(str(path)).spatial.mean, spatial.mean)


def test_statistics_that_are_none(tmp_path):
  path = str(tmp_path / 'a.npz')
  np.savez(path, mu=np.zeros(768), sigma=np.zeros((768, 768)))
  with pytest.raises(ValueError, match=r'mu is float64 \[768\]; expected floats \[2048\]'):
    statistics.read(path)
  np.savez(path, mu=np.zeros(2048), sigma=np.full((2048, 2048), np.nan))
  with pytest.raises(ValueError, match='sigma has numbers that are not finite'):
    statistics.read(path)
  np.savez(path, mu=np.array([None]), sigma=np.zeros(1))
  with pytest.raises(ValueError, match=r'a\.npz is damaged: Object arrays cannot be loaded'):
    statistics.read(path)
  (tmp_path / 'a.npz').write_bytes(b'PK no')
  with pytest.raises(ValueError, match=r'a\.npz is no \.npz of NumPy'):
    statistics.read(path)
