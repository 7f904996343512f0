"""Passes over the records side by side, and means over the views of an image."""

import numpy as np
import pytest

from slim_inception.evaluate import predictor
from slim_inception.evaluate.predictor import ViewAverager


@pytest.mark.parametrize('batch', [1, 3, 7, 100])
def test_means_whatever_the_batches(batch):
  rng = np.random.default_rng(0)
  indices = np.repeat([4, 5, 9, 10], [1, 6, 2, 5])
  rows = rng.random((len(indices), 6)).astype(np.float32)
  averager = ViewAverager()
  means = []
  for start in range(0, len(indices), batch):
    means += averager.add(indices[start : start + batch], rows[start : start + batch])
  means += averager.finish()
  assert [index for index, _ in means] == [4, 5, 9, 10]
  for index, mean in means:
    np.testing.assert_allclose(mean, rows[indices == index].mean(0), rtol=1e-6)


def test_infinite_rows_do_not_spill_over():
  """Logits of labels that a net has no output for."""
  averager = ViewAverager()
  rows = np.array([[-np.inf, 1.0], [-np.inf, 3.0]])
  ((_, mean),) = [*averager.add(np.array([0, 0]), rows), *averager.finish()]
  np.testing.assert_array_equal(mean, [-np.inf, 2.0])


@pytest.mark.parametrize(
  'passes', [([],), ([1, 2, 5],), ([1, 2, 5], [1, 2, 5]), ([1, 5, 7], [0, 1, 2, 5]), ([1], [])]
)
def test_an_image_counts_where_every_pass_has_it(passes):
  def score(indices):
    return (predictor.Scored(index, [np.zeros(2)], {}, [{}]) for index in indices)

  together = list(predictor._in_lockstep([score(indices) for indices in passes]))
  in_all = sorted(set.intersection(*map(set, passes)))
  assert [[part.record_index for part in parts] for parts in together] == [
    [index] * len(passes) for index in in_all
  ]
