"""What is kept of each image, and how workers hand theirs over."""

import types

import numpy as np
import pytest

from slim_inception.evaluate import collector
from slim_inception.evaluate.collector import Collected, Collector, Image


def collected(record_indices, classes=7):
  rng = np.random.default_rng(0)
  probabilities = {place: rng.random(classes) for place in range(20)}
  kept = Collector()
  for place in record_indices:
    labels = (place % classes,) if place % 3 else (place % classes, 1)
    kept.add(Image(place, f'images/ä {place}.jpg', labels), probabilities[place])
  return kept.predictions(), probabilities


def test_the_first_five_by_place():
  found, probabilities = collected([5, 2, 9])
  assert found.record_indices.tolist() == [2, 5, 9]
  assert found.filenames == [f'images/ä {place}.jpg' for place in (2, 5, 9)]
  assert found.labels.tolist() == [[2, -1], [5, -1], [2, 1]]
  for row, place in enumerate(found.record_indices.tolist()):
    order = sorted(range(7), key=lambda label, p=probabilities[place]: -p[label])
    assert found.top[row].tolist() == order[:5]
    np.testing.assert_allclose(found.probabilities[row], np.sort(probabilities[place])[:1:-1])


def test_of_equals_the_first_leads():
  kept = Collector()
  kept.add(Image(0, '', (1,)), np.array([0.2, 0.3, 0.3]))
  assert kept.predictions().top.tolist() == [[1, 2, 0]]


class Alone:
  """A worker of a cluster whose others have already come or are not waited for."""

  def __init__(self, index, count):
    self.index, self.count = index, count
    self.is_chief = index == 0
    self.wait_for_all = lambda: None


def test_workers_hand_over(tmp_path):
  everything, _ = collected(range(10))
  shares = [range(0, 4), range(4, 4), range(4, 10)]
  for index in (1, 2, 0):
    found = Collected([collected(shares[index])[0]] * 2, [f'left out {index}'])
    together = collector.gather(Alone(index, 3), str(tmp_path), found)
  assert [name[-1] for name in together.excluded] == ['0', '1', '2']
  for predictions in together.predictions:
    for name, value in vars(everything).items():
      np.testing.assert_array_equal(getattr(predictions, name), value, err_msg=name)
  assert list(tmp_path.iterdir()) == []


def test_workers_without_a_common_folder(tmp_path):
  found = Collected([collected(range(3))[0]], [])
  with pytest.raises(FileNotFoundError, match='--eval_dir must be on a file system that all'):
    collector.gather(Alone(0, 2), str(tmp_path), found)


def test_only():
  found, _ = collected(range(4))
  chosen = collector.only(found, np.array([True, False, False, True]))
  assert chosen.record_indices.tolist() == [0, 3]
  assert chosen.filenames == ['images/ä 0.jpg', 'images/ä 3.jpg']
  assert types.SimpleNamespace(**vars(chosen)).labels.tolist() == [[0, 1], [3, 1]]
