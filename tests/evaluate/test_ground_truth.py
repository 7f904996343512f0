"""Lists of images that do not count, and of several right answers."""

import json

import numpy as np
import pytest
from slim_inception.datasets import imagenet

from slim_inception.evaluate import ground_truth

VALIDATION = [f'ILSVRC2012_val_{number:08d}.JPEG' for number in range(1, 50_001)]


def write(path, content):
  path.write_text(json.dumps(content))
  return str(path)


def test_real_labels_by_number_are_shifted_past_the_background(tmp_path):
  content = [[] for _ in range(50_000)]
  content[0], content[2] = [65], [999, 0, 999]
  path = write(tmp_path / 'real.json', content)
  found = ground_truth.read_real_labels(path, imagenet.NUM_CLASSES, 1).ground_truth(VALIDATION[:3])
  assert found.labels.tolist() == [[66, -1], [-1, -1], [1000, 1]]
  assert found.labels.dtype == np.int32
  assert found.counted.tolist() == [True, False, True]
  assert found.note == ''
  # Without a background, and for images in another order.
  found = ground_truth.read_real_labels(path, 1000).ground_truth(VALIDATION[2::-2])
  assert found.labels.tolist() == [[999, 0], [65, -1]]


def test_real_labels_by_name(tmp_path):
  path = write(tmp_path / 'real.json', {'cats/1.jpg': [0, 1], 'dogs/1.jpg': [1], '2': []})
  labels = ground_truth.read_real_labels(path, 2)
  found = labels.ground_truth(['dogs/1.jpg', 'cats/1.jpg', 'cats/2.jpg', 'cats/3.jpg'])
  assert found.labels.tolist() == [[1, -1], [0, 1], [-1, -1], [-1, -1]]
  assert found.counted.tolist() == [True, True, False, False]
  assert 'does not have 1 of 4 images, which do not count: cats/3.jpg' in found.note
  with pytest.raises(ValueError, match=r'cats/1\.jpg and dogs/1\.jpg both name 1\.jpg'):
    labels.ground_truth(['1.jpg'])
  with pytest.raises(ValueError, match=r'names none of the 1 images'):
    labels.ground_truth(['4.jpg'])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('[[1], [2]]', 'is a list of 2; expected a JSON list of 50,000 lists'),
    ('{"a": [1', r'is no JSON \(.*\); expected a JSON list'),
    ('[' * 100_000, 'is no JSON'),
    ('3', 'has no labels in it'),
    ('{}', 'has no labels in it'),
    ('{"a.jpg": 3}', "'a.jpg' has 3; expected a list of whole numbers"),
    ('{"a.jpg": [true]}', r"'a.jpg' has \[True\]; expected a list"),
    ('{"a.jpg": [1, 1000]}', r"'a.jpg' has label 1000; expected 0 \.\. 999"),
    ('{"a.jpg": [-1]}', r"'a.jpg' has label -1; expected 0 \.\. 999"),
  ],
)
def test_other_contents_are_errors_of_one_line(tmp_path, text, message):
  path = tmp_path / 'real.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=message) as caught:
    ground_truth.read_real_labels(str(path), 1001, 1)
  assert '\n' not in str(caught.value) and f'--real_labels={path}' in str(caught.value)


def test_real_labels_that_are_missing(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file; expected a JSON list'):
    ground_truth.read_real_labels(str(tmp_path / 'real.json'), 10)
