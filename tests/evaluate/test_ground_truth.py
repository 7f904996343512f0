"""Lists of images that do not count, and of several right answers."""

import json
import re

import numpy as np
import pytest
from slim_inception.datasets import imagenet

from slim_inception.evaluate import ground_truth

VALIDATION = [f'ILSVRC2012_val_{number:08d}.JPEG' for number in range(1, 50_001)]


def test_the_list_of_2014_leaves_48238_validation_images():
  excluded = ground_truth.read_exclude_list('imagenet_2014')
  mask = np.array([excluded.is_excluded(name) for name in VALIDATION])
  assert np.count_nonzero(~mask) == 48_238
  assert (np.flatnonzero(mask)[[0, 1, -1]] + 1).tolist() == [36, 50, 49_981]
  assert excluded.check_used(VALIDATION) == ''
  # Known of the list: n04005630 loses 36 of its 50 images.
  of_class = np.array(imagenet.validation_synsets()) == 'n04005630'
  assert np.count_nonzero(mask & of_class) == 36


@pytest.mark.parametrize(
  ('entry', 'filename', 'same'),
  [
    ('ILSVRC2012_val_00000036', 'ILSVRC2012_val_00000036.JPEG', True),
    ('ILSVRC2012_val_00000036_n01440764.JPEG', 'ILSVRC2012_val_00000036.JPEG', True),
    ('val/n01440764/ILSVRC2012_val_00000036.JPEG', 'ILSVRC2012_val_00000036.JPEG', True),
    ('n01440764_10026.JPEG', 'n01440764_10026_n01440764.JPEG', True),
    ('n01440764_10026', 'n01440764_1002', False),
    ('1.jpg', 'cats/1.jpg', True),
    ('cats/1', 'cats/1.PNG', True),
    ('cats\\1.jpg', './cats/1.jpg', True),
    ('/photos/cats/1.jpg', 'cats/1.jpg', True),
    ('dogs/1.jpg', 'cats/1.jpg', False),
    ('visit_n01440764.jpg', 'visit.jpg', False),
    ('photo.1', 'photo.2', False),
    ('1.jpg', '', False),
  ],
)
def test_names_are_compared_as_people_write_them(tmp_path, entry, filename, same):
  path = tmp_path / 'list.txt'
  path.write_text(f'\ufeff{entry}\r\n\r\n', 'utf-8')
  excluded = ground_truth.read_exclude_list(str(path))
  assert [excluded.is_excluded(name) for name in (filename, 'other.jpg')] == [same, False]


def test_entries_without_a_image_are_said(tmp_path):
  path = tmp_path / 'list.txt'
  path.write_text('a.jpg\ngone/1\ngone/2\na.jpg\n')
  excluded = ground_truth.read_exclude_list(str(path))
  note = excluded.check_used(['a.jpg', 'b.jpg'])
  assert note.endswith('2 of 3 entries name no image: gone/1, gone/2')
  with pytest.raises(ValueError, match=r'names none of the 1 images: it has .* have b\.jpg$'):
    excluded.check_used(['b.jpg'])
  with pytest.raises(ValueError, match=r'the records have no names \(image/filename\)$'):
    excluded.check_used(['', ''])


@pytest.mark.parametrize(
  ('content', 'error', 'message'),
  [
    (None, FileNotFoundError, 'no such file; expected imagenet_2014 or a text file'),
    (b' \n\n', ValueError, 'is empty; expected imagenet_2014'),
    (b'\xff\xd8\xff\xe0', ValueError, 'is no UTF-8 text; expected'),
  ],
)
def test_no_list_is_an_error(tmp_path, content, error, message):
  path = tmp_path / 'list.txt'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(error, match=re.escape(f'--exclude_list={path}') + '.*' + message):
    ground_truth.read_exclude_list(str(path))


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
