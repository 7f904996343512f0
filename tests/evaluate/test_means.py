"""Means over the views of an image."""

import numpy as np
import pytest

from slim_inception.evaluate.means import Means


@pytest.mark.parametrize('batch', [1, 3, 7, 100])
def test_means_whatever_the_batches(batch):
  rng = np.random.default_rng(0)
  places = np.repeat([4, 5, 9, 10], [1, 6, 2, 5])
  rows = rng.random((2, len(places), 3)).astype(np.float32)
  means = Means()
  found = []
  for start in range(0, len(places), batch):
    found += means.add(places[start : start + batch], rows[:, start : start + batch])
  found += means.finish()
  assert [place for place, _ in found] == [4, 5, 9, 10]
  for place, mean in found:
    np.testing.assert_allclose(mean, rows[:, places == place].mean(1), rtol=1e-6)


def test_nothing():
  assert list(Means().finish()) == []


def test_infinite_rows_do_not_spill_over():
  """Logits of labels that a net has no output for."""
  means = Means()
  rows = np.array([[[-np.inf, 1.0], [-np.inf, 3.0]]])
  found = [*means.add(np.array([0, 0]), rows), *means.finish()]
  np.testing.assert_array_equal(found[0][1], [[-np.inf, 2.0]])
