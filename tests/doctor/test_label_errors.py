"""Predictions of images held out and confident learning, beside scikit-learn and plain loops."""

import numpy as np
import pytest

from slim_inception.doctor import label_errors

CLASSES, EACH, WIDTH = 4, 60, 10


@pytest.fixture(scope='module')
def planted():
  """Embeddings, labels of which 20 are wrong, and which these are."""
  rng = np.random.default_rng(0)
  true = np.repeat(np.arange(CLASSES), EACH)
  centres = rng.normal(size=(CLASSES, WIDTH)) * 1.5
  rows = (centres[true] + rng.normal(size=(len(true), WIDTH))).astype(np.float32)
  wrong = rng.choice(len(true), 20, replace=False)
  labels = true.copy()
  labels[wrong] = (true[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
  return rows, labels, wrong


def test_heads_are_those_of_scikit_learn(planted):
  analysis = pytest.importorskip('sklearn.discriminant_analysis', reason='extra demo')
  rows, labels, _ = planted
  folds = label_errors.folds_of(labels, np.arange(len(labels)))
  moments = label_errors._Moments.of(rows, labels, folds, CLASSES)
  for fold, shrinkage in [(0, 0.01), (3, 0.3)]:
    rest = folds != fold
    head = analysis.LinearDiscriminantAnalysis(solver='lsqr', shrinkage=shrinkage)
    head.fit(rows[rest].astype(np.float64), labels[rest])
    weights, biases = moments.discriminant(fold, shrinkage)
    np.testing.assert_allclose(weights, head.coef_.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(biases, head.intercept_, rtol=1e-4, atol=1e-5)


def test_planted_labels_are_suspects(planted, monkeypatch):
  rows, labels, wrong = planted
  folds = label_errors.folds_of(labels, np.arange(len(labels)))
  monkeypatch.setattr(label_errors, '_BLOCK', 70)
  held_out = label_errors.HeldOut.of(rows, labels, folds)
  joint = label_errors.confident_joint(held_out.blocks, labels)
  probabilities = np.concatenate([block for _, block in held_out.blocks()])
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
  assert joint.accuracy == (probabilities.argmax(1) == labels).mean() > 0.85
  suspects = joint.suspects(labels)
  assert len(set(suspects.images.tolist()) & set(wrong.tolist())) >= 18
  assert len(suspects.images) <= 25
  assert abs(joint.share_wrong - 20 / len(labels)) < 0.03
  margins = suspects.probability - suspects.of_label
  assert (np.diff(margins) <= 0).all()


def test_the_joint_counts_as_the_paper_does():
  rng = np.random.default_rng(1)
  probabilities = rng.dirichlet(np.ones(3), 50)
  labels = rng.integers(0, 3, 50)
  thresholds = [
    np.mean([p[j] for p, k in zip(probabilities, labels, strict=True) if k == j]) for j in range(3)
  ]
  expected = np.zeros((3, 3), int)
  for p, label in zip(probabilities, labels, strict=True):
    above = [j for j in range(3) if p[j] >= thresholds[j]]
    if above:
      expected[label, max(above, key=lambda j: p[j])] += 1
  halves = [(slice(0, 20), probabilities[:20]), (slice(20, 50), probabilities[20:])]
  joint = label_errors.confident_joint(lambda: iter(halves), labels)
  np.testing.assert_array_equal(joint.counts, expected)


def test_folds_keep_groups_together_and_classes_apart():
  labels = np.repeat(np.arange(3), 20)
  groups = np.arange(60)
  groups[[0, 25, 59]] = 0
  folds = label_errors.folds_of(labels, groups)
  assert len(set(folds[[0, 25, 59]].tolist())) == 1
  for label in range(3):
    counts = np.bincount(folds[labels == label], minlength=label_errors.FOLDS)
    assert counts.min() >= 3 and counts.max() <= 5


def test_a_class_of_one_image_has_no_head_when_it_is_held_out(planted):
  rows, labels, _ = planted
  labels = np.append(labels, CLASSES)
  rows = np.concatenate([rows, rows[:1]])
  folds = label_errors.folds_of(labels, np.arange(len(labels)))
  held_out = label_errors.HeldOut.of(rows, labels, folds)
  probabilities = np.concatenate([block for _, block in held_out.blocks()])
  assert np.isfinite(probabilities).all() and probabilities[-1, CLASSES] == 0


def test_a_class_of_one_image_is_not_judged():
  """No head has seen its label: the image would be told as wrong, and left out of training."""
  labels = np.array([7, 2, 7, 2, 9, 4, 4])
  groups = np.array([0, 1, 2, 3, 4, 5, 5])  # the last are copies of one image
  folds = label_errors.folds_of(labels, groups)
  judged = label_errors.in_several_folds(labels, folds)
  assert judged.tolist() == [True, True, True, True, False, False, False]
  assert not label_errors.in_several_folds(labels[:0], folds[:0]).size
