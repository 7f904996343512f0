"""Drawings: all of the net is there, nothing lies over anything else."""

import itertools
import pathlib
from xml.etree import ElementTree

import pytest
from slim_inception.nets import catalogue, nets_factory, summary

from slim_inception.draw import blocks, layout, svg
from slim_inception.draw.shapes import Line, Rectangle, Text, text_width
from tests import golden, tiny

DOCS = pathlib.Path(__file__).parent.parent.parent / 'docs'
VIEWS = list(itertools.product(nets_factory.NETS, [True, False]))


def draw(name, compressed=True, **kwargs):
  net = summary.summarize(name, **kwargs)
  return layout.draw_net(net, catalogue.title(name), compressed=compressed)


def boxes(drawing):
  """The boxes of layers: those that say what they are."""
  return [shape for shape in drawing.shapes if isinstance(shape, Rectangle) and shape.tip]


@pytest.mark.parametrize(('name', 'compressed'), VIEWS)
def test_every_layer_is_drawn_once(name, compressed):
  net = summary.summarize(name)
  drawn = [box.tip.partition(': ')[0] for box in boxes(draw(name, compressed))]
  layers = [layer for block in net.blocks for layer in block.layers]
  if not compressed:
    assert sorted(drawn) == sorted(layer.scope for layer in layers)
  else:
    assert len(drawn) == len(set(drawn)) + sum(
      block.tail[0].kind == summary.CONCAT and block.tail[-1].scope in drawn
      for block in net.blocks
      if len(block.tail) > 1
    )  # a sum has the scope of the concatenation, if there is one


@pytest.mark.parametrize(
  ('name', 'numbers'),
  [
    ('inception_v3', [2, 2, 2]),
    ('inception_v4', [4, 7, 3]),
    ('inception_resnet_v1', [5, 10, 5]),
    ('inception_resnet_v2', [10, 20, 9]),
  ],
)
def test_equal_blocks_are_counted(name, numbers):
  bold = [s.text for s in draw(name).shapes if isinstance(s, Text) and s.bold]
  assert [int(text[2:]) for text in bold if text.startswith('x ')] == numbers


def rectangle_of(shape):
  """(left, top, right, bottom) of a box or a text."""
  if isinstance(shape, Rectangle):
    return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
  width = text_width(shape.text, shape.size, shape.bold) * 0.9  # it is rather too large
  left = shape.x - width / 2 if shape.centred else shape.x
  return left, shape.y - shape.size * 0.75, left + width, shape.y + shape.size * 0.2


def overlap(one, other):
  return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize(('name', 'compressed'), VIEWS)
def test_nothing_lies_over_anything_else(name, compressed):
  drawing = draw(name, compressed)
  rectangles = [rectangle_of(s) for s in drawing.shapes if isinstance(s, Rectangle)]
  texts = [rectangle_of(s) for s in drawing.shapes if isinstance(s, Text)]
  for left, top, right, bottom in rectangles + texts:
    assert left > 0 and top > 0 and right < drawing.width and bottom < drawing.height
  for group in (rectangles, texts):
    assert not [pair for pair in itertools.combinations(group, 2) if overlap(*pair)]
  for text in texts:  # in a box or outside, not across its rim
    for box in (box for box in rectangles if overlap(text, box)):
      assert box[0] <= text[0] and text[2] <= box[2] and box[1] <= text[1] and text[3] <= box[3]
  for line in (s for s in drawing.shapes if isinstance(s, Line) and s.color == blocks.WIRE):
    for (x1, y1), (x2, y2) in itertools.pairwise(line.points):
      wire = min(x1, x2), min(y1, y2), max(x1, x2) + 0.01, max(y1, y2) + 0.01
      assert not [text for text in texts if overlap(wire, text)], line


def test_svg_has_the_boxes_and_texts(tmp_path):
  drawing = draw(tiny.NAME)
  svg.write(drawing, str(tmp_path / 'new' / 'tiny.svg'))
  root = ElementTree.parse(tmp_path / 'new' / 'tiny.svg').getroot()
  tag = '{http://www.w3.org/2000/svg}'
  shown = [e.find(f'{tag}title') for e in root.iter(f'{tag}rect')]
  assert [t.text for t in shown if t is not None] == [box.tip for box in boxes(drawing)]
  texts = [e.text for e in root.iter(f'{tag}text')]
  assert texts == [s.text for s in drawing.shapes if isinstance(s, Text)]


@pytest.mark.parametrize('name', ['net.png', 'net', '.svg', ''])
def test_other_formats_are_refused(name, tmp_path):
  with pytest.raises(ValueError, match='expected a name that ends in .svg, .*makes a PNG'):
    svg.write(draw(tiny.NAME), str(tmp_path / name))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', golden.NAMES)
def test_the_page_has_the_drawings_as_they_are(name):
  command = f'slim-inception show {name} --output=docs/img/{name}.svg'
  assert (DOCS / 'img' / f'{name}.svg').read_text('utf-8') == svg.render(draw(name)), command
  assert f'(img/{name}.svg)' in (DOCS / 'nets.md').read_text('utf-8')
