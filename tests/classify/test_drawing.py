"""The heat maps that are drawn."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from slim_inception.classify import activation_maps, drawing
from slim_inception.classify.classifier import Evidence, Explanation
from tests.datasets.odd_images import encode


def evidence(values, window=(0.0, 0.0, 1.0, 1.0)):
  values = np.array(values, np.float32)
  caption = activation_maps.caption(values, 0.5, float(values.mean()) + 0.5)
  return Evidence('inception_v3', values, 'part in the logit', caption, window)


def explanation(*found):
  pixels = np.full((48, 64, 3), (200, 100, 50), np.uint8)
  return Explanation(encode('PNG', pixels=pixels), found)


def test_colors_lie_where_the_map_is_high():
  photo = Image.new('RGB', (80, 40), (100, 100, 100))
  heat = np.asarray(drawing.overlay(photo, evidence([[0, 0], [0, 9]])), int)
  assert heat.shape == (40, 80, 3)
  red, blue = heat[39, 79], heat[0, 0]
  assert red[0] > red[2] + 50
  assert blue[2] > blue[0] + 30
  flat = np.asarray(drawing.overlay(photo, evidence([[2, 2], [2, 2]])))
  assert (flat == flat[0, 0]).all()


def test_what_the_net_did_not_see_is_dark():
  photo = Image.new('RGB', (80, 40), (100, 100, 100))
  drawn = np.asarray(drawing.overlay(photo, evidence([[0, 9]], (0.25, 0.125, 0.75, 0.875))))
  outside = np.ones((40, 80), bool)
  outside[10:30, 10:70] = False
  assert (drawn[outside] == 35).all()
  assert (drawn[~outside] != 35).any(-1).all()


def test_sheet():
  one = drawing.draw('a/b.jpg', ['0.5000  251  Siberian husky'], explanation(evidence([[1, 2]])))
  two = drawing.draw('b', ['0.9'], explanation(evidence([[1]]), evidence([[1]])))
  assert two.height == one.height
  assert two.width > one.width
  found = np.asarray(one)
  assert (found[12:60, 12:76] == (200, 100, 50)).all()  # the image itself
  assert len(np.unique(found[:, one.width // 2 :].reshape(-1, 3), axis=0)) > 100  # the scale
  none = drawing.draw('-', ['x' * 500], explanation())
  assert none.width < one.width


def test_nothing_is_overwritten(tmp_path):
  source = tmp_path / 'a.explain.png'
  source.write_bytes(b'mine')
  drawn = [
    drawing.write(str(tmp_path), name, ['1'], explanation())
    for name in ('x/a.jpg', 'y/a.png', 'http://h/p%20q.jpg?size=3', '-', 'http://h/', 'http://h/..')
  ]
  names = [path.removeprefix(f'{tmp_path}/') for path in drawn]
  assert names == [
    'a.2.explain.png', 'a.3.explain.png', 'p q.explain.png', 'stdin.explain.png',
    'image.explain.png', '...explain.png',
  ]  # fmt: skip
  assert source.read_bytes() == b'mine'
  assert {path.name for path in tmp_path.iterdir()} == {'a.explain.png', *names}
  for path in drawn:
    with Image.open(path) as image:
      assert image.format == 'PNG'


def test_several_at_once_take_names_of_their_own(tmp_path):
  """Locks are of open files, so that threads exclude each other as processes do."""
  with ThreadPoolExecutor(8) as pool:
    drawn = pool.map(lambda _: drawing.write(str(tmp_path), 'a.jpg', [], explanation()), range(16))
    assert len(set(drawn)) == 16 == len(list(tmp_path.iterdir()))
