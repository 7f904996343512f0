"""What an exported classifier may differ by."""

import numpy as np
import pytest

from slim_inception.export.classifier import Outputs
from slim_inception.export.comparison import Accepted, compare

EXPECTED = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [0.0, 0.1, 0.9]], np.float32)
NAMES = ['a', 'b', 'c']


@pytest.mark.parametrize(
  ('best', 'agreement'), [('abc', 1.0), ('acc', 1.0), ('bbc', 2 / 3), ('bab', 0.0)]
)
def test_the_best_class_counts_unless_two_are_equally_good(best, agreement):
  found = compare(EXPECTED, NAMES, Outputs(list(best), EXPECTED, ranked=False), 0.01)
  assert (found.images, found.difference) == (3, 0)
  assert found.agreement == pytest.approx(agreement)


def test_ranked_probabilities_are_compared_in_their_order():
  ranked = np.array([[0.7, 0.2], [0.45, 0.45], [0.9, 0.15]])
  found = compare(EXPECTED, NAMES, Outputs(list('abc'), ranked, ranked=True), 0.01)
  assert found.difference == pytest.approx(0.05)


def test_classes_may_have_the_same_name():
  found = compare(EXPECTED, ['crane', 'b', 'crane'], Outputs(['crane'] * 3, EXPECTED, False), 0.01)
  assert found.agreement == 1


def test_no_number_is_no_agreement():
  broken = np.where(EXPECTED > 0.8, np.nan, EXPECTED)
  found = compare(EXPECTED, NAMES, Outputs(list('abc'), broken, ranked=False), 0.01)
  assert not found.is_within(Accepted(10.0, 0.0, 0.01))
  with pytest.raises(ValueError, match=r'probabilities are \(3, 2\), expected \(3, 3\)'):
    compare(EXPECTED, NAMES, Outputs(list('abc'), broken[:, :2], ranked=False), 0.01)
