"""Figures of an evaluation, against loops and scikit-learn."""

import math

import numpy as np
import pytest

from slim_inception.evaluate import ground_truth, metrics
from slim_inception.evaluate.metrics import Predictions


def predictions(count=400, classes=7, answers=1, seed=0) -> Predictions:
  """Random predictions, a third of which are right; class 3 has no image and 4 no prediction."""
  rng = np.random.default_rng(seed)
  right = np.full((count, answers), -1, np.int32)
  right[:, 0] = rng.choice([label for label in range(classes) if label != 3], count)
  for row in right:
    more = rng.integers(0, answers)
    others = [label for label in range(classes) if label not in (row[0], 3)]
    row[1 : 1 + more] = rng.choice(others, more, replace=False)
  top = np.array([rng.permutation(classes)[:5] for _ in range(count)], np.int32)
  lucky = rng.random(count) < 0.3
  top[lucky] = [
    [label, *[other for other in range(classes) if other != label][:4]] for label in right[lucky, 0]
  ]
  for row in top:
    if row[0] == 4:
      row[:] = [5, 4, 0, 1, 2]
  probabilities = -np.sort(-rng.dirichlet(np.ones(classes), count), axis=1)[:, :5]
  return Predictions(np.arange(count), [''] * count, right, top, probabilities.astype(np.float32))


@pytest.mark.parametrize('answers', [1, 3])
def test_summary_is_that_of_a_loop(answers):
  given = predictions(answers=answers)
  summary = metrics.summary(given, 7, {4: 'four'})
  top_1 = top_5 = 0
  by_class = {}
  for right, top in zip(given.labels.tolist(), given.top.tolist(), strict=True):
    right = [label for label in right if label >= 0]
    top_1 += top[0] in right
    top_5 += any(label in right for label in top)
    counts_for = top[0] if top[0] in right else right[0]
    by_class.setdefault(counts_for, []).append(top[0] in right)
  assert 0 < top_1 < top_5 < 400
  assert summary['num_images'] == 400
  assert summary['top_1'] == top_1 / 400 and summary['top_1_error'] == (400 - top_1) / 400
  assert summary['top_5'] == top_5 / 400 and summary['top_5_error'] == (400 - top_5) / 400
  recalls = [np.mean(hits) for hits in by_class.values()]
  assert summary['mean_class_accuracy'] == pytest.approx(np.mean(recalls))
  assert summary['num_classes_with_images'] == len(by_class) == 6
  assert summary['never_predicted'] == ['four']
  low, high = summary['top_1_interval']
  assert low < top_1 / 400 < high
  np.testing.assert_allclose(summary['top_1_error_interval'], [1 - high, 1 - low], rtol=1e-12)


def test_figures_by_class_are_scikit_learns():
  scikit_learn = pytest.importorskip('sklearn.metrics', reason='extra demo')
  given = predictions()
  true, predicted = given.labels[:, 0], given.top[:, 0]
  precision, recall, f1, count = scikit_learn.precision_recall_fscore_support(
    true, predicted, labels=range(7), zero_division=np.nan
  )
  table = metrics.per_class(given, 7)
  np.testing.assert_array_equal(table.count, count)
  np.testing.assert_array_equal(table.predicted, np.bincount(predicted, minlength=7))
  for got, expected in ((table.precision, precision), (table.recall, recall), (table.f1, f1)):
    np.testing.assert_allclose(got, expected)
  assert math.isnan(table.recall[3]) and math.isnan(table.precision[4])

  matrix = np.zeros((7, 7), int)
  sparse = metrics.confusion(given, 7)
  matrix[sparse.true, sparse.predicted] = sparse.count
  np.testing.assert_array_equal(
    matrix, scikit_learn.confusion_matrix(true, predicted, labels=range(7))
  )
  assert sparse.count.all()


def test_an_image_with_several_labels_counts_for_the_predicted_one():
  given = Predictions(
    np.arange(3),
    [''] * 3,
    labels=np.array([[0, 2], [0, 2], [1, -1]]),
    top=np.array([[2, 0, 1], [1, 2, 0], [0, 1, 2]]),
    probabilities=np.full((3, 3), 1 / 3),
  )
  sparse = metrics.confusion(given, 3)
  assert list(zip(*(column.tolist() for column in sparse), strict=True)) == [
    (0, 1, 1),
    (1, 0, 1),
    (2, 2, 1),
  ]
  assert metrics.per_class(given, 3).count.tolist() == [1, 1, 1]
  assert given.right.tolist() == [True, False, False]


