"""Logistic regression on features, against scikit-learn's by another solver."""

import warnings

import numpy as np
import pytest

from slim_inception.embed import linear

WIDTH, CLASSES = 12, 4


def clouds(count=160, seed=0, spread=2.0, kind=np.float64):
  """Features around a centre for each class, and labels; lengths and means are not 1 and 0."""
  rng = np.random.default_rng(seed)
  centres = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
  labels = rng.integers(0, CLASSES, count)
  features = 30 * (centres[labels] + spread * rng.normal(size=(count, WIDTH))) + 100
  return features.astype(kind), labels


def reference(features, labels, l2):
  """scikit-learn's, of the same objective."""
  sklearn = pytest.importorskip('sklearn.linear_model')
  scale = np.sqrt(np.square(features - features.mean(0)).sum(-1).mean())
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return sklearn.LogisticRegression(
      C=1 / (l2 * scale**2 * len(labels)), tol=1e-10, max_iter=20_000, solver='newton-cg'
    ).fit(features - features.mean(0), labels)


@pytest.mark.parametrize('l2', [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(('kind', 'tolerance'), [(np.float64, 2e-3), (np.float32, 5e-3)])
def test_a_head_is_that_of_scikit_learn(l2, kind, tolerance):
  features, labels = clouds(kind=kind)
  head = linear.fit(features, labels, CLASSES, l2)
  expected = reference(features.astype(np.float64), labels, l2)
  others = clouds(50, seed=1)[0]
  np.testing.assert_allclose(
    head.probabilities(others),
    expected.predict_proba(others - features.astype(np.float64).mean(0)),
    atol=tolerance,
  )
  assert head.probabilities(others).sum(-1) == pytest.approx(1)


def test_two_classes_have_a_head_too():
  features, labels = clouds(spread=6.0)
  labels = np.where(labels > 1, 3, 1)
  head = linear.fit(features, labels, CLASSES, 1e-2)
  expected = reference(features, labels, 1e-2).predict_proba(features - features.mean(0))
  np.testing.assert_allclose(head.probabilities(features)[:, [1, 3]], expected, atol=2e-3)
  assert (head.probabilities(features)[:, [0, 2]] == 0).all()


def test_a_path_ends_where_a_fresh_start_does():
  features, labels = clouds()
  for head in linear.path(features, labels, CLASSES, [1e-1, 1e-2, 1e-3]):
    alone = linear.fit(features, labels, CLASSES, head.l2)
    np.testing.assert_allclose(
      head.probabilities(features), alone.probabilities(features), atol=1e-3
    )


@pytest.mark.parametrize('most', [1, 1e10])
def test_small_heads_are_fitted_by_one_thread(most, monkeypatch):
  sklearn, pools = (pytest.importorskip(name) for name in ('sklearn.linear_model', 'threadpoolctl'))
  monkeypatch.setattr(linear, '_MOST_OF_ONE_THREAD', most)

  def threads():
    return {each['num_threads'] for each in pools.threadpool_info() if each['user_api'] == 'blas'}

  with pools.threadpool_limits(2, user_api='blas'):
    before, within = threads(), []
    fit = sklearn.LogisticRegression.fit
    monkeypatch.setattr(
      sklearn.LogisticRegression, 'fit', lambda *some: within.append(threads()) or fit(*some)
    )
    linear.fit(*clouds(), CLASSES, 1e-2)
    assert within == [{1} if most > 1 else before] and threads() == before


def test_the_strength_is_that_of_the_least_held_out_loss():
  features, labels = clouds(spread=4.0)
  held_out = linear.folds_of(labels, 5) == 0
  fitted = linear.fit_chosen(features, labels, CLASSES, held_out)
  losses = {}
  for l2 in linear.STRENGTHS:
    model = reference(features[~held_out], labels[~held_out], l2)
    apart = features[held_out] - features[~held_out].mean(0)
    losses[l2] = linear.cross_entropy(model.predict_proba(apart), labels[held_out])
  assert fitted.head.l2 == min(losses, key=losses.get)
  assert fitted.losses[fitted.head.l2] == pytest.approx(losses[fitted.head.l2], rel=1e-3)
  assert fitted.head.l2 not in (linear.STRENGTHS[0], linear.STRENGTHS[-1])


def test_folds_are_even_in_all_and_in_each_class():
  labels = np.random.default_rng(0).choice(5, 97, p=[0.5, 0.3, 0.1, 0.05, 0.05])
  folds = linear.folds_of(labels, 4)
  table = np.array([np.bincount(folds[labels == label], minlength=4) for label in range(5)])
  assert np.ptp(table, axis=1).max() <= 1 and np.ptp(table.sum(0)) <= 1
  np.testing.assert_array_equal(folds, linear.folds_of(labels, 4))
  assert (folds != linear.folds_of(labels, 4, seed=1)).any()


def test_classes_without_an_image_have_probability_0():
  features, labels = clouds(count=60)
  head = linear.fit(features[labels != 1], labels[labels != 1], CLASSES + 1, 1e-2)
  probabilities = head.probabilities(features)
  assert (probabilities[:, [1, CLASSES]] == 0).all()
  assert probabilities.sum(-1) == pytest.approx(1)
  assert linear.cross_entropy(probabilities, labels) < np.inf


def test_what_cannot_be_fitted_is_one_line():
  features, labels = clouds(count=20)
  with pytest.raises(ValueError, match=r'20 images of 1 class\(es\): a head needs two classes'):
    linear.fit(features, np.zeros_like(labels), CLASSES, 1.0)
  features[3, 2] = np.nan
  with pytest.raises(ValueError, match='features are not finite numbers'):
    linear.fit(features, labels, CLASSES, 1.0)
