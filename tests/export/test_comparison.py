"""What an exported classifier may differ by."""

import numpy as np
import pytest

from slim_inception.evaluate.calibration import Abstention
from slim_inception.evaluate.conformal import Sets
from slim_inception.export.classifier import Outputs
from slim_inception.export.comparison import Accepted, Reference, compare, concatenated, summed_up

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [0.0, 0.1, 0.9]], np.float32)
EXPECTED = Reference(PROBABILITIES, ('a', 'b', 'c'))
ACCEPTED = Accepted(0.001, 1.0, 0.01)


def outputs(best='abc', probabilities=PROBABILITIES, ranked=False, **decisions):
  top = np.argsort(-probabilities, axis=-1)
  return Outputs(list(best), top, probabilities, ranked, decisions)


def compared(expected, of_export):
  return summed_up(compare(expected, of_export, ACCEPTED))


@pytest.mark.parametrize(
  ('best', 'agreement'), [('abc', 1.0), ('acc', 1.0), ('bbc', 2 / 3), ('bab', 0.0)]
)
def test_the_best_class_counts_unless_two_are_equally_good(best, agreement):
  comparison = compared(EXPECTED, outputs(best))
  assert (comparison.images, comparison.difference) == (3, 0)
  assert comparison.agreement == pytest.approx(agreement)


def test_ranked_probabilities_are_compared_in_their_order():
  ranked = np.array([[0.7, 0.2], [0.45, 0.45], [0.9, 0.15]])
  comparison = compared(EXPECTED, outputs(probabilities=ranked, ranked=True))
  assert comparison.difference == pytest.approx(0.05)


def test_classes_may_have_the_same_name():
  expected = EXPECTED._replace(names=('crane', 'b', 'crane'))
  assert compared(expected, outputs(['crane'] * 3)).agreement == 1


def test_no_number_is_no_agreement():
  broken = np.where(PROBABILITIES > 0.8, np.nan, PROBABILITIES)
  comparison = compared(EXPECTED, outputs(probabilities=broken))
  assert not comparison.is_within(Accepted(10.0, 0.0, 0.01))
  with pytest.raises(ValueError, match=r'probabilities are \(3, 2\), expected \(3, 3\)'):
    compared(EXPECTED, outputs(probabilities=broken[:, :2]))


def test_sets_and_abstention_are_those_of_the_checkpoint():
  sets, abstention = Sets('plain', 0.9, (0.6,)), Abstention(0.1, 0.4505, 0.5, 0.1, 0.1)
  expected = EXPECTED._replace(sets=sets, abstention=abstention)
  in_set, abstains = PROBABILITIES >= 0.4, np.array([False, True, False])
  comparison = compared(expected, outputs(in_set=in_set, abstains=abstains))
  assert comparison == (3, 0, 1, 1) and comparison.is_within(ACCEPTED)
  other = np.array([True, False, False])  # 0.45 is near 0.4505, 0.7 is not
  each = compare(expected, outputs(in_set=in_set, abstains=other), ACCEPTED)
  np.testing.assert_array_equal(each.same_decisions['abstains'], [False, False, True])
  np.testing.assert_array_equal(each.decide_alike, [False, True, True])
  assert not summed_up(each).is_within(ACCEPTED)
  assert compared(expected, outputs(in_set=in_set)).decisions == pytest.approx(1 / 3)  # no abstains
  both = concatenated([each, each])
  assert summed_up(both) == (6, 0, 1, pytest.approx(2 / 3))