@pytest.mark.parametrize(
  ('successes', 'trials', 'low', 'high'),
  [  # Newcombe 1998, table I, method 3
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_intervals_are_those_of_the_table(successes, trials, low, high):
  assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
  mirrored = metrics.wilson_interval(trials - successes, trials)
  assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)
  assert 0 <= mirrored[0] < mirrored[1] <= 1


def test_calibration_is_that_of_a_loop():
  given = predictions()
  given.probabilities[:4, 0] = [0, 1, 0.2, 1.0004]  # the ends, an edge, bfloat16's rounding
  bins = metrics.calibration_bins(given)
  members = [[] for _ in range(15)]
  for probability, right in zip(given.probabilities[:, 0].tolist(), given.right, strict=True):
    number = next((k for k in range(15) if probability <= (k + 1) / 15), 14)
    members[number].append((probability, right))
  assert [entry.count for entry in bins] == [len(found) for found in members]
  error = 0
  for entry, found in zip(bins, members, strict=True):
    if found:
      confidence, accuracy = np.mean(found, axis=0)
      assert (entry.confidence, entry.accuracy) == pytest.approx((confidence, accuracy))
      error += len(found) / 400 * abs(confidence - accuracy)
  assert metrics.summary(given, 7, {})['expected_calibration_error'] == pytest.approx(error)


def test_a_net_that_diverged_has_no_calibration():
  given = predictions()
  given.probabilities[7] = np.nan
  summary = metrics.summary(given, 7, {})
  assert summary['expected_calibration_error'] is None
  assert sum(entry['count'] for entry in summary['calibration_bins']) == 399


def test_nothing_evaluated_is_an_error():
  nothing = Predictions(*(a[:0] for a in vars(predictions()).values() if a is not None))
  with pytest.raises(ValueError, match='no image was evaluated'):
    metrics.summary(nothing, 7, {})


def test_names_that_classes_share_are_told_apart():
  names = {0: 'crane', 1: 'dog', 2: 'crane'}
  assert metrics.distinct_names(names) == {0: 'crane (0)', 1: 'dog', 2: 'crane (2)'}


@pytest.mark.parametrize('levels', [3, 50, None])
def test_average_precision_is_scikit_learns(levels):
  """With many equal scores, with some, with none; without a positive there is none."""
  scikit_learn = pytest.importorskip('sklearn.metrics', reason='extra demo')
  rng = np.random.default_rng(levels or 0)
  scores = rng.random((200, 6), np.float32) if levels is None else rng.integers(0, levels, (200, 6))
  counts = rng.integers(0, 4, 200)
  rows = [sorted(rng.choice(5, count, replace=False).tolist()) for count in counts]  # 5 is nobody's
  labels = ground_truth.padded(rows)
  top = np.argsort(-scores, axis=1, kind='stable')[:, :5]
  predictions = metrics.Predictions(
    np.arange(200), [''] * 200, labels, top, np.take_along_axis(scores, top, 1), scores
  )
  truth = np.array([[label in row for label in range(6)] for row in rows])
  ranking = metrics.ranking(predictions, 6)
  np.testing.assert_array_equal(ranking.positives, truth.sum(0))
  expected = scikit_learn.average_precision_score(truth[:, :5], scores[:, :5], average=None)
  np.testing.assert_allclose(ranking.average_precision[:5], expected, rtol=1e-12)
  assert math.isnan(ranking.average_precision[5])
  assert ranking.summary()['mean_average_precision'] == pytest.approx(expected.mean())


@pytest.mark.parametrize('levels', [2, 5, 10_000])
def test_outliers_are_told_apart_as_by_scikit_learn(levels):
  """Scores of few levels have many ties."""
  sklearn = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(levels)
  outliers, others = rng.integers(0, levels, 30) + levels // 3, rng.integers(0, levels, 50)
  labels, scores = [1] * 30 + [0] * 50, np.concatenate([outliers, others])
  area = metrics.auroc(outliers, others)
  assert area == pytest.approx(sklearn.roc_auc_score(labels, scores))
