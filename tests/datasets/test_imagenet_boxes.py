"""Boxes of ImageNet: annotations as files, in a tar, and slim's list of them."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from slim_inception.datasets import imagenet_boxes, records

from tests.datasets import imagenet_layouts as layouts
from tests.datasets.imagenet_layouts import DOG, SYNSETS, TENCH, TISSUE, VALIDATION


def xml(boxes, size=(500, 375)):
  objects = ''.join(
    f'<object><name>{name}</name><bndbox>'
    f'<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>'
    '</bndbox></object>'
    for name, xmin, ymin, xmax, ymax in boxes
  )
  width, height = size
  return (
    f'<annotation><filename>%s</filename><size><width>{width}</width>'
    f'<height>{height}</height><depth>3</depth></size>{objects}</annotation>'
  ).encode()


BOXES = {
  f'{DOG}/{DOG}_2.xml': xml([(DOG, 50, 75, 250, 300), ('Scottish_deerhound', 0, 0, 500, 37.5)]),
  f'{DOG}/{DOG}_3.xml': xml([(TENCH, 50, 75, 250, 300), (DOG, 10, 10, 10, 20)]),
  f'{TENCH}/{TENCH}_1.xml': xml([(TENCH, 250, -10, 50, 900)]),
  f'{TENCH}/{TENCH}_18.xml': b'<annotation><size>',
  f'{TISSUE}/{TISSUE}_99.xml': xml([(TISSUE, 1, 2, 3, 4)]),  # no such image
}
EXPECTED_BOXES = {  # ymin, xmin, ymax, xmax
  f'{DOG}_2.JPEG': [(0.2, 0.1, 0.8, 0.5), (0, 0, 0.1, 1)],
  f'{DOG}_3.JPEG': [],
  f'{TENCH}_1.JPEG': [(0, 0.1, 1, 0.5)],
  f'{TENCH}_18.JPEG': [],
}


def xml_tree(root):
  for name, content in BOXES.items():
    layouts.write(root / 'Annotation' / name, content)
  return root / 'Annotation'


def xml_tar(root):
  layouts.tar(root / 'ILSVRC2012_bbox_train_v2.tar.gz', BOXES.items(), 'gz')
  return root / 'ILSVRC2012_bbox_train_v2.tar.gz'


def slims_csv(root):
  lines = [
    f'{name},{xmin:.4f},{ymin:.4f},{xmax:.4f},{ymax:.4f}\n'
    for name, boxes in EXPECTED_BOXES.items()
    for ymin, xmin, ymax, xmax in boxes
  ]
  layouts.write(root / 'imagenet_2012_bounding_boxes.csv', ''.join(lines))
  return root / 'imagenet_2012_bounding_boxes.csv'


@pytest.mark.parametrize('boxes', [xml_tree, xml_tar, slims_csv])
def test_boxes(tmp_path, boxes):
  source = f'{layouts.slim_folders(tmp_path / "images")},{boxes(tmp_path / "boxes")}'
  layouts.convert(source, tmp_path / 'out')
  found = layouts.read(tmp_path / 'out', 'train')
  for name, expected_boxes in EXPECTED_BOXES.items():
    sides = [found[name].get(f'image/object/bbox/{side}', []) for side in records.BOX_SIDES]
    np.testing.assert_allclose(np.transpose(sides), np.reshape(expected_boxes, [-1, 4]), atol=1e-6)
    assert len(found[name].get('image/object/bbox/label', [])) == len(expected_boxes)
  notes = layouts.notes_of(source, tmp_path)
  if boxes is not slims_csv:
    assert f'1 annotations that cannot be read: {TENCH}_18.xml' in notes
    assert 'boxes of 3 images, of which 2 are in the source' in notes


def test_boxes_of_validation_images(tmp_path):
  """Their class is not in their name: a box of another class of the thousand is left out."""
  root = layouts.kaggle_tree(tmp_path / 'root')
  stem = VALIDATION[2]  # a Shetland sheepdog
  annotation = xml([(TENCH, 1, 2, 3, 4), (DOG, 50, 75, 250, 300)])
  layouts.write(root / 'ILSVRC/Annotations/CLS-LOC/val' / f'{stem}.xml', annotation)
  layouts.convert(root, tmp_path / 'out')
  found = layouts.read(tmp_path / 'out', 'validation')[f'{stem}.JPEG']
  np.testing.assert_allclose(found['image/object/bbox/ymin'], [0.2])


def test_csv_with_a_broken_line(tmp_path):
  csv = slims_csv(tmp_path / 'boxes')
  csv.write_text(csv.read_text() + 'n01440764_5.JPEG,0.1,0.2\n')
  source = f'{layouts.slim_folders(tmp_path / "images")},{csv}'
  with pytest.raises(
    ValueError, match=r'bounding_boxes.csv: line 4 is no name,xmin,ymin,xmax,ymax'
  ):
    layouts.convert(source, tmp_path / 'out')


@pytest.mark.parametrize('lines', ['name,xmin,ymin,xmax,ymax\n', 'a.JPEG,0.5,0.5,0.5,0.9\n', ''])
def test_csv_without_a_box_is_said(tmp_path, lines):
  layouts.write(tmp_path / 'boxes.csv', lines)
  source = f'{layouts.slim_folders(tmp_path / "images")},{tmp_path / "boxes.csv"}'
  note = '1 lists without a box: lines name,xmin,ymin,xmax,ymax are expected: boxes.csv'
  assert note in layouts.notes_of(source, tmp_path)


SIDE = strategies.floats(-50, 250).map(lambda side: round(side, 3))


@hypothesis.settings(max_examples=100, derandomize=True, database=None, deadline=None)
@hypothesis.given(*[SIDE] * 4, strategies.sampled_from([(0, 0), (100, 80), (200, 1)]))
def test_any_box_lies_in_its_image_or_is_dropped(xmin, ymin, xmax, ymax, size):
  """Swapped sides are turned, what lies outside is cut off; as a line of the CSV too."""
  width, height = size
  packed = imagenet_boxes.read_annotation(
    xml([(DOG, xmin, ymin, xmax, ymax)], size=size), DOG, SYNSETS
  )
  if not (width and height):
    assert packed == b''
    return
  relative = np.array([ymin / height, xmin / width, ymax / height, xmax / width])
  sides = np.sort(np.clip(relative.reshape(2, 2), 0, 1), axis=0)
  expected = [sides.ravel()] if (sides[0] < sides[1]).all() else []
  np.testing.assert_allclose(
    np.reshape(imagenet_boxes.unpack(packed), [-1, 4]), np.reshape(expected, [-1, 4]), 1e-6
  )
  line = ','.join(map(repr, relative[[1, 0, 3, 2]].tolist()))
  assert list(imagenet_boxes.read_csv(f'a.JPEG,{line}\n'.encode())) == [('a.JPEG', packed)]


def test_boxes_given_twice_are_taken_once(tmp_path):
  images = layouts.slim_folders(tmp_path / 'images')
  source = f'{images},{xml_tree(tmp_path / "a")},{xml_tar(tmp_path / "b")},{slims_csv(tmp_path)}'
  layouts.convert(source, tmp_path / 'out')
  assert (
    len(layouts.read(tmp_path / 'out', 'train')[f'{DOG}_2.JPEG']['image/object/bbox/ymin']) == 2
  )
  assert any(
    'images whose boxes are given twice' in note for note in layouts.notes_of(source, tmp_path)
  )
